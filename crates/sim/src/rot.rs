//! What happens to bytes that lie on a disk.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use quorate_storage::{
    fault::{FaultFs, SECTOR_BYTES, last_frame},
    fs::Fs,
};

use crate::{Fault, Random};

/// How the names of segments end.
const SEGMENT: &str = ".qlog";

/// Damages a file of a machine in the way of this fault and says which one and where, if there was anything to
/// damage.
pub(crate) fn damage(
    files: &FaultFs,
    fault: Fault,
    random: &mut Random,
) -> Option<(PathBuf, usize)> {
    let log = ("/data/log", SEGMENT);
    let (dir, suffix) = match fault {
        Fault::HintRot => ("/data/hints", SEGMENT),
        Fault::BitRot if random.chance(0.2) => ("/data/snapshot", ".qsnap"),
        Fault::ZeroedSector | Fault::StraySector if random.chance(0.2) => ("/data/hints", SEGMENT),
        _ => log,
    };
    let (path, last) = pick_file(files, Path::new(dir), suffix, random)?;
    // A last frame that is gone whole leaves nothing that could tell that there was one.
    let (used, sectors) = (last.end, last.start / sector_bytes());
    let at = match fault {
        Fault::BitRot | Fault::HintRot => {
            let at = random.index(used);
            files.tamper(&path, |bytes| bytes[at] ^= 0x55).ok()?;
            at
        }
        Fault::ZeroedSector | Fault::StraySector if sectors == 0 => return None,
        Fault::ZeroedSector => {
            let at = random.index(sectors) * sector_bytes();
            files.tamper(&path, |bytes| bytes[at..at + sector_bytes()].fill(0)).ok()?;
            at
        }
        Fault::StraySector => {
            let [from, to] = [(); 2].map(|()| random.index(sectors) * sector_bytes());
            files.tamper(&path, |bytes| bytes.copy_within(from..from + sector_bytes(), to)).ok()?;
            to
        }
        _ => unreachable!("{fault} leaves files as they are"),
    };
    Some((path, at))
}

/// One of the files of this kind, and where the last thing in it is; none if they are empty.
fn pick_file(
    files: &FaultFs,
    dir: &Path,
    suffix: &str,
    random: &mut Random,
) -> Option<(PathBuf, Range<usize>)> {
    let names = files.list(dir).unwrap_or_default();
    let named: Vec<_> = names.iter().filter(|name| name.ends_with(suffix)).collect();
    if named.is_empty() {
        return None;
    }
    let path = dir.join(random.pick(&named));
    let bytes = files.contents(&path).ok()?;
    // Frames that are left over from an earlier use of a file are nobody's loss.
    let number = path.file_stem().and_then(|stem| u64::from_str_radix(stem.to_str()?, 16).ok());
    let last = match number {
        Some(number) if suffix == SEGMENT => last_frame(&bytes, number)?,
        _ => {
            let end = bytes.iter().rposition(|byte| *byte != 0)? + 1;
            end - 1..end
        }
    };
    Some((path, last))
}

fn sector_bytes() -> usize {
    usize::try_from(SECTOR_BYTES).expect("a small number")
}
