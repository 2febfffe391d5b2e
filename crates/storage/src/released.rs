//! Which segments were given up. Without it, nothing would tell a segment that was lost from one that was not needed.

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::frame::checksum;
use crate::fs::{File, Fs, is_passing};
use crate::recovery::OpenError;
use crate::segment::{FORMAT_VERSION, index};

/// The segments that were given up: all below the oldest, and some above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Released {
    /// The number of the oldest segment that is needed.
    pub(crate) oldest: u64,
    /// The sequence number of its first frame.
    pub(crate) first_seq: u64,
    /// Those above it: in order, without overlap, none that could be one with the next.
    pub(crate) runs: Vec<Run>,
}

/// Segments in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) numbers: RangeInclusive<u64>,
    /// The sequence number of their first frame.
    pub(crate) first_seq: u64,
    /// One past that of their last.
    pub(crate) end_seq: u64,
}

impl Released {
    /// Nothing but what is older than this segment.
    pub(crate) fn below(oldest: u64, first_seq: u64) -> Self {
        Self { oldest, first_seq, runs: Vec::new() }
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        let at = self.runs.partition_point(|run| *run.numbers.end() < number);
        number < self.oldest || self.runs.get(at).is_some_and(|run| run.numbers.contains(&number))
    }

    /// Enters a segment that is not there yet.
    pub(crate) fn add(&mut self, number: u64, first_seq: u64, end_seq: u64) {
        let at = self.runs.partition_point(|run| *run.numbers.start() < number);
        self.runs.insert(at, Run { numbers: number..=number, first_seq, end_seq });
        for left in [at, at.wrapping_sub(1)] {
            if let Some([run, next]) =
                self.runs.get_mut(left..).and_then(|runs| runs.first_chunk_mut())
                && (run.numbers.end() + 1, run.end_seq) == (*next.numbers.start(), next.first_seq)
            {
                run.numbers = *run.numbers.start()..=*next.numbers.end();
                run.end_seq = next.end_seq;
                self.runs.remove(left + 1);
            }
        }
    }

    /// Notes which segment is the oldest now.
    pub(crate) fn set_oldest(&mut self, number: u64, first_seq: u64) {
        (self.oldest, self.first_seq) = (number, first_seq);
        self.runs.retain(|run| *run.numbers.end() > number);
    }

    fn encode(&self, generation: u64) -> Vec<u8> {
        let count = u32::try_from(self.runs.len()).expect("checked against the limit");
        let mut bytes = Vec::with_capacity(record_len(self.runs.len()));
        bytes.extend(MAGIC);
        bytes.extend(FORMAT_VERSION.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        for field in [generation, self.oldest, self.first_seq] {
            bytes.extend(field.to_le_bytes());
        }
        for run in &self.runs {
            for field in [*run.numbers.start(), *run.numbers.end(), run.first_seq, run.end_seq] {
                bytes.extend(field.to_le_bytes());
            }
        }
        let crc = checksum(0, &bytes);
        bytes.extend(crc.to_le_bytes());
        bytes
    }
}

const MAGIC: [u8; 8] = *b"QUORREL\n";
const HEADER_LEN: usize = 40;
const RUN_LEN: usize = 32;
const CRC_LEN: usize = 4;

/// Where the second record is. What lies between is a hole.
const RECORD_OFFSET: u64 = 1 << 20;

/// A record must end before the next one begins.
const MAX_RUNS: usize = (1 << 15) - 2;
const _: () = assert!((record_len(MAX_RUNS) as u64) < RECORD_OFFSET);

const fn record_len(runs: usize) -> usize {
    HEADER_LEN + runs * RUN_LEN + CRC_LEN
}

/// The file `released` of a log.
pub(crate) struct ReleasedFile {
    path: PathBuf,
    file: Option<Arc<dyn File>>,
    /// Counts the records; they take turns, so that one that fails or tears leaves the one before.
    generation: u64,
}

impl ReleasedFile {
    /// Opens the file in `dir`, if there is one, and reads the newer of its records.
    pub(crate) fn open(fs: &dyn Fs, dir: &Path) -> Result<(Self, Option<Released>), OpenError> {
        let path = dir.join("released");
        let file = match fs.open(&path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(OpenError::io("open", &path)(error)),
        };
        let mut newest = None;
        for offset in [0, RECORD_OFFSET] {
            let Some(file) = &file else { break };
            match read_record(&**file, offset).map_err(OpenError::io("read", &path))? {
                Some(Ok(found)) if newest.as_ref().is_none_or(|(known, _)| found.0 > *known) => {
                    newest = Some(found);
                }
                Some(Err(found)) => {
                    let path = path.display().to_string();
                    return Err(OpenError::Version { path, found, supported: FORMAT_VERSION });
                }
                _ => {}
            }
        }
        let (generation, released) = newest.unzip();
        Ok((Self { path, file, generation: generation.unwrap_or(0) }, released))
    }

