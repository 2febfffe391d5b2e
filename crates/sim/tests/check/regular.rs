use crate::notation::{Bad, Good, judge_all};
use quorate_simulator::check::regular;

const GOOD: &[Good] = &[
    ("nothing was asked", ""),
    ("a read sees the last write", "put 1 0..10 v1; put 2 20..30 v2; get 40..50 = 2 v2"),
    ("nothing is there before the first write", "get 0..10 = none; put 1 20..30 v1"),
    ("nothing is there while the first write runs", "put 1 0..30 v1; get 10..20 = none"),
    ("a read sees a write that runs beside it", "put 1 0..30 v1; get 10..20 = 1 v1"),
    (
        "two reads beside a write may disagree in the wrong order",
        "put 1 0..10 v1; put 2 20..90 v2; get 30..40 = 2 v2; get 50..60 = 1 v1",
    ),
    (
        "of two writes side by side either may be the last",
        "put 1 0..20 v2; put 2 10..30 v1; get 40..50 = 1 v2; get 60..70 = 2 v1",
    ),
    (
        "an unacked write may appear at any time",
        "put 1 0..? ; put 2 10..20 v2; get 30..40 = 2 v2; get 50..60 = 1 v9",
    ),
    (
        "a write that the client was told may have failed may appear",
        "put 1 0..5 maybe; put 2 10..20 v2; get 30..40 = 1 v9",
    ),
    ("a deleted key is absent", "put 1 0..10 v1; delete 2 20..30 v2; get 40..50 = none v2"),
    (
        "a tombstone that was dropped is absence",
        "put 1 0..10 v1; delete 2 20..30 v2; get 40..50 = none",
    ),
    (
        "an unacked delete may have been done",
        "put 1 0..10 v1; delete 2 20..?; get 30..40 = none v7",
    ),
    ("a rejected write is never seen", "put 1 0..10 v1; put 2 20..30 rejected; get 40..50 = 1 v1"),
    ("a failed read says nothing", "put 1 0..10 v1; get 20..30 failed"),
    (
        "a read of one replica may be stale",
        "put 1 0..10 v1; put 2 20..30 v2; get 40..50 = 1 v1 r=1",
    ),
    (
        "a write to one replica may be missed",
        "put 1 0..10 v1; put 2 20..30 v2 w=1; get 40..50 = 1 v1",
    ),
    (
        "a write with fallbacks may be missed",
        "put 1 0..10 v1; put 2 20..30 v2 sloppy; get 40..50 = 1 v1",
    ),
    ("a read with fallbacks may be stale", "put 1 0..10 v1; get 20..30 = none sloppy"),
    (
        "a write to one replica may win over a later one",
        "put 1 0..10 v9 w=1; put 2 20..30 v2; get 40..50 = 1 v9",
    ),
    ("what is not claimed is not held against", "put 1 0..10 v1 unclaimed; get 20..30 = none"),
    ("keys have nothing to do with each other", "put 1 0..10 v1; get 20..30 = none key=b"),
    (
        "what happens in the same microsecond is side by side",
        "put 1 0..10 v1; put 2 10..20 v2; get 20..30 = 1 v1",
    ),
    ("a read of all replicas meets a write to one", "put 1 0..9 v1; get 20..30 = 1 v1 r=3"),
];

const BAD: &[Bad] = &[
    (
        "a read sees a write that was replaced",
        "put 1 0..10 v1; put 2 20..30 v2; get 40..50 = 1 v1",
        &["Overridden"],
    ),
    ("a read misses the only write", "put 1 0..10 v1; get 20..30 = none", &["MissedPut"]),
    (
        "a read sees what was deleted",
        "put 1 0..10 v1; delete 2 20..30 v2; get 40..50 = 1 v1",
        &["Overridden"],
    ),
    (
        "a read misses what was written after the delete",
        "delete 1 0..10 v1; put 2 20..30 v2; get 40..50 = none v1",
        &["Overridden"],
    ),
    (
        "a read misses what was written after the dropped tombstone",
        "delete 1 0..10 v1; put 2 20..30 v2; get 40..50 = none",
        &["MissedPut"],
    ),
    ("a value that nobody wrote", "put 1 0..10 v1; get 20..30 = 8 v1", &["Invented"]),
    ("a delete has no value", "delete 1 0..10 v1; get 20..30 = 1 v1", &["Invented"]),
    ("a value of another key", "put 1 0..10 v1 key=b; get 20..30 = 1 v1", &["OtherKey"]),
    ("a value of a rejected write", "put 1 0..10 rejected; get 20..30 = 1 v1", &["RejectedSeen"]),
    (
        "a rejected delete was done",
        "put 1 0..9 v1; delete 2 10..20 rejected; get 30..40 = none",
        &["MissedPut"],
    ),
    ("a value before it was written", "get 0..10 = 1 v1; put 1 20..30 v1", &["FromTheFuture"]),
    (
        "a tombstone before the delete",
        "put 1 0..10 v1; get 20..30 = none v2; delete 2 40..50 v2",
        &["FromTheFuture"],
    ),
    (
        "even a read of one replica sees nothing from nowhere",
        "put 1 0..10 v1; get 20..30 = 8 v1 r=1",
        &["Invented"],
    ),
    (
        "even a read with fallbacks sees no rejected write",
        "put 1 0..10 rejected; get 20..30 = 1 v1 sloppy",
        &["RejectedSeen"],
    ),
    (
        "a read of all replicas misses a write to two",
        "put 1 0..10 v1; put 2 20..30 v2; get 40..50 = 1 v1 r=3",
        &["Overridden"],
    ),
    (
        "a read of one misses a write to all",
        "put 1 0..10 v1; put 2 20..30 v2 w=3; get 40..50 = 1 v1 r=1",
        &["Overridden"],
    ),
    (
        "the later of three writes is not the one that is seen",
        "put 1 0..90 v1; put 2 10..20 v2; put 3 30..40 v3; get 50..60 = 2 v2",
        &["Overridden"],
    ),
    (
        "a delete that is unacked excuses no read that ended before it began",
        "put 1 0..10 v1; get 20..30 = none; delete 2 40..?",
        &["MissedPut"],
    ),
    (
        "each bad read is told",
        "put 1 0..10 v1; get 20..30 = none; get 40..50 = none",
        &["MissedPut", "MissedPut"],
    ),
];

#[test]
fn hand_made_histories_are_judged_right() {
    judge_all(GOOD, BAD, |story| regular(&story.history, |op| story.claimed(op)));
}
