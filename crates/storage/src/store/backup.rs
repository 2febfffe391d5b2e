//! Backups: the log as it is at a moment, copied while the store goes on.
//!
//! A backup has what a data folder has, but for `meta`, the lock and the hints, so a store can be opened on a copy of
//! it. Its file `backup` comes last and names every other file with a checksum: without it there is no backup.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use quorate_record::NodeId;

use super::{Core, Store};
use crate::frame::checksum;
use crate::fs::{Fs, create_dir_durably, write_anew};
use crate::meta::{Meta, MetaError};
use crate::newest::{Newest, NewestFile};
use crate::queue::LogError;
use crate::recovery::OpenError;
use crate::released::ReleasedFile;
use crate::segment::{index, segment_path};

const FORMAT_VERSION: u32 = 1;

/// The file that says what is in a backup.
const MANIFEST: &str = "backup";

/// More than a manifest of the largest log has.
const MAX_MANIFEST_BYTES: u64 = 256 << 20;

const COPY_BYTES: u64 = 1 << 20;

/// A backup that is in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupInfo {
    /// Its folder.
    pub path: PathBuf,
    /// How many files it has, without the one that names them.
    pub files: u64,
    /// How many bytes were copied.
    pub bytes: u64,
    /// It has all frames of the log up to this sequence number, those given up excepted.
    pub seq: u64,
}

/// Why there is no backup, or no restored folder.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The folder has something in it.
    #[error("{0} is not empty; name a folder that is new or empty")]
    NotEmpty(PathBuf),
    /// A file could not be read or written.
    #[error("cannot read or write {path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The log cannot be synced.
    #[error("the log cannot be synced")]
    Log(#[from] LogError),
    /// The small files of the log could not be written.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The file that says whose data it is could not be written.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// There is no file that says what is in the backup: it is none, or was not finished.
    #[error("{0} is no backup, or one that was not finished: it has no file `backup`")]
    NoBackup(PathBuf),
    /// Another version of this program wrote it.
    #[error("{path} has format version {found}, this program reads version {FORMAT_VERSION}")]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
    },
    /// A file is not what was written.
    #[error("{path} is damaged: {what}. Nothing was restored; take another backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// In which way.
        what: &'static str,
    },
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_path_buf();
    move |source| BackupError::Io { path, source }
}

/// What a backup says of itself.
struct Manifest {
    meta: Meta,
    seq: u64,
    taken_ms: u64,
    files: Vec<Listed>,
}

/// A file of a backup.
struct Listed {
    name: String,
    /// What is copied; the rest of the file is a hole.
    used_bytes: u64,
    file_bytes: u64,
    crc: u32,
}

impl Store {
    /// Copies everything that is durable now into `dir`, a new or empty folder, while reads and writes go on; whose data
    /// it is, and when, is the caller's to say. Until it ends no segment is given up and no snapshot is made.
    ///
    /// # Errors
    /// [`BackupError`]; what was copied by then has no file `backup`, so it is no backup.
    pub fn backup(&self, dir: &Path, meta: Meta, taken_ms: u64) -> Result<BackupInfo, BackupError> {
        self.core.backup(dir, meta, taken_ms)
    }
}

impl Core {
    fn backup(&self, dir: &Path, meta: Meta, taken_ms: u64) -> Result<BackupInfo, BackupError> {
        let fs = &*self.fs;
        create_empty(fs, dir)?;
        let snapshot = {
            let _alone = self.snapshotting.lock().unwrap_or_else(PoisonError::into_inner);
            let newest = self.lock_snapshots().newest.clone();
            newest.map(|info| copy_snapshot(fs, &info.path, info.bytes, dir)).transpose()?
        };
        // While this is held, no segment goes.
        let release = self.log.release.lock().unwrap_or_else(PoisonError::into_inner);
        self.log.sync()?;
        let (segments, seq) = self.log.written();
        let log_dir = dir.join("log");
        let mut files: Vec<Listed> = snapshot.into_iter().collect();
        for info in &segments {
            let from = segment_path(self.log.dir(), info.number);
            let to = segment_path(&log_dir, info.number);
            files.push(copy(fs, &from, fs, &to, Some(info.used_bytes), dir)?);
        }
        let (mut newest, _) = NewestFile::open(fs, &log_dir)?;
        if let Some(last) = segments.last() {
            let before = last.number.checked_sub(1).filter(|before| *before > 0);
            let before = before.map(|number| Newest { number, first_seq: last.first_seq });
            let last = Newest { number: last.number, first_seq: last.first_seq };
            for record in before.into_iter().chain([last]) {
                let path = log_dir.join("newest");
                let full = |error| failed(&path)(io::Error::other(format!("{error:?}")));
                newest.record(fs, &log_dir, record).map_err(full)?;
            }
            files.push(listed(fs, &log_dir.join("newest"), dir)?);
        }
        let (mut released, _) = ReleasedFile::open(fs, &log_dir)?;
        let path = log_dir.join("released");
        // Both of its records.
        for _ in 0..2 {
            released.record(fs, &log_dir, release.released()).map_err(failed(&path))?;
        }
        files.push(listed(fs, &path, dir)?);
        drop(release);
        for folder in [&log_dir, &dir.join("snapshot")] {
            fs.sync_dir(folder).map_err(failed(folder))?;
        }
        let bytes = files.iter().map(|file| file.used_bytes).sum();
        let info = BackupInfo { path: dir.to_path_buf(), files: files.len() as u64, bytes, seq };
        Manifest { meta, seq, taken_ms, files }.write(fs, dir)?;
        Ok(info)
    }
}

