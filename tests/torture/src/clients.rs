//! Clients that ask all nodes at once, and note what they were told.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, TcpStream},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use quorate_record::{Key, NodeId, Version};
use quorate_simulator::{
    Random,
    check::{Call, Outcome, Request},
};
use quorate_tests::{Reply, now, talk};

use crate::{value, weather::Sky};

/// How long a node has to answer, by its own clock.
pub(crate) const TIMEOUT_MS: u64 = 3_000;

/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(6);
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// How many keys are in use at a time, and how many of them others replace in a second: so each key
/// comes to rest, and keeps what its last writes left.
const KEYS_AT_ONCE: u64 = 24;
const NEW_KEYS_A_SECOND: u64 = 3;

/// What is shared by all clients of a run.
#[derive(Debug)]
pub(crate) struct Crowd {
    pub(crate) nodes: Vec<(NodeId, SocketAddr)>,
    pub(crate) start: Instant,
    pub(crate) stop: AtomicBool,
    /// What works at present, for those who prefer nodes that answer.
    pub(crate) sky: Mutex<Sky>,
    numbers: AtomicU64,
}

/// One request, and what its client was told.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The node that was asked.
    pub(crate) node: usize,
    pub(crate) request: Request,
    pub(crate) invoke_us: u64,
    /// `None` if no answer came.
    pub(crate) answer: Option<(u64, Outcome)>,
    /// Why it failed.
    pub(crate) reason: String,
}

/// How requests of a key are made; the remainder of its number by three says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Strict quorums.
    Strict,
    /// Strict and sloppy ones, as it comes.
    Mixed,
    /// `consistency=atomic`.
    Atomic,
}

impl Family {
    fn of(number: u64) -> Self {
        match number % 3 {
            0 => Self::Strict,
            1 => Self::Mixed,
            _ => Self::Atomic,
        }
    }

    /// The key with this number.
    fn key(self, number: u64) -> Key {
        let name = match self {
            Self::Strict => "strict",
            Self::Mixed => "mixed",
            Self::Atomic => "atomic",
        };
        Key::new(format!("{name}-{number}")).expect("a short key")
    }

    /// Whether a key is one that only atomic requests are made of.
    pub(crate) fn is_atomic(key: &Key) -> bool {
        key.as_bytes().starts_with(b"atomic-")
    }
}

impl Crowd {
    pub(crate) fn new(nodes: Vec<(NodeId, SocketAddr)>) -> Self {
        let sky = Mutex::new(Sky::clear(nodes.len()));
        let numbers = AtomicU64::new(1);
        Self { nodes, start: now(), stop: AtomicBool::new(false), sky, numbers }
    }

    /// Microseconds since the run began.
    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from((now() - self.start).as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn set_sky(&self, sky: &Sky) {
        self.sky.lock().unwrap_or_else(PoisonError::into_inner).clone_from(sky);
    }

    /// One client: asks again and again until it is told to stop.
    pub(crate) fn ask_on(&self, mut random: Random) -> Vec<Asked> {
        let mut asked = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let (node, request) = self.draw(&mut random);
            let one = self.ask(node, request);
            let failed = one.answer.as_ref().is_none_or(|(_, outcome)| !is_success(outcome));
            asked.push(one);
            let rest = Duration::from_millis(if failed { 50 } else { 15 });
            thread::sleep(random.span(rest));
        }
        asked
    }

    /// The keys that may have been asked for so far.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> + use<> {
        (0..self.oldest() + KEYS_AT_ONCE).map(|number| Family::of(number).key(number))
    }

    /// The number of the oldest key that is in use.
    fn oldest(&self) -> u64 {
        self.now_us() / 1_000 * NEW_KEYS_A_SECOND / 1_000
    }

    fn draw(&self, random: &mut Random) -> (usize, Request) {
        let oldest = self.oldest();
        let mut number = oldest + random.below(KEYS_AT_ONCE);
        let call = match random.below(10) {
            0 => {
                // What came to rest long ago, too.
                number = random.below(oldest + KEYS_AT_ONCE);
                Call::Get
            }
            1..4 => Call::Get,
            4..8 => Call::Put { id: self.number() },
            _ => Call::Delete { id: self.number() },
        };
        let family = Family::of(number);
        let sloppy = family == Family::Mixed && random.chance(0.5);
        let node = self.draw_node(random);
        let (key, coordinator) = (family.key(number), self.nodes[node].0);
        (node, Request { key, coordinator, call, needed: 2, sloppy })
    }

    /// Mostly a node that is up: whoever asks one that stands still waits for long.
    fn draw_node(&self, random: &mut Random) -> usize {
        let any = random.index(self.nodes.len());
        if random.chance(0.03) {
            return any;
        }
        let sky = self.sky.lock().unwrap_or_else(PoisonError::into_inner);
        let up: Vec<usize> = (0..self.nodes.len()).filter(|&node| sky.up[node]).collect();
        if up.is_empty() { any } else { *random.pick(&up) }
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes one request.
    pub(crate) fn ask(&self, node: usize, request: Request) -> Asked {
        let addr = self.nodes[node].1;
        let message = message(addr, &request);
        let invoke_us = self.now_us();
        let told = TcpStream::connect_timeout(&addr, CONNECT_PATIENCE)
            .and_then(|stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(stream)
            })
            .map_err(Told::Unsent)
            .and_then(|stream| talk(stream, &message).map_err(Told::Nothing));
        let at_us = self.now_us();
        let (outcome, reason) = match told {
            Ok(reply) => outcome(&request, &reply),
            Err(Told::Unsent(error)) => (Some(not_done(&request)), shortened(&error)),
            Err(Told::Nothing(error)) => (None, shortened(&error)),
        };
        let answer = outcome.map(|outcome| (at_us, outcome));
        Asked { node, request, invoke_us, answer, reason }
    }
}

