use crate::notation::{Bad, Good, judge_all, node};
use quorate_simulator::check::honest;

const GOOD: &[Good] = &[
    ("enough acks", "put 1 0..10 v1 from=n3,n1"),
    ("more acks than needed", "put 1 0..10 v1 w=1 from=n1,n2,n3"),
    ("fallbacks where they are allowed", "put 1 0..10 v1 sloppy from=n1,n5"),
    ("enough replicas found nothing", "get 0..10 = none from=n2,n3"),
    (
        "a fallback's hint that is below a delete which owners forgot",
        "delete 1 0..5 maybe sloppy; get 6..10 = none sloppy from=n1,n5",
    ),
    ("failures owe no receipt", "put 1 0..10 rejected; delete 2 0..10 maybe; get 0..10 failed"),
    ("no answer from a coordinator that crashed", "put 1 0..?; get 0..?"),
];

const BAD: &[Bad] = &[
    ("answered twice", "put 1 0..10 v1 again", &["AnsweredAgain"]),
    ("never answered", "get 0..10 silent", &["Unanswered"]),
    ("a put is told what a get is", "put 1 0..10 failed", &["WrongAnswer"]),
    ("a get is told what a put is", "get 0..10 rejected", &["WrongAnswer"]),
    ("too few acks", "put 1 0..10 v1 from=n1", &["TooFew"]),
    ("an ack counted twice", "put 1 0..10 v1 from=n1,n1", &["CountedTwice", "TooFew"]),
    ("an ack counted twice for nothing", "put 1 0..10 v1 from=n1,n2,n1", &["CountedTwice"]),
    ("nothing found, by too few", "get 0..10 = none from=n2", &["TooFew"]),
    ("a value found by too few", "put 1 0..?; get 0..10 = 1 v1 from=n2", &["TooFew"]),
    ("a fallback in a strict receipt", "put 1 0..10 v1 from=n1,n5", &["NotAnOwner"]),
    ("a fallback that knows of nothing", "get 0..10 = none sloppy from=n1,n5", &["NotAnOwner"]),
    (
        "a fallback that knows of nothing but what was rejected",
        "delete 1 0..5 rejected sloppy; get 6..10 = none sloppy from=n1,n5",
        &["NotAnOwner"],
    ),
    ("a fallback where none was allowed", "put 1 0..10 v1 loose from=n1,n5", &["Sloppy"]),
];

#[test]
fn hand_made_histories_are_judged_right() {
    judge_all(GOOD, BAD, |story| honest(&story.history, |_| ["n1", "n2", "n3"].map(node).into()));
}
