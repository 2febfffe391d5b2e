//! A file system in memory that forgets, tears and fails exactly as it is told to.
//!
//! It promises less than any real one. What was not synced may be lost after a crash in any combination and torn at
//! 512 bytes; a name, rename or removal is lost unless its folder was synced; a sync that fails leaves the data
//! readable but perhaps not on disk, and the next sync does not save it. Everything is decided by the caller's seeds,
//! so the same calls give the same states.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fs::{File, Fs};

/// What a device writes whole or not at all.
pub const SECTOR_BYTES: u64 = 512;

const PAGE_BYTES: usize = 4096;

/// A file system in memory with faults on request. Clones are handles to the same files.
///
/// ```
/// use quorate_storage::fault::{Crash, FaultFs};
/// use quorate_storage::fs::Fs;
/// use std::path::Path;
///
/// let fs = FaultFs::new();
/// fs.create_dir_all(Path::new("/d"))?;
/// let file = fs.create(Path::new("/d/a"))?;
/// file.write_at(b"kept", 0)?;
/// file.sync_data()?;
/// fs.sync_dir(Path::new("/"))?;
/// fs.sync_dir(Path::new("/d"))?;
/// file.write_at(b"lost", 0)?;
///
/// let after = fs.crash(Crash::Nothing);
/// assert_eq!(after.contents(Path::new("/d/a"))?, b"kept");
/// assert_eq!(fs.contents(Path::new("/d/a"))?, b"lost");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct FaultFs {
    world: Arc<Mutex<World>>,
}

/// Which of the changes that were never synced are on disk after a loss of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// None of them.
    Nothing,
    /// All of them.
    Everything,
    /// The oldest `n`; of the one after these, if it is a write, the first half of its sectors.
    Prefix(u64),
    /// Each sector and each name with a chance drawn from the seed.
    Random(u64),
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The device gives an error and nothing happens; of a failing sync, a part of the data may get saved all the same.
    Io,
    /// There is no room and nothing happens.
    NoSpace,
    /// A write stops half-way and gives an error; any other operation fails as with [`FaultKind::Io`].
    ShortWrite,
}

/// A failure to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The number of the operation that fails, see [`FaultFs::operations`].
    pub at: u64,
    /// How it fails.
    pub kind: FaultKind,
    /// Whether everything after it fails too.
    pub sticky: bool,
    /// Decides what a failed sync saves all the same.
    pub seed: u64,
}

impl FaultFs {
    /// An empty file system without limits or faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the failure to come, or takes it back.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.world().fault = fault;
    }

    /// Limits the bytes that files may take up, in whole pages of 4 KiB; a hole takes none.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.world().capacity_bytes = bytes;
    }

    /// How many operations of [`Fs`] and [`File`] have been asked for; the next one has this number.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.world().operations
    }

    /// How many syncs of files and folders have succeeded.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.world().syncs
    }

    /// The bytes that all files take up.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.world().used_bytes()
    }

    /// The changes that a crash could still lose.
    #[must_use]
    pub fn unsynced(&self) -> u64 {
        self.world().pending.len() as u64
    }

    /// The state after a loss of power, as a new file system without faults. This one goes on as if nothing happened.
    #[must_use]
    pub fn crash(&self, crash: Crash) -> FaultFs {
        FaultFs { world: Arc::new(Mutex::new(self.world().crash(crash))) }
    }

    /// An independent copy, unsynced changes and counters included.
    #[must_use]
    pub fn fork(&self) -> FaultFs {
        FaultFs { world: Arc::new(Mutex::new(self.world().clone())) }
    }

    /// The whole of a file, past all faults and counters.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`].
    pub fn contents(&self, path: &Path) -> io::Result<Vec<u8>> {
        let world = self.world();
        let inode = world.look_up(path)?;
        let content = &world.inodes[&inode].seen;
        let mut bytes = vec![0; to_index(content.len)];
        content.read(&mut bytes, 0);
        Ok(bytes)
    }

    /// Changes a file behind everybody's back, as rotting bits do: durable at once, past all faults and counters.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`].
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut bytes = self.contents(path)?;
        change(&mut bytes);
        let mut world = self.world();
        let inode = world.look_up(path)?;
        let mut content = Content::default();
        content.set_len(bytes.len() as u64);
        content.write(&bytes, 0);
        world.pending.retain(|_, change| change.inode() != Some(inode));
        world.inodes.insert(inode, Inode { saved: content.clone(), seen: content });
        Ok(())
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Default)]
struct World {
    inodes: BTreeMap<u64, Inode>,
    seen: Names,
    saved: Names,
    /// What has not been synced, by age.
    pending: BTreeMap<u64, Change>,
    next_change: u64,
    next_inode: u64,
    operations: u64,
    syncs: u64,
    fault: Option<Fault>,
    capacity_bytes: Option<u64>,
}

#[derive(Clone, Default)]
struct Names {
    files: BTreeMap<PathBuf, u64>,
    folders: BTreeSet<PathBuf>,
}

