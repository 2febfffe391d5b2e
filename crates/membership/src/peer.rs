//! What is known of one peer.

use std::fmt;
use std::time::{Duration, Instant};

use crate::heartbeats::{Heartbeats, Limits};
use crate::{Evidence, MembershipOptions, Reason};

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

/// A round trip so many times as long as usual is slow.
const SLOW_FACTOR: u32 = 4;
/// No round trip is slow below this: a busy machine makes shorter ones differ by chance.
const LEAST_SLOW: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) state: PeerState,
    tried: bool,
    connected_at: Option<Instant>,
    last_answered: Option<Instant>,
    last_spoke: Option<Instant>,
    silent_since: Instant, // silence counts from here; later than `last_answered` if we overslept
    next_ping: Instant,    // never moves back, so a flapping connection draws no extra pings
    heartbeats: Heartbeats,
    rtt: Option<Duration>,
    usual_rtt: Option<Duration>,
    slow: bool,
    overdue: bool,
    doubted: bool, // would be down by now if most others were heard
}

impl Peer {
    pub(crate) fn new(options: &MembershipOptions, now: Instant) -> Self {
        Self {
            // Down would make a node that has just started write hints for a healthy cluster.
            state: PeerState::Suspect,
            tried: false,
            connected_at: None,
            last_answered: None,
            last_spoke: None,
            silent_since: now,
            next_ping: now,
            heartbeats: Heartbeats::new(options),
            rtt: None,
            usual_rtt: None,
            slow: false,
            overdue: false,
            doubted: false,
        }
    }

    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    pub(crate) fn evidence(&self, now: Instant) -> Evidence {
        let silence = now.saturating_duration_since(self.silent_since);
        Evidence {
            reason: self.reason(),
            phi: self.connected_at.map(|_| self.heartbeats.phi(silence)),
            last_answered: self.last_answered,
            last_spoke: self.last_spoke,
            usual_rtt: self.usual_rtt,
        }
    }

    fn reason(&self) -> Reason {
        if self.connected_at.is_none() {
            return if self.tried { Reason::Disconnected } else { Reason::NotTried };
        }
        let spoke_since = self.last_spoke.is_some_and(|spoke| spoke > self.silent_since);
        match self.state {
            PeerState::Up if self.overdue => Reason::Overdue,
            PeerState::Up if self.slow => Reason::Slow,
            PeerState::Up => Reason::Answers,
            PeerState::Suspect if self.doubted => Reason::SelfDoubt,
            PeerState::Suspect | PeerState::Down if spoke_since => Reason::OneWay,
            PeerState::Suspect | PeerState::Down => Reason::Silent,
        }
    }

    pub(crate) fn connect(&mut self, now: Instant) {
        self.tried = true;
        self.connected_at = Some(now);
        self.heartbeats.interrupt();
        self.answer(now);
    }

    pub(crate) fn lose(&mut self) {
        self.tried = true;
        self.connected_at = None;
        self.state = PeerState::Down;
    }

    pub(crate) fn speak(&mut self, now: Instant) {
        self.last_spoke = self.last_spoke.max(Some(now));
    }

    pub(crate) fn answer(&mut self, now: Instant) {
        self.speak(now);
        self.last_answered = self.last_answered.max(Some(now));
        self.overdue = false;
        // What comes in after the loss was sent before it: it does not make the peer reachable.
        if self.connected_at.is_some() {
            self.silent_since = self.silent_since.max(now);
            self.doubted = false;
            self.state = PeerState::Up;
        }
    }

    /// What it was asked at `sent` should have been answered by now.
    pub(crate) fn owe(&mut self, sent: Instant) {
        self.overdue |= self.last_answered.is_none_or(|answered| answered <= sent);
    }

    pub(crate) fn is_prompt(&self) -> bool {
        self.state == PeerState::Up && !self.overdue && !self.slow
    }

    /// Takes in a heartbeat and its round trip.
    pub(crate) fn pong(&mut self, sent_at: Instant, now: Instant, options: &MembershipOptions) {
        self.answer(now);
        if self.connected_at.is_none_or(|connected_at| sent_at < connected_at) {
            return;
        }
        self.heartbeats.take(sent_at, now, options);
        // A ping answered after the peer was stopped measures the stop, not the way.
        let sample = now.saturating_duration_since(sent_at).min(options.ping_every * 2);
        let rtt = average(self.rtt, sample, 8);
        let usual = self.usual_rtt.unwrap_or(sample);
        let usual = average(Some(usual), sample, if sample < usual { 8 } else { 256 });
        let (slow, fine) = (SLOW_FACTOR * usual, SLOW_FACTOR * usual / 2);
        self.slow = match self.slow {
            true => rtt > fine.max(LEAST_SLOW / 2),
            false => rtt >= slow.max(LEAST_SLOW),
        };
        self.rtt = Some(rtt);
        self.usual_rtt = Some(usual);
    }

    /// This node itself was stopped for so long, if that is more than nothing.
    pub(crate) fn forgive(&mut self, overslept: Duration, now: Instant) {
        if !overslept.is_zero() {
            self.heartbeats.interrupt();
        }
        self.silent_since = (self.silent_since + overslept).min(now.max(self.silent_since));
    }

    /// When the silence of a connected peer began.
    pub(crate) fn silent_since(&self) -> Option<Instant> {
        self.connected_at.map(|_| self.silent_since)
    }

    /// Whether its silence alone would make it down.
    pub(crate) fn is_given_up(&self, options: &MembershipOptions, now: Instant) -> bool {
        now >= self.silent_since + self.limits(options).down
    }

    /// Takes in that time has passed; `doubt` is whether most others fell silent together with it.
    pub(crate) fn age(&mut self, doubt: bool, options: &MembershipOptions, now: Instant) {
        self.doubted = doubt && self.state != PeerState::Down && self.is_given_up(options, now);
        let silence = now.saturating_duration_since(self.silent_since);
        if silence >= self.down_after(options) {
            self.state = PeerState::Down;
            self.doubted = false;
        } else if silence >= self.limits(options).suspect && self.state == PeerState::Up {
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
            PeerState::Up => Some(self.silent_since + self.limits(options).suspect),
            PeerState::Suspect => Some(self.silent_since + self.down_after(options)),
            PeerState::Down => None,
        };
        let pings_at = self.connected_at.map(|_| self.next_ping);
        [ages_at, pings_at].into_iter().flatten().min()
    }

    fn down_after(&self, options: &MembershipOptions) -> Duration {
        let doubt = if self.doubted { options.doubt_self_for } else { Duration::ZERO };
        self.limits(options).down + doubt
    }

    fn limits(&self, options: &MembershipOptions) -> Limits {
        let mut limits = self.heartbeats.limits;
        // Nothing is known of the silence of a peer that was never connected.
        if self.connected_at.is_none() {
            limits.down = options.down_after;
        }
        limits
    }
}

/// An average that weighs the latest sample by one part in `parts`.
fn average(before: Option<Duration>, sample: Duration, parts: u32) -> Duration {
    before.map_or(sample, |before| before * (parts - 1) / parts + sample / parts)
}
