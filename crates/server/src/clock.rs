//! The only place of the server that reads a clock.

#[cfg(feature = "test-clock")]
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use quorate_node::Now;

/// How far the wall clock is wrong on purpose, in milliseconds.
#[cfg(feature = "test-clock")]
static OFFSET_MS: AtomicI64 = AtomicI64::new(0);

/// Has all nodes of this process take the time to be so many milliseconds later than it is, or
/// earlier, as if the system's clock were wrong. For tests alone.
#[cfg(feature = "test-clock")]
pub fn set_clock_offset_ms(offset_ms: i64) {
    OFFSET_MS.store(offset_ms, Ordering::Relaxed);
}

/// The time of both kinds.
#[expect(clippy::disallowed_methods, reason = "the driver is where time comes from")]
pub(crate) fn now() -> Now {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wall_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
    #[cfg(feature = "test-clock")]
    let wall_ms = wall_ms.saturating_add_signed(OFFSET_MS.load(Ordering::Relaxed));
    Now { instant: Instant::now(), wall_ms }
}
