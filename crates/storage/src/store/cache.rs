//! Frames that were read of late, kept in memory as far as there is room.

use std::collections::{HashMap, VecDeque};
use std::num::Wrapping;

use crate::index::{BuildPositionHasher, Position};

/// What a frame takes up beside its bytes, about.
const OVERHEAD_BYTES: u64 = 128;

/// How many more than those that are kept the queue may have, beside as many again.
const SLACK: usize = 16;

/// The payloads of frames, by the positions of their records: of those that nobody has asked for, the one that came
/// first goes first (the clock algorithm).
///
/// Whoever has it keeps it in step with the index: what is in it is what the index names.
pub(super) struct Cache {
    max_bytes: u64,
    bytes: u64,
    frames: HashMap<Position, Cached, BuildPositionHasher>,
    /// Who came when, oldest first. Some have gone since, or come again: taking out what is written again shall cost
    /// no more than it must.
    queue: VecDeque<(Position, Ticket)>,
    next: Ticket,
}

struct Cached {
    payload: Box<[u8]>,
    ticket: Ticket,
    /// Whether it was asked for since it came or was last considered.
    is_used: bool,
}

/// Two that come within four billion have different ones.
type Ticket = Wrapping<u32>;

impl Cache {
    /// An empty one, for so many bytes in all.
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            bytes: 0,
            frames: HashMap::default(),
            queue: VecDeque::new(),
            next: Wrapping(0),
        }
    }

    /// Whether a frame with a payload of so many bytes would be kept.
    pub(super) fn takes(&self, payload_bytes: usize) -> bool {
        payload_bytes as u64 + OVERHEAD_BYTES <= self.max_bytes
    }

    pub(super) fn get(&mut self, position: Position) -> Option<&[u8]> {
        let cached = self.frames.get_mut(&position)?;
        cached.is_used = true;
        Some(&cached.payload)
    }

    /// Keeps a frame in place of what it has of its position, if it [takes](Self::takes) it.
    pub(super) fn insert(&mut self, position: Position, payload: &[u8]) {
        self.remove(position);
        if !self.takes(payload.len()) {
            return;
        }
        let bytes = payload.len() as u64 + OVERHEAD_BYTES;
        while self.bytes + bytes > self.max_bytes {
            self.evict();
        }
        self.bytes += bytes;
        let ticket = self.next;
        self.next += 1;
        self.frames.insert(position, Cached { payload: payload.into(), ticket, is_used: false });
        self.queue.push_back((position, ticket));
        if self.queue.len() > 2 * self.frames.len() + SLACK {
            let frames = &self.frames;
            self.queue.retain(|(position, ticket)| {
                frames.get(position).is_some_and(|cached| cached.ticket == *ticket)
            });
        }
    }

    /// Forgets the frame of a position.
    pub(super) fn remove(&mut self, position: Position) {
        if let Some(cached) = self.frames.remove(&position) {
            self.bytes -= cached.payload.len() as u64 + OVERHEAD_BYTES;
        }
    }

    /// Looks at the one that came first, which there must be, and forgets it unless it was asked for.
    fn evict(&mut self) {
        let (position, ticket) = self.queue.pop_front().expect("what is kept is in the queue");
        let Some(cached) = self.frames.get_mut(&position).filter(|it| it.ticket == ticket) else {
            return;
        };
        if std::mem::take(&mut cached.is_used) {
            self.queue.push_back((position, ticket));
        } else {
            self.remove(position);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn position(number: u64) -> Position {
        Position { token: number / 2, check: number }
    }

    #[test]
    fn what_is_asked_for_stays_and_what_is_not_goes() {
        let mut cache = Cache::new(4 * (OVERHEAD_BYTES + 8));
        for number in 0..100 {
            cache.insert(position(number), &number.to_le_bytes());
            assert!(cache.get(position(0)).is_some(), "asked for at every step");
        }
        assert_eq!(cache.get(position(99)), Some(&99_u64.to_le_bytes()[..]));
        assert_eq!(cache.get(position(50)), None);
    }

    #[test]
    fn a_frame_that_does_not_fit_is_not_kept() {
        let mut cache = Cache::new(OVERHEAD_BYTES + 8);
        cache.insert(position(1), &[0; 8]);
        cache.insert(position(2), &[0; 9]);
        assert_eq!(cache.get(position(2)), None);
        assert!(cache.get(position(1)).is_some());
        let mut none = Cache::new(0);
        none.insert(position(1), &[]);
        assert_eq!(none.get(position(1)), None);
    }

    proptest! {
        #[test]
        fn it_has_what_was_put_in_last_or_nothing_and_keeps_its_bound(
            steps in prop::collection::vec((0_u8..3, 0_u64..30, 0_usize..200), 0..400),
        ) {
            let mut cache = Cache::new(1000);
            let mut put: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
            for (step, number, len) in steps {
                match step {
                    0 => {
                        let payload = vec![u8::try_from(len).unwrap(); len];
                        cache.insert(position(number), &payload);
                        put.insert(number, payload);
                    }
                    1 => {
                        cache.remove(position(number));
                        put.remove(&number);
                    }
                    _ => {
                        if let Some(payload) = cache.get(position(number)) {
                            prop_assert_eq!(Some(payload), put.get(&number).map(|it| &it[..]));
                        }
                    }
                }
                let held: u64 = cache.frames.values().map(|it| it.payload.len() as u64 + OVERHEAD_BYTES).sum();
                prop_assert_eq!(held, cache.bytes);
                prop_assert!(held <= 1000);
                prop_assert!(cache.queue.len() <= 2 * 30 + SLACK);
                prop_assert!(cache.frames.iter().all(|(position, it)| cache.queue.contains(&(*position, it.ticket))));
            }
        }
    }
}
