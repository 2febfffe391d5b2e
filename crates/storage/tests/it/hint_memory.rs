//! What hints take up in memory: they are on disk, and there may be millions.

use std::sync::Arc;
use std::time::Duration;

use quorate_record::{Hint, HintKind, Key, NodeId, Record, Timestamp, Version, Writer};
use quorate_storage::{Drive, HintLog, HintLogOptions, LogOptions, RealFs, SyncPolicy};

const HINTS: u64 = 100_000;

fn open(dir: &std::path::Path) -> HintLog {
    let options = HintLogOptions::default();
    // On the caller's thread, where allocations are counted.
    let log = LogOptions { drive: Drive::Manual, sync: SyncPolicy::Os, ..options.log };
    let options = HintLogOptions { log, ..options };
    HintLog::open(Arc::new(RealFs), dir, &options, Box::new(|| {})).unwrap().0
}

fn hint(number: u64) -> Hint {
    let writer = Writer { node: NodeId::new("n1").unwrap(), incarnation: 1 };
    let version = Version { timestamp: Timestamp::from_wall_ms(1_000_000 + number), writer };
    Hint {
        target: NodeId::new("n2").unwrap(),
        key: Key::new(format!("user{number:012}")).unwrap(),
        record: Record::live(version, vec![7; 100]),
        kind: HintKind::Courtesy,
        added_ms: 1_000_000 + number,
    }
}

fn settle(log: &HintLog) {
    log.turn(Duration::ZERO);
    let mut done = Vec::new();
    log.take_completions(&mut done);
    assert!(done.iter().all(|completion| completion.outcome.is_ok()));
}

/// What stays in memory of what `f` makes, a hint, and that.
fn bytes_a_hint<T>(f: impl FnOnce() -> T) -> (i64, T) {
    let mut made = None;
    let info = allocation_counter::measure(|| made = Some(f()));
    (info.bytes_current / i64::try_from(HINTS).unwrap(), made.unwrap())
}

#[test]
fn hints_take_32_bytes_of_memory_each_at_most_before_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let (added, ()) = bytes_a_hint(|| {
        for number in 0..HINTS {
            log.add(number, &hint(number)).unwrap();
            if number % 100 == 99 {
                settle(&log);
            }
        }
    });
    assert!(added <= 32, "{added}");
    drop(log);
    let (found, log) = bytes_a_hint(|| open(dir.path()));
    assert!(found <= 32, "{found}");
    assert_eq!(log.stats().hints, HINTS);

    // All are delivered, and the space is back.
    let target = hint(0).target;
    let (mut after, mut delivered) = (None, 0);
    loop {
        let found = log.next(target, after, 256, 1 << 20).unwrap();
        for hint in &found.hints {
            assert_eq!(*hint, self::hint(delivered));
            delivered += 1;
            log.remove(target, &hint.key, hint.record.version);
        }
        settle(&log);
        after = found.last;
        if found.hints.is_empty() {
            break;
        }
    }
    while log.maintain().unwrap() {
        settle(&log);
    }
    let stats = log.stats();
    assert_eq!((delivered, stats.hints, stats.live_bytes, stats.segments), (HINTS, 0, 0, 1));
}
