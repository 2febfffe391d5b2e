//! Everything around a book: a durable queue, targets that take records, and what was promised.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::queue::Queue;
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
    queue: Queue,
    flights: BTreeMap<u64, (NodeId, Vec<(Key, Record)>)>, // answers that may still come
    taken: BTreeMap<Place, Record>,
    asked: BTreeMap<u64, Hint>, // offers that are not answered yet
    waiting: Vec<(u64, Hint)>,  // owed offers that are acknowledged after a request
    acknowledged: Vec<Hint>,    // owed
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
            queue: Queue::default(),
            asked: BTreeMap::new(),
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
        let offer = self.book.offer(hint.clone(), self.now);
        self.asked.insert(offer, hint);
    }

    fn answered(&mut self, offer: u64, answer: Offer) {
        let hint = self.asked.remove(&offer).expect("an offer is answered once");
        let after = match answer {
            Offer::Keep { id } => Some(id),
            Offer::AlreadyHeld { after } => after,
            Offer::Superseded { by, after } => {
                assert!(by > hint.record.version);
                after
            }
            Offer::Refused(_) => return,
        };
        if hint.kind == HintKind::Owed {
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
                        self.queue.add(hint);
                    }
                    for (_, hint) in self.waiting.extract_if(.., |(after, _)| *after == id) {
                        self.acknowledged.extend(works.then_some(hint));
                    }
                    self.book.persisted(id, works, self.now);
                    return true;
                }
                HintAction::Forget { target, key, version } => {
                    self.queue.remove(target, &key, version);
                }
                other => {
                    let other = self.queue.serve(other, &mut self.book, self.now);
                    assert_eq!(other, None, "not for the queue");
                    self.drain();
                }
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
                    let size = |(key, record): &(Key, Record)| {
                        let (key, record, kind) = (key.clone(), record.clone(), HintKind::Owed);
                        hint_bytes(&Hint { target, key, record, kind, added_ms: 0 })
                    };
                    let bytes: u64 = hints.iter().map(size).sum();
                    assert!(hints.len() == 1 || bytes <= MAX_BATCH_BYTES);
                    let keys: BTreeSet<&Key> = hints.iter().map(|(key, _)| key).collect();
                    assert_eq!(keys.len(), hints.len(), "a key twice in a batch");
                    self.flights.insert(batch, (target, hints));
                }
                HintAction::Dropped { .. } => self.dropped += 1,
                HintAction::Answer { offer, answer } => self.answered(offer, answer),
                request => self.requests.push_back(request),
            }
        }
    }

    /// What holds at all times.
    pub(crate) fn check(&self) {
        let oldest = self.book.oldest_version();
        let is_leaving = |hint: &Hint| {
            self.requests.iter().any(|request| match request {
                HintAction::Forget { target, key, version } => {
                    (*target, key) == (hint.target, &hint.key) && hint.record.version <= *version
                }
                _ => false,
            })
        };
        for hint in self.queue.hints().into_iter().filter(|hint| !is_leaving(hint)) {
            assert!(oldest.is_some_and(|oldest| oldest <= hint.record.version.timestamp));
        }
        for promise in &self.acknowledged {
            let place = (promise.target, promise.key.clone());
            let delivered = self.taken.get(&place).is_some_and(|r| *r >= promise.record);
            let kept = self
                .queue
                .get(promise.target, &promise.key)
                .is_some_and(|hint| hint.kind == HintKind::Owed && hint.record >= promise.record);
            assert!(delivered || kept, "lost: {promise:?}");
        }

        let stats = self.book.stats(self.wall_ms);
        assert!(stats.bytes + stats.pending_bytes <= self.options.max_bytes);
        assert_eq!(stats.expired + stats.evicted, self.dropped);
        let targets = || self.book.targets(self.wall_ms);
        assert_eq!(stats.count, targets().map(|target| target.count).sum::<u64>());
        assert_eq!(stats.bytes, targets().map(|target| target.bytes).sum::<u64>());
        for target in targets() {
            assert!((1..=MAX_WINDOW).contains(&target.window));
        }
    }

    /// With nothing on its way, the book counts what the queue holds, so a restart changes nothing.
    pub(crate) fn check_restart(&mut self) {
        while self.persist(true) {
            self.drain();
        }
        self.drain();
        assert!(self.asked.is_empty(), "not answered: {:?}", self.asked);
        let held = self.queue.summary();
        let mut restarted = HintBook::new(self.options);
        restarted.restore(&held, self.now, self.wall_ms);
        for book in [&self.book, &restarted] {
            let targets = book.targets(self.wall_ms).filter(|target| target.count > 0);
            let counts: Vec<_> = targets.map(|it| (it.target, it.count, it.bytes)).collect();
            let expected = held.targets.iter().map(|(&target, it)| (target, it.count, it.bytes));
            assert!(expected.eq(counts));
            assert_eq!(book.stats(0).pending_bytes, 0);
        }
        assert_eq!(restarted.poll_action(), None);
    }

    /// Lets every target but `dead` take all that it gets, which is up and never answers.
    pub(crate) fn deliver_all_but(&mut self, dead: NodeId) {
        for _ in 0..100 {
            self.drain();
            while self.persist(true) {}
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
