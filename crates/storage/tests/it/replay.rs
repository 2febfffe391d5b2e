//! Replay that leaves out what is known, and replay in no order.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use quorate_storage::fault::FaultFs;
use quorate_storage::{Drive, Log, LogOptions, Recovery};

use crate::scene::{DIR, Opened, append, genuine, open, payload, segments, small};

fn written(last: u64) -> (FaultFs, Vec<u64>) {
    let fs = FaultFs::new();
    let log = open(&fs, &small()).log;
    append(&log, 1..=last);
    let first_seqs = log.segments().iter().map(|segment| segment.first_seq).collect();
    (fs, first_seqs)
}

#[test]
fn known_frames_are_not_given_back_and_segments_of_nothing_else_are_not_read() {
    let (fs, first_seqs) = written(150);
    let fully_read = open(&fs, &small()).log.segments();
    for known in
        [0, 1, first_seqs[1] - 2, first_seqs[1] - 1, first_seqs[1], first_seqs[2], 149, 150]
    {
        let fs = fs.fork();
        // What is not read may be anything.
        let unread = first_seqs[1..].iter().take_while(|first| **first - 1 <= known).count();
        for path in &segments(&fs)[..unread] {
            fs.tamper(path, |bytes| bytes[512..].fill(0x5a)).unwrap();
        }
        let options = LogOptions { replay_after: known, ..small() };
        let Opened { log, found, frames } = open(&fs, &options);
        assert_eq!(found.damages, [], "{known}");
        assert!(genuine(&frames).into_iter().eq(known + 1..=150), "{known}");
        assert_eq!(found.last_seq, 150);
        let there = log.segments();
        assert!(there.iter().map(|segment| segment.first_seq).eq(first_seqs.iter().copied()));
        assert!(there[..unread].iter().all(|segment| segment.used_bytes == 5632));
        assert_eq!(there[unread..], fully_read[unread..]);
        append(&log, [151]);
    }
}

#[test]
fn a_known_segment_that_is_missing_or_shorter_is_still_damage() {
    let (fs, first_seqs) = written(150);
    let options = LogOptions { replay_after: 150, ..small() };
    let first = &segments(&fs)[1];
    let missing = fs.fork();
    quorate_storage::fs::Fs::remove(&missing, first).unwrap();
    let found = open(&missing, &options).found;
    let [damage] = &found.damages[..] else { panic!("{found:?}") };
    assert_eq!((damage.first_seq, damage.last_seq), (first_seqs[1], first_seqs[2] - 1));
    let shorter = fs.fork();
    shorter.tamper(first, |bytes| bytes.truncate(3000)).unwrap();
    let Opened { found, frames, .. } = open(&shorter, &options);
    assert_eq!((found.damages.len(), frames.len()), (1, 0));
    assert_eq!(found.damages[0].last_seq, first_seqs[2] - 1);
}

#[test]
fn an_unread_segment_can_still_be_walked() {
    let (fs, first_seqs) = written(150);
    let log = open(&fs, &LogOptions { replay_after: 150, ..small() }).log;
    let mut seqs = Vec::new();
    let walked = log.walk(1, 0, u64::MAX, &mut |frame| seqs.push(frame.seq)).unwrap();
    assert_eq!((walked.next_offset, walked.damages), (None, Vec::new()));
    assert!(seqs.into_iter().eq(1..first_seqs[1]));
}

/// Frames by segment, each segment's in the order in which they came.
type BySegment = BTreeMap<u64, Vec<u64>>;

fn open_unordered(fs: &FaultFs, options: &LogOptions) -> (BySegment, Recovery) {
    let frames = Mutex::new(BySegment::new());
    let (log, found) = Log::open_unordered(
        Arc::new(fs.clone()),
        Path::new(DIR),
        options,
        |_| {},
        |frame| {
            assert_eq!(frame.payload, payload(frame.seq));
            frames.lock().unwrap().entry(frame.place.segment).or_default().push(frame.seq);
        },
    )
    .unwrap();
    drop(log);
    (frames.into_inner().unwrap(), found)
}

#[test]
fn several_threads_find_what_one_finds() {
    let (fs, _) = written(400);
    open(&fs, &small()).log.release(3).unwrap();
    let files = segments(&fs);
    assert!(files.len() > 6);
    let damage: [&dyn Fn(&FaultFs); 6] = [
        &|_| {},
        &|fs| fs.tamper(&files[1], |bytes| bytes[700] ^= 1).unwrap(),
        &|fs| files.iter().for_each(|file| fs.tamper(file, |bytes| bytes[900] ^= 1).unwrap()),
        &|fs| fs.tamper(&files[4], |bytes| bytes[..512].fill(0)).unwrap(),
        &|fs| quorate_storage::fs::Fs::remove(fs, &files[3]).unwrap(),
        &|fs| fs.tamper(&files[2], |bytes| bytes.truncate(2000)).unwrap(),
    ];
    for (number, damage) in damage.iter().enumerate() {
        for replay_after in [0, 60, 200] {
            let fs = fs.fork();
            damage(&fs);
            let options = LogOptions { replay_after, ..small() };
            let (alone, report) = open_unordered(&fs.fork(), &options);
            let mut in_order = BySegment::new();
            let ordered = open(&fs.fork(), &options);
            assert_eq!(ordered.found, report, "{number}");
            for (recovery_threads, drive) in [(2, Drive::Threads), (5, Drive::Threads)] {
                let options = LogOptions { drive, recovery_threads, ..options.clone() };
                let (frames, found) = open_unordered(&fs.fork(), &options);
                assert_eq!(found, report, "{number}");
                assert_eq!(frames, alone, "{number}");
            }
            for (seq, _) in &ordered.frames {
                let segment = alone.iter().find(|(_, seqs)| seqs.contains(seq)).unwrap().0;
                in_order.entry(*segment).or_default().push(*seq);
            }
            assert_eq!(in_order, alone, "{number}");
        }
    }
}
