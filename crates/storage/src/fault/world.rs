//! The files as they read now, as they surely are on disk, and what lies between.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::content::{Content, PAGE_BYTES, to_index};
use super::{Crash, Fault, FaultKind, SECTOR_BYTES};

#[derive(Clone, Default)]
pub(super) struct World {
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) seen: Names,
    saved: Names,
    /// What has not been synced, by age.
    pub(super) pending: BTreeMap<u64, Change>,
    next_change: u64,
    pub(super) next_inode: u64,
    pub(super) operations: u64,
    pub(super) syncs: u64,
    pub(super) fault: Option<Fault>,
    pub(super) capacity_bytes: Option<u64>,
}

#[derive(Clone, Default)]
pub(super) struct Names {
    pub(super) files: BTreeMap<PathBuf, u64>,
    pub(super) folders: BTreeSet<PathBuf>,
}

/// A file as it reads now and as it surely is on disk.
#[derive(Clone, Default)]
pub(super) struct Inode {
    pub(super) seen: Content,
    pub(super) saved: Content,
}

#[derive(Clone)]
pub(super) enum Change {
    Write { inode: u64, offset: u64, bytes: Vec<u8> },
    SetLen { inode: u64, len: u64 },
    Link { path: PathBuf, inode: u64 },
    Rename { from: PathBuf, to: PathBuf, inode: u64 },
    Unlink { path: PathBuf },
    Folder { path: PathBuf },
}

impl World {
    /// Counts one operation and fails it if that was asked for. A short write is left to the caller.
    fn begin(&mut self) -> Result<(), FaultKind> {
        let number = self.operations;
        self.operations += 1;
        match self.fault {
            Some(fault) if number == fault.at || (fault.sticky && number > fault.at) => {
                Err(fault.kind)
            }
            _ => Ok(()),
        }
    }

    /// Begins an operation that needs a new file descriptor.
    pub(super) fn begin_opening(&mut self) -> io::Result<()> {
        self.begin().map_err(error_of)
    }

    /// Begins one that does not.
    fn begin_opened(&mut self) -> Result<(), FaultKind> {
        match self.begin() {
            Err(FaultKind::NoDescriptor) => Ok(()),
            outcome => outcome,
        }
    }

    pub(super) fn begin_plain(&mut self) -> io::Result<()> {
        self.begin_opened().map_err(error_of)
    }

    pub(super) fn log(&mut self, change: Change) {
        self.pending.insert(self.next_change, change);
        self.next_change += 1;
    }

    pub(super) fn look_up(&self, path: &Path) -> io::Result<u64> {
        self.seen.files.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let named: BTreeSet<u64> = self.seen.files.values().copied().collect();
        named
            .iter()
            .map(|inode| self.inodes[inode].seen.pages.len() as u64 * PAGE_BYTES as u64)
            .sum()
    }

