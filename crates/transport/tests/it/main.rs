//! Streams between real sockets on this machine.

#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

mod attacks;
mod handshake;
mod links;
mod listener;
mod secrets;
mod streams;
#[cfg(feature = "tls")]
mod tls;
mod versions;
