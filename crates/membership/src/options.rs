//! The patience of the failure detector.

use std::time::Duration;

/// How often peers are pinged and how long their silence is borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MembershipOptions {
    /// The time between two pings of a connected peer. Above zero.
    pub ping_every: Duration,
    /// A connected peer not heard for this long is suspect. At least `ping_every`.
    pub suspect_after: Duration,
    /// A connected peer not heard for this long is down. Above `suspect_after`.
    pub down_after: Duration,
}

impl MembershipOptions {
    /// Whether the three spans are in their ranges.
    pub fn is_valid(&self) -> bool {
        !self.ping_every.is_zero()
            && self.ping_every <= self.suspect_after
            && self.suspect_after < self.down_after
    }
}

impl Default for MembershipOptions {
    /// Pings every 500 ms, suspects after 1 s, gives up after 2 s.
    fn default() -> Self {
        Self {
            ping_every: Duration::from_millis(500),
            suspect_after: Duration::from_secs(1),
            down_after: Duration::from_secs(2),
        }
    }
}
