//! When to deliver to one target, and how much at once.

use std::fmt;
use std::time::{Duration, Instant};

use quorate_record::{HintPlace, Key, NodeId, Record};

/// Records in the first batch to a target that has come up.
pub const FIRST_WINDOW: usize = 8;
/// The most records in a batch.
pub const MAX_WINDOW: usize = 256;
/// The most records in a batch while there is something more urgent to do, which waits for as long as a batch takes.
pub const GENTLE_WINDOW: usize = 64;
/// The most that the hints of a batch take, as [`hint_bytes`](crate::hint_bytes) counts; a single
/// larger one goes alone.
pub const MAX_BATCH_BYTES: u64 = 1 << 20;
/// The pause when this node or the target has more urgent things to do.
pub const POSTPONED_FOR: Duration = Duration::from_millis(100);
/// The pause after a first failure, less up to a half that differs by target.
pub const SHORTEST_BACKOFF: Duration = Duration::from_millis(100);
/// The pause after many failures, less up to a half that differs by target.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// By how much a window grows after each batch, once a target was found busy.
const SLOW_GROWTH: usize = 8;

const _: () = assert!(FIRST_WINDOW <= GENTLE_WINDOW && GENTLE_WINDOW <= MAX_WINDOW);

/// What is going on between this node and a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HandoffState {
    /// The target is not known to be up.
    Waiting,
    /// The target is up and there is nothing to deliver.
    Idle,
    /// A batch is on its way.
    Delivering,
    /// The last batch failed or was postponed, or leaves time to what is more urgent, and the next one has to wait a little.
    BackingOff,
}

impl fmt::Display for HandoffState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Idle => "idle",
            Self::Delivering => "delivering",
            Self::BackingOff => "backing off",
        })
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ready,
    Reading { batch: u64 },
    Delivering { batch: u64, sent: Vec<(Key, Record)> },
    BackingOff { until: Instant },
}

/// The delivery to one target: one batch at a time, of a size that follows how well it goes.
#[derive(Clone, Debug)]
pub(crate) struct Handoff {
    up: bool,
    step: Step,
    window: usize,
    careful_from: usize, // from this window on it grows slowly
    failures: u32,       // in a row
    last_place: Option<HintPlace>,
    last_error: Option<String>,
}

impl Handoff {
    pub(crate) fn new() -> Self {
        Self {
            up: false,
            step: Step::Ready,
            window: FIRST_WINDOW,
            careful_from: MAX_WINDOW,
            failures: 0,
            last_place: None,
            last_error: None,
        }
    }

    pub(crate) fn state(&self) -> HandoffState {
        match self.step {
            _ if !self.up => HandoffState::Waiting,
            Step::Ready => HandoffState::Idle,
            Step::Reading { .. } | Step::Delivering { .. } => HandoffState::Delivering,
            Step::BackingOff { .. } => HandoffState::BackingOff,
        }
    }

    pub(crate) fn window(&self) -> usize {
        self.window
    }

    pub(crate) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Where the latest batch ended: the next one goes on behind it, so that a record that is
    /// refused again and again does not keep the others from being tried.
    pub(crate) fn last_place(&self) -> Option<HintPlace> {
        self.last_place
    }

    pub(crate) fn up(&mut self) {
        if !self.up {
            *self = Self {
                up: true,
                last_place: self.last_place,
                last_error: self.last_error.take(),
                ..Self::new()
            };
        }
    }

    /// Gives up whatever was on its way, to deliver it again later, and returns what was.
    pub(crate) fn down(&mut self) -> Vec<(Key, Record)> {
        self.up = false;
        self.end()
    }

    pub(crate) fn may_begin(&self, now: Instant) -> bool {
        self.up
            && match self.step {
                Step::Ready => true,
                Step::Reading { .. } | Step::Delivering { .. } => false,
                Step::BackingOff { until } => until <= now,
            }
    }

    /// Begins to read a batch of at most as many records as the window then has.
    pub(crate) fn begin_reading(&mut self, batch: u64, most: usize) {
        self.window = self.window.min(most);
        self.step = Step::Reading { batch };
    }

    pub(crate) fn is_reading(&self, batch: u64) -> bool {
        matches!(self.step, Step::Reading { batch: current } if current == batch)
    }

    pub(crate) fn begin(&mut self, batch: u64, sent: Vec<(Key, Record)>, last: Option<HintPlace>) {
        self.last_place = last;
        self.step = Step::Delivering { batch, sent };
    }

    pub(crate) fn is_delivering(&self, batch: u64) -> bool {
        matches!(self.step, Step::Delivering { batch: current, .. } if current == batch)
    }

    /// Ends the batch and returns what was in it.
    pub(crate) fn end(&mut self) -> Vec<(Key, Record)> {
        match std::mem::replace(&mut self.step, Step::Ready) {
            Step::Delivering { sent, .. } => sent,
            Step::Ready | Step::Reading { .. } | Step::BackingOff { .. } => Vec::new(),
        }
    }