fn copy_snapshot(fs: &dyn Fs, from: &Path, bytes: u64, dir: &Path) -> Result<Listed, BackupError> {
    let name = from.file_name().expect("a snapshot has a name");
    copy(fs, from, fs, &dir.join("snapshot").join(name), Some(bytes), dir)
}

/// What [`restore`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Whose data it is, in a new life.
    pub meta: Meta,
    /// How many files were copied.
    pub files: u64,
    /// How many bytes were copied.
    pub bytes: u64,
    /// When the backup was made, in milliseconds since the Unix epoch.
    pub taken_ms: u64,
}

/// Checks the backup in the folder `from` of `from_fs`, every byte of it, and only then copies it to `to`, a new or
/// empty folder of `fs`, for the node `node` or the one that it was made of. `each` hears how many bytes of how many
/// were read; all of them are read twice.
///
/// The node begins another life at `wall_ms`, so that it issues no version twice. The file that says whose data it is
/// comes last, so no node starts on an unfinished folder.
///
/// # Errors
/// [`BackupError`]; if the backup is not whole, nothing was written.
pub fn restore(
    from_fs: &dyn Fs,
    from: &Path,
    fs: &dyn Fs,
    to: &Path,
    node: Option<NodeId>,
    wall_ms: u64,
    each: &mut dyn FnMut(u64, u64),
) -> Result<Restored, BackupError> {
    let Manifest { meta, taken_ms, files, .. } = Manifest::read(from_fs, from)?;
    let bytes = files.iter().map(|file| file.used_bytes).sum();
    let mut done = 0;
    for file in &files {
        let path = from.join(&file.name);
        let opened = match from_fs.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BackupError::Damaged { path, what: "it is missing" });
            }
            opened => opened.map_err(failed(&path))?,
        };
        if opened.size().map_err(failed(&path))? != file.file_bytes {
            return Err(BackupError::Damaged { path, what: "its length is not what was written" });
        }
        let mut crc = 0;
        for_pieces(&*opened, file.used_bytes, |piece, _| {
            crc = checksum(crc, piece);
            Ok(())
        })
        .map_err(failed(&path))?;
        if crc != file.crc {
            return Err(BackupError::Damaged { path, what: "its bytes are not what was written" });
        }
        done += file.used_bytes;
        each(done, 2 * bytes);
    }
    create_empty(fs, to)?;
    for file in &files {
        let (path, copied) = (from.join(&file.name), to.join(&file.name));
        if copy(from_fs, &path, fs, &copied, Some(file.used_bytes), to)?.crc != file.crc {
            return Err(BackupError::Damaged { path, what: "it does not read twice alike" });
        }
        done += file.used_bytes;
        each(done, 2 * bytes);
    }
    for folder in [to.join("log"), to.join("snapshot")] {
        fs.sync_dir(&folder).map_err(failed(&folder))?;
    }
    let meta = Meta { node: node.unwrap_or(meta.node), ..meta }.renew(fs, to, wall_ms)?;
    Ok(Restored { meta, files: files.len() as u64, bytes, taken_ms })
}

fn create_empty(fs: &dyn Fs, dir: &Path) -> Result<(), BackupError> {
    let folders = [dir.to_path_buf(), dir.join("log"), dir.join("snapshot"), dir.join("hints")];
    if folders.iter().any(|dir| fs.list(dir).is_ok_and(|names| !names.is_empty())) {
        return Err(BackupError::NotEmpty(dir.to_path_buf()));
    }
    for folder in &folders[1..3] {
        create_dir_durably(fs, folder).map_err(failed(folder))?;
    }
    Ok(())
}

/// Copies the first `used_bytes` of a file, or all, into a new one of the same length, and syncs that.
fn copy(
    from_fs: &dyn Fs,
    from: &Path,
    to_fs: &dyn Fs,
    to: &Path,
    used_bytes: Option<u64>,
    dir: &Path,
) -> Result<Listed, BackupError> {
    let source = from_fs.open(from).map_err(failed(from))?;
    let file_bytes = source.size().map_err(failed(from))?;
    let used_bytes = used_bytes.map_or(file_bytes, |used| used.min(file_bytes));
    let target = to_fs.create(to).map_err(failed(to))?;
    target.set_len(file_bytes).map_err(failed(to))?;
    let mut crc = 0;
    for_pieces(&*source, used_bytes, |piece, at| {
        crc = checksum(crc, piece);
        target.write_at(piece, at)
    })
    .and_then(|()| target.sync_data())
    .map_err(failed(to))?;
    Ok(Listed { name: name_in(dir, to), used_bytes, file_bytes, crc })
}

