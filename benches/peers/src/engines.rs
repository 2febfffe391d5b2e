//! The stores, each behind the same few operations.

mod fjall;
mod quorate;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod sled;

use std::path::Path;

use anyhow::Result;

pub use self::fjall::Fjall;
pub use self::quorate::Quorate;
pub use self::redb::Redb;
#[cfg(feature = "rocksdb")]
pub use self::rocksdb::RocksDb;
pub use self::sled::Sled;
use crate::workload::KEY_BYTES;

/// What a store may keep in memory of what is in its files: more than a million keys take.
const CACHE_BYTES: usize = 1 << 30;

pub type Pair = ([u8; KEY_BYTES], Vec<u8>);

/// A store as the workloads use it. Two threads may at once.
pub trait Engine: Sync + Sized {
    const NAME: &'static str;
    /// How it is set up, and what a put means then.
    const SETTING: &'static str;

    fn open(dir: &Path) -> Result<Self>;

    /// Puts, each by itself; one that cannot be told to have worked yet counts only once [`Self::settle`] returns.
    fn put(&self, key: &[u8; KEY_BYTES], value: &[u8]) -> Result<()>;

    /// Puts, and returns when it has worked.
    fn put_awaited(&self, key: &[u8; KEY_BYTES], value: &[u8]) -> Result<()> {
        self.put(key, value)
    }

    /// Puts all of these at once, if the store knows a way.
    fn put_batch(&self, batch: &[Pair]) -> Result<()>;

    /// Waits until every put so far has worked.
    fn settle(&self) -> Result<()> {
        Ok(())
    }

    /// What `look` makes of the value, if there is one.
    fn get<T>(&self, key: &[u8; KEY_BYTES], look: impl FnOnce(&[u8]) -> T) -> Result<Option<T>>;

    /// How many of `keys` have a value that `look` likes. One view of the store may serve all of them.
    fn count(
        &self,
        keys: impl Iterator<Item = (u64, [u8; KEY_BYTES])>,
        look: impl Fn(u64, &[u8]) -> bool,
    ) -> Result<u64> {
        let mut liked = 0;
        for (number, key) in keys {
            liked += u64::from(self.get(&key, |value| look(number, value))? == Some(true));
        }
        Ok(liked)
    }
}
