use std::{fmt, sync::Arc, time::Duration};

use hyper::{
    Method, Request, StatusCode,
    body::{Body as _, Incoming},
    header::{ALLOW, CONNECTION, HeaderValue, X_CONTENT_TYPE_OPTIONS},
    http::request::Parts,
};
use tokio::time::{Instant, sleep_until};

use super::{
    Answer, Backend, DebugPage, HttpSettings,
    admit::{self, Class},
    body::{Received, Upload},
    budget::Budget,
    framing::Doubt,
    hosts::Hosts,
    internal, kv, operator,
    pace::{Pace, Spread},
    problem::Problem,
    throttle::Throttle,
};
use crate::clock::now;

/// Everything that the connections of one listener share.
pub(super) struct Face {
    backend: Arc<dyn Backend>,
    hosts: Hosts,
    requests: Budget,
    body_bytes: Budget,
    answer_bytes: Arc<Budget>,
    log: Throttle,
    spread: Spread,
}

/// Answers up to here are not counted: all connections together have room for one each.
const FREE_ANSWER_BYTES: usize = 64 << 10;

/// What a path names. Paths are compared as they were sent, without any normalisation.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Route<'a> {
    Kv { raw_key: &'a str },
    Health,
    Ready,
    Metrics,
    Page(DebugPage),
    Ring,
    Snapshot,
    Backup,
    Gone,
    Put,
    Get,
    Keys,
    Stream,
    Planned(&'static str),
}

impl Face {
    pub(super) fn new(backend: Arc<dyn Backend>) -> Self {
        let settings = backend.settings();
        Self {
            hosts: Hosts::new(&settings.allowed_hosts),
            requests: Budget::new(settings.max_in_flight),
            body_bytes: Budget::new(settings.limits.max_body_bytes_in_flight),
            answer_bytes: Arc::new(Budget::new(settings.limits.max_answer_bytes_in_flight)),
            log: Throttle::default(),
            spread: Spread::default(),
            backend,
        }
    }

    pub(super) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    pub(super) fn settings(&self) -> &HttpSettings {
        self.backend.settings()
    }

    pub(super) async fn collect(
        &self,
        upload: &mut Upload,
        most_bytes: usize,
    ) -> Result<Received<'_>, Problem> {
        upload.collect(most_bytes, &self.settings().limits, &self.body_bytes).await
    }

    pub(super) async fn ignore(&self, upload: &mut Upload) -> Result<(), Problem> {
        upload.ignore(&self.settings().limits, &self.body_bytes).await
    }

    /// Answers one request. `doubt` says what of it can be understood in two ways, `pace` how its
    /// connection fared.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        doubt: Option<Doubt>,
        pace: &Pace,
    ) -> Answer {
        let (parts, incoming) = request.into_parts();
        let opened = self.open(&parts, doubt);
        if let Ok(Route::Stream) = opened {
            return self.backend.accept_stream(Request::from_parts(parts, incoming));
        }
        let mut upload = Upload::new(&parts.headers, incoming);
        let result = match opened {
            Ok(route) => self.carry_out(route, &parts, &mut upload, pace).await,
            Err(problem) => Err(problem),
        };
        let is_withheld = upload.is_withheld();
        upload.linger(&self.settings().limits);
        let mut answer = result.unwrap_or_else(|problem| {
            self.log(&problem, &parts);
            problem.into_answer()
        });
        let nosniff = HeaderValue::from_static("nosniff");
        answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, nosniff);
        if is_withheld {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    /// Has a long answer carry the room that it takes up until it is written. Whoever does not take what
    /// he asked for must not take up all memory with it.
    fn with_room(&self, mut answer: Answer) -> Result<Answer, Problem> {
        let bytes = answer.body().size_hint().exact().and_then(|len| usize::try_from(len).ok());
        if let Some(bytes) = bytes.filter(|bytes| *bytes > FREE_ANSWER_BYTES) {
            let full = || Problem::overloaded("too many long answers have not been taken yet");
            let held = self.answer_bytes.hold(bytes).ok_or_else(full)?;
            answer.extensions_mut().insert(Arc::new(held));
        }
        Ok(answer)
    }

    /// Failures of the cluster and of this node are worth a line; those of `/ready` are its answer.
    fn log(&self, problem: &Problem, parts: &Parts) {
        let (status, path) = (problem.status(), parts.uri.path());
        if status.is_server_error()
            && status != StatusCode::NOT_IMPLEMENTED
            && path != "/ready"
            && let Some(left_out) = self.log.pass(now().wall_ms / 1000)
        {
            let (status, path) = (status.as_u16(), ShownPath(path));
            let (method, detail) = (&parts.method, problem.detail());
            tracing::warn!(status, %method, %path, detail, left_out, "request failed");
        }
    }

    /// Finds what is called, and whether it may be.
    fn open<'a>(&self, parts: &'a Parts, doubt: Option<Doubt>) -> Result<Route<'a>, Problem> {
        if let Some(doubt) = doubt {
            let (parameter, detail) = match doubt {
                Doubt::Length => ("content-length", "the length is given more than once"),
                Doubt::Target => ("target", "a # in an address is written as %23"),
            };
            return Err(Problem::bad(parameter, detail).closing());
        }
        admit::check_head(parts, &self.hosts)?;
        let path = parts.uri.path();
        let Some(route) = Route::of(path) else {
            return Err(Problem::new(StatusCode::NOT_FOUND, "no such path"));
        };
        admit::admit(route.class(), parts, self.settings())?;
        if let Route::Planned(what) = route {
            return Err(Problem::not_yet(what));
        }
        let methods = route.methods();
        if !methods.split(", ").any(|method| method == parts.method.as_str()) {
            return Err(Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("not one of {methods}"),
            )
            .header(ALLOW, HeaderValue::from_static(methods)));
        }
        Ok(route)
    }

    async fn carry_out(
        &self,
        route: Route<'_>,
        parts: &Parts,
        upload: &mut Upload,
        pace: &Pace,
    ) -> Result<Answer, Problem> {
        if let Route::Kv { raw_key } = route {
            return self.paced(raw_key, parts, upload, pace).await;
        }
        let _share = match route.class() {
            Class::Client | Class::Peer | Class::Stream => {
                Some(self.requests.take(1).ok_or_else(too_many)?)
            }
            // Who watches a node must see it above all when it is overloaded.
            Class::Probe | Class::Operator => {
                self.ignore(upload).await?;
                None
            }
        };
        let query = parts.uri.query().unwrap_or_default();
        match route {
            Route::Health => Ok(operator::health()),
            Route::Ready => operator::ready(self),
            Route::Metrics => Ok(operator::metrics(self)),
            Route::Page(page) => operator::page(self, page, query),
            Route::Ring => operator::ring(self, query),
            Route::Snapshot => operator::snapshot(self).await,
            Route::Backup => operator::backup(self, query).await,
            Route::Gone => operator::gone(self, query),
            Route::Put => internal::put(self, upload).await,
            Route::Get => internal::get(self, upload).await.and_then(|it| self.with_room(it)),
            Route::Keys => internal::keys(self, upload).await,
            Route::Kv { .. } | Route::Stream | Route::Planned(_) => unreachable!("answered before"),
        }
    }

    /// Carries out a client's request when its connection may ask for something again.
    async fn paced(
        &self,
        raw_key: &str,
        parts: &Parts,
        upload: &mut Upload,
        pace: &Pace,
    ) -> Result<Answer, Problem> {
        let (key, ask) = kv::asked(raw_key, parts, self.settings())?;
        let (came, mut waited) = (Instant::now(), Duration::ZERO);
        if let Some(due) = pace.due(came) {
            sleep_until(due.min(came + ask.timeout)).await;
            waited = came.elapsed();
        }
        let result = match self.requests.take(1) {
            Some(_share) => {
                let answer = kv::call(self, key, ask, parts, upload, waited).await;
                match parts.method {
                    Method::HEAD => answer, // nothing of the value is sent
                    _ => answer.and_then(|answer| self.with_room(answer)),
                }
            }
            None => Err(kv::not_begun(too_many(), !parts.method.is_safe(), ask.quorum)),
        };
        match &result {
            Err(problem) if problem.is_overload() => {
                pace.refuse(Instant::now(), self.spread.next());
            }
            _ => pace.forget(),
        }
        result
    }
}

