use std::collections::BTreeMap;

use quorate_record::{Timestamp, Writer};

use super::*;
use crate::fault::{Crash, Fault, FaultFs, FaultKind};
use crate::log::Drive;
use crate::queue::{Place, Progress, Ticket, Written};

const DIR: &str = "/data/hints";

/// Small files, so that little work passes many borders, all of it on the caller's thread.
fn options() -> HintLogOptions {
    let log = LogOptions {
        drive: Drive::Manual,
        segment_bytes: 2048,
        max_payload_bytes: 1024,
        prepare_ahead_bytes: 512,
        prepare_chunk_bytes: 512,
        ..LogOptions::default()
    };
    HintLogOptions { log, dead_bytes_at_least: 2048 }
}

fn open(fs: &FaultFs) -> (HintLog, Vec<Hint>) {
    let opened = HintLog::open(Arc::new(fs.clone()), DIR.as_ref(), &options(), Box::new(|| {}));
    let (log, recovered) = opened.unwrap();
    assert_eq!((recovered.damages, recovered.unknown_frames), (vec![], 0));
    let hints = held(&log);
    (log, hints)
}

/// By target and key.
fn held(log: &HintLog) -> Vec<Hint> {
    let found = log.page(None, 10_000).unwrap();
    assert_eq!(found.lost, []);
    by_slot(found.hints).into_values().collect()
}

fn hints() -> (FaultFs, HintLog) {
    let fs = FaultFs::new();
    let log = open(&fs).0;
    (fs, log)
}

fn version(timestamp: u64) -> Version {
    let writer = Writer { node: NodeId::new("n1").unwrap(), incarnation: 1 };
    Version { timestamp: Timestamp::from_bits(timestamp), writer }
}

fn hint(number: u64, timestamp: u64) -> Hint {
    Hint {
        target: NodeId::new(if number.is_multiple_of(2) { "n2" } else { "n3" }).unwrap(),
        key: Key::new(format!("key{number}")).unwrap(),
        record: Record::live(version(timestamp), format!("value {timestamp:0100}")),
        kind: HintKind::Owed,
        added_ms: timestamp,
    }
}

fn turn(log: &HintLog) {
    log.turn(Duration::ZERO);
}

fn add(log: &HintLog, hint: &Hint) {
    log.add(7, hint).unwrap();
    turn(log);
    assert_eq!(completions(log), [(7, true)]);
}

fn remove(log: &HintLog, hint: &Hint) {
    log.remove(hint.target, &hint.key, hint.record.version);
    turn(log);
}

fn completions(log: &HintLog) -> Vec<(u64, bool)> {
    let mut out = Vec::new();
    log.take_completions(&mut out);
    out.into_iter().map(|completion| (completion.id, completion.outcome.is_ok())).collect()
}

fn maintain(log: &HintLog) {
    while log.maintain().unwrap() {
        turn(log);
    }
}

fn by_slot(hints: Vec<Hint>) -> BTreeMap<(NodeId, Key), Hint> {
    hints.into_iter().map(|hint| ((hint.target, hint.key.clone()), hint)).collect()
}

#[test]
fn the_newest_hint_of_a_target_and_key_comes_back() {
    let (fs, log) = hints();
    for timestamp in [3, 5, 4] {
        add(&log, &hint(1, timestamp));
    }
    add(&log, &hint(2, 1));
    drop(log);
    let (log, found) = open(&fs.crash(Crash::Nothing));
    assert_eq!(by_slot(found), by_slot(vec![hint(1, 5), hint(2, 1)]));
    assert_eq!(log.stats().hints, 2);
}

#[test]
fn a_hint_can_become_owed() {
    let (fs, log) = hints();
    add(&log, &Hint { kind: HintKind::Courtesy, ..hint(1, 1) });
    add(&log, &hint(1, 1));
    assert_eq!(open(&fs.crash(Crash::Nothing)).1, [hint(1, 1)]);
}

#[test]
fn a_hint_is_not_written_again_behind_its_removal() {
    let mut state = State::new([0; 16]);
    let frames = [Written { tag: 0, place: Place::default(), bytes: 128 }];
    let at = |seq| Place { segment: 1, offset: 512 + 128 * seq };
    let settle = |state: &mut State, seq| {
        let frames = [Written { place: at(seq), ..frames[0] }];
        state.settle(&Progress { first_ticket: seq, frames: &frames, outcome: Ok(seq) });
    };
    let removal =
        |timestamp| Removal { slot: state::slot(&hint(1, 5)), version: version(timestamp) };
    state.submitted_add(Ticket(1), 1, hint(1, 5), None);
    state.submitted_removal(Ticket(2), removal(4), None);
    state.submitted_removal(Ticket(3), removal(5), None);
    // Only the addition is durable when somebody looks for hints to write again.
    settle(&mut state, 1);
    assert!(state.held.is_live(at(1)) && !state.stays(&hint(1, 5), at(1)));
    settle(&mut state, 2);
    assert!(state.held.is_live(at(1)) && !state.stays(&hint(1, 5), at(1)));
    settle(&mut state, 3);
    assert!(!state.held.is_live(at(1)));
    state.submitted_add(Ticket(4), 2, hint(1, 4), None);
    settle(&mut state, 4);
    assert!(state.stays(&hint(1, 4), at(4)));
}

