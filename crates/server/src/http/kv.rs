use std::time::Duration;

use bytes::Bytes;
use hyper::{
    Method, StatusCode,
    header::{
        CONTENT_ENCODING, CONTENT_RANGE, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName,
        HeaderValue, IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE,
    },
    http::request::Parts,
};
use quorate_node::{ClientReply, ClientRequest, Failure, Operation, Refusal};
use quorate_quorum::{GetError, GetReceipt, Outcome, PutError, PutReceipt, Quorum};
use quorate_record::{Key, NodeId, Record, Version};

use super::{
    Answer, HttpSettings, answer, body::Upload, key_path, params, problem::Problem, receipt,
    refusal, routes::Face,
};

/// What is asked for by `/kv/{raw_key}` and the query behind it.
///
/// # Errors
/// `400`.
pub(super) fn asked(
    raw_key: &str,
    parts: &Parts,
    settings: &HttpSettings,
) -> Result<(Key, params::Ask), Problem> {
    Ok((key_path::key(raw_key)?, params::ask(parts.uri.query(), settings)?))
}

/// `GET`, `HEAD`, `PUT` and `DELETE` of a key. It `waited` for its turn, out of the time that it may
/// take.
pub(super) async fn call(
    face: &Face,
    key: Key,
    ask: params::Ask,
    parts: &Parts,
    upload: &mut Upload,
    waited: Duration,
) -> Result<Answer, Problem> {
    let settings = face.settings();
    let mut _received = None; // holds its part of the memory until the answer is known
    let operation = match parts.method {
        Method::PUT => {
            check_write(&parts.headers)?;
            let received = face.collect(upload, settings.max_value_bytes).await;
            let received = received.map_err(|problem| not_begun(problem, true, ask.quorum))?;
            let value = received.bytes.clone();
            _received = Some(received);
            Operation::Put(value)
        }
        Method::DELETE => {
            check_write(&parts.headers)?;
            let ignored = face.ignore(upload).await;
            ignored.map_err(|problem| not_begun(problem, true, ask.quorum))?;
            Operation::Delete
        }
        _ => {
            let ignored = face.ignore(upload).await;
            ignored.map_err(|problem| not_begun(problem, false, ask.quorum))?;
            Operation::Get
        }
    };
    let is_write = operation != Operation::Get;
    let params::Ask { quorum, atomic, timeout, wait } = ask;
    if wait && !is_write {
        return Err(Problem::bad("wait", "only a write is waited for"));
    }
    // Nobody waits for the answer any more.
    let Some(timeout) = timeout.checked_sub(waited).filter(|left| !left.is_zero()) else {
        return Err(refused(&Refusal::Overloaded, is_write, quorum));
    };
    let request = ClientRequest { key, operation, quorum, atomic, wait_for_owners: wait, timeout };
    match face.backend().client(request).await {
        Ok(ClientReply::Written(Ok(receipt))) if is_write && wait => waited_for(&receipt, settings),
        Ok(ClientReply::Written(Ok(receipt))) if is_write => Ok(written(&receipt, settings, false)),
        Ok(ClientReply::Written(Err(failure))) if is_write => Err(unwritten(&failure)),
        Ok(ClientReply::Read(Ok(receipt))) if !is_write => found(receipt),
        Ok(ClientReply::Read(Err(failure))) if !is_write => Err(unread(&failure)),
        Ok(ClientReply::Refused(refusal)) => Err(refused(&refusal, is_write, quorum)),
        Ok(ClientReply::Written(_) | ClientReply::Read(_)) => Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "a read was answered as a write, or the other way round",
        )),
        Err(_) => Err(gone(is_write)),
    }
}

/// Refuses what would be stored as something else than the sender means.
fn check_write(headers: &HeaderMap) -> Result<(), Problem> {
    let refuse = |status, name: HeaderName, detail: &'static str| {
        Err(Problem::new(status, detail).field("parameter", name.as_str()))
    };
    if headers.get_all(CONTENT_ENCODING).iter().any(|coding| coding != "identity") {
        let detail = "values are stored as they come and served without an encoding";
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, CONTENT_ENCODING, detail);
    }
    if headers.contains_key(CONTENT_RANGE) {
        return refuse(StatusCode::BAD_REQUEST, CONTENT_RANGE, "values are written whole");
    }
    for name in [IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE] {
        if headers.contains_key(&name) {
            let detail = "conditional writes: not there yet";
            return refuse(StatusCode::NOT_IMPLEMENTED, name, detail);
        }
    }
    Ok(())
}

