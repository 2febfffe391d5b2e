//! Segments given up anywhere in a log: what was given up stays gone, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorate_storage::fault::{Crash, Fault, FaultFs, FaultKind};
use quorate_storage::fs::Fs;
use quorate_storage::{Log, LogOptions, Place, Progress, ReadError};

use crate::scene::{DIR, Opened, append, genuine, kind_of, open, payload, segments, small};

fn tiny() -> LogOptions {
    LogOptions { segment_bytes: 4096, max_payload_bytes: 2048, ..small() }
}

/// What a script has been promised, and what it has taken back.
#[derive(Default)]
struct Promise {
    /// In which segment each acknowledged frame is.
    acked: BTreeMap<u64, u64>,
    submitted: u64,
    /// Segments that were, or were about to be, given up.
    leaving: BTreeSet<u64>,
    /// Those of them that were.
    gone: BTreeSet<u64>,
}

/// Releases one segment and notes it.
fn release(log: &Log, segment: u64, promise: &mut Promise) -> io::Result<()> {
    promise.leaving.insert(segment);
    log.release(segment)?;
    promise.gone.insert(segment);
    Ok(())
}

/// Appends and releases now here, now there, and opens the log again. Goes on after failures as long as it can.
fn script(fs: &FaultFs, promise: &mut Promise) {
    for _ in 0..2 {
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = told.clone();
        let on_progress = move |progress: Progress<'_>| {
            let Ok(last) = progress.outcome else { return };
            let first = last + 1 - progress.frames.len() as u64;
            let segments = progress.frames.iter().map(|frame| frame.place.segment);
            heard.lock().unwrap().extend((first..).zip(segments));
        };
        let opened = Log::open(Arc::new(fs.clone()), Path::new(DIR), &tiny(), on_progress, |_| {});
        let Ok((log, found)) = opened else { continue };
        promise.submitted = promise.submitted.max(found.last_seq);
        for round in 0..14_usize {
            let from = log.stats().last_seq + 1;
            for seq in from..from + 24 {
                promise.submitted = promise.submitted.max(seq);
                let _ = log.submit(kind_of(seq), &payload(seq));
            }
            log.turn(Duration::ZERO);
            promise.acked.extend(told.lock().unwrap().drain(..));
            let there = log.segments();
            let sealed = there.len().saturating_sub(1);
            // The newest of the sealed ones, then one in the middle, then the oldest: gaps arise, grow together and go.
            let at = [sealed.saturating_sub(1), sealed / 2, 0][round % 3];
            if sealed > 2 {
                let _ = release(&log, there[at].number, promise);
            }
        }
    }
}

/// Checks a log, twice, with an append between.
fn kept(after: &FaultFs, promise: &Promise, context: &str) {
    let Opened { log, found, frames } = open(after, &tiny());
    assert_eq!(found.damages, [], "{context}");
    let seqs: BTreeSet<u64> = genuine(&frames).into_iter().collect();
    for (seq, segment) in &promise.acked {
        let is_there = seqs.contains(seq);
        assert!(is_there || promise.leaving.contains(segment), "{context}: {seq} is lost");
        assert!(!is_there || !promise.gone.contains(segment), "{context}: {seq} is back");
    }
    let last = found.last_seq;
    let acked = promise.acked.last_key_value().map_or(0, |(seq, _)| *seq);
    assert!(acked <= last && last <= promise.submitted, "{context}: {acked}, {last}");
    append(&log, [last + 1]);
    // What was recorded when the power went must have gone, and the next one must not bring it back.
    if let [oldest, _, ..] = log.segments()[..] {
        log.release(oldest.number).unwrap();
    }
    let names: Vec<_> = log.segments().iter().map(|segment| segment.number).collect();
    assert_eq!(segments(after).len(), names.len(), "{context}: a file is left over");
    drop(log);
    let again = open(&after.crash(Crash::Nothing), &tiny());
    assert_eq!(again.found.damages, [], "{context}: the second time");
    assert_eq!(again.found.last_seq, last + 1, "{context}: the second time");
}

