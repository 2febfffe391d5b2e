//! The one door to files: everything that this crate reads or writes goes through [`Fs`].

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

/// More than any of the small text files of a data folder has.
const MAX_TEXT_BYTES: usize = 4096;

/// An open file, read and written at explicit places and shared between threads.
pub trait File: Send + Sync {
    /// Reads from byte `offset` on until `buf` is full or the file ends, and returns how many bytes it read.
    ///
    /// # Errors
    /// Whatever the device says; nothing may be concluded about `buf` then.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at byte `offset`, growing the file if need be.
    ///
    /// # Errors
    /// Any part of `bytes` may have been written when this fails.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file, or lengthens it with a hole that reads as zeros.
    ///
    /// # Errors
    /// If the file system refuses.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// The length of the file in bytes.
    ///
    /// # Errors
    /// If the file system cannot tell.
    fn size(&self) -> io::Result<u64>;

    /// Makes everything written so far survive a loss of power. The file's *name* does so only after [`Fs::sync_dir`].
    ///
    /// # Errors
    /// A failed sync may have lost what it was to save, and asking again proves nothing: the kernel may have
    /// marked the pages clean (Rebello et al., "Can Applications Recover from fsync Failures?", 2020).
    fn sync_data(&self) -> io::Result<()>;
}

/// A file system: the real one is [`RealFs`], the one that fails and forgets on request is
/// [`FaultFs`](crate::fault::FaultFs).
pub trait Fs: Send + Sync {
    /// Creates an empty file, or empties an existing one.
    ///
    /// # Errors
    /// If the file system refuses.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is none, or whatever else the file system says.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name, replacing what had that name. Durable after [`Fs::sync_dir`], not before.
    ///
    /// # Errors
    /// If the file system refuses.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after [`Fs::sync_dir`], not before.
    ///
    /// # Errors
    /// If the file system refuses.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The names of the files in `dir`, sorted. Names that are not Unicode are left out: none of ours are.
    ///
    /// # Errors
    /// If `dir` cannot be read.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes the names in `dir` survive a loss of power.
    ///
    /// # Errors
    /// As for [`File::sync_data`], unless there is no file descriptor for the folder: then it was not tried, and may be
    /// asked for again.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Creates `dir` and what is missing above it. Not durable by itself, see [`create_dir_durably`].
    ///
    /// # Errors
    /// If the file system refuses.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
}

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFs;

impl Fs for RealFs {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(fs::OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }
}

impl File for fs::File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match FileExt::read_at(self, &mut buf[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        fs::File::set_len(self, bytes)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        fs::File::sync_data(self)
    }
}

/// Puts the file `from`, already synced, in the place of `to`, so that after a loss of power `to` is either the old
/// file or the new one. Both must be in the same folder.
///
/// # Errors
/// If the rename fails nothing has changed; if the sync of the folder fails, either name may be there after a crash.
pub fn durable_replace(fs: &dyn Fs, from: &Path, to: &Path) -> io::Result<()> {
    fs.rename(from, to)?;
    fs.sync_dir(folder_of(to))
}

/// Writes a text file, whose name has no extension, so that after a loss of power it is either as it was or has all of
/// `text`. It is written under its name with `.tmp` first.
///
/// # Errors
/// As for [`durable_replace`]; if it was not written whole, nothing has changed.
pub(crate) fn write_anew(fs: &dyn Fs, path: &Path, text: &str) -> io::Result<()> {
    let unfinished = path.with_extension("tmp");
    let file = fs.create(&unfinished)?;
    file.write_at(text.as_bytes(), 0)?;
    file.sync_data()?;
    durable_replace(fs, &unfinished, path)
}

/// What a small text file says, up to [`MAX_TEXT_BYTES`]; `None` if there is none. What is no text reads as something
/// that nobody wrote.
///
/// # Errors
/// If the file system refuses.
pub(crate) fn read_text(fs: &dyn Fs, path: &Path) -> io::Result<Option<String>> {
    let file = match fs.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; MAX_TEXT_BYTES];
    let len = file.read_at(&mut bytes, 0)?;
    bytes.truncate(len);
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Removes a file and makes that last.
///
/// # Errors
/// If the file system refuses; the file may be there again after a crash.
pub fn durable_remove(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    fs.remove(path)?;
    fs.sync_dir(folder_of(path))
}

/// Creates `dir` with everything missing above it, and makes the names last.
///
/// # Errors
/// If the file system refuses.
pub fn create_dir_durably(fs: &dyn Fs, dir: &Path) -> io::Result<()> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && fs.list(path).is_err();
    let missing: Vec<&Path> = dir.ancestors().take_while(is_missing).collect();
    fs.create_dir_all(dir)?;
    // The folder itself may be an earlier run's, ended before this sync.
    for path in missing.into_iter().chain([dir]) {
        match fs.sync_dir(folder_of(path)) {
            // Then it is somebody else's, and was not made by us.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

/// Whether an error means that there is no room, which passes, rather than that the device is broken.
#[must_use]
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether an error means that there is no file descriptor left, of this process or of the machine, which passes.
#[must_use]
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code.is_some_and(|code| [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error).contains(&code))
}

/// Whether an error means that there is no memory left, which passes.
#[must_use]
pub(crate) fn is_out_of_memory(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
}

/// Whether an error means that something ran out, which passes.
#[must_use]
pub(crate) fn is_passing(error: &io::Error) -> bool {
    is_full(error) || is_out_of_descriptors(error) || is_out_of_memory(error)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_reads_as_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("value"), dir.path().join("value.tmp"));
        RealFs.create(&old).unwrap().write_at(b"old", 0).unwrap();
        RealFs.create(&new).unwrap().write_at(b"new", 0).unwrap();
        durable_replace(&RealFs, &new, &old).unwrap();
        let mut buf = [0; 8];
        assert_eq!(RealFs.open(&old).unwrap().read_at(&mut buf, 0).unwrap(), 3);
        assert_eq!(&buf[..3], b"new");
        assert_eq!(RealFs.list(dir.path()).unwrap(), ["value"]);
    }

    #[test]
    fn a_read_past_the_end_is_short() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealFs.create(&dir.path().join("short")).unwrap();
        file.write_at(b"abc", 1).unwrap();
        assert_eq!(file.read_at(&mut [0; 8], 2).unwrap(), 2);
        assert_eq!(file.size().unwrap(), 4);
    }
}