#[test]
fn an_owed_hint_stays_owed_when_it_was_just_being_written_again() {
    let (fs, log) = hints();
    let courtesy = |number| Hint { kind: HintKind::Courtesy, ..hint(number, 1) };
    (0..40).for_each(|number| add(&log, &courtesy(number)));
    (1..40).for_each(|number| remove(&log, &courtesy(number)));
    log.add(1, &hint(0, 1)).unwrap();
    while !log.shared.lock().is_moving() {
        assert!(log.maintain().unwrap());
    }
    turn(&log);
    assert_eq!(held(&log), [hint(0, 1)]);
    assert_eq!(open(&fs.crash(Crash::Nothing)).1, [hint(0, 1)]);
}

#[test]
fn a_removal_takes_what_is_not_newer() {
    let (fs, log) = hints();
    add(&log, &hint(1, 5));
    remove(&log, &hint(1, 4));
    add(&log, &hint(2, 5));
    remove(&log, &hint(2, 5));
    add(&log, &hint(3, 5));
    remove(&log, &hint(3, 6));
    assert_eq!(log.stats().hints, 1);
    assert_eq!(open(&fs.crash(Crash::Nothing)).1, [hint(1, 5)]);
}

#[test]
fn a_removal_takes_what_is_on_its_way() {
    let (fs, log) = hints();
    log.add(1, &hint(1, 5)).unwrap();
    log.remove(hint(1, 5).target, &hint(1, 5).key, version(5));
    turn(&log);
    assert_eq!((completions(&log), log.stats().hints), (vec![(1, true)], 0));
    assert_eq!(open(&fs.crash(Crash::Nothing)).1, []);
}

#[test]
fn a_removal_of_nothing_is_not_written() {
    let (_, log) = hints();
    remove(&log, &hint(1, 5));
    assert_eq!(log.log.stats().frames, 0);
}

#[test]
fn a_removal_that_cannot_be_written_is_done_in_its_turn() {
    let (fs, log) = hints();
    add(&log, &hint(1, 5));
    log.add(1, &hint(2, 5)).unwrap();
    fs.set_fault(Some(Fault { at: fs.operations(), kind: FaultKind::Io, sticky: false, seed: 0 }));
    turn(&log);
    assert_eq!(completions(&log), [(1, false)]);
    assert!(log.poisoned().is_some());
    remove(&log, &hint(1, 5));
    assert_eq!(log.stats().hints, 0);
    assert!(matches!(log.add(2, &hint(3, 1)), Err(LogError::Poisoned { .. })));
}

#[test]
fn a_hint_that_fails_leaves_the_older_one_in_place() {
    let (fs, log) = hints();
    add(&log, &hint(1, 5));
    fs.set_capacity(Some(fs.used_bytes()));
    let failed = (6..200).find(|&timestamp| {
        log.add(timestamp, &hint(1, timestamp)).unwrap();
        turn(&log);
        completions(&log) == [(timestamp, false)]
    });
    let failed = failed.expect("the disk runs full");
    assert_eq!(open(&fs.crash(Crash::Nothing)).1, [hint(1, failed - 1)]);
    fs.set_capacity(None);
    add(&log, &hint(1, failed));
}

#[test]
fn an_empty_log_gives_up_its_files() {
    let (fs, log) = hints();
    (0..100).for_each(|number| add(&log, &hint(number, 1)));
    assert!(log.stats().segments > 5);
    (0..100).for_each(|number| remove(&log, &hint(number, 1)));
    maintain(&log);
    assert_eq!((log.stats().segments, log.stats().hints), (1, 0));
    assert_eq!(open(&fs.crash(Crash::Nothing)).1, []);
}

#[test]
fn hints_that_stay_do_not_keep_the_dead_ones_on_disk() {
    let (fs, log) = hints();
    let mut most = 0;
    for round in 0..2000 {
        // One in forty is never delivered.
        add(&log, &hint(round, 1));
        if round % 40 != 0 {
            remove(&log, &hint(round, 1));
        }
        maintain(&log);
        let stats = log.stats();
        most = most.max(stats.dead_bytes.saturating_sub(stats.live_bytes));
    }
    assert!(most < 8 * 1024, "{most}");
    let left: Vec<Hint> = (0..2000).step_by(40).map(|number| hint(number, 1)).collect();
    assert_eq!(by_slot(open(&fs.crash(Crash::Nothing)).1), by_slot(left));
}

#[test]
fn a_hint_replaced_or_removed_while_it_is_written_again_stays_so() {
    let (fs, log) = hints();
    (0..40).for_each(|number| add(&log, &hint(number, 1)));
    (2..40).for_each(|number| remove(&log, &hint(number, 1)));
    while !log.shared.lock().is_moving() {
        assert!(log.maintain().unwrap());
    }
    log.add(1, &hint(0, 2)).unwrap();
    log.remove(hint(1, 1).target, &hint(1, 1).key, version(1));
    turn(&log);
    maintain(&log);
    assert_eq!(held(&log), [hint(0, 2)]);
    assert_eq!(open(&fs.crash(Crash::Nothing)).1, [hint(0, 2)]);
}