fn crashes() -> impl Iterator<Item = Crash> {
    let plain = [Crash::Nothing, Crash::Everything, Crash::Prefix(0), Crash::Prefix(1)];
    plain.into_iter().chain((0..4).map(Crash::Random))
}

#[test]
fn a_crash_at_any_operation_loses_nothing_and_brings_nothing_back() {
    for at in 0.. {
        let fs = FaultFs::new();
        fs.set_fault(Some(Fault { at, kind: FaultKind::Io, sticky: true, seed: at }));
        let mut promise = Promise::default();
        script(&fs, &mut promise);
        let done = fs.operations() <= at;
        for crash in crashes() {
            kept(&fs.crash(crash), &promise, &format!("operation {at}, {crash:?}"));
        }
        if done {
            assert!(at > 200 && promise.acked.len() > 200 && promise.gone.len() > 15);
            return;
        }
    }
}

#[test]
fn one_operation_that_fails_loses_nothing_and_brings_nothing_back() {
    for kind in [FaultKind::Io, FaultKind::NoSpace, FaultKind::NoDescriptor, FaultKind::ShortWrite]
    {
        for at in 0.. {
            let fs = FaultFs::new();
            fs.set_fault(Some(Fault { at, kind, sticky: false, seed: at }));
            let mut promise = Promise::default();
            script(&fs, &mut promise);
            let done = fs.operations() <= at;
            fs.set_fault(None);
            let context = format!("{kind:?} at {at}");
            kept(&fs.crash(Crash::Nothing), &promise, &context);
            kept(&fs.crash(Crash::Random(at)), &promise, &context);
            kept(&fs, &promise, &context);
            if done {
                break;
            }
        }
    }
}

#[test]
fn a_crash_while_leftovers_go_keeps_them_given_up() {
    // The record is durable, but no file went.
    let fs = FaultFs::new();
    let mut promise = Promise::default();
    let log = open(&fs, &tiny()).log;
    append(&log, 1..=200);
    let there = log.segments();
    let replayed = open(&fs.fork(), &tiny());
    let in_segments = replayed.log.segments();
    for (seq, _) in &replayed.frames {
        let segment = in_segments.iter().rev().find(|segment| segment.first_seq <= *seq).unwrap();
        promise.acked.insert(*seq, segment.number);
    }
    promise.submitted = 200;
    // Record, sync of it: the third operation is the first that touches the segment.
    fs.set_fault(Some(Fault {
        at: fs.operations() + 2,
        kind: FaultKind::Io,
        sticky: true,
        seed: 0,
    }));
    release(&log, there[2].number, &mut promise).unwrap_err();
    promise.gone.insert(there[2].number);
    drop(log);
    let fs = fs.crash(Crash::Nothing);
    assert_eq!(segments(&fs).len(), there.len(), "the file is still there");
    for at in 0.. {
        let fs = fs.fork();
        fs.set_fault(Some(Fault {
            at: fs.operations() + at,
            kind: FaultKind::Io,
            sticky: true,
            seed: at,
        }));
        let done = crate::scene::try_open(&fs, &tiny()).is_ok();
        for crash in crashes() {
            kept(&fs.crash(crash), &promise, &format!("operation {at}, {crash:?}"));
        }
        if done {
            break;
        }
    }
}

