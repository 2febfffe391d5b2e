use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde::Serialize;

/// A whole HTTP answer.
pub type Answer = Response<Full<Bytes>>;

/// As many as an answer to a client has; without it they are moved twice while they are added.
const USUAL_HEADERS: usize = 8;

pub(super) fn empty(status: StatusCode) -> Answer {
    with_body(status, None, Bytes::new())
}

pub(super) fn text(body: impl Into<Bytes>) -> Answer {
    with_body(StatusCode::OK, Some("text/plain; charset=utf-8"), body.into())
}

/// One line of JSON.
pub(super) fn json(body: &impl Serialize) -> Answer {
    with_body(StatusCode::OK, Some("application/json"), json_line(body))
}

pub(super) fn json_line(body: &impl Serialize) -> Bytes {
    let mut line = BytesMut::with_capacity(256).writer();
    serde_json::to_writer(&mut line, body).expect("our own forms have text for keys");
    let mut line = line.into_inner();
    line.put_u8(b'\n');
    line.freeze()
}

pub(super) fn with_body(
    status: StatusCode,
    content_type: Option<&'static str>,
    body: Bytes,
) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.headers_mut() = HeaderMap::with_capacity(USUAL_HEADERS);
    *answer.status_mut() = status;
    if let Some(content_type) = content_type {
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    answer
}
