//! What a book does, step by step.

use std::time::{Duration, Instant};

use quorate_hints::HintAction::{Answer, Deliver, Dropped, Forget, Persist};
use quorate_hints::{
    DropReason, GENTLE_WINDOW, Handed, HintAction, HintBook, HintOptions, HintStats, Offer,
    Refusal, hint_bytes,
};
use quorate_record::{Hint, HintKind, HintsFound, Key, NodeId, Record, Timestamp, Version, Writer};

use crate::queue::Queue;

const TTL: Duration = Duration::from_secs(60);

#[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of a test")]
fn origin() -> Instant {
    Instant::now()
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a good id")
}

fn key(name: &str) -> Key {
    Key::new(name.to_owned()).expect("a good key")
}

fn version(ms: u64) -> Version {
    let writer = Writer { node: node("n1"), incarnation: 1 };
    Version { timestamp: Timestamp::from_wall_ms(ms), writer }
}

fn hint(kind: HintKind, target: &str, name: &str, ms: u64) -> Hint {
    let record = Record::live(version(ms), "value");
    Hint { target: node(target), key: key(name), record, kind, added_ms: ms }
}

fn owed(target: &str, name: &str, ms: u64) -> Hint {
    hint(HintKind::Owed, target, name, ms)
}

fn courtesy(target: &str, name: &str, ms: u64) -> Hint {
    hint(HintKind::Courtesy, target, name, ms)
}

fn forget(target: &str, name: &str, ms: u64) -> HintAction {
    Forget { target: node(target), key: key(name), version: version(ms) }
}

fn dropped(target: &str, name: &str, why: DropReason) -> HintAction {
    Dropped { target: node(target), key: key(name), why }
}

/// A book and its queue, which looks up and reads at once, and makes durable when told so.
struct Desk {
    book: HintBook,
    queue: Queue,
    now: Instant,
    persisting: Vec<(u64, Hint)>,
    answers: Vec<(u64, Offer)>,
    actions: Vec<HintAction>,
}

impl Desk {
    fn new(options: HintOptions) -> Self {
        Self::holding(options, [])
    }

    fn holding(options: HintOptions, hints: impl IntoIterator<Item = Hint>) -> Self {
        let (queue, now) = (Queue::holding(hints), origin());
        let mut book = HintBook::new(options);
        book.restore(&queue.summary(), now, 0);
        let (persisting, answers, actions) = (Vec::new(), Vec::new(), Vec::new());
        let mut desk = Self { book, queue, now, persisting, answers, actions };
        desk.serve();
        desk
    }

    fn serve(&mut self) {
        while let Some(action) = self.book.poll_action() {
            let Some(action) = self.queue.serve(action, &mut self.book, self.now) else { continue };
            match action {
                Answer { offer, answer } => {
                    self.answers.push((offer, answer));
                    continue;
                }
                Persist { id, ref hint } => self.persisting.push((id, hint.clone())),
                Forget { target, ref key, version } => self.queue.remove(target, key, version),
                _ => {}
            }
            self.actions.push(action);
        }
    }

    /// Offers a hint and returns the answer.
    fn offer(&mut self, hint: Hint) -> Offer {
        let offer = self.book.offer(hint, self.now);
        self.serve();
        let [(answered, answer)] = self.answers[..] else { panic!("{:?}", self.answers) };
        assert_eq!(answered, offer);
        self.answers.clear();
        answer
    }

    /// Reports of the oldest hint on its way.
    fn persist(&mut self, works: bool) {
        let (id, hint) = self.persisting.remove(0);
        if works {
            self.queue.add(hint);
        }
        self.book.persisted(id, works, self.now);
        self.serve();
    }

    /// Offers hints and makes them durable.
    fn keep(&mut self, hints: impl IntoIterator<Item = Hint>) {
        for hint in hints {
            let Offer::Keep { .. } = self.offer(hint) else { panic!("not kept") };
            self.persist(true);
        }
    }

    fn pass(&mut self, time: Duration, wall_ms: u64) {
        self.now += time;
        self.book.tick(self.now, wall_ms);
        self.serve();
    }

    fn up(&mut self, target: &str) {
        self.book.target_up(node(target), self.now);
        self.serve();
    }

    fn delivered(&mut self, batch: u64, outcomes: &[Handed]) {
        self.book.delivered(batch, outcomes, self.now);
        self.serve();
    }

