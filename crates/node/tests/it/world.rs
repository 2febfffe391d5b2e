//! A small cluster in one thread: perfect disks, virtual time, links that a test may cut.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quorate_hints::hint_bytes;
use quorate_node::{
    Action, ClientReply, ClientRequest, Event, GroupSketch, Message, Node, NodeOptions, Notes, Now,
    Operation, PutOutcome, Refusal, Request, Response, Sketch, StoreReply, StoreRequest, Symbol,
};
use quorate_quorum::{PutReceipt, Quorum};
use quorate_record::{
    Digest, Hint, HintKind, HintSummary, HintsFound, HintsHeld, Key, NodeId, Record, Timestamp,
    Version, Writer,
};
use quorate_ring::{Ring, RingNode};

const START_MS: u64 = 1_700_000_000_000;
const LINK_DELAY: Duration = Duration::from_millis(1);
/// The deadline of every request.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(800);

pub(crate) struct World {
    nodes: BTreeMap<NodeId, Machine>,
    replies: BTreeMap<u64, Vec<ClientReply>>,
    in_flight: VecDeque<(Instant, NodeId, Event)>,
    cut: BTreeSet<NodeId>,
    without_sketches: BTreeSet<NodeId>,
    now: Instant,
    started: Instant,
    next_request: u64,
    link_delay: Duration,
    records_found: usize,
    renewals: Vec<(NodeId, String)>,
    options: NodeOptions,
    ring: Ring<NodeId>,
}

struct Machine {
    node: Option<Node>,
    disk: Disk,
    clock_offset_ms: i64,
    read_delay: Duration,
}

/// Keeps everything; full when told so.
#[derive(Clone)]
pub(crate) struct Disk {
    /// The incarnation that the node is in.
    life: u64,
    notes: Notes,
    frames: u64,
    records: BTreeMap<Key, Record>,
    hints: BTreeMap<(NodeId, Key), Hint>,
    ceiling: Option<Timestamp>,
    /// Whose records cannot be read.
    damaged: BTreeSet<Key>,
    full: bool,
    /// There is room for hints only.
    store_full: bool,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            life: 1,
            notes: Notes::default(),
            frames: 0,
            records: BTreeMap::new(),
            hints: BTreeMap::new(),
            ceiling: None,
            damaged: BTreeSet::new(),
            full: false,
            store_full: false,
        }
    }
}

pub(crate) fn id(number: usize) -> NodeId {
    NodeId::new(&format!("n{number}")).expect("a good id")
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text.to_owned()).expect("a good key")
}

pub(crate) fn quorum(sloppy: bool) -> Quorum {
    Quorum::new(3, 2, 2, sloppy).expect("a good quorum")
}

pub(crate) fn without_anti_entropy() -> NodeOptions {
    NodeOptions { anti_entropy_interval: None, ..NodeOptions::default() }
}

#[track_caller]
pub(crate) fn written(reply: ClientReply) -> PutReceipt<NodeId, Version> {
    let ClientReply::Written(Ok(receipt)) = reply else { panic!("{reply:?}") };
    receipt
}

#[expect(clippy::disallowed_methods, reason = "the one instant from which virtual time counts")]
fn some_instant() -> Instant {
    Instant::now()
}

impl World {
    /// `nodes` nodes n1, n2, …, three owners a key, all connected and settled.
    pub(crate) fn new(nodes: usize, options: NodeOptions) -> Self {
        let ids = (1..=nodes).map(|number| RingNode::new(id(number))).collect();
        let ring = Ring::new(ids, 64, 3).expect("a good ring");
        let now = some_instant();
        let mut world = Self {
            nodes: BTreeMap::new(),
            replies: BTreeMap::new(),
            in_flight: VecDeque::new(),
            cut: BTreeSet::new(),
            without_sketches: BTreeSet::new(),
            now,
            started: now,
            next_request: 0,
            link_delay: LINK_DELAY,
            records_found: 0,
            renewals: Vec::new(),
            options,
            ring,
        };
        for number in 1..=nodes {
            let machine = Machine {
                node: None,
                disk: Disk::default(),
                clock_offset_ms: 0,
                read_delay: Duration::ZERO,
            };
            world.nodes.insert(id(number), machine);
        }
        for number in 1..=nodes {
            world.start(id(number));
        }
        for _ in 0..100 {
            world.run(Duration::from_millis(50));
            if world.running().all(|(_, node)| node.is_settled()) {
                return world;
            }
        }
        panic!("the nodes of a new cluster do not find out that they are new");
    }