fn too_many() -> Problem {
    Problem::overloaded("too many requests at once")
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        if let Some(raw_key) = path.strip_prefix("/kv/") {
            return Some(Self::Kv { raw_key });
        }
        Some(match path {
            "/health" => Self::Health,
            "/ready" => Self::Ready,
            "/metrics" => Self::Metrics,
            "/debug/hints" => Self::Page(DebugPage::Hints),
            "/debug/ae" => Self::Page(DebugPage::AntiEntropy),
            "/debug/persist" => Self::Page(DebugPage::Persist),
            "/debug/peers" => Self::Page(DebugPage::Peers),
            "/debug/ring" => Self::Ring,
            "/admin/status" => Self::Page(DebugPage::Status),
            "/admin/convergence" => Self::Page(DebugPage::Convergence),
            "/admin/snapshot" => Self::Snapshot,
            "/admin/backup" => Self::Backup,
            "/admin/gone" => Self::Gone,
            "/internal/put" => Self::Put,
            "/internal/get" => Self::Get,
            "/internal/keys" => Self::Keys,
            "/internal/stream" => Self::Stream,
            "/batch" => Self::Planned("/batch"),
            "/watch" => Self::Planned("/watch"),
            "/ui" => Self::Planned("/ui"),
            _ if path.starts_with("/watch/") => Self::Planned("/watch"),
            _ if path.starts_with("/ui/") => Self::Planned("/ui"),
            _ => return None,
        })
    }

    fn class(&self) -> Class {
        match self {
            Self::Health | Self::Ready => Class::Probe,
            Self::Kv { .. } | Self::Planned("/batch" | "/watch") => Class::Client,
            Self::Put | Self::Get | Self::Keys => Class::Peer,
            Self::Stream => Class::Stream,
            Self::Metrics
            | Self::Page(_)
            | Self::Ring
            | Self::Snapshot
            | Self::Backup
            | Self::Gone
            | Self::Planned(_) => Class::Operator,
        }
    }

    fn methods(&self) -> &'static str {
        match self {
            Self::Kv { .. } => "GET, HEAD, PUT, DELETE",
            Self::Put
            | Self::Get
            | Self::Keys
            | Self::Stream
            | Self::Snapshot
            | Self::Backup
            | Self::Gone => "POST",
            _ => "GET, HEAD",
        }
    }
}

/// Escaped, and cut where a long key goes on.
struct ShownPath<'a>(&'a str);

impl fmt::Display for ShownPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_BYTES: usize = 128;
        let bytes = self.0.as_bytes();
        write!(f, "{}", bytes[..bytes.len().min(SHOWN_BYTES)].escape_ascii())?;
        if bytes.len() > SHOWN_BYTES {
            write!(f, "… ({} bytes)", bytes.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_a_log_line_is_escaped_and_short() {
        assert_eq!(ShownPath("/kv/a\u{7f}é").to_string(), r"/kv/a\x7f\xc3\xa9");
        assert!(ShownPath(&"\0".repeat(4000)).to_string().len() < 600);
    }

    #[test]
    fn paths_are_taken_as_they_come() {
        assert_eq!(Route::of("/kv//health"), Some(Route::Kv { raw_key: "/health" }));
        assert_eq!(Route::of("/kv/"), Some(Route::Kv { raw_key: "" }));
        for other in ["", "/", "/kv", "//health", "/health/", "/debug/../health", "/%68ealth"] {
            assert_eq!(Route::of(other), None, "{other}");
        }
    }
}
