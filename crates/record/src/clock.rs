use crate::{Timestamp, Version, Writer};

/// How far ahead of use a ceiling is reserved. A restart may jump this far ahead of the wall clock.
const LEASE_MS: u64 = 1_000;

/// A hybrid logical clock (Kulkarni et al. 2014) that issues the versions of one writer.
///
/// It follows the wall clock that it is shown, moves past every timestamp it observes, and never
/// goes back. So that this holds over restarts too, it issues nothing above a *ceiling* that the
/// caller has made durable: ask [`reservation_due`](Self::reservation_due), persist, then report
/// [`reserved`](Self::reserved). A restart begins at the persisted ceiling.
#[derive(Clone, Debug)]
pub struct HybridClock {
    writer: Writer,
    last: Timestamp,
    ceiling: Timestamp,
    max_skew_ms: u64,
}

/// Why the clock did not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// The next version lies above the persisted ceiling; reserve more and ask again.
    #[error("the clock's persisted ceiling is reached")]
    CeilingReached,
    /// A timestamp lies further ahead of the wall clock than clocks are allowed to differ.
    #[error("a timestamp is {ahead_ms} ms ahead of this node's clock, the limit is {limit_ms} ms")]
    TooFarAhead {
        /// How far it is ahead.
        ahead_ms: u64,
        /// How far it may be ahead.
        limit_ms: u64,
    },
}

impl HybridClock {
    /// A clock that issues only above `ceiling`, the greatest that was ever persisted for this
    /// node ([`Timestamp::ZERO`] for a new one).
    #[must_use]
    pub fn new(writer: Writer, ceiling: Timestamp, max_skew_ms: u64) -> Self {
        let ceiling = if planted!(ClockForgetsCeiling) { Timestamp::ZERO } else { ceiling };
        Self { writer, last: ceiling, ceiling, max_skew_ms }
    }

    /// Who this clock issues versions for.
    #[must_use]
    pub fn writer(&self) -> Writer {
        self.writer
    }

    /// The greatest timestamp issued or observed.
    #[must_use]
    pub fn last(&self) -> Timestamp {
        self.last
    }

    /// A version above every one issued or observed before.
    ///
    /// # Errors
    /// [`ClockError::CeilingReached`]; nothing has changed then.
    pub fn issue(&mut self, wall_ms: u64) -> Result<Version, ClockError> {
        let timestamp = self.last.next().max(Timestamp::from_wall_ms(wall_ms));
        if timestamp > self.ceiling {
            return Err(ClockError::CeilingReached);
        }
        if !planted!(VersionReused) {
            self.last = timestamp;
        }
        Ok(Version { timestamp, writer: self.writer })
    }

    /// Moves past a timestamp that another node has issued.
    ///
    /// # Errors
    /// [`ClockError::TooFarAhead`] if it is further ahead of the wall clock than `max_skew_ms`; a
    /// node with a wild clock would otherwise drag all others with it. Nothing has changed then.
    pub fn observe(&mut self, seen: Timestamp, wall_ms: u64) -> Result<(), ClockError> {
        let ahead_ms = seen.wall_ms().saturating_sub(wall_ms);
        if ahead_ms > self.max_skew_ms && !planted!(SkewNotRefused) {
            return Err(ClockError::TooFarAhead { ahead_ms, limit_ms: self.max_skew_ms });
        }
        self.last = self.last.max(seen);
        Ok(())
    }

    /// The ceiling to persist now, if half of the lease is used up; `None` if there is enough left.
    #[must_use]
    pub fn reservation_due(&self, wall_ms: u64) -> Option<Timestamp> {
        let head = self.last.max(Timestamp::from_wall_ms(wall_ms));
        let ahead = |ms| Timestamp::from_bits(head.bits().saturating_add(ms << 16));
        (self.ceiling < ahead(LEASE_MS / 2)).then(|| ahead(LEASE_MS))
    }

