//! How much is kept, and for how long.

use std::time::Duration;

/// The limits of a [`HintBook`](crate::HintBook).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HintOptions {
    /// The most that all hints together may take, as [`hint_bytes`](crate::hint_bytes) counts.
    pub max_bytes: u64,
    /// How long a courtesy hint is kept; zero switches courtesy hints off. Owed ones are kept until
    /// they are delivered.
    pub ttl: Duration,
}

impl Default for HintOptions {
    /// 1 GiB, and 3 hours.
    fn default() -> Self {
        Self { max_bytes: 1 << 30, ttl: Duration::from_secs(3 * 60 * 60) }
    }
}
