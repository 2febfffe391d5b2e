//! When submissions are settled, what is refused at once, and that any mix of sizes and batches reads back.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use quorate_storage::fault::{Crash, FaultFs};
use quorate_storage::{Drive, Frame, Log, LogError, LogOptions, Progress, SyncPolicy, Written};

use crate::scene::{DIR, append, genuine, kind_of, open, payload, small, submit};

const MS: Duration = Duration::from_millis(1);

#[test]
fn always_settles_a_batch_after_one_sync() {
    let fs = FaultFs::new();
    let log = open(&fs, &small()).log;
    append(&log, [1]);
    let stats = log.stats();
    submit(&log, 2..=5);
    log.turn(Duration::ZERO);
    assert_eq!(log.durable_seq(), 5);
    assert_eq!((log.stats().batches, log.stats().syncs), (stats.batches + 1, stats.syncs + 1));
}

#[test]
fn an_interval_settles_at_once_and_syncs_in_time_even_when_idle() {
    let fs = FaultFs::new();
    let log = open(&fs, &LogOptions { sync: SyncPolicy::Interval(10 * MS), ..small() }).log;
    submit(&log, 1..=2);
    assert_eq!(log.turn(5 * MS), Some(15 * MS));
    assert_eq!((log.stats().last_seq, log.durable_seq()), (2, 0));
    submit(&log, 3..=3);
    assert_eq!(log.turn(9 * MS), Some(15 * MS));
    assert_eq!(log.turn(15 * MS), None);
    assert_eq!(log.durable_seq(), 3);
    assert_eq!(genuine(&open(&fs.crash(Crash::Nothing), &small()).frames), [1, 2, 3]);
}

#[test]
fn the_operating_system_decides_unless_asked() {
    let fs = FaultFs::new();
    let log = open(&fs, &LogOptions { sync: SyncPolicy::Os, ..small() }).log;
    append(&log, 1..=3);
    assert_eq!(log.durable_seq(), 0);
    log.sync().unwrap();
    assert_eq!(log.durable_seq(), 3);
    log.wait_for(3).unwrap();
    append(&log, [4]);
    drop(log);
    let after = open(&fs.crash(Crash::Nothing), &small());
    assert_eq!(genuine(&after.frames), [1, 2, 3, 4], "closing syncs");
}

#[test]
fn what_is_too_large_or_too_much_is_refused_at_once() {
    let fs = FaultFs::new();
    let log = open(&fs, &LogOptions { queue_bytes: 1000, ..small() }).log;
    assert!(matches!(
        log.submit(1, &[0; 4097]),
        Err(LogError::TooLarge { bytes: 4097, limit_bytes: 4096 })
    ));
    let too_large = log.submit_with(1, 0, |buf| buf.resize(buf.len() + 5000, 1));
    assert!(matches!(too_large, Err(LogError::TooLarge { bytes: 5000, .. })));
    // One always fits, whatever its size.
    log.submit(1, &[0; 4096]).unwrap();
    assert!(matches!(log.submit(1, &[0; 10]), Err(LogError::Busy { queued_bytes: 4120 })));
    log.turn(Duration::ZERO);
    log.submit(1, &[0; 10]).unwrap();
    assert_eq!(log.stats().queued_bytes, 40);
}

#[test]
fn an_encoder_that_panics_leaves_no_trace() {
    let fs = FaultFs::new();
    let log = open(&fs, &small()).log;
    submit(&log, [1]);
    let panicking = std::panic::AssertUnwindSafe(|| {
        let _ = log.submit_with(1, 0, |buf| {
            buf.extend_from_slice(b"half of it");
            panic!("on purpose");
        });
    });
    std::panic::catch_unwind(panicking).unwrap_err();
    append(&log, [2]);
    drop(log);
    assert_eq!(genuine(&open(&fs, &small()).frames), [1, 2]);
}

#[test]
fn progress_is_told_once_a_batch_and_in_order() {
    let news = Arc::new(Mutex::new(Vec::new()));
    let heard = news.clone();
    let fs: Arc<FaultFs> = Arc::default();
    let on_progress = move |progress: Progress<'_>| {
        let last_seq = progress.outcome.as_ref().unwrap();
        heard.lock().unwrap().push((progress.tickets(), *last_seq));
    };
    let (log, _) = Log::open(fs, Path::new(DIR), &small(), on_progress, |_| {}).unwrap();
    submit(&log, 1..=3);
    log.turn(Duration::ZERO);
    submit(&log, 4..=4);
    log.turn(Duration::ZERO);
    assert_eq!(*news.lock().unwrap(), [(1..=3, 3), (4..=4, 4)]);
}

