//! A file system in which changes stay in memory: what is below is only read.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fs::{File, Fs};
use crate::segment::index;

const PAGE_BYTES: u64 = 4096;

/// Lets code that mends what it reads run over files that must stay as they are.
pub(super) struct Overlay {
    below: Arc<dyn Fs>,
    changes: Arc<Mutex<Changes>>,
}

#[derive(Default)]
struct Changes {
    /// Names that were looked up, made or taken away here; `None` is taken away.
    names: BTreeMap<PathBuf, Option<usize>>,
    inodes: Vec<Inode>,
    folders: BTreeSet<PathBuf>,
}

/// A file, whatever its name is by now.
struct Inode {
    below: Option<PathBuf>,
    len: u64,
    /// How much of the file below still counts.
    below_len: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

struct OverlayFile {
    below: Option<Arc<dyn File>>,
    inode: usize,
    changes: Arc<Mutex<Changes>>,
}

impl Overlay {
    pub(super) fn new(below: Arc<dyn Fs>) -> Self {
        Self { below, changes: Arc::default() }
    }

    /// The number of the file that has this name.
    fn look_up(&self, path: &Path) -> io::Result<usize> {
        let mut changes = lock(&self.changes);
        if let Some(known) = changes.names.get(path) {
            return known.ok_or_else(|| io::ErrorKind::NotFound.into());
        }
        let len = self.below.open(path)?.size()?;
        let below = Some(path.to_path_buf());
        Ok(changes.add(path, Inode { below, len, below_len: len, pages: BTreeMap::new() }))
    }

    fn handle(&self, inode: usize) -> io::Result<Arc<dyn File>> {
        let below = lock(&self.changes).inodes[inode].below.clone();
        let below = below.map(|path| self.below.open(&path)).transpose()?;
        Ok(Arc::new(OverlayFile { below, inode, changes: self.changes.clone() }))
    }
}

impl Changes {
    fn add(&mut self, path: &Path, inode: Inode) -> usize {
        self.inodes.push(inode);
        let number = self.inodes.len() - 1;
        self.names.insert(path.to_path_buf(), Some(number));
        number
    }
}

impl Fs for Overlay {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        // Copies of what is damaged would fill the memory, and serve nobody here.
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with("damaged-")) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if let Ok(inode) = self.look_up(path) {
            let file = self.handle(inode)?;
            file.set_len(0)?;
            return Ok(file);
        }
        let new = Inode { below: None, len: 0, below_len: 0, pages: BTreeMap::new() };
        let inode = lock(&self.changes).add(path, new);
        self.handle(inode)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let inode = self.look_up(path)?;
        self.handle(inode)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.look_up(from)?;
        let names = &mut lock(&self.changes).names;
        names.insert(from.to_path_buf(), None);
        names.insert(to.to_path_buf(), Some(inode));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.look_up(path)?;
        lock(&self.changes).names.insert(path.to_path_buf(), None);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let changes = lock(&self.changes);
        let mut listed: BTreeSet<String> = match self.below.list(dir) {
            Ok(names) => names.into_iter().collect(),
            Err(_) if changes.folders.contains(dir) => BTreeSet::new(),
            Err(error) => return Err(error),
        };
        for (path, inode) in &changes.names {
            let name = path.file_name().and_then(|name| name.to_str());
            match name.filter(|_| path.parent() == Some(dir)) {
                Some(name) if inode.is_some() => drop(listed.insert(name.to_owned())),
                Some(name) => drop(listed.remove(name)),
                None => {}
            }
        }
        Ok(listed.into_iter().collect())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        lock(&self.changes).folders.extend(dir.ancestors().map(Path::to_path_buf));
        Ok(())
    }
}

impl OverlayFile {
    fn read_below(&self, buf: &mut [u8], offset: u64, below_len: u64) -> io::Result<()> {
        buf.fill(0);
        let Some(below) = &self.below else { return Ok(()) };
        let len = below_len.saturating_sub(offset).min(buf.len() as u64);
        if len > 0 {
            below.read_at(&mut buf[..index(len)], offset)?;
        }
        Ok(())
    }
}

