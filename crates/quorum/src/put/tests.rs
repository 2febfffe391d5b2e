use super::PutAction::{KeepHint, Reply, Restamp};
use super::Round::{Asking, First, Fourth, Second, Third};
use super::*;
use crate::receipt::Holder;

type Action = PutAction<&'static str, u32>;
type Event = PutEvent<&'static str, u32>;

const PATIENCE: Duration = Duration::from_millis(50);
const TIMEOUT: Duration = Duration::from_millis(1000);
const VERSION: u32 = 10;

/// A write to replicas a, b and c, with whatever fallbacks a test gives it.
struct Case {
    put: Put<&'static str, u32>,
    start: Instant,
    now: Instant,
}

impl Case {
    fn new(nodes: &[&'static str], down: &[&str], w: usize, sloppy: bool) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the first")]
        let start = Instant::now();
        let quorum = Quorum::new(3, 2, w, sloppy).unwrap();
        let down = |node: &&str| down.contains(node);
        let put = Put::start(nodes, down, quorum, VERSION, PATIENCE, TIMEOUT, start);
        Self { put, start, now: start }
    }

    fn atomic(nodes: &[&'static str], down: &[&str]) -> Self {
        let quorum = Quorum::new(3, 2, 2, false).unwrap();
        let mut case = Self::new(nodes, down, 2, false);
        let down = |node: &&str| down.contains(node);
        case.put = Put::start_atomic(nodes, down, quorum, VERSION, PATIENCE, TIMEOUT, case.start);
        case
    }

    /// A case whose first sends are of no interest.
    fn sent(nodes: &[&'static str], down: &[&str], w: usize, sloppy: bool) -> Self {
        let mut case = Self::new(nodes, down, w, sloppy);
        case.actions();
        case
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.put.poll_action()).collect()
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.put.handle(event, self.now);
        self.actions()
    }

    fn fire_at(&mut self, after: Duration) -> Vec<Action> {
        self.now = self.start + after;
        self.on(PutEvent::TimerFired)
    }

    fn timer(&self, after: Duration) -> Action {
        PutAction::SetTimer { at: self.start + after }
    }
}

fn send(to: &'static str, round: Round) -> Action {
    PutAction::Send { to, hint_for: None, round }
}

fn send_hint(to: &'static str, replica: &'static str, round: Round) -> Action {
    PutAction::Send { to, hint_for: Some(replica), round }
}

fn stored(from: &'static str) -> Event {
    PutEvent::Stored { from, round: First }
}

fn superseded(from: &'static str, by: u32) -> Event {
    PutEvent::Superseded { from, round: First, by }
}

fn failed(from: &'static str, failure: Failure) -> Event {
    PutEvent::Failed { from, round: First, failure }
}

fn refused(from: &'static str) -> Event {
    failed(from, Failure::Refused)
}

fn kept(replica: &'static str) -> Event {
    PutEvent::HintKept { replica, round: First }
}

fn keep(replica: &'static str) -> Action {
    KeepHint { replica, round: First }
}

/// The preference list of most cases.
const REPLICAS: [&str; 3] = ["a", "b", "c"];

fn receipt(acks: &[&'static str], hinted: &[(&'static str, Holder<&'static str>)]) -> Action {
    Reply(Ok(PutReceipt {
        version: VERSION,
        w: 2,
        n: 3,
        acks: acks.to_vec(),
        hinted: hinted.to_vec(),
        sloppy: false,
        lacking: REPLICAS.into_iter().filter(|replica| !acks.contains(replica)).collect(),
        round: First,
    }))
}

fn timed_out(acked: usize, outcome: Outcome) -> Action {
    Reply(Err(PutError::TimedOut { needed: 2, acked, outcome }))
}

fn too_few(acked: usize, outcome: Outcome) -> Action {
    Reply(Err(PutError::TooFewReplicas { needed: 2, acked, outcome }))
}

#[test]
fn all_replicas_are_asked_at_once() {
    let mut case = Case::new(&["a", "b", "c"], &[], 2, false);
    let expected = [send("a", First), send("b", First), send("c", First), case.timer(TIMEOUT)];
    assert_eq!(case.actions(), expected);
}

#[test]
fn w_acks_answer_the_client_and_the_last_replica_ends_the_write() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    assert_eq!(case.on(stored("b")), []);
    assert_eq!(case.on(stored("a")), [receipt(&["a", "b"], &[])]);
    assert!(!case.put.is_done());
    assert_eq!(case.on(stored("c")), []);
    assert!(case.put.is_done());
}

#[test]
fn a_repeated_ack_counts_once() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    assert_eq!(case.on(stored("a")), []);
    assert_eq!(case.on(stored("a")), []);
    assert_eq!(case.on(stored("z")), []);
    assert_eq!(case.on(PutEvent::Stored { from: "b", round: Second }), []);
    assert_eq!(case.on(stored("b")), [receipt(&["a", "b"], &[])]);
}

#[test]
fn a_failed_replica_is_replaced_by_a_hinted_fallback() {
    let mut case = Case::sent(&["a", "b", "c", "f", "g"], &[], 2, false);
    assert_eq!(case.on(refused("b")), [send_hint("f", "b", First)]);
    assert_eq!(case.on(stored("f")), []);
    assert_eq!(case.on(stored("a")), []);
    let hinted = [("b", Holder::Fallback("f"))];
    assert_eq!(case.on(stored("c")), [receipt(&["a", "c"], &hinted)]);
    assert!(case.put.is_done());
}

#[test]
fn a_failed_fallback_hands_the_hint_to_the_next() {
    let mut case = Case::sent(&["a", "b", "c", "f", "g"], &[], 2, false);
    assert_eq!(case.on(refused("b")), [send_hint("f", "b", First)]);
    assert_eq!(case.on(refused("f")), [send_hint("g", "b", First)]);
    assert_eq!(case.on(stored("a")), []);
    assert_eq!(case.on(stored("c")), [receipt(&["a", "c"], &[])]);
    assert_eq!(case.on(failed("g", Failure::Unknown)), [keep("b")]);
    assert!(!case.put.is_done());
    assert_eq!(case.on(kept("b")), []);
    assert!(case.put.is_done());
}

#[test]
fn a_replica_that_is_down_is_replaced_at_once() {
    let mut case = Case::new(&["a", "b", "c", "f", "g"], &["b", "f"], 2, false);
    let sends = [send("a", First), send_hint("g", "b", First), send("c", First)];
    let expected = [&sends[..], &[case.timer(PATIENCE)]].concat();
    assert_eq!(case.actions(), expected);
}

#[test]
fn a_replica_that_is_down_is_asked_if_nobody_can_stand_in() {
    let mut case = Case::new(&["a", "b", "c"], &["a", "b", "c"], 2, false);
    let expected = [send("a", First), send("b", First), send("c", First), case.timer(TIMEOUT)];
    assert_eq!(case.actions(), expected);
}

#[test]
fn replicas_that_are_down_are_asked_before_a_strict_write_gives_up() {
    let mut case = Case::new(&["a", "b", "c", "f", "g"], &["b", "c"], 2, false);
    let sends = [
        send("a", First),
        send_hint("f", "b", First),
        send_hint("g", "c", First),
        send("b", First),
        send("c", First),
    ];
    assert_eq!(case.actions()[..5], sends);
    assert_eq!(case.on(stored("a")), []);
    assert_eq!(case.on(stored("c")), [receipt(&["a", "c"], &[])]);
}

#[test]
fn a_fallback_counts_only_if_the_quorum_is_sloppy() {
    for sloppy in [false, true] {
        let mut case = Case::sent(&["a", "b", "c", "f"], &["b"], 2, sloppy);
        assert_eq!(case.on(stored("a")), []);
        let replied = case.on(stored("f"));
        if sloppy {
            let expected = PutReceipt {
                version: VERSION,
                w: 2,
                n: 3,
                acks: vec!["a", "f"],
                hinted: vec![("b", Holder::Fallback("f"))],
                sloppy: true,
                lacking: vec!["b", "c"],
                round: First,
            };
            assert_eq!(replied, [Reply(Ok(expected))]);
        } else {
            assert_eq!(replied, []);
        }
    }
}

#[test]
fn a_replica_and_its_stand_in_count_once() {
    let mut case = Case::sent(&["a", "b", "c", "f"], &[], 2, true);
    case.on(refused("a"));
    assert_eq!(case.on(stored("f")), []);
    let mut case = Case::sent(&["a", "b", "c", "f"], &[], 2, true);
    assert_eq!(case.fire_at(PATIENCE)[0], send_hint("f", "a", First));
    assert_eq!(case.on(stored("f")), []);
    assert_eq!(case.on(stored("a")), []);
    assert_eq!(case.on(stored("c")), [receipt(&["a", "c"], &[])]);
}

#[test]
fn a_late_replica_is_stood_in_for_and_its_own_ack_still_counts() {
    let mut case = Case::sent(&["a", "b", "c", "f"], &[], 2, false);
    assert_eq!(case.on(stored("a")), []);
    let expected = [send_hint("f", "b", First), case.timer(TIMEOUT)];
    assert_eq!(case.fire_at(PATIENCE), expected);
    assert_eq!(case.on(stored("b")), [receipt(&["a", "b"], &[])]);
}

#[test]
fn a_late_replica_that_then_fails_needs_no_second_stand_in() {
    let mut case = Case::sent(&["a", "b", "c", "f", "g"], &[], 2, false);
    case.on(stored("a"));
    case.on(stored("c"));
    let late_again = PATIENCE + PATIENCE;
    let expected = [send_hint("f", "b", First), case.timer(late_again)];
    assert_eq!(case.fire_at(PATIENCE), expected);
    assert_eq!(case.on(refused("b")), []);
    assert_eq!(case.on(refused("f")), [send_hint("g", "b", First)]);
}

#[test]
fn an_ack_after_a_failure_changes_nothing() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    case.on(stored("a"));
    assert_eq!(case.on(failed("b", Failure::Unknown)), [keep("b")]);
    assert_eq!(case.on(stored("b")), []);
    assert_eq!(case.on(kept("b")), []);
    assert_eq!(case.on(stored("c")), [receipt(&["a", "c"], &[("b", Holder::Coordinator)])]);
    assert!(case.put.is_done());
}

