use quorate_record::{Timestamp, Version, Writer};

use super::HintAction::{Deliver, Dropped, Forget, Persist};
use super::*;
use crate::hint_bytes;

const TTL: Duration = Duration::from_secs(60);

#[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of a test")]
fn origin() -> Instant {
    Instant::now()
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn key(name: &str) -> Key {
    Key::new(name.to_owned()).unwrap()
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

/// A book with room for `hints` of the hints made above.
fn book(hints: u64) -> (HintBook, Instant) {
    let one = owed("n2", "a", 0);
    let max_bytes = hints * hint_bytes(&one.key, &one.record);
    (HintBook::new(HintOptions { max_bytes, ttl: TTL }), origin())
}

fn actions(book: &mut HintBook) -> Vec<HintAction> {
    std::iter::from_fn(|| book.poll_action()).collect()
}

/// Offers hints and makes them durable.
fn keep(book: &mut HintBook, hints: impl IntoIterator<Item = Hint>, now: Instant) {
    for hint in hints {
        let Offer::Keep { id } = book.offer(hint, now) else { panic!("not kept") };
        book.persisted(id, true, now);
    }
}

/// The batch to deliver that comes next, and the keys in it.
fn batch(book: &mut HintBook) -> Option<(NodeId, u64, Vec<Key>)> {
    actions(book).into_iter().find_map(|action| match action {
        Deliver { target, batch, hints } => {
            Some((target, batch, hints.into_iter().map(|(key, _)| key).collect()))
        }
        _ => None,
    })
}

#[test]
fn a_hint_is_found_and_counted_once_it_is_durable() {
    let (mut book, now) = book(9);
    let hint = owed("n2", "a", 1);
    assert_eq!(book.offer(hint.clone(), now), Offer::Keep { id: 1 });
    assert_eq!(actions(&mut book), [Persist { id: 1, hint: hint.clone() }]);
    assert_eq!((book.find(&hint.key), book.stats(1).count), (None, 0));
    book.persisted(1, true, now);
    assert_eq!((book.find(&hint.key), book.stats(1).count), (Some(&hint.record), 1));
}

#[test]
fn a_hint_that_could_not_be_made_durable_leaves_nothing() {
    let (mut book, now) = book(9);
    book.offer(owed("n2", "a", 1), now);
    book.persisted(1, false, now);
    assert_eq!(book.stats(1), HintStats::default());
    assert_eq!(book.offer(owed("n2", "a", 1), now), Offer::Keep { id: 2 });
}

#[test]
fn the_same_hint_again_waits_for_the_first() {
    let (mut book, now) = book(9);
    book.offer(owed("n2", "a", 1), now);
    assert_eq!(book.offer(owed("n2", "a", 1), now), Offer::AlreadyHeld { after: Some(1) });
    book.persisted(1, true, now);
    assert_eq!(book.offer(owed("n2", "a", 1), now), Offer::AlreadyHeld { after: None });
}

#[test]
fn an_older_hint_is_superseded_by_the_one_held() {
    let (mut book, now) = book(9);
    book.offer(owed("n2", "a", 5), now);
    let superseded = |after| Offer::Superseded { by: version(5), after };
    assert_eq!(book.offer(owed("n2", "a", 1), now), superseded(Some(1)));
    book.persisted(1, true, now);
    assert_eq!(book.offer(owed("n2", "a", 1), now), superseded(None));
    assert_eq!(book.offer(courtesy("n2", "a", 1), now), superseded(None));
}

#[test]
fn a_newer_hint_takes_the_place_of_the_one_held_once_it_is_durable() {
    let (mut book, now) = book(9);
    keep(&mut book, [owed("n2", "a", 1)], now);
    assert_eq!(book.offer(owed("n2", "a", 5), now), Offer::Keep { id: 2 });
    assert_eq!(book.find(&key("a")).unwrap().version, version(1));
    book.persisted(2, true, now);
    assert_eq!(book.iter().collect::<Vec<_>>(), [owed("n2", "a", 5)]);
}

#[test]
fn a_courtesy_that_replaces_an_owed_hint_is_owed() {
    let (mut book, now) = book(9);
    keep(&mut book, [owed("n2", "a", 1), courtesy("n2", "a", 5)], now);
    book.tick(now + TTL, 1_000_000);
    assert_eq!(book.iter().collect::<Vec<_>>(), [owed("n2", "a", 5)]);
}

#[test]
fn a_courtesy_that_supersedes_an_owed_hint_becomes_owed_before_that_is_acknowledged() {
    let (mut book, now) = book(9);
    keep(&mut book, [courtesy("n2", "a", 5)], now);
    actions(&mut book);
    let superseded = Offer::Superseded { by: version(5), after: Some(2) };
    assert_eq!(book.offer(owed("n2", "a", 1), now), superseded);
    assert_eq!(actions(&mut book), [Persist { id: 2, hint: owed("n2", "a", 5) }]);
    book.tick(now + TTL, 1_000_000);
    book.persisted(2, true, now);
    assert_eq!(book.iter().collect::<Vec<_>>(), [owed("n2", "a", 5)]);
}

#[test]
fn a_courtesy_that_is_offered_again_as_owed_is_owed() {
    let (mut book, now) = book(9);
    keep(&mut book, [courtesy("n2", "a", 1), owed("n2", "a", 1)], now);
    assert_eq!(book.iter().collect::<Vec<_>>(), [owed("n2", "a", 1)]);
}

#[test]
fn an_owed_hint_takes_the_place_of_the_oldest_courtesies_and_never_of_an_owed_one() {
    let (mut book, now) = book(3);
    keep(&mut book, [owed("n2", "a", 1), courtesy("n3", "b", 3), courtesy("n2", "c", 2)], now);
    actions(&mut book);
    let gone = |book: &mut HintBook| actions(book).into_iter().take(2).collect::<Vec<_>>();
    keep(&mut book, [owed("n2", "d", 4)], now);
    let no_space = DropReason::NoSpace;
    assert_eq!(gone(&mut book), [forget("n2", "c", 2), dropped("n2", "c", no_space)]);
    keep(&mut book, [owed("n2", "e", 5)], now);
    assert_eq!(gone(&mut book), [forget("n3", "b", 3), dropped("n3", "b", no_space)]);
    assert_eq!(book.offer(owed("n2", "f", 6), now), Offer::Refused(Refusal::Full));
    assert_eq!(actions(&mut book), []);
    let stats = book.stats(6);
    assert_eq!((stats.count, stats.evicted, stats.refused), (3, 2, 1));
}

#[test]
fn a_courtesy_takes_the_place_of_none() {
    let (mut book, now) = book(1);
    keep(&mut book, [courtesy("n2", "a", 1)], now);
    assert_eq!(book.offer(courtesy("n2", "b", 2), now), Offer::Refused(Refusal::Full));
}

#[test]
fn hints_on_their_way_to_the_disk_count_toward_the_limit() {
    let (mut book, now) = book(2);
    for name in ["a", "b"] {
        assert!(matches!(book.offer(owed("n2", name, 1), now), Offer::Keep { .. }));
    }
    assert_eq!(book.offer(owed("n2", "c", 1), now), Offer::Refused(Refusal::Full));
}

#[test]
fn courtesies_expire_and_owed_hints_do_not() {
    let (mut book, now) = book(9);
    keep(&mut book, [owed("n2", "a", 0), courtesy("n2", "b", 0), courtesy("n2", "c", 1)], now);
    actions(&mut book);
    assert_eq!(book.next_wake(), Some(now + TTL - Duration::from_millis(1)));
    book.tick(now + TTL, 60_000);
    let expired = DropReason::Expired;
    assert_eq!(actions(&mut book), [forget("n2", "b", 0), dropped("n2", "b", expired)]);
    assert_eq!(book.next_wake(), Some(now + TTL + Duration::from_millis(1)));
    book.tick(now + TTL * 9, 1_000_000);
    assert_eq!(actions(&mut book), [forget("n2", "c", 1), dropped("n2", "c", expired)]);
    assert_eq!((book.next_wake(), book.stats(0).expired), (None, 2));
    assert_eq!(book.iter().collect::<Vec<_>>(), [owed("n2", "a", 0)]);
}

#[test]
fn a_ttl_of_zero_switches_courtesies_off_and_nothing_else() {
    let now = origin();
    let mut book = HintBook::new(HintOptions { ttl: Duration::ZERO, ..HintOptions::default() });
    let off = Offer::Refused(Refusal::SwitchedOff);
    assert_eq!(book.offer(courtesy("n2", "a", 1), now), off);
    assert_eq!(book.offer(owed("n2", "a", 1), now), Offer::Keep { id: 1 });
}

#[test]
fn what_the_queue_held_is_taken_over_whole_except_courtesies_above_the_limit() {
    let (mut book, now) = book(2);
    book.restore(
        vec![
            courtesy("n2", "a", 1),
            owed("n2", "b", 2),
            owed("n3", "b", 3),
            courtesy("n3", "c", 4),
            owed("n3", "d", 5),
        ],
        now,
        0,
    );
    let held: Vec<Hint> = book.iter().collect();
    assert_eq!(held, [owed("n2", "b", 2), owed("n3", "b", 3), owed("n3", "d", 5)]);
    assert_eq!(book.find(&key("b")).unwrap().version, version(3));
    assert_eq!((book.stats(10).oldest_age_ms, book.stats(10).evicted), (8, 2));
}

#[test]
fn a_target_that_comes_up_gets_its_hints_and_they_are_forgotten_when_taken() {
    let (mut book, now) = book(9);
    book.restore(vec![owed("n2", "a", 1), courtesy("n2", "b", 2), owed("n3", "a", 1)], now, 0);
    book.target_up(node("n2"), now);
    let hints = ["a", "b"].map(key).into_iter().zip([1, 2]);
    let hints = hints.map(|(key, ms)| (key, owed("n2", "a", ms).record)).collect();
    assert_eq!(actions(&mut book), [Deliver { target: node("n2"), batch: 1, hints }]);
    book.delivered(1, &[Handed::Taken; 2], now);
    assert_eq!(actions(&mut book), [forget("n2", "a", 1), forget("n2", "b", 2)]);
    assert_eq!(book.iter().collect::<Vec<_>>(), [owed("n3", "a", 1)]);
    assert_eq!(book.stats(0).delivered, 2);
}

#[test]
fn a_hint_for_a_target_that_is_up_is_delivered_as_soon_as_it_is_durable() {
    let (mut book, now) = book(9);
    book.target_up(node("n2"), now);
    book.offer(owed("n2", "a", 1), now);
    assert_eq!(batch(&mut book), None);
    book.persisted(1, true, now);
    assert_eq!(batch(&mut book), Some((node("n2"), 2, vec![key("a")])));
}

#[test]
fn a_newer_hint_that_came_during_the_delivery_is_kept() {
    let (mut book, now) = book(9);
    book.restore(vec![owed("n2", "a", 1), owed("n2", "b", 1)], now, 0);
    book.target_up(node("n2"), now);
    keep(&mut book, [owed("n2", "a", 5)], now);
    book.offer(owed("n2", "b", 5), now);
    actions(&mut book);
    book.delivered(1, &[Handed::Taken; 2], now);
    // What is durable now is delivered next; the queue keeps what is newer by itself.
    let hints = vec![(key("a"), owed("n2", "a", 5).record)];
    let next = Deliver { target: node("n2"), batch: 4, hints };
    assert_eq!(actions(&mut book), [forget("n2", "b", 1), next]);
    assert_eq!(book.iter().collect::<Vec<_>>(), [owed("n2", "a", 5)]);
    book.persisted(3, true, now);
    assert_eq!(book.iter().count(), 2);
}

#[test]
fn batches_grow_while_all_goes_well() {
    let (mut book, now) = book(10_000);
    book.restore((0..1000).map(|i| owed("n2", &format!("{i:04}"), 1)).collect(), now, 0);
    book.target_up(node("n2"), now);
    let mut sizes = Vec::new();
    while let Some((_, id, keys)) = batch(&mut book) {
        sizes.push(keys.len());
        book.delivered(id, &vec![Handed::Taken; keys.len()], now);
    }
    assert_eq!(sizes, [8, 16, 32, 64, 128, 256, 256, 240]);
}

#[test]
fn a_batch_is_bounded_in_bytes_but_never_empty() {
    let now = origin();
    let mut book = HintBook::new(HintOptions::default());
    let large = |name: &str, bytes: usize| {
        let record = Record::live(version(1), vec![0; bytes]);
        Hint { record, ..owed("n2", name, 1) }
    };
    book.restore(vec![large("a", 3 << 20), large("b", 600_000), large("c", 600_000)], now, 0);
    book.target_up(node("n2"), now);
    for name in ["a", "b", "c"] {
        let (_, id, keys) = batch(&mut book).unwrap();
        assert_eq!(keys, [key(name)]);
        book.delivered(id, &[Handed::Taken], now);
    }
}

#[test]
fn a_failed_delivery_is_tried_again_after_a_pause() {
    let (mut book, now) = book(9);
    book.restore(vec![owed("n2", "a", 1)], now, 0);
    book.target_up(node("n2"), now);
    book.delivery_failed(1, "connection lost", now);
    actions(&mut book);
    let at = book.next_wake().unwrap();
    assert!(at > now && at <= now + Duration::from_millis(100));
    book.tick(now, 0);
    assert_eq!(actions(&mut book), []);
    let stats = book.targets(11).next().unwrap();
    assert_eq!((stats.state.to_string(), stats.window), ("backing off".to_owned(), 4));
    assert_eq!((stats.last_error.as_deref(), stats.oldest_age_ms), (Some("connection lost"), 10));
    book.tick(at, 0);
    assert_eq!(batch(&mut book), Some((node("n2"), 2, vec![key("a")])));
}

#[test]
fn a_hint_that_is_refused_is_kept_and_does_not_hide_the_others() {
    let (mut book, now) = book(99);
    book.restore((0..12).map(|i| owed("n2", &format!("{i:02}"), 1)).collect(), now, 0);
    book.target_up(node("n2"), now);
    let (_, id, keys) = batch(&mut book).unwrap();
    let mut outcomes = vec![Handed::Taken; keys.len()];
    outcomes[0] = Handed::Refused;
    book.delivered(id, &outcomes, now);
    assert_eq!(book.stats(0).count, 5);
    assert_eq!(batch(&mut book), None);
    book.tick(book.next_wake().unwrap(), 0);
    let (.., keys) = batch(&mut book).unwrap();
    assert_eq!(keys, ["08", "09", "10", "11"].map(key));
}

#[test]
fn an_answer_with_the_wrong_number_of_outcomes_is_a_failure() {
    let (mut book, now) = book(9);
    book.restore(vec![owed("n2", "a", 1), owed("n2", "b", 1)], now, 0);
    book.target_up(node("n2"), now);
    book.delivered(1, &[Handed::Taken], now);
    assert_eq!(book.stats(0).count, 2);
    let stats = book.targets(0).next().unwrap();
    assert_eq!(stats.last_error.as_deref(), Some("answered 1 of 2 records"));
}

#[test]
fn a_dead_target_delays_no_other() {
    let (mut book, now) = book(9);
    book.restore(vec![owed("n2", "a", 1), owed("n3", "a", 1), owed("n4", "a", 1)], now, 0);
    book.target_up(node("n2"), now); // and never answers
    book.target_up(node("n3"), now);
    book.delivery_failed(2, "refused", now);
    actions(&mut book);
    book.target_up(node("n4"), now);
    assert_eq!(batch(&mut book), Some((node("n4"), 3, vec![key("a")])));
}

#[test]
fn an_answer_that_comes_after_the_target_went_down_changes_nothing() {
    let (mut book, now) = book(9);
    book.restore(vec![owed("n2", "a", 1)], now, 0);
    book.target_up(node("n2"), now);
    book.target_down(node("n2"));
    actions(&mut book);
    book.delivered(1, &[Handed::Taken], now);
    book.delivery_failed(1, "late", now);
    assert_eq!(actions(&mut book), []);
    assert_eq!(book.targets(0).next().unwrap().state.to_string(), "waiting");
    book.target_up(node("n2"), now);
    assert_eq!(batch(&mut book), Some((node("n2"), 2, vec![key("a")])));
}

#[test]
fn a_courtesy_that_expires_during_its_delivery_is_forgotten_once() {
    let (mut book, now) = book(9);
    keep(&mut book, [courtesy("n2", "a", 0)], now);
    book.target_up(node("n2"), now);
    let (_, id, _) = batch(&mut book).unwrap();
    book.tick(now + TTL, 60_000);
    assert_eq!(actions(&mut book).len(), 2);
    book.delivered(id, &[Handed::Taken], now + TTL);
    assert_eq!(actions(&mut book), []);
}
