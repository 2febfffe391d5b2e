//! How tombstones end: the floor, and the horizon that follows it.
//!
//! An owner asks every node for a report. Each raises its floor, below which it takes on nothing new, and says what the
//! oldest is that it may still hand over. Only then the owner compares with every co-owner; when all those exchanges
//! are complete it holds every acknowledged write below the least report, so what it lacks below that is deleted, and
//! a tombstone there hides nothing any more. No clock is trusted: a report is a promise about versions.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use quorate_membership::PeerState;
use quorate_record::{NodeId, Timestamp};

use crate::{
    Node, Now, Request, Response, StoreRequest,
    call::{Outcome, Waiter},
    lives::KeptFor,
    serve::{Origin, StoreWaiter},
};

/// A node that takes longer to report holds the horizon back until the next round.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// A round whose exchanges take longer is begun anew: what it could drop has become more.
const ROUND_TIMEOUT: Duration = Duration::from_secs(600);

/// How long others have between two goes of forgetting tombstones.
const PAUSE: Duration = Duration::from_millis(5);

/// The rounds in which the horizon rises.
#[derive(Debug)]
pub(crate) struct Sweep {
    interval: Duration,
    next_at: Instant,
    step: Step,
    rounds: u64,
}

#[derive(Debug)]
enum Step {
    Idle,
    Counting,
    Reporting {
        id: u64,
        missing: BTreeSet<NodeId>,
        least: Timestamp,
    },
    Comparing {
        id: u64,
        missing: BTreeSet<NodeId>,
        cut: Timestamp,
        until: Instant,
    },
    Raising,
    Dropping,
    /// Between two goes, for others to have theirs.
    Pausing {
        next: Option<u64>,
        until: Instant,
    },
}

/// How far a node is with forgetting what is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HorizonStatus {
    /// It takes on no new version below this.
    pub floor: Timestamp,
    /// Tombstones below this are forgotten.
    pub horizon: Timestamp,
    /// How many times the horizon has risen since the node started.
    pub rounds: u64,
    /// Nodes without whose report it cannot rise: they are not up.
    pub held_back_by: Vec<NodeId>,
}

impl Sweep {
    pub(crate) fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, next_at: now + interval, step: Step::Idle, rounds: 0 }
    }

    pub(crate) fn next_wake(&self) -> Option<Instant> {
        match self.step {
            Step::Idle => Some(self.next_at),
            Step::Comparing { until, .. } | Step::Pausing { until, .. } => Some(until),
            _ => None,
        }
    }

    fn rest(&mut self, now: Now) {
        self.step = Step::Idle;
        self.next_at = now.instant + self.interval;
    }

    /// Whom the round waits to be compared with.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = NodeId> {
        let missing = match &self.step {
            Step::Comparing { missing, .. } => Some(missing),
            _ => None,
        };
        missing.into_iter().flatten().copied()
    }
}

impl Node {
    /// How far this node is with forgetting what is deleted.
    #[must_use]
    pub fn horizon(&self) -> HorizonStatus {
        HorizonStatus {
            floor: self.keeper.durable.floor,
            horizon: self.keeper.durable.horizon,
            rounds: self.sweep.rounds,
            held_back_by: self.not_up().collect(),
        }
    }

    /// Below this, nothing held means deleted. A node that lost data cannot say so until it is filled again: it might
    /// have lost what it holds nothing of.
    pub(crate) fn horizon_in_force(&self) -> Timestamp {
        if self.is_settled() { self.keeper.durable.horizon } else { Timestamp::ZERO }
    }

    fn not_up(&self) -> impl Iterator<Item = NodeId> {
        let states = self.membership.iter();
        states.filter(|(_, state)| *state != PeerState::Up).map(|(id, _)| id)
    }

    pub(crate) fn run_sweep(&mut self, now: Now) {
        match &self.sweep.step {
            Step::Idle if now.instant >= self.sweep.next_at => {
                let is_pressed = self.admission.is_pressed(now.instant);
                if self.is_settled() && !is_pressed && self.not_up().next().is_none() {
                    self.sweep.step = Step::Counting;
                    self.store(StoreRequest::CountTombstones, StoreWaiter::Tombstones);
                } else {
                    self.sweep.rest(now);
                }
            }
            Step::Comparing { until, .. } if now.instant >= *until => self.sweep.rest(now),
            Step::Pausing { next, until } if now.instant >= *until => {
                let from = *next;
                self.sweep.step = Step::Dropping;
                self.store(StoreRequest::DropTombstones { from }, StoreWaiter::Dropped);
            }
            _ => {}
        }
    }