#[test]
fn each_submission_is_told_where_it_was_written() {
    let told = Arc::new(Mutex::new(Vec::<Written>::new()));
    let heard = told.clone();
    let fs: Arc<FaultFs> = Arc::default();
    let on_progress = move |progress: Progress<'_>| heard.lock().unwrap().extend(progress.frames);
    let (log, _) = Log::open(fs.clone(), Path::new(DIR), &small(), on_progress, |_| {}).unwrap();
    for tag in 1..=120 {
        log.submit_with(1, tag, |buf| buf.extend(payload(tag))).unwrap();
        if tag % 7 == 0 {
            log.turn(Duration::ZERO);
        }
    }
    drop(log);
    let mut found = Vec::new();
    let replay = |frame: Frame<'_>| {
        found.push(Written { tag: frame.seq, place: frame.place, bytes: frame.bytes })
    };
    let (log, _) = Log::open(fs, Path::new(DIR), &small(), |_| {}, replay).unwrap();
    assert!(log.stats().segments > 2);
    assert_eq!(*told.lock().unwrap(), found);
    assert_eq!(found.len(), 120);
}

#[test]
fn stats_count_what_is_there() {
    let fs = FaultFs::new();
    let log = open(&fs, &small()).log;
    append(&log, 1..=100);
    let stats = log.stats();
    assert!(
        stats.segments >= 2
            && stats.frames == 100
            && stats.last_seq == 100
            && stats.durable_seq == 100
    );
    let frames: u64 =
        (1..=100).map(|seq| (24 + payload(seq).len() as u64).next_multiple_of(8)).sum();
    assert_eq!(stats.bytes, frames + 512 * stats.segments);
    drop(log);
    let again = open(&fs, &small()).log.stats();
    assert_eq!(
        (again.frames, again.bytes, again.last_seq),
        (stats.frames, stats.bytes, stats.last_seq)
    );
}

#[derive(Clone, Debug)]
enum Step {
    Batch(Vec<usize>),
    Reopen,
    Recycle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![0..200usize, Just(4096), 3900..4096usize];
    let step = prop_oneof![
        6 => prop::collection::vec(size, 1..8).prop_map(Step::Batch),
        1 => Just(Step::Reopen),
        1 => Just(Step::Recycle),
    ];
    prop::collection::vec(step, 1..40)
}

fn policy() -> impl Strategy<Value = SyncPolicy> {
    prop_oneof![Just(SyncPolicy::Always), Just(SyncPolicy::Interval(3 * MS)), Just(SyncPolicy::Os)]
}

proptest! {
    #[test]
    fn any_mix_of_sizes_and_batches_reads_back(steps in steps(), sync in policy()) {
        let fs = FaultFs::new();
        let options = LogOptions { sync, ..small() };
        let filled = |seq: u64, len: usize| vec![u8::try_from(seq % 251).unwrap(); len];
        let reopen = || {
            let mut frames = Vec::new();
            let options = LogOptions { drive: Drive::Manual, ..options.clone() };
            let (log, found) = Log::open(Arc::new(fs.clone()), Path::new(DIR), &options, |_| {}, |frame| {
                frames.push((frame.seq, frame.kind, frame.payload.to_vec()));
            }).unwrap();
            assert!(found.damages.is_empty() && found.truncated_bytes == 0);
            (log, frames)
        };
        let mut written = Vec::new();
        let (mut log, _) = reopen();
        let mut kept_from = 1;
        for (now, step) in (0..).zip(steps) {
            match step {
                Step::Batch(sizes) => {
                    for len in sizes {
                        let seq = written.len() as u64 + 1;
                        log.submit(kind_of(seq), &filled(seq, len)).unwrap();
                        written.push((seq, kind_of(seq), filled(seq, len)));
                    }
                    log.turn(now * MS);
                    prop_assert_eq!(log.stats().last_seq, written.len() as u64);
                }
                Step::Recycle => {
                    log.recycle_below(log.durable_seq()).unwrap();
                    kept_from = kept_from.max(log.durable_seq());
                }
                Step::Reopen => {
                    drop(log);
                    let frames;
                    (log, frames) = reopen();
                    let first = frames.first().map_or(1, |frame| frame.0);
                    prop_assert!(first <= kept_from.max(1));
                    prop_assert_eq!(&frames[..], &written[usize::try_from(first).unwrap() - 1..]);
                }
            }
        }
    }
}
