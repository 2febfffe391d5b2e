//! What happens to bytes that lie on a disk.

use std::path::{Path, PathBuf};

use quorate_storage::{
    fault::{FaultFs, SECTOR_BYTES},
    fs::Fs,
};

use crate::{Fault, Random};

/// Damages a file of a machine in the way of this fault and says whether there was anything to damage.
pub(crate) fn damage(files: &FaultFs, fault: Fault, random: &mut Random) -> bool {
    let log = ("/data/log", ".qlog");
    let (dir, suffix) = match fault {
        Fault::HintRot => ("/data/hints", ".qlog"),
        Fault::BitRot if random.chance(0.2) => ("/data/snapshot", ".qsnap"),
        Fault::ZeroedSector | Fault::StraySector if random.chance(0.2) => ("/data/hints", ".qlog"),
        _ => log,
    };
    let Some((path, used)) = pick_file(files, Path::new(dir), suffix, random) else {
        return false;
    };
    // The last sector may end with a whole frame: without it nobody could tell that there was one.
    let sectors = used.saturating_sub(1) / sector_bytes();
    match fault {
        Fault::BitRot | Fault::HintRot => {
            let at = random.index(used);
            files.tamper(&path, |bytes| bytes[at] ^= 0x55).is_ok()
        }
        Fault::ZeroedSector | Fault::StraySector if sectors == 0 => false,
        Fault::ZeroedSector => {
            let at = random.index(sectors) * sector_bytes();
            files.tamper(&path, |bytes| bytes[at..at + sector_bytes()].fill(0)).is_ok()
        }
        Fault::StraySector => {
            let [from, to] = [(); 2].map(|()| random.index(sectors) * sector_bytes());
            files.tamper(&path, |bytes| bytes.copy_within(from..from + sector_bytes(), to)).is_ok()
        }
        _ => unreachable!("{fault} leaves files as they are"),
    }
}

/// One of the files of this kind, and how many bytes of it are in use; none if they are empty.
fn pick_file(
    files: &FaultFs,
    dir: &Path,
    suffix: &str,
    random: &mut Random,
) -> Option<(PathBuf, usize)> {
    let names = files.list(dir).unwrap_or_default();
    let named: Vec<_> = names.iter().filter(|name| name.ends_with(suffix)).collect();
    if named.is_empty() {
        return None;
    }
    let path = dir.join(random.pick(&named));
    let bytes = files.contents(&path).ok()?;
    let last = bytes.iter().rposition(|byte| *byte != 0)?;
    Some((path, last + 1))
}

fn sector_bytes() -> usize {
    usize::try_from(SECTOR_BYTES).expect("a small number")
}
