use std::time::{Duration, Instant};

/// How long is looked at together.
const WINDOW: Duration = Duration::from_millis(100);
/// How long after a refusal background work waits.
const PRESSED_FOR: Duration = Duration::from_millis(200);
/// The limit never falls below this: so few cannot be what makes a node slow.
const LEAST: usize = 64;

/// How many client requests may be under way, found out by how long they take.
///
/// Beyond what a node can do, more requests at once get no more done but make each of them wait,
/// until all of them miss their deadlines. So when those that end well take longer than `target` on
/// average, fewer are let in, and when they do not, more again: additive increase and
/// multiplicative decrease, as TCP limits what is under way (Chiu and Jain, 1989). Failures say
/// nothing: they take long when replicas are gone, too, and then fewer requests would not help.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    target: Duration,
    most: usize,
    limit: usize,
    under_way: usize,
    window: Window,
    last_refused: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    end: Option<Instant>,
    total: Duration,
    count: u32,
    peak: usize,
}

impl Admission {
    /// At most `most` at once, and fewer when they take longer than `target`.
    pub(crate) fn new(most: usize, target: Duration) -> Self {
        let window = Window::default();
        Self { target, most, limit: most, under_way: 0, window, last_refused: None }
    }

    /// Whether one more may begin; if so, it counts until [`left`](Self::left).
    pub(crate) fn enter(&mut self, now: Instant) -> bool {
        self.turn(now);
        let admitted = self.under_way < self.limit;
        if admitted {
            self.under_way += 1;
            self.window.peak = self.window.peak.max(self.under_way);
        } else {
            self.last_refused = Some(now);
        }
        admitted
    }

    /// One that was let in is answered.
    pub(crate) fn left(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// One has ended well after this long.
    pub(crate) fn succeeded(&mut self, took: Duration) {
        // A client that allows a minute is not to be taken for a hundred that are late.
        self.window.total += took.min(2 * self.target);
        self.window.count += 1;
    }

    /// Whether any are under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.under_way > 0
    }

    /// Whether requests were refused of late: a bad time for what can wait.
    pub(crate) fn is_pressed(&self, now: Instant) -> bool {
        self.last_refused.is_some_and(|at| now.saturating_duration_since(at) < PRESSED_FOR)
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
        let Window { total, count, peak, .. } = self.window;
        if count > 0 && total / count > self.target {
            let (least, tried) = (LEAST.min(self.most), self.limit.min(peak));
            self.limit = (tried - tried / 4).max(least);
        } else if count > 0 {
            self.limit = (self.limit + self.limit / 16 + 1).min(self.most);
        }
        self.window = Window { end: Some(now + WINDOW), peak: self.under_way, ..Window::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of a test")]
    fn origin() -> Instant {
        Instant::now()
    }

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
