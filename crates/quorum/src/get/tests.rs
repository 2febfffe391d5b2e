use super::GetAction::{Repair as Mend, Reply};
use super::*;

type Action = GetAction<&'static str, u32>;
type Event = GetEvent<&'static str, u32>;

const HEDGE: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_millis(50);
const TIMEOUT: Duration = Duration::from_millis(1000);

/// A read of two of replicas a, b and c, with whatever fallbacks a test gives it.
struct Case {
    get: Get<&'static str, u32>,
    start: Instant,
    now: Instant,
}

impl Case {
    fn new(nodes: &[&'static str], down: &[&str], sloppy: bool, repair: Repair) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the first")]
        let start = Instant::now();
        let quorum = Quorum::new(3, 2, 2, sloppy).unwrap();
        let down = |node: &&str| down.contains(node);
        let hedge_after = Some(HEDGE);
        let options = GetOptions { repair, hedge_after, patience: PATIENCE, timeout: TIMEOUT };
        Self { get: Get::start(nodes, down, quorum, options, start), start, now: start }
    }

    /// A case whose first sends are of no interest.
    fn sent(nodes: &[&'static str], down: &[&str], sloppy: bool, repair: Repair) -> Self {
        let mut case = Self::new(nodes, down, sloppy, repair);
        case.actions();
        case
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.get.poll_action()).collect()
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.get.handle(event, self.now);
        self.actions()
    }

    fn fire_at(&mut self, after: Duration) -> Vec<Action> {
        self.now = self.start + after;
        self.on(GetEvent::TimerFired)
    }

    fn timer(&self, after: Duration) -> Action {
        GetAction::SetTimer { at: self.start + after }
    }
}

fn send(to: &'static str) -> Action {
    GetAction::Send { to, from_hints: false, hedge: false }
}

fn send_hedge(to: &'static str) -> Action {
    GetAction::Send { to, from_hints: false, hedge: true }
}

fn send_fallback(to: &'static str) -> Action {
    GetAction::Send { to, from_hints: true, hedge: false }
}

fn answer(from: &'static str, found: impl Into<Option<u32>>) -> Event {
    GetEvent::Answer { from, found: found.into() }
}

fn failed(from: &'static str) -> Event {
    GetEvent::Failed { from }
}

fn mend(to: &'static str, payload: u32) -> Action {
    Mend { to, payload }
}

fn receipt(
    found: impl Into<Option<u32>>,
    from: &[&'static str],
    repaired: &[&'static str],
) -> GetReceipt<&'static str, u32> {
    let (from, repaired) = (from.to_vec(), repaired.to_vec());
    GetReceipt { found: found.into(), r: 2, n: 3, from, repaired, sloppy: false }
}

fn too_few(answered: usize) -> Action {
    Reply(Err(GetError::TooFewReplicas { needed: 2, answered }))
}

#[test]
fn no_more_replicas_are_asked_than_must_answer() {
    let mut case = Case::new(&["a", "b", "c"], &[], false, Repair::Async);
    let expected = [send("a"), send("b"), case.timer(HEDGE)];
    assert_eq!(case.actions(), expected);
}

#[test]
fn the_greatest_answer_wins_and_the_stale_replica_is_repaired_after_the_reply() {
    let mut case = Case::sent(&["a", "b", "c"], &[], false, Repair::Async);
    assert_eq!(case.on(answer("a", 1)), []);
    let expected = [Reply(Ok(receipt(2, &["a", "b"], &["a"]))), mend("a", 2)];
    assert_eq!(case.on(answer("b", 2)), expected);
    assert!(case.get.is_done());
}

#[test]
fn a_replica_that_knows_nothing_is_repaired_too() {
    let mut case = Case::sent(&["a", "b", "c"], &[], false, Repair::Async);
    case.on(answer("a", None));
    let expected = [Reply(Ok(receipt(2, &["a", "b"], &["a"]))), mend("a", 2)];
    assert_eq!(case.on(answer("b", 2)), expected);
}

#[test]
fn absent_means_that_r_replicas_said_so_and_repairs_nothing() {
    for repair in [Repair::Async, Repair::Blocking] {
        let mut case = Case::sent(&["a", "b", "c"], &[], false, repair);
        assert_eq!(case.on(answer("a", None)), []);
        assert_eq!(case.on(answer("a", None)), []);
        assert_eq!(case.on(answer("z", None)), []);
        assert_eq!(case.on(answer("b", None)), [Reply(Ok(receipt(None, &["a", "b"], &[])))]);
        assert!(case.get.is_done());
    }
}

#[test]
fn a_failed_replica_is_replaced_by_the_next_at_once() {
    let mut case = Case::sent(&["a", "b", "c"], &[], false, Repair::Async);
    assert_eq!(case.on(failed("b")), [send("c")]);
    case.on(answer("a", 1));
    assert_eq!(case.on(answer("b", 7)), []);
    assert_eq!(case.on(answer("c", 1)), [Reply(Ok(receipt(1, &["a", "c"], &[])))]);
}

#[test]
fn replicas_that_are_down_are_asked_last() {
    let mut case = Case::new(&["a", "b", "c"], &["a", "b"], false, Repair::Async);
    let expected = [send("c"), send("a"), case.timer(PATIENCE)];
    assert_eq!(case.actions(), expected);
}

#[test]
fn a_hedge_asks_one_more_replica_once() {
    let mut case = Case::sent(&["a", "b", "c"], &[], false, Repair::Async);
    case.on(answer("a", 1));
    let expected = [send_hedge("c"), case.timer(TIMEOUT)];
    assert_eq!(case.fire_at(HEDGE), expected);
    assert_eq!(case.on(answer("c", 1)), [Reply(Ok(receipt(1, &["a", "c"], &[])))]);
    assert!(!case.get.is_done(), "b may yet turn out stale");
    assert_eq!(case.on(answer("b", None)), [mend("b", 1)]);
    assert!(case.get.is_done());
}

#[test]
fn a_declined_hedge_is_not_made_good_but_asked_when_it_is_needed() {
    let mut case = Case::sent(&["a", "b", "c"], &[], false, Repair::Async);
    case.fire_at(HEDGE);
    assert_eq!(case.on(GetEvent::Declined { from: "c" }), [case.timer(PATIENCE)]);
    assert_eq!(case.on(failed("b")), [send("c")]);
    assert_eq!(case.on(GetEvent::Declined { from: "c" }), []);
    case.on(answer("a", 1));
    assert_eq!(case.on(answer("c", 1)), [Reply(Ok(receipt(1, &["a", "c"], &[])))]);
}

#[test]
fn a_late_replica_is_replaced_and_its_own_answer_still_counts() {
    let mut case = Case::sent(&["a", "b", "c"], &["c"], false, Repair::Async);
    case.on(answer("a", 1));
    assert_eq!(case.fire_at(PATIENCE), [send("c"), case.timer(TIMEOUT)]);
    let expected = [Reply(Ok(receipt(2, &["a", "b"], &["a"])))];
    assert_eq!(case.on(answer("b", 2)), expected);
    assert_eq!(case.on(answer("c", 3)), [mend("a", 3), mend("b", 3)]);
}

#[test]
fn a_late_stale_answer_is_repaired_and_the_deadline_ends_the_listening() {
    let mut case = Case::sent(&["a", "b", "c"], &[], false, Repair::Async);
    case.fire_at(HEDGE);
    case.on(answer("a", 2));
    assert_eq!(case.on(answer("c", 1)), [Reply(Ok(receipt(2, &["a", "c"], &["c"])))]);
    assert_eq!(case.fire_at(TIMEOUT), [mend("c", 2)]);
    assert!(case.get.is_done());
    assert_eq!(case.on(answer("b", 1)), []);
}

#[test]
fn too_many_failures_end_the_read_early() {
    let mut case = Case::sent(&["a", "b", "c"], &[], false, Repair::Async);
    case.on(failed("a"));
    assert_eq!(case.on(failed("b")), [too_few(0)]);
    assert_eq!(case.on(answer("c", 1)), []);
    assert!(case.get.is_done());
}

#[test]
fn too_short_a_preference_list_fails_without_a_send() {
    let mut case = Case::new(&["a"], &[], true, Repair::Async);
    assert_eq!(case.actions(), [too_few(0)]);
    assert!(case.get.is_done());
}

#[test]
fn the_deadline_answers_the_client() {
    let mut case = Case::sent(&["a", "b", "c"], &[], false, Repair::Async);
    case.on(answer("a", 1));
    let timed_out = GetError::TimedOut { needed: 2, answered: 1 };
    assert_eq!(case.fire_at(TIMEOUT), [Reply(Err(timed_out))]);
    assert!(case.get.is_done());
}

#[test]
fn a_timer_that_fires_early_is_set_again() {
    let mut case = Case::sent(&["a", "b", "c"], &[], false, Repair::Async);
    let again = [case.timer(HEDGE)];
    assert_eq!(case.fire_at(Duration::ZERO), again);
}

#[test]
fn a_fallback_is_asked_for_hints_only_if_the_quorum_is_sloppy() {
    let mut case = Case::new(&["a", "b", "c", "f"], &["b", "c"], true, Repair::Async);
    assert_eq!(case.actions()[..2], [send("a"), send_fallback("f")]);
    let mut case = Case::new(&["a", "b", "c", "f"], &["b", "c"], false, Repair::Async);
    assert_eq!(case.actions()[..2], [send("a"), send("b")]);
}

#[test]
fn a_fallback_counts_if_it_found_something() {
    let mut case = Case::sent(&["a", "b", "c", "f"], &["b", "c"], true, Repair::Async);
    case.on(answer("a", None));
    let receipt = GetReceipt { sloppy: true, ..receipt(5, &["a", "f"], &["a"]) };
    assert_eq!(case.on(answer("f", 5)), [Reply(Ok(receipt)), mend("a", 5)]);
}

#[test]
fn a_fallback_without_a_hint_says_nothing_about_the_key() {
    let mut case = Case::sent(&["a", "b", "c", "f"], &["b", "c"], true, Repair::Async);
    case.on(answer("a", None));
    assert_eq!(case.on(answer("f", None)), [send("b")]);
    assert_eq!(case.on(failed("b")), [send("c")]);
    assert_eq!(case.on(failed("c")), [too_few(1)]);
    assert!(case.get.is_done());
}

#[test]
fn a_fallback_is_never_repaired() {
    let mut case = Case::sent(&["a", "b", "c", "f"], &["b", "c"], true, Repair::Async);
    case.on(answer("a", 7));
    let receipt = GetReceipt { sloppy: true, ..receipt(7, &["a", "f"], &[]) };
    assert_eq!(case.on(answer("f", 5)), [Reply(Ok(receipt))]);
    assert!(case.get.is_done());
}

#[test]
fn at_most_n_minus_one_replicas_are_repaired() {
    let mut case = Case::sent(&["a", "b", "c", "f"], &["c"], true, Repair::Async);
    let asked = case.fire_at(PATIENCE);
    assert_eq!(asked, [send_fallback("f"), send("c"), case.timer(TIMEOUT)]);
    case.on(answer("f", 5));
    case.on(answer("a", None));
    case.on(answer("b", None));
    assert_eq!(case.on(answer("c", None)), [mend("a", 5), mend("b", 5)]);
}

#[test]
fn nobody_is_late_after_the_reply() {
    let mut case = Case::sent(&["a", "b", "c", "f"], &[], true, Repair::Async);
    assert_eq!(case.fire_at(HEDGE), [send_hedge("c"), case.timer(PATIENCE)]);
    case.on(answer("a", 1));
    case.on(answer("c", 1));
    let deadline = [case.timer(TIMEOUT)];
    assert_eq!(case.fire_at(HEDGE), deadline);
    assert_eq!(case.fire_at(PATIENCE), deadline);
}

#[test]
fn a_fallback_that_carries_a_blocking_read_makes_it_sloppy() {
    let mut case = Case::sent(&["a", "b", "c", "f"], &["c"], true, Repair::Blocking);
    case.on(answer("a", 1));
    assert_eq!(case.on(answer("b", 2)), [mend("a", 2)]);
    let failed = GetEvent::RepairFailed { from: "a" };
    assert_eq!(case.on(failed), [send_fallback("f")]);
    let receipt = GetReceipt { sloppy: true, ..receipt(2, &["a", "b"], &[]) };
    assert_eq!(case.on(answer("f", 2)), [Reply(Ok(receipt))]);
}

#[test]
fn a_blocking_read_replies_once_r_nodes_hold_what_it_found() {
    let mut case = Case::sent(&["a", "b", "c"], &[], false, Repair::Blocking);
    case.on(answer("a", 1));
    assert_eq!(case.on(answer("b", 2)), [mend("a", 2)]);
    let repaired = GetEvent::Repaired { from: "a" };
    let expected = [Reply(Ok(receipt(2, &["a", "b"], &["a"])))];
    assert_eq!(case.on(repaired), expected);
    assert!(case.get.is_done());
}

#[test]
fn a_blocking_read_of_replicas_that_agree_repairs_nothing() {
    let mut case = Case::sent(&["a", "b", "c"], &[], false, Repair::Blocking);
    case.on(answer("a", 2));
    assert_eq!(case.on(answer("b", 2)), [Reply(Ok(receipt(2, &["a", "b"], &[])))]);
    assert!(case.get.is_done());
}

#[test]
fn a_replica_that_cannot_be_repaired_does_not_fail_a_read_that_others_can_carry() {
    let mut case = Case::sent(&["a", "b", "c"], &[], false, Repair::Blocking);
    case.on(answer("a", 1));
    case.on(answer("b", 2));
    let refused = GetEvent::RepairFailed { from: "a" };
    assert_eq!(case.on(refused), [send("c")]);
    assert_eq!(case.on(answer("c", 2)), [Reply(Ok(receipt(2, &["a", "b"], &[])))]);
}

#[test]
fn a_further_stale_node_is_repaired_in_its_stead() {
    let mut case = Case::sent(&["a", "b", "c"], &[], false, Repair::Blocking);
    case.on(answer("a", 1));
    case.on(answer("b", 2));
    case.on(GetEvent::RepairFailed { from: "a" });
    assert_eq!(case.on(answer("c", None)), [mend("c", 2)]);
    let expected = [Reply(Ok(receipt(2, &["a", "b"], &["c"])))];
    assert_eq!(case.on(GetEvent::Repaired { from: "c" }), expected);
}

#[test]
fn a_blocking_read_that_nobody_takes_a_repair_of_fails() {
    let mut case = Case::sent(&["a", "b", "c"], &[], false, Repair::Blocking);
    case.on(answer("a", 1));
    case.on(answer("b", 2));
    case.on(GetEvent::RepairFailed { from: "a" });
    case.on(answer("c", 1));
    assert_eq!(case.on(GetEvent::RepairFailed { from: "c" }), [too_few(1)]);
    assert!(case.get.is_done());
}

#[test]
fn an_answer_newer_than_what_was_read_carries_a_blocking_read_without_changing_it() {
    let mut case = Case::sent(&["a", "b", "c"], &[], false, Repair::Blocking);
    case.on(answer("a", 1));
    assert_eq!(case.fire_at(HEDGE)[0], send_hedge("c"));
    assert_eq!(case.on(answer("b", 2)), [mend("a", 2)]);
    let expected = [Reply(Ok(receipt(2, &["a", "b"], &[]))), mend("b", 3)];
    assert_eq!(case.on(answer("c", 3)), expected);
}

#[test]
#[should_panic(expected = "repeats a node")]
fn a_preference_list_that_repeats_a_node_is_a_bug() {
    Case::new(&["a", "b", "a"], &[], false, Repair::Async);
}

#[test]
fn what_a_replica_answered_before_it_lost_its_data_does_not_count() {
    let mut case = Case::sent(&["a", "b", "c"], &[], false, Repair::Async);
    case.on(answer("a", None));
    let [GetAction::Send { to: "c", .. }, ..] = case.on(GetEvent::Void { from: "a" })[..] else {
        panic!("another one is asked")
    };
    case.on(answer("b", 7));
    let [Reply(Ok(receipt))] = &case.on(answer("c", 7))[..] else { panic!("b and c answered") };
    assert_eq!((receipt.found, &receipt.from[..]), (Some(7), &["b", "c"][..]));
}
