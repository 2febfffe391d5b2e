//! The log with its own threads, on real files.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorate_storage::{Log, LogOptions, Progress, RealFs, SyncPolicy};

fn options(sync: SyncPolicy) -> LogOptions {
    LogOptions {
        sync,
        segment_bytes: 64 << 10,
        max_payload_bytes: 4 << 10,
        prepare_ahead_bytes: 16 << 10,
        prepare_chunk_bytes: 16 << 10,
        ..LogOptions::default()
    }
}

#[test]
fn sixteen_writers_get_numbers_of_their_own_and_all_of_it_is_back() {
    for sync in [SyncPolicy::Always, SyncPolicy::Interval(Duration::from_millis(2)), SyncPolicy::Os]
    {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) =
            Log::open(Arc::new(RealFs), dir.path(), &options(sync), |_| {}, |_| {}).unwrap();
        let written: BTreeMap<u64, Vec<u8>> = std::thread::scope(|scope| {
            let writers: Vec<_> = (1..=16usize)
                .map(|writer| {
                    let log = &log;
                    scope.spawn(move || {
                        let mine = (0..50u64).map(|n| {
                            let payload =
                                [writer.to_le_bytes(), n.to_le_bytes()].concat().repeat(writer);
                            (log.append(1, &payload).unwrap(), payload)
                        });
                        mine.collect::<Vec<_>>()
                    })
                })
                .collect();
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
        });
        assert!(written.keys().copied().eq(1..=800), "each append has a number of its own");
        assert!(log.stats().segments >= 2 && log.stats().batches <= 800);
        log.sync().unwrap();
        log.wait_for(800).unwrap();
        drop(log);
        let mut read = BTreeMap::new();
        let (_, found) = Log::open(
            Arc::new(RealFs),
            dir.path(),
            &options(sync),
            |_| {},
            |frame| {
                read.insert(frame.seq, frame.payload.to_vec());
            },
        )
        .unwrap();
        assert_eq!(read, written);
        assert!(found.damages.is_empty() && found.truncated_bytes == 0);
    }
}

#[test]
fn recycling_while_others_append_loses_nothing_that_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(SyncPolicy::Os);
    let (log, _) = Log::open(Arc::new(RealFs), dir.path(), &options, |_| {}, |_| {}).unwrap();
    let appended = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..400 {
                    appended.fetch_max(log.append(1, &[9; 1000]).unwrap(), Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            while appended.load(Ordering::Relaxed) < 1500 {
                log.recycle_below(log.durable_seq()).unwrap();
                std::thread::yield_now();
            }
        });
    });
    let durable = log.durable_seq();
    drop(log);
    let mut seqs = Vec::new();
    let (log, found) =
        Log::open(Arc::new(RealFs), dir.path(), &options, |_| {}, |frame| seqs.push(frame.seq))
            .unwrap();
    assert!(found.damages.is_empty());
    assert!(
        seqs[0] <= durable && seqs.last() == Some(&1600) && seqs.is_sorted_by(|a, b| a + 1 == *b)
    );
    assert!(log.stats().spares <= 2);
}

#[test]
fn an_idle_interval_is_synced_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let sync = SyncPolicy::Interval(Duration::from_millis(1));
    let (log, _) = Log::open(Arc::new(RealFs), dir.path(), &options(sync), |_| {}, |_| {}).unwrap();
    let seq = log.append(1, b"then nothing").unwrap();
    log.wait_for(seq).unwrap();
}

#[test]
fn an_append_that_is_not_synced_is_written_on_the_callers_thread_and_synced_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let news = heard.clone();
    let on_progress = move |_: Progress<'_>| news.lock().unwrap().push(std::thread::current().id());
    let interval = options(SyncPolicy::Interval(Duration::from_millis(2)));
    let (log, _) = Log::open(Arc::new(RealFs), dir.path(), &interval, on_progress, |_| {}).unwrap();
    let mut appended = 0;
    // The first ones may meet the writer's own thread at its turn.
    while heard.lock().unwrap().last() != Some(&std::thread::current().id()) {
        appended += 1;
        assert_eq!(log.append(1, b"here").unwrap(), appended);
        assert!(appended < 100_000, "never on this thread");
    }
    // Nobody asks for it, and nothing more comes.
    log.wait_for(appended).unwrap();
    assert_eq!(log.append(1, b"and again").unwrap(), appended + 1);
    log.wait_for(appended + 1).unwrap();
}

#[test]
fn a_listener_that_panics_ends_the_log_and_leaves_nobody_waiting() {
    for sync in [SyncPolicy::Always, SyncPolicy::Os] {
        let dir = tempfile::tempdir().unwrap();
        let on_progress = |progress: Progress<'_>| assert!(progress.first_ticket < 3, "enough");
        let (log, _) =
            Log::open(Arc::new(RealFs), dir.path(), &options(sync), on_progress, |_| {}).unwrap();
        let outcomes: Vec<_> = (1..=6)
            .map(|_| {
                let append = std::panic::AssertUnwindSafe(|| log.append(1, b"x").is_ok());
                std::panic::catch_unwind(append).unwrap_or(false)
            })
            .collect();
        assert_eq!(outcomes[..2], [true; 2], "{sync:?}");
        assert!(!outcomes[5], "{sync:?}: {outcomes:?}");
    }
}
