use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    Arrivals, Distribution, Errors, LatencySummary, Mix, Operation, Pace, Percentile, Plan, Second,
    html, table,
    tally::{OperationTally, Tally},
};

/// What a run found out.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// What was done.
    pub setup: Setup,
    /// How long was measured.
    pub measured_s: f64,
    /// Whether it was stopped before its time.
    pub stopped: bool,
    /// What is known of each kind of operation.
    pub operations: BTreeMap<&'static str, OperationReport>,
    /// What is known of all operations together.
    pub total: OperationReport,
    /// Operations of an open loop that were due when too many others were outstanding.
    pub shed: u64,
    /// Operations of an open loop that still waited for a connection at the end.
    pub not_begun: u64,
    /// Why operations failed.
    pub errors: BTreeMap<String, Errors>,
    /// The measurement second by second.
    pub seconds: Vec<Second>,
    /// The curve of percentiles of all operations together.
    pub percentiles: Vec<Percentile>,
}

/// What was done in a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Setup {
    /// Where the nodes are.
    pub nodes: Vec<String>,
    /// Which operations.
    pub mix: Mix,
    /// Which keys.
    pub distribution: Distribution,
    /// How many keys there were at the beginning.
    pub keys: u64,
    /// The shortest value.
    pub min_value_bytes: usize,
    /// The longest value.
    pub max_value_bytes: usize,
    /// How many connections.
    pub connections: usize,
    /// Operations a second that were due, in an open loop.
    pub rate: Option<f64>,
    /// How they lay in time.
    pub arrivals: Option<Arrivals>,
    /// Beyond how many outstanding operations they were shed.
    pub max_outstanding: Option<usize>,
    /// How long was not measured at first.
    pub warm_up_s: f64,
    /// What the operations were drawn from.
    pub seed: u64,
    /// The level asked for, if any.
    pub consistency: Option<String>,
    /// The replicas asked for, if any.
    pub r: Option<String>,
    /// The replicas asked for, if any.
    pub w: Option<String>,
}

/// What is known of operations of one kind, or of all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OperationReport {
    /// How many ended well.
    pub done: u64,
    /// How many did not.
    pub failed: u64,
    /// Those of `done` that found nothing to be read.
    pub absent: u64,
    /// How many ended well in a second, those included that were due in the warm-up.
    pub per_second: f64,
    /// How long those that ended well took: in a closed loop since they were begun, in an open loop
    /// since they were due.
    pub latency: LatencySummary,
}

impl Report {
    pub(crate) fn new(plan: &Plan, stopped: bool, tally: &mut Tally) -> Self {
        let measured = tally.measured();
        let mut total = None::<OperationTally>;
        for operation in tally.operations.values() {
            match &mut total {
                Some(total) => total.add(operation),
                None => total = Some(operation.clone()),
            }
        }
        let report = |tally: &OperationTally| OperationReport::new(tally, measured);
        let named = |(operation, tally): (&Operation, _)| (operation.name(), report(tally));
        Self {
            setup: Setup::new(plan),
            measured_s: measured.as_secs_f64(),
            stopped,
            operations: tally.operations.iter().map(named).collect(),
            total: total.as_ref().map(report).unwrap_or_default(),
            shed: tally.shed,
            not_begun: tally.not_begun,
            errors: tally.errors(),
            seconds: tally.seconds(Duration::MAX).to_vec(),
            percentiles: total.map(|total| total.latencies.curve()).unwrap_or_default(),
        }
    }

    /// The whole report as JSON, with a line end.
    #[must_use]
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self);
        json.expect("numbers and text can always be written") + "\n"
    }

    /// What matters most, as a table for people.
    #[must_use]
    pub fn to_table(&self) -> String {
        table::of(self)
    }

    /// The whole report as a page with plots, which needs no other file and no script.
    #[must_use]
    pub fn to_html(&self) -> String {
        html::of(self)
    }
}

impl Setup {
    fn new(plan: &Plan) -> Self {
        let (rate, arrivals, max_outstanding) = match plan.pace {
            Pace::Closed => (None, None, None),
            Pace::Open { rate, arrivals, max_outstanding } => {
                (Some(rate), Some(arrivals), Some(max_outstanding))
            }
        };
        Self {
            nodes: plan.nodes.clone(),
            mix: plan.workload.mix,
            distribution: plan.workload.distribution(),
            keys: plan.workload.keys,
            min_value_bytes: *plan.workload.value_bytes.start(),
            max_value_bytes: *plan.workload.value_bytes.end(),
            connections: plan.connections,
            rate,
            arrivals,
            max_outstanding,
            warm_up_s: plan.warm_up.as_secs_f64(),
            seed: plan.workload.seed,
            consistency: plan.requests.consistency.map(|level| level.to_string()),
            r: plan.requests.r.map(|replicas| replicas.to_string()),
            w: plan.requests.w.map(|replicas| replicas.to_string()),
        }
    }