    pub(crate) fn ring(&self) -> &Ring<NodeId> {
        &self.ring
    }

    pub(crate) fn node(&self, node: NodeId) -> &Node {
        self.nodes[&node].node.as_ref().expect("it is running")
    }

    /// How long every message takes from now on.
    pub(crate) fn set_link_delay(&mut self, delay: Duration) {
        self.link_delay = delay;
    }

    /// Has everybody speak an older version of the protocol with a node.
    pub(crate) fn make_old(&mut self, node: NodeId) {
        self.without_sketches.insert(node);
    }

    /// How many records have crossed the network as answers to reads.
    pub(crate) fn records_found(&self) -> usize {
        self.records_found
    }

    pub(crate) fn held(&self, node: NodeId, key: &Key) -> Option<&Record> {
        self.nodes[&node].disk.records.get(key)
    }

    pub(crate) fn count(&self, node: NodeId) -> usize {
        self.nodes[&node].disk.records.len()
    }

    pub(crate) fn plant(&mut self, node: NodeId, key: Key, record: Record) {
        self.machine(node).disk.records.insert(key, record);
    }

    /// How long a node's disk takes to find a record from now on.
    pub(crate) fn set_read_delay(&mut self, node: NodeId, delay: Duration) {
        self.machine(node).read_delay = delay;
    }

    /// Makes what a node holds for a key unreadable, until it is written anew.
    pub(crate) fn damage(&mut self, node: NodeId, key: Key) {
        self.machine(node).disk.damaged.insert(key);
    }

    /// Tells a node of all records that it cannot read.
    pub(crate) fn report_damage(&mut self, node: NodeId) {
        let damaged = &self.nodes[&node].disk.damaged;
        let tokens = damaged.iter().map(|key| quorate_ring::token(key.as_bytes())).collect();
        self.report(node, Event::Damaged { tokens });
    }

    /// Tells a node that its driver is slow to get to what is ready.
    pub(crate) fn lag(&mut self, node: NodeId, by: Duration) {
        self.report(node, Event::Lagged { by });
    }

    pub(crate) fn expect_refill(&mut self, node: NodeId, segments: u64) {
        self.machine(node).node.as_mut().expect("it is running").expect_refill(segments);
    }

    pub(crate) fn is_damaged(&self, node: NodeId, key: &Key) -> bool {
        self.nodes[&node].disk.damaged.contains(key)
    }

    pub(crate) fn fill_disk(&mut self, node: NodeId, full: bool) {
        self.machine(node).disk.full = full;
    }

    pub(crate) fn fill_store(&mut self, node: NodeId, full: bool) {
        self.machine(node).disk.store_full = full;
    }

    pub(crate) fn set_clock(&mut self, node: NodeId, offset_ms: i64) {
        self.machine(node).clock_offset_ms = offset_ms;
    }

    /// Ends a node's process; its disk stays.
    pub(crate) fn kill(&mut self, node: NodeId) {
        self.machine(node).node = None;
        self.in_flight.retain(|(_, to, _)| *to != node);
        for other in self.others(node) {
            self.report(other, Event::Lost { peer: node });
        }
    }

    pub(crate) fn start(&mut self, node: NodeId) {
        let now = self.now_at(node);
        let machine = &self.nodes[&node];
        let hints = machine.disk.hint_summary();
        let ceiling = machine.disk.ceiling.unwrap_or(Timestamp::ZERO);
        let incarnation = machine.disk.life;
        let writer = Writer { node, incarnation };
        let notes = machine.disk.notes.clone();
        let options = self.options.clone();
        let started = Node::new(writer, self.ring.clone(), options, ceiling, notes, &hints, now);
        self.machine(node).node = Some(started);
        self.report(node, Event::Woken);
        for other in self.others(node) {
            if self.nodes[&other].node.is_some() && !self.cut.contains(&other) {
                let life = self.nodes[&other].disk.life;
                self.report(other, Event::Connected { peer: node, incarnation });
                self.report(node, Event::Connected { peer: other, incarnation: life });
            }
        }
    }

