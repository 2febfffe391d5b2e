//! Twelve things that stores do, with the power going at every change of a file, and again in the life after.
//!
//! Whatever of the unsynced changes is kept, the state afterwards has everything that was promised, and nothing that
//! was never written.

use std::time::Duration;

use quorate_storage::fault::{Crash, FaultFs};
use quorate_storage::{LogOptions, StoreOptions, SyncPolicy};

use crate::life::{Book, Life, Promised, check_backups, options};

type Script = fn(&mut Life) -> Option<()>;

/// How many random subsets of what was not synced are kept, one by one. More of them: `QUORATE_CRASH_SUBSETS`.
fn subsets() -> u64 {
    std::env::var("QUORATE_CRASH_SUBSETS").map_or(32, |count| count.parse().expect("a number"))
}

/// What may be on the disk after the power went, each once.
fn crashes(fs: &FaultFs, seed: u64) -> Vec<Crash> {
    let pending = fs.unsynced();
    let mut crashes = vec![Crash::Nothing];
    if pending > 0 {
        let mut prefixes = vec![0, 1, pending / 2, pending - 1];
        prefixes.sort_unstable();
        prefixes.dedup();
        crashes.push(Crash::Everything);
        crashes.extend(prefixes.into_iter().map(Crash::Prefix));
        crashes.extend((0..subsets()).map(|n| Crash::Random((seed << 16) + n)));
    }
    crashes
}

/// Runs the script with the power going at change 0, 1, … until it gets through.
fn at_every_change(options: &StoreOptions, script: Script) {
    for at in 0.. {
        let fs = FaultFs::new();
        let mut life = Life::new(&fs, at, options, Book::default());
        let done = life.open().and_then(|()| script(&mut life)).is_some();
        // Room ahead that cannot be prepared is no failure: the script may end well without power.
        assert!(done || life.is_cut(), "the script ends early");
        let is_whole = !life.is_cut();
        let book = life.book.clone();
        for crash in crashes(&fs, at) {
            let after = fs.crash(crash);
            let promised = if crash == Crash::Everything { &book.acked } else { &book.durable };
            let context = format!("change {at}, {crash:?}");
            let _told = Told(&context);
            check_backups(&after.fork(), options, &book);
            goes_on(&after, options, &book, promised, crash);
        }
        if is_whole {
            assert!(at > 60 && book.acked.versions.len() > 4);
            return;
        }
    }
}

/// Lives on after a crash, to the next one, and checks what is left of both.
fn goes_on(
    after: &FaultFs,
    options: &StoreOptions,
    book: &Book,
    promised: &Promised,
    crash: Crash,
) {
    // The second time the power may go while the store is being opened.
    let (cut_at, second) = match crash {
        Crash::Random(seed) => ((seed.wrapping_mul(0x9e37_79b9) >> 7) % 64, Crash::Random(!seed)),
        _ => (u64::MAX, Crash::Nothing),
    };
    let mut book = book.clone();
    book.durable = promised.clone();
    let mut life = Life::new(after, cut_at, options, book);
    if life.open().is_some() {
        life.check(promised);
        let _ = more(&mut life, cut_at);
    }
    let last = life.book.clone();
    let after = after.crash(second);
    drop(life);
    let mut life = Life::new(&after, u64::MAX, options, last.clone());
    life.open().expect("there is power");
    life.check(&last.durable);
}

/// A little of everything.
fn more(life: &mut Life, seed: u64) -> Option<()> {
    life.put(seed % 5, 40)?;
    life.reserve_clock()?;
    life.turn()?;
    life.delete(1)?;
    life.put(20, 300)?;
    life.turn()?;
    if seed.is_multiple_of(2) {
        life.put(3, 10)?;
        life.snapshot()?;
    } else {
        for _ in 0..6 {
            life.compact()?;
            life.turn()?;
        }
    }
    life.put_late(2, 3, 40)?;
    life.turn()
}

/// Says what was tried when a check fails.
struct Told<'a>(&'a str);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("it was {}", self.0);
        }
    }
}

fn with_log(change: impl FnOnce(&mut LogOptions)) -> StoreOptions {
    let mut options = options();
    change(&mut options.log);
    options
}

#[test]
fn puts_are_kept() {
    at_every_change(&options(), |life| {
        (0..60).try_for_each(|number| {
            life.put(number, 20 + to_len(number * 29 % 120))?;
            if number % 3 == 0 { life.turn() } else { Some(()) }
        })?;
        life.turn()
    });
}

#[test]
fn what_was_overwritten_stays_so() {
    at_every_change(&options(), |life| {
        for round in 0..24 {
            life.put(round % 5, 30)?;
            life.put(round % 3, 60)?;
            life.put_late(round % 5, round % 7, 50)?;
            if round % 4 != 1 {
                life.turn()?;
            }
        }
        life.turn()
    });
}

#[test]
fn what_was_deleted_does_not_come_back() {
    at_every_change(&options(), |life| {
        for round in 0..8 {
            (0..4).try_for_each(|number| life.put(number + round, 100))?;
            life.turn()?;
            (0..4).try_for_each(|number| life.delete(number + round))?;
            // Behind a tombstone, in one batch with it.
            life.put_late(round, 2, 100)?;
            life.turn()?;
            if round % 3 == 2 {
                life.compact_all()?;
            }
        }
        life.put(2, 10)?;
        life.turn()
    });
}

