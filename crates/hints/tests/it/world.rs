//! Everything around a book: a durable queue, targets that take records, and what was promised.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use quorate_hints::{
    Handed, HintAction, HintBook, HintOptions, MAX_BATCH_BYTES, MAX_WINDOW, Offer, hint_bytes,
};
use quorate_record::{Hint, HintKind, Key, NodeId, Record, Timestamp, Version, Writer};

type Place = (NodeId, Key);

pub(crate) struct World {
    pub(crate) book: HintBook,
    pub(crate) now: Instant,
    pub(crate) wall_ms: u64,
    options: HintOptions,
    up: BTreeSet<NodeId>,
    requests: VecDeque<HintAction>, // to the durable queue, carried out in order
    queue: BTreeMap<Place, Hint>,
    flights: BTreeMap<u64, (NodeId, Vec<(Key, Record)>)>, // answers that may still come
    taken: BTreeMap<Place, Record>,
    waiting: Vec<(u64, Hint)>, // owed offers that are acknowledged after a request
    acknowledged: Vec<Hint>,   // owed
    dropped: u64,
}

#[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of a test")]
fn origin() -> Instant {
    Instant::now()
}

pub(crate) fn node(number: u8) -> NodeId {
    NodeId::new(&format!("n{number}")).expect("a good id")
}

fn version(number: u64) -> Version {
    let writer = Writer { node: node(0), incarnation: 1 };
    Version { timestamp: Timestamp::from_bits(number), writer }
}

impl World {
    pub(crate) fn new(max_bytes: u64, ttl: Duration) -> Self {
        let options = HintOptions { max_bytes, ttl };
        Self {
            book: HintBook::new(options),
            now: origin(),
            wall_ms: 1_000_000,
            options,
            up: BTreeSet::new(),
            requests: VecDeque::new(),
            queue: BTreeMap::new(),
            flights: BTreeMap::new(),
            taken: BTreeMap::new(),
            waiting: Vec::new(),
            acknowledged: Vec::new(),
            dropped: 0,
        }
    }

    pub(crate) fn offer(&mut self, target: u8, key: u8, number: u64, kind: HintKind) {
        let hint = Hint {
            target: node(target),
            key: Key::new(vec![key]).expect("one byte"),
            // The same version always carries the same value.
            record: Record::live(
                version(number),
                vec![0; usize::try_from(number * 7).expect("a small number")],
            ),
            kind,
            added_ms: self.wall_ms,
        };
        let after = match self.book.offer(hint.clone(), self.now) {
            Offer::Keep { id } => Some(id),
            Offer::AlreadyHeld { after } => after,
            Offer::Superseded { by, after } => {
                assert!(by > hint.record.version);
                after
            }
            Offer::Refused(_) => return,
        };
        if kind == HintKind::Owed {
            match after {
                Some(id) => self.waiting.push((id, hint)),
                None => self.acknowledged.push(hint),
            }
        }
    }

    /// Carries out the oldest request to the queue that wants a report; false if there is none.
    pub(crate) fn persist(&mut self, works: bool) -> bool {
        while let Some(request) = self.requests.pop_front() {
            match request {
                HintAction::Persist { id, hint } => {
                    if works {
                        let held = self.queue.entry((hint.target, hint.key.clone()));
                        let held = held.or_insert(hint.clone());
                        if held.record.version <= hint.record.version {
                            *held = hint;
                        }
                    }
                    for (_, hint) in self.waiting.extract_if(.., |(after, _)| *after == id) {
                        self.acknowledged.extend(works.then_some(hint));
                    }
                    self.book.persisted(id, works, self.now);
                    return true;
                }
                HintAction::Forget { target, key, version } => {
                    let place = (target, key);
                    if self.queue.get(&place).is_some_and(|held| held.record.version <= version) {
                        self.queue.remove(&place);
                    }
                }
                other => panic!("not for the queue: {other:?}"),
            }
        }
        false
    }

    /// Ends the oldest or the newest delivery. `taken` says what becomes of a record by its place.
    pub(crate) fn answer(&mut self, oldest: bool, taken: Option<&dyn Fn(usize) -> bool>) {
        let flight = if oldest { self.flights.pop_first() } else { self.flights.pop_last() };
        let Some((batch, (target, sent))) = flight else { return };
        let Some(taken) = taken else {
            return self.book.delivery_failed(batch, "lost", self.now);
        };
        let outcomes: Vec<Handed> = (0..sent.len())
            .map(|i| if taken(i) { Handed::Taken } else { Handed::Refused })
            .collect();
        for ((key, record), outcome) in sent.into_iter().zip(&outcomes) {
            if *outcome == Handed::Taken {
                let held = self.taken.entry((target, key)).or_insert(record.clone());
                *held = record.max(held.clone());
            }
        }
        self.book.delivered(batch, &outcomes, self.now);
    }

