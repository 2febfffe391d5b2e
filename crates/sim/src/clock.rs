//! Wall clocks that are wrong.

/// The true time at the start of a world, in milliseconds since the Unix epoch.
pub(crate) const START_MS: u64 = 1_700_000_000_000;

/// One node's wall clock: a line that is bent now and then.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WallClock {
    bent_at_us: u64,
    /// What it showed then, since the start of the world.
    shown_us: i64,
    /// How much faster than true time it runs, in parts per million; -1,000,000 stands still.
    drift_ppm: i64,
}

impl WallClock {
    /// Milliseconds since the Unix epoch, as this clock has it.
    pub(crate) fn wall_ms(&self, now_us: u64) -> u64 {
        START_MS.saturating_add_signed(self.shown(now_us) / 1000)
    }

    /// How far it is ahead of true time.
    pub(crate) fn ahead_us(&self, now_us: u64) -> i64 {
        self.shown(now_us) - now_us.cast_signed()
    }

    /// Moves it by so much.
    pub(crate) fn step(&mut self, by_us: i64, now_us: u64) {
        self.bend(now_us);
        self.shown_us += by_us;
    }

    /// Lets it run so much faster from now on.
    pub(crate) fn set_drift(&mut self, ppm: i64, now_us: u64) {
        self.bend(now_us);
        self.drift_ppm = ppm;
    }

    /// Lets it be so far ahead of true time, and stay so.
    pub(crate) fn set_ahead(&mut self, ahead_us: i64, now_us: u64) {
        *self =
            Self { bent_at_us: now_us, shown_us: now_us.cast_signed() + ahead_us, drift_ppm: 0 };
    }

    fn bend(&mut self, now_us: u64) {
        *self =
            Self { bent_at_us: now_us, shown_us: self.shown(now_us), drift_ppm: self.drift_ppm };
    }

    fn shown(&self, now_us: u64) -> i64 {
        let passed_us = (now_us - self.bent_at_us).cast_signed();
        self.shown_us + passed_us + passed_us / 1000 * self.drift_ppm / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_new_clock_shows_true_time() {
        assert_eq!(WallClock::default().wall_ms(5 * SECOND), START_MS + 5_000);
    }

    #[test]
    fn a_clock_may_step_drift_stand_still_and_be_set() {
        let mut clock = WallClock::default();
        clock.step(-3_000_000, SECOND);
        assert_eq!(clock.ahead_us(2 * SECOND), -3_000_000);
        clock.set_drift(500, 2 * SECOND);
        assert_eq!(clock.ahead_us(12 * SECOND), -3_000_000 + 5_000);
        clock.set_drift(-1_000_000, 12 * SECOND);
        assert_eq!(clock.wall_ms(13 * SECOND), clock.wall_ms(20 * SECOND));
        clock.set_ahead(7_000, 20 * SECOND);
        assert_eq!(clock.ahead_us(50 * SECOND), 7_000);
    }
}
