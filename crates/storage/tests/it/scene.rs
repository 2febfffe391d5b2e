//! A small log on a file system in memory, and what was read back from it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use quorate_storage::fault::FaultFs;
use quorate_storage::{Drive, Log, LogOptions, OpenError, Recovery, SyncPolicy};

pub(crate) const DIR: &str = "/log";

/// Options small enough that a few frames fill a segment; everything happens on the test's thread.
pub(crate) fn small() -> LogOptions {
    LogOptions {
        sync: SyncPolicy::Always,
        drive: Drive::Manual,
        segment_bytes: 5632,
        max_payload_bytes: 4096,
        queue_bytes: 64 << 10,
        prepare_ahead_bytes: 1024,
        prepare_chunk_bytes: 1024,
        max_spares: 1,
        ..LogOptions::default()
    }
}

/// A log just opened, with what it gave back.
pub(crate) struct Opened {
    pub(crate) log: Log,
    pub(crate) found: Recovery,
    pub(crate) frames: Vec<(u64, Vec<u8>)>,
}

pub(crate) fn try_open(fs: &FaultFs, options: &LogOptions) -> Result<Opened, OpenError> {
    let mut frames = Vec::new();
    let (log, found) = Log::open(
        Arc::new(fs.clone()),
        Path::new(DIR),
        options,
        |_| {},
        |frame| {
            assert_eq!(frame.kind, kind_of(frame.seq), "the kind of frame {}", frame.seq);
            frames.push((frame.seq, frame.payload.to_vec()));
        },
    )?;
    assert_eq!(found.frames, frames.len() as u64);
    Ok(Opened { log, found, frames })
}

pub(crate) fn open(fs: &FaultFs, options: &LogOptions) -> Opened {
    try_open(fs, options).expect("the log opens")
}

/// The payload that the tests append as frame `seq`: of any size, and different from every other.
pub(crate) fn payload(seq: u64) -> Vec<u8> {
    // Made once: some tests compare millions of them.
    static MADE: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| (0..1024).map(make_payload).collect());
    usize::try_from(seq)
        .ok()
        .and_then(|seq| MADE.get(seq))
        .cloned()
        .unwrap_or_else(|| make_payload(seq))
}

fn make_payload(seq: u64) -> Vec<u8> {
    let len = 8 + (seq * 37 % 200);
    (0..len)
        .map(|at| u8::try_from((seq * 131 + at * 7) % 251).unwrap())
        .chain(seq.to_le_bytes())
        .collect()
}

pub(crate) fn kind_of(seq: u64) -> u8 {
    u8::try_from(seq % 200).unwrap() + 1
}

/// Appends frame after frame, synced one by one.
pub(crate) fn append(log: &Log, seqs: impl IntoIterator<Item = u64>) {
    for seq in seqs {
        assert_eq!(log.append(kind_of(seq), &payload(seq)).unwrap(), seq);
    }
}

/// Queues frames without writing them, so that the next turn writes them together.
pub(crate) fn submit(log: &Log, seqs: impl IntoIterator<Item = u64>) {
    for seq in seqs {
        log.submit(kind_of(seq), &payload(seq)).unwrap();
    }
}

/// Checks that frames are unchanged and in order, and returns their numbers.
pub(crate) fn genuine(frames: &[(u64, Vec<u8>)]) -> Vec<u64> {
    let seqs: Vec<u64> = frames.iter().map(|(seq, _)| *seq).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "out of order: {seqs:?}");
    for (seq, bytes) in frames {
        assert_eq!(*bytes, payload(*seq), "frame {seq} is not what was appended");
    }
    seqs
}

pub(crate) fn segments(fs: &FaultFs) -> Vec<PathBuf> {
    use quorate_storage::fs::Fs;
    let names = fs.list(Path::new(DIR)).unwrap();
    names
        .iter()
        .filter(|name| name.ends_with(".qlog"))
        .map(|name| Path::new(DIR).join(name))
        .collect()
}
