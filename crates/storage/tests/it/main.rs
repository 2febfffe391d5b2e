//! Tests of log, store and hint log through their public functions, on a file system that fails and forgets on request.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crash;
mod damage;
mod faults;
mod full_disk;
mod golden;
mod hint_memory;
mod hints;
mod life;
mod missing;
mod policies;
mod read;
mod release;
mod replay;
mod rot;
mod scene;
mod stats;
mod store;
mod threads;
mod workloads;
