use std::path::Path;

use anyhow::Result;
use sled::{Batch, Config, Db, Mode};

use super::{CACHE_BYTES, Engine, Pair};
use crate::workload::KEY_BYTES;

pub struct Sled(Db);

impl Engine for Sled {
    const NAME: &'static str = "sled 0.34";
    const SETTING: &'static str =
        "HighThroughput, written from its buffers every 500 ms (its default); cache 1 GiB";

    fn open(dir: &Path) -> Result<Self> {
        let config = Config::new().path(dir.join("sled")).mode(Mode::HighThroughput);
        Ok(Self(config.cache_capacity(CACHE_BYTES as u64).open()?))
    }

    fn put(&self, key: &[u8; KEY_BYTES], value: &[u8]) -> Result<()> {
        self.0.insert(key, value)?;
        Ok(())
    }

    fn put_batch(&self, pairs: &[Pair]) -> Result<()> {
        let mut batch = Batch::default();
        for (key, value) in pairs {
            batch.insert(key, value.as_slice());
        }
        Ok(self.0.apply_batch(batch)?)
    }

    fn get<T>(&self, key: &[u8; KEY_BYTES], look: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self.0.get(key)?.map(|value| look(&value)))
    }
}
