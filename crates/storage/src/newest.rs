//! Which segment is the newest. Without it, a log that lost its last segments would look like a shorter one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::frame::checksum;
use crate::fs::{File, Fs};
use crate::recovery::OpenError;
use crate::segment::FORMAT_VERSION;
use crate::space::SpaceError;

/// The newest segment that frames were, or were about to be, written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Newest {
    /// 0 if there was none yet.
    pub(crate) number: u64,
    /// The sequence number of its first frame.
    pub(crate) first_seq: u64,
}

const MAGIC: [u8; 8] = *b"QUORNEW\n";
const RECORD_LEN: usize = 36;
const CRC_OFFSET: usize = RECORD_LEN - 4;

/// Each record has a sector to itself, so that writing one cannot tear the other.
const SECTOR_BYTES: u64 = 512;

impl Newest {
    const NONE: Newest = Newest { number: 0, first_seq: 1 };

    fn encode(&self) -> [u8; RECORD_LEN] {
        let mut bytes = [0; RECORD_LEN];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..CRC_OFFSET].copy_from_slice(&self.first_seq.to_le_bytes());
        let crc = checksum(0, &bytes[..CRC_OFFSET]);
        bytes[CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// What a sector says; the other version if it is whole and of another one. `None` is never written, or damaged.
    fn decode(bytes: &[u8; RECORD_LEN]) -> Option<Result<Self, u32>> {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if bytes[..8] != MAGIC || checksum(0, &bytes[..CRC_OFFSET]) != word(CRC_OFFSET) {
            return None;
        }
        match word(8) {
            FORMAT_VERSION => Some(Ok(Self { number: long(16), first_seq: long(24).max(1) })),
            version => Some(Err(version)),
        }
    }

    /// Records take turns, so that one that fails or tears leaves the one before.
    fn offset(&self) -> u64 {
        self.number % 2 * SECTOR_BYTES
    }
}

/// The file `newest` of a log.
pub(crate) struct NewestFile {
    path: PathBuf,
    file: Option<Arc<dyn File>>,
    /// The number of the last record that is known to be synced; what an earlier process wrote may not be.
    synced: u64,
}

impl NewestFile {
    /// Opens the file in `dir`, if there is one, and reads the greater of its records.
    pub(crate) fn open(fs: &dyn Fs, dir: &Path) -> Result<(Self, Newest), OpenError> {
        let path = dir.join("newest");
        let mut newest = Newest::NONE;
        let file = match fs.open(&path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(OpenError::io("open", &path)(error)),
        };
        for offset in [0, SECTOR_BYTES] {
            let Some(file) = &file else { break };
            let mut bytes = [0; RECORD_LEN];
            file.read_at(&mut bytes, offset).map_err(OpenError::io("read", &path))?;
            match Newest::decode(&bytes) {
                Some(Ok(found)) if found.number > newest.number => newest = found,
                Some(Err(found)) => {
                    let path = path.display().to_string();
                    return Err(OpenError::Version { path, found, supported: FORMAT_VERSION });
                }
                _ => {}
            }
        }
        Ok((Self { path, file, synced: 0 }, newest))
    }

    /// Where there are no good records although there should be, for a log that has frames in segment `last`.
    pub(crate) fn bad_records(fs: &dyn Fs, dir: &Path, last: u64) -> Result<Vec<u64>, OpenError> {
        let (opened, newest) = Self::open(fs, dir)?;
        let mut bad = Vec::new();
        let last = last.max(newest.number);
        let other = if last == 0 { 1 } else { last - 1 };
        for (number, must_be_there) in [(last, last > 0), (other, last > 1)] {
            let offset = Newest { number, first_seq: 1 }.offset();
            let mut bytes = [0; RECORD_LEN];
            if let Some(file) = &opened.file {
                file.read_at(&mut bytes, offset).map_err(OpenError::io("read", &opened.path))?;
            }
            let is_written = must_be_there || bytes != [0; RECORD_LEN];
            if is_written && Newest::decode(&bytes).is_none() {
                bad.push(offset);
            }
        }
        Ok(bad)
    }

    /// Makes a record last, unless it does already.
    pub(crate) fn record(
        &mut self,
        fs: &dyn Fs,
        dir: &Path,
        newest: Newest,
    ) -> Result<(), SpaceError> {
        if newest.number <= self.synced {
            return Ok(());
        }
        let file = match &self.file {
            Some(file) => file.clone(),
            None => fs.create(&self.path)?,
        };
        file.write_at(&newest.encode(), newest.offset())?;
        file.sync_data().map_err(SpaceError::Failed)?;
        if self.file.is_none() {
            // It would save the names of segments along with this one.
            if !planted!(RenameNotSynced) {
                fs.sync_dir(dir).map_err(SpaceError::of_folder_sync)?;
            }
            self.file = Some(file);
        }
        self.synced = newest.number;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Fault, FaultFs, FaultKind};

    const DIR: &str = "/";

    fn found(fs: &FaultFs) -> Newest {
        NewestFile::open(fs, DIR.as_ref()).unwrap().1
    }

    fn recorded(numbers: std::ops::RangeInclusive<u64>) -> (FaultFs, NewestFile) {
        let fs = FaultFs::new();
        let (mut file, _) = NewestFile::open(&fs, DIR.as_ref()).unwrap();
        for number in numbers {
            file.record(&fs, DIR.as_ref(), newest(number)).unwrap();
        }
        (fs, file)
    }

    fn newest(number: u64) -> Newest {
        Newest { number, first_seq: number * 10 }
    }

    #[test]
    fn the_last_record_counts() {
        assert_eq!(found(&FaultFs::new()), Newest::NONE);
        for last in 1..5 {
            assert_eq!(found(&recorded(1..=last).0), newest(last));
        }
    }

    #[test]
    fn a_failed_or_damaged_record_leaves_the_one_before() {
        for kind in [FaultKind::Io, FaultKind::ShortWrite, FaultKind::NoSpace] {
            let (fs, mut file) = recorded(1..=6);
            let at = fs.operations();
            fs.set_fault(Some(Fault { at, kind, sticky: false, seed: 0 }));
            file.record(&fs, DIR.as_ref(), newest(7)).unwrap_err();
            assert_eq!(found(&fs), newest(6));
            file.record(&fs, DIR.as_ref(), newest(7)).unwrap();
            assert_eq!(found(&fs), newest(7));
        }
        let (fs, _) = recorded(1..=7);
        for bit in 0..RECORD_LEN * 8 {
            let fs = fs.fork();
            fs.tamper("/newest".as_ref(), |bytes| bytes[512 + bit / 8] ^= 1 << (bit % 8)).unwrap();
            assert_eq!(found(&fs), newest(6), "bit {bit}");
        }
    }

    #[test]
    fn the_format_is_frozen() {
        let bytes = Newest { number: 3, first_seq: 258 }.encode();
        assert_eq!(bytes[..16], *b"QUORNEW\n\x02\0\0\0\0\0\0\0");
        assert_eq!(bytes[16..32], [3, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[32..], [179, 199, 148, 33]);
        assert_eq!(Newest::decode(&bytes), Some(Ok(Newest { number: 3, first_seq: 258 })));
    }
}
