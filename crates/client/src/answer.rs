use std::time::Duration;

use hyper::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use quorate_record::Version;
use serde_json::Value;

use crate::{
    Acks, ClientError, Written,
    pool::{Answer, Broken, Progress},
};

/// Why one attempt at a call failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: ClientError,
    /// Whether another node may do better, and nothing is done twice by asking it.
    pub(crate) retriable: bool,
    /// Whether it is for the node, or what that can reach, and not for what was asked.
    pub(crate) is_nodes: bool,
    /// How long the node asks to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

/// Whether a call changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
}

impl Failure {
    /// A node that said nothing.
    pub(crate) fn broken(Broken(detail): Broken, kind: Kind, progress: Progress) -> Self {
        let acks = None;
        let error = match (kind, progress) {
            (Kind::Write, Progress::Sent) => ClientError::Indeterminate { detail, acks },
            _ => ClientError::Unavailable { detail, acks },
        };
        Self::silent(error)
    }

    /// The time was over before the node said anything.
    pub(crate) fn timed_out(after: Duration, kind: Kind, progress: Progress) -> Self {
        let error = match (kind, progress) {
            (Kind::Write, Progress::Sent) => {
                let detail = format!("no answer within {after:?}");
                ClientError::Indeterminate { detail, acks: None }
            }
            _ => ClientError::TimedOut { after },
        };
        Self::silent(error)
    }

    fn silent(error: ClientError) -> Self {
        let retriable = !matches!(error, ClientError::Indeterminate { .. });
        Self { error, retriable, is_nodes: true, retry_after: None }
    }

    fn of(answer: &Answer, kind: Kind, after: Duration) -> Self {
        let problem = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        let number = |field: &str| problem.get(field).and_then(Value::as_u64);
        let acks = number("needed").zip(number("acked"));
        let acks = acks.map(|(needed, acked)| Acks { needed, acked });
        let detail = detail(answer, &problem);
        let status = answer.status;
        let lacking = problem.get("lacking").and_then(Value::as_array).map(|ids| names(ids));
        let rejected = problem.get("outcome").and_then(Value::as_str) == Some("rejected");
        let (error, retriable) = match (status, kind) {
            (StatusCode::PAYLOAD_TOO_LARGE, _) => {
                (ClientError::TooLarge { detail, limit_bytes: number("limit_bytes") }, false)
            }
            (_, Kind::Write) if status.is_server_error() && rejected => {
                (ClientError::Rejected { detail, acks }, true)
            }
            (StatusCode::GATEWAY_TIMEOUT, Kind::Write)
                if let Some(lacking) = lacking.filter(|it| !it.is_empty()) =>
            {
                (ClientError::Lacking { lacking }, false)
            }
            // A failed write whose outcome is not stated may have happened.
            (_, Kind::Write) if status.is_server_error() => {
                (ClientError::Indeterminate { detail, acks }, false)
            }
            (StatusCode::GATEWAY_TIMEOUT, Kind::Read) => (ClientError::TimedOut { after }, true),
            (_, Kind::Read) if status.is_server_error() => {
                (ClientError::Unavailable { detail, acks }, true)
            }
            _ if status.is_client_error() => {
                (ClientError::BadRequest { status: status.as_u16(), detail }, false)
            }
            _ => {
                let detail = format!("it has status {status}");
                (ClientError::BadAnswer { detail }, false)
            }
        };
        let is_nodes = retriable || matches!(error, ClientError::Indeterminate { .. });
        Self { error, retriable, is_nodes, retry_after: retry_after(&answer.headers) }
    }
}

impl Answer {
    /// Lets the answers through that say what was asked for; `after` is the time the call was given.
    pub(crate) fn judged(self, kind: Kind, after: Duration) -> Result<Self, Failure> {
        let absent = self.status == StatusCode::NOT_FOUND
            && kind == Kind::Read
            && self.headers.contains_key("quorate-receipt");
        let done = self.status == StatusCode::OK || self.status == StatusCode::NO_CONTENT;
        if done || absent { Ok(self) } else { Err(Failure::of(&self, kind, after)) }
    }

