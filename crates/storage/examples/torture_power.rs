//! The two halves of `scripts/torture-power`: one writes until the disk is gone, the other looks for what is missing.
//!
//! ```text
//! torture_power load DIR FIRST [unsynced]   writes records numbered from FIRST on, and prints what is acknowledged
//! torture_power check DIR FILE...           holds the store against what was printed into the files
//! ```

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::error::Error;
use std::fs;
use std::hash::Hasher;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, mpsc};

use quorate_record::{Key, NodeId, Record, Timestamp, Version, Writer};
use quorate_storage::{Completion, LogError, RealFs, Store, StoreOptions, SyncPolicy};

type Failure = Box<dyn Error + Send + Sync>;

const KEYS: u64 = 2_000;
const IN_FLIGHT: u64 = 64;
const MAX_VALUE_BYTES: u64 = 4_000;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["load", dir, first] => load(dir.as_ref(), first.parse()?, SyncPolicy::Always),
        ["load", dir, first, "unsynced"] => load(dir.as_ref(), first.parse()?, SyncPolicy::Os),
        ["check", dir, ref files @ ..] => check(dir.as_ref(), files),
        _ => Err("load DIR FIRST [unsynced], or check DIR FILE...".into()),
    }
}

/// Small files, so that they are filled, given up and used again all the time.
fn options(sync: SyncPolicy) -> StoreOptions {
    let token_of = |key: &[u8]| {
        let mut hasher = DefaultHasher::new();
        hasher.write(key);
        hasher.finish()
    };
    let mut options = StoreOptions::new(token_of);
    options.log.sync = sync;
    options.log.max_payload_bytes = 64 << 10;
    options.log.segment_bytes = 1 << 20;
    options.log.prepare_ahead_bytes = 256 << 10;
    options.log.prepare_chunk_bytes = 64 << 10;
    options.snapshot_after_bytes = 2 << 20;
    options
}

/// The record of a number: everything about it follows from that.
fn record(number: u64) -> Result<Record, Failure> {
    let writer = Writer { node: NodeId::new("n1")?, incarnation: 1 };
    let version = Version { timestamp: Timestamp::from_bits(number), writer };
    if number.is_multiple_of(8) {
        return Ok(Record::tombstone(version));
    }
    let bytes = mixed(number) % MAX_VALUE_BYTES;
    let value: Vec<u8> = (0..bytes).map(|at| (number ^ at).to_le_bytes()[0]).collect();
    Ok(Record::live(version, value))
}

fn key(number: u64) -> Result<Key, Failure> {
    Ok(Key::new(format!("key {}", (mixed(number) >> 32) % KEYS))?)
}

fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

fn load(dir: &Path, first: u64, sync: SyncPolicy) -> Result<(), Failure> {
    let (progress, news) = mpsc::channel();
    let on_progress = Box::new(move || {
        // The receiver is gone when nobody waits any more.
        let _ = progress.send(());
    });
    let (store, _) = Store::open(Arc::new(RealFs), dir, &options(sync), on_progress)?;
    let (due, snapshots_due) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for () in snapshots_due {
                if store.snapshot_due() {
                    // One that fails has promised nothing, and the writes will soon fail, too.
                    let _ = store.snapshot();
                }
            }
        });
        write(&store, first, &news, due)
    })
}

/// Goes on until a write fails.
fn write(
    store: &Store,
    first: u64,
    news: &mpsc::Receiver<()>,
    due: mpsc::Sender<()>,
) -> Result<(), Failure> {
    let (mut submitted, mut completed) = (0, 0);
    let mut done: Vec<Completion<_>> = Vec::new();
    loop {
        while submitted < completed + IN_FLIGHT {
            let number = first + submitted;
            match store.apply(number, key(number)?, record(number)?) {
                Ok(()) => submitted += 1,
                // Compaction has filled the queue: what is under way comes first.
                Err(LogError::Busy { .. }) => break,
                Err(error) => return Err(error.into()),
            }
        }
        news.recv()?;
        store.take_completions(&mut done);
        let mut lines = Vec::new();
        let mut failure = None;
        for completion in done.drain(..) {
            completed += 1;
            match completion.outcome {
                Ok(_) => writeln!(lines, "{}", completion.id)?,
                Err(error) => failure = Some(error),
            }
        }
        std::io::stdout().write_all(&lines)?;
        if let Some(error) = failure {
            return Err(error.into());
        }
        if store.snapshot_due() {
            due.send(())?;
        }
    }
}

fn check(dir: &Path, files: &[&str]) -> Result<(), Failure> {
    let (acknowledged, acks) = read_acknowledged(files)?;
    let (store, found) =
        Store::open(Arc::new(RealFs), dir, &options(SyncPolicy::Always), Box::new(|| {}))?;
    println!(
        "{acks} acknowledged writes to {} keys; {} keys, {} bytes cut, {:?} as snapshot",
        acknowledged.len(),
        store.stats().keys,
        found.truncated_bytes,
        found.snapshot.as_ref().map(|info| info.number),
    );
    let mut wrong = Vec::new();
    if !found.damages.is_empty() || !found.bad_snapshots.is_empty() {
        wrong.push(format!("damage: {:?}, {:?}", found.damages, found.bad_snapshots));
    }
    for (name, &number) in &acknowledged {
        let Some(held) = store.get(name).answer()? else {
            wrong.push(format!("{name} is absent, though write {number} was acknowledged"));
            continue;
        };
        let held_number = held.version.timestamp.bits();
        if held_number < number {
            wrong.push(format!("{name} has write {held_number}, though {number} was acknowledged"));
        }
        if held != record(held_number)? || *name != key(held_number)? {
            wrong.push(format!("{name} has write {held_number} with what was not written then"));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    wrong.truncate(10);
    Err(wrong.join("\n").into())
}

/// The last acknowledged write of each key, and how many there were in all.
fn read_acknowledged(files: &[&str]) -> Result<(BTreeMap<Key, u64>, u64), Failure> {
    let (mut greatest, mut acks) = (BTreeMap::new(), 0);
    for file in files {
        let text = fs::read_to_string(file)?;
        // What is behind the last line feed was not said to its end.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            let number: u64 = line.parse()?;
            let last = greatest.entry(key(number)?).or_insert(0);
            *last = number.max(*last);
            acks += 1;
        }
    }
    Ok((greatest, acks))
}

/// What a read of the store answers.
trait Answer {
    fn answer(self) -> Result<Option<Record>, Failure>;
}

impl Answer for Option<Record> {
    fn answer(self) -> Result<Option<Record>, Failure> {
        Ok(self)
    }
}

impl<E: Into<Failure>> Answer for Result<Option<Record>, E> {
    fn answer(self) -> Result<Option<Record>, Failure> {
        self.map_err(Into::into)
    }
}
