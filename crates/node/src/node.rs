use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use quorate_hints::HintBook;
use quorate_membership::{Membership, MembershipAction, PeerState};
use quorate_quorum::Failure;
use quorate_record::{HintSummary, HybridClock, NodeId, Timestamp, Writer};
use quorate_ring::Ring;

use crate::{
    Action, Counters, Event, NodeOptions, Notes, Now, PutOutcome, Refusal, Request, Response,
    admission::Admission,
    call::Call,
    handoff::{self, HintWaiter},
    heal::Heal,
    hedge::HedgePolicy,
    horizon::Sweep,
    ids::IdMap,
    lives::{Keeper, Lives},
    owners::OwnersWait,
    parked::Parked,
    peers::PeerFacts,
    queue::Queue,
    read::Read,
    rebuild::Rebuild,
    reconcile::Reconcile,
    serve::{MergeBatch, Origin, StoreWaiter},
    write::Write,
};

/// One replica and coordinator: everything of a Quorate node that decides.
///
/// Report what happens with [`handle`](Self::handle), then carry out what
/// [`poll_action`](Self::poll_action) gives until it is empty, and report [`Event::Woken`] at
/// [`next_wake`](Self::next_wake). Nothing here blocks, reads a clock or draws a random number, so
/// the same events give the same actions.
///
/// The node asks itself like any other replica: its own part in a request takes the same path as a
/// peer's, except that it does not leave the machine.
#[derive(Debug)]
pub struct Node {
    pub(crate) id: NodeId,
    pub(crate) options: NodeOptions,
    pub(crate) ring: Ring<NodeId>,
    pub(crate) clock: HybridClock,
    pub(crate) membership: Membership<NodeId>,
    pub(crate) peers: BTreeMap<NodeId, PeerFacts>,
    pub(crate) behind: BTreeSet<NodeId>,
    pub(crate) hints: HintBook,
    pub(crate) hint_offers: IdMap<HintWaiter>,
    pub(crate) hint_waiters: IdMap<Vec<(HintWaiter, PutOutcome)>>,
    pub(crate) hedge: HedgePolicy,
    pub(crate) admission: Admission,
    pub(crate) queue: Queue,
    pub(crate) reconcile: Reconcile,
    pub(crate) heal: Heal,
    pub(crate) writes: IdMap<Box<Write>>,
    pub(crate) reads: IdMap<Box<Read>>,
    pub(crate) owners_waits: IdMap<OwnersWait>,
    pub(crate) parked: VecDeque<Parked>,
    pub(crate) reserving: bool,
    pub(crate) calls: IdMap<Call>,
    pub(crate) store_waiters: IdMap<StoreWaiter>,
    pub(crate) merges: IdMap<MergeBatch>,
    pub(crate) counters: Counters,
    pub(crate) keeper: Keeper,
    pub(crate) lives: Lives,
    pub(crate) rebuild: Rebuild,
    pub(crate) sweep: Sweep,
    timers: BTreeSet<(Instant, Timer)>,
    inbox: VecDeque<Inner>,
    actions: VecDeque<Action>,
    next_id: u64,
}

/// How often the horizon is looked at where nothing is compared by itself.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Whose time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Write(u64),
    Read(u64),
    Owners(u64),
    Parked(u64),
    Queued(u64),
    Call(u64),
}

/// What the node tells itself; taken up when the present step is over, so that no machine is
/// entered twice.
#[derive(Debug)]
pub(crate) enum Inner {
    Asked { call: u64, body: Request },
    Answered { call: u64, response: Response },
    Unsent { call: u64 },
    Hinted { waiter: HintWaiter, outcome: PutOutcome },
}

impl Node {
    /// A node that starts, or starts again.
    ///
    /// `ceiling` is the greatest clock ceiling that was ever persisted, `notes` the last that were, `hints` what the hint
    /// queue holds, counted.
    ///
    /// # Panics
    /// If the ring does not have `writer.node`.
    #[must_use]
    pub fn new(
        writer: Writer,
        ring: Ring<NodeId>,
        options: NodeOptions,
        ceiling: Timestamp,
        notes: Notes,
        hints: &HintSummary,
        now: Now,
    ) -> Self {
        let id = writer.node;
        let ids: Vec<NodeId> = ring.nodes().iter().map(|node| node.id).collect();
        assert!(ids.contains(&id), "the ring has no node {id}");
        let peers: Vec<NodeId> = ids.into_iter().filter(|&peer| peer != id).collect();
        let sweep_every = options.anti_entropy_interval.unwrap_or(SWEEP_EVERY);
        let mut node = Self {
            id,
            clock: HybridClock::new(writer, ceiling, options.max_clock_skew_ms),
            membership: Membership::new(peers, options.membership, now.instant),
            peers: BTreeMap::new(),
            behind: BTreeSet::new(),
            hints: handoff::book(id, &options, hints, now),
            hint_offers: IdMap::default(),
            hint_waiters: IdMap::default(),
            hedge: HedgePolicy::new(),
            admission: Admission::new(options.max_in_flight, options.target_latency),
            queue: Queue::default(),
            reconcile: Reconcile::new(id, &ring, &options, now.instant),
            heal: Heal::default(),
            writes: IdMap::default(),
            reads: IdMap::default(),
            owners_waits: IdMap::default(),
            parked: VecDeque::new(),
            reserving: false,
            calls: IdMap::default(),
            store_waiters: IdMap::default(),
            merges: IdMap::default(),
            counters: Counters::default(),
            lives: Lives::new(writer.incarnation, &notes),
            keeper: Keeper::new(notes),
            rebuild: Rebuild::default(),
            sweep: Sweep::new(sweep_every, now.instant),
            timers: BTreeSet::new(),
            inbox: VecDeque::new(),
            actions: VecDeque::new(),
            next_id: 0,
            ring,
            options,
        };
        node.run_rebuild(now);
        node
    }

