//! Two nodes that own everything together, with stores on a disk and encoded messages between them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_node::{Action, Event, Message, Node, NodeOptions, Now, Request, Response};
use quorate_record::{Key, NodeId, Record, Timestamp, Version, Writer};
use quorate_ring::{Ring, RingNode};
use quorate_server::local::{Local, LocalOptions};
use quorate_storage::{Drive, HintLogOptions, RealFs, StoreOptions, SyncPolicy};
use quorate_transport::{Protocol, encode_frame};

const START_MS: u64 = 1_700_000_000_000;
const INTERVAL: Duration = Duration::from_millis(1_500);
/// Records that are applied before the log writes them.
const GATHERED: u64 = 4_096;

/// What one exchange sent, in frames as they are on the wire.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Bytes that say what is there.
    pub(crate) metadata_bytes: usize,
    /// Questions of that kind.
    pub(crate) round_trips: usize,
    /// Bytes that move records.
    pub(crate) record_bytes: usize,
    /// Time that the side took that began it, and the other.
    pub(crate) took: [Duration; 2],
}

pub(crate) struct Pair {
    sides: [Side; 2],
    _folder: tempfile::TempDir,
    started: Instant,
    passed: Duration,
    in_flight: VecDeque<(usize, Event)>,
    cost: Cost,
}

struct Side {
    node: Node,
    local: Local,
}

fn key(number: u64) -> Key {
    Key::new(format!("key{number:012}")).expect("it is short")
}

fn record(time_ms: u64) -> Record {
    let writer = Writer { node: id(0), incarnation: 1 };
    let timestamp = Timestamp::from_wall_ms(START_MS - 1_000_000 + time_ms);
    Record::live(Version { timestamp, writer }, vec![7; 100])
}

fn id(side: usize) -> NodeId {
    NodeId::new(["n1", "n2"][side]).expect("a short id")
}

impl Pair {
    /// Two nodes, and in both stores the same so many records.
    pub(crate) fn with_keys(keys: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let ring = Ring::new(vec![RingNode::new(id(0)), RingNode::new(id(1))], 64, 2);
        let ring = ring.expect("two nodes");
        #[expect(clippy::disallowed_methods, reason = "a driver has a clock")]
        let started = Instant::now();
        let now = Now { instant: started, wall_ms: START_MS };
        let sides = [0, 1].map(|side| {
            let mut store = StoreOptions::new(quorate_ring::token);
            store.sketch_cells = quorate_node::MAX_CELLS;
            let mut hints = HintLogOptions::default();
            for log in [&mut store.log, &mut hints.log] {
                (log.drive, log.sync) = (Drive::Manual, SyncPolicy::Os);
            }
            let options = LocalOptions { store, hints };
            let dir = folder.path().join(id(side).as_str());
            let files = Arc::new(RealFs);
            let opened = Local::open(files, &dir, id(side), &ring, &options, START_MS, || {});
            let (node, local) = opened.expect("a new folder").start(
                ring.clone(),
                NodeOptions {
                    anti_entropy_interval: (side == 0).then_some(INTERVAL),
                    anti_entropy_max_per_tick: 1_024,
                    ..NodeOptions::default()
                },
                now,
            );
            Side { node, local }
        });
        let (passed, in_flight, cost) = (Duration::ZERO, VecDeque::new(), Cost::default());
        let mut pair = Self { sides, _folder: folder, started, passed, in_flight, cost };
        for side in 0..2 {
            pair.fill(side, 0..keys, 0);
        }
        for side in 0..2 {
            pair.report(side, Event::Connected { peer: id(1 - side), incarnation: START_MS });
        }
        pair.run();
        pair
    }

    /// Puts records of this time into one store, behind its node's back.
    pub(crate) fn fill(&self, side: usize, keys: impl IntoIterator<Item = u64>, time_ms: u64) {
        let local = &self.sides[side].local;
        let mut done = Vec::new();
        let mut count = 0;
        for number in keys {
            local.store.apply(1, key(number), record(time_ms)).expect("there is room");
            count += 1;
            if count % GATHERED == 0 {
                local.store.turn(self.passed);
                local.store.take_completions(&mut done);
                done.clear();
            }
        }
        local.store.turn(self.passed);
        local.store.take_completions(&mut done);
    }

    /// Lets the exchange take place that is due next, and says what it cost. Only the first side
    /// begins any.
    pub(crate) fn exchange(&mut self) -> Cost {
        let ended =
            |pair: &Self| pair.sides[0].node.anti_entropy().map_or(0, |stats| stats.exchanges);
        let before = ended(self);
        while ended(self) == before {
            self.passed += INTERVAL;
            self.cost = Cost::default();
            self.report(0, Event::Woken);
            self.run();
        }
        self.cost
    }

    /// What came of the exchanges so far, in words.
    pub(crate) fn stats(&self) -> String {
        format!("{:?}", self.sides[0].node.anti_entropy())
    }

    /// Whether both stores hold the same.
    pub(crate) fn is_equal(&self) -> bool {
        let [one, other] = self.sides.each_ref().map(|side| side.local.store.digest(0..=u64::MAX));
        one == other
    }

    fn run(&mut self) {
        while let Some((side, event)) = self.in_flight.pop_front() {
            self.report(side, event);
        }
    }

    fn report(&mut self, to: usize, event: Event) {
        let wall_ms = START_MS + u64::try_from(self.passed.as_millis()).expect("a short test");
        let now = Now { instant: self.started + self.passed, wall_ms };
        #[expect(clippy::disallowed_methods, reason = "a driver has a clock")]
        let began = Instant::now();
        let Side { node, local } = &mut self.sides[to];
        node.handle(event, now);
        loop {
            let Some(action) = node.poll_action() else {
                local.store.turn(self.passed);
                local.hints.turn(self.passed);
                let replies = local.take_replies();
                if replies.is_empty() {
                    break;
                }
                for (id, reply) in replies {
                    node.handle(Event::Store { id, reply }, now);
                }
                continue;
            };
            match action {
                Action::Send { message, .. } | Action::Respond { message, .. } => {
                    self.cost.count(&message);
                    let event = Event::Received { from: id(to), via: 1, message };
                    self.in_flight.push_back((1 - to, event));
                }
                Action::Store { id, request } => {
                    if let Some(reply) = local.submit(id, request) {
                        node.handle(Event::Store { id, reply }, now);
                    }
                }
                other => panic!("nobody asked for {other:?}"),
            }
        }
        self.cost.took[to] += began.elapsed();
    }
}

impl Cost {
    fn count(&mut self, message: &Message) {
        let mut bytes = Vec::new();
        encode_frame(message, Protocol::NEWEST, &mut bytes).expect("it fits in a frame");
        match message {
            Message::Request { body: Request::Meet { .. }, .. }
            | Message::Response { body: Response::Met { .. }, .. } => {}
            Message::Request { body: Request::Fetch { .. } | Request::Merge { .. }, .. }
            | Message::Response { body: Response::Fetched(_) | Response::Merged(_), .. } => {
                self.record_bytes += bytes.len();
            }
            Message::Request { .. } => {
                self.metadata_bytes += bytes.len();
                self.round_trips += 1;
            }
            Message::Response { .. } => self.metadata_bytes += bytes.len(),
        }
    }
}
