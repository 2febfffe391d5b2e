//! The only place of the server that reads a clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use quorate_node::Now;

/// The time of both kinds.
#[expect(clippy::disallowed_methods, reason = "the driver is where time comes from")]
pub(crate) fn now() -> Now {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wall_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
    Now { instant: Instant::now(), wall_ms }
}
