//! One process at a time for a data folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The right to use a folder, until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

/// Why a folder could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process uses it.
    #[error(
        "{dir} is in use by {holder}; stop that process or choose another data folder (--data-dir)"
    )]
    Held {
        /// The folder.
        dir: PathBuf,
        /// Who has it, as far as it says.
        holder: String,
    },
    /// The file system refuses.
    #[error("cannot lock {dir}")]
    Io {
        /// The folder.
        dir: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
}

/// Locks the folder `dir` of the real file system, which is created if need be, by the file `LOCK` in it.
///
/// The lock is the operating system's (`flock`), so none is left behind by a process that was killed. The file stays.
///
/// # Errors
/// [`LockError::Held`] if another process, or another place in this one, has it; [`LockError::Io`].
pub fn lock_dir(dir: &Path) -> Result<DirLock, LockError> {
    let failed = |source| LockError::Io { dir: dir.to_path_buf(), source };
    fs::create_dir_all(dir).map_err(failed)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(dir.join("LOCK")).map_err(failed)?;
    take(&mut file, dir)?;
    let mut sign = || {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "process {}", std::process::id())
    };
    // A courtesy to the next one who tries. On a full disk it fails, and the lock is as good without.
    let _: io::Result<()> = sign();
    Ok(DirLock { _file: file })
}

/// Locks the folder `dir` without changing anything in it; `None` if it has no file `LOCK`, as no process ever used it.
///
/// # Errors
/// As for [`lock_dir`].
pub fn lock_dir_unchanged(dir: &Path) -> Result<Option<DirLock>, LockError> {
    let mut file = match File::open(dir.join("LOCK")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LockError::Io { dir: dir.to_path_buf(), source }),
    };
    take(&mut file, dir)?;
    Ok(Some(DirLock { _file: file }))
}

fn take(file: &mut File, dir: &Path) -> Result<(), LockError> {
    match flock(&*file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(errno) if errno == rustix::io::Errno::WOULDBLOCK => {
            Err(LockError::Held { dir: dir.to_path_buf(), holder: holder(file) })
        }
        Err(errno) => Err(LockError::Io { dir: dir.to_path_buf(), source: errno.into() }),
    }
}

/// What the holder wrote about itself; it may just be about to.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(64).read_to_string(&mut text);
    match text.trim() {
        "" => "another process".to_owned(),
        _ if read.is_err() => "another process".to_owned(),
        named => named.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_was_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock_dir(dir.path()).unwrap();
        let error = lock_dir(dir.path()).unwrap_err();
        let LockError::Held { holder, .. } = &error else { panic!("locked twice") };
        assert_eq!(*holder, format!("process {}", std::process::id()));
        assert!(error.to_string().contains("stop that process or choose another data folder"));
        drop(first);
        lock_dir(dir.path()).unwrap();
    }

    #[test]
    fn a_lock_for_looking_changes_nothing_and_keeps_others_out() {
        let dir = tempfile::tempdir().unwrap();
        assert!(lock_dir_unchanged(dir.path()).unwrap().is_none());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let held = lock_dir(dir.path()).unwrap();
        let refused = lock_dir_unchanged(dir.path()).unwrap_err();
        assert!(matches!(refused, LockError::Held { .. }), "{refused}");
        drop(held);
        let _looking = lock_dir_unchanged(dir.path()).unwrap().unwrap();
        lock_dir(dir.path()).unwrap_err();
    }

    #[test]
    fn a_missing_folder_is_created() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a/b");
        let _lock = lock_dir(&below).unwrap();
        assert!(below.join("LOCK").exists());
    }
}
