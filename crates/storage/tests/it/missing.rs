//! Files of a log that are gone: what was in them is reported, and their numbers are not used again.

use std::path::Path;
use std::sync::Arc;

use quorate_storage::fault::FaultFs;
use quorate_storage::fs::Fs;
use quorate_storage::{Drive, HintLog, HintLogOptions};

use crate::damage::{accounted_for, first_seq, written};
use crate::scene::{DIR, Opened, append, genuine, open, segments, small};

#[test]
fn a_missing_segment_in_the_middle_is_damage() {
    let (fs, last) = written();
    let files = segments(&fs);
    fs.remove(&files[1]).unwrap();
    let Opened { found, frames, .. } = open(&fs, &small());
    let seqs = genuine(&frames);
    accounted_for(&found, &seqs, last);
    assert_eq!(found.damages.len(), 1, "{found:?}");
    assert_eq!((found.damages[0].segment, found.damages[0].len), (2, 0));
    assert_eq!(
        found.damages[0].last_seq - found.damages[0].first_seq + 1 + seqs.len() as u64,
        last
    );
}

/// Where the segments of a log begin.
fn first_seqs(fs: &FaultFs) -> Vec<u64> {
    segments(fs).iter().map(|path| first_seq(&fs.contents(path).unwrap())).collect()
}

#[test]
fn missing_segments_at_the_end_are_damage_and_their_numbers_are_not_used_again() {
    for left in [2, 1] {
        let (fs, _) = written();
        let first_seqs = first_seqs(&fs);
        let newest = *first_seqs.last().unwrap();
        for path in &segments(&fs)[left..] {
            fs.remove(path).unwrap();
        }
        let Opened { log, found, frames } = open(&fs, &small());
        let seqs = genuine(&frames);
        assert!(seqs.iter().copied().eq(1..first_seqs[left]));
        let [damage] = &found.damages[..] else { panic!("{found:?}") };
        assert_eq!((damage.segment, damage.len), (left as u64 + 1, 0));
        // How many the very last one had, nobody knows.
        assert_eq!((damage.first_seq, damage.last_seq), (first_seqs[left], newest - 1));
        assert_eq!(found.last_seq, newest - 1);

        append(&log, [newest]);
        drop(log);
        assert!(segments(&fs).last().unwrap().ends_with("0000000000000004.qlog"));
        let again = open(&fs, &small());
        assert_eq!(genuine(&again.frames), seqs.into_iter().chain([newest]).collect::<Vec<_>>());
        assert_eq!(again.found.damages, found.damages, "it stays damaged");
    }
}

#[test]
fn an_emptied_log_is_damaged_and_goes_on_behind_what_it_had() {
    let (fs, _) = written();
    let newest = *first_seqs(&fs).last().unwrap();
    for path in segments(&fs) {
        fs.remove(&path).unwrap();
    }
    let Opened { log, found, frames } = open(&fs, &small());
    assert!(frames.is_empty());
    let [damage] = &found.damages[..] else { panic!("{found:?}") };
    assert_eq!((damage.segment, damage.first_seq, damage.last_seq), (1, 1, newest - 1));
    append(&log, [newest]);
    drop(log);
    assert_eq!(segments(&fs), [Path::new(DIR).join("0000000000000004.qlog")]);
    assert_eq!(genuine(&open(&fs, &small()).frames), [newest]);
}

#[test]
fn a_hint_log_without_its_files_is_damaged() {
    use quorate_record::{Hint, HintKind, Key, NodeId, Record, Timestamp, Version, Writer};
    let fs = FaultFs::new();
    let mut options = HintLogOptions::default();
    options.log.drive = Drive::Manual;
    let open =
        || HintLog::open(Arc::new(fs.clone()), DIR.as_ref(), &options, Box::new(|| {})).unwrap();
    let writer = Writer { node: NodeId::new("n1").unwrap(), incarnation: 1 };
    let version = Version { timestamp: Timestamp::from_wall_ms(5), writer };
    let hint = Hint {
        target: NodeId::new("n2").unwrap(),
        key: Key::new("cat").unwrap(),
        record: Record::live(version, "meow"),
        kind: HintKind::Owed,
        added_ms: 5,
    };
    let (hints, ..) = open();
    hints.add(1, &hint).unwrap();
    drop(hints);
    fs.remove(&segments(&fs)[0]).unwrap();
    let (hints, found) = open();
    assert_eq!(hints.stats().hints, 0);
    assert_eq!(found.damages.len(), 1, "{found:?}");
}

#[test]
fn a_missing_record_of_the_newest_segment_is_damage_itself_and_is_made_again() {
    let (fs, last) = written();
    fs.remove(&Path::new(DIR).join("newest")).unwrap();
    let Opened { log, found, frames } = open(&fs, &small());
    assert_eq!(genuine(&frames).len() as u64, last);
    let [damage] = &found.damages[..] else { panic!("{found:?}") };
    assert_eq!((damage.segment, damage.first_seq, damage.last_seq), (4, last + 1, last));
    append(&log, [last + 1]);
    drop(log);
    assert!(open(&fs, &small()).found.damages.is_empty());
}

#[test]
fn a_damaged_record_of_the_newest_segment_loses_nothing() {
    let (fs, last) = written();
    let path = Path::new(DIR).join("newest");
    for bit in 0..fs.contents(&path).unwrap().len() * 8 {
        let fs = fs.fork();
        fs.tamper(&path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8)).unwrap();
        let opened = open(&fs, &small());
        assert!(opened.found.damages.is_empty(), "{:?}", opened.found);
        append(&opened.log, [last + 1]);
        drop(opened);
        fs.remove(&segments(&fs)[2]).unwrap();
        assert_eq!(open(&fs, &small()).found.damages.len(), 1, "recorded again");
    }
}
