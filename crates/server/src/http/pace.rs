use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// How soon a connection is listened to again after it was refused for overload.
///
/// A refusal costs a node about as much as a small read. Clients that ask again at once, whatever
/// `Retry-After` says, would leave it no time for anything else, and the refusals of all others
/// would wait their turn among theirs. So what comes on a connection too soon after a refusal is
/// not looked at until a pause is over, which doubles each time. Who waits for longer than the
/// pause never notices.
#[derive(Debug)]
pub(super) struct Pace {
    pauses: Pauses,
    refused: Mutex<Option<Refused>>,
}

/// The shortest pause and the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pauses {
    pub(super) first: Duration,
    pub(super) most: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Refused {
    /// When the next request may be looked at, and would not be too soon.
    until: Instant,
    pause: Duration,
    too_soon: bool,
}

impl Pace {
    pub(super) fn new(pauses: Pauses) -> Self {
        Self { pauses, refused: Mutex::new(None) }
    }

    /// When to look at a request that came at `now`; `None` at once.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let last = refused.as_mut()?;
        last.too_soon = now < last.until;
        last.too_soon.then_some(last.until)
    }

    /// A request was refused at `now`. `spread` is from 0 to 1, another one for each refusal, so that
    /// those who were refused together do not come back together.
    pub(super) fn refuse(&self, now: Instant, spread: f64) {
        let Pauses { first, most } = self.pauses;
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = match *refused {
            Some(Refused { pause, too_soon: true, .. }) => (pause * 2).min(most),
            _ => first,
        };
        let until = now + pause.mul_f64(0.75 + spread / 2.0);
        *refused = Some(Refused { until, pause, too_soon: false });
    }

    /// A request was answered.
    pub(super) fn forget(&self) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Numbers from 0 to 1 that are far from the ones before.
#[derive(Debug, Default)]
pub(super) struct Spread(AtomicU64);

impl Spread {
    pub(super) fn next(&self) -> f64 {
        // Multiples of the golden ratio, without their whole part, in 2⁻³².
        let turns = self.0.fetch_add(0x9e37_79b9, Relaxed);
        f64::from(u32::try_from(turns % (1 << 32)).unwrap_or(0)) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const PAUSES: Pauses =
        Pauses { first: Duration::from_millis(100), most: Duration::from_millis(400) };

    #[test]
    fn who_comes_back_at_once_waits_longer_each_time() {
        let (pace, mut now) = (Pace::new(PAUSES), Instant::now());
        assert_eq!(pace.due(now), None);
        for pause in [100, 200, 400, 400] {
            pace.refuse(now, 0.5);
            let due = pace.due(now + MS).expect("it is too soon");
            assert_eq!(due, now + MS * pause);
            now = due;
        }
    }

    #[test]
    fn who_waits_is_never_held_up() {
        let (pace, mut now) = (Pace::new(PAUSES), Instant::now());
        pace.refuse(now, 0.5);
        assert!(pace.due(now).is_some());
        for _ in 0..5 {
            pace.refuse(now, 1.0);
            now += MS * 250;
            assert_eq!(pace.due(now), None);
        }
    }

    #[test]
    fn an_answer_ends_the_pauses() {
        let (pace, now) = (Pace::new(PAUSES), Instant::now());
        pace.refuse(now, 0.5);
        pace.due(now);
        pace.refuse(now, 0.5);
        pace.forget();
        assert_eq!(pace.due(now), None);
        pace.refuse(now, 0.5);
        assert_eq!(pace.due(now), Some(now + MS * 100));
    }

    #[test]
    fn pauses_differ() {
        let spread = Spread::default();
        let mut drawn: Vec<f64> = (0..100).map(|_| spread.next()).collect();
        assert!(drawn.iter().all(|number| (0.0..=1.0).contains(number)));
        drawn.sort_by(f64::total_cmp);
        assert!(drawn.windows(2).all(|two| two[1] - two[0] < 0.03), "{drawn:?}");
    }
}