    /// What it asked for since the last call, but for what was looked up, read and answered.
    fn actions(&mut self) -> Vec<HintAction> {
        self.serve();
        std::mem::take(&mut self.actions)
    }

    /// The batch to deliver that comes next, and the keys in it.
    fn batch(&mut self) -> Option<(NodeId, u64, Vec<Key>)> {
        self.actions().into_iter().find_map(|action| match action {
            Deliver { target, batch, hints } => {
                Some((target, batch, hints.into_iter().map(|(key, _)| key).collect()))
            }
            _ => None,
        })
    }

    fn held(&self) -> Vec<Hint> {
        self.queue.hints()
    }
}

/// Room for so many of the hints made above.
fn room(hints: u64) -> HintOptions {
    HintOptions { max_bytes: hints * hint_bytes(&owed("n2", "a", 0)), ttl: TTL }
}

fn desk(hints: u64) -> Desk {
    Desk::new(room(hints))
}

#[test]
fn a_hint_counts_once_it_is_durable() {
    let mut desk = desk(9);
    let hint = owed("n2", "a", 1);
    let Offer::Keep { id } = desk.offer(hint.clone()) else { panic!("nothing is held") };
    assert_eq!(desk.actions(), [Persist { id, hint }]);
    let stats = desk.book.stats(1);
    assert_eq!((stats.count, stats.pending_bytes), (0, hint_bytes(&owed("n2", "a", 1))));
    desk.persist(true);
    assert_eq!((desk.book.stats(1).count, desk.book.stats(1).pending_bytes), (1, 0));
}

#[test]
fn a_hint_that_could_not_be_made_durable_leaves_nothing() {
    let mut desk = desk(9);
    desk.offer(owed("n2", "a", 1));
    desk.persist(false);
    assert_eq!(desk.book.stats(1), HintStats::default());
    assert_eq!(desk.book.oldest_version(), None);
    assert!(matches!(desk.offer(owed("n2", "a", 1)), Offer::Keep { .. }));
}

#[test]
fn the_same_hint_again_waits_for_the_first() {
    let mut desk = desk(9);
    let Offer::Keep { id } = desk.offer(owed("n2", "a", 1)) else { panic!("nothing is held") };
    assert_eq!(desk.offer(owed("n2", "a", 1)), Offer::AlreadyHeld { after: Some(id) });
    desk.persist(true);
    assert_eq!(desk.offer(owed("n2", "a", 1)), Offer::AlreadyHeld { after: None });
}

#[test]
fn offers_for_a_pair_that_is_being_looked_up_are_answered_in_their_order() {
    let now = origin();
    let mut book = HintBook::new(room(9));
    let offers = [3, 3, 1, 5].map(|ms| book.offer(owed("n2", "a", ms), now));
    let Some(HintAction::LookUp { id, .. }) = book.poll_action() else { panic!("it is new") };
    assert_eq!(book.poll_action(), None);
    book.looked_up(id, Ok(Some(owed("n2", "a", 2))));
    let answers: Vec<(u64, Offer)> = std::iter::from_fn(|| book.poll_action())
        .filter_map(|action| match action {
            Answer { offer, answer } => Some((offer, answer)),
            _ => None,
        })
        .collect();
    let Offer::Keep { id: first } = answers[0].1 else { panic!("{answers:?}") };
    let Offer::Keep { .. } = answers[3].1 else { panic!("{answers:?}") };
    let held = Offer::AlreadyHeld { after: Some(first) };
    assert_eq!(answers[1].1, held);
    assert_eq!(answers[2].1, Offer::Superseded { by: version(2), after: None });
    assert!(answers.iter().map(|(offer, _)| *offer).eq(offers));
}

#[test]
fn what_cannot_be_looked_up_is_refused() {
    let now = origin();
    let mut book = HintBook::new(room(9));
    let offer = book.offer(owed("n2", "a", 1), now);
    let Some(HintAction::LookUp { id, .. }) = book.poll_action() else { panic!("it is new") };
    book.looked_up(id, Err(()));
    let answer = Offer::Refused(Refusal::Unreadable);
    assert_eq!(book.poll_action(), Some(Answer { offer, answer }));
    assert_eq!((book.poll_action(), book.oldest_version()), (None, None));
}

