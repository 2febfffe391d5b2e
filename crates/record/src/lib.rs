//! Keys, values, versions, the hybrid logical clock and the merge of a leaderless replicated store.
//!
//! A [`Record`] is one version of a key: a value, or a tombstone. Records of a key are totally
//! ordered, and merging two of them keeps the greater, so replicas that have seen the same writes
//! hold the same bytes, whatever the order in which they came (a join semilattice; Shapiro et al.,
//! "Conflict-free Replicated Data Types", 2011).
//!
//! Versions come from a [`HybridClock`] (Kulkarni et al., "Logical Physical Clocks", 2014) that
//! never goes back, not over restarts either.
//!
//! Sets of records are compared without being sent: a [`Digest`] says whether two are the same, and
//! of two [`Sketch`]es that are subtracted what differs can be [decoded](Sketch::decode).
//!
//! ```
//! use quorate_record::{HybridClock, Key, NodeId, Record, Timestamp, Writer};
//!
//! let writer = Writer { node: NodeId::new("n1")?, incarnation: 1 };
//! let mut clock = HybridClock::new(writer, Timestamp::ZERO, 10_000);
//!
//! let wall_ms = 1_700_000_000_000;
//! let ceiling = clock.reservation_due(wall_ms).expect("nothing is reserved yet");
//! clock.reserved(ceiling); // once the ceiling is on disk
//!
//! let key = Key::new("cat")?;
//! let live = Record::live(clock.issue(wall_ms)?, "meow");
//! let deleted = Record::tombstone(clock.issue(wall_ms)?);
//! assert_eq!(live.clone().merge(deleted.clone()), deleted);
//!
//! let mut bytes = Vec::new();
//! quorate_record::encode_record(&key, &live, &mut bytes);
//! assert_eq!(quorate_record::decode_record(&bytes.into())?, (key, live));
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

mod clock;
mod codec;
mod digest;
mod hint;
mod key;
mod node_id;
mod record;
mod sketch;
mod version;
mod view;

pub use clock::{ClockError, HybridClock};
pub use codec::{
    DecodeError, MAX_ENCODED_BYTES, decode_hint, decode_record, decode_record_view, decode_version,
    encode_hint, encode_record, encode_version,
};
pub use digest::Digest;
pub use hint::{Hint, HintKind, HintPlace, HintSummary, HintsFound, HintsHeld};
pub use key::{Key, KeyError, MAX_KEY_BYTES};
pub use node_id::{MAX_NODE_ID_BYTES, NodeId, NodeIdError};
pub use record::{MAX_VALUE_BYTES, Record, Stamp};
pub use sketch::{Cell, Difference, Sketch, Symbol};
pub use version::{Timestamp, Version, VersionError, Writer};
pub use view::RecordView;
