use std::time::Duration;

/// What a read earns toward a hedge: hedges stay below a tenth of the reads.
const EARNED_PER_READ: f64 = 0.1;
/// Most hedges that can be saved up for a burst: about as many reads as wait for a replica at the
/// moment in which it falls silent. Those that come later ask it last.
const MOST_SAVED: f64 = 128.0;
/// No hedge comes earlier than this: below it one asks twice for nothing.
const SHORTEST_DELAY: Duration = Duration::from_millis(1);
/// The delay until something is known about the peers.
const FIRST_DELAY: Duration = Duration::from_millis(20);

/// When a read asks one replica more than it needs, and how often reads may (Dean and Barroso,
/// "The Tail at Scale", 2013).
///
/// The delay is the mean time of recent answers plus four times their mean deviation, the way TCP
/// sets its retransmission timer (RFC 6298 §2), so about one answer in a hundred is later.
#[derive(Clone, Debug)]
pub(crate) struct HedgePolicy {
    mean: Option<Duration>,
    deviation: Duration,
    saved: f64,
}

impl HedgePolicy {
    pub(crate) fn new() -> Self {
        Self { mean: None, deviation: Duration::ZERO, saved: MOST_SAVED }
    }

    /// A replica has answered a read after `took`.
    pub(crate) fn answered(&mut self, took: Duration) {
        let Some(mean) = self.mean else {
            self.mean = Some(took);
            self.deviation = took / 2;
            return;
        };
        self.deviation = (self.deviation * 3 + mean.abs_diff(took)) / 4;
        self.mean = Some((mean * 7 + took) / 8);
    }

    /// A read begins: how long it waits before it hedges.
    pub(crate) fn delay(&mut self, timeout: Duration) -> Duration {
        self.saved = (self.saved + EARNED_PER_READ).min(MOST_SAVED);
        let delay = self.mean.map_or(FIRST_DELAY, |mean| mean + self.deviation * 4);
        delay.clamp(SHORTEST_DELAY, timeout.max(SHORTEST_DELAY))
    }

    /// Whether a read may hedge now; if so, that is paid for.
    pub(crate) fn spend(&mut self) -> bool {
        let affordable = self.saved >= 1.0;
        if affordable {
            self.saved -= 1.0;
        }
        affordable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(800);

    #[test]
    fn hedges_stay_below_a_tenth_of_the_reads() {
        let mut policy = HedgePolicy::new();
        let mut hedges = 0;
        for _ in 0..10_000 {
            policy.delay(TIMEOUT);
            hedges += u32::from(policy.spend());
        }
        assert!((1_118..=1_128).contains(&hedges), "{hedges}");
    }

    #[test]
    fn the_delay_follows_recent_answers() {
        let mut policy = HedgePolicy::new();
        for _ in 0..100 {
            policy.answered(Duration::from_millis(10));
        }
        assert!(policy.delay(TIMEOUT) < Duration::from_millis(12));
        for _ in 0..100 {
            policy.answered(Duration::from_millis(50));
        }
        assert!(policy.delay(TIMEOUT) > Duration::from_millis(45));
        assert_eq!(policy.delay(Duration::from_millis(5)), Duration::from_millis(5));
    }
}
