//! Operations that fail: no acknowledgement without a durable frame, and no trust after a failed write or sync.

use std::path::Path;
use std::time::Duration;

use quorate_storage::fault::{Crash, Fault, FaultFs, FaultKind};
use quorate_storage::{LogError, LogOptions};

use crate::scene::{DIR, append, genuine, kind_of, open, payload, small, submit, try_open};

fn tiny() -> LogOptions {
    LogOptions { segment_bytes: 4096, max_payload_bytes: 2048, ..small() }
}

/// Appends until something fails, goes on trying, and returns the acknowledged frames by number.
fn write(fs: &FaultFs) -> Vec<(u64, u64)> {
    let mut acked = Vec::new();
    let Ok(opened) = try_open(fs, &tiny()) else { return acked };
    let log = opened.log;
    let mut name = 0;
    for _ in 0..40 {
        name += 1;
        match log.append(kind_of(log.stats().last_seq + 1), &payload(name)) {
            Ok(seq) => acked.push((seq, name)),
            Err(LogError::NoSpace | LogError::Exhausted { .. } | LogError::Poisoned { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        if name % 10 == 0 {
            let _ = log.recycle_below(log.durable_seq().saturating_sub(10));
        }
    }
    acked
}

#[test]
fn whatever_fails_no_ack_goes_out_without_a_durable_frame() {
    use FaultKind::{Io, NoDescriptor, NoSpace, ShortWrite};
    for kind in [Io, NoSpace, NoDescriptor, ShortWrite] {
        for sticky in [false, true] {
            for at in 0.. {
                let fs = FaultFs::new();
                fs.set_fault(Some(Fault { at, kind, sticky, seed: at }));
                let acked = write(&fs);
                let done = fs.operations() <= at;
                for crash in [Crash::Nothing, Crash::Everything, Crash::Random(at)] {
                    let after = fs.crash(crash);
                    let opened = try_open(&after, &tiny()).unwrap_or_else(|error| {
                        panic!("{kind:?} sticky {sticky} at {at}, {crash:?}: {error}")
                    });
                    let first = opened.frames.first().map_or(u64::MAX, |(seq, _)| *seq);
                    for (seq, name) in
                        acked.iter().filter(|(seq, _)| *seq + 10 >= acked.len() as u64)
                    {
                        let held = opened
                            .frames
                            .iter()
                            .find(|(held, _)| held == seq)
                            .map(|(_, bytes)| bytes);
                        let context = format!(
                            "{kind:?} sticky {sticky} at {at}, {crash:?}, from {first}: frame {seq}"
                        );
                        assert_eq!(held, Some(&payload(*name)), "{context}");
                    }
                    assert!(
                        opened.found.damages.is_empty(),
                        "{kind:?} {sticky} {at} {crash:?}: {:?}",
                        opened.found
                    );
                }
                if done {
                    assert_eq!(acked.len(), 40);
                    break;
                }
            }
        }
    }
}

/// A log with three frames on disk, whose next operation but `skip` fails.
fn failing_after(skip: u64, kind: FaultKind) -> (FaultFs, quorate_storage::Log) {
    let fs = FaultFs::new();
    let options = LogOptions { prepare_ahead_bytes: 3000, prepare_chunk_bytes: 3584, ..tiny() };
    let log = open(&fs, &options).log;
    append(&log, 1..=3);
    fs.set_fault(Some(Fault { at: fs.operations() + skip, kind, sticky: false, seed: 3 }));
    (fs, log)
}

#[test]
fn a_failed_frame_write_or_sync_poisons_the_log_until_it_is_reopened() {
    for kind in [FaultKind::Io, FaultKind::NoSpace, FaultKind::ShortWrite] {
        for skip in [0, 1] {
            let (fs, log) = failing_after(skip, kind);
            submit(&log, 4..=6);
            let last = log.submit(kind_of(7), &payload(7)).unwrap();
            let before = fs.syncs();
            assert!(matches!(log.wait(last), Err(LogError::Poisoned { .. })), "{kind:?} {skip}");
            assert!(matches!(log.submit(1, b"later"), Err(LogError::Poisoned { .. })));
            assert!(matches!(log.sync(), Err(LogError::Poisoned { .. })));
            assert!(log.poisoned().is_some());
            drop(log);
            assert_eq!(fs.syncs(), before, "a failed sync is not asked for again");
            let after = open(&fs, &tiny());
            let seqs = genuine(&after.frames);
            assert!(seqs.starts_with(&[1, 2, 3]) && seqs.len() <= 7, "{seqs:?}");
            append(&after.log, after.found.last_seq + 1..=10);
        }
    }
}

#[test]
fn without_file_descriptors_the_log_grows_no_further_and_poisons_nothing() {
    let mut refused = 0;
    for skip in 0.. {
        let fs = FaultFs::new();
        let log = open(&fs, &tiny()).log;
        let at = fs.operations() + skip;
        fs.set_fault(Some(Fault { at, kind: FaultKind::NoDescriptor, sticky: true, seed: 0 }));
        let before = refused;
        let mut acked = Vec::new();
        for round in 0..40 {
            // A frame that would still fit where the one before did not.
            for bytes in [vec![round; 700], vec![round; 8]] {
                match log.append(1, &bytes) {
                    Ok(seq) => acked.push((seq, bytes)),
                    Err(LogError::Exhausted { .. }) => refused += 1,
                    Err(error) => panic!("{error} at {skip}"),
                }
            }
            if round == 30 {
                fs.set_fault(None);
            }
        }
        assert!(acked.len() >= 18, "it grows again");
        let mut frames = Vec::new();
        let after = std::sync::Arc::new(fs.crash(Crash::Nothing));
        let keep = |frame: quorate_storage::Frame<'_>| {
            frames.push((frame.seq, frame.payload.to_vec()));
        };
        let (_, found) =
            quorate_storage::Log::open(after, crate::scene::DIR.as_ref(), &tiny(), |_| {}, keep)
                .unwrap();
        assert!(found.damages.is_empty(), "{found:?}");
        assert_eq!(frames, acked, "at {skip}");
        if refused == before {
            break;
        }
    }
    assert!(refused > 100);
}

#[test]
fn frames_seen_after_a_failed_sync_survive_a_later_loss_of_power() {
    let (fs, log) = failing_after(1, FaultKind::Io);
    submit(&log, 4..=6);
    log.turn(Duration::ZERO);
    drop(log);
    // The frames are readable, but their pages are clean and not on disk. Whoever reads them relies on them.
    let seen = open(&fs, &tiny());
    assert_eq!(genuine(&seen.frames), [1, 2, 3, 4, 5, 6]);
    let after = open(&fs.crash(Crash::Nothing), &tiny());
    assert_eq!(genuine(&after.frames), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn whatever_failed_what_the_next_process_stores_survives_a_loss_of_power() {
    for (seed, sticky) in (0..4).flat_map(|seed| [(seed, false), (seed, true)]) {
        for at in 0.. {
            let context = format!("sticky {sticky} at {at}, seed {seed}");
            let fs = FaultFs::new();
            fs.set_fault(Some(Fault { at, kind: FaultKind::Io, sticky, seed }));
            let stored = write(&fs).len();
            let done = fs.operations() <= at;
            fs.set_fault(None);
            let log = open(&fs, &tiny()).log;
            let first = log.stats().last_seq + 1;
            for last in first..first + 12 {
                append(&log, [last]);
                let after = open(&fs.crash(Crash::Nothing), &tiny());
                assert_eq!(after.found.damages, [], "{context}, after {last}");
                assert_eq!(after.found.last_seq, last, "{context}");
            }
            if done {
                assert_eq!(stored, 40);
                break;
            }
        }
    }
}

#[test]
fn a_length_that_a_failed_sync_lost_is_set_again_before_the_file_becomes_a_segment() {
    let fs = FaultFs::new();
    let log = open(&fs, &tiny()).log;
    // The file is created and lengthened, and its name synced; then zeros are written, and all of it is synced.
    let at = fs.operations() + 4;
    fs.set_fault(Some(Fault { at, kind: FaultKind::Io, sticky: false, seed: 0 }));
    assert!(matches!(log.append(1, b"refused"), Err(LogError::Poisoned { .. })));
    drop(log);
    let spare = Path::new(DIR).join("spare-1.qspare");
    assert_eq!(fs.contents(&spare).unwrap().len(), 4096, "the length is seen");
    let saved = fs.crash(Crash::Everything).contents(&spare).unwrap().len();
    assert!(saved < 4096, "but not on disk: {saved}");

    append(&open(&fs, &tiny()).log, 1..=3);
    let after = open(&fs.crash(Crash::Nothing), &tiny());
    assert_eq!(after.found.damages, []);
    assert_eq!(genuine(&after.frames), [1, 2, 3]);
}

#[test]
fn an_unreadable_end_is_an_error_and_not_cut() {
    let fs = FaultFs::new();
    append(&open(&fs, &tiny()).log, 1..=5);
    let reads = {
        let fs = fs.fork();
        let before = fs.operations();
        drop(open(&fs, &tiny()));
        fs.operations() - before
    };
    let mut errors = 0;
    for at in 0..reads {
        let fs = fs.fork();
        fs.set_fault(Some(Fault {
            at: fs.operations() + at,
            kind: FaultKind::Io,
            sticky: true,
            seed: 0,
        }));
        errors += u64::from(try_open(&fs, &tiny()).is_err());
        fs.set_fault(None);
        assert_eq!(
            genuine(&open(&fs, &tiny()).frames),
            [1, 2, 3, 4, 5],
            "failing from operation {at} on"
        );
    }
    assert!(errors > 3);
}

#[test]
fn a_device_that_gives_nothing_any_more_is_an_error_and_no_damage() {
    let fs = FaultFs::new();
    append(&open(&fs, &tiny()).log, 1..=5);
    let before = fs.operations();
    for at in 0..64 {
        let fs = fs.fork();
        let fault = Fault { at: before + at, kind: FaultKind::Io, sticky: true, seed: at };
        fs.set_fault(Some(fault));
        if let Ok(opened) = try_open(&fs, &tiny()) {
            assert_eq!(genuine(&opened.frames), [1, 2, 3, 4, 5], "failing from operation {at} on");
            assert_eq!(opened.found.damages, [], "failing from operation {at} on");
        }
    }
}

#[test]
fn a_read_that_fails_once_at_opening_is_no_damage() {
    let fs = FaultFs::new();
    append(&open(&fs, &tiny()).log, 1..=60);
    for at in 0.. {
        let fs = fs.fork();
        let first = fs.operations();
        fs.set_fault(Some(Fault { at: first + at, kind: FaultKind::Io, sticky: false, seed: at }));
        let opened = try_open(&fs, &tiny());
        if let Ok(opened) = &opened {
            assert_eq!(opened.found.damages, [], "operation {at}");
            assert_eq!(opened.found.last_seq, 60, "operation {at}");
        }
        if fs.operations() <= first + at {
            break;
        }
    }
}