    /// Takes a node's disk away while it is down, so that it starts in another life.
    pub(crate) fn wipe(&mut self, node: NodeId) {
        let life = self.nodes[&node].disk.life + 1;
        self.machine(node).disk = Disk { life, ..Disk::default() };
    }

    /// What a node's disk holds, to be put back some time.
    pub(crate) fn copy_disk(&self, node: NodeId) -> Disk {
        self.nodes[&node].disk.clone()
    }

    /// Puts an old copy in the place of a node's disk while it is down.
    pub(crate) fn restore_disk(&mut self, node: NodeId, disk: Disk) {
        self.machine(node).disk = disk;
    }

    /// Tells a node that another one will never come back.
    pub(crate) fn declare_gone(&mut self, at: NodeId, node: NodeId) {
        self.report(at, Event::Gone { node });
    }

    /// What a node has asked to be started anew for.
    pub(crate) fn renewals(&self) -> &[(NodeId, String)] {
        &self.renewals
    }

    pub(crate) fn horizon(&self, node: NodeId) -> Timestamp {
        self.nodes[&node].disk.notes.horizon
    }

    /// Swallows what is sent to and from a node, without a word (a stopped process, a dead switch).
    pub(crate) fn cut(&mut self, node: NodeId) {
        self.cut.insert(node);
    }

    pub(crate) fn mend(&mut self, node: NodeId) {
        self.cut.remove(&node);
    }

    pub(crate) fn put(
        &mut self,
        at: NodeId,
        key: &str,
        value: &str,
        quorum: Quorum,
    ) -> ClientReply {
        let operation = Operation::Put(Bytes::copy_from_slice(value.as_bytes()));
        self.ask(at, key, operation, quorum, false)
    }

    pub(crate) fn delete(&mut self, at: NodeId, key: &str, quorum: Quorum) -> ClientReply {
        self.ask(at, key, Operation::Delete, quorum, false)
    }

    pub(crate) fn get(&mut self, at: NodeId, key: &str, quorum: Quorum) -> ClientReply {
        self.ask(at, key, Operation::Get, quorum, false)
    }

    /// Does something atomically, as far as a strict majority goes.
    pub(crate) fn atomically(
        &mut self,
        at: NodeId,
        key: &str,
        operation: Operation,
    ) -> ClientReply {
        self.ask(at, key, operation, quorum(false), true)
    }

    /// Asks and runs until there is an answer.
    fn ask(
        &mut self,
        at: NodeId,
        key: &str,
        operation: Operation,
        quorum: Quorum,
        atomic: bool,
    ) -> ClientReply {
        let (key, timeout) = (self::key(key), TIMEOUT);
        let wait_for_owners = false;
        let body = ClientRequest { key, operation, quorum, atomic, wait_for_owners, timeout };
        let request = self.begin(at, body);
        self.answer_to(request)
    }

    /// Begins a write whose answer waits for all owners.
    pub(crate) fn begin_put_to_owners(&mut self, at: NodeId, key: &str, value: &str) -> u64 {
        let operation = Operation::Put(Bytes::copy_from_slice(value.as_bytes()));
        let (key, quorum, timeout) = (self::key(key), quorum(true), TIMEOUT);
        let body =
            ClientRequest { key, operation, quorum, atomic: false, wait_for_owners: true, timeout };
        self.begin(at, body)
    }

    /// Begins a write of so many bytes that is answered as usual.
    pub(crate) fn begin_put(
        &mut self,
        at: NodeId,
        key: &str,
        bytes: usize,
        timeout: Duration,
    ) -> u64 {
        let (key, operation) = (self::key(key), Operation::Put(vec![0; bytes].into()));
        let (quorum, atomic, wait_for_owners) = (quorum(false), false, false);
        self.begin(at, ClientRequest { key, operation, quorum, atomic, wait_for_owners, timeout })
    }

    fn begin(&mut self, at: NodeId, body: ClientRequest) -> u64 {
        self.next_request += 1;
        let request = self.next_request;
        self.report(at, Event::Client { request, body });
        request
    }

    /// Whether a request that was begun is answered.
    pub(crate) fn is_answered(&self, request: u64) -> bool {
        self.replies.contains_key(&request)
    }