#[test]
fn with_no_fallback_the_coordinator_keeps_the_hint_once_somebody_holds_the_record() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    assert_eq!(case.on(refused("b")), []);
    assert_eq!(case.on(stored("a")), [keep("b")]);
    assert_eq!(case.on(kept("b")), []);
    assert_eq!(case.on(stored("c")), [receipt(&["a", "c"], &[("b", Holder::Coordinator)])]);
    assert!(case.put.is_done());
}

#[test]
fn a_hint_that_the_coordinator_cannot_keep_is_given_up() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    case.on(stored("a"));
    case.on(refused("b"));
    assert_eq!(case.on(PutEvent::HintRefused { replica: "b", round: First }), []);
    assert_eq!(case.on(stored("c")), [receipt(&["a", "c"], &[])]);
    assert!(case.put.is_done());
}

#[test]
fn a_slow_replica_is_not_cancelled_but_gets_a_hint_at_the_end() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    case.on(stored("a"));
    case.on(stored("b"));
    let end = TIMEOUT + TIMEOUT;
    assert_eq!(case.fire_at(TIMEOUT), [case.timer(end)]);
    assert_eq!(case.fire_at(end), [keep("c")]);
    assert_eq!(case.on(stored("c")), []);
    assert!(!case.put.is_done());
    assert_eq!(case.on(kept("c")), []);
    assert!(case.put.is_done());
}

