//! Checkers of what a cluster promises, from outside.
//!
//! They know nothing of the code under test: they read a [`History`] of what clients asked and were
//! told, what a key ends with ([`Last`]), what replicas hold. Each takes about as long as sorting
//! what it is given, and gives a list of typed [`Violation`]s, empty if the promise was kept.
//!
//! | checker | promise |
//! |---|---|
//! | [`regular()`] | a strict read sees the latest write acked before it began, or a concurrent one; nobody reads what was never written, or was rejected |
//! | [`atomic()`] | each key is a linearizable register |
//! | [`order()`] | versions agree with the order in time of acked writes, and belong to one content |
//! | [`read_order`] | reads that repair before they answer never go back |
//! | [`durable()`] | what a key ends with is not older than any acked write |
//! | [`resurrection()`] | what was deleted does not come back |
//! | [`ghosts()`] | an unacked write loses to acked ones that began much later |
//! | [`Monotonic`] | a replica's version of a key never goes back |
//! | [`converged()`] | in the end all owners hold the same bytes, and nobody else any |
//! | [`honest()`] | one answer a request, and receipts that add up |
//!
//! Most promises hold only for some operations: those whose quorums meet, which the checkers see
//! for themselves, and those that no other rule excuses (a replica lost its disk, clocks were
//! too far off), which the caller says by `claimed`.
//!
//! ```
//! use quorate_record::{Key, NodeId, Timestamp, Version, Writer};
//! use quorate_simulator::check::{self, Call, History, Outcome, Request};
//!
//! let [n1, n2] = [NodeId::new("n1")?, NodeId::new("n2")?];
//! let version = Version {
//!     timestamp: Timestamp::from_wall_ms(1_700_000_000_000),
//!     writer: Writer { node: n1, incarnation: 1 },
//! };
//! let request = |call| Request {
//!     key: Key::new("cat").expect("a short key"),
//!     coordinator: n1,
//!     call,
//!     needed: 2,
//!     sloppy: false,
//! };
//!
//! let mut history = History::new(3);
//! let put = history.invoke(request(Call::Put { id: 7 }), 0);
//! history.answer(put, 900, Outcome::Acked { version, strict: true, acks: vec![n1, n2] });
//! let get = history.invoke(request(Call::Get), 1_000);
//! history.answer(get, 1_800, Outcome::Absent { version: None, strict: true, from: vec![n1, n2] });
//!
//! let violations = check::regular(&history, |_| true);
//! assert_eq!(*violations[0].fault, check::Fault::MissedPut);
//! println!("{}\n{}", violations[0], history.table(&violations[0].ops));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod atomic;
mod converged;
mod durable;
mod earlier;
mod ghosts;
mod history;
mod honest;
mod monotonic;
mod order;
mod origin;
mod regular;
mod resurrection;
mod table;
mod violation;

pub use atomic::atomic;
pub use converged::converged;
pub use durable::{Last, durable};
pub use ghosts::ghosts;
pub use history::{Answer, Call, History, Op, OpId, Outcome, Request};
pub use honest::honest;
pub use monotonic::Monotonic;
pub use order::{order, read_order};
pub use regular::regular;
pub use resurrection::resurrection;
pub use table::Table;
pub use violation::{Fault, Violation};
