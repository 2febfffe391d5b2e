//! Whatever happens to the bytes of a log: what was synced is back or is reported, and nothing else is ever given back.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use quorate_storage::Recovery;
use quorate_storage::fault::FaultFs;

use crate::scene::{DIR, Opened, append, genuine, open, payload, segments, small, submit};

/// 105 frames over three segments, synced in batches of one to four, with all files closed.
pub(crate) fn written() -> (FaultFs, u64) {
    let fs = FaultFs::new();
    let Opened { log, .. } = open(&fs, &small());
    let mut next = 1;
    while next <= 105 {
        let batch = next..(next + 1 + next % 4).min(106);
        next = batch.end;
        submit(&log, batch);
        log.turn(std::time::Duration::ZERO);
    }
    assert_eq!(log.durable_seq(), 105);
    drop(log);
    let total: usize = segments(&fs).iter().map(|path| fs.contents(path).unwrap().len()).sum();
    assert!(segments(&fs).len() == 3 && total >= 16 << 10);
    (fs, 105)
}

/// Checks what came back after damage to a log whose frames up to `last` were synced.
pub(crate) fn accounted_for(found: &Recovery, seqs: &[u64], last: u64) {
    let reported: BTreeSet<u64> =
        found.damages.iter().flat_map(|damage| damage.first_seq..=damage.last_seq).collect();
    let mut missing: Vec<u64> = (1..=last).filter(|seq| seqs.binary_search(seq).is_err()).collect();
    assert!(seqs.iter().all(|seq| *seq <= last), "frames that were never appended: {seqs:?}");
    // What was cut from the end is reported in bytes.
    if found.truncated_bytes > 0 {
        missing.retain(|seq| *seq <= found.last_seq);
    }
    missing.retain(|seq| !reported.contains(seq));
    assert!(missing.is_empty(), "lost without a word: {missing:?} of {found:?}");
}

/// Opens a damaged log, appends, and opens it again: the same frames must be back, and the new one.
fn survives(fs: &FaultFs, last: u64) {
    let first = open(fs, &small());
    let mut seqs = genuine(&first.frames);
    accounted_for(&first.found, &seqs, last);
    let next = first.found.last_seq + 1;
    append(&first.log, [next]);
    seqs.push(next);
    drop(first);
    let second = open(fs, &small());
    assert_eq!(genuine(&second.frames), seqs, "the second recovery differs from the first");
    assert_eq!(second.found.truncated_bytes, 0, "what was cut is still there");
}

/// Runs `case` for every number below `end` on both cores.
fn for_each(end: usize, case: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for half in 0..2 {
            let case = &case;
            scope.spawn(move || (half..end).step_by(2).for_each(case));
        }
    });
}

#[test]
fn a_file_cut_at_any_byte_gives_back_what_is_left_of_it_and_is_reported() {
    let (fs, last) = written();
    let files = segments(&fs);
    for (place, path) in files.iter().enumerate() {
        let bytes = fs.contents(path).unwrap();
        let next =
            files.get(place + 1).map_or(last + 1, |next| first_seq(&fs.contents(next).unwrap()));
        for_each(bytes.len(), |cut| {
            let fs = fs.fork();
            fs.tamper(path, |bytes| bytes.truncate(cut)).unwrap();
            let lost = first_lost(first_seq(&bytes)..next, cut)..next;
            let is_last = next > last;
            let left: Vec<u64> = (1..=last).filter(|seq| !lost.contains(seq)).collect();
            let opened = open(&fs, &small());
            assert_eq!(genuine(&opened.frames), left, "cut at {cut}");
            let damages = &opened.found.damages;
            assert!(!damages.is_empty(), "cut at {cut}, and nobody says so");
            if is_last {
                // What was there at the end, nothing else knows.
                assert!(
                    damages.iter().all(|damage| damage.first_seq == lost.start
                        && damage.last_seq + 1 == lost.start)
                );
            } else {
                let reported = damages.iter().flat_map(|damage| damage.first_seq..=damage.last_seq);
                assert!(reported.eq(lost.clone()), "cut at {cut}: {damages:?}");
            }

            let appended = if is_last { lost.start } else { last + 1 };
            append(&opened.log, [appended]);
            drop(opened);
            let again = open(&fs, &small());
            let left: Vec<u64> = left.into_iter().chain([appended]).collect();
            assert_eq!(genuine(&again.frames), left);
            assert!(!again.found.damages.is_empty(), "cut at {cut}, and forgotten");
        });
    }
}

/// The number of the first frame of a segment.
pub(crate) fn first_seq(segment: &[u8]) -> u64 {
    u64::from_le_bytes(segment[24..32].try_into().unwrap())
}

/// The first of the frames `seqs` of a segment that does not end before `cut`.
fn first_lost(seqs: std::ops::Range<u64>, cut: usize) -> u64 {
    let mut end = 512;
    let is_whole = |seq: &u64| {
        end += frame_len(*seq);
        end <= cut
    };
    seqs.start + seqs.take_while(is_whole).count() as u64
}

