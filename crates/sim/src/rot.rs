//! Bits that rot on disk.

use std::path::Path;

use quorate_storage::{fault::FaultFs, fs::Fs};

/// Changes one byte of the store's log or, now and then, of a snapshot, and says whether there was any; `place` decides
/// which.
pub(crate) fn flip_a_byte(files: &FaultFs, place: u64) -> bool {
    let (dir, suffix) = match place.is_multiple_of(5) {
        true => (Path::new("/data/snapshot"), ""),
        false => (Path::new("/data/log"), ".qlog"),
    };
    let names = files.list(dir).unwrap_or_default();
    let segments: Vec<_> =
        names.iter().filter(|name| name.ends_with(suffix)).map(|name| dir.join(name)).collect();
    if segments.is_empty() {
        return false;
    }
    let pick = |among: usize| usize::try_from((place >> 4) % among as u64).expect("below a usize");
    let path = &segments[pick(segments.len())];
    let used =
        files.contents(path).ok().and_then(|bytes| bytes.iter().rposition(|byte| *byte != 0));
    let Some(last) = used else { return false };
    let at = usize::try_from((place >> 16) % (last as u64 + 1)).expect("within the file");
    files.tamper(path, |bytes| bytes[at] ^= 0x55).is_ok()
}
