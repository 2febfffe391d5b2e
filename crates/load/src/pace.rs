use std::{collections::VecDeque, fmt, str::FromStr, time::Duration};

use serde::Serialize;

use crate::{UnknownName, mix::named, random::Random};

/// When operations begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Closed loop: each connection begins the next operation when the last one has ended. A cluster
    /// that is slow is asked less.
    Closed,
    /// Open loop: operations are due at times that the cluster has no part in, as when many people
    /// use it. Latency counts from when an operation was due, whether or not a connection was free
    /// then, so that no stall hides.
    Open {
        /// Operations a second; above 0.
        rate: f64,
        /// How they lie in time.
        arrivals: Arrivals,
        /// Most operations that are due or under way at once. What would be more is shed: counted,
        /// and never begun.
        max_outstanding: usize,
    },
}

/// How the operations of an open loop lie in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// All as far apart.
    Constant,
    /// As if many that know nothing of each other began them.
    Poisson,
}

const NAMES: [(&str, Arrivals); 2] =
    [("constant", Arrivals::Constant), ("poisson", Arrivals::Poisson)];

impl FromStr for Arrivals {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        named(name, &NAMES)
    }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, known)| known == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// The operations of an open loop: which are due, which wait, which are shed. Times are counted from
/// the beginning of the run.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    arrivals: Arrivals,
    rate: f64,
    random: Random,
    /// When the operation that is due next is due.
    next: Duration,
    /// How many were due before it.
    begun: u64,
    end: Duration,
    /// When those that wait for a connection were due, the oldest first.
    waiting: VecDeque<Duration>,
    under_way: usize,
    max_outstanding: usize,
}

impl Schedule {
    pub(crate) fn new(
        arrivals: Arrivals,
        rate: f64,
        max_outstanding: usize,
        end: Duration,
        seed: u64,
    ) -> Self {
        let mut schedule = Self {
            arrivals,
            rate,
            random: Random::new(seed.rotate_left(32)),
            next: Duration::ZERO,
            begun: 0,
            end,
            waiting: VecDeque::new(),
            under_way: 0,
            max_outstanding,
        };
        if arrivals == Arrivals::Poisson {
            schedule.step();
        }
        schedule
    }

