use std::path::Path;

use anyhow::Result;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use super::{CACHE_BYTES, Engine, Pair};
use crate::workload::KEY_BYTES;

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("items");

pub struct Redb(Database);

impl Redb {
    fn commit(
        &self,
        pairs: impl Iterator<Item = (impl AsRef<[u8]>, impl AsRef<[u8]>)>,
    ) -> Result<()> {
        let mut transaction = self.0.begin_write()?;
        transaction.set_durability(Durability::None)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for (key, value) in pairs {
                table.insert(key.as_ref(), value.as_ref())?;
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Engine for Redb {
    const NAME: &'static str = "redb 4.6";
    const SETTING: &'static str = "Durability::None, one transaction a put: in the memory of \
        the process until a durable commit; cache 1 GiB; gets in one transaction, mixed ones each in their own";

    fn open(dir: &Path) -> Result<Self> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(dir.join("redb"))?;
        let store = Self(database);
        store.commit(std::iter::empty::<(&[u8], &[u8])>())?;
        Ok(store)
    }

    fn put(&self, key: &[u8; KEY_BYTES], value: &[u8]) -> Result<()> {
        self.commit(std::iter::once((key, value)))
    }

    fn put_batch(&self, batch: &[Pair]) -> Result<()> {
        self.commit(batch.iter().map(|(key, value)| (key, value)))
    }

    fn get<T>(&self, key: &[u8; KEY_BYTES], look: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        Ok(table.get(key.as_slice())?.map(|value| look(value.value())))
    }

    fn count(
        &self,
        keys: impl Iterator<Item = (u64, [u8; KEY_BYTES])>,
        look: impl Fn(u64, &[u8]) -> bool,
    ) -> Result<u64> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let mut liked = 0;
        for (number, key) in keys {
            let value = table.get(key.as_slice())?;
            liked += u64::from(value.is_some_and(|value| look(number, value.value())));
        }
        Ok(liked)
    }
}