    pub(crate) fn set_up(&mut self, target: u8, up: bool) {
        if up {
            self.up.insert(node(target));
            self.book.target_up(node(target), self.now);
        } else {
            self.up.remove(&node(target));
            self.book.target_down(node(target));
        }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.wall_ms += u64::try_from(time.as_millis()).expect("a short time");
        self.book.tick(self.now, self.wall_ms);
    }

    /// Takes in what the book wants, and checks each action by itself.
    pub(crate) fn drain(&mut self) {
        let windows: BTreeMap<NodeId, usize> =
            self.book.targets(0).map(|stats| (stats.target, stats.window)).collect();
        while let Some(action) = self.book.poll_action() {
            match action {
                HintAction::Deliver { target, batch, hints } => {
                    assert!(self.up.contains(&target), "delivered to a target that is down");
                    assert!((1..=windows[&target]).contains(&hints.len()));
                    let bytes: u64 = hints.iter().map(|(key, r)| hint_bytes(key, r)).sum();
                    assert!(hints.len() == 1 || bytes <= MAX_BATCH_BYTES);
                    let keys: BTreeSet<&Key> = hints.iter().map(|(key, _)| key).collect();
                    assert_eq!(keys.len(), hints.len(), "a key twice in a batch");
                    self.flights.insert(batch, (target, hints));
                }
                HintAction::Dropped { .. } => self.dropped += 1,
                request => self.requests.push_back(request),
            }
        }
    }

    /// What holds at all times.
    pub(crate) fn check(&self) {
        let held: BTreeMap<Place, Hint> =
            self.book.iter().map(|hint| ((hint.target, hint.key.clone()), hint)).collect();
        assert_eq!(self.book.iter().count(), held.len(), "two hints for a target and key");

        for promise in &self.acknowledged {
            let place = (promise.target, promise.key.clone());
            let delivered = self.taken.get(&place).is_some_and(|r| *r >= promise.record);
            for hints in [&held, &self.queue] {
                let kept = hints.get(&place).is_some_and(|hint| {
                    hint.kind == HintKind::Owed && hint.record >= promise.record
                });
                assert!(delivered || kept, "lost: {promise:?}");
            }
        }

        let stats = self.book.stats(self.wall_ms);
        assert!(stats.bytes + stats.pending_bytes <= self.options.max_bytes);
        assert_eq!(stats.expired + stats.evicted, self.dropped);
        let bytes = |hint: &Hint| hint_bytes(&hint.key, &hint.record);
        assert_eq!(stats.count, held.len() as u64);
        assert_eq!(stats.bytes, held.values().map(bytes).sum::<u64>());
        for target in self.book.targets(self.wall_ms) {
            let own = || held.values().filter(|hint| hint.target == target.target);
            assert_eq!(target.count, own().count() as u64);
            assert_eq!(target.bytes, own().map(bytes).sum::<u64>());
            assert!((1..=MAX_WINDOW).contains(&target.window));
        }
        for place in held.keys() {
            let greatest = held.values().filter(|h| h.key == place.1).map(|h| &h.record).max();
            assert_eq!(self.book.find(&place.1), greatest);
        }
    }

    /// With nothing on its way, the queue holds what the book holds, so a restart changes nothing.
    pub(crate) fn check_restart(&mut self) {
        while self.persist(true) {
            self.drain();
        }
        let queued: Vec<Hint> = self.queue.values().cloned().collect();
        assert_eq!(self.book.iter().collect::<Vec<_>>(), queued);
        let mut restarted = HintBook::new(self.options);
        restarted.restore(queued, self.now, self.wall_ms);
        assert_eq!(restarted.iter().collect::<Vec<_>>(), self.book.iter().collect::<Vec<_>>());
        assert_eq!(restarted.poll_action(), None);
    }

    /// Lets every target but `dead` take all that it gets, which is up and never answers.
    pub(crate) fn deliver_all_but(&mut self, dead: NodeId) {
        for _ in 0..100 {
            self.drain();
            self.flights.retain(|_, (target, _)| *target != dead);
            while !self.flights.is_empty() {
                self.answer(true, Some(&|_| true));
            }
            self.pass(Duration::from_secs(1));
        }
        let left: u64 =
            self.book.targets(0).filter(|stats| stats.target != dead).map(|s| s.count).sum();
        assert_eq!(left, 0, "a dead target kept others waiting");
    }
}