#[test]
fn large_values_are_kept_whole() {
    let options = with_log(|log| {
        log.segment_bytes = 16 << 10;
        log.max_payload_bytes = 8 << 10;
        log.prepare_ahead_bytes = 4096;
        log.prepare_chunk_bytes = 4096;
    });
    at_every_change(&options, |life| {
        for round in 0..16 {
            life.put(round % 6, 600 + to_len(round * 1777 % 7000))?;
            if round % 4 == 0 {
                life.put(round + 10, 5)?;
            }
            if round % 3 != 1 {
                life.turn()?;
            }
        }
        life.turn()?;
        life.snapshot()?;
        life.put(1, 7000)?;
        life.turn()
    });
}

#[test]
fn many_segments_are_kept() {
    let options = with_log(|log| {
        log.segment_bytes = 1024;
        log.max_payload_bytes = 400;
        log.prepare_ahead_bytes = 1;
        log.max_open_files = 1;
    });
    at_every_change(&options, |life| {
        for number in 0..30 {
            life.put(number, 150)?;
            life.turn()?;
        }
        assert!(life.stats().segments > 9);
        Some(())
    });
}

#[test]
fn compaction_moves_and_loses_nothing() {
    at_every_change(&options(), |life| {
        life.put(100, 100)?;
        life.delete(101)?;
        for round in 0..30 {
            life.put(round % 7, 90)?;
            if round % 3 == 1 {
                life.delete(7 + round % 4)?;
            }
            life.turn()?;
            life.compact()?;
            // Written again while it may be on its way.
            life.put(round % 2, 30)?;
            life.compact()?;
        }
        life.turn()?;
        life.compact_all()?;
        assert!(life.stats().compacted_segments > 3);
        Some(())
    });
}

#[test]
fn snapshots_while_writing_and_compacting_leave_nothing_out() {
    at_every_change(&options(), |life| {
        for round in 0..7 {
            (0..4).try_for_each(|number| life.put((round + number) % 9, 80))?;
            life.turn()?;
            life.compact()?;
            // These are on their way when the snapshot is made.
            life.put(round, 70)?;
            life.delete(round + 1)?;
            life.reserve_clock()?;
            life.snapshot()?;
            life.compact()?;
            life.turn()?;
        }
        assert_eq!(life.stats().snapshots, 7);
        Some(())
    });
}

#[test]
fn files_are_used_again_and_old_records_are_not() {
    at_every_change(&with_log(|log| log.max_spares = 3), |life| {
        for round in 0..12 {
            (0..8).try_for_each(|number| life.put(number, 60 + to_len(round * 7)))?;
            life.turn()?;
            if round % 2 == 1 {
                life.compact_all()?;
            }
        }
        assert!(life.stats().compacted_segments > 5);
        life.reopen()?;
        life.put(1, 20)?;
        life.turn()
    });
}

#[test]
fn a_backup_is_whole_or_none() {
    at_every_change(&options(), |life| {
        for round in 0..3 {
            (0..4).try_for_each(|number| life.put((round + number) % 5, 150))?;
            life.turn()?;
            life.delete(round)?;
            life.reserve_clock()?;
            life.turn()?;
            if round == 1 {
                life.snapshot()?;
                life.compact_all()?;
            }
            // These are on their way when the backup is made.
            life.put(7, 40)?;
            life.put(8, 40)?;
            life.backup()?;
        }
        life.compact_all()
    });
}

#[test]
fn the_ceiling_of_the_clock_never_falls() {
    at_every_change(&options(), |life| {
        for round in 0..5 {
            life.reserve_clock()?;
            life.put(round, 200)?;
            life.turn()?;
            (0..4).try_for_each(|number| life.put(number, 150))?;
            life.turn()?;
            match round % 3 {
                0 => life.close_and_open()?,
                1 => life.reopen()?,
                _ => life.compact_all()?,
            }
        }
        // The ceiling lies in the segment that is given up.
        life.reserve_clock()?;
        for round in 0..10 {
            life.put(round % 2, 300)?;
            life.turn()?;
        }
        life.compact_all()
    });
}

/// A bit of everything, under a policy that acknowledges what is not synced.
fn mixed(life: &mut Life) -> Option<()> {
    for round in 0..16 {
        life.put(round % 6, 100)?;
        life.put(10 + round, 50)?;
        life.turn()?;
        match round % 8 {
            1 => life.delete(round % 6)?,
            3 => life.sync()?,
            4 => life.reserve_clock()?,
            5 => life.snapshot()?,
            6 => life.compact_all()?,
            7 => life.reopen()?,
            _ => {}
        }
        life.compact()?;
    }
    life.turn()
}

#[test]
fn an_interval_loses_only_what_was_not_synced() {
    let policy = SyncPolicy::Interval(Duration::from_millis(3));
    at_every_change(&with_log(|log| log.sync = policy), mixed);
}

#[test]
fn without_syncs_only_what_was_not_synced_is_lost() {
    at_every_change(&with_log(|log| log.sync = SyncPolicy::Os), mixed);
}

fn to_len(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap()
}