#[test]
fn an_older_hint_is_superseded_by_the_one_held() {
    let mut desk = desk(9);
    let Offer::Keep { id } = desk.offer(owed("n2", "a", 5)) else { panic!("nothing is held") };
    let superseded = |after| Offer::Superseded { by: version(5), after };
    assert_eq!(desk.offer(owed("n2", "a", 1)), superseded(Some(id)));
    desk.persist(true);
    assert_eq!(desk.offer(owed("n2", "a", 1)), superseded(None));
    assert_eq!(desk.offer(courtesy("n2", "a", 1)), superseded(None));
}

#[test]
fn a_newer_hint_takes_the_place_of_the_one_held_once_it_is_durable() {
    let mut desk = desk(9);
    desk.keep([owed("n2", "a", 1)]);
    assert!(matches!(desk.offer(owed("n2", "a", 5)), Offer::Keep { .. }));
    assert_eq!(desk.book.stats(0).count, 1);
    desk.persist(true);
    assert_eq!((desk.held(), desk.book.stats(0).count), (vec![owed("n2", "a", 5)], 1));
}

#[test]
fn a_courtesy_that_replaces_an_owed_hint_is_owed() {
    let mut desk = desk(9);
    desk.keep([owed("n2", "a", 1), courtesy("n2", "a", 5)]);
    desk.pass(TTL, 1_000_000);
    assert_eq!(desk.held(), [owed("n2", "a", 5)]);
}

#[test]
fn a_courtesy_that_supersedes_an_owed_hint_becomes_owed_before_that_is_acknowledged() {
    let mut desk = desk(9);
    desk.keep([courtesy("n2", "a", 5)]);
    desk.actions();
    let Offer::Superseded { by, after: Some(id) } = desk.offer(owed("n2", "a", 1)) else {
        panic!("a greater one is held");
    };
    assert_eq!(by, version(5));
    assert_eq!(desk.actions(), [Persist { id, hint: owed("n2", "a", 5) }]);
    desk.pass(TTL, 1_000_000);
    desk.persist(true);
    assert_eq!(desk.held(), [owed("n2", "a", 5)]);
}

#[test]
fn a_courtesy_that_is_offered_again_as_owed_is_owed() {
    let mut desk = desk(9);
    desk.keep([courtesy("n2", "a", 1), owed("n2", "a", 1)]);
    assert_eq!(desk.held(), [owed("n2", "a", 1)]);
}

#[test]
fn an_owed_hint_takes_the_place_of_the_oldest_courtesies_and_never_of_an_owed_one() {
    let mut desk = desk(3);
    desk.keep([owed("n2", "a", 1), courtesy("n2", "c", 2), courtesy("n3", "b", 3)]);
    desk.actions();
    let gone = |desk: &mut Desk| desk.actions().into_iter().take(2).collect::<Vec<_>>();
    desk.keep([owed("n2", "d", 4)]);
    let no_space = DropReason::NoSpace;
    assert_eq!(gone(&mut desk), [forget("n2", "c", 2), dropped("n2", "c", no_space)]);
    desk.keep([owed("n2", "e", 5)]);
    assert_eq!(gone(&mut desk), [forget("n3", "b", 3), dropped("n3", "b", no_space)]);
    assert_eq!(desk.offer(owed("n2", "f", 6)), Offer::Refused(Refusal::Full));
    assert_eq!(desk.actions(), []);
    let stats = desk.book.stats(6);
    assert_eq!((stats.count, stats.evicted, stats.refused), (3, 2, 1));
}

#[test]
fn owed_hints_that_wait_for_room_are_answered_as_it_comes() {
    let mut desk = desk(2);
    desk.keep([courtesy("n2", "a", 1), courtesy("n2", "b", 1)]);
    let offers = ["c", "d", "e"].map(|name| desk.book.offer(owed("n3", name, 2), desk.now));
    desk.serve();
    let answers = std::mem::take(&mut desk.answers);
    assert!(answers.iter().map(|(offer, _)| *offer).eq(offers));
    let kept = answers.iter().filter(|(_, answer)| matches!(answer, Offer::Keep { .. }));
    assert_eq!((kept.count(), answers[2].1), (2, Offer::Refused(Refusal::Full)));
    (0..2).for_each(|_| desk.persist(true));
    assert_eq!(desk.held(), [owed("n3", "c", 2), owed("n3", "d", 2)]);
}

