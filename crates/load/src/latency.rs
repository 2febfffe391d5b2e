use std::{fmt, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies, to the microsecond and three digits, in an HDR histogram: memory does not grow with
/// their number.
#[derive(Clone)]
pub(crate) struct Latencies {
    histogram: Histogram<u64>,
    /// The histogram knows the greatest only to three digits.
    max: u64,
}

/// What is told of many latencies; all 0 if there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencySummary {
    /// Arithmetic mean.
    pub mean_us: f64,
    /// Half of all took at most as long.
    pub p50_us: u64,
    /// 90 of 100 took at most as long.
    pub p90_us: u64,
    /// 99 of 100 took at most as long.
    pub p99_us: u64,
    /// 999 of 1,000 took at most as long.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// A point of the curve of percentiles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentile {
    /// 0 to 100.
    pub percentile: f64,
    /// So many percent took at most as long.
    pub latency_us: u64,
}

impl Latencies {
    /// Longer ones count as this.
    pub(crate) const LONGEST: Duration = Duration::from_secs(3600);

    pub(crate) fn new() -> Self {
        let longest = Self::LONGEST.as_secs() * 1_000_000;
        let histogram = Histogram::new_with_bounds(1, longest, 3);
        Self { histogram: histogram.expect("the bounds are those of a histogram"), max: 0 }
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let latency = latency.min(Self::LONGEST);
        let us = u64::try_from(latency.as_micros()).expect("an hour has fewer microseconds");
        self.histogram.saturating_record(us);
        self.max = self.max.max(us);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("all have the same bounds");
        self.max = self.max.max(other.max);
    }

    pub(crate) fn clear(&mut self) {
        self.histogram.reset();
        self.max = 0;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.histogram.is_empty()
    }

    pub(crate) fn at(&self, quantile: f64) -> u64 {
        // The histogram rounds up to the end of a bucket, which may lie above the greatest.
        self.histogram.value_at_quantile(quantile).min(self.max)
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    pub(crate) fn summary(&self) -> LatencySummary {
        if self.is_empty() {
            return LatencySummary::default();
        }
        LatencySummary {
            mean_us: (self.histogram.mean() * 10.0).round() / 10.0,
            p50_us: self.at(0.5),
            p90_us: self.at(0.9),
            p99_us: self.at(0.99),
            p999_us: self.at(0.999),
            max_us: self.max(),
        }
    }

    /// The curve of percentiles, denser towards 100, as far as there are latencies to tell points apart.
    pub(crate) fn curve(&self) -> Vec<Percentile> {
        const STEPS_PER_HALVING: u32 = 4;
        let mut curve = Vec::new();
        if self.is_empty() {
            return curve;
        }
        let mut step = 0;
        loop {
            let rest = 0.5f64.powf(f64::from(step) / f64::from(STEPS_PER_HALVING));
            if rest * (self.histogram.len() as f64) < 1.0 {
                break;
            }
            let latency_us = self.at(1.0 - rest);
            let percentile = ((1.0 - rest) * 1e8).round() / 1e6;
            curve.push(Percentile { percentile, latency_us });
            step += 1;
        }
        curve.push(Percentile { percentile: 100.0, latency_us: self.max() });
        curve
    }
}

/// Microseconds as people read them: `870 µs`, `1.25 ms`, `3.1 s`.
#[derive(Clone, Copy)]
pub(crate) struct Micros(pub(crate) f64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = match self.0 {
            us if us < 999.5 => (us, "µs"),
            us if us < 999_500.0 => (us / 1e3, "ms"),
            us => (us / 1e6, "s"),
        };
        let digits = match value {
            _ if unit == "µs" => 0,
            value if value < 9.995 => 2,
            value if value < 99.95 => 1,
            _ => 0,
        };
        f.pad(&format!("{value:.digits$} {unit}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(all: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::new();
        all.into_iter().for_each(|us| latencies.record(Duration::from_micros(us)));
        latencies
    }

    #[test]
    fn percentiles_are_exact_to_three_digits() {
        let summary = of(1..=1_000).summary();
        let expected = LatencySummary {
            mean_us: 500.5,
            p50_us: 500,
            p90_us: 900,
            p99_us: 990,
            p999_us: 999,
            max_us: 1_000,
        };
        assert_eq!(summary, expected);
        assert_eq!(Latencies::new().summary(), LatencySummary::default());
    }

    #[test]
    fn the_longest_are_kept_as_the_longest_there_is() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::MAX);
        assert_eq!(latencies.max(), Latencies::LONGEST.as_secs() * 1_000_000);
    }

    #[test]
    fn latencies_are_written_with_a_fitting_unit() {
        for (us, text) in [
            (0.0, "0 µs"),
            (870.4, "870 µs"),
            (999.6, "1.00 ms"),
            (1_250.0, "1.25 ms"),
            (12_340.0, "12.3 ms"),
            (123_400.0, "123 ms"),
            (3_100_000.0, "3.10 s"),
        ] {
            assert_eq!(Micros(us).to_string(), text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn merging_is_as_if_all_had_been_recorded_in_one(
            first in prop::collection::vec(0..5_000_000_000u64, 0..50),
            second in prop::collection::vec(0..5_000_000_000u64, 0..50),
        ) {
            let mut merged = of(first.clone());
            merged.merge(&of(second.clone()));
            let all = of(first.into_iter().chain(second));
            prop_assert_eq!(merged.summary(), all.summary());
            prop_assert_eq!(merged.curve(), all.curve());
        }

        #[test]
        fn the_curve_rises_to_the_longest(all in prop::collection::vec(0..1_000_000u64, 1..500)) {
            let latencies = of(all);
            let curve = latencies.curve();
            let rises = curve.windows(2).all(|pair| {
                pair[0].percentile < pair[1].percentile && pair[0].latency_us <= pair[1].latency_us
            });
            prop_assert!(rises, "{curve:?}");
            prop_assert_eq!(curve.last().map(|point| point.latency_us), Some(latencies.max()));
        }
    }
}
