//! A node that lost data is filled again by its co-owners before it counts.
//!
//! It counts again for a key when, in its present life, it has completed an exchange with N−W+1 other owners that
//! counted, or with all others in any state: fewer than N−W+1 counting owners lack an acknowledged write, so one of
//! the first kind has it. A new node is in the same state; in a new cluster all of them are, and each compares with all
//! others at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use quorate_record::{Key, NodeId, Timestamp};

use crate::{Node, Now, lives::KeptFor};

/// How long after an exchange that came to nothing the next is tried.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// How far a node is with being filled again.
#[derive(Debug, Default)]
pub(crate) struct Rebuild {
    /// With whom an exchange was completed, and whether it counted then.
    done: BTreeMap<NodeId, bool>,
    /// Exchanges at work: what the peer had promised before them.
    begun: BTreeMap<NodeId, Begun>,
    /// Nodes that are gone for good, as an operator has said.
    gone: BTreeSet<NodeId>,
    retry_at: Option<Instant>,
    is_ending: bool,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    id: u64,
    counts: bool,
    floor: Timestamp,
    horizon: Timestamp,
}

/// How far a node that lost data is with being filled again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Co-owners that it has been compared with completely.
    pub done: Vec<NodeId>,
    /// Those that are still missing, and that cannot be reached at present.
    pub away: Vec<NodeId>,
    /// Those that are still missing, but up.
    pub waiting: Vec<NodeId>,
}

impl Rebuild {
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.retry_at
    }
}

impl Node {
    /// Whether this node counts in the quorums of all keys, and as a holder of hints.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let is_counted = self.keeper.durable.counted == self.lives.own();
        (is_counted || planted!(CountsAtOnce)) && !self.lives.is_over()
    }

    /// How far this node is with being filled again after it lost data; `None` if it counts everywhere.
    #[must_use]
    pub fn recovery(&self) -> Option<Recovery> {
        let missing = || {
            let co_owners = self.reconcile.co_owners();
            co_owners.filter(|peer| !self.rebuild.is_done(*peer))
        };
        let is_up = |peer: &NodeId| self.membership.is_up(*peer);
        (!self.is_settled()).then(|| Recovery {
            done: self.rebuild.done.keys().copied().collect(),
            away: missing().filter(|peer| !is_up(peer)).collect(),
            waiting: missing().filter(is_up).collect(),
        })
    }

    /// Whether this node's answers count for a key.
    pub(crate) fn counts_for(&self, key: &Key) -> bool {
        self.is_settled()
            || (!self.lives.is_over() && {
                let owners = self.ring.preference_of_key(key.as_bytes());
                self.is_filled(owners.copied().take(self.ring.owners()))
            })
    }

    /// Whether so many of these owners' data was taken in that no acknowledged write can be missing.
    fn is_filled(&self, owners: impl Iterator<Item = NodeId>) -> bool {
        let others: Vec<NodeId> = owners.filter(|&owner| owner != self.id).collect();
        let done = |peer: &&NodeId| self.rebuild.is_done(**peer);
        let counted = |peer: &&NodeId| self.rebuild.done.get(peer) == Some(&true);
        let enough = match planted!(OneExchangeIsEnough) {
            true => 1,
            false => (others.len() + 2).saturating_sub(self.options.write_quorum),
        };
        others.iter().all(|peer| done(&peer)) || others.iter().filter(counted).count() >= enough
    }

    /// Whom this node is to be compared with before anything else.
    pub(crate) fn wanted_for_rebuild(&self, now: Now) -> Vec<NodeId> {
        if self.is_settled() || self.rebuild.retry_at.is_some_and(|at| at > now.instant) {
            return Vec::new();
        }
        let ready = |peer: &NodeId| {
            !self.rebuild.is_done(*peer)
                && self.membership.is_up(*peer)
                && self.lives.standing(*peer).is_some()
        };
        self.reconcile.co_owners().filter(ready).collect()
    }

    /// An exchange with `peer` begins.
    pub(crate) fn rebuild_begun(&mut self, peer: NodeId, id: u64) {
        if self.is_settled() {
            return;
        }
        if let Some(standing) = self.lives.standing(peer) {
            let counts = !standing.is_recovering;
            let begun = Begun { id, counts, floor: standing.floor, horizon: standing.horizon };
            self.rebuild.begun.insert(peer, begun);
        }
    }

    pub(crate) fn rebuild_ended(&mut self, peer: NodeId, id: u64, complete: bool, now: Now) {
        let Some(begun) = self.rebuild.begun.remove(&peer).filter(|begun| begun.id == id) else {
            return;
        };
        if !complete {
            return;
        }
        // They are in force once this node counts: until then "nothing" means nothing.
        let latest = &mut self.keeper.latest;
        latest.floor = latest.floor.max(begun.floor);
        latest.horizon = latest.horizon.max(begun.horizon);
        self.rebuild.done.insert(peer, begun.counts);
        self.run_rebuild(now);
    }

    /// An exchange has come to nothing; the next is not to follow at once.
    pub(crate) fn rebuild_failed(&mut self, now: Now) {
        if !self.is_settled() {
            self.rebuild.retry_at = Some(now.instant + RETRY_AFTER);
        }
    }

    /// An operator says that `node` will never come back, so that nobody waits for what it has.
    pub(crate) fn declare_gone(&mut self, node: NodeId, now: Now) {
        self.rebuild.gone.insert(node);
        self.run_rebuild(now);
    }

    /// Counts everywhere again, if all that is needed was taken in.
    pub(crate) fn run_rebuild(&mut self, now: Now) {
        if self.rebuild.retry_at.is_some_and(|at| at <= now.instant) {
            self.rebuild.retry_at = None;
        }
        let life = self.lives.own();
        let is_held = self.rebuild.is_ending || self.rebuild.retry_at.is_some();
        if self.is_settled() || is_held || self.lives.is_over() {
            return;
        }
        let is_own = |owners: &[NodeId]| owners.contains(&self.id);
        let is_filled = self.ring.arcs().all(|(_, owners)| {
            let owners: Vec<NodeId> = owners.copied().collect();
            !is_own(&owners) || self.is_filled(owners.into_iter())
        });
        if is_filled {
            self.rebuild.is_ending = true;
            self.keeper.latest.counted = life;
            self.keep_notes(KeptFor::Counting);
        }
    }

    /// It is on the disk that this node counts, or cannot be written there now.
    pub(crate) fn counting_kept(&mut self, is_kept: bool, now: Now) {
        self.rebuild.is_ending = false;
        if !is_kept {
            self.rebuild.retry_at = Some(now.instant + RETRY_AFTER);
        }
    }
}

impl Rebuild {
    fn is_done(&self, peer: NodeId) -> bool {
        self.done.contains_key(&peer) || self.gone.contains(&peer)
    }
}
