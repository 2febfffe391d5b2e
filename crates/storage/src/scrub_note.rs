//! How far scrubbing has come, kept over restarts in a small text file.

use std::io;
use std::path::Path;

use crate::frame::checksum;
use crate::fs::{Fs, read_text, write_anew};

/// How far scrubbing has come, as the file `scrub` of a data folder says it.
///
/// It is a note and no more: without it, or with an old one, records are read once more than needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubNote {
    /// When the present pass began, or the last one if none is under way, in milliseconds since the Unix epoch.
    pub began_ms: u64,
    /// The token to go on [at](crate::ScrubPosition::at); `None` if no pass is under way.
    pub at: Option<u64>,
}

impl ScrubNote {
    /// What the file says; `None` if there is none, or none that makes sense.
    #[must_use]
    pub fn read(fs: &dyn Fs, dir: &Path) -> Option<Self> {
        Self::decode(&read_text(fs, &dir.join("scrub")).ok()??)
    }

    /// Writes the file anew.
    ///
    /// # Errors
    /// What the file system says; the file is as it was then, or has this.
    pub fn write(&self, fs: &dyn Fs, dir: &Path) -> io::Result<()> {
        write_anew(fs, &dir.join("scrub"), &self.encode())
    }

    fn encode(&self) -> String {
        let at = self.at.map_or_else(|| "-".to_owned(), |at| format!("{at:016x}"));
        let text = format!("quorate scrub 1\nbegan {:016x}\nat {at}\n", self.began_ms);
        let crc = checksum(0, text.as_bytes());
        format!("{text}crc32 {crc:08x}\n")
    }

    fn decode(text: &str) -> Option<Self> {
        let mut lines = text.lines().skip(1);
        let began = lines.next()?.strip_prefix("began ")?;
        let at = match lines.next()?.strip_prefix("at ")? {
            "-" => None,
            token => Some(u64::from_str_radix(token, 16).ok()?),
        };
        let note = Self { began_ms: u64::from_str_radix(began, 16).ok()?, at };
        // So the first line and the checksum are right as well.
        (note.encode() == text).then_some(note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultFs;

    #[test]
    fn a_note_is_read_back_and_anything_else_is_none() {
        let (fs, dir) = (FaultFs::new(), Path::new("/data"));
        fs.create_dir_all(dir).unwrap();
        assert_eq!(ScrubNote::read(&fs, dir), None);
        for at in [None, Some(0), Some(u64::MAX)] {
            let note = ScrubNote { began_ms: 1_700_000_000_000, at };
            note.write(&fs, dir).unwrap();
            assert_eq!(ScrubNote::read(&fs, dir), Some(note));
        }
        let note = ScrubNote { began_ms: 0x018b_cfe5_6800, at: Some(1 << 63) };
        let golden =
            "quorate scrub 1\nbegan 0000018bcfe56800\nat 8000000000000000\ncrc32 2f02fbc7\n";
        assert_eq!(note.encode(), golden, "as docs/format.md says");
        let text = ScrubNote::default().encode();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(ScrubNote::decode(&changed), None, "{changed}");
            assert_eq!(ScrubNote::decode(&text[..at]), None);
        }
    }
}
