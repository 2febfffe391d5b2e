use hyper::StatusCode;
use quorate_node::{PutOutcome, Request, Response};
use serde::Deserialize;
use serde_json::{Map, json};

use super::{
    Answer, KeysPage, answer,
    body::Upload,
    json::{self, RecordForm, ShownKey},
    problem::Problem,
    refusal,
    routes::Face,
};

/// Most bytes of a body that carries no value.
const MAX_BODY_BYTES: usize = 64 * 1024;

const MAX_PAGE_KEYS: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutForm {
    record: RecordForm,
    hint_for: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetForm {
    key: Option<String>,
    key_base64: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysForm {
    after: Option<String>,
    after_base64: Option<String>,
    limit: Option<usize>,
}

/// `POST /internal/put`: stores a record on this node alone, or keeps it as a hint.
pub(super) async fn put(face: &Face, upload: &mut Upload) -> Result<Answer, Problem> {
    let settings = face.settings();
    let most_bytes = settings.max_value_bytes.saturating_mul(4) / 3 + MAX_BODY_BYTES;
    let received = face.collect(upload, most_bytes).await?;
    let form: PutForm = json::parse(&received.bytes)?;
    let hint_for = form
        .hint_for
        .map(|text| json::known_node("hint_for", &text, &settings.nodes))
        .transpose()?;
    let (key, record) = form.record.into_record(settings.max_value_bytes)?;
    match local(face, Request::Put { key, record, hint_for }).await? {
        Response::Put(PutOutcome::Stored) => Ok(answer::json(&json!({"ok": true, "stored": true}))),
        Response::Put(PutOutcome::Superseded(by)) => {
            let by = by.to_string();
            Ok(answer::json(&json!({"ok": true, "stored": false, "superseded_by": by})))
        }
        Response::Put(PutOutcome::Refused(refusal)) => Err(refusal::problem(&refusal)),
        _ => Err(mixed_up()),
    }
}

/// `POST /internal/get`: what this node holds of a key, tombstones included.
pub(super) async fn get(face: &Face, upload: &mut Upload) -> Result<Answer, Problem> {
    let received = face.collect(upload, MAX_BODY_BYTES).await?;
    let form: GetForm = json::parse(&received.bytes)?;
    let key = json::key(["key", "key_base64"], form.key, form.key_base64)?
        .ok_or_else(|| Problem::bad("key", "missing"))?;
    match local(face, Request::Get { key: key.clone(), from_hints: false, known: None }).await? {
        Response::Found(Some(record)) => {
            let record = json::shown_record(&key, &record);
            Ok(answer::json(&json!({"found": true, "record": record})))
        }
        Response::Found(None) => Ok(answer::json(&json!({"found": false}))),
        _ => Err(mixed_up()),
    }
}

/// `POST /internal/keys`: one page of this node's keys, in token order.
///
/// A key that is not UTF-8 cannot name a member of an object. Such keys are listed in the array
/// `keys_base64`, each with its `key_base64`; and `next` is then `next_base64`.
pub(super) async fn keys(face: &Face, upload: &mut Upload) -> Result<Answer, Problem> {
    let received = face.collect(upload, MAX_BODY_BYTES).await?;
    let body = if received.bytes.is_empty() { &b"{}"[..] } else { &received.bytes };
    let form: KeysForm = json::parse(body)?;
    let after = json::key(["after", "after_base64"], form.after, form.after_base64)?;
    let limit = form.limit.unwrap_or(MAX_PAGE_KEYS);
    if !(1..=MAX_PAGE_KEYS).contains(&limit) {
        return Err(Problem::bad("limit", format!("not 1 to {MAX_PAGE_KEYS}")));
    }
    let page = face.backend().keys(after, limit).map_err(|refusal| refusal::problem(&refusal))?;
    let KeysPage { records: page, may_go_on } = page;
    let mut answer = Map::new();
    if may_go_on && let Some((last, _)) = page.last() {
        match ShownKey::new(last) {
            ShownKey::Key(text) => answer.insert("next".into(), text.into()),
            ShownKey::KeyBase64(text) => answer.insert("next_base64".into(), text.into()),
        };
    }
    let (mut named, mut unnamed) = (Map::new(), Vec::new());
    for (key, record) in &page {
        let mut stamp = json::shown_stamp(record);
        match ShownKey::new(key) {
            ShownKey::Key(text) => {
                named.insert(text, stamp.into());
            }
            ShownKey::KeyBase64(_) => {
                json::name_key(&mut stamp, key);
                unnamed.push(stamp);
            }
        }
    }
    answer.insert("keys".into(), named.into());
    if !unnamed.is_empty() {
        answer.insert("keys_base64".into(), unnamed.into());
    }
    Ok(answer::json(&answer))
}

async fn local(face: &Face, request: Request) -> Result<Response, Problem> {
    match face.backend().local(request).await {
        Ok(Response::Refused(refusal)) => Err(refusal::problem(&refusal)),
        Ok(response) => Ok(response),
        Err(_) => Err(Problem::unavailable("the node is stopping")),
    }
}

fn mixed_up() -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the node answered something else")
}