    /// When there will be something for [`advance`](Self::advance); `None` once all has been due.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        (self.next < self.end).then_some(self.next)
    }

    /// The time is `now`. Tells `shed` when those were due that find no room, and returns how many
    /// wait now that did not before.
    pub(crate) fn advance(&mut self, now: Duration, mut shed: impl FnMut(Duration)) -> usize {
        let waited = self.waiting.len();
        while let Some(at) = self.next_at().filter(|&at| at <= now) {
            if self.waiting.len() + self.under_way < self.max_outstanding {
                self.waiting.push_back(at);
            } else {
                shed(at);
            }
            self.step();
        }
        self.waiting.len() - waited
    }

    /// How many are due and have not begun.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Begins the operation that waits the longest: when it was due.
    pub(crate) fn begin(&mut self) -> Option<Duration> {
        let due = self.waiting.pop_front()?;
        self.under_way += 1;
        Some(due)
    }

    /// One of those that were begun has ended.
    pub(crate) fn ended(&mut self) {
        self.under_way -= 1;
    }

    /// Nothing is due any more: when those were due that still wait.
    pub(crate) fn stop(&mut self) -> VecDeque<Duration> {
        self.end = Duration::ZERO;
        std::mem::take(&mut self.waiting)
    }

    fn step(&mut self) {
        self.begun += 1;
        self.next = match self.arrivals {
            // Not a sum of gaps, whose rounding would add up.
            Arrivals::Constant => Duration::from_secs_f64(self.begun as f64 / self.rate),
            Arrivals::Poisson => {
                let gap = -(1.0 - self.random.unit()).ln() / self.rate;
                self.next + Duration::from_secs_f64(gap)
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// How many wait now, and when those were due that were shed.
    fn advance(schedule: &mut Schedule, now: Duration) -> (usize, Vec<Duration>) {
        let mut shed = Vec::new();
        (schedule.advance(now, |due| shed.push(due)), shed)
    }

    fn constant(rate: f64, max_outstanding: usize) -> Schedule {
        Schedule::new(Arrivals::Constant, rate, max_outstanding, SECOND, 1)
    }

    #[test]
    fn constant_arrivals_are_as_far_apart() {
        let mut schedule = constant(4.0, 10);
        assert_eq!(advance(&mut schedule, SECOND), (4, vec![]));
        assert_eq!(schedule.next_at(), None);
        let begun: Vec<_> = std::iter::from_fn(|| schedule.begin()).collect();
        assert_eq!(begun, [ms(0), ms(250), ms(500), ms(750)]);
    }

    #[test]
    fn poisson_arrivals_keep_the_rate_and_vary() {
        let end = SECOND * 10;
        let mut schedule = Schedule::new(Arrivals::Poisson, 1_000.0, usize::MAX, end, 1);
        advance(&mut schedule, end);
        let at: Vec<_> = std::iter::from_fn(|| schedule.begin()).collect();
        assert!((9_600..10_400).contains(&at.len()), "{}", at.len());
        // Of the gaps of a Poisson process, one in e is longer than their mean.
        let long = at.windows(2).filter(|pair| pair[1] - pair[0] > ms(1)).count();
        assert!((3_300..4_100).contains(&long), "{long}");
    }

    #[test]
    fn what_finds_no_room_is_shed() {
        let mut schedule = constant(10.0, 3);
        assert_eq!(advance(&mut schedule, ms(100)), (2, vec![]));
        assert_eq!(schedule.begin(), Some(ms(0)));
        assert_eq!(advance(&mut schedule, ms(300)), (1, vec![ms(300)]));
        schedule.ended();
        assert_eq!(advance(&mut schedule, ms(500)), (1, vec![ms(500)]));
        assert_eq!(schedule.stop(), [ms(100), ms(200), ms(400)]);
        assert_eq!(advance(&mut schedule, SECOND), (0, vec![]));
    }

    /// One connection, a server that takes a millisecond an operation and once stands still.
    fn latencies(stall: Duration) -> Vec<Duration> {
        let mut schedule = constant(500.0, 1_000);
        let mut now = Duration::ZERO;
        let mut latencies = Vec::new();
        loop {
            advance(&mut schedule, now);
            if let Some(due) = schedule.begin() {
                now += if latencies.len() == 100 { stall } else { ms(1) };
                schedule.ended();
                latencies.push(now - due);
            } else if let Some(next) = schedule.next_at() {
                now = next;
            } else {
                return latencies;
            }
        }
    }

    #[test]
    fn a_stall_shows_in_all_operations_that_were_due_in_it() {
        assert!(latencies(ms(1)).iter().all(|&latency| latency == ms(1)));
        let latencies = latencies(ms(200));
        assert_eq!(latencies.len(), 500, "none is left out");
        // A closed loop would have seen one slow operation. 100 were due in the stall, and as many
        // until what had gathered was done.
        let slow = latencies.iter().filter(|&&latency| latency > ms(1)).count();
        assert!((190..=210).contains(&slow), "{slow}");
        assert_eq!(latencies.iter().max(), Some(&ms(200)));
    }

    proptest! {
        #[test]
        fn every_arrival_waits_is_begun_or_is_shed(
            poisson: bool,
            rate in 1.0..5_000.0f64,
            max_outstanding in 1..50usize,
            steps in prop::collection::vec((0..100u64, 0..10usize, 0..10usize), 0..50),
        ) {
            let arrivals = if poisson { Arrivals::Poisson } else { Arrivals::Constant };
            let mut schedule = Schedule::new(arrivals, rate, max_outstanding, SECOND, 5);
            let (mut now, mut due, mut begun, mut under_way) = (Duration::ZERO, 0, 0, 0);
            let mut shed = 0usize;
            for (pass, begin, end) in steps {
                now += ms(pass);
                due += schedule.advance(now, |_| shed += 1);
                for _ in 0..begin {
                    if let Some(at) = schedule.begin() {
                        prop_assert!(at <= now);
                        begun += 1;
                        under_way += 1;
                    }
                }
                for _ in 0..end.min(under_way) {
                    schedule.ended();
                    under_way -= 1;
                }
                prop_assert!(due - begun + under_way <= max_outstanding);
                prop_assert!(schedule.next_at().is_none_or(|at| at > now));
            }
            prop_assert_eq!(schedule.stop().len(), due - begun);
            prop_assert_eq!(schedule.begun, (due + shed) as u64 + u64::from(poisson));
        }
    }
}
