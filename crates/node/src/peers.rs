//! What a node knows of its peers.

use std::time::{Duration, Instant};

use quorate_membership::{Evidence, PeerState};
use quorate_quorum::Quorum;
use quorate_record::{Key, NodeId, Writer};
use quorate_ring::Ring;

use crate::{Counters, Node, NodeOptions, Now};

/// What a node remembers of a peer besides what its failure detector does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PeerFacts {
    pub(crate) incarnation: Option<u64>,
    pub(crate) in_flight: InFlight,
    clock_offset_ms: Option<i64>,
}

impl PeerFacts {
    pub(crate) fn clock_offset_ms(&self) -> Option<i64> {
        self.clock_offset_ms
    }
}

/// What a peer was asked and has not answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InFlight {
    pub(crate) requests: usize,
    pub(crate) bytes: usize,
}

/// A peer as a node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub id: NodeId,
    /// Whether it answers.
    pub state: PeerState,
    /// Which of its lives it is in; `None` until it was met.
    pub incarnation: Option<u64>,
    /// The smoothed round trip time.
    pub rtt: Option<Duration>,
    /// Requests that it has not answered yet.
    pub in_flight: usize,
    /// Whether it has lost data and is being filled again, so that it counts for nothing.
    pub is_recovering: bool,
    /// How many frames its log had when it told so last; 0 before it has. A peer whose log has fewer
    /// was given an old copy of its disk.
    pub progress: u64,
    /// How far its wall clock is ahead of this node's, in milliseconds, give or take half a round
    /// trip.
    pub clock_offset_ms: Option<i64>,
}

impl Node {
    /// Who this node is.
    #[must_use]
    pub fn writer(&self) -> Writer {
        self.clock.writer()
    }

    /// Who owns what.
    #[must_use]
    pub fn ring(&self) -> &Ring<NodeId> {
        &self.ring
    }

    /// How this node behaves.
    #[must_use]
    pub fn options(&self) -> &NodeOptions {
        &self.options
    }

    /// What this node has done since it started.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Client requests at work, those that are answered but not finished and those that wait to be
    /// let in included.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        let (at_work, waiting) = (self.writes.len() + self.reads.len(), self.parked.len());
        at_work + waiting + self.owners_waits.len() + self.queue.len()
    }

    /// Client requests that wait to be let in.
    #[must_use]
    pub fn queued_requests(&self) -> usize {
        self.queue.len()
    }

    /// How many client requests are let in at once at present; fewer when they take long.
    #[must_use]
    pub fn admitted(&self) -> usize {
        self.admission.limit()
    }

    /// Whether so many client requests are under way that it is worth reporting
    /// [`Event::Lagged`](crate::Event::Lagged).
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.admission.is_busy()
    }

    /// All other nodes, in the order of their ids.
    pub fn peers(&self) -> impl Iterator<Item = PeerStatus> {
        self.membership.iter().map(|(id, state)| {
            let facts = self.peers.get(&id).copied().unwrap_or_default();
            PeerStatus {
                id,
                state,
                incarnation: facts.incarnation,
                rtt: self.membership.rtt(id),
                in_flight: facts.in_flight.requests,
                is_recovering: self.lives.is_recovering(id),
                progress: self.lives.progress(id),
                clock_offset_ms: facts.clock_offset_ms,
            }
        })
    }

    /// What the state of a peer rests on; `None` if there is no such peer.
    #[must_use]
    pub fn evidence(&self, peer: NodeId, now: Now) -> Option<Evidence> {
        self.membership.evidence(peer, now.instant)
    }

    /// Whether `r` owners of every key are up and count, this node included, so that reads can be answered.
    #[must_use]
    pub fn can_read(&self, r: usize) -> bool {
        let up = |&&id: &&NodeId| match id == self.id {
            true => self.is_settled(),
            false => {
                let is_up = self.membership.is_up(id);
                is_up && !self.lives.is_recovering(id)
            }
        };
        self.ring.arcs().all(|(_, owners)| owners.filter(up).count() >= r)
    }

    /// Peers that are up and whose clocks are further behind this node's than clocks may differ, as
    /// far as they have told. They refuse what it writes.
    pub fn peers_behind(&self) -> impl Iterator<Item = NodeId> {
        self.behind.iter().copied()
    }

    /// Whether so many of a key's nodes would refuse this node's versions that a write cannot
    /// succeed. It is better not begun: this node alone would hold it, and it would hide what the
    /// others acknowledge until their clocks are there too.
    pub(crate) fn is_too_far_ahead(&self, key: &Key, quorum: Quorum, now: Now) -> bool {
        // What was issued or seen before may be ahead of a wall clock that was set right since.
        let lead_ms = self.clock.last().wall_ms().saturating_sub(now.wall_ms);
        if self.behind.is_empty() && lead_ms == 0 {
            return false;
        }
        let [lead_ms, limit_ms] = [lead_ms, self.options.max_clock_skew_ms]
            .map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
        let offset_ms = |node: &NodeId| match *node == self.id {
            true => Some(0),
            false => self.peers.get(node).and_then(PeerFacts::clock_offset_ms),
        };
        let is_behind = |node: &NodeId| {
            offset_ms(node).is_some_and(|offset_ms| offset_ms.saturating_add(limit_ms) < lead_ms)
        };
        let refuses = |node: &&NodeId| self.behind.contains(node) || is_behind(node);
        let nodes = self.preference(key);
        let counting = if quorum.sloppy() { nodes.len() } else { quorum.n().min(nodes.len()) };
        let unwilling = nodes[..counting].iter().filter(refuses).count();
        counting - unwilling < quorum.w()
    }

    /// To be called when a clock or the state of a peer has changed.
    pub(crate) fn compare_clocks(&mut self) {
        let limit_ms = i64::try_from(self.options.max_clock_skew_ms).unwrap_or(i64::MAX);
        let up = self.membership.iter().filter(|(_, state)| *state == PeerState::Up);
        let behind = up.filter(|(id, _)| {
            let offset_ms = self.peers.get(id).and_then(|facts| facts.clock_offset_ms);
            offset_ms.is_some_and(|offset_ms| offset_ms < -limit_ms)
        });
        self.behind = behind.map(|(id, _)| id).collect();
    }

    /// A peer has told its wall clock in answer to a ping.
    pub(crate) fn note_clock(&mut self, peer: NodeId, wall_ms: u64, sent: Instant, now: Now) {
        let round_trip = now.instant.saturating_duration_since(sent);
        let half_ms = i64::try_from(round_trip.as_millis() / 2).unwrap_or(i64::MAX);
        let offset_ms = wall_ms.wrapping_sub(now.wall_ms).cast_signed().saturating_add(half_ms);
        self.peers.entry(peer).or_default().clock_offset_ms = Some(offset_ms);
        self.compare_clocks();
    }
}
