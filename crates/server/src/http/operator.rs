use bytes::Bytes;
use hyper::StatusCode;
use quorate_record::{Key, NodeId};

use super::{Answer, DebugPage, NoBackup, answer, params, problem::Problem, routes::Face};

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

const MAX_NAME_BYTES: usize = 64;

/// `POST /admin/backup?dir=NAME`: writes a backup now, among this node's own. A client chooses no paths on this machine.
pub(super) async fn backup(face: &Face, query: &str) -> Result<Answer, Problem> {
    let [dir] = params::named(query, ["dir"])?;
    let name = dir.and_then(|name| String::from_utf8(name).ok()).filter(|name| is_name(name));
    let Some(name) = name else {
        return Err(Problem::bad("dir", "1 to 64 of A-Z a-z 0-9 . _ -, and not a dot at first"));
    };
    match face.backend().backup(name).await {
        Ok(Ok(report)) => Ok(answer::json(&report)),
        Ok(Err(NoBackup::Exists(reason))) => Err(Problem::new(StatusCode::CONFLICT, reason)),
        Ok(Err(NoBackup::Failed(reason))) => Err(Problem::unavailable(reason)),
        Err(_) => Err(Problem::unavailable("the node is stopping")),
    }
}

/// `POST /admin/gone?node=n3`: another node will never come back, and its data is lost.
pub(super) fn gone(face: &Face, query: &str) -> Result<Answer, Problem> {
    let [node] = params::named(query, ["node"])?;
    let node = node.and_then(|name| String::from_utf8(name).ok());
    let node = node.and_then(|name| NodeId::new(&name).ok());
    let settings = face.backend().settings();
    match node.filter(|node| settings.nodes.contains(node) && *node != settings.node) {
        Some(node) => {
            face.backend().declare_gone(node);
            Ok(answer::json(&serde_json::json!({ "gone": node.as_str() })))
        }
        None => Err(Problem::bad("node", "the id of another node of this cluster")),
    }
}

fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(is_plain)
}