    pub(super) fn write(&mut self, inode: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let outcome = self.begin_opened();
        let mut fits = bytes.len();
        if let Err(kind) = outcome {
            fits = if kind == FaultKind::ShortWrite { bytes.len() / 2 } else { 0 };
        }
        let mut full = false;
        if let Some(capacity) = self.capacity_bytes {
            let free_pages = capacity.saturating_sub(self.used_bytes()) / PAGE_BYTES as u64;
            let room = self.inodes[&inode].seen.room(offset, fits, free_pages);
            full = room < fits;
            fits = room;
        }
        if fits > 0 {
            let bytes = &bytes[..fits];
            self.inodes
                .get_mut(&inode)
                .expect("an open file has an inode")
                .seen
                .write(bytes, offset);
            self.log(Change::Write { inode, offset, bytes: bytes.to_vec() });
        }
        outcome.map_err(error_of)?;
        if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    pub(super) fn sync_data(&mut self, inode: u64) -> io::Result<()> {
        let outcome = self.begin_opened();
        let mine: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, change)| change.inode() == Some(inode) && change.is_data())
            .map(|(number, _)| *number)
            .collect();
        let mut chance = Chance(self.fault.map_or(0, |fault| fault.seed));
        for number in mine {
            // Failed or not, the pages are clean afterwards: nothing saves them any more.
            let change = self.pending.remove(&number).expect("just listed");
            let keep = if outcome.is_ok() { Keep::All } else { Keep::Some(&mut chance) };
            self.save(&change, keep);
        }
        self.syncs += u64::from(outcome.is_ok());
        outcome.map_err(error_of)
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.begin_opening()?;
        let mine: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, change)| change.folder() == Some(dir))
            .map(|(number, _)| *number)
            .collect();
        for number in mine {
            let change = self.pending.remove(&number).expect("just listed");
            self.save(&change, Keep::All);
        }
        self.syncs += 1;
        Ok(())
    }

    /// Brings a change to the disk, or the part of it that `keep` allows.
    fn save(&mut self, change: &Change, mut keep: Keep<'_>) {
        match change {
            Change::Write { inode, offset, bytes } => {
                let Some(inode) = self.inodes.get_mut(inode) else { return };
                if matches!(keep, Keep::All) {
                    return inode.saved.write(bytes, *offset);
                }
                let mut done = 0;
                let total = bytes.len();
                while done < total {
                    let at = offset + done as u64;
                    let piece = to_index(SECTOR_BYTES - at % SECTOR_BYTES).min(total - done);
                    if keep.sector(done, total) {
                        inode.saved.write(&bytes[done..done + piece], at);
                    }
                    done += piece;
                }
            }
            Change::SetLen { inode, len } => {
                if let Some(inode) = self.inodes.get_mut(inode).filter(|_| keep.whole()) {
                    inode.saved.set_len(*len);
                }
            }
            Change::Link { path, inode } if keep.whole() => {
                self.saved.files.insert(path.clone(), *inode);
            }
            Change::Rename { from, to, inode } if keep.whole() => {
                self.saved.files.remove(from);
                self.saved.files.insert(to.clone(), *inode);
            }
            Change::Unlink { path } if keep.whole() => {
                self.saved.files.remove(path);
            }
            Change::Folder { path } if keep.whole() => {
                self.saved.folders.insert(path.clone());
            }
            _ => {}
        }
    }

    pub(super) fn crash(&self, crash: Crash) -> World {
        let mut after = self.clone();
        let pending = std::mem::take(&mut after.pending);
        let mut chance = Chance(match crash {
            Crash::Random(seed) => seed,
            _ => 0,
        });
        for (age, change) in pending.values().enumerate() {
            let keep = match crash {
                Crash::Nothing => Keep::None,
                Crash::Everything => Keep::All,
                Crash::Prefix(n) if (age as u64) < n => Keep::All,
                Crash::Prefix(n) if age as u64 == n => Keep::Half,
                Crash::Prefix(_) => Keep::None,
                Crash::Random(_) => Keep::Some(&mut chance),
            };
            after.save(change, keep);
        }
        // A file in a folder whose own name was lost is lost with it.
        let folders = std::mem::take(&mut after.saved.folders);
        after.saved.folders = folders
            .iter()
            .filter(|path| {
                path.ancestors()
                    .skip(1)
                    .all(|above| above.parent().is_none() || folders.contains(above))
            })
            .cloned()
            .collect();
        let there = after.saved.folders.clone();
        after
            .saved
            .files
            .retain(|path, _| path.parent().is_none_or(|dir| is_root(dir) || there.contains(dir)));
        after.seen = after.saved.clone();
        let named: BTreeSet<u64> = after.saved.files.values().copied().collect();
        after.inodes.retain(|inode, _| named.contains(inode));
        for inode in after.inodes.values_mut() {
            inode.seen = inode.saved.clone();
        }
        after.fault = None;
        after
    }
}

impl Change {
    pub(super) fn inode(&self) -> Option<u64> {
        match self {
            Change::Write { inode, .. } | Change::SetLen { inode, .. } => Some(*inode),
            _ => None,
        }
    }

    fn is_data(&self) -> bool {
        matches!(self, Change::Write { .. } | Change::SetLen { .. })
    }

    /// The folder whose sync saves this change.
    fn folder(&self) -> Option<&Path> {
        match self {
            Change::Link { path, .. } | Change::Unlink { path } | Change::Folder { path } => {
                path.parent()
            }
            Change::Rename { to, .. } => to.parent(),
            Change::Write { .. } | Change::SetLen { .. } => None,
        }
    }
}

/// How much of a change gets to the disk.
pub(super) enum Keep<'a> {
    None,
    All,
    Half,
    Some(&'a mut Chance),
}

impl Keep<'_> {
    fn whole(&mut self) -> bool {
        match self {
            Keep::None | Keep::Half => false,
            Keep::All => true,
            Keep::Some(chance) => chance.draw() % 2 == 0,
        }
    }

    fn sector(&mut self, done: usize, total: usize) -> bool {
        match self {
            Keep::Half => done < total / 2,
            keep => keep.whole(),
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, and the same everywhere.
pub(super) struct Chance(u64);

impl Chance {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

pub(super) fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.parent().is_none()
}

fn error_of(kind: FaultKind) -> io::Error {
    match kind {
        FaultKind::Io => io::Error::other("injected device error"),
        FaultKind::NoSpace => io::ErrorKind::StorageFull.into(),
        FaultKind::NoDescriptor => Errno::MFILE.into(),
        FaultKind::ShortWrite => io::ErrorKind::WriteZero.into(),
    }
}
