use crate::notation::{Bad, Good, Story, fault_name, judge_all};
use quorate_simulator::check::atomic;

const GOOD: &[Good] = &[
    ("one after another", "put 1 0..10 v1; get 20..30 = 1 v1; put 2 40..50 v2; get 60..70 = 2 v2"),
    ("nothing, then something", "get 0..10 = none; put 1 20..30 v1; get 40..50 = 1 v1"),
    (
        "a write beside reads takes place once",
        "put 1 0..10 v1; put 2 20..90 v2; get 30..40 = 1 v1; get 50..60 = 2 v2",
    ),
    (
        "writes side by side take place in the order that reads see",
        "put 1 0..50 v2; put 2 0..50 v1; get 60..70 = 1 v2; get 80..90 = 1 v2",
    ),
    ("an unacked write that nobody saw", "put 1 0..10 v1; put 2 20..?; get 30..40 = 1 v1"),
    (
        "an unacked write takes place late",
        "put 1 0..?; put 2 10..20 v2; get 30..40 = 2 v2; get 50..60 = 1 v9",
    ),
    (
        "a value lives for a moment beside another",
        "put 1 0..100 v1; put 2 40..60 v2; get 110..120 = 1 v1",
    ),
    (
        "three writes at once are seen in one order by all",
        "put 1 0..99 v1; put 2 0..99 v2; put 3 0..99 v3; get 10..20 = 1 v1; get 30..40 = 2 v2; \
         get 50..60 = 3 v3",
    ),
    (
        "deleted, then written again",
        "put 1 0..10 v1; delete 2 20..30 v2; get 40..50 = none v2; put 3 60..70 v3; get 80..90 = 3 v3",
    ),
    (
        "a tombstone of an unacked delete",
        "put 1 0..10 v1; delete 2 20..?; get 30..40 = 1 v1; get 50..60 = none v7",
    ),
    (
        "two tombstones of two unacked deletes",
        "delete 1 0..?; delete 2 0..?; put 3 10..20 v3; get 30..40 = none v7; put 4 50..60 v8; \
         get 70..80 = none v9",
    ),
    (
        "the earlier tombstone is of the earlier delete",
        "delete 1 0..?; get 10..20 = none v7; put 3 30..40 v3; delete 2 50..?; get 70..80 = none v9",
    ),
    (
        "and so it is if its version is the greater",
        "delete 1 0..?; get 10..20 = none v9; put 3 30..40 v3; delete 2 50..?; get 70..80 = none v7",
    ),
    ("a rejected write does not count", "put 1 0..10 v1; put 2 20..30 rejected; get 40..50 = 1 v1"),
    (
        "a key with a write that is not claimed is left out",
        "put 1 0..10 v1; put 2 20..30 v2 unclaimed; get 40..50 = 1 v1",
    ),
    ("a read that is not claimed is left out", "put 1 0..10 v1; get 20..30 = none unclaimed"),
    ("what happens in the same microsecond is side by side", "put 1 0..10 v1; get 10..20 = none"),
];

const BAD: &[Bad] = &[
    (
        "two reads beside a write disagree in the wrong order",
        "put 1 0..10 v1; put 2 20..90 v2; get 30..40 = 2 v2; get 50..60 = 1 v1",
        &["ZoneWithin"],
    ),
    (
        "nothing is there after something was seen",
        "put 1 0..90 v1; get 10..20 = 1 v1; get 30..40 = none",
        &["ZoneWithin"],
    ),
    ("a read misses the write before it", "put 1 0..10 v1; get 20..30 = none", &["ZoneWithin"]),
    (
        "a value comes back",
        "put 1 0..99 v1; put 2 0..99 v2; get 10..20 = 1 v1; get 30..40 = 2 v2; get 50..60 = 1 v1",
        &["ZoneWithin"],
    ),
    (
        "two readers see two writes in opposite orders",
        "put 1 0..99 v1; put 2 0..99 v2; get 10..20 = 1 v1; get 10..20 = 2 v2; get 30..40 = 2 v2; \
         get 30..40 = 1 v1",
        &["ZonesOverlap"],
    ),
    (
        "an acked write never took place",
        "put 1 0..10 v1; put 2 20..30 v2; get 40..50 = 1 v1",
        &["ZoneWithin"],
    ),
    (
        "two values held while a third did",
        "put 1 0..10 v1; put 2 0..20 v2; put 3 0..50 v3; get 30..40 = 2 v2; get 60..70 = 3 v3; \
         get 80..90 = 1 v1",
        &["ZonesOverlap", "ZonesOverlap"],
    ),
    ("a value before it was written", "get 0..10 = 1 v1; put 1 20..30 v1", &["FromTheFuture"]),
    ("a value that nobody wrote", "get 0..10 = 1 v1", &["Invented"]),
    ("a value of a rejected write", "put 1 0..5 rejected; get 10..20 = 1 v1", &["RejectedSeen"]),
    (
        "what was deleted comes back",
        "put 1 0..10 v1; delete 2 20..30 v2; get 40..50 = none v2; get 60..70 = 1 v1",
        &["ZonesOverlap"],
    ),
    (
        "one unacked delete wrote two tombstones",
        "delete 1 0..?; put 3 10..20 v3; get 30..40 = none v7; put 4 50..60 v8; get 70..80 = none v9",
        &["UnexplainedTombstone"],
    ),
    ("a tombstone and no delete", "get 0..10 = none v7", &["UnexplainedTombstone"]),
    (
        "a tombstone before the unacked delete began",
        "put 1 0..10 v1; get 20..30 = none v7; delete 2 40..?",
        &["UnexplainedTombstone"],
    ),
    (
        "a tombstone lived only while a value held throughout",
        "put 1 0..10 v1; delete 2 20..?; get 5..30 = none v7; get 40..50 = 1 v1",
        &["UnexplainedTombstone"],
    ),
    (
        "a tombstone under the version of a put",
        "put 1 0..10 v1; get 20..30 = none v1",
        &["NoSuchDelete"],
    ),
    (
        "a write came twice: its value lives before and after another",
        "put 1 0..?; get 10..20 = 1 v1; put 2 30..40 v2; get 50..60 = 2 v2; get 70..80 = 1 v3",
        &["ZonesOverlap"],
    ),
];

#[test]
fn hand_made_histories_are_judged_right() {
    judge_all(GOOD, BAD, |story| atomic(&story.history, true, |op| story.claimed(op)));
}

#[test]
fn absence_may_stand_for_any_delete_where_tombstones_are_dropped() {
    let story = Story::parse("put 1 0..10 v1; delete 2 20..30 v2; get 40..50 = none");
    assert!(atomic(&story.history, false, |_| true).is_empty());
    let kept = atomic(&story.history, true, |_| true);
    assert_eq!(kept.iter().map(fault_name).collect::<Vec<_>>(), ["ZoneWithin", "ZoneWithin"]);

    let story = Story::parse("put 1 0..10 v1; get 20..30 = none; delete 2 40..50 v2");
    assert_eq!(atomic(&story.history, false, |_| true).len(), 1);
}
