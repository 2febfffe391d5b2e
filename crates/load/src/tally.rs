use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{Operation, latency::Latencies};

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Well.
    Done,
    /// Well, but nothing was there to be read.
    Absent,
    Failed(Failure),
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What it is counted as; there are few different ones.
    pub(crate) kind: String,
    /// What the node or the client says.
    pub(crate) detail: String,
    /// How long that took, from when it was sent.
    pub(crate) took: Duration,
}

/// What happened in one second of the measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Second {
    /// Its number, from 0.
    pub second: usize,
    /// Operations that ended well in it.
    pub done: u64,
    /// Operations that failed in it.
    pub failed: u64,
    /// Operations due in it that were shed.
    pub shed: u64,
    /// Half of those done took at most as long; here and below without those due in the warm-up.
    pub p50_us: u64,
    /// 99 of 100 of those done took at most as long.
    pub p99_us: u64,
    /// The longest of those done.
    pub max_us: u64,
}

/// What is known of all operations of one kind.
#[derive(Clone)]
pub(crate) struct OperationTally {
    pub(crate) done: u64,
    /// Those that ended well in the measurement, whenever they were due: how much is done in a
    /// second is another question than how long it takes.
    pub(crate) done_in_time: u64,
    pub(crate) failed: u64,
    pub(crate) absent: u64,
    pub(crate) latencies: Latencies,
}

/// Operations that failed in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Errors {
    /// How many.
    pub count: u64,
    /// What was said the first time.
    pub first: String,
    /// Half of them took at most as long, counted from when they were sent: in an open loop, too,
    /// since what one wants to know is how soon a node says no.
    pub p50_us: u64,
    /// 99 of 100 of them took at most as long.
    pub p99_us: u64,
    /// The longest of them.
    pub max_us: u64,
}

/// Failures of one kind.
struct ErrorTally {
    count: u64,
    first: String,
    latencies: Latencies,
}

/// Counts what happens in a measurement. Times are counted from the beginning of the run, whose first
/// part, the warm-up, is left out: an operation counts if it was due in the measurement, however
/// late it ends. How many end in a second is counted of all.
pub(crate) struct Tally {
    from: Duration,
    to: Duration,
    pub(crate) operations: BTreeMap<Operation, OperationTally>,
    errors: BTreeMap<String, ErrorTally>,
    pub(crate) shed: u64,
    pub(crate) not_begun: u64,
    seconds: Vec<Second>,
    /// Latencies of the last of `seconds`.
    current: Latencies,
}

impl OperationTally {
    fn new() -> Self {
        let latencies = Latencies::new();
        Self { done: 0, done_in_time: 0, failed: 0, absent: 0, latencies }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.done_in_time += other.done_in_time;
        self.failed += other.failed;
        self.absent += other.absent;
        self.latencies.merge(&other.latencies);
    }
}

impl Tally {
    /// Measures from `from` to `to`.
    pub(crate) fn new(from: Duration, to: Duration) -> Self {
        Self {
            from,
            to,
            operations: BTreeMap::new(),
            errors: BTreeMap::new(),
            shed: 0,
            not_begun: 0,
            seconds: Vec::new(),
            current: Latencies::new(),
        }
    }

    /// An operation that was due at `due` has ended at `now`.
    pub(crate) fn ended(
        &mut self,
        operation: Operation,
        due: Duration,
        now: Duration,
        outcome: Outcome,
    ) {
        if now < self.from {
            return;
        }
        let (counts, in_time) = (due >= self.from, now < self.to);
        if in_time {
            self.reach(now);
        }
        let second = self.seconds.last_mut().filter(|_| in_time);
        let tally = self.operations.entry(operation).or_insert_with(OperationTally::new);
        if let Outcome::Failed(failure) = outcome {
            if let Some(second) = second {
                second.failed += 1;
            }
            if !counts {
                return;
            }
            tally.failed += 1;
            let errors = self.errors.entry(failure.kind).or_insert_with(|| ErrorTally {
                count: 0,
                first: failure.detail,
                latencies: Latencies::new(),
            });
            errors.count += 1;
            errors.latencies.record(failure.took);
            return;
        }
        if let Some(second) = second {
            tally.done_in_time += 1;
            second.done += 1;
        }
        if !counts {
            return;
        }
        let latency = now.saturating_sub(due);
        tally.done += 1;
        tally.absent += u64::from(outcome == Outcome::Absent);
        tally.latencies.record(latency);
        if in_time {
            self.current.record(latency);
        }
    }

    /// An operation that was due at `due` found no room.
    pub(crate) fn shed(&mut self, due: Duration) {
        if due < self.from || due >= self.to {
            return;
        }
        self.shed += 1;
        self.reach(due);
        // What is due is noticed soon after, but perhaps in the next second.
        let second = usize::try_from((due - self.from).as_secs()).unwrap_or(usize::MAX);
        if let Some(second) = self.seconds.get_mut(second) {
            second.shed += 1;
        }
    }

    /// An operation that was due at `due` still waited when the run was over.
    pub(crate) fn not_begun(&mut self, due: Duration) {
        self.not_begun += u64::from(due >= self.from);
    }

    /// The measurement ends at `now` already, if it has begun.
    pub(crate) fn cut(&mut self, now: Duration) {
        self.to = self.to.min(now.max(self.from));
    }

    /// How long was measured.
    pub(crate) fn measured(&self) -> Duration {
        self.to - self.from
    }

    /// The seconds that are over at `now`, or, once the measurement is over, all of them.
    pub(crate) fn seconds(&mut self, now: Duration) -> &[Second] {
        if now >= self.to {
            let last = self.to.saturating_sub(Duration::from_nanos(1));
            if last >= self.from {
                self.reach(last);
            }
            self.close_second();
            return &self.seconds;
        }
        if now >= self.from {
            self.reach(now);
        }
        &self.seconds[..self.seconds.len().saturating_sub(1)]
    }