    pub(crate) fn version(&self) -> Result<Version, ClientError> {
        let version = self.text("quorate-version")?;
        version.parse().map_err(|error| ClientError::BadAnswer {
            detail: format!("its Quorate-Version is {version:?}: {error}"),
        })
    }

    /// What an answer to a write says.
    pub(crate) fn written(&self) -> Result<Written, ClientError> {
        Ok(Written { version: self.version()?, receipt: self.receipt()? })
    }

    pub(crate) fn receipt(&self) -> Result<String, ClientError> {
        self.text("quorate-receipt").map(str::to_owned)
    }

    fn text(&self, header: &str) -> Result<&str, ClientError> {
        let value = self.headers.get(header).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| ClientError::BadAnswer { detail: format!("it has no {header}") })
    }
}

fn names(ids: &[Value]) -> Vec<String> {
    ids.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What the node says, for people to read.
fn detail(answer: &Answer, problem: &Value) -> String {
    const SHOWN_CHARS: usize = 200;
    let stated = ["detail", "title"].iter().find_map(|field| problem.get(field)?.as_str());
    match stated {
        Some(text) => text.to_owned(),
        None if answer.body.is_empty() => {
            answer.status.canonical_reason().unwrap_or("no reason given").to_owned()
        }
        None => String::from_utf8_lossy(&answer.body).trim().chars().take(SHOWN_CHARS).collect(),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(2);

    fn judged(status: u16, body: &'static str, kind: Kind) -> Failure {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Answer { status, headers: HeaderMap::new(), body: body.into() };
        answer.judged(kind, AFTER).unwrap_err()
    }

    #[test]
    fn a_failed_write_is_rejected_only_if_the_node_says_so() {
        for status in [500, 503, 504] {
            let body = r#"{"outcome":"rejected","detail":"why","needed":2,"acked":0}"#;
            let failure = judged(status, body, Kind::Write);
            let acks = Some(Acks { needed: 2, acked: 0 });
            assert_eq!(failure.error, ClientError::Rejected { detail: "why".into(), acks });
            assert!(failure.retriable);
            for body in [r#"{"outcome":"indeterminate"}"#, "{}", "", "Bad gateway"] {
                let failure = judged(status, body, Kind::Write);
                assert!(matches!(failure.error, ClientError::Indeterminate { .. }), "{body}");
                assert!(!failure.retriable);
            }
        }
    }

    #[test]
    fn a_write_that_some_owners_lack_happened_and_is_not_repeated() {
        let body = r#"{"outcome":"acknowledged","needed":2,"acked":2,"lacking":["n3"]}"#;
        let failure = judged(504, body, Kind::Write);
        let lacking = ClientError::Lacking { lacking: vec!["n3".into()] };
        assert_eq!((failure.error, failure.retriable), (lacking, false));
    }

    #[test]
    fn failed_reads_may_always_be_repeated() {
        let failure = judged(503, "", Kind::Read);
        let unavailable =
            ClientError::Unavailable { detail: "Service Unavailable".into(), acks: None };
        assert_eq!((failure.error, failure.retriable), (unavailable, true));
        let failure = judged(504, "", Kind::Read);
        assert_eq!(
            (failure.error, failure.retriable),
            (ClientError::TimedOut { after: AFTER }, true)
        );
    }

    #[test]
    fn what_the_caller_must_change_is_not_repeated() {
        let failure = judged(413, r#"{"limit_bytes":100,"detail":"long"}"#, Kind::Write);
        let too_large = ClientError::TooLarge { detail: "long".into(), limit_bytes: Some(100) };
        assert_eq!((failure.error, failure.retriable), (too_large, false));
        for status in [400, 401, 403, 405, 421, 431] {
            let failure = judged(status, r#"{"title":"why"}"#, Kind::Write);
            let bad = ClientError::BadRequest { status, detail: "why".into() };
            assert_eq!((failure.error, failure.retriable), (bad, false));
        }
    }

    #[test]
    fn a_404_counts_only_with_a_receipt() {
        let failure = judged(404, "<html>", Kind::Read);
        assert!(matches!(failure.error, ClientError::BadRequest { status: 404, .. }));
        assert!(matches!(judged(302, "", Kind::Read).error, ClientError::BadAnswer { .. }));
    }
}