#[test]
fn a_slow_ack_in_the_extra_time_needs_no_hint() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    case.on(stored("a"));
    case.on(stored("b"));
    case.fire_at(TIMEOUT);
    assert_eq!(case.on(stored("c")), []);
    assert!(case.put.is_done());
}

#[test]
fn a_write_that_missed_its_quorum_still_leaves_hints() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    case.on(refused("b"));
    assert_eq!(case.on(refused("c")), [too_few(0, Outcome::Indeterminate)]);
    assert_eq!(case.on(stored("a")), [keep("b"), keep("c")]);
    case.on(kept("b"));
    case.on(kept("c"));
    assert!(case.put.is_done());
}

#[test]
fn a_write_that_everybody_refused_is_rejected_and_leaves_no_hint() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 1, false);
    assert_eq!(case.on(refused("a")), []);
    assert_eq!(case.on(refused("b")), []);
    let (needed, acked, outcome) = (1, 0, Outcome::Rejected);
    let rejected = Reply(Err(PutError::TooFewReplicas { needed, acked, outcome }));
    assert_eq!(case.on(refused("c")), [rejected]);
    assert!(case.put.is_done());
    assert_eq!(case.on(stored("a")), []);
    assert_eq!(case.fire_at(TIMEOUT), []);
}

#[test]
fn an_early_failure_of_which_nothing_came_leaves_no_hint_either() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    case.on(refused("a"));
    assert_eq!(case.on(refused("b")), [too_few(0, Outcome::Indeterminate)]);
    assert_eq!(case.on(refused("c")), []);
    assert!(case.put.is_done());
}

