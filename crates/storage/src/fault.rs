//! A file system in memory that forgets, tears and fails exactly as it is told to.
//!
//! It promises less than any real one. What was not synced may be lost after a crash in any combination and torn at
//! 512 bytes; a name, rename or removal is lost unless its folder was synced; a sync that fails leaves the data
//! readable but perhaps not on disk, and the next sync does not save it. Everything is decided by the caller's seeds,
//! so the same calls give the same states.

mod content;
mod world;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::content::{Content, to_index};
use self::world::{Change, Inode, World, is_root};
use crate::frame::{ALIGN_BYTES, FrameHeader};
use crate::fs::{File, Fs};
use crate::segment::{DATA_OFFSET, epoch, index};

/// What a device writes whole or not at all.
pub const SECTOR_BYTES: u64 = 512;

/// Where the last frame of a segment of a log is, for whoever is to damage what is in use: behind it there may be frames
/// of the segment that the file was before. `number` is the segment's.
#[must_use]
pub fn last_frame(segment: &[u8], number: u64) -> Option<Range<usize>> {
    let epoch = epoch(number);
    let mut last = None;
    let mut offset = index(DATA_OFFSET);
    while let Some(header) = segment.get(offset..).and_then(<[u8]>::first_chunk) {
        match FrameHeader::decode(header, epoch) {
            Some(header) => {
                let end = segment.len().min(offset + index(header.frame_bytes().into()));
                last = Some(offset..end);
                offset = end;
            }
            None => offset += ALIGN_BYTES,
        }
    }
    last
}

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
    /// There is no file descriptor: what opens a file or a folder fails and does nothing, files that are open go on.
    NoDescriptor,
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

struct FaultFile {
    fs: FaultFs,
    inode: u64,
}

impl Fs for FaultFs {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut world = self.world();
        world.begin_opening()?;
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
        world.begin_opening()?;
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
        world.begin_opening()?;
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
    use std::collections::BTreeSet;

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