    /// Where there are no good records although there should be.
    pub(crate) fn bad_records(fs: &dyn Fs, dir: &Path) -> Result<Vec<u64>, OpenError> {
        let (opened, _) = Self::open(fs, dir)?;
        let mut bad = Vec::new();
        for offset in [0, RECORD_OFFSET] {
            let Some(file) = &opened.file else { break };
            let path = &opened.path;
            let mut start = [0; HEADER_LEN];
            file.read_at(&mut start, offset).map_err(OpenError::io("read", path))?;
            let is_good = read_record(&**file, offset).map_err(OpenError::io("read", path))?;
            // The second comes after the first, and room may have run out between.
            let is_written = opened.generation != 1 || start != [0; HEADER_LEN];
            if is_written && is_good.is_none() {
                bad.push(offset);
            }
        }
        Ok(bad)
    }

    /// Makes a first record, and room for the next, so that a disk that runs full can be made room on. If it is full
    /// already, [`Self::record`] does it later.
    pub(crate) fn create(
        &mut self,
        fs: &dyn Fs,
        dir: &Path,
        released: &Released,
    ) -> io::Result<()> {
        for _ in 0..2 {
            match self.record(fs, dir, released) {
                Err(error) if is_passing(&error) => return Ok(()),
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// Makes a record last. Those who are in it may be removed only afterwards.
    pub(crate) fn record(
        &mut self,
        fs: &dyn Fs,
        dir: &Path,
        released: &Released,
    ) -> io::Result<()> {
        if released.runs.len() > MAX_RUNS {
            return Err(io::Error::other("too many gaps between the segments of the log"));
        }
        let file = match &self.file {
            Some(file) => file.clone(),
            None => fs.create(&self.path)?,
        };
        let generation = self.generation + 1;
        file.write_at(&released.encode(generation), generation % 2 * RECORD_OFFSET)?;
        file.sync_data()?;
        if self.file.is_none() {
            fs.sync_dir(dir)?;
            self.file = Some(file);
        }
        self.generation = generation;
        Ok(())
    }
}

/// What a record says, with its generation; the other version if it is whole and of another one. `None` is never
/// written, or damaged.
fn read_record(file: &dyn File, offset: u64) -> io::Result<Option<Result<(u64, Released), u32>>> {
    let mut header = [0; HEADER_LEN];
    if file.read_at(&mut header, offset)? < HEADER_LEN || header[..8] != MAGIC {
        return Ok(None);
    }
    let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let long = |bytes: &[u8]| u64::from(word(bytes)) | u64::from(word(&bytes[4..])) << 32;
    let runs = index(word(&header[12..]).into());
    if runs > MAX_RUNS || offset + record_len(runs) as u64 > file.size()? {
        return Ok(None);
    }
    let mut bytes = vec![0; record_len(runs)];
    if file.read_at(&mut bytes, offset)? < bytes.len() {
        return Ok(None);
    }
    let (record, crc) = bytes.split_at(bytes.len() - CRC_LEN);
    if checksum(0, record) != word(crc) {
        return Ok(None);
    }
    let version = word(&record[8..]);
    if version != FORMAT_VERSION {
        return Ok(Some(Err(version)));
    }
    let run = |bytes: &[u8]| Run {
        numbers: long(bytes)..=long(&bytes[8..]),
        first_seq: long(&bytes[16..]),
        end_seq: long(&bytes[24..]),
    };
    let released = Released {
        oldest: long(&record[24..]).max(1),
        first_seq: long(&record[32..]).max(1),
        runs: record[HEADER_LEN..].chunks_exact(RUN_LEN).map(run).collect(),
    };
    Ok(Some(Ok((long(&record[16..]), released))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Fault, FaultFs, FaultKind};

    const DIR: &str = "/";

    fn found(fs: &FaultFs) -> Option<Released> {
        ReleasedFile::open(fs, DIR.as_ref()).unwrap().1
    }

    /// What is recorded as number `generation`.
    fn sample(generation: u64) -> Released {
        let mut released = Released::below(generation, generation * 10);
        (2..generation).for_each(|gap| {
            let number = generation + gap * 2;
            released.add(number, number * 10, number * 10 + 5);
        });
        released
    }

    fn recorded(last: u64) -> (FaultFs, ReleasedFile) {
        let fs = FaultFs::new();
        let (mut file, _) = ReleasedFile::open(&fs, DIR.as_ref()).unwrap();
        for generation in 1..=last {
            file.record(&fs, DIR.as_ref(), &sample(generation)).unwrap();
        }
        (fs, file)
    }

    fn run(numbers: RangeInclusive<u64>, first_seq: u64, end_seq: u64) -> Run {
        Run { numbers, first_seq, end_seq }
    }

    #[test]
    fn segments_in_a_row_are_one_run_however_they_come() {
        for order in [[5, 6, 7], [5, 7, 6], [6, 5, 7], [6, 7, 5], [7, 5, 6], [7, 6, 5]] {
            let mut released = Released::below(2, 20);
            released.add(10, 100, 110);
            for number in order {
                released.add(number, number * 10, number * 10 + 10);
            }
            assert_eq!(released.runs, [run(5..=7, 50, 80), run(10..=10, 100, 110)], "{order:?}");
            let inside: Vec<u64> = (0..12).filter(|number| released.contains(*number)).collect();
            assert_eq!(inside, [0, 1, 5, 6, 7, 10]);
            released.set_oldest(8, 80);
            assert_eq!(released.runs, [run(10..=10, 100, 110)]);
        }
    }

    #[test]
    fn segments_whose_frames_do_not_follow_each_other_stay_apart() {
        let mut released = Released::below(1, 1);
        released.add(3, 30, 40);
        released.add(4, 45, 50);
        assert_eq!(released.runs, [run(3..=3, 30, 40), run(4..=4, 45, 50)]);
        assert!(released.contains(3) && released.contains(4) && !released.contains(5));
    }

    #[test]
    fn the_last_record_counts() {
        assert_eq!(found(&FaultFs::new()), None);
        for last in 1..6 {
            assert_eq!(found(&recorded(last).0), Some(sample(last)));
        }
    }

    #[test]
    fn a_failed_or_damaged_record_leaves_the_one_before() {
        for kind in [FaultKind::Io, FaultKind::ShortWrite, FaultKind::NoSpace] {
            let (fs, mut file) = recorded(6);
            let at = fs.operations();
            fs.set_fault(Some(Fault { at, kind, sticky: false, seed: 0 }));
            file.record(&fs, DIR.as_ref(), &sample(7)).unwrap_err();
            assert_eq!(found(&fs), Some(sample(6)));
            file.record(&fs, DIR.as_ref(), &sample(7)).unwrap();
            assert_eq!(found(&fs), Some(sample(7)));
        }
        let (fs, _) = recorded(7);
        for bit in 0..record_len(sample(7).runs.len()) * 8 {
            let fs = fs.fork();
            let flip = |bytes: &mut Vec<u8>| bytes[(1 << 20) + bit / 8] ^= 1 << (bit % 8);
            fs.tamper("/released".as_ref(), flip).unwrap();
            assert_eq!(found(&fs), Some(sample(6)), "bit {bit}");
        }
        for len in (0..1 << 20).step_by(4099).chain((1 << 20)..(1 << 20) + 200) {
            let fs = fs.fork();
            fs.tamper("/released".as_ref(), |bytes| bytes.truncate(len)).unwrap();
            let left = found(&fs);
            assert_eq!(left, if len < 4099 { None } else { Some(sample(6)) }, "{len} bytes");
        }
    }

    #[test]
    fn a_record_of_another_version_is_refused() {
        let (fs, _) = recorded(2);
        let other = |bytes: &mut Vec<u8>| {
            bytes[8] = 99;
            let len = record_len(sample(2).runs.len()) - CRC_LEN;
            let crc = checksum(0, &bytes[..len]).to_le_bytes();
            bytes[len..len + CRC_LEN].copy_from_slice(&crc);
        };
        fs.tamper("/released".as_ref(), other).unwrap();
        let error = ReleasedFile::open(&fs, DIR.as_ref()).err().unwrap();
        assert!(matches!(error, OpenError::Version { found: 99, .. }), "{error}");
    }

    #[test]
    fn a_claim_of_many_runs_is_not_believed_and_nothing_is_allocated_for_it() {
        let (fs, _) = recorded(2);
        for claim in [1_u32, 1000, u32::MAX] {
            let fs = fs.fork();
            let change = |bytes: &mut Vec<u8>| bytes[12..16].copy_from_slice(&claim.to_le_bytes());
            fs.tamper("/released".as_ref(), change).unwrap();
            assert_eq!(found(&fs), Some(sample(1)), "{claim} runs");
        }
    }

    #[test]
    fn the_format_is_frozen() {
        let mut released = Released::below(3, 258);
        released.add(5, 300, 400);
        let bytes = released.encode(7);
        assert_eq!(bytes[..16], *b"QUORREL\n\x02\0\0\0\x01\0\0\0");
        let fields = bytes[16..72].chunks(8).map(|field| field[0]);
        assert!(fields.eq([7, 3, 2, 5, 5, 44, 144]), "{bytes:?}");
        assert_eq!(bytes[72..], [107, 23, 143, 49]);
    }
}
