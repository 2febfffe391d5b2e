//! What is known of one peer.

use std::fmt;
use std::time::{Duration, Instant};

use crate::MembershipOptions;

/// Whether a peer is worth asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerState {
    /// Connected, and heard from lately.
    Up,
    /// Connected but silent for a while, or not tried yet: worth asking, but not first.
    Suspect,
    /// Not connected, or silent for too long: a fallback should stand in at once.
    Down,
}

impl fmt::Display for PeerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
        })
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) state: PeerState,
    connected_at: Option<Instant>,
    last_heard: Option<Instant>,
    silent_since: Instant, // silence counts from here; later than `last_heard` if we overslept
    next_ping: Instant,    // never moves back, so a flapping connection draws no extra pings
    rtt: Option<Duration>,
    overdue: bool,
}

impl Peer {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            // Down would make a node that has just started write hints for a healthy cluster.
            state: PeerState::Suspect,
            connected_at: None,
            last_heard: None,
            silent_since: now,
            next_ping: now,
            rtt: None,
            overdue: false,
        }
    }

    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    pub(crate) fn last_heard(&self) -> Option<Instant> {
        self.last_heard
    }

    pub(crate) fn connect(&mut self, now: Instant) {
        self.connected_at = Some(now);
        self.hear(now);
    }

    pub(crate) fn lose(&mut self) {
        self.connected_at = None;
        self.state = PeerState::Down;
    }

    pub(crate) fn hear(&mut self, now: Instant) {
        self.last_heard = self.last_heard.max(Some(now));
        self.overdue = false;
        // What comes in after the loss was sent before it: it does not make the peer reachable.
        if self.connected_at.is_some() {
            self.silent_since = self.silent_since.max(now);
            self.state = PeerState::Up;
        }
    }

    /// What it was asked at `sent` should have been answered by now.
    pub(crate) fn owe(&mut self, sent: Instant) {
        self.overdue |= self.last_heard.is_none_or(|heard| heard <= sent);
    }

    pub(crate) fn is_prompt(&self) -> bool {
        self.state == PeerState::Up && !self.overdue
    }

    /// Takes in a round trip; `longest` bounds what one sample may weigh.
    pub(crate) fn pong(&mut self, sent_at: Instant, now: Instant, longest: Duration) {
        self.hear(now);
        if self.connected_at.is_none_or(|connected_at| sent_at < connected_at) {
            return;
        }
        // A ping answered after the peer was stopped measures the stop, not the way.
        let sample = now.saturating_duration_since(sent_at).min(longest);
        self.rtt = Some(match self.rtt {
            None => sample,
            Some(rtt) => rtt * 7 / 8 + sample / 8,
        });
    }

    pub(crate) fn forgive(&mut self, overslept: Duration, now: Instant) {
        self.silent_since = (self.silent_since + overslept).min(now.max(self.silent_since));
    }

    pub(crate) fn age(&mut self, options: &MembershipOptions, now: Instant) {
        let silence = now.saturating_duration_since(self.silent_since);
        if silence >= options.down_after {
            self.state = PeerState::Down;
        } else if silence >= options.suspect_after && self.state == PeerState::Up {
            self.state = PeerState::Suspect;
        }
    }

    /// Whether to ping now; if so, the next ping is one interval away.
    pub(crate) fn take_ping(&mut self, options: &MembershipOptions, now: Instant) -> bool {
        let due = self.connected_at.is_some() && self.next_ping <= now;
        if due {
            self.next_ping = now + options.ping_every;
        }
        due
    }

    pub(crate) fn next_wake(&self, options: &MembershipOptions) -> Option<Instant> {
        let ages_at = match self.state {
            PeerState::Up => Some(self.silent_since + options.suspect_after),
            PeerState::Suspect => Some(self.silent_since + options.down_after),
            PeerState::Down => None,
        };
        let pings_at = self.connected_at.map(|_| self.next_ping);
        [ages_at, pings_at].into_iter().flatten().min()
    }
}
