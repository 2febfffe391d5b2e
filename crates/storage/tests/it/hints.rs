//! The hint log under crashes and failures at every file operation, and under many threads.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use quorate_record::{Hint, HintKind, Key, NodeId, Record, Timestamp, Version, Writer};
use quorate_storage::fault::{Crash, Fault, FaultFs, FaultKind};
use quorate_storage::{Drive, HintLog, HintLogOptions, LogOptions, RealFs};

const DIR: &str = "/data/hints";
const HINTS: u64 = 90;

fn options() -> HintLogOptions {
    let log = LogOptions {
        drive: Drive::Manual,
        segment_bytes: 2048,
        max_payload_bytes: 1024,
        prepare_ahead_bytes: 512,
        prepare_chunk_bytes: 512,
        ..LogOptions::default()
    };
    HintLogOptions { log, dead_bytes_at_least: 1024 }
}

fn version(timestamp: u64) -> Version {
    let writer = Writer { node: NodeId::new("n1").unwrap(), incarnation: 1 };
    Version { timestamp: Timestamp::from_bits(timestamp), writer }
}

/// The hint with this number; three in a row are for one key, each newer than the one before.
fn hint(number: u64) -> Hint {
    Hint {
        target: NodeId::new("n2").unwrap(),
        key: Key::new(format!("key{}", number / 3)).unwrap(),
        record: Record::live(version(number + 1), format!("value {number:0100}")),
        kind: HintKind::Owed,
        added_ms: number,
    }
}

/// Whether the hints of this key are removed in the end.
fn is_removed(key: u64) -> bool {
    !key.is_multiple_of(5)
}

/// By key, the newest hint that was promised and not removed.
type Promised = BTreeMap<Key, Hint>;

fn run(fs: &FaultFs) -> Promised {
    let mut promised = Promised::new();
    let opened = HintLog::open(Arc::new(fs.clone()), DIR.as_ref(), &options(), Box::new(|| {}));
    let Ok((log, _)) = opened else { return promised };
    for number in 0..HINTS {
        let _ = log.add(number, &hint(number));
        if number % 3 == 2 {
            log.turn(Duration::ZERO);
            take_in(&log, &mut promised);
            if is_removed(number / 3) {
                let Hint { target, key, .. } = hint(number);
                promised.remove(&key);
                log.remove(target, &key, version(number + 1));
            }
            let _ = log.maintain();
        }
    }
    for _ in 0..4 {
        log.turn(Duration::ZERO);
        take_in(&log, &mut promised);
        let _ = log.maintain();
    }
    promised
}

fn take_in(log: &HintLog, promised: &mut Promised) {
    let mut done = Vec::new();
    log.take_completions(&mut done);
    for completion in done.iter().filter(|completion| completion.outcome.is_ok()) {
        let hint = hint(completion.id);
        promised.insert(hint.key.clone(), hint);
    }
}

fn reopen(fs: &FaultFs, at: &str) -> (HintLog, BTreeMap<Key, Hint>) {
    let opened = HintLog::open(Arc::new(fs.clone()), DIR.as_ref(), &options(), Box::new(|| {}));
    let (log, recovered) = opened.unwrap();
    assert!(recovered.damages.is_empty() && recovered.unknown_frames == 0, "{at}: {recovered:?}");
    let found = log.page(None, 1000).unwrap();
    assert_eq!(found.hints.len() as u64, log.stats().hints, "{at}");
    (log, found.hints.into_iter().map(|hint| (hint.key.clone(), hint)).collect())
}

fn check(fs: &FaultFs, promised: &Promised, at: &str) {
    let (log, found) = reopen(fs, at);
    for (key, hint) in promised {
        let found = found.get(key).map(|found| &found.record);
        assert!(found >= Some(&hint.record), "{at}: {key} is lost");
    }
    for found in found.values() {
        assert_eq!(found, &hint(found.added_ms), "{at}");
    }
    // It goes on from here.
    let mut found = found;
    log.add(0, &hint(1000)).unwrap();
    found.insert(hint(1000).key, hint(1000));
    while log.maintain().unwrap() {
        log.turn(Duration::ZERO);
    }
    log.turn(Duration::ZERO);
    assert_eq!(reopen(&fs.crash(Crash::Nothing), at).1, found, "{at}");
}