#[test]
fn a_courtesy_takes_the_place_of_none() {
    let mut desk = desk(1);
    desk.keep([courtesy("n2", "a", 1)]);
    assert_eq!(desk.offer(courtesy("n2", "b", 2)), Offer::Refused(Refusal::Full));
}

#[test]
fn hints_on_their_way_to_the_disk_count_toward_the_limit() {
    let mut desk = desk(2);
    for name in ["a", "b"] {
        assert!(matches!(desk.offer(owed("n2", name, 1)), Offer::Keep { .. }));
    }
    assert_eq!(desk.offer(owed("n2", "c", 1)), Offer::Refused(Refusal::Full));
}

#[test]
fn courtesies_expire_and_owed_hints_do_not() {
    let mut desk = desk(9);
    desk.keep([owed("n2", "a", 0), courtesy("n2", "b", 0), courtesy("n2", "c", 1)]);
    desk.actions();
    assert_eq!(desk.book.next_wake(), Some(desk.now + TTL));
    desk.pass(TTL, 60_000);
    let expired = DropReason::Expired;
    assert_eq!(desk.actions(), [forget("n2", "b", 0), dropped("n2", "b", expired)]);
    // It is looked for those that are too old once a second at most.
    assert_eq!(desk.book.next_wake(), Some(desk.now + Duration::from_secs(1)));
    desk.pass(Duration::from_secs(1), 61_000);
    assert_eq!(desk.actions(), [forget("n2", "c", 1), dropped("n2", "c", expired)]);
    desk.pass(Duration::from_secs(1), 62_000);
    assert_eq!((desk.book.next_wake(), desk.book.stats(0).expired), (None, 2));
    assert_eq!(desk.held(), [owed("n2", "a", 0)]);
}

#[test]
fn many_courtesies_expire_a_few_at_a_time() {
    let options = HintOptions { ttl: TTL, ..HintOptions::default() };
    let hints = (0..600).map(|i| courtesy("n2", &format!("{i}"), 1));
    let mut desk = Desk::holding(options, hints);
    let mut left = Vec::new();
    let mut wall_ms = 60_001;
    while let Some(at) = desk.book.next_wake() {
        let time = at - desk.now;
        wall_ms += u64::try_from(time.as_millis()).unwrap();
        desk.pass(time, wall_ms);
        left.push(desk.book.stats(0).count);
    }
    assert_eq!(left[..3], [344, 88, 0]);
}

#[test]
fn a_ttl_of_zero_switches_courtesies_off_and_nothing_else() {
    let mut desk = Desk::new(HintOptions { ttl: Duration::ZERO, ..HintOptions::default() });
    let off = Offer::Refused(Refusal::SwitchedOff);
    assert_eq!(desk.offer(courtesy("n2", "a", 1)), off);
    assert!(matches!(desk.offer(owed("n2", "a", 1)), Offer::Keep { .. }));
}

#[test]
fn what_the_queue_held_is_taken_over_whole_except_courtesies_above_the_limit() {
    let hints = [
        courtesy("n2", "a", 1),
        owed("n2", "b", 2),
        owed("n3", "b", 3),
        courtesy("n3", "c", 4),
        owed("n3", "d", 5),
    ];
    let desk = Desk::holding(room(2), hints);
    assert_eq!(desk.held(), [owed("n2", "b", 2), owed("n3", "b", 3), owed("n3", "d", 5)]);
    // Nothing is older than that; the one that was is gone.
    assert_eq!((desk.book.stats(10).oldest_age_ms, desk.book.stats(10).evicted), (9, 2));
}

#[test]
fn a_target_that_comes_up_gets_its_hints_and_they_are_forgotten_when_taken() {
    let hints = [owed("n2", "a", 1), courtesy("n2", "b", 2), owed("n3", "a", 1)];
    let mut desk = Desk::holding(room(9), hints);
    desk.up("n2");
    let hints = ["a", "b"].map(key).into_iter().zip([1, 2]);
    let hints = hints.map(|(key, ms)| (key, owed("n2", "a", ms).record)).collect();
    assert_eq!(desk.actions(), [Deliver { target: node("n2"), batch: 1, hints }]);
    desk.delivered(1, &[Handed::Taken; 2]);
    assert_eq!(desk.actions(), [forget("n2", "a", 1), forget("n2", "b", 2)]);
    assert_eq!((desk.held(), desk.book.stats(0).delivered), (vec![owed("n3", "a", 1)], 2));
}

