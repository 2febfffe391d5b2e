//! Clients, what they ask, and what they are told.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use quorate_node::{ClientReply, ClientRequest, Operation};
use quorate_quorum::{Outcome as Fate, Quorum};
use quorate_record::{Key, Record};

use crate::{
    Answer, Answered, Fault, Random, Scenario, World,
    check::{Call, History, OpId, Outcome, Request},
    name,
    network::micros,
    value::Values,
};

/// The clients of a run; each makes one request after the other.
pub(crate) struct Workload {
    random: Random,
    scenario: Scenario,
    left: u64,
    /// When each client goes on, and what it tries again; none while it waits for an answer.
    due: BTreeMap<(u64, usize), Option<Attempt>>,
    /// Until when all clients rest, once that has begun.
    rest_until_us: Option<u64>,
    waiting: BTreeMap<u64, Waiting>,
    values: Values,
    pub(crate) history: History,
    pub(crate) told: Told,
}

/// How requests ended, for a summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Writes and reads that succeeded.
    pub succeeded: u64,
    /// Those that did not.
    pub failed: u64,
}

struct Waiting {
    client: usize,
    op: OpId,
    /// Whether the client has gone away.
    gone: bool,
    /// What it asked, if it is a write of a value.
    attempt: Option<Attempt>,
}

/// A write of a value that may be tried again, each time by another node: what is found later is then known to be of
/// this try or of that by who gave it its version.
struct Attempt {
    number: u64,
    tried: BTreeSet<usize>,
    body: ClientRequest,
}