    /// All of it in one line for people.
    pub(crate) fn line(&self) -> String {
        let lengths = match (self.min_value_bytes, self.max_value_bytes) {
            (least, most) if least == most => format!("{most}"),
            (least, most) => format!("{least} to {most}"),
        };
        let pace = match (self.rate, self.arrivals) {
            (Some(rate), Some(arrivals)) => {
                format!("open loop at {rate} ops/s, {arrivals} arrivals")
            }
            _ => "closed loop".to_owned(),
        };
        let options = [("r", &self.r), ("w", &self.w), ("consistency", &self.consistency)];
        let options = options.map(|(name, value)| {
            value.as_ref().map(|value| format!(", {name}={value}")).unwrap_or_default()
        });
        format!(
            "mix {}, {} keys ({}), values of {lengths} bytes, {pace}, {} connections to {} nodes{}",
            self.mix,
            self.keys,
            self.distribution,
            self.connections,
            self.nodes.len(),
            options.concat(),
        )
    }
}

impl OperationReport {
    fn new(tally: &OperationTally, measured: Duration) -> Self {
        let seconds = measured.as_secs_f64();
        let per_second = if seconds > 0.0 { tally.done_in_time as f64 / seconds } else { 0.0 };
        Self {
            done: tally.done,
            failed: tally.failed,
            absent: tally.absent,
            per_second: (per_second * 10.0).round() / 10.0,
            latency: tally.latencies.summary(),
        }
    }
}

impl Default for OperationReport {
    fn default() -> Self {
        let (done, failed, absent) = (0, 0, 0);
        Self { done, failed, absent, per_second: 0.0, latency: LatencySummary::default() }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        Requests, Workload,
        tally::{Failure, Outcome},
    };

    /// Three seconds of mix A: gets of 1 ms to 1,000 ms, a put of 2 ms, one that failed, two shed.
    pub(crate) fn report() -> Report {
        let plan = Plan {
            nodes: vec!["127.0.0.1:9001".to_owned(), "<n2>:9002".to_owned()],
            workload: Workload::default(),
            pace: Pace::Open { rate: 400.0, arrivals: Arrivals::Poisson, max_outstanding: 8 },
            connections: 4,
            load: false,
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(3),
            requests: Requests::default(),
        };
        let ms = Duration::from_millis;
        let mut tally = Tally::new(plan.warm_up, plan.warm_up + plan.duration);
        for took in 1..=1_000 {
            tally.ended(Operation::Get, ms(1_000), ms(1_000 + took), Outcome::Done);
        }
        tally.ended(Operation::Put, ms(3_000), ms(3_002), Outcome::Done);
        let failure = Failure {
            kind: "rejected".to_owned(),
            detail: "a < b".to_owned(),
            took: Duration::ZERO,
        };
        tally.ended(Operation::Put, ms(3_000), ms(3_003), Outcome::Failed(failure));
        tally.shed(ms(3_100));
        tally.shed(ms(3_200));
        Report::new(&plan, false, &mut tally)
    }

    #[test]
    fn the_total_is_the_sum_of_the_operations() {
        let report = report();
        assert_eq!((report.total.done, report.total.failed, report.shed), (1_001, 1, 2));
        assert_eq!(report.operations["get"].latency.p99_us, 990_207);
        assert_eq!(report.operations["put"].latency.max_us, 2_000);
        assert_eq!(report.total.per_second, 333.7);
        let done: u64 = report.seconds.iter().map(|second| second.done).sum();
        assert_eq!((report.seconds.len(), done), (3, 1_001));
    }

    #[test]
    fn json_has_everything() {
        let json: serde_json::Value = serde_json::from_str(&report().to_json()).unwrap();
        assert_eq!(json["setup"]["mix"], "a");
        assert_eq!(json["setup"]["distribution"], "zipfian");
        assert_eq!(json["setup"]["arrivals"], "poisson");
        assert_eq!(json["operations"]["get"]["done"], 1_000);
        assert_eq!(json["errors"]["rejected"]["count"], 1);
        assert_eq!(json["seconds"][2]["shed"], 2);
        assert_eq!(json["percentiles"][0]["percentile"], 0.0);
    }

    #[test]
    fn a_run_in_which_nothing_ended_has_a_report_all_the_same() {
        let mut tally = Tally::new(Duration::ZERO, Duration::from_secs(2));
        let plan = Plan {
            nodes: vec!["a:1".to_owned()],
            workload: Workload::default(),
            pace: Pace::Closed,
            connections: 1,
            load: false,
            warm_up: Duration::ZERO,
            duration: Duration::from_secs(2),
            requests: Requests::default(),
        };
        let report = Report::new(&plan, true, &mut tally);
        assert_eq!((report.total, report.seconds.len()), (OperationReport::default(), 2));
        assert!(report.to_table().contains("stopped"));
        assert!(report.to_html().contains("<svg"));
    }
}
