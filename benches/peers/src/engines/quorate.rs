use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, Result};
use bytes::Bytes;
use quorate_record::{Key, NodeId, Record, Timestamp, Version, Writer};
use quorate_storage::{
    Applied, Completion, LogError, RealFs, Recovered, Store, StoreOptions, SyncPolicy,
};
use twox_hash::XxHash3_64;

use super::{CACHE_BYTES, Engine, Pair};
use crate::workload::KEY_BYTES;

/// How many puts go by before their completions are looked at.
const COLLECTED_EVERY: u64 = 256;

/// Our store, with what a caller of it needs: versions, and an eye on what has completed.
pub struct Quorate {
    store: Store,
    writer: Writer,
    next: AtomicU64,
    news: Arc<News>,
    done: Mutex<Done>,
}

/// Rung whenever something has completed.
#[derive(Default)]
struct News {
    rung: Mutex<u64>,
    bell: Condvar,
}

#[derive(Default)]
struct Done {
    taken: u64,
    completions: Vec<Completion<Applied>>,
}

impl Quorate {
    pub fn open_with(dir: &Path, options: &StoreOptions) -> Result<(Self, Recovered)> {
        let news = Arc::new(News::default());
        let ring = news.clone();
        let on_progress = Box::new(move || ring.ring());
        let (store, found) = Store::open(Arc::new(RealFs), dir, options, on_progress)?;
        let writer = Writer { node: NodeId::new("n1")?, incarnation: 1 };
        let quorate = Self {
            store,
            writer,
            next: AtomicU64::new(0),
            news,
            done: Mutex::new(Done::default()),
        };
        Ok((quorate, found))
    }

    /// Unsynced, as all stores here.
    pub fn options() -> StoreOptions {
        let mut options = StoreOptions::new(XxHash3_64::oneshot);
        options.log.sync = SyncPolicy::Os;
        options
    }

    /// Ends cleanly, once everything has completed.
    pub fn stop(self) -> Result<()> {
        self.settle()?;
        self.store.snapshot()?;
        Ok(())
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Submits a put and gives its id; ids count up from 1.
    pub fn submit(&self, key: &[u8; KEY_BYTES], value: &[u8]) -> Result<u64> {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let mut heard = None;
        loop {
            let name = Key::new(Bytes::copy_from_slice(key))?;
            let record = Record::live(self.version(id), Bytes::copy_from_slice(value));
            match (self.store.apply(id, name, record), heard) {
                (Ok(()), _) => return Ok(id),
                (Err(LogError::Busy { .. }), None) => heard = Some(self.news.heard()),
                (Err(LogError::Busy { .. }), Some(rung)) => {
                    self.news.wait(rung);
                    heard = None;
                }
                (Err(error), _) => return Err(error.into()),
            }
        }
    }

    /// Looks at what has completed, and says how many puts have in all. `each` hears their ids.
    pub fn collect(&self, mut each: impl FnMut(u64)) -> Result<u64> {
        let mut done = lock(&self.done);
        let Done { taken, completions } = &mut *done;
        self.store.take_completions(completions);
        for completion in completions.drain(..) {
            completion.outcome.context("a put failed")?;
            each(completion.id);
            *taken += 1;
        }
        Ok(*taken)
    }

    /// Waits until no more than `in_flight` of the puts submitted so far are under way. `each` hears of those that have
    /// completed.
    pub fn settle_to(&self, in_flight: u64, mut each: impl FnMut(u64)) -> Result<()> {
        let submitted = self.next.load(Ordering::Relaxed);
        loop {
            let heard = self.news.heard();
            if self.collect(&mut each)? + in_flight >= submitted {
                return Ok(());
            }
            self.news.wait(heard);
        }
    }

    fn version(&self, id: u64) -> Version {
        // Behind all that an earlier process wrote into the same folder.
        static BEGAN: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
        let began = *BEGAN.get_or_init(|| Timestamp::from_wall_ms(wall_ms()).bits());
        Version { timestamp: Timestamp::from_bits(began + id), writer: self.writer }
    }
}

impl Engine for Quorate {
    const NAME: &'static str = "Quorate";
    const SETTING: &'static str = "SyncPolicy::Os: each put completes when it was written \
        to the operating system; submitted without waiting, the clock stops when all have completed; \
        cache 1 GiB";

    fn open(dir: &Path) -> Result<Self> {
        let options = StoreOptions { cache_bytes: CACHE_BYTES as u64, ..Self::options() };
        Ok(Self::open_with(dir, &options)?.0)
    }

    fn put(&self, key: &[u8; KEY_BYTES], value: &[u8]) -> Result<()> {
        if self.submit(key, value)? % COLLECTED_EVERY == 0 {
            self.collect(|_| {})?;
        }
        Ok(())
    }

    fn put_awaited(&self, key: &[u8; KEY_BYTES], value: &[u8]) -> Result<()> {
        self.submit(key, value)?;
        self.settle()
    }

    fn put_batch(&self, batch: &[Pair]) -> Result<()> {
        batch.iter().try_for_each(|(key, value)| self.put(key, value))
    }

    fn settle(&self) -> Result<()> {
        self.settle_to(0, |_| {})
    }

    fn get<T>(&self, key: &[u8; KEY_BYTES], look: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        let key = Key::new(Bytes::copy_from_slice(key))?;
        let record = self.store.get(&key).answer()?;
        Ok(record.and_then(|record| record.value).map(|value| look(&value)))
    }
}

/// What a read of the store answers.
trait Answer {
    fn answer(self) -> Result<Option<Record>>;
}

impl Answer for Option<Record> {
    fn answer(self) -> Result<Option<Record>> {
        Ok(self)
    }
}

impl<E: std::error::Error + Send + Sync + 'static> Answer for Result<Option<Record>, E> {
    fn answer(self) -> Result<Option<Record>> {
        Ok(self?)
    }
}

impl News {
    fn ring(&self) {
        *lock(&self.rung) += 1;
        self.bell.notify_all();
    }

    /// How often it was rung; what is looked at after this is not missed by a [`Self::wait`] with it.
    fn heard(&self) -> u64 {
        *lock(&self.rung)
    }

    fn wait(&self, heard: u64) {
        let rung = lock(&self.rung);
        let _rung = self.bell.wait_while(rung, |rung| *rung == heard);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::disallowed_methods, reason = "versions need a clock")]
fn wall_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
