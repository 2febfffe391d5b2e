//! Power lost at any file operation: everything acknowledged is back, and what else is back continues it in order.

use std::time::Duration;

use quorate_storage::fault::{Crash, Fault, FaultFs, FaultKind};
use quorate_storage::fs::Fs;
use quorate_storage::{Log, LogOptions, SyncPolicy};

use crate::scene::{genuine, kind_of, open, payload, small, try_open};

/// What a script has been promised, and what it has taken back.
#[derive(Clone, Copy, Default)]
struct Promise {
    /// Every frame up to this one was acknowledged.
    acked: u64,
    /// Every frame below this one may be recycled.
    unneeded_below: u64,
    /// No frame above this one was ever submitted.
    submitted: u64,
}

type Script = fn(&FaultFs, &mut Promise) -> Option<()>;

fn tiny() -> LogOptions {
    LogOptions { segment_bytes: 4096, max_payload_bytes: 2048, ..small() }
}

fn log_in(fs: &FaultFs, promise: &mut Promise) -> Option<Log> {
    let opened = try_open(fs, &tiny()).ok()?;
    promise.submitted = promise.submitted.max(opened.found.last_seq);
    Some(opened.log)
}

/// Submits `count` frames, writes them together, and notes what was acknowledged.
fn batch(log: &Log, count: u64, promise: &mut Promise) -> Option<()> {
    let from = log.stats().last_seq + 1;
    let tickets: Vec<_> = (from..from + count)
        .map(|seq| {
            promise.submitted = promise.submitted.max(seq);
            log.submit(kind_of(seq), &payload(seq)).ok()
        })
        .collect::<Option<_>>()?;
    log.turn(Duration::ZERO);
    for ticket in tickets {
        promise.acked = log.wait(ticket).ok()?;
    }
    Some(())
}

/// Batches of all sizes over several segments.
fn appends(fs: &FaultFs, promise: &mut Promise) -> Option<()> {
    let log = log_in(fs, promise)?;
    (0..14).try_for_each(|round| batch(&log, 1 + round % 5, promise))
}

/// The same, closed and opened again now and then.
fn reopenings(fs: &FaultFs, promise: &mut Promise) -> Option<()> {
    (0..5).try_for_each(|round| {
        let log = log_in(fs, promise)?;
        batch(&log, 3 + round, promise)?;
        batch(&log, 1, promise)
    })
}

/// Segments given up, kept as spares, and used again.
fn recycling(fs: &FaultFs, promise: &mut Promise) -> Option<()> {
    for _ in 0..2 {
        let log = log_in(fs, promise)?;
        for _ in 0..12 {
            batch(&log, 5, promise)?;
            promise.unneeded_below = promise.acked.saturating_sub(4);
            log.recycle_below(promise.unneeded_below).ok()?;
        }
    }
    Some(())
}

fn crashes() -> impl Iterator<Item = Crash> {
    let plain =
        [Crash::Nothing, Crash::Everything, Crash::Prefix(0), Crash::Prefix(1), Crash::Prefix(2)];
    plain.into_iter().chain((0..8).map(Crash::Random))
}

/// Checks a log after a crash, twice, with an append between.
fn kept(after: &FaultFs, promise: Promise, context: &str) {
    let opened = open(after, &tiny());
    let seqs = genuine(&opened.frames);
    assert!(opened.found.damages.is_empty(), "{context}: a crash is no damage: {:?}", opened.found);
    let first = seqs.first().copied().unwrap_or(promise.acked + 1);
    let last = opened.found.last_seq;
    assert!(seqs.iter().copied().eq(first..=last), "{context}: {seqs:?} has gaps");
    assert!(
        first <= promise.unneeded_below.max(1),
        "{context}: {first} is the first, something was lost before it"
    );
    assert!(
        last >= promise.acked,
        "{context}: {last} is the last, {} was acknowledged",
        promise.acked
    );
    assert!(last <= promise.submitted, "{context}: {last} was never submitted");
    assert_eq!(opened.log.append(kind_of(last + 1), &payload(last + 1)).unwrap(), last + 1);
    drop(opened);
    let again = open(after, &tiny());
    assert!(
        genuine(&again.frames).into_iter().eq(first..=last + 1),
        "{context}: the second recovery differs"
    );
    assert!(
        again.found.truncated_bytes == 0 && again.found.damages.is_empty(),
        "{context}: {:?}",
        again.found
    );
}

