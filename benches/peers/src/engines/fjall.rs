use std::path::Path;

use anyhow::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions};

use super::{CACHE_BYTES, Engine, Pair};
use crate::workload::KEY_BYTES;

pub struct Fjall {
    database: Database,
    items: Keyspace,
}

impl Engine for Fjall {
    const NAME: &'static str = "fjall 3.1";
    const SETTING: &'static str = "to the operating system before a put returns (its \
        default); no compression; cache 1 GiB; expect_point_read_hits";

    fn open(dir: &Path) -> Result<Self> {
        let database =
            Database::builder(dir.join("fjall")).cache_size(CACHE_BYTES as u64).open()?;
        let options = || KeyspaceCreateOptions::default().expect_point_read_hits(true);
        let items = database.keyspace("items", options)?;
        Ok(Self { database, items })
    }

    fn put(&self, key: &[u8; KEY_BYTES], value: &[u8]) -> Result<()> {
        Ok(self.items.insert(key, value)?)
    }

    fn put_batch(&self, pairs: &[Pair]) -> Result<()> {
        let mut batch = self.database.batch();
        for (key, value) in pairs {
            batch.insert(&self.items, key, value.as_slice());
        }
        Ok(batch.commit()?)
    }

    fn get<T>(&self, key: &[u8; KEY_BYTES], look: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self.items.get(key)?.map(|value| look(&value)))
    }
}
