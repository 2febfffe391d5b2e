//! A crash-safe framed log with group commit, and a record store on top of it.
//!
//! ```
//! use std::sync::Arc;
//! use quorate_storage::{Log, LogOptions, fault::FaultFs};
//!
//! let fs = Arc::new(FaultFs::new()); // `RealFs` for files that stay
//! let options = LogOptions::default();
//! let (log, found) = Log::open(fs.clone(), "/log".as_ref(), &options, |_| {}, |_| {})?;
//! assert_eq!(found.frames, 0);
//! let first = log.submit(1, b"never waits")?;
//! assert_eq!(log.append(1, b"waits for the sync")?, 2);
//! assert_eq!(log.wait(first)?, 1);
//! drop(log);
//!
//! let mut payloads = Vec::new();
//! Log::open(fs, "/log".as_ref(), &options, |_| {}, |frame| payloads.push(frame.payload.to_vec()))?;
//! assert_eq!(payloads, [&b"never waits"[..], b"waits for the sync"]);
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

mod completion;
mod dir_lock;
pub mod doctor;
pub mod fault;
mod frame;
pub mod fs;
mod hint_log;
mod in_flight;
mod index;
mod log;
mod meta;
mod newest;
mod queue;
mod read;
mod recovery;
mod release;
mod released;
mod scrub_note;
mod segment;
mod segments;
mod space;
mod store;
mod writer;

pub use completion::Completion;
pub use dir_lock::{DirLock, LockError, lock_dir, lock_dir_unchanged};
pub use fs::RealFs;
pub use hint_log::{HintLog, HintLogOptions, HintLogStats, HintsRecovered, MaintainError};
pub use log::{Drive, Log, LogOptions, LogStats, SyncPolicy};
pub use meta::{Meta, MetaError};
pub use queue::{LogError, Place, Progress, Ticket, Written};
pub use read::{ReadError, Walked};
pub use recovery::{Damage, Frame, OpenError, Recovery};
pub use scrub_note::ScrubNote;
pub use segments::SegmentInfo;
pub use store::{
    Applied, BUCKETS, BackupError, BackupInfo, Bounds, CompactError, MAX_NOTES_BYTES, Recovered,
    Restored, Scanned, ScrubPosition, Scrubbed, SnapshotError, SnapshotInfo, Step, Store,
    StoreOptions, StoreStats, restore,
};
