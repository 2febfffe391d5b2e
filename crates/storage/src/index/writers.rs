use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{self, AtomicU32};
use std::sync::{Mutex, OnceLock, PoisonError};

use quorate_record::Writer;

/// Most writers that a store tells apart.
const MAX_WRITERS: usize = 1 << 20;

/// Chunk `i` has room for so many writers, shifted by `i`.
const FIRST_CHUNK: usize = 64;
const CHUNKS: usize = 15;

const _: () = assert!(FIRST_CHUNK * ((1 << CHUNKS) - 1) >= MAX_WRITERS);

/// How many writers are found without a lock, as long as they do not fall into the same slot.
const RECENT: usize = 64;

/// A number for each writer, so that an entry needs not carry its name. They are never given up.
///
/// Looking up a number is a few loads, and so is the number of a writer that was asked for of late.
pub(crate) struct Writers {
    chunks: [OnceLock<Box<[OnceLock<Writer>]>>; CHUNKS],
    /// One more than the number of the last writer that fell into a slot; 0 if none did.
    recent: [AtomicU32; RECENT],
    ids: Mutex<BTreeMap<Writer, u32>>,
}

/// The number of a writer, in the [`Writers`] that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WriterId(u32);

/// No more writers can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are records of {MAX_WRITERS} different writers already")]
pub(crate) struct TooManyWriters;

impl Writers {
    pub(crate) fn new() -> Self {
        Self {
            chunks: [const { OnceLock::new() }; CHUNKS],
            recent: [const { AtomicU32::new(0) }; RECENT],
            ids: Mutex::new(BTreeMap::new()),
        }
    }

    /// The number of a writer, which gets one if it has none.
    ///
    /// # Errors
    /// [`TooManyWriters`] if it has none and there are as many as there can be.
    pub(crate) fn intern(&self, writer: &Writer) -> Result<WriterId, TooManyWriters> {
        let slot = &self.recent[slot(writer)];
        if let Some(id) = slot.load(atomic::Ordering::Acquire).checked_sub(1).map(WriterId)
            && self.get(id) == writer
        {
            return Ok(id);
        }
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let id = match ids.get(writer) {
            Some(&id) => id,
            None if ids.len() == MAX_WRITERS => return Err(TooManyWriters),
            None => {
                let id = u32::try_from(ids.len()).expect("fewer than the most there can be");
                let (chunk, at) = place(id);
                let room = || (0..FIRST_CHUNK << chunk).map(|_| OnceLock::new()).collect();
                let set = self.chunks[chunk].get_or_init(room)[at].set(*writer);
                set.expect("numbers are given out once, under the lock");
                ids.insert(*writer, id);
                id
            }
        };
        slot.store(id + 1, atomic::Ordering::Release);
        Ok(WriterId(id))
    }

    /// The writer of a number.
    ///
    /// # Panics
    /// If the number is of other [`Writers`].
    pub(crate) fn get(&self, WriterId(id): WriterId) -> &Writer {
        let (chunk, at) = place(id);
        let writer = self.chunks[chunk].get().and_then(|chunk| chunk[at].get());
        writer.expect("numbers are given out with their writer in place")
    }

    /// All writers, in the order of their numbers, which begin at 0 and have no gaps.
    pub(crate) fn all(&self) -> Vec<Writer> {
        let known = self.ids.lock().unwrap_or_else(PoisonError::into_inner).len();
        (0..u32::MAX).map(WriterId).take(known).map(|id| *self.get(id)).collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How two writers compare.
    pub(crate) fn order(&self, a: WriterId, b: WriterId) -> Ordering {
        if a == b { Ordering::Equal } else { self.get(a).cmp(self.get(b)) }
    }
}

impl WriterId {
    /// The number of the first writer that any [`Writers`] are asked for.
    pub(crate) const FIRST: Self = Self(0);

    /// The number itself.
    pub(crate) fn number(self) -> u32 {
        self.0
    }
}

/// Which chunk has this number, and where in it.
fn place(id: u32) -> (usize, usize) {
    let id = id as usize + FIRST_CHUNK;
    let chunk = id.ilog2() - FIRST_CHUNK.ilog2();
    (chunk as usize, id - (FIRST_CHUNK << chunk))
}

fn slot(writer: &Writer) -> usize {
    let mut fold = Fold(0);
    writer.hash(&mut fold);
    usize::try_from(fold.0 >> (u64::BITS - RECENT.ilog2())).expect("a few bits")
}

/// A hash of a few words, good enough to spread a handful of writers.
struct Fold(u64);

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.write_u64(u64::from_le_bytes(*word)));
        rest.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_usize(&mut self, _: usize) {} // a length that is always the same

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use quorate_record::NodeId;

    use super::*;

    fn writer(number: u64) -> Writer {
        Writer { node: NodeId::new(&format!("n{}", number % 7)).unwrap(), incarnation: number / 7 }
    }

    #[test]
    fn a_writer_keeps_its_number_and_no_other_has_it() {
        let writers = Writers::new();
        for number in 0..1_000 {
            let id = writers.intern(&writer(number)).unwrap();
            assert_eq!(u64::from(id.number()), number);
        }
        for number in (0..1_000).rev() {
            let id = writers.intern(&writer(number)).unwrap();
            assert_eq!((u64::from(id.number()), writers.get(id)), (number, &writer(number)));
        }
        assert_eq!(writers.all(), (0..1_000).map(writer).collect::<Vec<_>>());
    }

    #[test]
    fn chunks_have_a_place_for_every_number() {
        assert_eq!([0, 63, 64, 191, 192].map(place), [(0, 0), (0, 63), (1, 0), (1, 127), (2, 0)]);
        let last = u32::try_from(MAX_WRITERS - 1).unwrap();
        assert!(place(last).0 < CHUNKS);
    }

    #[test]
    fn there_is_a_most_and_those_that_are_known_stay_known() {
        let writers = Writers::new();
        (0..MAX_WRITERS as u64).for_each(|number| {
            writers.intern(&writer(number)).unwrap();
        });
        assert_eq!(writers.intern(&writer(MAX_WRITERS as u64)), Err(TooManyWriters));
        assert_eq!(writers.intern(&writer(5)).map(WriterId::number), Ok(5));
    }

    #[test]
    fn numbers_are_ordered_like_their_writers() {
        let writers = Writers::new();
        let [b, a] = [writer(1), writer(0)].map(|writer| writers.intern(&writer).unwrap());
        assert_eq!(writers.order(a, b), Ordering::Less);
        assert_eq!(writers.order(b, a), Ordering::Greater);
        assert_eq!(writers.order(b, b), Ordering::Equal);
    }

    #[test]
    fn threads_agree_on_the_numbers() {
        let writers = Writers::new();
        let intern = || (0..500).map(|number| writers.intern(&writer(number)).unwrap());
        let [a, b] = std::thread::scope(|scope| {
            [(); 2]
                .map(|()| scope.spawn(|| intern().collect::<Vec<_>>()))
                .map(|thread| thread.join().unwrap())
        });
        assert_eq!(a, b);
        assert_eq!(writers.all().len(), 500);
    }
}
