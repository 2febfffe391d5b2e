use std::{borrow::Cow, collections::BTreeMap};

use hyper::{
    StatusCode,
    header::{CONNECTION, HeaderName, HeaderValue, RETRY_AFTER},
};
use serde::Serialize;
use serde_json::Value;

use super::answer::{self, Answer};

/// Why a request got no success, as `application/problem+json` (RFC 9457).
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    fields: Vec<(&'static str, Value)>,
    headers: Vec<(HeaderName, HeaderValue)>,
    is_overload: bool,
}

#[derive(Serialize)]
struct Form<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(flatten)]
    fields: BTreeMap<&'static str, Value>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            detail: detail.into(),
            fields: Vec::new(),
            headers: Vec::new(),
            is_overload: false,
        }
    }

    /// `400`, because of the named parameter, field or header.
    pub(super) fn bad(parameter: &str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail).field("parameter", shortened(parameter))
    }

    /// `503`, to be tried again soon.
    pub(super) fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .header(RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// `503`, since too much is asked of this node.
    pub(super) fn overloaded(detail: impl Into<Cow<'static, str>>) -> Self {
        Self { is_overload: true, ..Self::unavailable(detail) }
    }

    /// `413`; the connection ends with it.
    pub(super) fn too_large(limit_bytes: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {limit_bytes} bytes"),
        )
        .field("limit_bytes", limit_bytes)
        .closing()
    }

    /// `501`, for what is planned.
    pub(super) fn not_yet(what: &str) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, format!("{what}: not there yet"))
    }

    #[must_use]
    pub(super) fn field(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    #[must_use]
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    #[must_use]
    pub(super) fn headers(
        mut self,
        more: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
    ) -> Self {
        self.headers.extend(more);
        self
    }

    /// Ends the connection after the answer, because what follows on it cannot be trusted or is
    /// not worth reading.
    #[must_use]
    pub(super) fn closing(self) -> Self {
        self.header(CONNECTION, HeaderValue::from_static("close"))
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether it was refused since too much is asked of this node.
    pub(super) fn is_overload(&self) -> bool {
        self.is_overload
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    pub(super) fn into_answer(self) -> Answer {
        let form = Form {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: &self.detail,
            fields: self.fields.into_iter().collect(),
        };
        let body = answer::json_line(&form);
        let mut answer = answer::with_body(self.status, Some("application/problem+json"), body);
        answer.headers_mut().extend(self.headers);
        answer
    }
}

/// The beginning of what somebody sent, to be quoted back.
pub(super) fn shortened(text: &str) -> String {
    const SHOWN: usize = 64;
    text.chars().take(SHOWN).collect()
}