#[test]
fn one_answer_that_never_came_makes_the_outcome_indeterminate() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 1, false);
    case.on(refused("a"));
    assert_eq!(case.on(failed("b", Failure::Unknown)), [keep("a"), keep("b")]);
    let (needed, acked, outcome) = (1, 0, Outcome::Indeterminate);
    let lost = Reply(Err(PutError::TooFewReplicas { needed, acked, outcome }));
    assert_eq!(case.on(refused("c")), [lost, keep("c")]);
}

#[test]
fn too_short_a_preference_list_is_rejected_without_a_send() {
    let mut case = Case::new(&["a"], &[], 2, true);
    assert_eq!(case.actions(), [too_few(0, Outcome::Rejected)]);
    assert!(case.put.is_done());
}

#[test]
fn the_deadline_answers_the_client_and_hints_for_all_who_stay_silent() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    case.on(stored("a"));
    let end = TIMEOUT + TIMEOUT;
    let expected = [timed_out(1, Outcome::Indeterminate), case.timer(end)];
    assert_eq!(case.fire_at(TIMEOUT), expected);
    assert_eq!(case.on(stored("b")), []);
    assert_eq!(case.fire_at(end), [keep("c")]);
}

#[test]
fn a_timer_that_fires_early_is_set_again() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    let again = [case.timer(TIMEOUT)];
    assert_eq!(case.fire_at(PATIENCE), again);
}

#[test]
fn a_write_that_met_a_newer_version_is_sent_once_more_above_it() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    assert_eq!(case.on(superseded("a", 30)), []);
    assert_eq!(case.on(stored("b")), [Restamp { above: 30 }]);
    let again = [send("a", Second), send("b", Second), send("c", Second)];
    assert_eq!(case.on(PutEvent::Restamped { version: 31 }), again);
    assert_eq!(*case.put.version(), 31);
    assert_eq!(case.on(PutEvent::Stored { from: "a", round: Second }), []);
    let overtaken = PutEvent::Superseded { from: "c", round: Second, by: 40 };
    let receipt = PutReceipt {
        version: 31,
        w: 2,
        n: 3,
        acks: vec!["a", "c"],
        hinted: vec![],
        sloppy: false,
        lacking: vec!["b"],
        round: Second,
    };
    assert_eq!(case.on(overtaken), [Reply(Ok(receipt))]);
}

#[test]
fn answers_to_the_first_round_count_for_nothing_in_the_second() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    case.on(superseded("a", 30));
    case.on(stored("b"));
    case.on(PutEvent::Restamped { version: 31 });
    assert_eq!(case.on(stored("c")), []);
    assert_eq!(case.on(stored("b")), []);
    assert_eq!(case.on(PutEvent::Stored { from: "b", round: Second }), []);
    assert_eq!(case.on(PutEvent::Stored { from: "b", round: Second }), []);
}

#[test]
fn an_ack_that_comes_after_the_decision_for_a_second_round_does_not_undo_it() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    case.on(superseded("a", 30));
    assert_eq!(case.on(stored("b")), [Restamp { above: 30 }]);
    assert_eq!(case.on(stored("c")), []);
}

#[test]
fn a_version_heard_of_while_the_new_one_is_made_does_not_move_the_mark() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    case.on(stored("a"));
    assert_eq!(case.on(superseded("b", 30)), [Restamp { above: 30 }]);
    assert_eq!(case.on(superseded("c", 40)), []);
    let again = [send("a", Second), send("b", Second), send("c", Second)];
    assert_eq!(case.on(PutEvent::Restamped { version: 31 }), again);
}

#[test]
fn one_superseded_answer_among_enough_acks_costs_no_round() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    case.on(stored("a"));
    assert_eq!(case.on(stored("b")), [receipt(&["a", "b"], &[])]);
    assert_eq!(case.on(superseded("c", 30)), []);
    assert!(case.put.is_done());
}