/// Runs the script with the power going at operation 0, 1, … until it gets through.
fn at_every_operation(script: Script) {
    for at in 0.. {
        let fs = FaultFs::new();
        fs.set_fault(Some(Fault { at, kind: FaultKind::Io, sticky: true, seed: at }));
        let mut promise = Promise::default();
        let done = script(&fs, &mut promise).is_some();
        for crash in crashes() {
            let context = format!("operation {at}, {crash:?}");
            kept(&fs.crash(crash), promise, &context);
            missed(&fs.crash(crash), promise, &context);
        }
        if done {
            assert!(at > 50 && promise.acked > 20);
            return;
        }
    }
}

/// Checks that a log that lost its newest segment in or after a crash says so, if anything acknowledged was in it.
fn missed(after: &FaultFs, promise: Promise, context: &str) {
    if promise.acked == 0 {
        return;
    }
    let newest = crate::scene::segments(after).pop().expect("what was acknowledged has a file");
    after.remove(&newest).unwrap();
    let opened = open(after, &tiny());
    let seqs = genuine(&opened.frames);
    let last = seqs.last().copied().unwrap_or(0);
    assert!(
        last >= promise.acked || !opened.found.damages.is_empty(),
        "{context}: {last} is the last, {} was acknowledged",
        promise.acked
    );
}

#[test]
fn a_crash_while_appending_keeps_what_was_acknowledged() {
    at_every_operation(appends);
}

#[test]
fn a_crash_around_a_reopening_keeps_what_was_acknowledged() {
    at_every_operation(reopenings);
}

#[test]
fn a_crash_while_recycling_keeps_what_is_needed() {
    at_every_operation(recycling);
}

#[test]
fn a_crash_during_recovery_from_a_crash_keeps_what_was_acknowledged() {
    // A torn batch, so that recovery has something to cut.
    let fs = FaultFs::new();
    let mut promise = Promise::default();
    let log = log_in(&fs, &mut promise).unwrap();
    batch(&log, 4, &mut promise).unwrap();
    fs.set_fault(Some(Fault {
        at: fs.operations() + 1,
        kind: FaultKind::Io,
        sticky: true,
        seed: 7,
    }));
    batch(&log, 6, &mut promise);
    for torn in (0..24).map(Crash::Random) {
        for at in 0.. {
            let fs = fs.crash(torn);
            fs.set_fault(Some(Fault {
                at: fs.operations() + at,
                kind: FaultKind::Io,
                sticky: true,
                seed: at,
            }));
            let done = try_open(&fs, &tiny()).is_ok();
            for crash in crashes() {
                kept(&fs.crash(crash), promise, &format!("{torn:?}, operation {at}, {crash:?}"));
            }
            if done {
                break;
            }
        }
    }
}

#[test]
fn without_syncs_a_crash_leaves_a_beginning_of_what_was_written() {
    for policy in [SyncPolicy::Os, SyncPolicy::Interval(Duration::from_millis(5))] {
        for seed in 0..60 {
            let fs = FaultFs::new();
            let options = LogOptions { sync: policy, ..tiny() };
            let opened = open(&fs, &options);
            let mut durable = 0;
            for round in 0..12 {
                let from = opened.log.stats().last_seq + 1;
                for seq in from..from + 1 + (round + seed) % 4 {
                    opened.log.submit(kind_of(seq), &payload(seq)).unwrap();
                }
                opened.log.turn(Duration::from_millis(round));
                durable = opened.log.durable_seq();
            }
            let last = opened.log.stats().last_seq;
            let promise = Promise { acked: durable, unneeded_below: 0, submitted: last };
            for crash in crashes().chain([Crash::Random(seed + 100)]) {
                kept(&fs.crash(crash), promise, &format!("{policy:?}, seed {seed}, {crash:?}"));
            }
        }
    }
}
