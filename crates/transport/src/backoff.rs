use std::time::Duration;

/// How long to wait between attempts: twice as long each time, up to a limit, and spread out, so
/// that the peers of a node that comes back do not all arrive at once.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The wait before the next attempt: between half of the full one and all of it, as `random`
    /// says.
    pub(crate) fn wait(&mut self, random: u64) -> Duration {
        const STEPS: u32 = 1 << 16;
        let full = self.next;
        self.next = (full * 2).min(self.longest);
        let share = (random % u64::from(STEPS)) as f64 / f64::from(STEPS);
        full / 2 + (full / 2).mul_f64(share)
    }

    /// An attempt was worth it: the next wait is the shortest again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_again_after_a_success() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(50), ms(2000));
        let halves: Vec<_> = (0..8).map(|_| backoff.wait(0)).collect();
        assert_eq!(halves, [25, 50, 100, 200, 400, 800, 1000, 1000].map(ms));
        backoff.reset();
        assert_eq!(backoff.wait(0), ms(25));
    }

    #[test]
    fn waits_are_spread_between_half_and_all() {
        let ms = Duration::from_millis;
        for random in [0, 1, 1 << 15, 1 << 16, u64::MAX] {
            let wait = Backoff::new(ms(50), ms(2000)).wait(random);
            assert!(ms(25) <= wait && wait <= ms(50), "{wait:?}");
        }
    }
}
