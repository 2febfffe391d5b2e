//! Hinted handoff as pure decisions: what to keep for whom, when to deliver it, when to give up.
//!
//! A node keeps a *hint* for a replica that could not be reached, and hands it over when the replica
//! is back (Dynamo §4.6). A [`HintBook`] decides all that is to be decided about the hints of one
//! node. It does no I/O and has no clock: a durable queue and the peers are reached through
//! [`HintAction`]s, in the order in which they come.
//!
//! There are two kinds, [`HintKind::Owed`](quorate_record::HintKind::Owed), which is data and never
//! dropped, and [`HintKind::Courtesy`](quorate_record::HintKind::Courtesy), to which a time to live
//! and the limit on space apply.
//!
//! The hints are in the durable queue; the book counts them, and has those in memory that something
//! is going on with.
//!
//! ```
//! use std::time::Instant;
//! use quorate_hints::{Handed, HintAction, HintBook, HintOptions, Offer};
//! use quorate_record::{
//!     Hint, HintKind, HintsFound, Key, NodeId, Record, Timestamp, Version, Writer,
//! };
//!
//! let now = Instant::now();
//! let target = NodeId::new("n2")?;
//! let writer = Writer { node: NodeId::new("n1")?, incarnation: 1 };
//! let record = Record::live(Version { timestamp: Timestamp::from_wall_ms(1), writer }, "meow");
//! let key = Key::new("cat")?;
//! let hint =
//!     Hint { target, key: key.clone(), record: record.clone(), kind: HintKind::Owed, added_ms: 1 };
//!
//! let mut book = HintBook::new(HintOptions::default());
//! let offer = book.offer(hint.clone(), now);
//! let Some(HintAction::LookUp { id, .. }) = book.poll_action() else { panic!("it is new") };
//! book.looked_up(id, Ok(None)); // the queue has nothing for this target and key
//!
//! // It may be acknowledged once it is durable, and not before.
//! let Some(HintAction::Persist { id, .. }) = book.poll_action() else { panic!("it is kept") };
//! let answer = HintAction::Answer { offer, answer: Offer::Keep { id } };
//! assert_eq!(book.poll_action(), Some(answer));
//! book.persisted(id, true, now);
//!
//! // The target is back.
//! book.target_up(target, now);
//! let Some(HintAction::Read { batch, .. }) = book.poll_action() else { panic!("it has a hint") };
//! book.read(batch, Some(HintsFound { hints: vec![hint], ..HintsFound::default() }), now);
//! let Some(HintAction::Deliver { .. }) = book.poll_action() else { panic!("it is up") };
//! book.delivered(batch, &[Handed::Taken], now);
//! let version = record.version;
//! assert_eq!(book.poll_action(), Some(HintAction::Forget { target, key, version }));
//! assert_eq!(book.stats(1).count, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

/// Whether this bug is planted, for the simulator to find; always `false` without the feature.
macro_rules! planted {
    ($bug:ident) => {{
        #[cfg(feature = "planted-bugs")]
        let planted = quorate_planted::is_planted(quorate_planted::Bug::$bug);
        #[cfg(not(feature = "planted-bugs"))]
        let planted = false;
        planted
    }};
}

/// Whether what is rare at this site is to happen now; always `false` without the feature.
macro_rules! buggify {
    ($site:ident) => {{
        #[cfg(feature = "buggify")]
        let fires = quorate_planted::fires(quorate_planted::Site::$site);
        #[cfg(not(feature = "buggify"))]
        let fires = false;
        fires
    }};
}

mod action;
mod book;
mod handoff;
mod options;
mod pair;
mod stats;

pub use action::{DropReason, Handed, HintAction, Offer, Refusal};
pub use book::HintBook;
pub use handoff::{
    FIRST_WINDOW, GENTLE_WINDOW, HandoffState, LONGEST_BACKOFF, MAX_BATCH_BYTES, MAX_WINDOW,
    POSTPONED_FOR, SHORTEST_BACKOFF,
};
pub use options::HintOptions;
pub use pair::hint_bytes;
pub use stats::{HintStats, TargetStats};