    /// All of a batch was taken, and the next one may follow after a pause.
    pub(crate) fn succeeded(&mut self, pause: Duration, now: Instant) {
        let grown = if self.window < self.careful_from { self.window } else { SLOW_GROWTH };
        self.window = (self.window + grown).min(MAX_WINDOW);
        self.failures = 0;
        if !pause.is_zero() {
            self.step = Step::BackingOff { until: now + pause };
        }
    }

    /// Backs off; `progress` says that something was taken all the same.
    pub(crate) fn failed(&mut self, target: NodeId, error: String, progress: bool, now: Instant) {
        self.window = (self.window / 2).max(1);
        self.failures = if progress { 1 } else { self.failures.saturating_add(1) };
        self.step = Step::BackingOff { until: now + backoff(target, self.failures) };
        self.last_error = Some(error);
    }

    /// Waits a little, through no fault of the target.
    pub(crate) fn postpone(&mut self, now: Instant) {
        self.step = Step::BackingOff { until: now + POSTPONED_FOR };
    }

    /// Waits a little, and takes less at once: the target has more urgent things to do. From there
    /// on the window feels its way, as TCP does behind a congestion.
    pub(crate) fn yields(&mut self, error: String, now: Instant) {
        self.window = (self.window / 2).max(1);
        self.careful_from = self.window;
        self.last_error = Some(error);
        self.postpone(now);
    }

    pub(crate) fn next_wake(&self) -> Option<Instant> {
        match self.step {
            Step::BackingOff { until } if self.up => Some(until),
            _ => None,
        }
    }
}

/// Doubles with each failure. A part that hangs on the target keeps deliveries apart that failed at
/// the same moment, and is the same in every run.
fn backoff(target: NodeId, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let longest = (SHORTEST_BACKOFF * (1 << doublings)).min(LONGEST_BACKOFF);
    let mut hash = 0xcbf2_9ce4_8422_2325_u64; // FNV-1a
    for &byte in target.as_ref().iter().chain(&failures.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let sixty_fourths = u32::try_from((hash ^ (hash >> 32)) % 33).expect("a remainder of 33");
    longest - longest * sixty_fourths / 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of a test")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn target() -> NodeId {
        NodeId::new("n2").unwrap()
    }

    #[test]
    fn pauses_double_from_100_ms_to_30_s_less_up_to_a_half() {
        for (failures, longest_ms) in [(1, 100), (2, 200), (9, 25_600), (10, 30_000), (99, 30_000)]
        {
            let longest = Duration::from_millis(longest_ms);
            let pause = backoff(target(), failures);
            assert!((longest / 2..=longest).contains(&pause), "{failures}: {pause:?}");
            assert_eq!(pause, backoff(target(), failures));
        }
    }

    #[test]
    fn targets_that_fail_together_are_tried_apart() {
        let pauses: std::collections::BTreeSet<Duration> =
            (0..20).map(|i| backoff(NodeId::new(&format!("n{i}")).unwrap(), 5)).collect();
        assert!(pauses.len() >= 10, "{pauses:?}");
    }

    #[test]
    fn the_window_doubles_to_256_and_halves_to_1() {
        let mut handoff = Handoff::new();
        let mut windows = Vec::new();
        for _ in 0..6 {
            windows.push(handoff.window());
            handoff.succeeded(Duration::ZERO, origin());
        }
        assert_eq!(windows, [8, 16, 32, 64, 128, 256]);
        assert_eq!(handoff.window(), 256);
        for _ in 0..9 {
            handoff.failed(target(), String::new(), false, origin());
        }
        assert_eq!(handoff.window(), 1);
    }

    #[test]
    fn after_a_busy_target_the_window_feels_its_way() {
        let mut handoff = Handoff::new();
        (0..6).for_each(|_| handoff.succeeded(Duration::ZERO, origin()));
        handoff.yields("overloaded".to_owned(), origin());
        assert_eq!(handoff.window(), 128);
        (0..3).for_each(|_| handoff.succeeded(Duration::ZERO, origin()));
        assert_eq!(handoff.window(), 152);
    }

    #[test]
    fn a_target_that_comes_back_is_tried_at_once_and_gently() {
        let now = origin();
        let mut handoff = Handoff::new();
        handoff.up();
        (0..5).for_each(|_| handoff.succeeded(Duration::ZERO, origin()));
        handoff.failed(target(), "lost".to_owned(), false, now);
        assert!(!handoff.may_begin(now));
        handoff.up();
        assert!(!handoff.may_begin(now), "it never was away");
        handoff.down();
        handoff.up();
        assert!(handoff.may_begin(now));
        assert_eq!((handoff.window(), handoff.last_error()), (FIRST_WINDOW, Some("lost")));
    }
}
