use std::time::Duration;

use quorate_client::{ClientOptions, Consistency, GetOptions, PutOptions, Replicas};
use quorate_record::MAX_VALUE_BYTES;

use crate::{Pace, Workload};

/// Most bytes that a prefix of keys may have: their numbers need some.
pub const MAX_PREFIX_BYTES: usize = 1_000;
/// Longest measurement and longest warm-up; each second of it takes some memory.
pub const LONGEST_RUN: Duration = Duration::from_secs(24 * 3600);
/// Most connections.
pub const MAX_CONNECTIONS: usize = 65_536;
/// Fewest operations a second of an open loop.
pub const MIN_RATE: f64 = 0.001;
/// Most operations a second of an open loop.
pub const MAX_RATE: f64 = 10_000_000.0;
/// Most operations that may be due or under way in an open loop.
pub const MAX_OUTSTANDING: usize = 16 * 1024 * 1024;

/// A whole run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Where the nodes are, each a host and a port; connections are spread over them.
    pub nodes: Vec<String>,
    /// What is done.
    pub workload: Workload,
    /// When it is done.
    pub pace: Pace,
    /// How many connections there are, each for one operation at a time.
    pub connections: usize,
    /// Whether all keys are written before anything else.
    pub load: bool,
    /// How long to go on before measuring.
    pub warm_up: Duration,
    /// How long to measure.
    pub duration: Duration,
    /// How requests are made.
    pub requests: Requests,
}

/// How requests are made. What is not given, the cluster's configuration decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// How many replicas must answer a read.
    pub r: Option<Replicas>,
    /// How many replicas must have a write.
    pub w: Option<Replicas>,
    /// What all requests promise about others.
    pub consistency: Option<Consistency>,
    /// How long a node may take over a request.
    pub timeout: Option<Duration>,
    /// How clients are known to the nodes.
    pub client: ClientOptions,
}

/// Why a plan cannot be carried out.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// There is nobody to ask.
    #[error("there must be a node")]
    NoNode,
    /// A number is out of range.
    #[error("{what} must be from {least} to {most}")]
    OutOfRange {
        /// What it is the number of.
        what: &'static str,
        /// The least that it may be.
        least: u64,
        /// The most that it may be.
        most: u64,
    },
    /// The ends of the range of lengths are the wrong way round.
    #[error("the shortest value is longer than the longest")]
    NoLength,
    /// A rate of nothing, or of too much.
    #[error("the rate must be {MIN_RATE} to {MAX_RATE} operations a second")]
    BadRate,
}

impl Plan {
    /// Whether it can be carried out.
    ///
    /// # Errors
    /// [`PlanError`] says what is wrong, one thing at a time.
    pub fn check(&self) -> Result<(), PlanError> {
        if self.nodes.is_empty() {
            return Err(PlanError::NoNode);
        }
        let Workload { keys, key_prefix, value_bytes, .. } = &self.workload;
        let most_bytes = MAX_VALUE_BYTES as u64;
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let longest_ms = ms(LONGEST_RUN);
        in_range("the number of keys", *keys, 1, u64::MAX / 2)?;
        in_range("the bytes of the prefix", key_prefix.len() as u64, 0, MAX_PREFIX_BYTES as u64)?;
        in_range("the bytes of a value", *value_bytes.end() as u64, 0, most_bytes)?;
        in_range("the connections", self.connections as u64, 1, MAX_CONNECTIONS as u64)?;
        in_range("the milliseconds to measure", ms(self.duration), 1, longest_ms)?;
        in_range("the milliseconds to warm up", ms(self.warm_up), 0, longest_ms)?;
        if value_bytes.is_empty() {
            return Err(PlanError::NoLength);
        }
        if let Pace::Open { rate, max_outstanding, .. } = self.pace {
            let most = MAX_OUTSTANDING as u64;
            in_range("the operations outstanding", max_outstanding as u64, 1, most)?;
            if !(MIN_RATE..=MAX_RATE).contains(&rate) {
                return Err(PlanError::BadRate);
            }
        }
        Ok(())
    }
}

impl Requests {
    pub(crate) fn get(&self) -> GetOptions {
        let Self { r, consistency, timeout, .. } = *self;
        GetOptions { r, consistency, timeout, ..GetOptions::default() }
    }

    pub(crate) fn put(&self) -> PutOptions {
        let Self { w, consistency, timeout, .. } = *self;
        PutOptions { w, consistency, timeout, ..PutOptions::default() }
    }

    /// The options of a connection: it is patient for as long as the node may take.
    pub(crate) fn client(&self) -> ClientOptions {
        let timeout = self.timeout.unwrap_or(self.client.timeout);
        ClientOptions { timeout, ..self.client.clone() }
    }
}

fn in_range(what: &'static str, number: u64, least: u64, most: u64) -> Result<(), PlanError> {
    let fits = (least..=most).contains(&number);
    if fits { Ok(()) } else { Err(PlanError::OutOfRange { what, least, most }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arrivals;

    fn plan() -> Plan {
        Plan {
            nodes: vec!["127.0.0.1:9001".to_owned()],
            workload: Workload::default(),
            pace: Pace::Closed,
            connections: 1,
            load: false,
            warm_up: Duration::ZERO,
            duration: Duration::from_secs(1),
            requests: Requests::default(),
        }
    }

    fn open(rate: f64, max_outstanding: usize) -> Plan {
        Plan { pace: Pace::Open { rate, arrivals: Arrivals::Constant, max_outstanding }, ..plan() }
    }

    #[test]
    fn a_plan_that_makes_sense_passes() {
        assert_eq!(plan().check(), Ok(()));
        assert_eq!(open(0.5, 1).check(), Ok(()));
    }

    #[test]
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is to be refused")]
    fn what_makes_no_sense_is_named() {
        let workload = |workload: Workload| Plan { workload, ..plan() };
        let with = Workload::default;
        for (bad, says) in [
            (Plan { nodes: vec![], ..plan() }, "a node"),
            (Plan { connections: 0, ..plan() }, "connections must be from 1 to"),
            (Plan { duration: Duration::ZERO, ..plan() }, "milliseconds to measure"),
            (Plan { warm_up: LONGEST_RUN * 2, ..plan() }, "milliseconds to warm up"),
            (workload(Workload { keys: 0, ..with() }), "number of keys"),
            (workload(Workload { key_prefix: "x".repeat(1_001), ..with() }), "prefix"),
            (workload(Workload { value_bytes: 0..=9_000_000, ..with() }), "bytes of a value"),
            (workload(Workload { value_bytes: 5..=4, ..with() }), "shortest value"),
            (open(0.0, 1), "rate"),
            (open(f64::NAN, 1), "rate"),
            (open(1.0, 0), "outstanding"),
        ] {
            let error = bad.check().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