fn written(receipt: &PutReceipt<NodeId, Version>, settings: &HttpSettings, waited: bool) -> Answer {
    let mut answer = answer::empty(StatusCode::NO_CONTENT);
    add_headers(&mut answer, receipt::version(&receipt.version));
    add_headers(&mut answer, [receipt::written(receipt, settings.node, waited)]);
    answer
}

/// The answer to a write whose client has waited until all owners hold it, or as long as it would.
fn waited_for(
    receipt: &PutReceipt<NodeId, Version>,
    settings: &HttpSettings,
) -> Result<Answer, Problem> {
    if receipt.lacking.is_empty() {
        return Ok(written(receipt, settings, true));
    }
    let lacking: Vec<&str> = receipt.lacking.iter().map(NodeId::as_str).collect();
    let detail = format!("acknowledged, but not yet held by {}", lacking.join(", "));
    let proof = receipt::written(receipt, settings.node, true);
    let headers = receipt::version(&receipt.version).into_iter().chain([proof]);
    Err(short(true, detail, receipt.w, receipt.acks.len())
        .field("outcome", "acknowledged")
        .field("lacking", lacking)
        .headers(headers))
}

fn found(receipt: GetReceipt<NodeId, Record>) -> Result<Answer, Problem> {
    let proof = receipt::read(&receipt);
    let version = receipt.found.as_ref().map(|record| receipt::version(&record.version));
    let headers = version.into_iter().flatten().chain([proof]);
    match receipt.found.and_then(|record| record.value) {
        Some(value) => Ok(value_answer(value, headers)),
        None => {
            Err(Problem::new(StatusCode::NOT_FOUND, "no value under this key").headers(headers))
        }
    }
}

fn value_answer(value: Bytes, headers: impl Iterator<Item = (HeaderName, HeaderValue)>) -> Answer {
    let mut answer = answer::with_body(StatusCode::OK, Some("application/octet-stream"), value);
    // Whoever stored it may have stored a page with a script.
    let sandbox = (CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    add_headers(&mut answer, headers.chain([sandbox]));
    answer
}

/// `extend` would make room for twice as many.
fn add_headers(answer: &mut Answer, headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>) {
    for (name, value) in headers {
        answer.headers_mut().insert(name, value);
    }
}

fn unwritten(failure: &Failure<PutError>) -> Problem {
    let (late, needed, acked) = match failure.error {
        PutError::TimedOut { needed, acked, .. } => (true, needed, acked),
        PutError::TooFewReplicas { needed, acked, .. }
        | PutError::ClockTooFar { needed, acked, .. } => (false, needed, acked),
    };
    short(late, detail(failure.error, failure.reason.as_ref()), needed, acked)
        .field("outcome", outcome(failure.error.outcome()))
}

fn unread(failure: &Failure<GetError>) -> Problem {
    let (late, needed, answered) = match failure.error {
        GetError::TimedOut { needed, answered } => (true, needed, answered),
        GetError::TooFewReplicas { needed, answered } => (false, needed, answered),
    };
    short(late, detail(failure.error, failure.reason.as_ref()), needed, answered)
}

fn detail(error: impl std::error::Error, reason: Option<&Refusal>) -> String {
    match reason {
        Some(reason) => format!("{error}; one of them said: {reason}"),
        None => error.to_string(),
    }
}

fn short(late: bool, detail: String, needed: usize, acked: usize) -> Problem {
    let problem = if late {
        Problem::new(StatusCode::GATEWAY_TIMEOUT, detail)
    } else {
        Problem::unavailable(detail)
    };
    problem.field("needed", needed).field("acked", acked)
}

/// What is to be tried again is known not to have happened, nor to have been asked of anybody.
pub(super) fn not_begun(problem: Problem, is_write: bool, quorum: Quorum) -> Problem {
    match problem.status() {
        StatusCode::SERVICE_UNAVAILABLE => nothing_of(problem, is_write, quorum),
        _ => problem,
    }
}

/// Nothing was begun.
fn refused(refusal: &Refusal, is_write: bool, quorum: Quorum) -> Problem {
    nothing_of(refusal::problem(refusal), is_write, quorum)
}

fn nothing_of(problem: Problem, is_write: bool, quorum: Quorum) -> Problem {
    let needed = if is_write { quorum.w() } else { quorum.r() };
    let problem = problem.field("needed", needed).field("acked", 0);
    if is_write { problem.field("outcome", outcome(Outcome::Rejected)) } else { problem }
}

/// The node stopped while the request was under way.
fn gone(is_write: bool) -> Problem {
    let problem = Problem::unavailable("the node is stopping");
    if is_write { problem.field("outcome", outcome(Outcome::Indeterminate)) } else { problem }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Rejected => "rejected",
        Outcome::Indeterminate => "indeterminate",
    }
}