    pub(crate) fn tombstones_counted(&mut self, count: u64, now: Now) {
        if !matches!(self.sweep.step, Step::Counting) {
            return;
        }
        if count == 0 {
            return self.sweep.rest(now);
        }
        let nodes: BTreeSet<NodeId> = self.ring.nodes().iter().map(|node| node.id).collect();
        let id = self.fresh_id();
        let least = Timestamp::from_bits(u64::MAX);
        self.sweep.step = Step::Reporting { id, missing: nodes.clone(), least };
        for node in nodes {
            self.call_within(REPORT_TIMEOUT, node, Request::Report, Waiter::Report { id }, now);
        }
    }

    /// Somebody asks this node for a report.
    pub(crate) fn report(&mut self, origin: Origin, now: Now) {
        let head_ms = self.clock.last().wall_ms().max(now.wall_ms);
        let floor = Timestamp::from_wall_ms(head_ms.saturating_sub(self.grace_ms()));
        self.keeper.latest.floor = self.keeper.latest.floor.max(floor);
        if self.keeper.durable.floor < self.keeper.latest.floor {
            self.keep_notes(KeptFor::Report { origin });
        } else {
            self.answer_report(origin);
        }
    }

    /// How far below its clock the floor of this node stays, so that ordinary writes do not meet it.
    fn grace_ms(&self) -> u64 {
        if self.options.write_grace.is_zero() {
            return 0;
        }
        let offsets = self.peers.values().filter_map(|facts| facts.clock_offset_ms());
        let widest_ms = offsets.map(i64::unsigned_abs).max().unwrap_or(0);
        let grace_ms = u64::try_from(self.options.write_grace.as_millis()).unwrap_or(u64::MAX);
        grace_ms.saturating_add(2 * widest_ms.min(self.options.max_clock_skew_ms))
    }

    pub(crate) fn answer_report(&mut self, origin: Origin) {
        let floor = self.keeper.durable.floor;
        let oldest_hint = self.oldest_hint().unwrap_or(floor);
        self.respond(origin, Response::Reported(floor.min(oldest_hint)));
    }

    pub(crate) fn reported(&mut self, id: u64, from: NodeId, outcome: Outcome, now: Now) {
        let Step::Reporting { id: current, missing, least } = &mut self.sweep.step else { return };
        if *current != id {
            return;
        }
        let Ok(Response::Reported(told)) = outcome else { return self.sweep.rest(now) };
        missing.remove(&from);
        *least = told.min(*least);
        if !missing.is_empty() {
            return;
        }
        let cut = *least;
        if cut <= self.keeper.durable.horizon {
            return self.sweep.rest(now);
        }
        let id = self.fresh_id();
        let mut missing: BTreeSet<NodeId> = self.reconcile.co_owners().collect();
        if planted!(OldExchangeCounts) {
            missing.clear();
        }
        let until = now.instant + ROUND_TIMEOUT;
        self.sweep.step = Step::Comparing { id, missing, cut, until };
        self.raise_when_compared();
    }

    /// An exchange with `peer` has ended that had begun when ids were at `begun`.
    pub(crate) fn sweep_compared(&mut self, peer: NodeId, begun: u64) {
        if let Step::Comparing { id, missing, .. } = &mut self.sweep.step
            && begun > *id
        {
            missing.remove(&peer);
            self.raise_when_compared();
        }
    }

    fn raise_when_compared(&mut self) {
        let Step::Comparing { missing, cut, .. } = &self.sweep.step else { return };
        if missing.is_empty() {
            let latest = &mut self.keeper.latest;
            latest.horizon = latest.horizon.max(*cut);
            self.sweep.step = Step::Raising;
            self.keep_notes(KeptFor::Horizon);
        }
    }

    pub(crate) fn horizon_kept(&mut self, is_kept: bool, now: Now) {
        if !is_kept {
            return self.sweep.rest(now);
        }
        self.sweep.rounds += 1;
        self.sweep.step = Step::Dropping;
        self.store(StoreRequest::DropTombstones { from: None }, StoreWaiter::Dropped);
    }

    pub(crate) fn tombstones_dropped(&mut self, next: Option<u64>, now: Now) {
        match next {
            Some(_) => {
                self.sweep.step = Step::Pausing { next, until: now.instant + PAUSE };
            }
            None => self.sweep.rest(now),
        }
    }
}
