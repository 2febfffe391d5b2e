//! Compares a token range between two replicas and says which records must move.
//!
//! Replicas drift apart: a hint expired, a disk was replaced, a message was lost. Anti-entropy finds
//! and mends it without any read or write (Dynamo §4.7). A [`SketchExchange`] is one comparison
//! between this node and one peer, over the [`Ranges`] that both own and nothing else: first an
//! overview of all buckets, then [`Sketch`]es of those in which the two sides differ, then only the
//! records that differ, both ways. What it costs is in proportion to what differs. Where that is too
//! much for sketches, or a peer does not know them, an [`Exchange`] asks for digests of ever smaller
//! spans, and for lists of what is in them. [`Rounds`] says with whom to run the next one and when,
//! and keeps the totals.
//!
//! All are pure: the driver asks the two replicas and reports what they said. An exchange only ever
//! merges, so it may be stopped at any point and repeated at will.
//!
//! An exchange by lists alone, which is the simplest:
//!
//! ```
//! use quorate_antientropy::{Exchange, ExchangeAction, ExchangeEvent, Limits, Listing, Ranges};
//! use quorate_record::Digest;
//!
//! // The other replica has a newer record at token 7. Stamps here are plain numbers.
//! let (local, remote) = (vec![(7_u64, 1_u32)], vec![(7_u64, 2_u32)]);
//! let digest = |items: &[(u64, u32)]| {
//!     let mut digest = Digest::default();
//!     items.iter().for_each(|(token, stamp)| digest.add(token ^ u64::from(*stamp)));
//!     digest
//! };
//!
//! let ranges = Ranges::new([0..=99]);
//! let mut exchange = Exchange::start(ranges, Limits::default(), 0);
//! let mut pulled = Vec::new();
//! while let Some(action) = exchange.poll_action() {
//!     let event = match action {
//!         // A driver looks at `ranges.within(&span)` for each span, here and at the peer.
//!         ExchangeAction::Digests { spans } => ExchangeEvent::Digests {
//!             local: spans.iter().map(|_| digest(&local)).collect(),
//!             remote: spans.iter().map(|_| digest(&remote)).collect(),
//!         },
//!         ExchangeAction::List { .. } => ExchangeEvent::Listed {
//!             local: Listing { items: local.clone(), complete: true },
//!             remote: Listing { items: remote.clone(), complete: true },
//!         },
//!         ExchangeAction::Pull { tokens } => {
//!             pulled.extend(tokens);
//!             ExchangeEvent::Pulled { records: 1, left: 0 }
//!         }
//!         ExchangeAction::Push { .. } => unreachable!("nothing is newer here"),
//!         ExchangeAction::Overview { .. } | ExchangeAction::Sketches { .. } => {
//!             unreachable!("a `SketchExchange` asks for those")
//!         }
//!         ExchangeAction::Done(summary) => {
//!             assert_eq!((summary.pulled, summary.pushed), (1, 0));
//!             break;
//!         }
//!     };
//!     exchange.handle(event);
//! }
//! assert_eq!(pulled, [7]);
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

mod buckets;
mod difference;
mod exchange;
mod ranges;
mod rounds;
mod sketch_exchange;

pub use quorate_record::{Cell, Difference, Sketch, Symbol};

pub use buckets::{BUCKETS, bucket_of, bucket_span, short_digest};
pub use difference::Listing;
pub use exchange::{Exchange, ExchangeAction, ExchangeEvent, Limits, MAX_SPANS, Outcome, Summary};
pub use ranges::Ranges;
pub use rounds::{Report, Rounds, RoundsStats};
pub use sketch_exchange::{
    Differing, GroupSketch, MAX_GROUPS, Overview, SKETCH_CELLS, SketchExchange,
};
