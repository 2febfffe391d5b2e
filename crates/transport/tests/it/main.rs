//! Streams between real sockets on this machine.

#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

mod handshake;
mod links;
mod listener;
mod streams;
