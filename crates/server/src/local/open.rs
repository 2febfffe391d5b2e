//! Opens the files of a node.

use std::{collections::BTreeSet, io, path::Path, sync::Arc};

use quorate_node::{Node, NodeOptions, Notes, NotesError, Now};
use quorate_record::{NodeId, Timestamp, Writer};
use quorate_ring::Ring;
use quorate_storage::{
    Damage, HintLog, HintLogOptions, HintsRecovered, Meta, MetaError, OpenError as LogOpenError,
    Recovered, Store, StoreOptions, fs::Fs,
};

use super::{Local, PERSISTS};

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
    /// What the node has noted cannot be read.
    #[error(transparent)]
    Notes(#[from] NotesError),
}

/// The files of a node, and what was found in them.
pub struct Opened {
    /// The files.
    pub local: Local,
    /// As whom the node writes.
    pub writer: Writer,
    /// What the node has noted for itself.
    pub notes: Notes,
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
        let before = meta.incarnation;
        let progress = Box::new(on_progress.clone());
        // The clock's ceiling may be among what was lost, and wall clocks go back: only another life cannot issue a
        // version twice. In that the node counts for nothing until what was lost is there again.
        let mut begin_another_life = || {
            if meta.incarnation == before {
                meta = meta.renew(&*fs, dir, wall_ms).map_err(io::Error::other)?;
            }
            Ok(())
        };
        let (store, store_found) = Store::open_guarded(
            Arc::clone(&fs),
            dir,
            &options.store,
            progress,
            &mut begin_another_life,
        )?;
        let mut notes = match &store_found.notes {
            Some(bytes) => Notes::decode(bytes)?,
            None => first_notes(&store_found, before),
        };
        let is_complete = store_found.damages.is_empty() && !store_found.is_doubtful;
        if notes.counted == before && is_complete {
            // What was only torn off had not been acknowledged.
            notes.counted = meta.incarnation;
        }
        // Before anything else goes into the log, so that no later start takes a new node for one
        // from a time without notes. If the disk is full, it is tried again at that start.
        let _ = store.keep_notes(PERSISTS, notes.horizon, &notes.encode());
        let (hint_log, hints_found) =
            HintLog::open(fs, &dir.join(HINTS_DIR), &options.hints, Box::new(on_progress))?;
        let local = Local { store, hints: hint_log };
        let writer = Writer { node, incarnation: meta.incarnation };
        Ok(Opened { local, writer, notes, store_found, hints_found })
    }

    /// Has the node be in another life when it is opened next, above this incarnation. The files must be closed.
    ///
    /// # Errors
    /// [`MetaError`].
    pub fn renew(fs: &dyn Fs, dir: &Path, above: u64, wall_ms: u64) -> Result<(), OpenError> {
        if let Some(meta) = Meta::read(fs, dir)? {
            let incarnation = meta.incarnation.max(above);
            Meta { incarnation, ..meta }.renew(fs, dir, wall_ms)?;
        }
        Ok(())
    }
}

/// The notes of a node that has none: it is new, or has data from a time when there were none, and counted all along.
fn first_notes(found: &Recovered, incarnation: u64) -> Notes {
    let is_old = found.records > 0 || found.clock_ceiling.is_some();
    let counted = if is_old { incarnation } else { 0 };
    Notes { counted, ..Notes::default() }
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
        let Opened { local, writer, notes, store_found, .. } = self;
        let ceiling = store_found.clock_ceiling.unwrap_or(Timestamp::ZERO);
        let hints = local.hints.summary();
        let mut node = Node::new(writer, ring, options, ceiling, notes, &hints, now);
        let damaged: BTreeSet<u64> = store_found.damages.iter().map(|it| it.segment).collect();
        node.expect_refill(damaged.len() as u64);
        (node, local)
    }
}
