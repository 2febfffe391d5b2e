use crate::notation::{Bad, Good, judge_all};
use quorate_simulator::check::resurrection;

const GOOD: &[Good] = &[
    ("deleted for good", "put 1 0..10 v1; delete 2 20..30 v2; get 40..50 = none v2; last none v2"),
    ("written again", "delete 1 0..10 v1; put 2 20..?; get 30..40 = 2 v5; last 2 v5"),
    (
        "written again under a lesser version, which is another fault",
        "delete 1 0..10 v9; put 2 20..30 v2; get 40..50 = 2 v2",
    ),
    ("a write beside the delete won", "delete 1 0..20 v1; put 2 10..30 v2; last 2 v2"),
    ("a ghost of a write before the delete won", "put 1 0..?; delete 2 20..30 v2; last 1 v9"),
    (
        "an unacked delete binds nobody",
        "put 1 0..10 v1; delete 2 20..?; get 40..50 = 1 v1; last 1 v1",
    ),
    ("a read beside the delete", "put 1 0..10 v1; delete 2 20..40 v2; get 30..50 = 1 v1"),
    (
        "a read of one replica before all is settled",
        "put 1 0..10 v1; delete 2 20..30 v2; get 40..50 = 1 v1 r=1; settled 90",
    ),
    (
        "a delete after all was settled binds no read of one replica",
        "put 1 0..10 v1; settled 20; delete 2 30..40 v2; get 50..60 = 1 v1 r=1",
    ),
];

const BAD: &[Bad] = &[
    (
        "a value comes back in the end",
        "put 1 0..10 v1; delete 2 20..30 v2; last 1 v1",
        &["Resurrected"],
    ),
    (
        "a strict read sees it",
        "put 1 0..10 v1; delete 2 20..30 v2; get 40..50 = 1 v1",
        &["Resurrected"],
    ),
    (
        "a read of one replica sees it when all is settled",
        "put 1 0..10 v1; delete 2 20..30 v2; settled 40; get 50..60 = 1 v1 r=1",
        &["Resurrected"],
    ),
    (
        "a delete with fallbacks is undone",
        "put 1 0..10 v1; delete 2 20..30 v2 sloppy; settled 40; get 50..60 = 1 v1; last 1 v1",
        &["Resurrected", "Resurrected"],
    ),
    (
        "the value was given the greater version by a wrong clock",
        "put 1 0..10 v9; delete 2 20..30 v2; last 1 v9",
        &["Resurrected"],
    ),
    (
        "a lesser write beside the delete comes back",
        "put 1 0..40 v1; delete 2 20..50 v2; get 60..70 = 1 v1",
        &["Resurrected"],
    ),
    (
        "an unacked write of long ago is replayed from a hint",
        "put 1 0..?; delete 2 20..30 v2; settled 40; get 50..60 = 1 v1 r=1",
        &["Resurrected"],
    ),
];

#[test]
fn hand_made_histories_are_judged_right() {
    judge_all(GOOD, BAD, |story| {
        resurrection(&story.history, &story.last, story.settled_us, |op| story.claimed(op))
    });
}
