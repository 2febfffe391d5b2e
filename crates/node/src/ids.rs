use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// What waits under ids that this node has given out itself.
///
/// Nobody else chooses the ids, so the hash need not resist anybody. It has no seed, so equal runs
/// stay equal; but the order of iteration means nothing, and whoever goes through all has to sort.
pub(crate) type IdMap<V> = HashMap<u64, V, BuildHasherDefault<IdHasher>>;

/// Fibonacci hashing (Knuth, The Art of Computer Programming 3, §6.4): consecutive ids fall far
/// apart.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("ids are u64");
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