    /// Takes in one event.
    pub fn handle(&mut self, event: Event, now: Now) {
        match event {
            Event::Client { request, body } => self.begin(request, body, now),
            Event::Direct { request, body } => self.serve(Origin::Outside { request }, body, now),
            Event::Received { from, via, message } => self.received(from, via, message, now),
            Event::Gone { node } => self.declare_gone(node, now),
            Event::Unsent { to, id } => self.unsent(to, id, now),
            Event::Unspoken { to, id } => {
                self.answered(to, id, Response::Refused(Refusal::Malformed), now);
            }
            Event::Connected { peer, incarnation } => self.met(peer, incarnation, now),
            Event::Lost { peer } => self.lost(peer, now),
            Event::Store { id, reply } => self.store_replied(id, reply, now),
            Event::Damaged { tokens } => self.note_damaged(tokens, now),
            Event::Woken => self.woken(now),
            Event::Lagged { by } => self.admission.lagged(by),
        }
        self.settle(now);
    }

    /// The next thing to do; `None` until another event has been handled.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to report [`Event::Woken`]; may lie in the past. `None` while nothing waits for time.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|&(at, _)| at);
        let others = [self.rebuild.next_wake(), self.sweep.next_wake(), self.reconcile.next_wake()];
        [timer, self.membership.next_wake(), self.hints.next_wake()]
            .into_iter()
            .chain(others)
            .flatten()
            .min()
    }

    /// Lets everything run that needs no further event.
    fn settle(&mut self, now: Now) {
        loop {
            while let Some(inner) = self.inbox.pop_front() {
                match inner {
                    Inner::Asked { call, body } => self.serve(Origin::Own { call }, body, now),
                    Inner::Answered { call, response } => {
                        self.answered(self.id, call, response, now);
                    }
                    Inner::Unsent { call } => self.call_failed(call, Some(Failure::Refused), now),
                    Inner::Hinted { waiter, outcome } => self.hinted(waiter, outcome, now),
                }
            }
            self.run_queue(now);
            self.run_membership(now);
            self.run_hints(now);
            self.run_sweep(now);
            self.run_exchanges(now);
            self.run_heal(now);
            if self.inbox.is_empty() {
                return;
            }
        }
    }

    fn run_membership(&mut self, now: Now) {
        while let Some(action) = self.membership.poll_action() {
            match action {
                MembershipAction::Ping { peer } => self.ask_standing(peer),
                MembershipAction::Changed { peer, to, .. } => {
                    match to {
                        PeerState::Up => self.hints.target_up(peer, now.instant),
                        PeerState::Down => self.hints.target_down(peer),
                        PeerState::Suspect => {}
                    }
                    self.compare_clocks();
                }
            }
        }
    }

    fn woken(&mut self, now: Now) {
        while let Some(&(at, timer)) = self.timers.first() {
            if at > now.instant {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::Write(id) => self.write_timer_fired(id, now),
                Timer::Read(id) => self.read_timer_fired(id, now),
                Timer::Owners(id) => self.owners_timer_fired(id, now),
                Timer::Parked(id) => self.parked_too_long(id),
                Timer::Queued(id) => self.queued_too_long(id),
                Timer::Call(id) => self.call_failed(id, None, now),
            }
        }
        self.membership.tick(now.instant);
        self.run_rebuild(now);
        self.hints.tick(now.instant, now.wall_ms);
    }

    pub(crate) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// Later, when the present step is over.
    pub(crate) fn defer(&mut self, inner: Inner) {
        self.inbox.push_back(inner);
    }

    pub(crate) fn set_timer(&mut self, at: Instant, timer: Timer) {
        if planted!(TimerLost) {
            self.timers.retain(|(other, _)| *other != at);
        }
        self.timers.insert((at, timer));
    }

    pub(crate) fn clear_timer(&mut self, at: Instant, timer: Timer) {
        self.timers.remove(&(at, timer));
    }

    pub(crate) fn is_down(&self, node: NodeId) -> bool {
        self.membership.state(node) == Some(PeerState::Down) || buggify!(LooksDown)
    }
}
