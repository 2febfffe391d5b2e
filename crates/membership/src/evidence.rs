//! Why a peer is in its state.

use std::fmt;
use std::time::{Duration, Instant};

/// What is known of a peer, for people to read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// What its state rests on.
    pub reason: Reason,
    /// The suspicion that its silence raises now, from 0 to 1,000; see
    /// [`MembershipOptions`](crate::MembershipOptions). `None` while it is not connected.
    pub phi: Option<f64>,
    /// When it last answered, so that the way there and back was open.
    pub last_answered: Option<Instant>,
    /// When anything last came from it, so that the way from there was open.
    pub last_spoke: Option<Instant>,
    /// The round trip that is usual for it: an average that follows a faster one quickly and a
    /// slower one within minutes.
    pub usual_rtt: Option<Duration>,
}

/// What the state of a peer rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It answers as usual.
    Answers,
    /// It answers, but its round trips are several times what is usual for it.
    Slow,
    /// It owes an answer for longer than usual, and has not answered anything since.
    Overdue,
    /// It is connected and has not been heard.
    Silent,
    /// It is connected and speaks, but does not answer: it seems not to hear this node.
    OneWay,
    /// It has been silent long enough to be down, but so have most others; see
    /// [`MembershipOptions::doubt_self_for`](crate::MembershipOptions::doubt_self_for).
    SelfDoubt,
    /// There is no connection to it.
    Disconnected,
    /// Nobody has tried to reach it yet.
    NotTried,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answers => "answers",
            Self::Slow => "slow",
            Self::Overdue => "owes an answer",
            Self::Silent => "silent",
            Self::OneWay => "speaks but does not answer",
            Self::SelfDoubt => "silent, like most others at once",
            Self::Disconnected => "not connected",
            Self::NotTried => "not tried yet",
        })
    }
}