    /// Why operations failed.
    pub(crate) fn errors(&self) -> BTreeMap<String, Errors> {
        let errors = self.errors.iter().map(|(kind, ErrorTally { count, first, latencies })| {
            let (p50_us, p99_us) = (latencies.at(0.5), latencies.at(0.99));
            let (count, first, max_us) = (*count, first.clone(), latencies.max());
            (kind.clone(), Errors { count, first, p50_us, p99_us, max_us })
        });
        errors.collect()
    }

    pub(crate) fn failed(&self) -> u64 {
        self.operations.values().map(|tally| tally.failed).sum()
    }

    /// Makes the second of `now` the last one, unless it is there already.
    fn reach(&mut self, now: Duration) {
        let second = usize::try_from(now.saturating_sub(self.from).as_secs());
        let second = second.unwrap_or(usize::MAX);
        while self.seconds.len() <= second {
            self.close_second();
            self.current.clear();
            self.seconds.push(Second { second: self.seconds.len(), ..Second::default() });
        }
    }

    fn close_second(&mut self) {
        if let Some(last) = self.seconds.last_mut().filter(|_| !self.current.is_empty()) {
            last.p50_us = self.current.at(0.5);
            last.p99_us = self.current.at(0.99);
            last.max_us = self.current.max();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Warms up for a second, then measures three.
    fn tally() -> Tally {
        Tally::new(ms(1_000), ms(4_000))
    }

    fn failed(kind: &str, detail: &str) -> Outcome {
        Outcome::Failed(Failure { kind: kind.to_owned(), detail: detail.to_owned(), took: ms(5) })
    }

    #[test]
    fn what_was_due_in_the_warm_up_counts_for_what_is_done_in_a_second_and_for_nothing_else() {
        let mut tally = tally();
        tally.ended(Operation::Get, ms(900), ms(999), Outcome::Done);
        tally.ended(Operation::Get, ms(999), ms(1_500), Outcome::Done);
        tally.ended(Operation::Get, ms(999), ms(2_500), failed("rejected", ""));
        tally.ended(Operation::Get, ms(999), ms(4_000), Outcome::Done);
        tally.shed(ms(999));
        tally.not_begun(ms(999));
        let get = &tally.operations[&Operation::Get];
        assert_eq!((get.done, get.done_in_time, get.failed, get.latencies.max()), (0, 1, 0, 0));
        assert_eq!((tally.errors().len(), tally.shed, tally.not_begun), (0, 0, 0));
        let seconds: Vec<_> =
            tally.seconds(ms(4_000)).iter().map(|it| (it.done, it.failed)).collect();
        assert_eq!(seconds, [(1, 0), (0, 1), (0, 0)]);
    }

    #[test]
    fn what_ends_late_counts_but_in_no_second() {
        let mut tally = tally();
        tally.ended(Operation::Get, ms(1_000), ms(1_002), Outcome::Done);
        tally.ended(Operation::Get, ms(3_999), ms(6_000), Outcome::Absent);
        let get = &tally.operations[&Operation::Get];
        assert_eq!((get.done, get.done_in_time, get.absent), (2, 1, 1));
        assert_eq!(get.latencies.max(), 2_001_000);
        let done: Vec<_> = tally.seconds(ms(6_000)).iter().map(|second| second.done).collect();
        assert_eq!(done, [1, 0, 0], "and a second in which nothing ended is there");
    }

    #[test]
    fn each_second_has_latencies_of_its_own() {
        let mut tally = tally();
        tally.ended(Operation::Get, ms(1_100), ms(1_101), Outcome::Done);
        tally.ended(Operation::Put, ms(1_000), ms(3_100), Outcome::Done);
        tally.ended(Operation::Put, ms(3_100), ms(3_105), failed("timed out", "late"));
        tally.shed(ms(2_950));
        let second = |second| Second { second, ..Second::default() };
        let one = |second, us| Second {
            done: 1,
            p50_us: us,
            p99_us: us,
            max_us: us,
            ..Second { second, ..Second::default() }
        };
        let expected = [one(0, 1_000), Second { shed: 1, ..second(1) }];
        assert_eq!(tally.seconds(ms(3_200)), expected, "the third is not over");
        let third = Second { failed: 1, max_us: 2_100_000, ..one(2, 2_100_000) };
        let seconds = tally.seconds(ms(4_000));
        assert_eq!((seconds.len(), seconds[2].failed, seconds[2].done), (3, third.failed, 1));
        assert_eq!(seconds[2].max_us, third.max_us);
    }

    #[test]
    fn errors_are_counted_by_kind_and_the_first_is_kept() {
        let mut tally = tally();
        for detail in ["one", "two"] {
            tally.ended(Operation::Put, ms(1_000), ms(1_001), failed("rejected", detail));
        }
        let rejected = Errors {
            count: 2,
            first: "one".to_owned(),
            p50_us: 5_000,
            p99_us: 5_000,
            max_us: 5_000,
        };
        assert_eq!(tally.errors(), BTreeMap::from([("rejected".to_owned(), rejected)]));
        assert_eq!(tally.failed(), 2);
        assert!(tally.operations[&Operation::Put].latencies.is_empty());
    }

    #[test]
    fn a_measurement_that_is_cut_is_shorter() {
        let mut tally = tally();
        tally.cut(ms(2_500));
        assert_eq!(tally.measured(), ms(1_500));
        assert_eq!(tally.seconds(ms(2_500)).len(), 2);
        let mut tally = self::tally();
        tally.cut(ms(500));
        assert_eq!((tally.measured(), tally.seconds(ms(600)).len()), (Duration::ZERO, 0));
    }
}
