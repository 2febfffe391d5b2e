//! Brings whatever can be read into a new folder.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_record::{Timestamp, decode_record};

use super::overlay::Overlay;
use super::{DoctorError, manual_hints, manual_log};
use crate::fs::{Fs, create_dir_durably};
use crate::hint_log::HintLog;
use crate::log::{Log, SyncPolicy};
use crate::meta::{Meta, MetaError};
use crate::queue::LogError;
use crate::read::ReadError;
use crate::recovery::OpenError;
use crate::store::{
    KIND_CEILING, KIND_NOTES, KIND_RECORD, Notes, SnapshotError, Store, StoreOptions,
};

/// How many hints are in memory at a time.
const HINTS_AT_ONCE: usize = 256;

/// What [`salvage`] brought into the new folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvaged {
    /// Records that were read; of those of a key the greatest is kept.
    pub records: u64,
    /// Keys that have one.
    pub keys: u64,
    /// Hints.
    pub hints: u64,
    /// Whose data it is, in a new life; `None` if the old folder does not say. A node does not start on it then.
    pub meta: Option<Meta>,
}

/// Why nothing whole was salvaged.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// The new folder has something in it.
    #[error("{0} is not empty; name a folder that is new or empty")]
    NotEmpty(PathBuf),
    /// There is nothing to salvage from.
    #[error(transparent)]
    Source(#[from] DoctorError),
    /// A log or a store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The device does not give a hint that it gave before.
    #[error("the hints cannot be read")]
    Read(#[from] ReadError),
    /// The new folder takes no more.
    #[error("cannot write to the new folder")]
    Log(#[from] LogError),
    /// No snapshot could be made in the new folder.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The file that says whose data it is could not be written.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The new folder could not be made.
    #[error("cannot create {dir}")]
    Io {
        /// The folder.
        dir: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
}

/// Reads every record and hint of the stopped node in `dir` that can be read, and writes them to `to`, a new or empty
/// folder of `to_fs`. `dir` stays as it is.
///
/// The node that is started on the new folder begins another life, at `wall_ms`, so that it issues no version twice. What
/// could not be read it has forgotten, like a node whose disk was lost: it is for the other replicas to bring it again.
/// The file that says whose data it is comes last, so no node starts on an unfinished folder.
///
/// # Errors
/// [`SalvageError`]. What was damaged is no error.
pub fn salvage(
    fs: &Arc<dyn Fs>,
    dir: &Path,
    to_fs: &Arc<dyn Fs>,
    to: &Path,
    token_of: fn(&[u8]) -> u64,
    wall_ms: u64,
) -> Result<Salvaged, SalvageError> {
    super::check_is_data(&**fs, dir)?;
    let folders = [to.to_path_buf(), to.join("log"), to.join("snapshot"), to.join("hints")];
    if folders.iter().any(|dir| to_fs.list(dir).is_ok_and(|names| !names.is_empty())) {
        return Err(SalvageError::NotEmpty(to.to_path_buf()));
    }
    create_dir_durably(&**to_fs, to)
        .map_err(|source| SalvageError::Io { dir: to.to_path_buf(), source })?;
    let meta = Meta::read(&**fs, dir).ok().flatten();
    let (records, keys) = records(fs, dir, to_fs, to, token_of)?;
    let hints = hints(fs, dir, to_fs, to)?;
    let meta = meta.map(|meta| meta.renew(&**to_fs, to, wall_ms)).transpose()?;
    Ok(Salvaged { records, keys, hints, meta })
}

fn records(
    fs: &Arc<dyn Fs>,
    dir: &Path,
    to_fs: &Arc<dyn Fs>,
    to: &Path,
    token_of: fn(&[u8]) -> u64,
) -> Result<(u64, u64), SalvageError> {
    let options = StoreOptions { log: unsynced(manual_log()), ..StoreOptions::new(token_of) };
    let (store, _) = Store::open(to_fs.clone(), to, &options, Box::new(|| {}))?;
    let mut done = Vec::new();
    let mut records = 0;
    let mut ceiling = None::<Timestamp>;
    let mut notes = None::<Notes>;
    let mut failed = None;
    let overlay = Arc::new(Overlay::new(fs.clone()));
    let (log, _) = Log::open(
        overlay,
        &dir.join("log"),
        &manual_log(),
        |_| {},
        |frame| {
            if failed.is_some() {
                return;
            }
            if frame.kind == KIND_RECORD
                && let Ok((key, record)) = decode_record(&Bytes::copy_from_slice(frame.payload))
            {
                records += 1;
                failed = store
                    .apply(records, key, record)
                    .and_then(|()| settle(&store, &mut done))
                    .err();
            } else if frame.kind == KIND_CEILING
                && let Ok(bits) = frame.payload.try_into()
            {
                ceiling = ceiling.max(Some(Timestamp::from_bits(u64::from_le_bytes(bits))));
            } else if frame.kind == KIND_NOTES {
                notes = notes.take().max(Notes::decode(frame.payload));
            }
        },
    )?;
    drop(log);
    if let Some(error) = failed {
        return Err(error.into());
    }
    if let Some(ceiling) = ceiling {
        store.reserve_clock(0, ceiling)?;
        settle(&store, &mut done)?;
    }
    if let Some(Notes { horizon, text, .. }) = notes {
        store.keep_notes(0, horizon, &text)?;
        settle(&store, &mut done)?;
    }
    store.sync()?;
    let keys = store.stats().keys;
    store.close()?;
    Ok((records, keys))
}

/// Writes what was submitted.
fn settle(
    store: &Store,
    done: &mut Vec<crate::completion::Completion<crate::store::Applied>>,
) -> Result<(), LogError> {
    store.turn(Duration::ZERO);
    store.take_completions(done);
    done.drain(..).try_for_each(|completion| completion.outcome.map(drop))
}

fn hints(
    fs: &Arc<dyn Fs>,
    dir: &Path,
    to_fs: &Arc<dyn Fs>,
    to: &Path,
) -> Result<u64, SalvageError> {
    let overlay = Arc::new(Overlay::new(fs.clone()));
    let options = manual_hints();
    let (found, _) = HintLog::open(overlay, &dir.join("hints"), &options, Box::new(|| {}))?;
    let (hints, _) = HintLog::open(to_fs.clone(), &to.join("hints"), &options, Box::new(|| {}))?;
    let (mut count, mut done, mut after) = (0, Vec::new(), None);
    loop {
        let page = found.page(after, HINTS_AT_ONCE)?;
        for hint in &page.hints {
            hints.add(count, hint)?;
            hints.turn(Duration::ZERO);
            hints.take_completions(&mut done);
            done.drain(..).try_for_each(|completion| completion.outcome)?;
            count += 1;
        }
        after = page.last;
        if after.is_none() {
            return Ok(count);
        }
    }
}

/// The new folder counts only once all of it is synced.
fn unsynced(log: crate::log::LogOptions) -> crate::log::LogOptions {
    crate::log::LogOptions { sync: SyncPolicy::Os, ..log }
}