#[test]
fn what_is_more_urgent_gets_time_after_each_batch_and_batches_are_small() {
    let hints = (0..1000).map(|i| owed("n2", &format!("{i:04}"), 1));
    let (mut desk, pause) = (Desk::holding(room(10_000), hints), Duration::from_millis(30));
    desk.book.set_pause(pause);
    desk.up("n2");
    let mut sizes = Vec::new();
    for _ in 0..6 {
        let (_, id, keys) = desk.batch().expect("a batch after each pause");
        sizes.push(keys.len());
        desk.delivered(id, &vec![Handed::Taken; keys.len()]);
        assert_eq!((desk.batch(), desk.book.next_wake()), (None, Some(desk.now + pause)));
        desk.pass(pause, 0);
    }
    assert_eq!(sizes, [8, 16, 32, GENTLE_WINDOW, GENTLE_WINDOW, GENTLE_WINDOW]);
    // The batch on its way is the last small one.
    desk.book.set_pause(Duration::ZERO);
    let (_, id, keys) = desk.batch().expect("a batch");
    desk.delivered(id, &vec![Handed::Taken; keys.len()]);
    let next = desk.batch().map(|(_, _, keys)| keys.len());
    assert_eq!((keys.len(), next), (GENTLE_WINDOW, Some(2 * GENTLE_WINDOW)));
}

#[test]
fn a_dead_hint_is_dropped_and_counted() {
    let mut desk = Desk::holding(room(9), [owed("n2", "a", 1), owed("n2", "b", 2)]);
    desk.up("n2");
    desk.actions();
    desk.delivered(1, &[Handed::Dead, Handed::Taken]);
    assert_eq!(desk.actions(), [forget("n2", "a", 1), forget("n2", "b", 2)]);
    let stats = desk.book.stats(0);
    assert_eq!((stats.count, stats.dead, stats.delivered), (0, 1, 1));
}

#[test]
fn a_hint_for_a_target_that_is_up_is_delivered_as_soon_as_it_is_durable() {
    let mut desk = desk(9);
    desk.up("n2");
    desk.offer(owed("n2", "a", 1));
    assert_eq!(desk.batch(), None);
    desk.persist(true);
    assert!(
        desk.batch()
            .is_some_and(|(target, _, keys)| (target, keys) == (node("n2"), vec![key("a")]))
    );
}

#[test]
fn a_newer_hint_that_came_during_the_delivery_is_kept() {
    let mut desk = Desk::holding(room(9), [owed("n2", "a", 1), owed("n2", "b", 1)]);
    desk.up("n2");
    desk.keep([owed("n2", "a", 5)]);
    desk.offer(owed("n2", "b", 5));
    desk.actions();
    desk.delivered(1, &[Handed::Taken; 2]);
    // What is durable now is delivered next; the queue keeps what is newer by itself.
    let [first, Deliver { hints, .. }] = &desk.actions()[..] else { panic!("two actions") };
    assert_eq!(*first, forget("n2", "b", 1));
    assert_eq!(*hints, [(key("a"), owed("n2", "a", 5).record)]);
    assert_eq!(desk.held(), [owed("n2", "a", 5)]);
    desk.persist(true);
    assert_eq!((desk.held().len(), desk.book.stats(0).count), (2, 2));
}

#[test]
fn what_changed_since_a_batch_was_asked_for_is_left_to_the_next() {
    let now = origin();
    let (a, b) = (courtesy("n2", "a", 1), owed("n2", "b", 1));
    let mut book = HintBook::new(room(2));
    book.restore(&Queue::holding([a.clone(), b.clone()]).summary(), now, 0);
    book.target_up(node("n2"), now);
    let Some(HintAction::Read { batch, .. }) = book.poll_action() else { panic!("it is up") };
    // Meanwhile `a` gives its place to another.
    book.offer(owed("n3", "c", 1), now);
    let Some(HintAction::LookUp { id, .. }) = book.poll_action() else { panic!("it is new") };
    book.looked_up(id, Ok(None));
    let Some(HintAction::Sweep { .. }) = book.poll_action() else { panic!("there is no room") };
    book.swept(Some(HintsFound { hints: vec![a.clone()], ..HintsFound::default() }), now);
    assert_eq!(book.poll_action(), Some(forget("n2", "a", 1)));
    let found = HintsFound { hints: vec![a, b.clone()], ..HintsFound::default() };
    book.read(batch, Some(found), now);
    let sent = std::iter::from_fn(|| book.poll_action()).find_map(|action| match action {
        Deliver { hints, .. } => Some(hints),
        _ => None,
    });
    assert_eq!(sent, Some(vec![(b.key, b.record)]));
}

