//! Frames read where they lie, while the log goes on.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use quorate_storage::fault::FaultFs;
use quorate_storage::{Damage, Log, LogOptions, Place, Progress, ReadError, Written};

use crate::scene::{DIR, append, kind_of, open, payload, segments, small};

/// A log with frames `1..=last`, each written by itself, and where they are.
fn written(options: &LogOptions, last: u64) -> (FaultFs, Log, Vec<Written>) {
    let fs = FaultFs::new();
    let told = Arc::new(Mutex::new(Vec::<Written>::new()));
    let heard = told.clone();
    let on_progress = move |progress: Progress<'_>| heard.lock().unwrap().extend(progress.frames);
    let (log, _) =
        Log::open(Arc::new(fs.clone()), Path::new(DIR), options, on_progress, |_| {}).unwrap();
    append(&log, 1..=last);
    let told = told.lock().unwrap().clone();
    (fs, log, told)
}

/// Reads frame number `seq` and checks it.
fn reads(log: &Log, seq: u64, frame: &Written) -> Result<(), ReadError> {
    let mut buf = Vec::new();
    let (kind, at) = log.read(frame.place, frame.bytes, &mut buf)?;
    assert_eq!((kind, &buf[at]), (kind_of(seq), &payload(seq)[..]));
    Ok(())
}

fn numbered(frames: &[Written]) -> impl DoubleEndedIterator<Item = (u64, &Written)> {
    (1..).take(frames.len()).zip(frames).collect::<Vec<_>>().into_iter()
}

#[test]
fn every_frame_can_be_read_where_it_was_written_before_and_after_a_reopening() {
    for max_open_files in [0, 1, 2, 100] {
        let options = LogOptions { max_open_files, ..small() };
        let (fs, log, frames) = written(&options, 150);
        for (seq, frame) in numbered(&frames).chain(numbered(&frames).rev()) {
            reads(&log, seq, frame).unwrap();
        }
        drop(log);
        let log = open(&fs, &options).log;
        for (seq, frame) in numbered(&frames).chain(numbered(&frames).rev()) {
            reads(&log, seq, frame).unwrap();
        }
    }
}

#[test]
fn a_changed_frame_is_damaged_and_nothing_else_is() {
    let (fs, log, frames) = written(&small(), 60);
    let damaged = &frames[1];
    let path = &segments(&fs)[0];
    let (start, end) = (damaged.place.offset, damaged.place.offset + u64::from(damaged.bytes));
    let padding = (u64::from(damaged.bytes) - 24 - payload(2).len() as u64) * 8;
    for bit in start * 8..end * 8 - padding {
        let flip = |bytes: &mut Vec<u8>| {
            bytes[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
        };
        fs.tamper(path, flip).unwrap();
        let error = reads(&log, 2, damaged).unwrap_err();
        assert!(matches!(error, ReadError::Damaged), "bit {bit}: {error}");
        reads(&log, 1, &frames[0]).unwrap();
        reads(&log, 3, &frames[2]).unwrap();
        fs.tamper(path, flip).unwrap();
    }
    reads(&log, 2, damaged).unwrap();
}

#[test]
fn a_place_or_a_size_that_no_frame_has_is_damaged_and_costs_no_memory() {
    let (_fs, log, frames) = written(&small(), 60);
    let first = frames[0];
    for bytes in [0, 8, 23, 24, first.bytes - 8, first.bytes + 8, u32::MAX] {
        let mut buf = Vec::new();
        let error = log.read(first.place, bytes, &mut buf).unwrap_err();
        assert!(matches!(error, ReadError::Damaged), "{bytes} bytes: {error}");
        assert!(buf.capacity() <= 8192, "{bytes} bytes");
    }
    for offset in [0, 8, 520, 5632, 1 << 40] {
        let place = Place { segment: 1, offset };
        let error = log.read(place, first.bytes, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, ReadError::Damaged), "at {offset}: {error}");
    }
    let place = Place { segment: 2, ..first.place };
    assert!(log.read(place, first.bytes, &mut Vec::new()).is_err(), "the segment counts");
}

#[test]
fn what_was_given_up_is_gone_even_if_its_file_is_another_segment_now() {
    let (fs, log, frames) = written(&small(), 150);
    log.recycle_below(frames.len() as u64).unwrap();
    append(&log, 151..=250);
    let there = log.segments();
    assert!(there[0].number > 2 && there.len() > 1);
    for (seq, frame) in numbered(&frames) {
        match reads(&log, seq, frame) {
            Ok(()) => assert!(frame.place.segment >= there[0].number),
            Err(ReadError::Gone) => assert!(frame.place.segment < there[0].number),
            Err(error) => panic!("{error}"),
        }
    }
    let number = frames[0].place.segment;
    assert_eq!(log.walk(number, 0, 1, &mut |_| {}).unwrap_err().kind(), io::ErrorKind::NotFound);
    drop(fs);
}

/// All frames of a segment, read in parts, and what was damaged.
fn walked(log: &Log, segment: u64, max_bytes: u64) -> (Vec<Written>, Vec<Damage>) {
    let (mut frames, mut damages) = (Vec::new(), Vec::new());
    let mut from = Some(0);
    while let Some(offset) = from {
        let walked = log
            .walk(segment, offset, max_bytes, &mut |frame| {
                assert_eq!(frame.payload, payload(frame.seq));
                let (tag, place, bytes) = (0, frame.place, frame.bytes);
                frames.push(Written { tag, place, bytes });
            })
            .unwrap();
        damages.extend(walked.damages);
        assert!(walked.next_offset.is_none_or(|next| next > offset));
        from = walked.next_offset;
    }
    (frames, damages)
}

#[test]
fn a_sealed_segment_is_walked_in_parts_of_any_size() {
    let (_fs, log, frames) = written(&small(), 150);
    for max_bytes in [0, 1, 300, 2000, u64::MAX] {
        let (newest, sealed) = (log.segments().pop().unwrap(), log.segments().len() - 1);
        let walks = log.segments().into_iter().take(sealed);
        let all: Vec<Written> =
            walks.flat_map(|segment| walked(&log, segment.number, max_bytes).0).collect();
        assert!(sealed >= 2);
        let known = frames.iter().filter(|frame| frame.place.segment < newest.number);
        assert!(all.iter().eq(known), "{max_bytes}");
        let error = log.walk(newest.number, 0, 1, &mut |_| {}).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn a_walk_steps_over_damage_and_tells_of_it() {
    let (fs, log, frames) = written(&small(), 150);
    let in_first = frames.iter().filter(|frame| frame.place.segment == 1).count();
    for (from, to) in [(0, 1), (3, 4), (3, 7), (in_first - 1, in_first), (0, in_first)] {
        let (start, end) = (frames[from].place.offset, frames[to - 1].place.offset + 24);
        let damage = |bytes: &mut Vec<u8>| {
            let range = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
            bytes[range].iter_mut().for_each(|byte| *byte ^= 0x55);
        };
        fs.tamper(&segments(&fs)[0], damage).unwrap();
        for max_bytes in [1, 500, u64::MAX] {
            let (found, damages) = walked(&log, 1, max_bytes);
            let good = frames[..from].iter().chain(&frames[to..in_first]);
            assert!(found.iter().eq(good), "{from}..{to}");
            let [damage] = &damages[..] else { panic!("{damages:?}") };
            let known = (damage.offset, damage.first_seq, damage.last_seq);
            assert_eq!(known, (start, from as u64 + 1, to as u64));
        }
        fs.tamper(&segments(&fs)[0], damage).unwrap();
    }
}
