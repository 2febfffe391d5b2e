use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, UPGRADE},
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use quorate_record::NodeId;
use tokio::{net::TcpStream, time::timeout};

use crate::{Accepted, HandshakeError, Hello, Identity, Stream, StreamOptions};

/// Where peers ask for a stream, with `POST`.
pub const STREAM_PATH: &str = "/internal/stream";

/// What a connection is upgraded to.
pub(crate) const UPGRADE_PROTOCOL: HeaderValue = HeaderValue::from_static("quorate/1");

/// How long a handshake may take, on either side.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// The side of the listener: answers the peers' requests for a stream.
pub struct Acceptor {
    identity: Identity,
    peers: BTreeSet<NodeId>,
    options: StreamOptions,
    /// What was last said to whom, so that the log has each reason once.
    refused: Mutex<BTreeMap<Option<NodeId>, String>>,
}

/// A stream that has been promised: it begins when the answer has been sent.
pub struct Accepting {
    upgrade: OnUpgrade,
    peer: Accepted,
    options: StreamOptions,
}

/// Why a promised stream did not come about.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The connection did not live long enough.
    #[error("the connection ended before it was upgraded")]
    Lost(#[from] hyper::Error),
    /// The answer was not sent in time.
    #[error("the connection was not upgraded within {after:?}")]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
}

impl Acceptor {
    /// Takes streams from `peers`, none of them from elsewhere.
    #[must_use]
    pub fn new(
        identity: Identity,
        peers: impl IntoIterator<Item = NodeId>,
        options: StreamOptions,
    ) -> Self {
        let peers = peers.into_iter().collect();
        Self { identity, peers, options, refused: Mutex::default() }
    }

    /// The answer to a `POST` on [`STREAM_PATH`]: `101` and the stream that will be there once it
    /// has been sent, or a refusal that says why (`421` if the two nodes differ in something that
    /// they must agree on, `400` and `426` if it is no request for a stream). The reason is logged.
    pub fn accept<B>(
        &self,
        request: &mut Request<B>,
    ) -> (Response<Full<Bytes>>, Option<Accepting>) {
        let headers = request.headers();
        if !asks_for_upgrade(headers) {
            return (upgrade_required(), None);
        }
        let agreed = Hello::read_headers(headers)
            .and_then(|hello| hello.check(&self.identity, |node| self.peers.contains(&node)));
        let peer = match agreed {
            Ok(peer) => peer,
            Err(error) => {
                self.log_refusal(headers, &error);
                return (refusal(&error), None);
            }
        };
        self.refused().remove(&Some(peer.node));
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, UPGRADE_PROTOCOL);
        Hello::answer(peer, &self.identity).write_headers(headers);
        let upgrade = hyper::upgrade::on(request);
        (response, Some(Accepting { upgrade, peer, options: self.options }))
    }

    fn log_refusal(&self, headers: &HeaderMap, error: &HandshakeError) {
        let reason = error.to_string();
        // Strangers share one place: they may call themselves as they like, and memory is bounded.
        let peer = Hello::read_headers(headers)
            .map(|hello| hello.node)
            .ok()
            .filter(|node| self.peers.contains(node));
        let known = self.refused().insert(peer, reason.clone());
        if known.as_ref() != Some(&reason) {
            tracing::warn!(%reason, "refused a peer's stream");
        }
    }

    fn refused(&self) -> MutexGuard<'_, BTreeMap<Option<NodeId>, String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accepting {
    /// Who asked.
    #[must_use]
    pub fn peer(&self) -> Accepted {
        self.peer
    }

    /// Waits, in a task of its own, until the answer has been sent.
    ///
    /// # Errors
    /// [`AcceptError`] if the connection ends before.
    pub async fn stream(self) -> Result<Stream, AcceptError> {
        let Self { upgrade, peer, options } = self;
        let after = HANDSHAKE_TIMEOUT;
        let upgraded =
            timeout(after, upgrade).await.map_err(|_| AcceptError::TimedOut { after })??;
        Ok(stream_over(upgraded, peer, options))
    }
}

/// Over the bare socket if it is one: reading through hyper's wrapper costs an extra step a call.
pub(crate) fn stream_over(upgraded: Upgraded, peer: Accepted, options: StreamOptions) -> Stream {
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => {
            let socket = parts.io.into_inner();
            // The outbox gathers already; without this, only speed is lost.
            let _ = socket.set_nodelay(true);
            Stream::new(socket, parts.read_buf, peer, options)
        }
        Err(upgraded) => Stream::new(TokioIo::new(upgraded), Bytes::new(), peer, options),
    }
}

pub(crate) fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    let lists = |name: HeaderName, wanted: &[u8]| {
        headers.get_all(name).iter().any(|value| {
            let mut items = value.as_bytes().split(|&byte| byte == b',');
            items.any(|item| item.trim_ascii().eq_ignore_ascii_case(wanted))
        })
    };
    lists(CONNECTION, b"upgrade") && lists(UPGRADE, UPGRADE_PROTOCOL.as_bytes())
}

fn upgrade_required() -> Response<Full<Bytes>> {
    let detail = "peers talk over this path after Connection: upgrade and Upgrade: quorate/1";
    let mut response = problem(StatusCode::UPGRADE_REQUIRED, "Upgrade required", detail);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, UPGRADE_PROTOCOL);
    response
}

fn refusal(error: &HandshakeError) -> Response<Full<Bytes>> {
    let detail = error.to_string();
    match error {
        HandshakeError::BadHeader { .. } => problem(StatusCode::BAD_REQUEST, "Bad header", &detail),
        HandshakeError::OtherNode { .. }
        | HandshakeError::UnknownNode { .. }
        | HandshakeError::OtherCluster { .. }
        | HandshakeError::NoCommonProtocol { .. } => {
            problem(StatusCode::MISDIRECTED_REQUEST, "The nodes do not agree", &detail)
        }
    }
}

/// A body as RFC 9457 has it.
fn problem(status: StatusCode, title: &str, detail: &str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({
        "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail,
    });
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(connection: &'static str, upgrade: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static(connection));
        headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
        asks_for_upgrade(&headers)
    }

    #[test]
    fn both_headers_must_ask_for_the_upgrade() {
        assert!(asks("Upgrade", "quorate/1"));
        assert!(asks("keep-alive, upgrade", "websocket, Quorate/1"));
        assert!(!asks("keep-alive", "quorate/1"));
        assert!(!asks("upgrade", "quorate/2"));
        assert!(!asks_for_upgrade(&HeaderMap::new()));
    }
}
