//! Looks at every file of a node that is stopped, and salvages what can be read.
//!
//! Nothing is written to the folder that is looked at. What the node itself would do at its start is done over a
//! file system that keeps all changes in memory, so both find the same.
//!
//! ```
//! use std::sync::Arc;
//! use quorate_storage::{Meta, StoreOptions, Store, doctor, fault::FaultFs, fs::Fs};
//!
//! let fs: Arc<dyn Fs> = Arc::new(FaultFs::new()); // `ReadOnlyFs` for real files
//! let node = quorate_record::NodeId::new("n1")?;
//! Meta::open(&*fs, "/data".as_ref(), Meta { node, cluster: 1, incarnation: 1 })?;
//! let options = StoreOptions::new(|key| key.len() as u64); // in earnest, a hash
//! drop(Store::open(fs.clone(), "/data".as_ref(), &options, Box::new(|| {}))?);
//!
//! let diagnosis = doctor::examine(&fs, "/data".as_ref(), options.token_of)?;
//! assert!(diagnosis.problems.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod logs;
mod overlay;
mod read_only;
mod salvage;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::logs::Logs;
use self::overlay::Overlay;
use crate::fs::Fs;
use crate::hint_log::{HintLog, HintLogOptions};
use crate::log::{Drive, LogOptions};
use crate::meta::{Meta, MetaError};
use crate::recovery::OpenError;
use crate::scrub_note::ScrubNote;
use crate::store::snapshot::{self, BadSnapshot, snapshot_number, snapshot_path};
use crate::store::{Store, StoreOptions};

pub use self::read_only::ReadOnlyFs;
pub use self::salvage::{SalvageError, Salvaged, salvage};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Where in the file, in bytes; `None` if it is about the file as a whole.
    pub offset: Option<u64>,
    /// How many bytes, if that is known.
    pub bytes: Option<u64>,
    /// What was found.
    pub what: String,
    /// What follows from it.
    pub meaning: &'static str,
    /// What to do.
    pub advice: &'static str,
}

/// What [`examine`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// Whose data it is, if that can be read.
    pub meta: Option<Meta>,
    /// Files that were read.
    pub files: u64,
    /// Records in the log, those included that were replaced since.
    pub records: u64,
    /// Keys that the store would know of; 0 if it cannot be opened.
    pub keys: u64,
    /// Hints that wait.
    pub hints: u64,
    /// In the order of reading.
    pub problems: Vec<Problem>,
}

/// Why a folder could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// It is not what a node leaves behind.
    #[error("{0} is not the data folder of a node: it has neither `meta` nor a log")]
    NotData(PathBuf),
    /// It cannot be read.
    #[error("cannot read {dir}")]
    Io {
        /// The folder.
        dir: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
}

const FORGETS: &str = "what was there cannot be read any more; the other replicas may have it";
const REPLICAS: &str = "start the node as it is: what is missing comes back from the replicas by \
     anti-entropy. If this happens again, replace the disk";
const RECORDS_ARE_SAFE: &str = "no record is lost: the log has them all. Deleted keys may come back if their tombstones \
     were forgotten: the node then begins another life, and the other owners fill it";
const USE_ITS_PROGRAM: &str = "use the program that wrote it. If that is gone, remove the whole folder `snapshot` and \
     not this file alone, or deleted keys may come back: the node then reads its log, and the other owners fill it";

/// Reads every file of the stopped node in `dir`, whose keys are placed by `token_of`, and tells what is wrong.
///
/// The caller sees to it that no node runs there, see [`lock_dir_unchanged`](crate::lock_dir_unchanged).
///
/// # Errors
/// [`DoctorError`], if there is nothing to look at.
pub fn examine(
    fs: &Arc<dyn Fs>,
    dir: &Path,
    token_of: fn(&[u8]) -> u64,
) -> Result<Diagnosis, DoctorError> {
    check_is_data(&**fs, dir)?;
    let mut found = Diagnosis::default();
    found.meta(&**fs, dir);
    found.scrub(&**fs, dir);
    let snapshot_seq = found.snapshots(&**fs, &dir.join("snapshot"));
    let log_is_open = {
        let options = LogOptions { next_seq_at_least: snapshot_seq + 1, ..manual_log() };
        let read = Logs::STORE.read(fs, &dir.join("log"), &options, &mut found);
        found.records = read.unwrap_or(0);
        read.is_some()
    };
    if log_is_open {
        found.store(fs, dir, token_of);
    }
    let (hints, options) = (dir.join("hints"), manual_hints());
    if fs.list(&hints).is_ok() && Logs::HINTS.read(fs, &hints, &options.log, &mut found).is_some() {
        let overlay = Arc::new(Overlay::new(fs.clone()));
        match HintLog::open(overlay, &hints, &options, Box::new(|| {})) {
            Ok((held, _)) => found.hints = held.stats().hints,
            Err(error) => found.cannot_open(&hints, &error),
        }
    }
    Ok(found)
}

