//! A load generator for Quorate clusters.
//!
//! A [`Plan`] says what to do: the mix of operations and the distribution of keys, as in YCSB (Cooper
//! et al., "Benchmarking cloud serving systems with YCSB", SoCC 2010), and the [`Pace`]: a closed
//! loop, or an open one whose latencies count from when an operation was due, so that no stall hides
//! ("coordinated omission"). [`run`] carries it out over any number of connections on one thread, and
//! gives a [`Report`]: a table, JSON, or a page with plots. All but [`run`] is pure.
//!
//! ```no_run
//! use std::{future::pending, time::Duration};
//! use quorate_load::{Mix, Pace, Plan, Requests, Workload, run};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let plan = Plan {
//!     nodes: vec!["127.0.0.1:9001".to_owned(), "127.0.0.1:9002".to_owned()],
//!     workload: Workload { mix: Mix::B, keys: 10_000, ..Workload::default() },
//!     pace: Pace::Closed,
//!     connections: 16,
//!     load: true,
//!     warm_up: Duration::from_secs(1),
//!     duration: Duration::from_secs(10),
//!     requests: Requests::default(),
//! };
//! let report = run(&plan, pending(), |progress| eprintln!("{}", progress.line())).await?;
//! print!("{}", report.to_table());
//! # Ok(())
//! # }
//! ```

mod chart;
mod driver;
mod html;
mod keys;
mod latency;
mod mix;
mod pace;
mod plan;
mod progress;
mod random;
mod report;
mod session;
mod table;
mod tally;
mod workload;
mod zipf;

pub use driver::{LoadError, run};
pub use keys::Distribution;
pub use latency::{LatencySummary, Percentile};
pub use mix::{Mix, Operation, UnknownName};
pub use pace::{Arrivals, Pace};
pub use plan::{
    LONGEST_RUN, MAX_CONNECTIONS, MAX_OUTSTANDING, MAX_PREFIX_BYTES, MAX_RATE, MIN_RATE, Plan,
    PlanError, Requests,
};
pub use progress::{Phase, Progress};
pub use report::{OperationReport, Report, Setup};
pub use tally::{Errors, Second};
pub use workload::Workload;