#[test]
fn batches_grow_while_all_goes_well() {
    let hints = (0..1000).map(|i| owed("n2", &format!("{i:04}"), 1));
    let mut desk = Desk::holding(room(10_000), hints);
    desk.up("n2");
    let mut sizes = Vec::new();
    while let Some((_, id, keys)) = desk.batch() {
        sizes.push(keys.len());
        desk.delivered(id, &vec![Handed::Taken; keys.len()]);
    }
    assert_eq!(sizes, [8, 16, 32, 64, 128, 256, 256, 240]);
}

#[test]
fn a_batch_is_bounded_in_bytes_but_never_empty() {
    let large = |name: &str, bytes: usize| {
        let record = Record::live(version(1), vec![0; bytes]);
        Hint { record, ..owed("n2", name, 1) }
    };
    let hints = [large("a", 3 << 20), large("b", 600_000), large("c", 600_000)];
    let mut desk = Desk::holding(HintOptions::default(), hints);
    desk.up("n2");
    for name in ["a", "b", "c"] {
        let (_, id, keys) = desk.batch().unwrap();
        assert_eq!(keys, [key(name)]);
        desk.delivered(id, &[Handed::Taken]);
    }
}

#[test]
fn a_failed_delivery_is_tried_again_after_a_pause() {
    let mut desk = Desk::holding(room(9), [owed("n2", "a", 1)]);
    desk.up("n2");
    desk.book.delivery_failed(1, "connection lost", desk.now);
    desk.actions();
    let at = desk.book.next_wake().unwrap();
    assert!(at > desk.now && at <= desk.now + Duration::from_millis(100));
    desk.pass(Duration::ZERO, 0);
    assert_eq!(desk.actions(), []);
    let stats = desk.book.targets(11).next().unwrap();
    assert_eq!((stats.state.to_string(), stats.window), ("backing off".to_owned(), 4));
    assert_eq!((stats.last_error.as_deref(), stats.oldest_age_ms), (Some("connection lost"), 10));
    desk.pass(at - desk.now, 0);
    assert_eq!(desk.batch(), Some((node("n2"), 2, vec![key("a")])));
}

#[test]
fn what_is_postponed_is_no_failure() {
    let now = origin();
    let mut book = HintBook::new(room(9));
    book.restore(&Queue::holding([owed("n2", "a", 1)]).summary(), now, 0);
    book.target_up(node("n2"), now);
    for _ in 0..20 {
        let Some(HintAction::Read { batch, .. }) = book.poll_action() else { panic!("none") };
        book.postponed(batch, now);
        let stats = book.targets(0).next().unwrap();
        assert_eq!((stats.window, stats.last_error), (8, None));
        let at = book.next_wake().unwrap();
        assert_eq!(at, now + Duration::from_millis(100));
        book.tick(at, 0);
    }
}

#[test]
fn a_busy_target_gets_less_but_is_not_left_alone_for_longer_and_longer() {
    let mut desk = Desk::holding(room(9), [owed("n2", "a", 1)]);
    desk.up("n2");
    for window in [4, 2, 1, 1] {
        let (_, batch, _) = desk.batch().unwrap();
        desk.book.target_busy(batch, "overloaded", desk.now);
        let stats = desk.book.targets(0).next().unwrap();
        assert_eq!((stats.window, stats.last_error.as_deref()), (window, Some("overloaded")));
        let at = desk.book.next_wake().unwrap();
        assert_eq!(at, desk.now + Duration::from_millis(100));
        desk.pass(at - desk.now, 0);
    }
}

#[test]
fn a_hint_that_is_refused_is_kept_and_does_not_hide_the_others() {
    let mut desk = Desk::holding(room(99), (0..12).map(|i| owed("n2", &format!("{i:02}"), 1)));
    desk.up("n2");
    let (_, id, keys) = desk.batch().unwrap();
    let mut outcomes = vec![Handed::Taken; keys.len()];
    outcomes[0] = Handed::Refused;
    desk.delivered(id, &outcomes);
    assert_eq!(desk.book.stats(0).count, 5);
    assert_eq!(desk.batch(), None);
    let at = desk.book.next_wake().unwrap();
    desk.pass(at - desk.now, 0);
    let (.., keys) = desk.batch().unwrap();
    assert_eq!(keys, ["08", "09", "10", "11"].map(key));
}

