//! The client against a server that answers as it is told.

#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

mod answers;
mod connection;
mod retries;
mod server;
