//! A cluster of real nodes in one thread, with virtual time.

mod agenda;
mod counts;
mod faults;
mod nodes;
mod owed;
mod wires;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    time::{Duration, Instant},
};

use quorate_node::{ClientReply, ClientRequest, Event, Node, NodeOptions, Now};
use quorate_record::{Hint, Key, NodeId, Record, Timestamp, Version};
use quorate_ring::{Ring, RingNode};
use quorate_storage::fault::FaultFs;

use self::agenda::{Happening, Planned};
use crate::{
    Coverage, FileOptions, NetworkOptions, Random, Trace,
    machine::Machine,
    network::{Network, Way, micros},
};

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// Everything that is drawn at random hangs on this.
    pub seed: u64,
    /// How many nodes there are; they are called n1, n2, …
    pub nodes: usize,
    /// How many of them own each key.
    pub owners: usize,
    /// How the nodes behave.
    pub node: NodeOptions,
    /// How their files behave.
    pub files: FileOptions,
    /// How their network behaves.
    pub network: NetworkOptions,
    /// The mean time that a turn of a log takes: a write and a sync.
    pub sync_time: Duration,
    /// The chance that a turn takes up to five seconds instead.
    pub slow_turn: f64,
}

impl Default for WorldOptions {
    /// Three nodes that own everything, and nothing goes wrong.
    fn default() -> Self {
        Self {
            seed: 0,
            nodes: 3,
            owners: 3,
            node: NodeOptions::default(),
            files: FileOptions::default(),
            network: NetworkOptions::default(),
            sync_time: Duration::from_micros(500),
            slow_turn: 0.0,
        }
    }
}

/// What came of a client's request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The node answered.
    Reply(ClientReply),
    /// No node was running there: nobody took the request.
    Unreachable,
    /// The node ended before it answered. What was asked may or may not have been done.
    Lost,
}

/// A client's request that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// As [`World::ask`] gave it.
    pub request: u64,
    /// When, since the start of the world.
    pub at: Duration,
    /// What came of it.
    pub answer: Answer,
}

/// A cluster of real nodes over simulated files, clocks and wires; nodes are numbered from 0.
///
/// Everything happens on the caller's thread and in virtual time, and the same calls on the same seed do the same.
pub struct World {
    options: WorldOptions,
    ring: Ring<NodeId>,
    machines: Vec<Machine>,
    network: Network,
    disk: Random,
    agenda: BinaryHeap<Reverse<Planned>>,
    planned: u64,
    now_us: u64,
    origin: Instant,
    open: BTreeMap<u64, Open>,
    next_request: u64,
    answered: Vec<Answered>,
    trace: Trace,
    coverage: Coverage,
    broken: Vec<String>,
    pub(crate) broken_keys: BTreeSet<Key>,
    at_this_time: u32,
    /// The frame that was encoded last; its memory is used again.
    encoded: Vec<u8>,
}

/// A client's request that a node works on.
struct Open {
    node: usize,
    due_us: u64,
}

/// A node that does so many things without time passing will never stop.
const MOST_EVENTS_AT_A_TIME: u32 = 200_000;

impl World {
    /// A world whose nodes have just been started.
    ///
    /// # Panics
    /// If the numbers of nodes and owners make no ring.
    #[must_use]
    pub fn new(options: WorldOptions) -> Self {
        const VNODES: u32 = 8;
        let ids: Vec<NodeId> = (0..options.nodes).map(name).collect();
        let places = ids.iter().map(|&id| RingNode::new(id)).collect();
        let ring = Ring::new(places, VNODES, options.owners).expect("the numbers make a ring");
        let machine = |id| Machine::new(id, options.files, options.node.clone());
        let wires = Random::stream(options.seed, "network");
        let mut world = Self {
            ring,
            machines: ids.into_iter().map(machine).collect(),
            network: Network::new(options.network.clone(), options.nodes, wires),
            disk: Random::stream(options.seed, "disk"),
            agenda: BinaryHeap::new(),
            planned: 0,
            now_us: 0,
            origin: some_instant(),
            open: BTreeMap::new(),
            next_request: 0,
            answered: Vec::new(),
            trace: Trace::default(),
            coverage: Coverage::default(),
            broken: Vec::new(),
            broken_keys: BTreeSet::new(),
            at_this_time: 0,
            encoded: Vec::new(),
            options,
        };
        for node in 0..world.machines.len() {
            if let Err(error) = world.start(node) {
                world.breaks(format!("{} cannot start on empty files: {error}", name(node)));
            }
        }
        world
    }