#[test]
fn the_second_round_goes_to_stand_ins_with_their_hint() {
    let mut case = Case::sent(&["a", "b", "c", "f"], &[], 2, false);
    case.on(refused("c"));
    case.on(superseded("a", 30));
    case.on(stored("b"));
    let again = case.on(PutEvent::Restamped { version: 31 });
    assert_eq!(again[..3], [send("a", Second), send("b", Second), send_hint("f", "c", Second)]);
}

#[test]
fn a_replica_that_nobody_stands_in_for_gets_a_second_chance_and_a_new_hint() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    case.on(refused("c"));
    case.on(superseded("a", 30));
    assert_eq!(case.on(stored("b")), [Restamp { above: 30 }]);
    let again = [send("a", Second), send("b", Second), send("c", Second)];
    assert_eq!(case.on(PutEvent::Restamped { version: 31 }), again);
    let again = PutEvent::Failed { from: "c", round: Second, failure: Failure::Refused };
    assert_eq!(case.on(again), [KeepHint { replica: "c", round: Second }]);
    case.on(PutEvent::Stored { from: "a", round: Second });
    case.on(PutEvent::Stored { from: "b", round: Second });
    case.on(kept("c"));
    assert!(!case.put.is_done(), "the hint kept is of the first round");
    case.on(PutEvent::HintKept { replica: "c", round: Second });
    assert!(case.put.is_done());
}

#[test]
fn a_first_send_that_nobody_listened_to_may_have_stored_the_record() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    case.on(superseded("a", 30));
    case.on(superseded("b", 30));
    case.on(PutEvent::Restamped { version: 31 });
    let refused = |from| PutEvent::Failed { from, round: Second, failure: Failure::Refused };
    let keep = |replica| KeepHint { replica, round: Second };
    assert_eq!(case.on(refused("a")), [keep("a")]);
    assert_eq!(case.on(refused("b")), [too_few(0, Outcome::Indeterminate), keep("b")]);
    assert_eq!(case.on(refused("c")), [keep("c")]);
}

#[test]
fn a_clock_that_may_not_go_so_far_fails_the_write() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    case.on(superseded("a", 30));
    case.on(superseded("b", 20));
    let (needed, acked, outcome) = (2, 0, Outcome::Indeterminate);
    let too_far = Reply(Err(PutError::ClockTooFar { needed, acked, outcome }));
    assert_eq!(case.on(PutEvent::RestampFailed), [too_far]);
    assert_eq!(case.on(stored("c")), []);
    assert!(case.put.is_done());
}

#[test]
fn a_replica_that_is_too_far_ahead_does_not_fail_a_write_that_the_others_store() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    case.on(superseded("a", 30));
    assert_eq!(case.on(stored("b")), [Restamp { above: 30 }]);
    assert_eq!(case.on(PutEvent::RestampFailed), []);
    let [Reply(Ok(receipt))] = &case.on(stored("c"))[..] else { panic!("two have stored it") };
    assert_eq!((&receipt.acks[..], receipt.round), (&["b", "c"][..], First));
}

#[test]
fn a_replica_that_is_down_gets_its_hint_as_soon_as_another_has_stored_the_record() {
    let mut case = Case::new(&["a", "b", "c"], &["c"], 2, false);
    assert_eq!(case.actions(), [send("a", First), send("b", First), case.timer(TIMEOUT)]);
    assert_eq!(case.on(stored("a")), [keep("c")]);
    assert_eq!(case.on(stored("b")), [receipt(&["a", "b"], &[])]);
    assert_eq!(case.on(kept("c")), []);
    assert!(case.put.is_done());
}

#[test]
fn a_replica_that_is_down_is_asked_all_the_same_where_the_others_are_too_few() {
    let mut case = Case::new(&["a", "b", "c"], &["c"], 3, false);
    let sends = [send("a", First), send("b", First), send("c", First), case.timer(TIMEOUT)];
    assert_eq!(case.actions(), sends);
}

#[test]
fn a_new_version_after_the_deadline_comes_too_late() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    case.on(superseded("a", 30));
    case.on(superseded("b", 20));
    case.on(refused("c"));
    assert_eq!(case.fire_at(TIMEOUT), [timed_out(0, Outcome::Rejected)]);
    assert_eq!(case.on(PutEvent::Restamped { version: 31 }), []);
    assert!(case.put.is_done());
}