impl Workload {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            random: Random::stream(scenario.seed, "workload"),
            left: scenario.operations,
            // After the nodes have found each other.
            due: (0..scenario.clients).map(|client| ((300_000, client), None)).collect(),
            rest_until_us: None,
            waiting: BTreeMap::new(),
            values: Values::default(),
            history: History::new(scenario.owners),
            told: Told::default(),
            scenario: scenario.clone(),
        }
    }

    /// When a client asks next; `None` while all wait.
    pub(crate) fn next_us(&self) -> Option<u64> {
        self.due.first_key_value().filter(|_| self.left > 0).map(|(&(at_us, _), _)| at_us)
    }

    /// Whether everything was asked and answered.
    pub(crate) fn is_over(&self) -> bool {
        self.left == 0 && self.waiting.is_empty()
    }

    /// Lets the clients ask that are due.
    pub(crate) fn ask(&mut self, world: &mut World) {
        while let Some(entry) =
            self.due.first_entry().filter(|due| self.left > 0 && due.key().0 <= world.now_us())
        {
            let ((_, client), attempt) = entry.remove_entry();
            self.left -= 1;
            let again = attempt.and_then(|attempt| self.again(attempt, world));
            let (node, call, body, attempt) = again.unwrap_or_else(|| self.request(world));
            let quorum = body.quorum;
            let needed = if call == Call::Get { quorum.r() } else { quorum.w() };
            let (key, coordinator) = (body.key.clone(), name(node));
            let request = Request { key, coordinator, call, needed, sloppy: quorum.sloppy() };
            let op = self.history.invoke(request, world.now_us());
            let asked = world.ask(node, body);
            let gone = self.random.chance(self.scenario.of(Fault::Cancel));
            self.waiting.insert(asked, Waiting { client, op, gone, attempt });
            if gone {
                world.coverage().count(Fault::Cancel.name());
                self.history.abandon(op);
                self.go_on(client, world.now_us(), None);
            }
        }
    }

    /// Tells a client what came of its request.
    pub(crate) fn tell(&mut self, answered: Answered) {
        let Some(Waiting { client, op, gone, attempt }) = self.waiting.remove(&answered.request)
        else {
            return;
        };
        if gone {
            return;
        }
        let at_us = micros(answered.at);
        let outcome = self.outcome(op, &answered.answer);
        let success = matches!(
            outcome,
            Some(Outcome::Acked { .. } | Outcome::Found { .. } | Outcome::Absent { .. })
        );
        if success {
            self.told.succeeded += 1
        } else {
            self.told.failed += 1
        }
        let unknown = matches!(outcome, None | Some(Outcome::Indeterminate { .. }));
        match outcome {
            Some(outcome) => self.history.answer(op, at_us, outcome),
            None => self.history.abandon(op),
        }
        let retries = unknown && self.random.chance(self.scenario.of(Fault::Retry));
        self.go_on(client, at_us, attempt.filter(|_| retries));
    }

    fn go_on(&mut self, client: usize, now_us: u64, again: Option<Attempt>) {
        let think = self.random.span(self.scenario.think);
        // What is replayed after a minute is to meet clients at work.
        const REST: Duration = Duration::from_secs(65);
        if self.scenario.of(Fault::Replay) > 0.0 && self.left < self.scenario.operations / 2 {
            self.rest_until_us.get_or_insert(now_us + micros(REST));
        }
        let at_us = (now_us + 1 + micros(think)).max(self.rest_until_us.unwrap_or(0));
        self.due.insert((at_us, client), again);
    }

    /// The same write once more, by a node that has not been tried; `None` if all have.
    fn again(&mut self, mut attempt: Attempt, world: &mut World) -> Option<Asked> {
        let untried: Vec<usize> =
            (0..world.nodes()).filter(|node| !attempt.tried.contains(node)).collect();
        if untried.is_empty() {
            return None;
        }
        let node = *self.random.pick(&untried);
        attempt.tried.insert(node);
        let (id, body) = (self.values.again(attempt.number, name(node)), attempt.body.clone());
        world.coverage().count(Fault::Retry.name());
        Some((node, Call::Put { id }, body, Some(attempt)))
    }

    fn request(&mut self, world: &World) -> Asked {
        let (random, scenario) = (&mut self.random, &self.scenario);
        let node = random.index(world.nodes());
        let number = if random.chance(scenario.hot) { 0 } else { random.below(scenario.keys) };
        let key = Key::new(format!("key{number}")).expect("a short key");
        let quorum = self.quorum();
        let (random, scenario) = (&mut self.random, &self.scenario);
        let (call, operation, put) = if random.chance(scenario.reads) {
            (Call::Get, Operation::Get, None)
        } else if random.chance(scenario.deletes) {
            (Call::Delete { id: self.values.number() }, Operation::Delete, None)
        } else {
            let len = match random.below(100) {
                _ if random.chance(scenario.huge) => 100 << 10,
                0..5 => 0,
                5..10 => random.index(4_000),
                _ => 8 + random.index(60),
            };
            let (id, value) = self.values.make(&key, len);
            (Call::Put { id }, Operation::Put(value), Some(id))
        };
        let (atomic, timeout) = (scenario.atomic, scenario.timeout);
        let body =
            ClientRequest { key, operation, quorum, atomic, wait_for_owners: false, timeout };
        let tried = BTreeSet::from([node]);
        let attempt = put.map(|number| Attempt { number, tried, body: body.clone() });
        (node, call, body, attempt)
    }

    fn quorum(&mut self) -> Quorum {
        let (random, scenario) = (&mut self.random, &self.scenario);
        let (n, mut r, mut w) = (scenario.owners, scenario.quorum.r(), scenario.quorum.w());
        if random.chance(scenario.odd_quorums) {
            (r, w) = (random.index(n) + 1, random.index(n) + 1);
        }
        let sloppy = random.chance(scenario.sloppy);
        Quorum::new(n, r, w, sloppy).expect("between 1 and n")
    }

    fn comes_twice(&self) -> bool {
        self.scenario.of(Fault::Duplication) > 0.0 || self.scenario.of(Fault::Replay) > 0.0
    }

    /// What a client knows by an answer; `None` if nothing.
    fn outcome(&self, op: OpId, answer: &Answer) -> Option<Outcome> {
        let asked = self.history.op(op);
        let failed = |fate| match (asked.is_write(), fate) {
            (false, _) => Outcome::Failed,
            // A request that comes twice may be refused once and granted once: no stream does that, and no node
            // can know of it.
            (true, Fate::Rejected) if !self.comes_twice() => Outcome::Rejected,
            (true, _) => Outcome::Indeterminate { version: None },
        };
        match answer {
            Answer::Lost => None,
            Answer::Unreachable => Some(match asked.is_write() {
                true => Outcome::Rejected,
                false => Outcome::Failed,
            }),
            Answer::Reply(ClientReply::Refused(_)) => Some(failed(Fate::Rejected)),
            Answer::Reply(ClientReply::Written(Err(failure))) => {
                Some(failed(failure.error.outcome()))
            }
            Answer::Reply(ClientReply::Read(Err(_))) => Some(Outcome::Failed),
            Answer::Reply(ClientReply::Written(Ok(receipt))) => Some(Outcome::Acked {
                version: receipt.version,
                strict: !receipt.sloppy,
                acks: receipt.acks.clone(),
            }),
            Answer::Reply(ClientReply::Read(Ok(receipt))) => {
                let (strict, from) = (!receipt.sloppy, receipt.from.clone());
                let key = &asked.request.key;
                Some(match &receipt.found {
                    Some(record @ Record { value: Some(_), version, .. }) => {
                        let id = self.value_of(key, record).unwrap_or(UNKNOWN);
                        Outcome::Found { id, version: *version, strict, from }
                    }
                    Some(Record { value: None, version, .. }) => {
                        Outcome::Absent { version: Some(*version), strict, from }
                    }
                    None => Outcome::Absent { version: None, strict, from },
                })
            }
        }
    }

    /// Which write a record's value is of; `None` for a tombstone, and [`UNKNOWN`] for what nobody wrote.
    pub(crate) fn value_of(&self, key: &Key, record: &Record) -> Option<u64> {
        let value = record.value.as_ref()?;
        let number = self.values.number_of(key, value).unwrap_or(UNKNOWN);
        Some(self.values.try_of(number, record.version.writer.node))
    }

    /// How long the slowest client may still need.
    pub(crate) fn patience(&self) -> Duration {
        self.scenario.timeout * 4
    }
}

/// Whom a client asks, for what, and what it may ask again.
type Asked = (usize, Call, ClientRequest, Option<Attempt>);

/// No write has this number.
const UNKNOWN: u64 = u64::MAX;