fn check_is_data(fs: &dyn Fs, dir: &Path) -> Result<(), DoctorError> {
    let names =
        fs.list(dir).map_err(|source| DoctorError::Io { dir: dir.to_path_buf(), source })?;
    let has_log = fs.list(&dir.join("log")).is_ok_and(|names| !names.is_empty());
    if has_log || names.iter().any(|name| name == "meta") {
        return Ok(());
    }
    Err(DoctorError::NotData(dir.to_path_buf()))
}

impl Diagnosis {
    fn meta(&mut self, fs: &dyn Fs, dir: &Path) {
        let file = dir.join("meta");
        self.files += 1;
        let (what, advice) = match Meta::read(fs, dir) {
            Ok(Some(meta)) => return self.meta = Some(meta),
            Ok(None) => ("it is missing".to_owned(), "put back a copy of it"),
            Err(MetaError::Version { found, supported, .. }) => (
                format!("it has format version {found}, known is {supported}"),
                "use the program that wrote it",
            ),
            Err(MetaError::Io { source, .. }) => {
                (format!("it cannot be read: {source}"), "look at the disk, then try again")
            }
            Err(_) => ("it is not what was written".to_owned(), "put back a copy of it"),
        };
        let meaning = "nothing says whose data this is, so no node starts on it";
        self.problem(Problem { file, offset: None, bytes: None, what, meaning, advice });
    }

    fn scrub(&mut self, fs: &dyn Fs, dir: &Path) {
        let file = dir.join("scrub");
        if fs.open(&file).is_err() {
            return; // a node that has not scrubbed yet has none
        }
        self.files += 1;
        if ScrubNote::read(fs, dir).is_none() {
            let what = "it is not what was written".to_owned();
            let meaning = "nothing is lost: records are looked at once more than needed";
            let advice = "start the node: it writes the file anew";
            self.problem(Problem { file, offset: None, bytes: None, what, meaning, advice });
        }
    }

    /// Looks at all snapshots, and returns up to where the newest good one knows the log.
    fn snapshots(&mut self, fs: &dyn Fs, dir: &Path) -> u64 {
        let mut seq = 0;
        let names = fs.list(dir).unwrap_or_default();
        for number in names.iter().filter_map(|name| snapshot_number(name)) {
            let file = snapshot_path(dir, number);
            self.files += 1;
            let (offset, what, meaning, advice) =
                match snapshot::read(fs, &file, number, &mut |_, _| {}) {
                    Ok(contents) => {
                        seq = contents.info.seq;
                        continue;
                    }
                    Err(BadSnapshot::Damaged { offset }) => (
                        Some(offset),
                        "it is not what was written".to_owned(),
                        RECORDS_ARE_SAFE,
                        "start the node: it sets the file aside",
                    ),
                    Err(BadSnapshot::Version(found)) => (
                        None,
                        format!("it has format version {found}, which this program does not know"),
                        "no node of this version starts here",
                        USE_ITS_PROGRAM,
                    ),
                    Err(BadSnapshot::Io(error)) => (
                        None,
                        format!("it cannot be read: {error}"),
                        RECORDS_ARE_SAFE,
                        "look at the disk",
                    ),
                };
            self.problem(Problem { file, offset, bytes: None, what, meaning, advice });
        }
        seq
    }

    /// Looks for what the snapshot knows of and the log does not have.
    fn store(&mut self, fs: &Arc<dyn Fs>, dir: &Path, token_of: fn(&[u8]) -> u64) {
        let options = StoreOptions { log: manual_log(), ..StoreOptions::new(token_of) };
        let overlay = Arc::new(Overlay::new(fs.clone()));
        let (store, recovered) = match Store::open(overlay, dir, &options, Box::new(|| {})) {
            Ok(opened) => opened,
            Err(error) => return self.cannot_open(dir, &error),
        };
        self.keys = store.stats().keys;
        if recovered.lost_records > 0 {
            let file = dir.join("log");
            let what = format!("{} keys have lost their newest record", recovered.lost_records);
            self.problem(Problem {
                file,
                offset: None,
                bytes: None,
                what,
                meaning: "this node refuses to answer for them, rather than to say that they are not there",
                advice: REPLICAS,
            });
        }
    }

    fn cannot_open(&mut self, dir: &Path, error: &OpenError) {
        let (file, what, advice) = match error {
            OpenError::Io { doing, path, source } => {
                (path.into(), format!("cannot {doing} it: {source}"), "look at the disk")
            }
            OpenError::Version { path, found, supported } => (
                path.into(),
                format!("it has format version {found}, known is {supported}"),
                "use the program that wrote it",
            ),
        };
        let file = if self.problems.iter().any(|it| it.file == file) { return } else { file };
        let file: PathBuf = if file == PathBuf::new() { dir.to_path_buf() } else { file };
        let meaning = "no node starts here";
        self.problem(Problem { file, offset: None, bytes: None, what, meaning, advice });
    }

    fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }
}

/// Everything on the caller's thread.
fn manual_log() -> LogOptions {
    LogOptions { drive: Drive::Manual, ..LogOptions::default() }
}

fn manual_hints() -> HintLogOptions {
    let options = HintLogOptions::default();
    HintLogOptions { log: LogOptions { drive: Drive::Manual, ..options.log }, ..options }
}

#[cfg(test)]
mod tests;