    /// The time since the start of the world.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_micros(self.now_us)
    }

    /// How many nodes there are, running or not.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.machines.len()
    }

    /// Who owns what.
    #[must_use]
    pub fn ring(&self) -> &Ring<NodeId> {
        &self.ring
    }

    /// A node, if it is running.
    #[must_use]
    pub fn node(&self, node: usize) -> Option<&Node> {
        self.machines[node].process.as_ref().map(|process| &process.node)
    }

    /// The hints in a node's queue, if it runs and its device gives them.
    pub(crate) fn hints(&self, node: usize) -> Vec<Hint> {
        let process = self.machines[node].process.as_ref();
        process.and_then(|process| process.hints()).unwrap_or_default()
    }

    /// Whether a node is running, paused or not.
    #[must_use]
    pub fn is_running(&self, node: usize) -> bool {
        self.machines[node].process.is_some()
    }

    /// The owners of a key, by number.
    #[must_use]
    pub fn owners_of(&self, key: &Key) -> Vec<usize> {
        let owners: Vec<NodeId> = self.ring.owners_of_key(key.as_bytes()).copied().collect();
        owners.iter().filter_map(|id| self.number_of(*id)).collect()
    }

    /// All records that a running node holds and can read.
    #[must_use]
    pub fn records(&self, node: usize) -> Vec<(Key, Record)> {
        let process = self.machines[node].process.as_ref();
        let scanned = process.map(|process| process.local.store.scan(None, usize::MAX));
        scanned.and_then(Result::ok).unwrap_or_default().records
    }

    /// How many tombstones a running node holds.
    #[must_use]
    pub fn tombstones(&self, node: usize) -> u64 {
        let process = self.machines[node].process.as_ref();
        process.map_or(0, |process| process.local.store.tombstones())
    }

    /// Below which a running node has forgotten tombstones.
    #[must_use]
    pub fn horizon(&self, node: usize) -> Timestamp {
        let process = self.machines[node].process.as_ref();
        process.map(|process| process.local.store.horizon()).unwrap_or_default()
    }

    /// What a running node holds for a key and can read.
    #[must_use]
    pub fn record(&self, node: usize, key: &Key) -> Option<Record> {
        self.machines[node].process.as_ref()?.local.store.get(key).ok()?
    }

    /// Whether a machine's files were damaged behind its node's back.
    pub(crate) fn is_damaged(&self, node: usize) -> bool {
        self.machines[node].damaged
    }

    /// The version of what a running node holds for a key, whether it can read it or not.
    #[must_use]
    pub fn version(&self, node: usize, key: &Key) -> Option<Version> {
        self.machines[node].process.as_ref()?.local.store.version(key)
    }

    /// The files of a machine.
    #[must_use]
    pub fn files(&self, node: usize) -> &FaultFs {
        &self.machines[node].fs
    }

    /// What happened so far.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Keeps a readable log from now on, see [`Trace::lines`].
    pub fn keep_log(&mut self) {
        self.trace.keep_lines();
    }

    /// Adds a line of one's own to the log.
    pub fn remark(&mut self, line: impl FnOnce() -> String) {
        self.trace.line(self.now_us, line);
    }

    /// What was reached so far.
    pub fn coverage(&mut self) -> &mut Coverage {
        &mut self.coverage
    }

    /// Promises that were seen broken while it happened.
    #[must_use]
    pub fn broken(&self) -> &[String] {
        &self.broken
    }

    /// The network, to be made better or worse.
    pub fn network(&mut self) -> &mut NetworkOptions {
        &mut self.network.options
    }

    /// Takes out the requests that have ended since the last call.
    pub fn take_answered(&mut self) -> Vec<Answered> {
        std::mem::take(&mut self.answered)
    }

    /// Sends a client's request to a node and returns the number that it is [answered](Self::take_answered) by.
    pub fn ask(&mut self, node: usize, body: ClientRequest) -> u64 {
        self.next_request += 1;
        let request = self.next_request;
        let at_us = self.now_us + micros(self.network.delay());
        self.plan(at_us, Happening::Ask { node, request, body: Box::new(body) });
        request
    }

    /// Lets virtual time pass.
    pub fn run_for(&mut self, span: Duration) {
        let end_us = self.now_us + micros(span);
        self.run_until_us(end_us);
    }

    /// Runs until every request that was asked has an answer.
    pub fn run_until_answered(&mut self) {
        let asked = |planned: &Reverse<Planned>| matches!(planned.0.what, Happening::Ask { .. });
        while !self.open.is_empty() || self.agenda.iter().any(asked) {
            let Some(at_us) = self.next_us() else { return };
            self.run_until_us(at_us);
        }
    }

    /// When something happens next.
    pub(crate) fn next_us(&self) -> Option<u64> {
        self.agenda.peek().map(|planned| planned.0.at_us)
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.now_us
    }

    pub(crate) fn run_until_us(&mut self, end_us: u64) {
        while self.next_us().is_some_and(|at_us| at_us <= end_us) {
            self.step();
        }
        self.advance(end_us);
    }

    /// Lets the next thing happen.
    pub(crate) fn step(&mut self) {
        if let Some(Reverse(planned)) = self.agenda.pop() {
            self.advance(planned.at_us);
            self.at_this_time += 1;
            if self.at_this_time == MOST_EVENTS_AT_A_TIME {
                self.breaks("the cluster goes round in circles without time passing".to_owned());
                return self.agenda.clear();
            }
            self.happen(planned.what);
        }
    }

    pub(crate) fn breaks(&mut self, what: String) {
        self.remark(|| format!("BROKEN: {what}"));
        self.broken.push(what);
    }

    /// Says what is broken of a key, whose history is then worth a look.
    pub(crate) fn breaks_about(&mut self, key: &Key, what: String) {
        self.broken_keys.insert(key.clone());
        self.breaks(what);
    }

    fn advance(&mut self, to_us: u64) {
        if to_us > self.now_us {
            self.now_us = to_us;
            self.at_this_time = 0;
        }
    }

    fn happen(&mut self, what: Happening) {
        if let Some(node) = self.concerns(&what) {
            let machine = &self.machines[node];
            if machine.paused_until_us > self.now_us && machine.process.is_some() {
                let mut until_us = machine.paused_until_us;
                if matches!(what, Happening::Ask { .. }) {
                    // Clients do not wait for a process that has ended meanwhile.
                    until_us = until_us.min(self.now_us + 1_000_000);
                }
                return self.plan(until_us, what);
            }
        }
        match what {
            Happening::Ask { node, request, body } => self.take_request(node, request, *body),
            Happening::Arrive { connection, way, frame, corrupted, replayed } => {
                self.arrive(connection, way, frame, corrupted, replayed);
            }
            Happening::Wake { node, life } => {
                let now_us = self.now_us;
                let machine = &mut self.machines[node];
                if let Some(process) = machine.process.as_mut().filter(|_| machine.life == life)
                    && process.wake_us.is_some_and(|at_us| at_us <= now_us)
                {
                    process.wake_us = None;
                    self.trace.note(&[self.now_us, 4, node as u64]);
                    self.report(node, Event::Woken);
                }
            }
            Happening::Turn { node, life, which } => self.turn(node, life, which),
            Happening::Dial { from, life, to } => self.dial(from, life, to),
            Happening::Broken { connection } => self.lose(connection),
        }
    }

    /// Whose pause holds this up.
    fn concerns(&self, what: &Happening) -> Option<usize> {
        match what {
            Happening::Ask { node, .. }
            | Happening::Wake { node, .. }
            | Happening::Turn { node, .. } => Some(*node),
            Happening::Dial { from, .. } => Some(*from),
            Happening::Arrive { connection, way, .. } => {
                let connection = self.network.connection(*connection)?;
                Some(match way {
                    Way::ToAcceptor => connection.acceptor,
                    Way::ToDialer => connection.dialer,
                })
            }
            Happening::Broken { connection } => Some(self.network.connection(*connection)?.dialer),
        }
    }

    fn plan(&mut self, at_us: u64, what: Happening) {
        self.planned += 1;
        self.agenda.push(Reverse(Planned { at_us, number: self.planned, what }));
    }

    fn now_at(&self, node: usize) -> Now {
        let instant = self.origin + Duration::from_micros(self.now_us);
        Now { instant, wall_ms: self.machines[node].clock.wall_ms(self.now_us) }
    }

    fn number_of(&self, id: NodeId) -> Option<usize> {
        self.machines.iter().position(|machine| machine.id == id)
    }
}

/// The id of the node with this number: n1 for 0, and so on.
#[must_use]
pub fn name(node: usize) -> NodeId {
    NodeId::new(&format!("n{}", node + 1)).expect("a short plain name")
}

#[expect(clippy::disallowed_methods, reason = "the instant from which virtual time counts")]
fn some_instant() -> Instant {
    Instant::now()
}
