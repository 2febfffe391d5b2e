//! A cluster of real `quorate` processes for tests: started, killed, paused and asked over HTTP.
//!
//! ```no_run
//! use quorate_tests::Cluster;
//!
//! let mut cluster = Cluster::of(3).start();
//! cluster.node("n1").put("cat", "meow").expect_status(204);
//! cluster.kill("n2");
//! assert_eq!(cluster.node("n3").get("cat").body, b"meow");
//! ```
//!
//! Nothing here sleeps and hopes: what takes time is asked for again and again until it is there,
//! and a test fails with the last answer when it does not come in time.

mod cluster;
mod folder;
mod http;
mod node;
mod ports;
mod program;
mod wait;

pub use cluster::{Builder, Cluster};
pub use folder::{copy_folder, remove_folder};
pub use http::{Reply, exchange, request, request_with, talk};
pub use node::Node;
pub use ports::free_ports;
pub use program::{Finished, program, root, run, run_in};
pub use wait::{PATIENCE, eventually, eventually_some, now, signal};

/// The examples of the README, run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
