use std::time::{Duration, Instant};

/// So many requests say how long requests take.
const ENOUGH: u32 = 16;
/// By so much requests may always take longer than at best before background work yields. What is read from memory alone may
/// take no time at all.
const UNNOTICED: Duration = Duration::from_micros(100);
/// A shorter pause is none, and the longest: background work goes on, whatever it does to clients.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(30);
/// What was learnt longer ago says nothing of clients now.
const REMEMBERED_FOR: Duration = Duration::from_secs(10);

const _: () = assert!(SHORTEST_PAUSE.as_micros() < LONGEST_PAUSE.as_micros());

/// How much time background work leaves to clients, found out by what it does to them.
///
/// Each delivery of hints and each exchange pauses after each batch. While requests take about as long as they do at best, the
/// pauses become shorter, until there are none; when they take longer, pauses double. That is how LEDBAT (RFC 6817) keeps a
/// transfer that is not urgent from being noticed by others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Background {
    pause: Duration,
    /// How long requests take at best, on average. It follows when that grows, slowly.
    best: Option<Duration>,
    total: Duration,
    count: u32,
    learnt: Option<Instant>,
}

impl Background {
    pub(crate) fn new() -> Self {
        let (best, learnt) = (None, None);
        Self { pause: LONGEST_PAUSE, best, total: Duration::ZERO, count: 0, learnt }
    }

    /// Learns how long `count` requests of clients took in all that have ended well since the last call, once they are
    /// enough. To be called about ten times a second.
    pub(crate) fn learn(&mut self, total: Duration, count: u32, now: Instant) {
        self.total += total;
        self.count += count;
        if self.count < ENOUGH {
            return;
        }
        let mean = self.total / self.count;
        let best = self.best.map_or(mean, |best| mean.min(best + best / 1_024)).max(UNNOTICED);
        let pause = match mean <= best + best / 2 + UNNOTICED {
            true => self.pause - self.pause / 8,
            false => (self.pause * 2).clamp(2 * SHORTEST_PAUSE, LONGEST_PAUSE),
        };
        self.pause = if pause < SHORTEST_PAUSE { Duration::ZERO } else { pause };
        self.best = Some(best);
        (self.total, self.count, self.learnt) = (Duration::ZERO, 0, Some(now));
    }

    /// How long to pause after a batch while there are clients.
    pub(crate) fn pause(&self, now: Instant) -> Duration {
        let is_known =
            self.learnt.is_some_and(|at| now.saturating_duration_since(at) < REMEMBERED_FOR);
        if is_known { self.pause } else { LONGEST_PAUSE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MS, origin};

    /// As many times as said, requests that take so long; the pause then.
    fn serve(background: &mut Background, times: u32, took: Duration) -> Duration {
        for _ in 0..times {
            background.learn(took * ENOUGH, ENOUGH, origin());
        }
        background.pause(origin())
    }

    #[test]
    fn pauses_are_such_that_clients_do_not_notice() {
        let mut background = Background::new();
        assert_eq!(background.pause(origin()), LONGEST_PAUSE);
        assert_eq!(serve(&mut background, 50, MS * 3), Duration::ZERO);
        assert_eq!(serve(&mut background, 10, MS * 9), LONGEST_PAUSE);
        assert_eq!(serve(&mut background, 50, MS * 4), Duration::ZERO, "up to a half more");
        assert_eq!(serve(&mut background, 10, MS * 6), LONGEST_PAUSE);
    }

    #[test]
    fn reads_that_take_no_time_are_no_measure_for_ever() {
        let mut background = Background::new();
        assert_eq!(serve(&mut background, 50, Duration::ZERO), Duration::ZERO);
        assert_eq!(serve(&mut background, 50, MS), LONGEST_PAUSE);
        assert_eq!(serve(&mut background, 5_000, MS), Duration::ZERO);
    }

    #[test]
    fn a_few_requests_say_nothing_and_neither_do_old_ones() {
        let mut background = Background::new();
        background.learn(Duration::ZERO, 1, origin());
        assert_eq!(background.best, None);
        assert_eq!(serve(&mut background, 50, MS), Duration::ZERO);
        assert_eq!(background.pause(origin() + REMEMBERED_FOR), LONGEST_PAUSE);
    }
}