/// What a client without an answer knows.
enum Told {
    /// Its request never left.
    Unsent(io::Error),
    Nothing(io::Error),
}

pub(crate) fn is_success(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Acked { .. } | Outcome::Found { .. } | Outcome::Absent { .. })
}

fn message(addr: SocketAddr, request: &Request) -> Vec<u8> {
    let Request { key, call, needed, sloppy, .. } = request;
    let (method, body) = match call {
        Call::Put { id } => ("PUT", value::of(*id)),
        Call::Delete { .. } => ("DELETE", Vec::new()),
        Call::Get => ("GET", Vec::new()),
    };
    let quorum = match (Family::is_atomic(key), call) {
        // A weaker read, as some are made when all is over, is no part of the register.
        (true, Call::Put { .. } | Call::Delete { .. }) => "consistency=atomic".to_owned(),
        (true, Call::Get) if *needed > 1 => "consistency=atomic".to_owned(),
        (_, Call::Get) => format!("r={needed}&sloppy={sloppy}"),
        (_, _) => format!("w={needed}&sloppy={sloppy}"),
    };
    let key = String::from_utf8_lossy(key.as_bytes());
    let len = body.len();
    let head = format!(
        "{method} /kv/{key}?{quorum}&timeout_ms={TIMEOUT_MS} HTTP/1.1\r\nHost: {addr}\r\n\
         Connection: close\r\nContent-Length: {len}\r\n\r\n"
    );
    [head.into_bytes(), body].concat()
}

/// What a request came to that was not begun.
fn not_done(request: &Request) -> Outcome {
    match request.call {
        Call::Get => Outcome::Failed,
        Call::Put { .. } | Call::Delete { .. } => Outcome::Rejected,
    }
}

/// What an answer says, and why if it is a failure.
fn outcome(request: &Request, reply: &Reply) -> (Option<Outcome>, String) {
    let version = || reply.header("quorate-version").parse::<Version>().ok();
    let receipt = receipt(reply.header("quorate-receipt"));
    let outcome = match (request.call, reply.status, receipt) {
        (Call::Get, 200, Some((strict, from))) => version().map(|version| {
            let id = value::id(&reply.body);
            Outcome::Found { id, version, strict, from }
        }),
        (Call::Get, 404, Some((strict, from))) => {
            Some(Outcome::Absent { version: version(), strict, from })
        }
        (Call::Put { .. } | Call::Delete { .. }, 204, Some((strict, acks))) => {
            version().map(|version| Outcome::Acked { version, strict, acks })
        }
        _ => None,
    };
    if let Some(outcome) = outcome {
        return (Some(outcome), String::new());
    }
    let problem: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let detail = problem["detail"].as_str().or(problem["title"].as_str()).unwrap_or("no reason");
    let failed = match (request.call, problem["outcome"].as_str()) {
        (Call::Get, _) => Outcome::Failed,
        (_, Some("rejected")) => Outcome::Rejected,
        _ => Outcome::Indeterminate { version: None },
    };
    (Some(failed), format!("{} {detail}", reply.status))
}

/// `w=2/3 acks=n1,n3 hinted=n2@n1 quorum=strict`: whether it is strict, and who was counted.
fn receipt(text: &str) -> Option<(bool, Vec<NodeId>)> {
    let field = |name: &str| text.split(' ').find_map(|field| field.strip_prefix(name));
    let strict = field("quorum=")? == "strict";
    let counted = field("acks=").or(field("from=")).unwrap_or_default();
    let counted = counted.split(',').filter(|id| !id.is_empty());
    Some((strict, counted.map(NodeId::new).collect::<Result<_, _>>().ok()?))
}

fn shortened(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "no answer in time".to_owned(),
        kind => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_say_who_was_counted() {
        let ids = |ids: &[&str]| ids.iter().map(|id| NodeId::new(id).unwrap()).collect::<Vec<_>>();
        for (text, read) in [
            ("w=2/3 acks=n1,n3 hinted=n2@n1 quorum=strict", Some((true, ids(&["n1", "n3"])))),
            ("r=2/3 from=n4,n2 repaired=n2 quorum=sloppy", Some((false, ids(&["n4", "n2"])))),
            ("r=0/3 quorum=strict", Some((true, Vec::new()))),
            ("", None),
        ] {
            assert_eq!(receipt(text), read, "{text}");
        }
    }
}