/// Lists a file that is in the backup already.
fn listed(fs: &dyn Fs, path: &Path, dir: &Path) -> Result<Listed, BackupError> {
    let file = fs.open(path).map_err(failed(path))?;
    let file_bytes = file.size().map_err(failed(path))?;
    let mut crc = 0;
    for_pieces(&*file, file_bytes, |piece, _| {
        crc = checksum(crc, piece);
        Ok(())
    })
    .map_err(failed(path))?;
    Ok(Listed { name: name_in(dir, path), used_bytes: file_bytes, file_bytes, crc })
}

fn name_in(dir: &Path, path: &Path) -> String {
    path.strip_prefix(dir).unwrap_or(path).display().to_string()
}

fn for_pieces(
    file: &dyn crate::fs::File,
    bytes: u64,
    mut each: impl FnMut(&[u8], u64) -> io::Result<()>,
) -> io::Result<()> {
    let mut buf = vec![0; index(bytes.min(COPY_BYTES))];
    let mut at = 0;
    while at < bytes {
        let len = index((bytes - at).min(COPY_BYTES));
        if file.read_at(&mut buf[..len], at)? < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        each(&buf[..len], at)?;
        at += len as u64;
    }
    Ok(())
}

impl Manifest {
    fn encode(&self) -> String {
        let Self { meta: Meta { node, cluster, incarnation }, seq, taken_ms, files } = self;
        let mut text = format!(
            "quorate backup {FORMAT_VERSION}\nnode {node}\ncluster {cluster:016x}\n\
             incarnation {incarnation:016x}\nseq {seq:016x}\ntaken {taken_ms:016x}\n"
        );
        for Listed { name, used_bytes, file_bytes, crc } in files {
            text += &format!("file {file_bytes:016x} {used_bytes:016x} {crc:08x} {name}\n");
        }
        let crc = checksum(0, text.as_bytes());
        format!("{text}crc32 {crc:08x}\n")
    }

    fn write(&self, fs: &dyn Fs, dir: &Path) -> Result<(), BackupError> {
        let path = dir.join(MANIFEST);
        write_anew(fs, &path, &self.encode()).map_err(failed(&path))
    }

    fn read(fs: &dyn Fs, dir: &Path) -> Result<Self, BackupError> {
        let path = dir.join(MANIFEST);
        let file = match fs.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BackupError::NoBackup(dir.to_path_buf()));
            }
            opened => opened.map_err(failed(&path))?,
        };
        let damaged = || BackupError::Damaged {
            path: path.clone(),
            what: "it does not say what was written",
        };
        let size = file.size().map_err(failed(&path))?;
        if size > MAX_MANIFEST_BYTES {
            return Err(damaged());
        }
        let mut bytes = Vec::new();
        for_pieces(&*file, size, |piece, _| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .map_err(failed(&path))?;
        let text = String::from_utf8(bytes).map_err(|_| damaged())?;
        let body = text.len().checked_sub("crc32 00000000\n".len()).ok_or_else(damaged)?;
        let (body, last) = text.split_at_checked(body).ok_or_else(damaged)?;
        if last != format!("crc32 {:08x}\n", checksum(0, body.as_bytes())) {
            return Err(damaged());
        }
        let (first, rest) = body.split_once('\n').ok_or_else(damaged)?;
        let version = first.strip_prefix("quorate backup ").and_then(|text| text.parse().ok());
        match version.ok_or_else(damaged)? {
            FORMAT_VERSION => Self::decode(rest).ok_or_else(damaged),
            found => Err(BackupError::Version { path, found }),
        }
    }

    fn decode(text: &str) -> Option<Self> {
        let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
        let mut lines = text.lines();
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let node = NodeId::new(field("node")?).ok()?;
        let (cluster, incarnation) = (hex(field("cluster")?)?, hex(field("incarnation")?)?);
        let (seq, taken_ms) = (hex(field("seq")?)?, hex(field("taken")?)?);
        let file = |line: &str| {
            let mut parts = line.strip_prefix("file ")?.splitn(4, ' ');
            let (file_bytes, used_bytes) = (hex(parts.next()?)?, hex(parts.next()?)?);
            let crc = u32::from_str_radix(parts.next()?, 16).ok()?;
            let name = parts.next()?.to_owned();
            // Nobody's manifest may name a file elsewhere.
            let (folder, base) = name.split_once('/')?;
            let is_ours = ["log", "snapshot"].contains(&folder) && !base.contains('/');
            let fits = used_bytes <= file_bytes && base != ".." && is_ours;
            fits.then_some(Listed { name, used_bytes, file_bytes, crc })
        };
        let files = lines.map(file).collect::<Option<_>>()?;
        Some(Self { meta: Meta { node, cluster, incarnation }, seq, taken_ms, files })
    }
}

#[cfg(test)]
mod tests;
