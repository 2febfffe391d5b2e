use crate::notation::{Bad, Good, judge_all};
use quorate_simulator::check::durable;

const GOOD: &[Good] = &[
    ("the last write is there", "put 1 0..10 v1; put 2 20..30 v2; last 2 v2"),
    ("an unacked write won", "put 1 0..10 v1; put 2 0..?; last 2 v5"),
    (
        "the greater of two writes side by side is there",
        "put 1 0..20 v2; put 2 5..30 v1; last 1 v2",
    ),
    ("a tombstone is there", "put 1 0..10 v1; delete 2 20..30 v2; last none v2"),
    ("a tombstone was dropped", "put 1 0..10 v1; delete 2 20..30 v2"),
    ("nothing was acked", "put 1 0..?; put 2 0..10 maybe v3; put 3 0..10 rejected"),
    ("the disks of those that acked are lost", "put 1 0..10 v1 unclaimed"),
];

const BAD: &[Bad] = &[
    ("an acked write is gone", "put 1 0..10 v1", &["Lost"]),
    ("an older write is there", "put 1 0..10 v1; put 2 20..30 v2; last 1 v1", &["Lost"]),
    ("a write with fallbacks is gone", "put 1 0..10 v1 sloppy", &["Lost"]),
    ("a write to one replica is gone", "put 1 0..10 v1 w=1", &["Lost"]),
    ("a delete is gone", "put 1 0..10 v1; delete 2 20..30 v2; last 1 v1", &["Lost"]),
    ("another value has the version", "put 1 0..10 v1; put 2 0..?; last 2 v1", &["Altered"]),
    ("a tombstone has the version of a put", "put 1 0..10 v1; last none v1", &["Altered"]),
    ("a value that nobody wrote", "last 7 v1", &["InventedEnd"]),
    ("a value of another key", "put 1 0..?; last 1 v1 key=b", &["InventedEnd"]),
    ("a value of a rejected write", "put 1 0..9 rejected; last 1 v1", &["InventedEnd"]),
];

#[test]
fn hand_made_histories_are_judged_right() {
    judge_all(GOOD, BAD, |story| durable(&story.history, &story.last, |op| story.claimed(op)));
}