#[test]
fn an_answer_with_the_wrong_number_of_outcomes_is_a_failure() {
    let mut desk = Desk::holding(room(9), [owed("n2", "a", 1), owed("n2", "b", 1)]);
    desk.up("n2");
    desk.delivered(1, &[Handed::Taken]);
    assert_eq!(desk.book.stats(0).count, 2);
    let stats = desk.book.targets(0).next().unwrap();
    assert_eq!(stats.last_error.as_deref(), Some("answered 1 of 2 records"));
}

#[test]
fn a_dead_target_delays_no_other() {
    let hints = ["n2", "n3", "n4"].map(|target| owed(target, "a", 1));
    let mut desk = Desk::holding(room(9), hints);
    desk.up("n2"); // and never answers
    desk.up("n3");
    desk.book.delivery_failed(2, "refused", desk.now);
    desk.actions();
    desk.up("n4");
    assert_eq!(desk.batch(), Some((node("n4"), 3, vec![key("a")])));
}

#[test]
fn an_answer_that_comes_after_the_target_went_down_changes_nothing() {
    let mut desk = Desk::holding(room(9), [owed("n2", "a", 1)]);
    desk.up("n2");
    desk.book.target_down(node("n2"));
    desk.actions();
    desk.delivered(1, &[Handed::Taken]);
    desk.book.delivery_failed(1, "late", desk.now);
    assert_eq!(desk.actions(), []);
    assert_eq!(desk.book.targets(0).next().unwrap().state.to_string(), "waiting");
    desk.up("n2");
    assert_eq!(desk.batch(), Some((node("n2"), 2, vec![key("a")])));
}

#[test]
fn a_courtesy_that_expires_during_its_delivery_is_forgotten_once() {
    let mut desk = desk(9);
    desk.keep([courtesy("n2", "a", 0)]);
    desk.up("n2");
    let (_, id, _) = desk.batch().unwrap();
    desk.pass(TTL, 60_000);
    assert_eq!(desk.actions().len(), 2);
    desk.delivered(id, &[Handed::Taken]);
    assert_eq!((desk.actions(), desk.book.stats(0).count), (vec![], 0));
}

#[test]
fn damaged_hints_are_counted_out() {
    let now = origin();
    let mut book = HintBook::new(room(9));
    book.restore(&Queue::holding([owed("n2", "a", 1)]).summary(), now, 0);
    book.target_up(node("n2"), now);
    let Some(HintAction::Read { batch, .. }) = book.poll_action() else { panic!("it is up") };
    let lost = vec![(node("n2"), hint_bytes(&owed("n2", "a", 1)))];
    book.read(batch, Some(HintsFound { lost, ..HintsFound::default() }), now);
    let stats = book.stats(0);
    assert_eq!((stats.count, stats.bytes, stats.damaged), (0, 0, 1));
}

#[test]
fn the_oldest_version_is_that_of_all_hints_held_offered_or_on_their_way() {
    let at = |ms| Some(Timestamp::from_wall_ms(ms));
    let mut desk = Desk::holding(room(9), [owed("n3", "a", 7)]);
    assert_eq!(desk.book.oldest_version(), at(7));
    desk.book.offer(owed("n2", "b", 5), desk.now);
    assert_eq!(desk.book.oldest_version(), at(5)); // nobody knows yet what is held
    desk.serve();
    desk.answers.clear();
    assert_eq!(desk.book.oldest_version(), at(5)); // not durable yet
    desk.persist(true);
    assert_eq!(desk.book.oldest_version(), at(5));
    desk.keep([owed("n2", "c", 9)]);
    desk.up("n2");
    let (_, batch, _) = desk.batch().unwrap();
    desk.delivered(batch, &[Handed::Taken; 2]);
    // It may be less than it is, until the queue is asked again.
    assert_eq!(desk.book.oldest_version(), at(5));
    desk.up("n3");
    assert_eq!(desk.book.oldest_version(), at(7));
    let (_, batch, _) = desk.batch().unwrap();
    desk.delivered(batch, &[Handed::Taken]);
    assert_eq!((desk.book.oldest_version(), desk.book.stats(0).count), (None, 0));
}