#[test]
fn a_longer_file_than_was_made_gives_back_what_was_appended() {
    let (fs, last) = written();
    let path = segments(&fs).pop().unwrap();
    fs.tamper(&path, |bytes| bytes.extend([0xff; 1000])).unwrap();
    survives(&fs, last);
}

#[test]
fn a_log_goes_on_in_its_last_segment_when_segments_get_another_size() {
    let fs = FaultFs::new();
    append(&open(&fs, &small()).log, 1..=3);
    let larger = quorate_storage::LogOptions { segment_bytes: 9216, ..small() };
    append(&open(&fs, &larger).log, 4..=80);
    let Opened { found, frames, .. } = open(&fs, &small());
    assert!(found.damages.is_empty(), "{found:?}");
    assert!(genuine(&frames).into_iter().eq(1..=80));
    let sizes: Vec<usize> =
        segments(&fs).iter().map(|path| fs.contents(path).unwrap().len()).collect();
    assert_eq!(sizes, [5632, 9216]);
}

#[test]
fn no_flipped_bit_is_served_or_hides_a_synced_frame() {
    let (fs, last) = written();
    for path in segments(&fs) {
        let len = fs.contents(&path).unwrap().len();
        for_each(len * 8, |bit| {
            let fs = fs.fork();
            fs.tamper(&path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8)).unwrap();
            survives(&fs, last);
        });
    }
}

#[test]
fn zeroed_and_swapped_sectors_are_reported() {
    let (fs, last) = written();
    for path in segments(&fs) {
        let sectors = fs.contents(&path).unwrap().len() / 512;
        for_each(sectors * sectors, |pair| {
            let (a, b) = (pair / sectors, pair % sectors);
            let fs = fs.fork();
            fs.tamper(&path, |bytes| {
                if a == b {
                    bytes[a * 512..(a + 1) * 512].fill(0);
                } else {
                    let copy = bytes[a * 512..(a + 1) * 512].to_vec();
                    bytes.copy_within(b * 512..(b + 1) * 512, a * 512);
                    bytes[b * 512..(b + 1) * 512].copy_from_slice(&copy);
                }
            })
            .unwrap();
            survives(&fs, last);
        });
    }
}

#[test]
fn a_damaged_frame_is_set_aside_and_everything_else_is_served() {
    let (fs, last) = written();
    let path = segments(&fs)[2].clone();
    fs.tamper(&path, |bytes| bytes[512 + 30] ^= 1).unwrap();
    let Opened { found, frames, .. } = open(&fs, &small());
    let seqs = genuine(&frames);
    let [damage] = &found.damages[..] else { panic!("{found:?}") };
    assert_eq!(damage.first_seq, damage.last_seq);
    assert_eq!(seqs.len() as u64, last - 1);
    let copy = Path::new(DIR).join(format!("damaged-{:016x}-{}", damage.segment, damage.offset));
    assert_eq!(fs.contents(&copy).unwrap().len() as u64, damage.len);
    assert_eq!(fs.contents(&copy).unwrap()[30], payload(damage.first_seq)[6] ^ 1);
}

#[test]
fn a_damaged_header_of_the_last_segment_is_damage_and_not_emptiness() {
    let (fs, last) = written();
    let path = segments(&fs)[2].clone();
    fs.tamper(&path, |bytes| bytes[..512].fill(0)).unwrap();
    let Opened { found, frames, .. } = open(&fs, &small());
    assert_eq!(genuine(&frames).len() as u64, last);
    assert_eq!((found.damages[0].offset, found.damages[0].len), (0, 512));
    survives(&fs, last);
}

#[test]
fn an_unknown_format_version_is_refused_with_both_versions() {
    let (fs, _) = written();
    let path = segments(&fs)[0].clone();
    fs.tamper(&path, |bytes| {
        bytes[8] = 9;
        let crc = crc32fast::hash(&bytes[..40]);
        bytes[40..44].copy_from_slice(&crc.to_le_bytes());
    })
    .unwrap();
    let error =
        crate::scene::try_open(&fs, &small()).err().expect("the version is refused").to_string();
    assert!(error.ends_with(
        "0000000000000001.qlog has format version 9, this program reads and writes version 2"
    ));
}