/// A file as it reads now and as it surely is on disk.
#[derive(Clone, Default)]
struct Inode {
    seen: Content,
    saved: Content,
}

#[derive(Clone)]
enum Change {
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

    fn begin_plain(&mut self) -> io::Result<()> {
        self.begin().map_err(error_of)
    }

    fn log(&mut self, change: Change) {
        self.pending.insert(self.next_change, change);
        self.next_change += 1;
    }

    fn look_up(&self, path: &Path) -> io::Result<u64> {
        self.seen.files.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn used_bytes(&self) -> u64 {
        let named: BTreeSet<u64> = self.seen.files.values().copied().collect();
        named
            .iter()
            .map(|inode| self.inodes[inode].seen.pages.len() as u64 * PAGE_BYTES as u64)
            .sum()
    }

    fn write(&mut self, inode: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let outcome = self.begin();
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

    fn sync_data(&mut self, inode: u64) -> io::Result<()> {
        let outcome = self.begin();
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

    fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.begin_plain()?;
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

    fn crash(&self, crash: Crash) -> World {
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
    fn inode(&self) -> Option<u64> {
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
enum Keep<'a> {
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
struct Chance(u64);

impl Chance {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Bytes in pages, so that holes cost nothing and copies are cheap.
#[derive(Clone, Default)]
struct Content {
    len: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE_BYTES]>>,
}

impl Content {
    fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let end = self.len.min(offset.saturating_add(buf.len() as u64));
        let count = to_index(end.saturating_sub(offset));
        for (page, within, range) in spans(offset, count) {
            match self.pages.get(&page) {
                Some(bytes) => {
                    let len = range.len();
                    buf[range].copy_from_slice(&bytes[within..within + len]);
                }
                None => buf[range].fill(0),
            }
        }
        count
    }

    fn write(&mut self, bytes: &[u8], offset: u64) {
        for (page, within, range) in spans(offset, bytes.len()) {
            let len = range.len();
            let held = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            if held[within..within + len] != bytes[range.clone()] {
                Arc::make_mut(held)[within..within + len].copy_from_slice(&bytes[range]);
            }
        }
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (last, within) = (len / PAGE_BYTES as u64, to_index(len % PAGE_BYTES as u64));
            self.pages.retain(|page, _| *page < last || (*page == last && within > 0));
            if let Some(page) = self.pages.get_mut(&last) {
                Arc::make_mut(page)[within..].fill(0);
            }
        }
        self.len = len;
    }

    /// How many of `count` bytes at `offset` can be written if only `free_pages` more pages may be taken.
    fn room(&self, offset: u64, count: usize, mut free_pages: u64) -> usize {
        for (page, _, range) in spans(offset, count) {
            if !self.pages.contains_key(&page) {
                if free_pages == 0 {
                    return range.start;
                }
                free_pages -= 1;
            }
        }
        count
    }
}

/// Cuts `count` bytes at `offset` into pages: page number, place in the page, place in the caller's bytes.
fn spans(offset: u64, count: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= count {
            return None;
        }
        let at = offset + done as u64;
        let within = to_index(at % PAGE_BYTES as u64);
        let piece = (PAGE_BYTES - within).min(count - done);
        let range = done..done + piece;
        done += piece;
        Some((at / PAGE_BYTES as u64, within, range))
    })
}

fn to_index(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a file in memory fits into memory")
}

fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.parent().is_none()
}

fn error_of(kind: FaultKind) -> io::Error {
    match kind {
        FaultKind::Io => io::Error::other("injected device error"),
        FaultKind::NoSpace => io::ErrorKind::StorageFull.into(),
        FaultKind::ShortWrite => io::ErrorKind::WriteZero.into(),
    }
}

struct FaultFile {
    fs: FaultFs,
    inode: u64,
}

impl Fs for FaultFs {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut world = self.world();
        world.begin_plain()?;
        let folder = path.parent().unwrap_or(Path::new(""));
        if !is_root(folder) && !world.seen.folders.contains(folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inode = match world.look_up(path) {
            Ok(inode) => {
                world.inodes.get_mut(&inode).expect("a named file has an inode").seen.set_len(0);
                world.log(Change::SetLen { inode, len: 0 });
                inode
            }
            Err(_) => {
                let inode = world.next_inode;
                world.next_inode += 1;
                world.inodes.insert(inode, Inode::default());
                world.seen.files.insert(path.to_path_buf(), inode);
                world.log(Change::Link { path: path.to_path_buf(), inode });
                inode
            }
        };
        Ok(Arc::new(FaultFile { fs: self.clone(), inode }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut world = self.world();
        world.begin_plain()?;
        let inode = world.look_up(path)?;
        Ok(Arc::new(FaultFile { fs: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.begin_plain()?;
        let inode = world.look_up(from)?;
        world.seen.files.remove(from);
        world.seen.files.insert(to.to_path_buf(), inode);
        world.log(Change::Rename { from: from.to_path_buf(), to: to.to_path_buf(), inode });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.begin_plain()?;
        world.look_up(path)?;
        world.seen.files.remove(path);
        world.log(Change::Unlink { path: path.to_path_buf() });
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut world = self.world();
        world.begin_plain()?;
        if !is_root(dir) && !world.seen.folders.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let names = world.seen.files.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.world().sync_dir(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.begin_plain()?;
        let mut missing: Vec<&Path> = dir
            .ancestors()
            .filter(|path| !is_root(path) && !world.seen.folders.contains(*path))
            .collect();
        missing.reverse();
        for path in missing {
            world.seen.folders.insert(path.to_path_buf());
            world.log(Change::Folder { path: path.to_path_buf() });
        }
        Ok(())
    }
}

impl File for FaultFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.fs.world();
        world.begin_plain()?;
        Ok(world.inodes[&self.inode].seen.read(buf, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.fs.world().write(self.inode, offset, bytes)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut world = self.fs.world();
        world.begin_plain()?;
        world.inodes.get_mut(&self.inode).expect("an open file has an inode").seen.set_len(bytes);
        world.log(Change::SetLen { inode: self.inode, len: bytes });
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let mut world = self.fs.world();
        world.begin_plain()?;
        Ok(world.inodes[&self.inode].seen.len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fs.world().sync_data(self.inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(path: &str) -> (FaultFs, Arc<dyn File>) {
        let fs = FaultFs::new();
        let file = fs.create(Path::new(path)).unwrap();
        fs.sync_dir(Path::new("/")).unwrap();
        (fs, file)
    }

    #[test]
    fn a_file_is_lost_unless_its_folder_was_synced() {
        let fs = FaultFs::new();
        fs.create(Path::new("/a")).unwrap().sync_data().unwrap();
        assert!(fs.crash(Crash::Nothing).contents(Path::new("/a")).is_err());
        assert!(fs.crash(Crash::Everything).contents(Path::new("/a")).is_ok());
        fs.sync_dir(Path::new("/")).unwrap();
        assert!(fs.crash(Crash::Nothing).contents(Path::new("/a")).is_ok());
    }

    #[test]
    fn a_rename_is_undone_unless_the_folder_was_synced() {
        let (fs, _file) = with_file("/a");
        fs.rename(Path::new("/a"), Path::new("/b")).unwrap();
        assert_eq!(fs.crash(Crash::Nothing).list(Path::new("/")).unwrap(), ["a"]);
        assert_eq!(fs.crash(Crash::Everything).list(Path::new("/")).unwrap(), ["b"]);
    }

    #[test]
    fn an_unsynced_write_is_torn_at_sectors() {
        let (fs, file) = with_file("/a");
        file.write_at(&[7; 4 * 512], 0).unwrap();
        let torn: BTreeSet<Vec<bool>> = (0..200)
            .map(|seed| {
                let mut bytes = fs.crash(Crash::Random(seed)).contents(Path::new("/a")).unwrap();
                bytes.resize(4 * 512, 0);
                bytes
                    .chunks(512)
                    .map(|sector| {
                        assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is torn");
                        sector[0] == 7
                    })
                    .collect()
            })
            .collect();
        assert_eq!(torn.len(), 16, "every subset of the four sectors comes up");
        assert_eq!(fs.crash(Crash::Prefix(0)).contents(Path::new("/a")).unwrap(), [7; 1024]);
    }

    #[test]
    fn a_failed_sync_leaves_data_readable_that_no_later_sync_saves() {
        let (fs, file) = with_file("/a");
        file.write_at(&[1; 512 * 64], 0).unwrap();
        fs.set_fault(Some(Fault {
            at: fs.operations(),
            kind: FaultKind::Io,
            sticky: false,
            seed: 1,
        }));
        file.sync_data().unwrap_err();
        file.sync_data().unwrap();
        assert_eq!(fs.contents(Path::new("/a")).unwrap(), [1; 512 * 64]);
        let saved = fs.crash(Crash::Everything).contents(Path::new("/a")).unwrap();
        let ones = saved.iter().filter(|byte| **byte == 1).count();
        assert!(ones > 0 && ones < 512 * 64, "some sectors were saved and some were not: {ones}");
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_works_again_when_space_is_back() {
        let (fs, file) = with_file("/a");
        fs.set_capacity(Some(8192));
        let error = file.write_at(&[1; 3 * 4096], 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.size().unwrap(), 8192);
        file.write_at(&[2; 8192], 0).unwrap();
        fs.set_capacity(None);
        file.write_at(&[1; 3 * 4096], 0).unwrap();
    }

    #[test]
    fn the_chosen_operation_fails_and_a_short_write_leaves_half() {
        let (fs, file) = with_file("/a");
        fs.set_fault(Some(Fault {
            at: fs.operations() + 1,
            kind: FaultKind::ShortWrite,
            sticky: false,
            seed: 0,
        }));
        file.write_at(&[1; 100], 0).unwrap();
        file.write_at(&[2; 100], 0).unwrap_err();
        file.write_at(&[3; 10], 90).unwrap();
        let contents = fs.contents(Path::new("/a")).unwrap();
        assert_eq!((contents[0], contents[49], contents[50], contents[90]), (2, 2, 1, 3));
    }
}
