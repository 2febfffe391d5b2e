//! The checkers, tried with histories made by hand and against a search of all orders.

#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

mod agreement;
mod atomic;
mod durable;
mod ghosts;
mod honest;
mod notation;
mod order;
mod regular;
mod replicas;
mod resurrection;
mod search;
