use crate::notation::{Bad, Good, judge_all};
use quorate_simulator::check::{order, read_order};

const GOOD: &[Good] = &[
    ("versions grow", "put 1 0..10 v1; delete 2 20..30 v2; put 3 40..50 v3"),
    ("writes side by side get versions in any order", "put 1 0..20 v9; put 2 10..30 v2"),
    ("an unacked write may have any version", "put 1 0..10 maybe v9; put 2 20..30 v2"),
    ("a write to one replica orders nothing", "put 1 0..10 v9 w=1; put 2 20..30 v2"),
    ("a write with fallbacks orders nothing", "put 1 0..10 v9 sloppy; put 2 20..30 v2"),
    ("a damaged replica excuses a write", "put 1 0..10 v9 unclaimed; put 2 20..30 v2"),
    ("keys are ordered each for itself", "put 1 0..10 v9; put 2 20..30 v2 key=b"),
    ("a value under two versions", "put 1 0..10 v2; get 5..8 = 1 v1; get 20..30 = 1 v2"),
    ("a read sees more than was acked", "put 1 0..10 v1; put 2 5..?; get 20..30 = 2 v7"),
    ("a dropped tombstone is no version", "put 1 0..9 v1; delete 2 10..20 v2; get 30..40 = none"),
    ("a read of one replica may see less", "put 1 0..9 v1; put 2 10..20 v2; get 30..40 = 1 v1 r=1"),
];

const BAD: &[Bad] = &[
    ("a later write got a lesser version", "put 1 0..10 v9; put 2 20..30 v2", &["WriteOrder"]),
    ("a later delete got a lesser version", "put 1 0..10 v9; delete 2 20..30 v2", &["WriteOrder"]),
    (
        "a later write got the same version",
        "put 1 0..10 v9; put 2 20..30 v9",
        &["SharedVersion", "WriteOrder"],
    ),
    (
        "the write with the greatest version lies further back",
        "put 1 0..10 v9; put 2 20..30 v10; put 3 22..25 v11; put 4 26..27 v12; put 5 40..50 v11",
        &["SharedVersion", "WriteOrder"],
    ),
    ("two keys share a version", "put 1 0..10 v1; put 2 0..10 v1 key=b", &["SharedVersion"]),
    ("a put and a delete share a version", "put 1 0..30 v1; delete 2 0..30 v1", &["SharedVersion"]),
    (
        "an unacked write shares a version",
        "put 1 0..10 maybe v1; put 2 0..10 v1",
        &["SharedVersion"],
    ),
    (
        "two deletes share a version that was read before",
        "get 0..30 = none v3; delete 1 0..30 v3; delete 2 0..30 v3",
        &["SharedVersion"],
    ),
    (
        "reads found two values under a version",
        "put 1 0..?; put 2 0..?; get 10..20 = 1 v3; get 10..20 = 2 v3",
        &["SharedVersion"],
    ),
    (
        "a read found a tombstone where another found a value",
        "put 1 0..?; delete 2 0..?; get 10..20 = 1 v3; get 10..20 = none v3",
        &["SharedVersion"],
    ),
    (
        "a read sees the lesser of two writes side by side",
        "put 1 0..20 v1; put 2 10..30 v2; get 40..50 = 1 v1",
        &["StaleVersion"],
    ),
    ("a read sees nothing after a write", "put 1 0..10 v1; get 20..30 = none", &["StaleVersion"]),
];

const GOOD_READS: &[Good] = &[
    ("reads go on", "put 1 0..9 v1; put 2 0..90 v2; get 10..20 = 1 v1; get 30..40 = 2 v2"),
    ("reads side by side disagree", "put 1 0..?; get 10..30 = 1 v1; get 20..40 = none"),
    ("a read of one meets no other", "put 1 0..?; get 10..20 = 1 v1; get 30..40 = none r=1"),
    ("a tombstone is dropped", "delete 1 0..9 v1; get 10..20 = none v1; get 30..40 = none"),
];

const BAD_READS: &[Bad] = &[
    (
        "a read goes back to an older value",
        "put 1 0..9 v1; put 2 0..90 v2; get 10..20 = 2 v2; get 30..40 = 1 v1",
        &["ReadOrder"],
    ),
    ("a value is gone", "put 1 0..?; get 10..20 = 1 v1; get 30..40 = none", &["ReadOrder"]),
    (
        "a deleted value is back",
        "put 1 0..?; delete 2 0..?; get 10..20 = none v5; get 30..40 = 1 v4",
        &["ReadOrder"],
    ),
];

#[test]
fn hand_made_histories_are_judged_right() {
    judge_all(GOOD, BAD, |story| order(&story.history, |op| story.claimed(op)));
    judge_all(GOOD_READS, BAD_READS, |story| read_order(&story.history, |op| story.claimed(op)));
}
