//! A whole driver over a network that is a list: no runtime, no sockets, no waiting.
//!
//! Replica n1 already holds a greater version, from a coordinator with a faster clock; n3 is out of
//! reach, and n4 stands in for it. The write needs its second round. Then n3 is back, and a read
//! finds it stale and repairs it. Run with `cargo run --example put_without_a_runtime`.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use quorate_quorum::{
    Failure, Get, GetAction, GetEvent, GetOptions, Put, PutAction, PutEvent, Quorum, Repair,
};

type Node = &'static str;
type Version = u64;

const NODES: [Node; 4] = ["n1", "n2", "n3", "n4"]; // three replicas and a fallback
const PATIENCE: Duration = Duration::from_millis(50);
const TIMEOUT: Duration = Duration::from_secs(1);

/// What will happen when; the number keeps events of one instant in order.
struct Agenda<E> {
    start: Instant,
    now: Instant,
    events: BTreeMap<(Instant, usize), E>,
    timer: Option<Instant>,
    count: usize,
}

impl<E> Agenda<E> {
    fn new(start: Instant) -> Self {
        Self { start, now: start, events: BTreeMap::new(), timer: None, count: 0 }
    }

    fn after(&mut self, delay: Duration, event: E) {
        self.count += 1;
        self.events.insert((self.now + delay, self.count), event);
    }

    /// Moves on to the next thing: an event, or `None` for the timer.
    fn next(&mut self) -> Option<E> {
        match self.events.pop_first() {
            Some(((at, _), event)) if self.timer.is_none_or(|timer| at <= timer) => {
                self.now = at;
                Some(event)
            }
            later => {
                self.events.extend(later);
                self.now = self.timer.take().unwrap_or(self.now);
                None
            }
        }
    }

    fn say(&self, what: &str) {
        println!("{:>4} ms  {what}", (self.now - self.start).as_millis());
    }
}

/// What each node holds; a hint is kept apart from a node's own data.
#[derive(Default)]
struct Cluster {
    held: BTreeMap<Node, Version>,
    hints: BTreeMap<(Node, Node), Version>,
}

fn write(cluster: &mut Cluster, quorum: Quorum, start: Instant) {
    let mut agenda = Agenda::new(start);
    let mut put: Put<Node, Version> =
        Put::start(&NODES, |_| false, quorum, 17, PATIENCE, TIMEOUT, start);
    loop {
        while let Some(action) = put.poll_action() {
            agenda.say(&format!("{action:?}"));
            match action {
                PutAction::Send { to: from @ "n3", round, .. } => {
                    let failure = Failure::Unknown;
                    agenda.after(TIMEOUT, PutEvent::Failed { from, round, failure });
                }
                PutAction::Send { to: from, hint_for, round } => {
                    let version = *put.version();
                    let held = match hint_for {
                        Some(replica) => cluster.hints.entry((from, replica)).or_default(),
                        None => cluster.held.entry(from).or_default(),
                    };
                    let event = if *held > version {
                        PutEvent::Superseded { from, round, by: *held }
                    } else {
                        *held = version;
                        PutEvent::Stored { from, round }
                    };
                    agenda.after(Duration::from_millis(3), event);
                }
                PutAction::Restamp { above } => {
                    agenda.after(Duration::ZERO, PutEvent::Restamped { version: above + 1 });
                }
                PutAction::KeepHint { replica, round } => {
                    cluster.hints.insert(("coordinator", replica), *put.version());
                    agenda.after(Duration::ZERO, PutEvent::HintKept { replica, round });
                }
                PutAction::SetTimer { at } => agenda.timer = Some(at),
                PutAction::Reply(_) => {}
            }
        }
        if put.is_done() {
            break;
        }
        let event = agenda.next().unwrap_or(PutEvent::TimerFired);
        put.handle(event, agenda.now);
    }
    println!("every replica has the write or a hint: {:?} {:?}", cluster.held, cluster.hints);
}

fn read(cluster: &mut Cluster, quorum: Quorum, start: Instant) {
    let mut agenda = Agenda::new(start);
    let nearest_first = ["n3", "n1", "n2", "n4"];
    let options = GetOptions {
        repair: Repair::Blocking,
        hedge_after: Some(Duration::from_millis(10)),
        patience: PATIENCE,
        timeout: TIMEOUT,
    };
    let mut get: Get<Node, Version> = Get::start(&nearest_first, |_| false, quorum, options, start);
    loop {
        while let Some(action) = get.poll_action() {
            agenda.say(&format!("{action:?}"));
            match action {
                GetAction::Send { to: from, .. } => {
                    let found = cluster.held.get(from).copied();
                    agenda.after(Duration::from_millis(3), GetEvent::Answer { from, found });
                }
                GetAction::Repair { to: from, payload } => {
                    let held = cluster.held.entry(from).or_default();
                    *held = payload.max(*held);
                    agenda.after(Duration::from_millis(3), GetEvent::Repaired { from });
                }
                GetAction::SetTimer { at } => agenda.timer = Some(at),
                GetAction::Reply(_) => {}
            }
        }
        if get.is_done() {
            break;
        }
        let event = agenda.next().unwrap_or(GetEvent::TimerFired);
        get.handle(event, agenda.now);
    }
    println!("the replicas agree: {:?}", cluster.held);
}

fn main() -> Result<(), Box<dyn Error>> {
    #[expect(clippy::disallowed_methods, reason = "any instant will do as the first")]
    let start = Instant::now();
    let quorum = Quorum::new(3, 2, 2, false)?;
    let mut cluster = Cluster::default();
    cluster.held.insert("n1", 40);
    write(&mut cluster, quorum, start);
    read(&mut cluster, quorum, start);
    Ok(())
}
