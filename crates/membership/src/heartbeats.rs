//! How regular the heartbeats of a peer are.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::MembershipOptions;
use crate::phi::{deviations, phi};

/// Most intervals that are remembered: half a minute at two a second.
const WINDOW: usize = 64;
/// Fewer say nothing of how irregular a peer is.
const ENOUGH: usize = 8;
/// No suspicion is shown as greater.
const MOST_PHI: f64 = 1_000.0;

/// The intervals between the latest heartbeats of one peer, and what silence they make credible.
///
/// A heartbeat is an answer to a ping. Other messages show life as well, but how often they come
/// depends on who asks for something, so nothing can be learnt from it.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeats {
    latest: Option<Instant>,
    intervals_us: VecDeque<u64>,
    sum_us: u64,
    sum_of_squares: u128,
    pub(crate) limits: Limits,
}

/// How long a silence is borne.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    expected: Duration,
    deviation: Duration,
    /// From here on the peer is suspect. At most three quarters of `down`.
    pub(crate) suspect: Duration,
    /// From here on it is down.
    pub(crate) down: Duration,
}

impl Heartbeats {
    pub(crate) fn new(options: &MembershipOptions) -> Self {
        Self {
            latest: None,
            intervals_us: VecDeque::new(),
            sum_us: 0,
            sum_of_squares: 0,
            limits: limits(options.ping_every, options.ping_every / 4, options),
        }
    }

    /// The ping sent at `sent_at` was answered.
    pub(crate) fn take(&mut self, sent_at: Instant, now: Instant, options: &MembershipOptions) {
        // One of several pings that were answered at once, after a pause: no interval of its own.
        let Some(before) = self.latest.filter(|&before| before <= sent_at) else {
            self.latest = Some(self.latest.unwrap_or(now));
            return;
        };
        self.latest = Some(now);
        let interval = now.saturating_duration_since(before).min(options.down_after);
        let interval_us = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
        if self.intervals_us.len() == WINDOW
            && let Some(oldest) = self.intervals_us.pop_front()
        {
            self.sum_us -= oldest;
            self.sum_of_squares -= square(oldest);
        }
        self.intervals_us.push_back(interval_us);
        self.sum_us += interval_us;
        self.sum_of_squares += square(interval_us);
        if self.intervals_us.len() >= ENOUGH {
            let (mean, deviation) = self.mean_and_deviation();
            self.limits = limits(mean, deviation, options);
        }
    }

    /// What lies between the latest heartbeat and the next says nothing of the peer.
    pub(crate) fn interrupt(&mut self) {
        self.latest = None;
    }

    /// How suspicious it is to hear nothing for so long.
    pub(crate) fn phi(&self, silence: Duration) -> f64 {
        let Limits { expected, deviation, .. } = self.limits;
        let late = silence.as_secs_f64() - expected.as_secs_f64();
        phi(late / deviation.as_secs_f64()).min(MOST_PHI)
    }

    #[expect(clippy::cast_precision_loss, reason = "microseconds of minutes are far below 2^53")]
    fn mean_and_deviation(&self) -> (Duration, Duration) {
        let count = self.intervals_us.len() as f64;
        let mean_us = self.sum_us as f64 / count;
        let variance = (self.sum_of_squares as f64 / count - mean_us * mean_us).max(0.0);
        (micros(mean_us), micros(variance.sqrt()))
    }
}

fn square(value_us: u64) -> u128 {
    u128::from(value_us) * u128::from(value_us)
}

fn micros(value_us: f64) -> Duration {
    Duration::from_secs_f64(value_us / 1e6)
}

fn limits(mean: Duration, deviation: Duration, options: &MembershipOptions) -> Limits {
    let expected = mean + options.acceptable_pause;
    let deviation = deviation.max(options.least_deviation);
    let until = |phi: f64| {
        let late = deviation.as_secs_f64() * deviations(phi);
        let silence = (expected.as_secs_f64() + late).max(0.0);
        // To the millisecond: the functions above may differ in their last bits between machines.
        Duration::from_secs_f64((silence * 1e3).ceil() / 1e3)
    };
    let down = until(options.down_phi).min(options.down_after);
    let suspect = until(options.suspect_phi).min(down * 3 / 4);
    Limits { expected, deviation, suspect, down }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// The limits after a hundred heartbeats, each so many milliseconds late.
    fn learnt(late_ms: impl Fn(u64) -> u64) -> Heartbeats {
        let options = MembershipOptions::default();
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the origin")]
        let start = Instant::now();
        let mut heartbeats = Heartbeats::new(&options);
        for i in 1..=100 {
            let sent_at = start + options.ping_every * u32::try_from(i).unwrap();
            heartbeats.take(sent_at, sent_at + ms(late_ms(i)), &options);
        }
        heartbeats
    }

    #[test]
    fn a_regular_peer_is_borne_for_less_than_the_longest_silence() {
        let limits = learnt(|_| 1).limits;
        assert!((ms(950)..ms(1_100)).contains(&limits.suspect), "{limits:?}");
        assert!((ms(1_400)..ms(1_500)).contains(&limits.down), "{limits:?}");
    }

    #[test]
    fn an_irregular_peer_is_borne_longer_but_never_longer_than_the_longest_silence() {
        let limits = learnt(|i| 1 + i % 2 * 150).limits;
        assert!((ms(1_650)..ms(1_850)).contains(&limits.down), "{limits:?}");
        let limits = learnt(|i| 1 + i % 2 * 450).limits;
        assert_eq!(limits.down, ms(2_000));
        assert!(limits.suspect <= ms(1_500), "{limits:?}");
    }

    #[test]
    fn a_pause_makes_the_peer_a_little_less_regular_until_it_is_forgotten() {
        let paused = learnt(|i| if i == 90 { 1_600 } else { 1 });
        assert!((ms(1_500)..=ms(2_000)).contains(&paused.limits.down), "{:?}", paused.limits);
        let forgotten = learnt(|i| if i == 20 { 1_600 } else { 1 });
        assert_eq!(forgotten.limits.down, learnt(|_| 1).limits.down);
    }

    #[test]
    fn suspicion_grows_with_silence_and_meets_the_thresholds_at_the_limits() {
        let options = MembershipOptions::default();
        let heartbeats = learnt(|_| 1);
        let phi = |silence| heartbeats.phi(silence);
        assert!(phi(ms(500)) < 0.01 && phi(ms(800)) < options.suspect_phi);
        assert!((phi(heartbeats.limits.suspect) - options.suspect_phi).abs() < 0.05);
        assert!((phi(heartbeats.limits.down) - options.down_phi).abs() < 0.2);
        assert!(phi(ms(1_000_000_000)) <= MOST_PHI);
    }
}
