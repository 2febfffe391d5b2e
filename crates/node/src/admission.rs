use std::time::{Duration, Instant};

use crate::background::Background;

/// How long is looked at together.
const WINDOW: Duration = Duration::from_millis(100);
/// How long after a client's request background work leaves time to more of them.
const SERVING_FOR: Duration = Duration::from_millis(100);
/// How long background work waits after a request that found no room.
const PRESSED_FOR: Duration = Duration::from_millis(200);
/// When what is ready waits longer than this for its turn, on average, the node takes in fewer: who is
/// refused waits for as long, and then some.
const MOST_LAG: Duration = Duration::from_millis(15);
/// The limit never falls below this: so few cannot be what makes a node slow.
const LEAST: usize = 64;

/// How many client requests may be under way, found out by how long they take.
///
/// Beyond what a node can do, more requests at once get no more done but make each of them wait,
/// until all of them miss their deadlines. So when those that end well take longer than `target` on
/// average, fewer are let in, and when they do not, more again: additive increase and
/// multiplicative decrease, as TCP limits what is under way (Chiu and Jain, 1989). Failures say
/// nothing: they take long when replicas are gone, too, and then fewer requests would not help. Only
/// where others wait and no peer is silent does one that runs out of time count as late.
///
/// How long they take is not all: of the time that requests may take, refusals may take a small part.
/// So fewer are let in, too, when the driver is slow to get to what is ready.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    target: Duration,
    most: usize,
    limit: usize,
    under_way: usize,
    window: Window,
    /// How many a window has seen the end of while as many were under way as may be, of late.
    pace: usize,
    last_full: Option<Instant>,
    last_served: Option<Instant>,
    background: Background,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    end: Option<Instant>,
    total: Duration,
    count: u32,
    lag: Duration,
    lags: u32,
    left: usize, // well or not
    peak: usize,
}

impl Admission {
    /// At most `most` at once, and fewer when they take longer than `target`.
    pub(crate) fn new(most: usize, target: Duration) -> Self {
        let window = Window::default();
        Self {
            target,
            most,
            limit: most,
            under_way: 0,
            window,
            pace: 0,
            last_full: None,
            last_served: None,
            background: Background::new(),
        }
    }

    /// Whether one more may begin; if so, it counts until [`left`](Self::left).
    pub(crate) fn enter(&mut self, now: Instant) -> bool {
        self.turn(now);
        self.serves(now);
        let admitted = self.under_way < self.limit;
        if admitted {
            self.under_way += 1;
            self.window.peak = self.window.peak.max(self.under_way);
        } else {
            self.last_full = Some(now);
        }
        admitted
    }

    /// A client waits for this node, if only behind a peer.
    pub(crate) fn serves(&mut self, now: Instant) {
        self.last_served = Some(now);
    }

    /// How long each delivery of hints and each exchange pauses after a batch, for the good of clients. Not at all if none
    /// had requests of late.
    pub(crate) fn pause(&self, now: Instant) -> Duration {
        let was_serving =
            self.last_served.is_some_and(|at| now.saturating_duration_since(at) < SERVING_FOR);
        match self.under_way > 0 || was_serving {
            true => self.background.pause(now),
            false => Duration::ZERO,
        }
    }