    /// Lets time pass while a request is open.
    pub(crate) fn run_open(&mut self, span: Duration) {
        let end = self.now + span;
        while self.next_at().is_some_and(|at| at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Runs until there is an answer.
    pub(crate) fn answer_to(&mut self, request: u64) -> ClientReply {
        let answered_by = self.now + TIMEOUT + Duration::from_millis(100);
        while !self.replies.contains_key(&request) && self.now < answered_by {
            self.step();
        }
        let replies = self.replies.remove(&request).expect("every request is answered in time");
        assert_eq!(replies.len(), 1, "answered more than once");
        replies.into_iter().next().expect("just counted")
    }

    /// Lets virtual time pass.
    pub(crate) fn run(&mut self, span: Duration) {
        self.run_open(span);
        assert!(self.replies.is_empty(), "an answer nobody asked for");
    }

    fn next_at(&self) -> Option<Instant> {
        let message = self.in_flight.front().map(|(at, ..)| *at);
        let timer = self.running().filter_map(|(_, node)| node.next_wake()).min();
        [message, timer].into_iter().flatten().min().map(|at| at.max(self.now))
    }

    fn running(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().filter_map(|(&id, machine)| Some((id, machine.node.as_ref()?)))
    }

    fn step(&mut self) {
        self.now = self.next_at().expect("pings never end");
        while self.in_flight.front().is_some_and(|(at, ..)| *at <= self.now) {
            if let Some((_, to, event)) = self.in_flight.pop_front() {
                self.report(to, event);
            }
        }
        let due: Vec<NodeId> = self
            .running()
            .filter(|(_, node)| node.next_wake().is_some_and(|at| at <= self.now))
            .map(|(id, _)| id)
            .collect();
        for id in due {
            self.report(id, Event::Woken);
        }
    }

    fn report(&mut self, to: NodeId, event: Event) {
        let now = self.now_at(to);
        let Some(machine) = self.nodes.get_mut(&to) else { return };
        let Some(node) = &mut machine.node else { return };
        node.handle(event, now);
        let (mut sent, mut late) = (Vec::new(), Vec::new());
        while let Some(action) = node.poll_action() {
            match action {
                Action::Send { to: peer, message } => sent.push((peer, message)),
                // Connections are numbered after the node that opened them.
                Action::Respond { via, message } => {
                    let peer = id(usize::try_from(via).expect("a node's number"));
                    sent.push((peer, message));
                }
                Action::Store { id, request: request @ StoreRequest::Get { .. } }
                    if !machine.read_delay.is_zero() =>
                {
                    let reply = machine.disk.submit(request);
                    late.push((now.instant + machine.read_delay, Event::Store { id, reply }));
                }
                Action::Store { id, request } => {
                    let reply = machine.disk.submit(request);
                    node.handle(Event::Store { id, reply }, now);
                }
                Action::ForgetHint { target, key, version } => {
                    let held = machine.disk.hints.get(&(target, key.clone()));
                    if held.is_some_and(|hint| hint.record.version <= version) {
                        machine.disk.hints.remove(&(target, key));
                    }
                }
                Action::Reply { request, reply } => {
                    self.replies.entry(request).or_default().push(*reply);
                }
                Action::Renew { above, why } => {
                    machine.disk.life = above.max(machine.disk.life) + 1;
                    self.renewals.push((to, why));
                }
                Action::Answer { .. } => panic!("nobody asked directly"),
            }
        }
        for (at, event) in late {
            self.report_at(at, to, event);
        }
        for (peer, message) in sent {
            self.send(to, peer, message);
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        if self.cut.contains(&from) || self.cut.contains(&to) {
            return;
        }
        if self.nodes[&to].node.is_none() {
            if let Message::Request { id, .. } = message {
                self.report(from, Event::Unsent { to, id });
            }
            return;
        }
        if [from, to].iter().any(|node| self.without_sketches.contains(node))
            && let Message::Request { id, body: Request::Overview { .. }, .. } = message
        {
            self.report(from, Event::Unspoken { to, id });
            return;
        }
        if let Message::Response { body: Response::Found(Some(_)), .. } = message {
            self.records_found += 1;
        }
        let via = from.as_str()[1..].parse().expect("named after its number");
        let at = self.now + self.link_delay;
        self.report_at(at, to, Event::Received { from, via, message });
    }

    /// What comes at the same time comes in the order in which it was sent.
    fn report_at(&mut self, at: Instant, to: NodeId, event: Event) {
        let place = self.in_flight.partition_point(|(other, ..)| *other <= at);
        self.in_flight.insert(place, (at, to, event));
    }

    fn now_at(&self, node: NodeId) -> Now {
        let passed = self.now.saturating_duration_since(self.started).as_millis();
        let true_ms = START_MS + u64::try_from(passed).expect("short runs");
        let wall_ms = true_ms.saturating_add_signed(self.nodes[&node].clock_offset_ms);
        Now { instant: self.now, wall_ms }
    }

    fn machine(&mut self, node: NodeId) -> &mut Machine {
        self.nodes.get_mut(&node).expect("a node of this cluster")
    }

    fn others(&self, node: NodeId) -> Vec<NodeId> {
        self.nodes.keys().copied().filter(|&other| other != node).collect()
    }
}

impl Disk {
    fn submit(&mut self, request: StoreRequest) -> StoreReply {
        match request {
            StoreRequest::Apply { .. } if self.full || self.store_full => {
                StoreReply::Applied(PutOutcome::Refused(Refusal::DiskFull))
            }
            StoreRequest::ReserveClock { .. }
            | StoreRequest::PersistHint { .. }
            | StoreRequest::KeepNotes { .. }
                if self.full =>
            {
                StoreReply::Persisted(Err(Refusal::DiskFull))
            }
            StoreRequest::KeepNotes { notes } => {
                self.frames += 1;
                self.notes = notes;
                StoreReply::Persisted(Ok(()))
            }
            StoreRequest::Progress => StoreReply::Counted(self.frames),
            StoreRequest::CountTombstones => {
                let tombstones = self.records.values().filter(|record| record.is_tombstone());
                StoreReply::Counted(tombstones.count() as u64)
            }
            StoreRequest::DropTombstones { .. } => {
                let horizon = self.notes.horizon;
                self.records.retain(|_, record| {
                    !record.is_tombstone() || record.version.timestamp >= horizon
                });
                StoreReply::Dropped { next: None }
            }
            StoreRequest::Apply { key, record, floor, horizon } => {
                let (held, timestamp) = (self.records.get(&key), record.version.timestamp);
                let is_too_old = timestamp < floor || (held.is_none() && timestamp < horizon);
                if held.is_none_or(|held| *held < record) && is_too_old {
                    return StoreReply::Applied(PutOutcome::Below(floor.max(horizon)));
                }
                self.frames += 1;
                if self.records.get(&key).is_none_or(|held| record >= *held) {
                    self.damaged.remove(&key);
                }
                let held = self.records.entry(key).or_insert_with(|| record.clone());
                if record < *held {
                    return StoreReply::Applied(PutOutcome::Superseded(held.version));
                }
                *held = record;
                StoreReply::Applied(PutOutcome::Stored)
            }
            StoreRequest::ReserveClock { ceiling } => {
                self.ceiling = Some(ceiling);
                StoreReply::Persisted(Ok(()))
            }
            StoreRequest::PersistHint { hint } => {
                self.hints.insert((hint.target, hint.key.clone()), hint);
                StoreReply::Persisted(Ok(()))
            }
            StoreRequest::LookUpHint { target, key } => {
                StoreReply::Hint(Ok(self.hints.get(&(target, key)).cloned()))
            }
            StoreRequest::FindHint { key } => {
                let of_key = self.hints.values().filter(|hint| hint.key == key);
                let found = of_key.map(|hint| hint.record.clone()).max();
                StoreReply::Read(Response::Found(found))
            }
            StoreRequest::ReadHints { target, max_hints, .. } => {
                let chosen = self.hints.values().filter(|hint| hint.target == target);
                self.read_hints(chosen.take(max_hints))
            }
            StoreRequest::ReadCourtesies { added_until_ms, max_hints, .. } => {
                let chosen = self.hints.values().filter(|hint| {
                    hint.kind == HintKind::Courtesy && hint.added_ms <= added_until_ms
                });
                self.read_hints(chosen.take(max_hints))
            }
            StoreRequest::Get { key, .. } if self.damaged.contains(&key) => {
                StoreReply::Read(Response::Refused(Refusal::Damaged))
            }
            StoreRequest::Get { key, known } => {
                let found = self.records.get(&key).cloned();
                let is_known = known.is_some_and(|known| {
                    found.as_ref().is_some_and(|record| record.stamp() == known)
                });
                StoreReply::Read(if is_known {
                    Response::Version(known.map(|stamp| stamp.version))
                } else {
                    Response::Found(found)
                })
            }
            StoreRequest::Digests { sets } => {
                let digest = |ranges: &Vec<_>| {
                    let mut digest = Digest::default();
                    for (token, _, record) in self.within(ranges) {
                        digest.add(record.stamp().digest_hash(token));
                    }
                    digest
                };
                StoreReply::Read(Response::Digests(sets.iter().map(digest).collect()))
            }
            StoreRequest::Buckets { ranges } => {
                let mut digests: BTreeMap<u64, Digest> = BTreeMap::new();
                for range in &ranges {
                    (range.start() >> 52..=range.end() >> 52).for_each(|bucket| {
                        digests.entry(bucket).or_default();
                    });
                }
                for (token, _, record) in self.within(&ranges) {
                    let digest = digests.entry(token >> 52).or_default();
                    digest.add(record.stamp().digest_hash(token));
                }
                StoreReply::Read(Response::Digests(digests.into_values().collect()))
            }
            StoreRequest::Sketches { sets, cells } => {
                let group = |ranges: &Vec<_>| {
                    let mut group =
                        GroupSketch { digest: Digest::default(), sketch: Sketch::new(cells) };
                    for (token, _, record) in self.within(ranges) {
                        let hash = record.stamp().digest_hash(token);
                        let timestamp = record.version.timestamp.bits();
                        let is_tombstone = record.is_tombstone();
                        group.digest.add(hash);
                        group.sketch.add(&Symbol::hashed(token, timestamp, hash, is_tombstone));
                    }
                    group
                };
                StoreReply::Read(Response::Sketches(sets.iter().map(group).collect()))
            }
            StoreRequest::List { ranges, limit } => {
                let all = self.within(&ranges);
                let complete = all.len() <= limit;
                let items = all.into_iter().take(limit);
                let items = items.map(|(token, _, record)| (token, record.stamp())).collect();
                StoreReply::Read(Response::Listed { items, complete })
            }
            StoreRequest::Fetch { tokens, .. } => {
                let all = self.within(&[0..=u64::MAX]);
                let wanted = all.into_iter().filter(|(token, ..)| tokens.contains(token));
                let records = wanted.map(|(_, key, record)| (key.clone(), record.clone()));
                StoreReply::Read(Response::Fetched(records.collect()))
            }
        }
    }

    fn read_hints<'a>(&self, chosen: impl Iterator<Item = &'a Hint>) -> StoreReply {
        let hints = chosen.cloned().collect();
        let held = self.hint_summary();
        StoreReply::Hints(Ok(HintsFound { hints, held, ..HintsFound::default() }))
    }

    fn hint_summary(&self) -> HintSummary {
        let mut summary = HintSummary::default();
        for hint in self.hints.values() {
            let none = HintsHeld { count: 0, bytes: 0, oldest_added_ms: u64::MAX };
            let held = summary.targets.entry(hint.target).or_insert(none);
            held.count += 1;
            held.bytes += hint_bytes(hint);
            held.oldest_added_ms = held.oldest_added_ms.min(hint.added_ms);
        }
        let versions = self.hints.values().map(|hint| hint.record.version.timestamp);
        summary.oldest_version = versions.min();
        let courtesies = self.hints.values().filter(|hint| hint.kind == HintKind::Courtesy);
        summary.courtesies_from_ms = courtesies.map(|hint| hint.added_ms).min();
        summary
    }

    /// What can be read.
    fn within(&self, ranges: &[std::ops::RangeInclusive<u64>]) -> Vec<(u64, &Key, &Record)> {
        let token = |key: &Key| quorate_ring::token(key.as_bytes());
        let all = self.records.iter().filter(|(key, _)| !self.damaged.contains(key));
        let all = all.map(|(key, record)| (token(key), key, record));
        let mut inside: Vec<_> =
            all.filter(|(token, ..)| ranges.iter().any(|range| range.contains(token))).collect();
        inside.sort_by_key(|(token, ..)| *token);
        inside
    }
}