impl File for OverlayFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let changes = lock(&self.changes);
        let inode = &changes.inodes[self.inode];
        let len = index(inode.len.saturating_sub(offset).min(buf.len() as u64));
        let buf = &mut buf[..len];
        self.read_below(buf, offset, inode.below_len)?;
        let end = offset + len as u64;
        for (number, page) in inode.pages.range(offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES)) {
            let start = number * PAGE_BYTES;
            let (from, to) = (start.max(offset), (start + PAGE_BYTES).min(end));
            if from < to {
                buf[index(from - offset)..index(to - offset)]
                    .copy_from_slice(&page[index(from - start)..index(to - start)]);
            }
        }
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut changes = lock(&self.changes);
        let inode = &mut changes.inodes[self.inode];
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let start = at / PAGE_BYTES * PAGE_BYTES;
            let (now, later) = rest.split_at(rest.len().min(index(start + PAGE_BYTES - at)));
            if !inode.pages.contains_key(&(start / PAGE_BYTES)) {
                let mut page = vec![0; index(PAGE_BYTES)];
                self.read_below(&mut page, start, inode.below_len)?;
                inode.pages.insert(start / PAGE_BYTES, page);
            }
            let page = inode.pages.get_mut(&(start / PAGE_BYTES)).expect("just put there");
            page[index(at - start)..index(at - start) + now.len()].copy_from_slice(now);
            at += now.len() as u64;
            rest = later;
        }
        inode.len = inode.len.max(at);
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut changes = lock(&self.changes);
        let inode = &mut changes.inodes[self.inode];
        inode.len = bytes;
        inode.below_len = inode.below_len.min(bytes);
        inode.pages.retain(|number, _| number * PAGE_BYTES < bytes);
        if let Some(page) = inode.pages.get_mut(&(bytes / PAGE_BYTES)) {
            page[index(bytes % PAGE_BYTES)..].fill(0);
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(lock(&self.changes).inodes[self.inode].len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}

fn lock(changes: &Mutex<Changes>) -> MutexGuard<'_, Changes> {
    changes.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultFs;

    fn all(fs: &dyn Fs, name: &str) -> Vec<u8> {
        let file = fs.open(name.as_ref()).unwrap();
        let mut bytes = vec![0xee; index(file.size().unwrap())];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        bytes
    }

    #[test]
    fn changes_are_seen_above_and_not_below() {
        let below = FaultFs::new();
        below.create_dir_all("/d".as_ref()).unwrap();
        let old = vec![7; 10_000];
        below.create("/d/a".as_ref()).unwrap().write_at(&old, 0).unwrap();
        let above = Overlay::new(Arc::new(below.clone()));
        let file = above.open("/d/a".as_ref()).unwrap();
        file.write_at(&[1; 5000], 4000).unwrap();
        let mut expected = old.clone();
        expected[4000..9000].fill(1);
        assert_eq!(all(&above, "/d/a"), expected);
        file.set_len(4100).unwrap();
        file.set_len(12_000).unwrap();
        expected.truncate(4100);
        expected.resize(12_000, 0);
        assert_eq!(all(&above, "/d/a"), expected);
        above.rename("/d/a".as_ref(), "/d/b".as_ref()).unwrap();
        above.create("/d/c".as_ref()).unwrap();
        assert_eq!(all(&above, "/d/b"), expected);
        assert_eq!(above.list("/d".as_ref()).unwrap(), ["b", "c"]);
        above.remove("/d/b".as_ref()).unwrap();
        assert_eq!(above.open("/d/b".as_ref()).err().unwrap().kind(), io::ErrorKind::NotFound);
        assert_eq!(below.list("/d".as_ref()).unwrap(), ["a"]);
        assert_eq!(below.contents("/d/a".as_ref()).unwrap(), old);
    }
}