    /// How many were let in and are not answered.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way
    }

    /// One that was let in is answered.
    pub(crate) fn left(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
        self.window.left += 1;
    }

    /// About how long it takes until so many more are answered; no time while that is not known.
    pub(crate) fn time_for(&self, count: usize) -> Duration {
        let of = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        WINDOW.saturating_mul(of(count)).checked_div(of(self.pace)).unwrap_or_default()
    }

    /// One has ended well after this long.
    pub(crate) fn succeeded(&mut self, took: Duration) {
        // A client that allows a minute is not to be taken for a hundred that are late.
        self.window.total += took.min(2 * self.target);
        self.window.count += 1;
    }

    /// One has ended because there were too many: as late as can be.
    pub(crate) fn ran_out_of_time(&mut self) {
        self.succeeded(2 * self.target);
    }

    /// Something that was ready waited for so long.
    pub(crate) fn lagged(&mut self, by: Duration) {
        // One long stop of the whole process says nothing of what a tenth of a second is like.
        self.window.lag += by.min(4 * MOST_LAG);
        self.window.lags += 1;
    }

    /// Whether more are under way than are always let in.
    pub(crate) fn is_busy(&self) -> bool {
        self.under_way >= LEAST
    }

    /// Whether requests found no room of late: a bad time for what can wait.
    pub(crate) fn is_pressed(&self, now: Instant) -> bool {
        self.last_full.is_some_and(|at| now.saturating_duration_since(at) < PRESSED_FOR)
    }

    /// How many may be under way at present.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    fn turn(&mut self, now: Instant) {
        let Some(end) = self.window.end else {
            self.window.end = Some(now + WINDOW);
            return;
        };
        if now < end {
            return;
        }
        let Window { total, count, lag, lags, left, peak, .. } = self.window;
        // With fewer under way it says how many came.
        if peak >= self.limit {
            let before = if self.pace > 0 { self.pace } else { left };
            self.pace = (3 * before + left).div_ceil(4);
        }
        let is_late = count > 0 && total / count > self.target;
        let is_lagging = lags > 0 && lag / lags > MOST_LAG;
        if is_late || is_lagging {
            let (least, tried) = (LEAST.min(self.most), self.limit.min(peak));
            self.limit = (tried - tried / 4).max(least);
        } else if count > 0 {
            self.limit = (self.limit + self.limit / 16 + 1).min(self.most);
        }
        self.background.learn(total, count, now);
        self.window = Window { end: Some(now + WINDOW), peak: self.under_way, ..Window::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MS, origin};

    /// As many clients as may come at any time, and a node that does ten requests each millisecond,
    /// the oldest first. How long they took of late, and the limit.
    fn flood(admission: &mut Admission, start: Instant, times: u32) -> (Duration, usize) {
        let mut queue = std::collections::VecDeque::new();
        let mut took = Duration::ZERO;
        for i in 0..times {
            let now = start + MS * i;
            while admission.enter(now) {
                queue.push_back(now);
            }
            for began in queue.drain(..queue.len().min(10)) {
                took = now - began;
                admission.left();
                admission.succeeded(took);
            }
        }
        queue.iter().for_each(|_| admission.left());
        (took, admission.limit())
    }

    #[test]
    fn a_few_that_are_allowed_to_take_long_throttle_nobody() {
        let (mut admission, start) = (Admission::new(4_096, MS * 200), origin());
        for i in 0..1_000 {
            assert!(admission.enter(start + MS * i));
            admission.left();
            admission.succeeded(if i % 100 == 0 { MS * 30_000 } else { MS });
        }
        assert_eq!(admission.limit(), 4_096);
    }

    #[test]
    fn a_flood_is_cut_down_to_what_can_be_done_in_time() {
        let mut admission = Admission::new(4_096, MS * 200);
        let start = origin();
        let (took, limit) = flood(&mut admission, start, 10_000);
        assert!((MS * 100..MS * 300).contains(&took), "{took:?}");
        assert!((1_000..3_000).contains(&limit), "{limit}");
        assert!(admission.is_pressed(start + MS * 10_000));
        assert!(!admission.is_pressed(start + MS * 10_300), "also if nobody comes any more");
    }

    #[test]
    fn a_driver_that_is_slow_to_get_to_what_is_ready_is_given_less() {
        let (mut admission, start) = (Admission::new(4_096, MS * 200), origin());
        let mut lag = |from: u32, times: u32, by| {
            for i in from..from + times {
                let now = start + MS * 10 * i;
                while admission.enter(now) {}
                assert!(admission.is_busy());
                for _ in 0..admission.limit() {
                    admission.left();
                    admission.succeeded(MS * 30);
                }
                admission.lagged(by);
            }
            admission.limit()
        };
        assert_eq!(lag(0, 100, MS * 5), 4_096);
        assert_eq!(lag(100, 500, MS * 40), LEAST);
        assert_eq!(lag(600, 2_000, MS * 5), 4_096);
    }

    #[test]
    fn background_work_pauses_while_there_are_clients() {
        let (mut admission, start) = (Admission::new(4_096, MS * 200), origin());
        assert_eq!(admission.pause(start), Duration::ZERO);
        assert!(admission.enter(start));
        let later = start + MS * 5_000;
        assert!(!admission.pause(later).is_zero(), "one waits");
        admission.left();
        assert_eq!(admission.pause(later), Duration::ZERO);
        admission.serves(later);
        assert!(!admission.pause(later + SERVING_FOR / 2).is_zero(), "one may wait for a peer");
        assert_eq!(admission.pause(later + SERVING_FOR), Duration::ZERO);
    }

    #[test]
    fn after_a_flood_the_limit_comes_back() {
        let (mut admission, start) = (Admission::new(4_096, MS * 20), origin());
        let (_, limit) = flood(&mut admission, start, 10_000);
        assert!(limit < 500, "{limit}");
        for i in 0..10_000 {
            assert!(admission.enter(start + MS * (10_000 + i)), "there is room for one");
            admission.left();
            admission.succeeded(MS);
        }
        assert_eq!(admission.limit(), 4_096);
        assert!(!admission.is_pressed(start + MS * 20_000));
    }

    #[test]
    fn slow_requests_are_no_reason_to_refuse_a_few() {
        let (mut admission, start) = (Admission::new(4_096, MS * 20), origin());
        for i in 0..1_000 {
            assert!((0..LEAST).all(|_| admission.enter(start + MS * 500 * i)));
            for _ in 0..LEAST {
                admission.left();
                admission.succeeded(MS * 500);
            }
        }
    }
}
