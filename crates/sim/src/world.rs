//! A cluster of real nodes in one thread, with virtual time.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use quorate_node::{
    Action, ClientReply, ClientRequest, Event, Message, Node, NodeOptions, Now, PutOutcome,
    StoreReply, StoreRequest,
};
use quorate_record::{Key, NodeId, Record};
use quorate_ring::{Ring, RingNode};
use quorate_storage::fault::{Crash, Fault, FaultFs, FaultKind};
use quorate_transport::{decode_message, encode_frame, next_frame};

use crate::{
    Coverage, FileOptions, Loss, NetworkOptions, Random, Trace,
    describe::{describe_message, describe_reply, describe_request},
    machine::Machine,
    network::{Network, Way, micros},
    process::{self, Which},
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
    at_this_time: u32,
}

struct Planned {
    at_us: u64,
    number: u64,
    what: Happening,
}

enum Happening {
    Ask { node: usize, request: u64, body: Box<ClientRequest> },
    Arrive { connection: u64, way: Way, frame: Bytes, corrupted: bool },
    Wake { node: usize, life: u64 },
    Turn { node: usize, life: u64, which: Which },
    Dial { from: usize, life: u64, to: usize },
    Broken { connection: u64 },
}

/// A client's request that a node works on.
struct Open {
    node: usize,
    due_us: u64,
}

/// A node that does so many things without time passing will never stop.
const MOST_EVENTS_AT_A_TIME: u32 = 200_000;