#[test]
fn a_crash_at_any_file_operation_loses_no_hint() {
    for at in 0.. {
        let fs = FaultFs::new();
        fs.set_fault(Some(Fault { at, kind: FaultKind::Io, sticky: true, seed: at }));
        let promised = run(&fs);
        let mut crashes = vec![Crash::Nothing, Crash::Everything];
        crashes.extend((0..4).map(Crash::Prefix));
        crashes.extend((0..4).map(|n| Crash::Random(100 * at + n)));
        for crash in crashes {
            check(&fs.crash(crash), &promised, &format!("operation {at}, {crash:?}"));
        }
        if fs.operations() <= at {
            let left: Vec<u64> = (0..HINTS / 3).filter(|key| !is_removed(*key)).collect();
            assert!(at > 100 && promised.len() == left.len());
            return;
        }
    }
}

#[test]
fn a_failure_of_any_file_operation_loses_no_hint() {
    for kind in [FaultKind::Io, FaultKind::NoSpace, FaultKind::ShortWrite] {
        for at in 0.. {
            let fs = FaultFs::new();
            fs.set_fault(Some(Fault { at, kind, sticky: false, seed: at }));
            let promised = run(&fs);
            for crash in [Crash::Nothing, Crash::Everything, Crash::Random(at)] {
                check(
                    &fs.crash(crash),
                    &promised,
                    &format!("{kind:?} at operation {at}, {crash:?}"),
                );
            }
            if fs.operations() <= at {
                break;
            }
        }
    }
}

#[test]
fn adding_removing_and_tidying_from_many_threads_agree() {
    const THREADS: u64 = 6;
    const EACH: u64 = 300;
    let dir = tempfile::tempdir().unwrap();
    let mut options = options();
    options.log.drive = Drive::Threads;
    options.log.segment_bytes = 16 << 10;
    let done = Arc::new((Mutex::new(0_u64), Condvar::new()));
    let bell = done.clone();
    let ring = move || {
        *bell.0.lock().unwrap() += 1;
        bell.1.notify_all();
    };
    let (log, _) = HintLog::open(Arc::new(RealFs), dir.path(), &options, Box::new(ring)).unwrap();
    let hint = |thread: u64, number: u64| Hint {
        target: NodeId::new(&format!("t{thread}")).unwrap(),
        ..self::hint(3 * number)
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = &log;
            scope.spawn(move || {
                for number in 0..EACH {
                    let hint = hint(thread, number);
                    log.add(number, &hint).unwrap();
                    if is_removed(number) {
                        log.remove(hint.target, &hint.key, hint.record.version);
                    }
                }
            });
        }
        let (mut seen, mut completions) = (0, Vec::new());
        while (completions.len() as u64) < THREADS * EACH {
            let rung = done.1.wait_while(done.0.lock().unwrap(), |rung| *rung == seen).unwrap();
            seen = *rung;
            drop(rung);
            log.take_completions(&mut completions);
            log.maintain().unwrap();
        }
        assert!(completions.iter().all(|completion| completion.outcome.is_ok()));
    });
    drop(log);
    let (log, _) = HintLog::open(Arc::new(RealFs), dir.path(), &options, Box::new(|| {})).unwrap();
    let mut found = log.page(None, 10_000).unwrap().hints;
    found.sort_by_key(|hint| (hint.target, hint.key.clone()));
    let left = |thread| {
        (0..EACH).filter(|number| !is_removed(*number)).map(move |number| hint(thread, number))
    };
    let mut expected: Vec<Hint> = (0..THREADS).flat_map(left).collect();
    expected.sort_by_key(|hint| (hint.target, hint.key.clone()));
    assert_eq!(found, expected);
}
