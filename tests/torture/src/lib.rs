//! A cluster of five real processes under faults, and judgement of what its clients were told.
//!
//! [`run()`] starts the nodes, each of which reaches its peers through proxies (`links.rs`) or from a network of
//! its own (`namespaces.rs`), lets
//! clients use all of them at once, and brings faults over them: kills, pauses, partitions, bad
//! wires, lost disks, old copies of data, wrong clocks. Then the faults end, the replicas must become
//! equal, every key is read once more, and the checkers of the simulator
//! ([`quorate_simulator::check`]) judge the recorded history.
//!
//! `scripts/torture` runs it for minutes, `cargo test` for seconds.

mod clients;
mod held;
mod judge;
mod links;
mod namespaces;
mod nemesis;
mod network;
mod plan;
mod report;
mod run;
mod value;
mod weather;

pub use plan::Kind;
pub use report::{Availability, Report};
pub use run::{Options, run};
