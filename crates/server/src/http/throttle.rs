use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Most lines a second.
const MOST: u64 = 10;

/// Keeps the log readable, and the node free for its work, when there is the same to say of
/// thousands of requests a second: that is how many are refused under overload.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    second: AtomicU64,
    lines: AtomicU64,
}

impl Throttle {
    /// Whether a line may be written in this second; if so, how many were left out before it.
    pub(super) fn pass(&self, second: u64) -> Option<u64> {
        if self.second.swap(second, Relaxed) != second {
            return Some(self.lines.swap(1, Relaxed).saturating_sub(MOST));
        }
        (self.lines.fetch_add(1, Relaxed) < MOST).then_some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_a_second_pass_and_the_others_are_counted() {
        let throttle = Throttle::default();
        let passed = |second| (0..25).filter_map(|_| throttle.pass(second)).collect::<Vec<_>>();
        assert_eq!(passed(7), [0; 10]);
        assert_eq!(passed(8)[..2], [15, 0]);
        assert_eq!(passed(12)[..2], [15, 0]);
    }
}
