//! Opens the files of a node.

use std::{path::Path, sync::Arc};

use quorate_node::{Node, NodeOptions, Now};
use quorate_record::{NodeId, Timestamp, Writer};
use quorate_ring::Ring;
use quorate_storage::{
    Damage, HintLog, HintLogOptions, HintsRecovered, Meta, MetaError, OpenError as LogOpenError,
    Recovered, Store, StoreOptions, fs::Fs,
};

use super::Local;

/// The folder of the hint queue, in the data folder.
pub const HINTS_DIR: &str = "hints";

/// How the files of a node behave.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// How the store behaves.
    pub store: StoreOptions,
    /// How the hint queue behaves.
    pub hints: HintLogOptions,
}

/// Why the files of a node could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder is not this node's, or does not say whose it is.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The records or the hints cannot be read.
    #[error(transparent)]
    Log(#[from] LogOpenError),
}

/// The files of a node, and what was found in them.
pub struct Opened {
    /// The files.
    pub local: Local,
    /// As whom the node writes.
    pub writer: Writer,
    /// What was found of the store.
    pub store_found: Recovered,
    /// What was found of the hint queue.
    pub hints_found: HintsRecovered,
}

impl Local {
    /// Opens the files in `dir`, which is created if need be, for a node of this ring. A folder that
    /// is new begins another life of the node at `wall_ms`, its wall clock in milliseconds since the
    /// Unix epoch; so does one whose store has lost something, or may have.
    ///
    /// `on_progress` is called whenever there may be [replies](Self::take_replies).
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        node: NodeId,
        ring: &Ring<NodeId>,
        options: &LocalOptions,
        wall_ms: u64,
        on_progress: impl Fn() + Clone + Send + Sync + 'static,
    ) -> Result<Opened, OpenError> {
        // A new life begins with the wall clock, so later ones are greater.
        let wanted = Meta { node, cluster: ring.fingerprint(), incarnation: wall_ms };
        let mut meta = Meta::open(&*fs, dir, wanted)?;
        let progress = Box::new(on_progress.clone());
        let (store, store_found) = Store::open(Arc::clone(&fs), dir, &options.store, progress)?;
        if !store_found.damages.is_empty() || store_found.truncated_bytes > 0 {
            // The clock's ceiling may be among what was lost, and wall clocks go back: only another
            // life cannot issue a version twice. What was cut may be damage in the last batch.
            meta = meta.renew(&*fs, dir, wall_ms)?;
        }
        let (hint_log, hints_found) =
            HintLog::open(fs, &dir.join(HINTS_DIR), &options.hints, Box::new(on_progress))?;
        let local = Local { store, hints: hint_log };
        let writer = Writer { node, incarnation: meta.incarnation };
        Ok(Opened { local, writer, store_found, hints_found })
    }
}

impl Opened {
    /// Bytes cut from the ends of the logs: unfinished writes, or damage in a last batch.
    #[must_use]
    pub fn truncated_bytes(&self) -> u64 {
        self.store_found.truncated_bytes + self.hints_found.truncated_bytes
    }

    /// What was found damaged: records or hints may have been lost that others count on.
    pub fn damages(&self) -> impl Iterator<Item = &Damage> {
        self.store_found.damages.iter().chain(&self.hints_found.damages)
    }

    /// A node that goes on from what was found, and the files that it goes on with.
    ///
    /// # Panics
    /// If the ring does not have the node.
    #[must_use]
    pub fn start(self, ring: Ring<NodeId>, options: NodeOptions, now: Now) -> (Node, Local) {
        let Opened { local, writer, store_found, .. } = self;
        let ceiling = store_found.clock_ceiling.unwrap_or(Timestamp::ZERO);
        let hints = local.hints.summary();
        (Node::new(writer, ring, options, ceiling, &hints, now), local)
    }
}
