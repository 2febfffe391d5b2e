//! Whole Quorate clusters in one thread: the very nodes that a server runs, in a seeded hostile world, and checkers of
//! what they promise.
//!
//! A [`World`] has real [nodes](quorate_node::Node) over real logs; only files, clocks and wires are simulated, and
//! time is a number. Everything hangs on one seed, so that whatever happens can be made to happen again:
//!
//! ```
//! use std::time::Duration;
//! use quorate_node::{ClientRequest, Operation};
//! use quorate_quorum::Quorum;
//! use quorate_record::Key;
//! use quorate_simulator::{Loss, World, WorldOptions};
//!
//! let mut world = World::new(WorldOptions { seed: 42, ..WorldOptions::default() });
//! world.run_for(Duration::from_secs(1)); // the nodes find each other
//! world.end(2, Loss::Process);
//!
//! let key = Key::new("cat")?;
//! let body = ClientRequest {
//!     key: key.clone(),
//!     operation: Operation::Put("meow".into()),
//!     quorum: Quorum::new(3, 2, 2, false)?,
//!     atomic: false,
//!     wait_for_owners: false,
//!     timeout: Duration::from_millis(800),
//! };
//! world.ask(0, body);
//! world.run_until_answered();
//! assert_eq!(world.take_answered().len(), 1);
//!
//! world.start(2)?;
//! world.run_for(Duration::from_secs(5)); // a hint was kept for it
//! assert_eq!(world.record(2, &key), world.record(0, &key));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`Scenario`] is a world with a load and with faults that come over it; [`Scenario::draw`] makes one of a seed and a
//! [`Profile`]. [`run()`] lets it happen, ends all faults, waits until everything is at rest, and has the
//! [checkers](check) judge what clients were told. [`run_liveness`] ends the faults of a core only, for good.
//!
//! ```
//! use quorate_simulator::{Profile, Scenario, run};
//!
//! let report = run(&Scenario::draw(7, &Profile::default()), false);
//! assert!(report.is_ok(), "{:?}", report.violations);
//! ```

#[cfg(feature = "planted-bugs")]
pub mod bugs;
pub mod check;
mod clock;
mod coverage;
mod describe;
mod liveness;
mod machine;
mod nemesis;
mod network;
mod process;
mod profile;
mod random;
mod rot;
mod run;
mod scenario;
mod shrink;
mod trace;
mod value;
mod workload;
mod world;

pub use coverage::Coverage;
pub use liveness::run_liveness;
pub use machine::Loss;
pub use network::NetworkOptions;
pub use process::FileOptions;
pub use profile::{Family, Fault, Profile};
pub use quorate_planted::Site;
pub use random::Random;
pub use run::{Report, run};
pub use scenario::Scenario;
pub use shrink::shrink;
pub use trace::Trace;
pub use workload::Told;
pub use world::{Answer, Answered, World, WorldOptions, name};
