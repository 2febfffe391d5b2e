//! A disk that runs full fails what does not fit, breaks nothing, and is used again when there is room.

use std::time::Duration;

use quorate_storage::fault::FaultFs;
use quorate_storage::{LogError, LogOptions};

use crate::scene::{append, genuine, kind_of, open, payload, small, submit};

#[test]
fn what_does_not_fit_fails_without_poisoning_and_fits_again_when_space_is_back() {
    let fs = FaultFs::new();
    let log = open(&fs, &small()).log;
    append(&log, 1..=10);
    fs.set_capacity(Some(fs.used_bytes()));
    let mut last = 10;
    let error = loop {
        match log.append(kind_of(last + 1), &payload(last + 1)) {
            Ok(seq) => last = seq,
            Err(error) => break error,
        }
        assert!(last < 1000, "the disk never ran full");
    };
    assert!(matches!(error, LogError::NoSpace), "{error}");
    for _ in 0..3 {
        assert!(matches!(log.append(1, &[0; 600]), Err(LogError::NoSpace)));
    }
    assert!(log.poisoned().is_none());
    fs.set_capacity(None);
    append(&log, last + 1..=last + 60);
    drop(log);
    let seqs = genuine(&open(&fs, &small()).frames);
    assert!(seqs.into_iter().eq(1..=last + 60));
}

#[test]
fn of_a_batch_on_a_full_disk_each_frame_is_told_its_own_outcome() {
    let fs = FaultFs::new();
    let log = open(&fs, &small()).log;
    append(&log, 1..=3);
    fs.set_capacity(Some(fs.used_bytes() + 4096));
    let mut tickets = Vec::new();
    for seq in 4..=80 {
        tickets.push(log.submit(kind_of(seq), &payload(seq)).unwrap());
    }
    log.turn(Duration::ZERO);
    let outcomes: Vec<_> = tickets.iter().map(|ticket| log.wait(*ticket).ok()).collect();
    let stored: Vec<u64> = outcomes.iter().flatten().copied().collect();
    let count = stored.len();
    assert!(stored.iter().copied().eq(4..4 + count as u64), "{stored:?}");
    assert!(
        outcomes[count..].iter().all(Option::is_none),
        "an ack after a refusal in one batch: {outcomes:?}"
    );
    assert!(count < 77);
    fs.set_capacity(None);
    let next = 4 + count as u64;
    append(&log, next..=next + 5);
    // Old tickets still know, although numbers have moved on.
    let again: Vec<_> = tickets.iter().map(|ticket| log.wait(*ticket).ok()).collect();
    assert_eq!(again, outcomes);
}

#[test]
fn recycling_makes_room_on_a_full_disk() {
    let fs = FaultFs::new();
    let log = open(&fs, &small()).log;
    append(&log, 1..=100);
    fs.set_capacity(Some(fs.used_bytes()));
    let mut last = 100;
    while let Ok(seq) = log.append(kind_of(last + 1), &payload(last + 1)) {
        last = seq;
    }
    log.recycle_below(last).unwrap();
    append(&log, last + 1..=last + 40);
    assert_eq!(log.stats().segments, 2, "what was full, and where the freed space went");
}

#[test]
fn with_default_options_a_log_needs_no_more_space_than_it_prepares() {
    let fs = FaultFs::new();
    fs.set_capacity(Some(16 << 20));
    let options = LogOptions { drive: quorate_storage::Drive::Manual, ..LogOptions::default() };
    let log = open(&fs, &options).log;
    let payload = vec![7; 64 << 10];
    let mut appended = 0;
    while log.append(1, &payload).is_ok() {
        appended += 1;
    }
    assert!(appended > 200, "{appended} frames of 64 KiB fit into 16 MiB");
    assert!(log.poisoned().is_none());
}

#[test]
fn a_reopened_full_disk_serves_what_it_has() {
    let fs = FaultFs::new();
    let log = open(&fs, &small()).log;
    submit(&log, 1..=30);
    drop(log);
    fs.set_capacity(Some(0));
    let opened = open(&fs, &small());
    assert_eq!(genuine(&opened.frames).len(), 30);
    // There may be room left that was prepared earlier, but it ends.
    let mut last = 30;
    let error = loop {
        match opened.log.append(kind_of(last + 1), &payload(last + 1)) {
            Ok(seq) => last = seq,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LogError::NoSpace), "{error}");
    fs.set_capacity(None);
    append(&opened.log, [last + 1]);
}