#[test]
#[should_panic(expected = "not above what the write was told of")]
fn a_second_round_needs_a_greater_version() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    case.on(superseded("a", 30));
    case.on(stored("b"));
    case.on(PutEvent::Restamped { version: 30 });
}

#[test]
#[should_panic(expected = "repeats a node")]
fn a_preference_list_that_repeats_a_node_is_a_bug() {
    Case::new(&["a", "b", "a"], &[], 2, false);
}

fn told(from: &'static str, holds: Option<u32>) -> Event {
    PutEvent::Told { from, holds }
}

fn stored_second(from: &'static str) -> Event {
    PutEvent::Stored { from, round: Second }
}

#[test]
fn a_second_version_that_rests_on_a_fallback_is_strict_only_if_replicas_store_it() {
    for (answer, sloppy) in [("stored", false), ("superseded", true)] {
        let mut case = Case::sent(&["a", "b", "c", "f"], &["b"], 2, true);
        case.on(superseded("f", 15));
        assert_eq!(case.on(superseded("a", 20)), [Restamp { above: 20 }]);
        case.on(PutEvent::Restamped { version: 21 });
        case.on(stored_second("a"));
        let last = match answer {
            "stored" => stored_second("c"),
            _ => PutEvent::Superseded { from: "c", round: Second, by: 40 },
        };
        let actions = case.on(last);
        let Some(Reply(Ok(receipt))) = actions.first() else { panic!("two acks: {actions:?}") };
        assert_eq!((&receipt.acks[..], receipt.sloppy), (&["a", "c"][..], sloppy));
    }
}

#[test]
fn an_atomic_write_asks_a_majority_and_then_writes_above_what_it_was_told() {
    let mut case = Case::atomic(&["a", "b", "c"], &[]);
    let asks = [send("a", Asking), send("b", Asking), send("c", Asking), case.timer(TIMEOUT)];
    assert_eq!(case.actions(), asks);
    assert_eq!(case.on(told("a", None)), []);
    assert_eq!(case.on(told("b", Some(30))), [Restamp { above: 30 }]);
    assert_eq!(case.on(told("c", Some(40))), [], "a majority was enough");
    let sends = [send("a", Second), send("b", Second), send("c", Second)];
    assert_eq!(case.on(PutEvent::Restamped { version: 31 }), sends);
    assert_eq!(case.on(stored_second("a")), []);
    let by_a_later_one = PutEvent::Superseded { from: "c", round: Second, by: 40 };
    let [Reply(Ok(receipt))] = &case.on(by_a_later_one)[..] else { panic!("a majority acked") };
    assert_eq!((receipt.version, &receipt.acks[..]), (31, &["a", "c"][..]));
}

#[test]
fn an_atomic_write_of_a_new_key_is_above_what_the_coordinator_has_seen() {
    let mut case = Case::atomic(&["a", "b", "c"], &[]);
    case.actions();
    case.on(told("a", None));
    assert_eq!(case.on(told("c", None)), [Restamp { above: VERSION }]);
}

#[test]
fn while_an_atomic_write_asks_nobody_stands_in_and_nothing_is_stored() {
    let mut case = Case::atomic(&["a", "b", "c", "f"], &[]);
    case.actions();
    let failed = |from| PutEvent::Failed { from, round: Asking, failure: Failure::Unknown };
    assert_eq!(case.on(failed("a")), []);
    assert_eq!(case.on(failed("b")), [too_few(0, Outcome::Rejected)]);
    assert!(case.put.is_done());

    let mut case = Case::atomic(&["a", "b", "c", "f"], &[]);
    case.actions();
    case.on(told("a", None));
    assert_eq!(case.fire_at(TIMEOUT), [timed_out(0, Outcome::Rejected)]);
    assert!(case.put.is_done());
    assert_eq!(case.on(told("b", None)), []);
}

#[test]
fn an_atomic_write_that_is_woken_long_after_its_end_leaves_no_hint() {
    let mut case = Case::atomic(&["a", "b", "c"], &[]);
    case.actions();
    let (needed, acked, outcome) = (2, 0, Outcome::Rejected);
    let timed_out = PutError::TimedOut { needed, acked, outcome };
    assert_eq!(case.fire_at(3 * TIMEOUT), [Reply(Err(timed_out))]);
    assert!(case.put.is_done());
}

