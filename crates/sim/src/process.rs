//! A running node over the files of its machine.

use std::{path::Path, sync::Arc};

use quorate_node::{Node, NodeOptions, Now};
use quorate_record::{NodeId, Timestamp, Writer};
use quorate_ring::Ring;
use quorate_server::local::Local;
use quorate_storage::{
    Damage, Drive, HintLog, HintLogOptions, LogOptions, Meta, Store, StoreOptions, SyncPolicy,
    fault::FaultFs, fs::Fs,
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
            next_seq_at_least: 1,
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
}

/// Which log a turn is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Store,
    Hints,
}

pub(crate) struct Opened {
    pub(crate) process: Process,
    pub(crate) damages: Vec<Damage>,
    pub(crate) truncated_bytes: u64,
}

const DATA_DIR: &str = "/data";

/// How far ahead of the wall clock a ceiling that was lost is taken to have been, as a server does.
const MOST_LOST_CEILING_MS: u64 = 1_000;

/// Opens the files of a node and starts it, as a server does.
pub(crate) fn open(
    fs: &FaultFs,
    id: NodeId,
    ring: &Ring<NodeId>,
    node: &NodeOptions,
    files: &FileOptions,
    now: Now,
) -> Result<Opened, Box<dyn std::error::Error + Send + Sync>> {
    let fs: Arc<dyn Fs> = Arc::new(fs.clone());
    let dir = Path::new(DATA_DIR);
    let wanted = Meta { node: id, cluster: ring.fingerprint(), incarnation: now.wall_ms };
    let meta = Meta::open(&*fs, dir, wanted)?;

    let mut store_options = StoreOptions::new(quorate_ring::token);
    store_options.log = files.log();
    store_options.snapshot_after_bytes = files.snapshot_after_bytes;
    let (store, found) = Store::open(Arc::clone(&fs), dir, &store_options, Box::new(|| {}))?;
    let hint_options =
        HintLogOptions { log: files.log(), dead_bytes_at_least: files.snapshot_after_bytes };
    let hint_dir = dir.join("hints");
    let (hints, held, found_hints) = HintLog::open(fs, &hint_dir, &hint_options, Box::new(|| {}))?;

    let writer = Writer { node: id, incarnation: meta.incarnation };
    let mut ceiling = found.clock_ceiling.unwrap_or(Timestamp::ZERO);
    if !found.damages.is_empty() {
        // A greater one may be among what was lost.
        let ahead_ms = node.max_clock_skew_ms.min(MOST_LOST_CEILING_MS);
        ceiling = ceiling.max(Timestamp::from_wall_ms(now.wall_ms + ahead_ms));
    }
    let node = Node::new(writer, ring.clone(), node.clone(), ceiling, held, now);
    let process = Process { node, local: Local { store, hints }, wake_us: None, turns: [false; 2] };
    let truncated_bytes = found.truncated_bytes + found_hints.truncated_bytes;
    let damages = found.damages.into_iter().chain(found_hints.damages).collect();
    Ok(Opened { process, damages, truncated_bytes })
}
