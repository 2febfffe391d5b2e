//! A running node over the files of its machine.

use std::{path::Path, sync::Arc};

use quorate_node::{MAX_CELLS, Node, NodeOptions, Now};
use quorate_record::{Hint, NodeId};
use quorate_ring::Ring;
use quorate_server::local::{Local, LocalOptions, OpenError, Opened};
use quorate_storage::{
    Drive, HintLogOptions, LogOptions, StoreOptions, SyncPolicy, fault::FaultFs,
};

/// How the files of a node behave. Everything is small, so that everything that happens seldom happens soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// When a write counts as done.
    pub sync: SyncPolicy,
    /// Size of a segment; a record of the largest size must fit into it.
    pub segment_bytes: u64,
    /// Size of the largest record, at most 160 KiB.
    pub max_payload_bytes: u64,
    /// A snapshot is made when so much was logged since the last one.
    pub snapshot_after_bytes: u64,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self {
            sync: SyncPolicy::Always,
            segment_bytes: 256 << 10,
            max_payload_bytes: 160 << 10,
            snapshot_after_bytes: 256 << 10,
        }
    }
}

impl FileOptions {
    fn local(&self) -> LocalOptions {
        let mut store = StoreOptions::new(quorate_ring::token);
        store.log = self.log();
        store.snapshot_after_bytes = self.snapshot_after_bytes;
        store.compact_at_percent = 50;
        // A few records in each part of the store.
        store.cache_bytes = 512 << 10;
        store.sketch_cells = MAX_CELLS;
        store.secret = Some(*b"the same one ago");
        let hints =
            HintLogOptions { log: self.log(), dead_bytes_at_least: self.snapshot_after_bytes };
        LocalOptions { store, hints }
    }

    fn log(&self) -> LogOptions {
        LogOptions {
            sync: self.sync,
            drive: Drive::Manual,
            segment_bytes: self.segment_bytes,
            max_payload_bytes: self.max_payload_bytes,
            queue_bytes: 1 << 20,
            prepare_ahead_bytes: 16 << 10,
            prepare_chunk_bytes: 16 << 10,
            max_spares: 2,
            ..LogOptions::default()
        }
    }
}

/// A node at work, with its files open.
pub(crate) struct Process {
    pub(crate) node: Node,
    pub(crate) local: Local,
    /// When the node is to be woken, if that is planned.
    pub(crate) wake_us: Option<u64>,
    /// Whether the store's log and the hints' log have a turn planned.
    pub(crate) turns: [bool; 2],
    /// What hints may take up at most: what they are allowed, or what is left of what there was at the start.
    pub(crate) max_hint_bytes: u64,
}

/// Which log a turn is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Store,
    Hints,
}

const DATA_DIR: &str = "/data";

/// Opens the files of a node, as a server does.
pub(crate) fn open(
    fs: &FaultFs,
    id: NodeId,
    ring: &Ring<NodeId>,
    files: &FileOptions,
    now: Now,
) -> Result<Opened, OpenError> {
    let (fs, dir) = (Arc::new(fs.clone()), Path::new(DATA_DIR));
    Local::open(fs, dir, id, ring, &files.local(), now.wall_ms, || {})
}

/// Has a node be in another life when its files are opened next.
pub(crate) fn renew(fs: &FaultFs, above: u64, now: Now) -> Result<(), OpenError> {
    Local::renew(fs, Path::new(DATA_DIR), above, now.wall_ms)
}

impl Process {
    /// Starts a node on its files, as a server does.
    pub(crate) fn start(
        opened: Opened,
        ring: &Ring<NodeId>,
        options: &NodeOptions,
        now: Now,
    ) -> Self {
        let (node, local) = opened.start(ring.clone(), options.clone(), now);
        let max_hint_bytes = options.hint_max_bytes.max(node.hints().used_bytes());
        Self { node, local, wake_us: None, turns: [false; 2], max_hint_bytes }
    }

    /// The hints in the queue; `None` if the device does not give them.
    pub(crate) fn hints(&self) -> Option<Vec<Hint>> {
        let (mut hints, mut after) = (Vec::new(), None);
        loop {
            let page = self.local.hints.page(after, usize::MAX).ok()?;
            hints.extend(page.hints);
            after = page.last;
            if after.is_none() {
                return Some(hints);
            }
        }
    }
}