    /// `ceiling` is durable: versions up to it may be issued. A lower one than before is ignored.
    pub fn reserved(&mut self, ceiling: Timestamp) {
        self.ceiling = self.ceiling.max(ceiling);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::NodeId;

    const MAX_SKEW_MS: u64 = 100;

    fn clock(ceiling: Timestamp) -> HybridClock {
        let writer = Writer { node: NodeId::new("n1").expect("a good id"), incarnation: 1 };
        HybridClock::new(writer, ceiling, MAX_SKEW_MS)
    }

    #[test]
    fn nothing_is_issued_above_what_was_persisted() {
        let mut clock = clock(Timestamp::ZERO);
        assert_eq!(clock.issue(50), Err(ClockError::CeilingReached));
        let ceiling = clock.reservation_due(50).unwrap();
        assert_eq!(ceiling.wall_ms(), 1_050);
        clock.reserved(ceiling);
        assert_eq!(clock.issue(50).unwrap().timestamp, Timestamp::from_wall_ms(50));
        assert_eq!(clock.reservation_due(50), None);
        assert!(clock.reservation_due(551).is_some());
        assert_eq!(clock.issue(1_051), Err(ClockError::CeilingReached));
    }

    #[test]
    fn versions_seen_move_it_unless_they_are_too_far_ahead() {
        let mut clock = clock(Timestamp::ZERO);
        clock.reserved(Timestamp::from_wall_ms(1_000));
        clock.observe(Timestamp::from_wall_ms(150), 50).unwrap();
        assert_eq!(clock.issue(50).unwrap().timestamp, Timestamp::from_wall_ms(150).next());
        let too_far = ClockError::TooFarAhead { ahead_ms: 101, limit_ms: 100 };
        assert_eq!(clock.observe(Timestamp::from_wall_ms(151), 50), Err(too_far));
        assert_eq!(clock.issue(50).unwrap().timestamp.wall_ms(), 150);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Issue { wall_ms: u64 },
        Observe { timestamp: u64, wall_ms: u64 },
        Reserve { wall_ms: u64 },
        PersistedButNotTold { wall_ms: u64 },
        Restart,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let wall_ms = || 0u64..5_000; // drawn anew each time: it goes back as often as forward
        let step = prop_oneof![
            4 => wall_ms().prop_map(|wall_ms| Step::Issue { wall_ms }),
            2 => (0u64..(5_000 << 16), wall_ms())
                .prop_map(|(timestamp, wall_ms)| Step::Observe { timestamp, wall_ms }),
            2 => wall_ms().prop_map(|wall_ms| Step::Reserve { wall_ms }),
            1 => wall_ms().prop_map(|wall_ms| Step::PersistedButNotTold { wall_ms }),
            1 => Just(Step::Restart),
        ];
        prop::collection::vec(step, 0..100)
    }

    proptest! {
        #[test]
        fn it_never_repeats_nor_goes_back(steps in steps()) {
            let mut persisted = Timestamp::ZERO;
            let mut clock = clock(persisted);
            let mut greatest = Timestamp::ZERO;
            for step in steps {
                match step {
                    Step::Issue { wall_ms } => if let Ok(version) = clock.issue(wall_ms) {
                        prop_assert!(version.timestamp > greatest);
                        greatest = version.timestamp;
                    },
                    Step::Observe { timestamp, wall_ms } => {
                        let seen = Timestamp::from_bits(timestamp);
                        match clock.observe(seen, wall_ms) {
                            Ok(()) => prop_assert!(clock.last() >= seen),
                            Err(_) => prop_assert!(seen.wall_ms() > wall_ms + MAX_SKEW_MS),
                        }
                    }
                    Step::Reserve { wall_ms } => if let Some(ceiling) = clock.reservation_due(wall_ms) {
                        persisted = persisted.max(ceiling);
                        clock.reserved(ceiling);
                    },
                    Step::PersistedButNotTold { wall_ms } => {
                        persisted = persisted.max(clock.reservation_due(wall_ms).unwrap_or(persisted));
                    }
                    Step::Restart => clock = self::clock(persisted),
                }
            }
        }

        #[test]
        fn a_reservation_always_lets_the_next_version_through(last in 0u64..1 << 40, wall_ms in 0u64..1 << 30) {
            let mut clock = clock(Timestamp::from_bits(last));
            if let Some(ceiling) = clock.reservation_due(wall_ms) {
                clock.reserved(ceiling);
            }
            prop_assert!(clock.issue(wall_ms).is_ok());
        }
    }
}
