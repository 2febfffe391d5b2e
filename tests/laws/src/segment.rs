use std::{path::Path, sync::Arc, time::Duration};

use quorate_storage::{Drive, Log, LogOptions, Recovery, fault::FaultFs, fs::Fs};

const DIR: &str = "/log";
/// Segments are numbered from 1, and checksums of frames start from the number.
const SEGMENT: &str = "/log/0000000000000001.qlog";
const EPOCH: u32 = 1;

/// Whatever is in the first segment of a log, opening it gives frames in order or says what is
/// wrong, and opening it again gives the same ones.
///
/// The first byte of the input says whether the checksums are mended, without which hardly
/// anything would be believed.
pub fn segment(input: &[u8]) {
    let Some((&first, rest)) = input.split_first() else { return };
    let mut bytes = rest.to_vec();
    if first & 1 != 0 {
        bytes = with_header(rest);
    }
    if first & 2 != 0 {
        mend_checksums(&mut bytes);
    }
    let fs = Arc::new(FaultFs::new());
    fs.create_dir_all(Path::new(DIR)).expect("there are no faults");
    let file = fs.create(Path::new(SEGMENT)).expect("there are no faults");
    file.write_at(&bytes, 0).expect("there are no faults");

    let Some((frames, found)) = open(&fs, None) else { return };
    assert_eq!(found.frames, frames.len() as u64);
    assert!(frames.is_sorted_by(|a, b| a.seq < b.seq), "{frames:?}");
    assert!(frames.last().is_none_or(|last| last.seq <= found.last_seq), "{frames:?} in {found:?}");

    let added = b"one more";
    let (again, _) = open(&fs, Some(added)).expect("it could be opened before");
    assert_eq!(again, frames, "opened again");
    let (mut longer, _) = open(&fs, None).expect("it could be opened before");
    let last = longer.pop().expect("one more was written");
    assert!(last.payload == added && last.seq > found.last_seq, "{last:?}");
    assert_eq!(longer, frames, "written to and opened again");
}

#[derive(Debug, PartialEq)]
struct Kept {
    seq: u64,
    kind: u8,
    payload: Vec<u8>,
}

/// A log of which arbitrary bytes may be a segment: small, and turned by hand.
pub fn small_log() -> LogOptions {
    LogOptions {
        drive: Drive::Manual,
        segment_bytes: 2048,
        max_payload_bytes: 1024,
        prepare_ahead_bytes: 512,
        prepare_chunk_bytes: 512,
        ..LogOptions::default()
    }
}

/// Opens the log, closes it again, and gives what was in it. `None` if it is refused.
fn open(fs: &Arc<FaultFs>, append: Option<&[u8]>) -> Option<(Vec<Kept>, Recovery)> {
    let mut frames = Vec::new();
    let keep = |frame: quorate_storage::Frame<'_>| {
        let payload = frame.payload.to_vec();
        frames.push(Kept { seq: frame.seq, kind: frame.kind, payload });
    };
    let opened =
        Log::open(Arc::clone(fs) as Arc<dyn Fs>, Path::new(DIR), &small_log(), |_| {}, keep);
    let (log, found) = opened.inspect_err(|error| assert!(!error.to_string().is_empty())).ok()?;
    if let Some(payload) = append {
        let ticket = log.submit(1, payload).expect("there is room");
        log.turn(Duration::ZERO);
        log.wait(ticket).expect("it was written and synced");
    }
    drop(log);
    Some((frames, found))
}

/// Frames behind the header that a new segment of 2,048 bytes has; see `docs/format.md`.
fn with_header(frames: &[u8]) -> Vec<u8> {
    let mut bytes = b"QUORLOG\n\x02\0\0\0\0\0\0\0".to_vec();
    for number in [1u64, 1, 2048] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes.resize(512, 0);
    bytes.extend(frames);
    bytes.resize(bytes.len().max(2048), 0);
    bytes
}

/// Gives the header of the segment and all frames that follow on each other right checksums.
fn mend_checksums(bytes: &mut [u8]) {
    let Some((header, frames)) = bytes.split_at_mut_checked(512) else { return };
    let crc = crc32fast::hash(&header[..40]);
    header[40..44].copy_from_slice(&crc.to_le_bytes());

    let mut rest = frames;
    while let Some((header, body)) = rest.split_first_chunk_mut::<24>() {
        let [l0, l1, l2, l3, ..] = *header;
        let len = u64::from(u32::from_le_bytes([l0, l1, l2, l3]));
        let Ok(padded) = usize::try_from(len.next_multiple_of(8)) else { return };
        let Some((payload, tail)) = body.split_at_mut_checked(padded) else { return };
        if header.iter().all(|&byte| byte == 0) {
            return;
        }
        let len = usize::try_from(len).expect("it is below the padded length");
        header[16..20].copy_from_slice(&checksum(&payload[..len]));
        let crc = checksum(&header[..20]);
        header[20..].copy_from_slice(&crc);
        rest = tail;
    }
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new_with_initial(EPOCH);
    hasher.update(bytes);
    hasher.finalize().to_le_bytes()
}