/// How much later than its deadline an answer may come: the node is woken in time, but not before it.
const LATENESS_US: u64 = 1_000;

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
        let wires = Random::stream(options.seed, "network");
        let mut world = Self {
            ring,
            machines: ids.into_iter().map(Machine::new).collect(),
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
            at_this_time: 0,
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

    /// All records that a running node holds.
    #[must_use]
    pub fn records(&self, node: usize) -> Vec<(Key, Record)> {
        let process = self.machines[node].process.as_ref();
        process.map(|process| process.local.store.scan(None, usize::MAX)).unwrap_or_default()
    }

    /// What a running node holds for a key.
    #[must_use]
    pub fn record(&self, node: usize, key: &Key) -> Option<Record> {
        self.machines[node].process.as_ref()?.local.store.get(key)
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

    /// Lets all disks work and have room, at the usual speed, and takes back what was to end processes.
    pub fn mend_machines(&mut self) {
        self.options.slow_turn = 0.0;
        for machine in &mut self.machines {
            machine.ends_after_actions = None;
            machine.power_fails_after_operations = None;
            machine.slowness = 1;
            machine.fs.set_fault(None);
            machine.fs.set_capacity(None);
        }
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

    /// Stops everything from one node to another, in this direction, until it is [joined](Self::join) as often.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.remark(|| format!("cut: {} cannot reach {}", name(from), name(to)));
        self.network.wall_up(from, to);
    }

    /// Takes one [cut](Self::cut) back.
    pub fn join(&mut self, from: usize, to: usize) {
        self.remark(|| format!("joined: {} to {}", name(from), name(to)));
        self.network.wall_down(from, to);
    }

    /// Takes all cuts back.
    pub fn join_all(&mut self) {
        self.network.all_walls_down();
    }

    /// Lets a machine do nothing for so long, then go on as if nothing had been.
    pub fn pause(&mut self, node: usize, span: Duration) {
        self.remark(|| format!("{} is paused for {span:?}", name(node)));
        let until_us = self.now_us + micros(span);
        let machine = &mut self.machines[node];
        machine.paused_until_us = machine.paused_until_us.max(until_us);
        // Whoever waits for an answer of it waits longer.
        for open in self.open.values_mut().filter(|open| open.node == node) {
            open.due_us = open.due_us.max(until_us);
        }
    }

    /// Makes everything on a machine take so many times longer; 1 is the usual.
    pub fn slow_down(&mut self, node: usize, times: u32) {
        self.machines[node].slowness = times.max(1);
    }

    /// How far a machine's wall clock is ahead of true time, in microseconds.
    #[must_use]
    pub fn clock_ahead_us(&self, node: usize) -> i64 {
        self.machines[node].clock.ahead_us(self.now_us)
    }

    /// Moves a machine's wall clock.
    pub fn step_clock(&mut self, node: usize, by_us: i64) {
        self.remark(|| format!("the clock of {} steps by {} ms", name(node), by_us / 1000));
        self.machines[node].clock.step(by_us, self.now_us);
    }

    /// Makes a machine's wall clock run faster, in parts per million; -1,000,000 stands still.
    pub fn drift_clock(&mut self, node: usize, ppm: i64) {
        self.machines[node].clock.set_drift(ppm, self.now_us);
    }

    /// Sets a machine's wall clock so far ahead of true time.
    pub fn set_clock_ahead(&mut self, node: usize, ahead_us: i64) {
        self.machines[node].clock.set_ahead(ahead_us, self.now_us);
    }

    /// Tells the checks within that a machine's files were damaged, so that it may have lost anything.
    pub fn note_damage(&mut self, node: usize) {
        self.machines[node].damaged = true;
        self.machines[node].answered_for.clear();
    }

    /// Ends a node's process once so many more of its actions have been carried out.
    pub fn end_after_actions(&mut self, node: usize, actions: u32, loss: Loss) {
        self.machines[node].ends_after_actions = Some((actions, loss));
    }

    /// Cuts a machine's power within a turn of its logs, once so many more operations of its files have been done.
    pub fn power_fails_in_turn(&mut self, node: usize, operations: u64, crash: Crash) {
        self.machines[node].power_fails_after_operations = Some((operations, crash));
    }

    /// Whether a node runs whose log has failed, so that it must be restarted.
    #[must_use]
    pub fn is_poisoned(&self, node: usize) -> bool {
        self.machines[node].process.as_ref().is_some_and(|process| {
            process.local.store.poisoned().is_some() || process.local.hints.poisoned().is_some()
        })
    }

    /// Ends a node's process, if it runs.
    pub fn end(&mut self, node: usize, loss: Loss) {
        if self.machines[node].process.is_none() {
            return;
        }
        self.remark(|| format!("{} ends: {loss:?}", name(node)));
        self.trace.note(&[self.now_us, 1, node as u64]);
        self.machines[node].end(loss);
        let ended: Vec<u64> =
            self.open.iter().filter(|(_, open)| open.node == node).map(|(&it, _)| it).collect();
        for request in ended {
            self.open.remove(&request);
            self.answer(request, Answer::Lost);
        }
        for number in self.network.connections_of(node) {
            let Some(connection) = self.network.connection(number) else { continue };
            if connection.dialer == node {
                self.network.disconnect(number);
                continue;
            }
            // Whoever is killed hangs up; who loses power is missed when somebody gets no answer.
            let noticed = match loss {
                Loss::Process => self.network.delay(),
                Loss::Power(_) => self.disk.between(Duration::ZERO, Duration::from_secs(5)),
            };
            self.plan(self.now_us + micros(noticed), Happening::Broken { connection: number });
        }
    }

    /// Starts a node's process, unless it runs.
    ///
    /// # Errors
    /// Why its files could not be opened.
    pub fn start(&mut self, node: usize) -> Result<(), String> {
        if self.machines[node].process.is_some() {
            return Ok(());
        }
        let now = self.now_at(node);
        let machine = &mut self.machines[node];
        let (files, options) = (&self.options.files, &self.options.node);
        let opened = process::open(&machine.fs, machine.id, &self.ring, options, files, now);
        let opened = opened.map_err(|error| chain(&*error))?;
        self.trace.note(&[self.now_us, 2, node as u64, opened.truncated_bytes]);
        if opened.truncated_bytes > 0 {
            self.coverage.count("state: torn tail cut");
        }
        machine.process = Some(Box::new(opened.process));
        if !opened.damages.is_empty() {
            self.coverage.count("state: damage found in a log");
            if !machine.damaged {
                let damages = opened.damages;
                self.breaks(format!("{} finds damage nobody did: {damages:?}", name(node)));
            }
        }
        self.remark(|| format!("{} starts", name(node)));
        self.check_answered_for(node);
        for other in 0..self.machines.len() {
            for (from, to) in [(node, other), (other, node)] {
                if from != to && self.network.dialled(from, to).is_none() {
                    self.plan_dial(from, to, false);
                }
            }
        }
        self.plan_wake(node);
        Ok(())
    }

    /// Tries to start a node whose power fails after so many operations of its files. Says whether it did.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with_power_failing(
        &mut self,
        node: usize,
        operations: u64,
        crash: Crash,
    ) -> Result<bool, String> {
        let machine = &mut self.machines[node];
        let at = machine.fs.operations() + operations;
        let seed = at;
        machine.fs.set_fault(Some(Fault { at, kind: FaultKind::Io, sticky: true, seed }));
        let now = self.now_at(node);
        let machine = &mut self.machines[node];
        let (files, options) = (&self.options.files, &self.options.node);
        let opened = process::open(&machine.fs, machine.id, &self.ring, options, files, now);
        if machine.fs.operations() > at {
            let fs = machine.fs.crash(crash);
            drop(opened); // writes to the files that are given up
            machine.fs = fs;
            self.coverage.count("state: crash during recovery");
            self.trace.note(&[self.now_us, 3, node as u64]);
            self.remark(|| format!("{} loses power while it starts", name(node)));
            return Ok(true);
        }
        machine.fs.set_fault(None);
        drop(opened);
        self.start(node).map(|()| false)
    }

    /// Does what a server does now and then: makes a snapshot if one is due, and gives up old files of hints.
    pub fn keep_house(&mut self, node: usize, snapshot: bool) {
        let Some(process) = &self.machines[node].process else { return };
        if self.machines[node].paused_until_us > self.now_us {
            return;
        }
        let store = &process.local.store;
        if (snapshot || store.snapshot_due()) && store.snapshot().is_ok() {
            self.coverage.count("state: snapshot made");
        }
        if process.local.hints.maintain().is_ok_and(|more| more) {
            self.coverage.count("state: hints written again");
        }
        self.plan_turn(node, Which::Store);
        self.plan_turn(node, Which::Hints);
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
        while self.next_us().is_some_and(|at_us| at_us <= end_us) && !self.step() {}
        self.advance(end_us);
    }

    /// Lets the next thing happen. Says whether a client's request has ended with it.
    pub(crate) fn step(&mut self) -> bool {
        let before = self.answered.len();
        if let Some(Reverse(planned)) = self.agenda.pop() {
            self.advance(planned.at_us);
            self.at_this_time += 1;
            if self.at_this_time == MOST_EVENTS_AT_A_TIME {
                self.breaks("the cluster goes round in circles without time passing".to_owned());
                self.agenda.clear();
                return true;
            }
            self.happen(planned.what);
        }
        self.answered.len() > before
    }

    pub(crate) fn breaks(&mut self, what: String) {
        self.remark(|| format!("BROKEN: {what}"));
        self.broken.push(what);
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
                let until_us = machine.paused_until_us;
                return self.plan(until_us, what);
            }
        }
        match what {
            Happening::Ask { node, request, body } => self.take_request(node, request, *body),
            Happening::Arrive { connection, way, frame, corrupted } => {
                self.arrive(connection, way, frame, corrupted);
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

    fn take_request(&mut self, node: usize, request: u64, body: ClientRequest) {
        if self.machines[node].process.is_none() {
            return self.answer(request, Answer::Unreachable);
        }
        self.trace.note(&[self.now_us, 5, node as u64, request]);
        self.remark(|| format!("client → {} #{request} {}", name(node), describe_request(&body)));
        let due_us = self.now_us + micros(body.timeout) + LATENESS_US;
        self.open.insert(request, Open { node, due_us });
        self.report(node, Event::Client { request, body });
    }

    fn answer(&mut self, request: u64, answer: Answer) {
        self.answered.push(Answered { request, at: self.now(), answer });
    }

    fn arrive(&mut self, number: u64, way: Way, frame: Bytes, corrupted: bool) {
        let Some(connection) = self.network.connection(number).cloned() else { return };
        let (from, to) = match way {
            Way::ToAcceptor => (connection.dialer, connection.acceptor),
            Way::ToDialer => (connection.acceptor, connection.dialer),
        };
        // Whoever has no such connection answers with a reset; a machine without power does not answer.
        if self.machines[connection.acceptor].life != connection.acceptor_life {
            if self.machines[connection.acceptor].process.is_some() {
                self.lose(number);
            }
            return;
        }
        let mut buffer = frame.try_into_mut().unwrap_or_else(|frame| BytesMut::from(&frame[..]));
        let body = match next_frame(&mut buffer) {
            Ok(Some(body)) => body,
            Ok(None) | Err(_) => {
                self.coverage.count("state: corrupt frame caught");
                return self.lose(number);
            }
        };
        if corrupted {
            self.breaks("a frame that was changed on its way was taken for good".to_owned());
        }
        let message = match decode_message(&body) {
            Ok(message) => message,
            Err(error) => {
                self.breaks(format!("a node sent what its peer cannot read: {error}"));
                return self.lose(number);
            }
        };
        self.trace.note(&[self.now_us, 6, from as u64, to as u64, body.len() as u64]);
        self.remark(|| format!("{} → {} {}", name(from), name(to), describe_message(&message)));
        let is_request = matches!(message, Message::Request { .. });
        // What is not what it should be on this side of a connection is dropped, as a server does.
        if is_request != (way == Way::ToAcceptor) {
            return;
        }
        let via = if is_request { number } else { 0 };
        self.report(to, Event::Received { from: name(from), via, message });
        if is_request && self.network.resets() {
            self.coverage.count("fault: connection reset");
            self.lose(number);
        }
    }

    /// Ends a connection: whoever dialled it is told and dials again.
    fn lose(&mut self, number: u64) {
        let Some(connection) = self.network.disconnect(number) else { return };
        let (dialer, acceptor) = (connection.dialer, connection.acceptor);
        if self.machines[dialer].process.is_some() {
            self.trace.note(&[self.now_us, 7, dialer as u64, acceptor as u64]);
            self.remark(|| format!("{} has lost {}", name(dialer), name(acceptor)));
            self.report(dialer, Event::Lost { peer: name(acceptor) });
            self.plan_dial(dialer, acceptor, true);
        }
    }

    fn dial(&mut self, from: usize, life: u64, to: usize) {
        if self.machines[from].life != life
            || self.machines[from].process.is_none()
            || self.network.dialled(from, to).is_some()
        {
            return;
        }
        let there = &self.machines[to];
        let open = self.network.is_open(from, to) && self.network.is_open(to, from);
        let awake = there.process.is_some() && there.paused_until_us <= self.now_us;
        let incarnation = there.process.as_ref().map(|process| process.node.writer().incarnation);
        let Some(incarnation) = incarnation.filter(|_| open && awake) else {
            self.report(from, Event::Lost { peer: name(to) });
            return self.plan_dial(from, to, true);
        };
        self.network.connect(from, to, there.life);
        self.trace.note(&[self.now_us, 8, from as u64, to as u64]);
        self.remark(|| format!("{} is connected to {}", name(from), name(to)));
        self.report(from, Event::Connected { peer: name(to), incarnation });
    }

    fn plan_dial(&mut self, from: usize, to: usize, after_failure: bool) {
        let wait = match after_failure {
            true => self.network.wait_before_dialling(from, to),
            false => self.network.delay(),
        };
        let life = self.machines[from].life;
        self.plan(self.now_us + micros(wait), Happening::Dial { from, life, to });
    }

    /// Reports an event to a node and carries out what it asks for.
    fn report(&mut self, node: usize, event: Event) {
        let now = self.now_at(node);
        // Out of its place meanwhile, so that everything else can be used.
        let Some(mut process) = self.machines[node].process.take() else { return };
        process.node.handle(event, now);
        let mut ends = None;
        while let Some(action) = process.node.poll_action() {
            if let Some((left, loss)) = &mut self.machines[node].ends_after_actions {
                if *left == 0 {
                    ends = Some(*loss);
                    break;
                }
                *left -= 1;
            }
            match action {
                Action::Send { to, message } => {
                    if !self.send(node, to, &message)
                        && let Message::Request { id, .. } = message
                    {
                        process.node.handle(Event::Unsent { to, id }, now);
                    }
                }
                Action::Respond { via, message } => self.transmit(via, Way::ToDialer, &message),
                Action::Store { id, request } => {
                    let which = match &request {
                        StoreRequest::PersistHint { .. } => Which::Hints,
                        _ => Which::Store,
                    };
                    if let StoreRequest::Apply { key, .. } = &request {
                        self.machines[node].applying.insert(id, key.clone());
                    }
                    match process.local.submit(id, request) {
                        Some(reply) => {
                            self.machines[node].applying.remove(&id);
                            process.node.handle(Event::Store { id, reply }, now);
                        }
                        None => self.plan_turn_of(node, &mut process.turns, which),
                    }
                }
                Action::ForgetHint { target, key, version } => {
                    process.local.forget_hint(target, &key, &version);
                    self.plan_turn_of(node, &mut process.turns, Which::Hints);
                }
                Action::Reply { request, reply } => self.replied(node, request, *reply),
                Action::Answer { .. } => {
                    self.breaks(format!("{} answers what nobody asked", name(node)));
                }
            }
        }
        self.machines[node].process = Some(process);
        match ends {
            Some(loss) => {
                self.coverage.count("state: crash between two actions");
                self.end(node, loss);
            }
            None => self.plan_wake(node),
        }
    }

    fn replied(&mut self, node: usize, request: u64, reply: ClientReply) {
        self.trace.note(&[self.now_us, 9, node as u64, request]);
        self.remark(|| format!("client ← {} #{request} {}", name(node), describe_reply(&reply)));
        let Some(open) = self.open.remove(&request) else {
            return self.breaks(format!("{} answers request #{request} twice", name(node)));
        };
        if self.now_us > open.due_us {
            let late_us = self.now_us - open.due_us + LATENESS_US;
            self.breaks(format!("{} answers request #{request} {late_us} µs late", name(node)));
        }
        self.answer(request, Answer::Reply(reply));
    }

    /// Sends a request to a peer; says whether there is a connection to it.
    fn send(&mut self, from: usize, to: NodeId, message: &Message) -> bool {
        let to = self.number_of(to);
        let number = to.and_then(|to| self.network.dialled(from, to));
        if let Some(number) = number {
            self.transmit(number, Way::ToAcceptor, message);
        }
        number.is_some()
    }

    fn transmit(&mut self, number: u64, way: Way, message: &Message) {
        let passages = self.network.send(number, way, self.now_us);
        if passages[0].is_none() {
            return self.coverage.count("fault: message lost");
        }
        let mut frame = Vec::new();
        if let Err(bytes) = encode_frame(message, &mut frame) {
            return self.breaks(format!("a node sends a message of {bytes} bytes"));
        }
        let frame = Bytes::from(frame);
        if passages[1].is_some() {
            self.coverage.count("fault: message doubled");
        }
        for passage in passages.into_iter().flatten() {
            let mut frame = frame.clone();
            if let Some(bit) = passage.flipped_bit {
                self.coverage.count("fault: message corrupted");
                let mut bytes = frame.to_vec();
                let bit = usize::try_from(bit % (bytes.len() as u64 * 8)).expect("in memory");
                bytes[bit / 8] ^= 1 << (bit % 8);
                frame = Bytes::from(bytes);
            }
            let corrupted = passage.flipped_bit.is_some();
            let slowness = self.slowness_at_the_end(number, way);
            let at_us = passage.arrives_us + 200 * u64::from(slowness - 1);
            self.plan(at_us, Happening::Arrive { connection: number, way, frame, corrupted });
        }
    }

    fn slowness_at_the_end(&self, number: u64, way: Way) -> u32 {
        self.network.connection(number).map_or(1, |connection| {
            let end = match way {
                Way::ToAcceptor => connection.acceptor,
                Way::ToDialer => connection.dialer,
            };
            self.machines[end].slowness
        })
    }

    fn turn(&mut self, node: usize, life: u64, which: Which) {
        let machine = &mut self.machines[node];
        if machine.life != life {
            return;
        }
        let Some(process) = &mut machine.process else { return };
        process.turns[which as usize] = false;
        let power = machine.power_fails_after_operations;
        let at = machine.fs.operations() + power.map_or(0, |(operations, _)| operations);
        if power.is_some() {
            machine.fs.set_fault(Some(Fault { at, kind: FaultKind::Io, sticky: true, seed: at }));
        }
        let time = Duration::from_micros(self.now_us);
        let again = match which {
            Which::Store => process.local.store.turn(time),
            Which::Hints => process.local.hints.turn(time),
        };
        if let Some((_, crash)) = power {
            if machine.fs.operations() > at {
                self.coverage.count("state: power lost within a turn");
                return self.end(node, Loss::Power(crash));
            }
            machine.fs.set_fault(None);
            machine.power_fails_after_operations = Some((at - machine.fs.operations(), crash));
        }
        let replies = process.local.take_replies();
        if let Some(again) = again {
            process.turns[which as usize] = true;
            self.plan(micros(again).max(self.now_us), Happening::Turn { node, life, which });
        }
        self.trace.note(&[self.now_us, 10, node as u64, which as u64, replies.len() as u64]);
        for (id, reply) in replies {
            if self.machines[node].life != life {
                return; // it has ended over one of the replies before
            }
            self.applied(node, id, &reply);
            self.report(node, Event::Store { id, reply });
        }
    }

    /// A replica that has answered for a version holds it or a greater one from then on.
    fn applied(&mut self, node: usize, id: u64, reply: &StoreReply) {
        let machine = &mut self.machines[node];
        let Some(key) = machine.applying.remove(&id) else { return };
        let stored =
            matches!(reply, StoreReply::Applied(PutOutcome::Stored | PutOutcome::Superseded(_)));
        let Some(process) = machine.process.as_ref().filter(|_| stored) else { return };
        let held = process.local.store.get(&key).map(|record| record.version);
        let before = machine.answered_for.get(&key).copied();
        if held < before || held.is_none() {
            let node = name(node);
            return self.breaks(format!("{node} held {before:?} of {key:?} and now {held:?}"));
        }
        if let Some(held) = held {
            machine.answered_for.insert(key, held);
        }
    }

    fn check_answered_for(&mut self, node: usize) {
        let machine = &self.machines[node];
        let Some(process) = &machine.process else { return };
        let lost = machine.answered_for.iter().find(|(key, version)| {
            process.local.store.get(key).is_none_or(|record| record.version < **version)
        });
        if let Some((key, version)) = lost {
            let what = format!("{} has lost {key:?} of version {version}", name(node));
            self.breaks(what);
        }
    }

    fn plan_turn(&mut self, node: usize, which: Which) {
        let Some(mut process) = self.machines[node].process.take() else { return };
        self.plan_turn_of(node, &mut process.turns, which);
        self.machines[node].process = Some(process);
    }

    fn plan_turn_of(&mut self, node: usize, turns: &mut [bool; 2], which: Which) {
        if std::mem::replace(&mut turns[which as usize], true) {
            return;
        }
        let mut takes = self.disk.span(self.options.sync_time) * self.machines[node].slowness;
        if self.disk.chance(self.options.slow_turn) {
            self.coverage.count("fault: slow disk");
            takes += self.disk.span(Duration::from_secs(1)).min(Duration::from_secs(5));
        }
        let life = self.machines[node].life;
        let at_us = self.now_us + 20 + micros(takes);
        self.plan(at_us, Happening::Turn { node, life, which });
    }

    fn plan_wake(&mut self, node: usize) {
        let (origin, now_us) = (self.origin, self.now_us);
        let machine = &mut self.machines[node];
        let life = machine.life;
        let Some(process) = &mut machine.process else { return };
        let Some(wake) = process.node.next_wake() else { return };
        let at_us = rounded_up(wake.saturating_duration_since(origin)).max(now_us);
        if process.wake_us.is_none_or(|planned_us| at_us < planned_us) {
            process.wake_us = Some(at_us);
            self.plan(at_us, Happening::Wake { node, life });
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

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.number).cmp(&(other.at_us, other.number))
    }
}

/// Nobody is woken too early: a timer that is found not to be due would be waited for again at once.
fn rounded_up(span: Duration) -> u64 {
    micros(span) + u64::from(span.subsec_nanos() % 1000 > 0)
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "the instant from which virtual time counts")]
fn some_instant() -> Instant {
    Instant::now()
}
