use bytes::Bytes;
use hyper::StatusCode;
use quorate_record::Key;

use super::{Answer, DebugPage, answer, params, problem::Problem, routes::Face};

/// `GET /health`: the process is up.
pub(super) fn health() -> Answer {
    answer::text(Bytes::from_static(b"ok\n"))
}

/// `GET /ready`: requests should be sent here.
pub(super) fn ready(face: &Face) -> Result<Answer, Problem> {
    match face.backend().ready() {
        Ok(()) => Ok(answer::text(Bytes::from_static(b"ready\n"))),
        Err(reason) => Err(Problem::unavailable(reason)),
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /metrics`: the OpenMetrics text format, which Prometheus reads.
pub(super) fn metrics(face: &Face) -> Answer {
    let body = Bytes::from(face.backend().metrics());
    answer::with_body(StatusCode::OK, Some(OPEN_METRICS), body)
}

/// One of the pages without parameters.
pub(super) fn page(face: &Face, page: DebugPage, query: &str) -> Result<Answer, Problem> {
    let [] = params::named(query, [])?;
    Ok(answer::json(&face.backend().debug(page)))
}

/// `GET /debug/ring`, with `?key=` for the preference list of one key.
pub(super) fn ring(face: &Face, query: &str) -> Result<Answer, Problem> {
    let [key] = params::named(query, ["key"])?;
    let key = key.map(Key::new).transpose();
    let key = key.map_err(|error| Problem::bad("key", error.to_string()))?;
    Ok(answer::json(&face.backend().debug(DebugPage::Ring { key })))
}

/// `POST /admin/snapshot`: writes a snapshot now.
pub(super) async fn snapshot(face: &Face) -> Result<Answer, Problem> {
    match face.backend().snapshot().await {
        Ok(Ok(report)) => Ok(answer::json(&report)),
        Ok(Err(reason)) => Err(Problem::unavailable(reason)),
        Err(_) => Err(Problem::unavailable("the node is stopping")),
    }
}
