//! Whole runs against servers of the test's own.

#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

mod runs;
mod server;