#[test]
fn a_replica_that_is_down_gets_a_hint_of_an_atomic_write() {
    let mut case = Case::atomic(&["a", "b", "c", "f"], &["c"]);
    assert_eq!(case.actions()[..2], [send("a", Asking), send("b", Asking)]);
    case.on(told("a", None));
    case.on(told("b", None));
    let sends = [send("a", Second), send("b", Second), send_hint("f", "c", Second)];
    assert_eq!(case.on(PutEvent::Restamped { version: 31 }), sends);
    assert_eq!(case.on(stored_second("f")), [], "a fallback does not count");
    assert_eq!(case.on(stored_second("a")), []);
    assert!(matches!(case.on(stored_second("b"))[..], [Reply(Ok(_))]));
}

#[test]
fn a_replica_thought_to_be_down_is_asked_before_an_atomic_write_fails() {
    let mut case = Case::atomic(&["a", "b", "c"], &["c"]);
    case.actions();
    case.on(told("a", None));
    let failed = PutEvent::Failed { from: "b", round: Asking, failure: Failure::Refused };
    assert_eq!(case.on(failed), [send("c", Asking)]);
}

#[test]
fn an_atomic_write_whose_clock_may_not_follow_reaches_nobody() {
    let mut case = Case::atomic(&["a", "b", "c"], &[]);
    case.actions();
    case.on(told("a", Some(99)));
    case.on(told("b", None));
    case.on(told("c", None));
    let (needed, acked, outcome) = (2, 0, Outcome::Rejected);
    let too_far = Reply(Err(PutError::ClockTooFar { needed, acked, outcome }));
    assert_eq!(case.on(PutEvent::RestampFailed), [too_far]);
    assert!(case.put.is_done());
}

#[test]
#[should_panic(expected = "strict majority")]
fn an_atomic_write_without_a_majority_is_none() {
    let quorum = Quorum::new(3, 3, 1, false).unwrap();
    let now = Case::new(&["a", "b", "c"], &[], 2, false).start;
    Put::start_atomic(&["a", "b", "c"], |_| false, quorum, VERSION, PATIENCE, TIMEOUT, now);
}

fn below(from: &'static str, round: Round, by: u32) -> Event {
    PutEvent::Below { from, round, by }
}

#[test]
fn what_is_below_is_no_ack_in_any_round_and_lifts_the_version() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    assert_eq!(case.on(below("a", First, 20)), []);
    assert_eq!(case.on(stored("b")), [Restamp { above: 20 }]);
    let again = case.on(PutEvent::Restamped { version: 21 });
    assert_eq!(again[..3], ["a", "b", "c"].map(|to| send(to, Second)));
    assert_eq!(case.on(below("a", Second, 30)), []);
    assert_eq!(case.on(below("b", Second, 31)), [Restamp { above: 31 }]);
    let again = case.on(PutEvent::Restamped { version: 32 });
    assert_eq!(again[..3], ["a", "b", "c"].map(|to| send(to, Third)));
    case.on(PutEvent::Stored { from: "a", round: Third });
    let [Reply(Ok(receipt))] = &case.on(PutEvent::Stored { from: "b", round: Third })[..] else {
        panic!("two replicas have it")
    };
    assert_eq!((receipt.version, receipt.round), (32, Third));
}

#[test]
fn a_write_that_is_below_four_times_ends_indeterminate() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    let mut by = 20;
    for (round, next) in [(First, Second), (Second, Third), (Third, Fourth)] {
        case.on(below("c", round, by));
        assert_eq!(case.on(below("a", round, by)), [Restamp { above: by }], "{round:?}");
        by += 10;
        assert_eq!(case.on(PutEvent::Restamped { version: by - 9 })[0], send("a", next));
    }
    case.on(below("a", Fourth, by));
    // What the replica that was never heard of did with the earlier versions is not known.
    let error = PutError::TooFewReplicas { needed: 2, acked: 0, outcome: Outcome::Indeterminate };
    assert_eq!(case.on(below("b", Fourth, by))[0], Reply(Err(error)));
}

