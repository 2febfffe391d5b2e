use std::{fmt::Write, time::Duration};

use crate::{Second, latency::Micros};

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// How long the run, or the loading before it, has gone on.
    pub elapsed: Duration,
    /// How long the run will take, warm-up and measurement together; `None` while loading.
    pub total: Option<Duration>,
    /// The last whole second of the measurement.
    pub last: Option<Second>,
    /// Operations that failed so far.
    pub failed: u64,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// All keys are being written.
    Loading {
        /// How many are written.
        done: u64,
        /// How many there will be.
        keys: u64,
    },
    /// Operations are done, and not measured.
    WarmUp,
    /// Operations are done and measured.
    Measuring,
}

impl Progress {
    pub(crate) fn new(phase: Phase, elapsed: Duration) -> Self {
        Self { phase, elapsed, total: None, last: None, failed: 0 }
    }

    /// A bar with what is to be known, in one line.
    #[must_use]
    pub fn line(&self) -> String {
        let elapsed = self.elapsed.as_secs();
        let (what, share) = match self.phase {
            Phase::Loading { done, keys } => {
                (format!("loading  {done} of {keys} keys"), done as f64 / keys.max(1) as f64)
            }
            Phase::WarmUp | Phase::Measuring => {
                let total = self.total.unwrap_or_default();
                let share = self.elapsed.as_secs_f64() / total.as_secs_f64().max(f64::MIN_POSITIVE);
                let name = if self.phase == Phase::WarmUp { "warming up" } else { "measuring" };
                (format!("{name}  {elapsed} of {} s", total.as_secs()), share)
            }
        };
        let mut line = format!("{} {what}", bar(share));
        if let Some(last) = self.last {
            let p99 = Micros(last.p99_us as f64);
            write!(line, "  {} ops/s  p99 {p99}", last.done).expect("memory can be written");
        }
        if self.failed > 0 {
            write!(line, "  {} failed", self.failed).expect("memory can be written");
        }
        line
    }
}

fn bar(share: f64) -> String {
    const CELLS: usize = 24;
    let full = (0..CELLS).filter(|&cell| (cell as f64 + 0.5) / (CELLS as f64) <= share).count();
    format!("[{}{}]", "#".repeat(full), ".".repeat(CELLS - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills() {
        assert_eq!(bar(0.0), "[........................]");
        assert_eq!(bar(0.5), "[############............]");
        assert_eq!(bar(7.0), "[########################]");
        assert_eq!(bar(f64::NAN), "[........................]");
    }

    #[test]
    fn a_line_says_what_is_going_on() {
        let loading = Progress::new(Phase::Loading { done: 5, keys: 20 }, Duration::ZERO);
        assert_eq!(loading.line(), "[######..................] loading  5 of 20 keys");
        let last = Second { done: 1_200, p99_us: 1_500, ..Second::default() };
        let measuring = Progress {
            total: Some(Duration::from_secs(10)),
            last: Some(last),
            failed: 3,
            ..Progress::new(Phase::Measuring, Duration::from_secs(5))
        };
        let expected =
            "[############............] measuring  5 of 10 s  1200 ops/s  p99 1.50 ms  3 failed";
        assert_eq!(measuring.line(), expected);
    }
}