#[test]
fn a_torn_batch_is_cut_and_its_later_frames_do_not_come_back() {
    let fs = FaultFs::new();
    let Opened { log, .. } = open(&fs, &small());
    append(&log, 1..=3);
    submit(&log, 4..=9);
    log.turn(std::time::Duration::ZERO);
    drop(log);
    // The batch was not synced, let us say, and lost its first frame.
    let path = segments(&fs)[0].clone();
    let start = end_of(3);
    fs.tamper(&path, |bytes| bytes[start..start + 16].fill(0)).unwrap();
    let Opened { log, found, frames } = open(&fs, &small());
    assert_eq!(genuine(&frames), [1, 2, 3]);
    assert!(found.damages.is_empty(), "{found:?}");
    assert_eq!(found.truncated_bytes, (end_of(9) - end_of(3)) as u64);
    // A frame of the very size of the lost one must not uncover those behind it.
    append(&log, [4]);
    drop(log);
    assert_eq!(genuine(&open(&fs, &small()).frames), [1, 2, 3, 4]);
}

#[test]
fn what_proves_damage_outlives_a_torn_tail_behind_it() {
    let fs = FaultFs::new();
    let Opened { log, .. } = open(&fs, &small());
    submit(&log, 1..=9);
    log.turn(std::time::Duration::ZERO);
    submit(&log, 10..=11);
    log.turn(std::time::Duration::ZERO);
    drop(log);
    // Frame 3 is damaged and frame 10 torn; only frame 11 knows that 1 to 9 were synced.
    let path = segments(&fs)[0].clone();
    fs.tamper(&path, |bytes| {
        bytes[end_of(2) + 30] ^= 1;
        bytes[end_of(9)..end_of(9) + 16].fill(0);
    })
    .unwrap();
    for _ in 0..3 {
        let Opened { found, frames, .. } = open(&fs, &small());
        assert_eq!(genuine(&frames), [1, 2, 4, 5, 6, 7, 8, 9]);
        assert_eq!((found.damages[0].first_seq, found.damages[0].last_seq), (3, 3));
    }
    append(&open(&fs, &small()).log, 10..=12);
    assert_eq!(genuine(&open(&fs, &small()).frames), [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
}

#[test]
fn frames_left_in_a_recycled_segment_are_never_accepted() {
    let fs = FaultFs::new();
    let mut acked = 0;
    // The same sizes again and again, so that old frames stand where new ones are expected.
    for round in 0..20 {
        let Opened { log, frames, found } = open(&fs, &small());
        let seqs: Vec<u64> = frames.iter().map(|(seq, _)| *seq).collect();
        assert!(found.damages.is_empty() && found.truncated_bytes == 0, "round {round}: {found:?}");
        assert_eq!(seqs.last().copied().unwrap_or(0), acked);
        assert!(seqs.is_sorted_by(|a, b| a + 1 == *b), "{seqs:?}");
        for _ in 0..35 {
            acked = append_sized(&log, acked + 1);
        }
        log.recycle_below(acked - 10).unwrap();
        for _ in 0..10 {
            acked = append_sized(&log, acked + 1);
        }
        assert!(log.stats().segments <= 3);
    }
}

/// One frame of a fixed size.
fn append_sized(log: &quorate_storage::Log, seq: u64) -> u64 {
    let mut bytes = vec![0xa5; 488];
    bytes[..8].copy_from_slice(&seq.to_le_bytes());
    log.append(crate::scene::kind_of(seq), &bytes).unwrap()
}

#[test]
fn garbage_for_a_log_is_no_panic_and_gives_back_nothing() {
    for fill in [0x00, 0x01, 0x7f, 0xff] {
        for len in [0, 1, 511, 512, 513, 8192] {
            let fs = FaultFs::new();
            drop(open(&fs, &small()));
            let path = PathBuf::from(DIR).join("0000000000000005.qlog");
            use quorate_storage::fs::Fs;
            fs.create(&path).unwrap();
            fs.tamper(&path, |bytes| bytes.resize(len, fill)).unwrap();
            let Opened { log, frames, found } = open(&fs, &small());
            assert!(frames.is_empty());
            // A segment has a header once it has its name, and the one before it was recorded.
            let places: Vec<u64> = found.damages.iter().map(|damage| damage.segment).collect();
            assert_eq!(places, [5, 6]);
            append(&log, 1..=3);
            drop(log);
            assert_eq!(genuine(&open(&fs, &small()).frames), [1, 2, 3]);
        }
    }
}

#[test]
fn a_log_that_ends_before_what_its_owner_remembers_is_damaged() {
    let (fs, last) = written();
    let options = quorate_storage::LogOptions { next_seq_at_least: last + 11, ..small() };
    let Opened { log, found, .. } = open(&fs, &options);
    let [damage] = &found.damages[..] else { panic!("{found:?}") };
    assert_eq!((damage.first_seq, damage.last_seq), (last + 1, last + 10));
    append(&log, [last + 11]);
    drop(log);
    assert_eq!(genuine(&open(&fs, &small()).frames).last(), Some(&(last + 11)));
}

/// The offset behind frame `seq` in the first segment.
fn end_of(seq: u64) -> usize {
    512 + (1..=seq).map(frame_len).sum::<usize>()
}

fn frame_len(seq: u64) -> usize {
    (24 + payload(seq).len()).next_multiple_of(8)
}