#[test]
fn the_newest_segment_is_not_given_up_and_an_unknown_one_need_not_be() {
    let fs = FaultFs::new();
    let log = open(&fs, &tiny()).log;
    assert_eq!(log.release(1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    append(&log, 1..=100);
    let there = log.segments();
    let newest = there.last().unwrap().number;
    assert_eq!(log.release(newest).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    log.release(2).unwrap();
    log.release(2).unwrap();
    assert_eq!(log.segments().len(), there.len() - 1);
    let place = Place { segment: 2, offset: 512 };
    assert!(matches!(log.read(place, 64, &mut Vec::new()), Err(ReadError::Gone)));
}

#[test]
fn a_segment_that_is_lost_beside_one_that_was_given_up_is_damage() {
    for lost in [1_usize, 2, 3, 4, 5, 6] {
        let fs = FaultFs::new();
        let log = open(&fs, &tiny()).log;
        append(&log, 1..=250);
        let all = log.segments();
        assert!(all.len() > 7);
        log.release(3).unwrap();
        log.release(4).unwrap();
        drop(log);
        let path = Path::new(DIR).join(format!("{lost:016x}.qlog"));
        let removed = fs.remove(&path).is_ok();
        assert_eq!(removed, lost != 3 && lost != 4);
        let Opened { found, frames, .. } = open(&fs, &tiny());
        let missing =
            found.damages.first().map(|damage| (damage.segment, damage.first_seq, damage.last_seq));
        let expected = (all[lost - 1].number, all[lost - 1].first_seq, all[lost].first_seq - 1);
        assert_eq!(missing, removed.then_some(expected));
        assert!(found.damages.len() <= 1);
        let seqs = genuine(&frames);
        let gone = |seq: &u64| (all[2].first_seq..all[4].first_seq).contains(seq);
        let lost_too = |seq: &u64| removed && (expected.1..=expected.2).contains(seq);
        assert!((1..=250).filter(|seq| !gone(seq) && !lost_too(seq)).eq(seqs));
    }
}

#[test]
fn without_its_record_what_was_given_up_in_the_middle_counts_as_lost() {
    let fs = FaultFs::new();
    let log = open(&fs, &tiny()).log;
    append(&log, 1..=250);
    log.release(1).unwrap();
    log.release(4).unwrap();
    drop(log);
    fs.remove(&Path::new(DIR).join("released")).unwrap();
    let Opened { log, found, .. } = open(&fs, &tiny());
    let lost: Vec<_> = found.damages.iter().map(|damage| damage.segment).collect();
    assert_eq!(lost, [4], "nothing tells of what is missing at the beginning");
    // It stays lost until no older segment is needed.
    drop(log);
    let log = open(&fs, &tiny()).log;
    log.release(2).unwrap();
    assert_eq!(open(&fs.fork(), &tiny()).found.damages, found.damages);
    log.release(3).unwrap();
    assert_eq!(open(&fs, &tiny()).found.damages, []);
}

#[test]
fn a_file_that_somebody_reads_is_not_used_again() {
    let fs = FaultFs::new();
    let log = Arc::new(open(&fs, &tiny()).log);
    append(&log, 1..=100);
    let reader = log.clone();
    let mut released = false;
    // While the file is open for a walk, it may be removed but not become another segment.
    let walked = log.walk(2, 0, u64::MAX, &mut |frame| {
        if !released {
            reader.release(2).unwrap();
            released = true;
        }
        assert_eq!(frame.payload, payload(frame.seq));
    });
    assert!(walked.is_ok());
    let spares = fs.list(Path::new(DIR)).unwrap();
    assert!(!spares.iter().any(|name| name.ends_with(".qspare")), "{spares:?}");
    log.release(1).unwrap();
    assert_eq!(log.stats().spares, 1, "what nobody reads is");
}

#[test]
fn a_record_that_was_seen_but_not_synced_is_made_to_last_before_the_file_goes() {
    for seed in 0..8 {
        let fs = FaultFs::new();
        let log = open(&fs, &tiny()).log;
        append(&log, 1..=100);
        let at = fs.operations() + 1;
        fs.set_fault(Some(Fault { at, kind: FaultKind::Io, sticky: false, seed }));
        log.release(2).unwrap_err();
        drop(log);
        let before = segments(&fs).len();
        let log = open(&fs, &tiny()).log;
        assert_eq!(segments(&fs).len(), before - 1, "the next process sees it");
        let after = open(&fs.crash(Crash::Nothing), &tiny());
        assert_eq!(after.found.damages, [], "seed {seed}");
        drop(log);
    }
}
