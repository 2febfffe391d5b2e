//! What tests within the crate share.

use std::time::{Duration, Instant};

pub(crate) const MS: Duration = Duration::from_millis(1);

#[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of a test")]
pub(crate) fn origin() -> Instant {
    Instant::now()
}
