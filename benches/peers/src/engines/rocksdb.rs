use std::path::Path;

use anyhow::Result;
use rocksdb::{DB, DBCompressionType, Options, WriteBatch};

use super::{CACHE_BYTES, Engine, Pair};
use crate::workload::KEY_BYTES;

pub struct RocksDb(DB);

impl Engine for RocksDb {
    const NAME: &'static str = "RocksDB";
    const SETTING: &'static str = "write-ahead log to the operating system before a put \
        returns (its default); no compression; optimized for point lookups, cache 1 GiB";

    fn open(dir: &Path) -> Result<Self> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_compression_type(DBCompressionType::None);
        options.increase_parallelism(2);
        options.optimize_for_point_lookup((CACHE_BYTES >> 20) as u64);
        Ok(Self(DB::open(&options, dir.join("rocksdb"))?))
    }

    fn put(&self, key: &[u8; KEY_BYTES], value: &[u8]) -> Result<()> {
        Ok(self.0.put(key, value)?)
    }

    fn put_batch(&self, pairs: &[Pair]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in pairs {
            batch.put(key, value);
        }
        Ok(self.0.write(batch)?)
    }

    fn get<T>(&self, key: &[u8; KEY_BYTES], look: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self.0.get_pinned(key)?.map(|value| look(&value)))
    }
}
