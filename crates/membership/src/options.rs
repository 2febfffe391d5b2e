//! How to tune a failure detector.

use std::time::Duration;

/// How often peers are pinged and how long their silence is borne.
///
/// A silence is judged by its suspicion φ, which is −log₁₀ of the probability that a sign of life
/// comes even later, given how regularly the peer answered its latest pings. So a φ of 1 is wrong
/// about one time in ten, one of 8 hardly ever.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MembershipOptions {
    /// The time between two pings of a connected peer. Above zero.
    pub ping_every: Duration,
    /// A peer may be late by as much and raise no suspicion: it was starved, or wrote much. At most
    /// `down_after`, less `ping_every`.
    pub acceptable_pause: Duration,
    /// No peer is taken to be more regular than this. Above zero.
    pub least_deviation: Duration,
    /// A connected peer is suspect from this φ on. Above zero.
    pub suspect_phi: f64,
    /// A connected peer is down from this φ on. Above `suspect_phi`, at most 100.
    pub down_phi: f64,
    /// A peer not heard for so long is down, however irregular it was. At least twice `ping_every`.
    pub down_after: Duration,
    /// How long it is put off to call peers down when most of those connected fell silent together,
    /// since it is likelier then that this node is the one that is cut off.
    pub doubt_self_for: Duration,
}

impl MembershipOptions {
    /// Whether all of them are in their ranges.
    pub fn is_valid(&self) -> bool {
        !self.ping_every.is_zero()
            && self.ping_every * 2 <= self.down_after
            && self.acceptable_pause <= self.down_after - self.ping_every
            && !self.least_deviation.is_zero()
            && self.suspect_phi > 0.0
            && self.suspect_phi < self.down_phi
            && self.down_phi <= 100.0
    }
}

impl Default for MembershipOptions {
    /// Pings every 500 ms. A peer that answers regularly is suspect after about 1.0 s of silence and
    /// down after about 1.5 s, an irregular one after 2 s at the latest, and 2 s later when most
    /// peers fell silent together.
    fn default() -> Self {
        Self {
            ping_every: Duration::from_millis(500),
            acceptable_pause: Duration::from_millis(400),
            least_deviation: Duration::from_millis(100),
            suspect_phi: 1.0,
            down_phi: 8.0,
            down_after: Duration::from_secs(2),
            doubt_self_for: Duration::from_secs(2),
        }
    }
}
