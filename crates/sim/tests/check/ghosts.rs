use crate::notation::{Bad, Good, judge_all};
use quorate_simulator::check::ghosts;

const GOOD: &[Good] = &[
    ("a ghost within the bound", "bound 20; put 1 0..?; put 2 20..30 v2; last 1 v9"),
    ("a ghost that lost", "bound 20; put 1 0..?; put 2 90..99 v2; last 2 v2"),
    ("an acked write is no ghost", "bound 20; put 1 0..200 v9; put 2 90..99 v2; last 1 v9"),
    ("a ghost that began later", "bound 20; put 1 0..10 v1; put 2 90..?; last 2 v9"),
    (
        "a read before the later write was acked",
        "bound 20; put 1 0..?; put 2 50..99 v2; get 60..110 = 1 v1",
    ),
    (
        "a clock too far off excuses it",
        "bound 20; put 1 0..? unclaimed; put 2 90..99 v2; last 1 v9",
    ),
    (
        "a read that need not meet the later write",
        "bound 9; put 1 0..?; put 2 50..60 v2; get 70..80 = 1 v1 r=1",
    ),
];

const BAD: &[Bad] = &[
    (
        "a ghost beyond the bound",
        "bound 20; put 1 0..?; put 2 21..30 v2; last 1 v9",
        &["LateGhost"],
    ),
    (
        "a ghost beyond the bound is read",
        "bound 20; put 1 0..?; put 2 90..99 v2; get 110..120 = 1 v9",
        &["LateGhost"],
    ),
    (
        "a delete as a ghost",
        "bound 20; delete 1 0..10 maybe v9; put 2 90..99 v2; last none v9",
        &["LateGhost"],
    ),
    (
        "a delete as a ghost is read",
        "bound 20; delete 1 0..10 maybe v9; put 2 90..99 v2; get 110..120 = none v9",
        &["LateGhost"],
    ),
];

#[test]
fn hand_made_histories_are_judged_right() {
    judge_all(GOOD, BAD, |story| {
        ghosts(&story.history, &story.last, story.bound_us, |op| story.claimed(op))
    });
}
