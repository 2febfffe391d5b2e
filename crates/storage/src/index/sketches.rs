use quorate_record::{Sketch, Symbol};

use super::{Entry, Writers};

/// The sketches of the buckets of a shard, each kept up to date; or none of them.
///
/// Made one by one as records come, so that a small store has few.
#[derive(Default)]
pub(crate) struct Sketches {
    cells: usize,
    buckets: Vec<Option<Box<Sketch>>>,
}

impl Sketches {
    /// Of this many cells each; of none, they are not kept.
    pub(crate) fn new(cells: usize, buckets: usize) -> Self {
        let buckets = if cells > 0 { vec![None; buckets] } else { Vec::new() };
        Self { cells, buckets }
    }

    /// A record that can be read has come.
    pub(crate) fn add(&mut self, bucket: usize, entry: &Entry, digest_hash: u64) {
        if let Some(sketch) = self.buckets.get_mut(bucket) {
            let sketch = sketch.get_or_insert_with(|| Box::new(Sketch::new(self.cells)));
            sketch.add(&symbol(entry, digest_hash));
        }
    }

    /// One that was added has gone.
    pub(crate) fn remove(&mut self, bucket: usize, entry: &Entry, digest_hash: u64) {
        if let Some(Some(sketch)) = self.buckets.get_mut(bucket) {
            sketch.remove(&symbol(entry, digest_hash));
        }
    }

    /// Adds what is in a bucket to `sum`; `false` if it is not kept in as many cells.
    pub(crate) fn add_to(&self, sum: &mut Sketch, bucket: usize) -> bool {
        let is_kept = !self.buckets.is_empty() && self.cells >= sum.cells().len();
        if is_kept && let Some(sketch) = &self.buckets[bucket] {
            sum.combine(sketch);
        }
        is_kept
    }
}

/// What a record adds to a sketch.
pub(crate) fn symbol(entry: &Entry, digest_hash: u64) -> Symbol {
    let timestamp = entry.timestamp().bits();
    Symbol::hashed(entry.token(), timestamp, digest_hash, entry.is_tombstone())
}

/// Adds records that can be read to `sum`, one by one.
pub(crate) fn scan<'a>(
    sum: &mut Sketch,
    entries: impl Iterator<Item = &'a Entry>,
    writers: &Writers,
) {
    entries
        .filter(|entry| !entry.is_damaged())
        .for_each(|entry| sum.add(&symbol(entry, entry.digest_hash(writers))));
}