/// An atomic write that was told of nothing and is in its second round.
fn atomic_that_writes() -> Case {
    let mut case = Case::atomic(&["a", "b", "c"], &[]);
    case.actions();
    case.on(told("a", None));
    case.on(told("b", None));
    case.on(PutEvent::Restamped { version: 31 });
    case
}

#[test]
fn an_atomic_write_has_no_other_version_once_a_node_has_stored_it() {
    let mut case = atomic_that_writes();
    assert_eq!(case.on(stored_second("a")), []);
    assert_eq!(case.on(below("b", Second, 40)), [], "the third may store it");
    let ends = case.on(below("c", Second, 40));
    assert_eq!(ends[0], too_few(1, Outcome::Indeterminate));
    let keep = |replica| KeepHint { replica, round: Second };
    assert_eq!(ends[1..], [keep("b"), keep("c")]);
}

#[test]
fn an_atomic_write_that_a_node_may_have_stored_has_no_other_version() {
    let mut case = atomic_that_writes();
    let unknown = PutEvent::Failed { from: "c", round: Second, failure: Failure::Unknown };
    case.on(unknown);
    assert_eq!(case.on(below("a", Second, 40))[0], too_few(0, Outcome::Indeterminate));
    case.on(below("b", Second, 40));
    assert_eq!(case.put.version(), &31);
}

#[test]
fn an_atomic_write_that_all_nodes_refused_as_below_has_another_version() {
    let mut case = atomic_that_writes();
    case.on(below("a", Second, 40));
    assert_eq!(case.on(below("b", Second, 41)), [], "the third may store it");
    let refused = PutEvent::Failed { from: "c", round: Second, failure: Failure::Refused };
    assert_eq!(case.on(refused), [Restamp { above: 41 }]);
    let sends = ["a", "b", "c"].map(|to| send(to, Third));
    assert_eq!(case.on(PutEvent::Restamped { version: 42 }), sends);
}

#[test]
fn while_an_atomic_write_awaits_another_version_nobody_is_sent_the_old_one() {
    let mut case = Case::atomic(&["a", "b", "c", "f"], &[]);
    case.actions();
    case.on(told("a", None));
    case.on(told("b", None));
    case.on(PutEvent::Restamped { version: 31 });
    case.on(below("a", Second, 40));
    case.on(below("b", Second, 41));
    assert_eq!(case.on(below("c", Second, 42)), [Restamp { above: 42 }]);
    assert_eq!(case.on(PutEvent::Void { from: "a" }), []);
    let again = case.on(PutEvent::Restamped { version: 43 });
    assert!(again.contains(&send("b", Third)) && again.contains(&send("c", Third)), "{again:?}");
}

#[test]
fn a_replica_that_lost_data_has_the_record_and_does_not_count() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    assert_eq!(case.on(PutEvent::Uncounted { from: "a", round: First }), []);
    assert_eq!(case.on(stored("b")), []);
    let [Reply(Ok(receipt))] = &case.on(stored("c"))[..] else { panic!("b and c have it") };
    assert_eq!((&receipt.acks[..], &receipt.hinted[..]), (&["b", "c"][..], &[][..]));
    assert!(case.put.is_done(), "nobody needs a hint");
}

#[test]
fn a_fallback_counts_in_place_of_a_replica_that_does_not_if_it_is_needed() {
    let mut case = Case::sent(&["a", "b", "c", "d", "e"], &[], 2, true);
    assert_eq!(case.on(PutEvent::Uncounted { from: "a", round: First }), []);
    assert_eq!(
        case.on(PutEvent::Uncounted { from: "b", round: First }),
        [send_hint("d", "a", First)]
    );
    assert_eq!(case.on(stored("c")), []);
    let [Reply(Ok(receipt))] = &case.on(stored("d"))[..] else { panic!("c and d count") };
    assert!(receipt.sloppy);
}

#[test]
fn what_a_replica_answered_before_it_lost_its_data_does_not_count() {
    let mut case = Case::sent(&["a", "b", "c"], &[], 2, false);
    case.on(stored("a"));
    let kept = KeepHint { replica: "a", round: First };
    assert_eq!(case.on(PutEvent::Void { from: "a" }), [kept], "it needs the record again");
    assert_eq!(case.on(stored("b")), []);
    let [Reply(Ok(receipt))] = &case.on(stored("c"))[..] else { panic!("b and c have it") };
    assert_eq!(receipt.acks, ["b", "c"]);
}
