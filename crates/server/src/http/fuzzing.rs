//! What reads the requests of strangers, opened to tests that send it all kinds of bytes. Whatever
//! is refused comes back as the answer that the sender would get.

use std::time::Duration;

use quorate_quorum::Quorum;
use quorate_record::{Key, Record};
use serde_json::{Map, Value};

use super::{
    Answer, HttpSettings, framing,
    json::{self, RecordForm},
    key_path, params,
    problem::Problem,
};

/// How a client's request is to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// How many nodes it needs.
    pub quorum: Quorum,
    /// Whether it has to be atomic.
    pub atomic: bool,
    /// How long it may take.
    pub timeout: Duration,
    /// Whether a write waits for all owners.
    pub wait: bool,
}

/// Reads the query of a client's request.
///
/// # Errors
/// The answer to one that is refused.
pub fn asked(query: &str, settings: &HttpSettings) -> Result<Asked, Box<Answer>> {
    let params::Ask { quorum, atomic, timeout, wait } =
        params::ask(Some(query), settings).map_err(refused)?;
    Ok(Asked { quorum, atomic, timeout, wait })
}

/// Reads the key of a path.
///
/// # Errors
/// The answer to one that is refused.
pub fn key(raw: &str) -> Result<Key, Box<Answer>> {
    key_path::key(raw).map_err(refused)
}

/// Reads a record as people write it.
///
/// # Errors
/// The answer to one that is refused.
pub fn record(body: &[u8], max_value_bytes: usize) -> Result<(Key, Record), Box<Answer>> {
    let read = || json::parse::<RecordForm>(body)?.into_record(max_value_bytes);
    read().map_err(refused)
}

/// A record as people read it.
#[must_use]
pub fn shown_record(key: &Key, record: &Record) -> Map<String, Value> {
    json::shown_record(key, record)
}

/// The number of the first request whose length can be understood in two ways, in a stream that
/// comes in these `pieces`, and how many heads were followed to their end.
pub fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Option<u64>, u64) {
    framing::scan(pieces)
}

fn refused(problem: Problem) -> Box<Answer> {
    Box::new(problem.into_answer())
}
