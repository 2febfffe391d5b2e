use std::{collections::BTreeSet, io, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, UPGRADE},
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use quorate_record::NodeId;
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use crate::{
    Accepted, HandshakeError, Hello, Identity, PeerCertificate, Secrets, Stream, StreamOptions,
    Trust,
    hello::{read_nonce, write_proof},
    pending::{Pending, Place},
    proof::{End, HexBytes, PROOF_BYTES, Transcript},
    refusals::Refusals,
    seal::Seals,
};

/// Where peers ask for a stream, with `POST`.
pub const STREAM_PATH: &str = "/internal/stream";

/// What a connection is upgraded to.
pub(crate) const UPGRADE_PROTOCOL: HeaderValue = HeaderValue::from_static("quorate/1");

/// How long a handshake may take, on either side.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// How many peers may be about to prove who they are.
const MAX_UNPROVEN: usize = 32;

/// The side of the listener: answers the peers' requests for a stream.
pub struct Acceptor {
    identity: Identity,
    peers: BTreeSet<NodeId>,
    trust: Trust,
    options: StreamOptions,
    refusals: Refusals,
    unproven: Pending,
}

/// A stream that has been promised: it begins when the answer has been sent and, with a secret, the
/// peer has proved who it is.
pub struct Accepting {
    upgrade: OnUpgrade,
    unwrap: fn(Upgraded) -> Result<(TcpStream, Bytes), Upgraded>,
    peer: Accepted,
    expected: Option<Expected>,
    options: StreamOptions,
}

/// What a peer has yet to prove.
struct Expected {
    secrets: Secrets,
    transcript: Transcript,
    place: Place,
    refusals: Refusals,
}

/// Why a promised stream did not come about.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The connection did not live long enough.
    #[error("the connection ended before it was upgraded")]
    Lost(#[from] hyper::Error),
    /// The answer was not sent in time, or the peer's proof did not come in time.
    #[error("the handshake was not finished within {after:?}")]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// The peer went away instead of proving that it knows the secret. It has another one, or none.
    #[error("the peer ended the handshake when it was to prove that it knows the cluster secret")]
    NoProof(#[source] io::Error),
    /// What the peer said is no proof. The connection is closed without an answer.
    #[error("the peer does not prove that it knows the cluster secret")]
    WrongProof,
    /// Too many others were about to prove who they are.
    #[error("more than {MAX_UNPROVEN} handshakes were begun before the peer proved who it is")]
    Crowded,
}

impl Acceptor {
    /// Takes streams from `peers`, none of them from elsewhere.
    #[must_use]
    pub fn new(
        identity: Identity,
        peers: impl IntoIterator<Item = NodeId>,
        trust: Trust,
        options: StreamOptions,
    ) -> Self {
        let peers = peers.into_iter().collect();
        let unproven = Pending::new(MAX_UNPROVEN);
        Self { identity, peers, trust, options, refusals: Refusals::default(), unproven }
    }

    /// The answer to a `POST` on [`STREAM_PATH`]: `101` and the stream that will be there once it
    /// has been sent, or a refusal that says why (`421` if the two nodes differ in something that
    /// they must agree on, `401` if only this one has a secret or
    /// the peer shows no certificate of its own, `400` and `426` if it is no request
    /// for a stream). The reason is logged, each kind of reason at most once a minute a peer. Who has yet
    /// to prove that it knows the secret is not told the fingerprint of the cluster.
    ///
    /// With TLS the request must have come on such a connection; the [`PeerCertificate`] that was
    /// shown there is looked for among the request's extensions.
    pub fn accept<B>(
        &self,
        request: &mut Request<B>,
    ) -> (Response<Full<Bytes>>, Option<Accepting>) {
        let (headers, shown) = (request.headers(), request.extensions().get());
        if !asks_for_upgrade(headers) {
            return (upgrade_required(), None);
        }
        let mut response = Response::new(Full::default());
        let (peer, expected) = match self.agree(headers, shown, response.headers_mut()) {
            Ok(agreed) => agreed,
            Err(error) => {
                // Strangers share one place: they may call themselves as they like, and memory is
                // bounded.
                let peer = Hello::read_headers(headers).map(|hello| hello.node).ok();
                let peer = peer.filter(|node| self.peers.contains(node));
                self.refusals.log(peer, &error);
                return (refusal(&error, self.trust.secrets().is_some()), None);
            }
        };
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, UPGRADE_PROTOCOL);
        let upgrade = hyper::upgrade::on(request);
        let (unwrap, options) = (bare_socket as fn(_) -> _, self.options);
        (response, Some(Accepting { upgrade, unwrap, peer, expected, options }))
    }

    /// Whether this node may talk to the peer, and what that one has yet to prove; writes down what
    /// to answer.
    fn agree(
        &self,
        headers: &HeaderMap,
        shown: Option<&PeerCertificate>,
        answer_headers: &mut HeaderMap,
    ) -> Result<(Accepted, Option<Expected>), HandshakeError> {
        let hello = Hello::read_headers(headers)?;
        let peer = hello.check(&self.identity, |node| self.peers.contains(&node))?;
        let is_named = || shown.is_some_and(|certificate| certificate.names(peer.node));
        if self.trust.tls().is_some() && !is_named() {
            return Err(HandshakeError::NoCertificate { is: peer.node, of: self.identity.node });
        }
        let answer = Hello::answer(peer, &self.identity);
        answer.write_headers(answer_headers);
        let (is, of) = (peer.node, self.identity.node);
        let (peer_nonce, secrets) = match (read_nonce(headers)?, self.trust.secrets()) {
            (Some(nonce), Some(secrets)) => (nonce, secrets),
            (None, Some(_)) => return Err(HandshakeError::NoProof { is, of }),
            (Some(_), None) => return Err(HandshakeError::NoSecret { is, of }),
            (None, None) => return Ok((peer, None)),
        };
        let nonce = HexBytes::random();
        let transcript = Transcript::new(&hello, peer_nonce, &answer, nonce);
        let proof = secrets.first().prove(End::Acceptor, &transcript);
        write_proof(answer_headers, nonce, Some(proof));
        let expected = Expected {
            secrets: secrets.clone(),
            transcript,
            place: self.unproven.enter(),
            refusals: self.refusals.clone(),
        };
        Ok((peer, Some(expected)))
    }
}

impl Accepting {
    /// Who asked. With a secret that is no more than what it says until there is a stream.
    #[must_use]
    pub fn peer(&self) -> Accepted {
        self.peer
    }

    /// Has the socket taken out of what it is wrapped in, by a server that wraps sockets: the stream
    /// then runs over the socket itself, and tunes it. `unwrap` gives the socket and what was read from
    /// it already, or the same connection back. Without this only sockets that are served as they
    /// are, in a [`TokioIo`], are found.
    #[must_use]
    pub fn unwrapped_by(
        mut self,
        unwrap: fn(Upgraded) -> Result<(TcpStream, Bytes), Upgraded>,
    ) -> Self {
        self.unwrap = unwrap;
        self
    }

    /// Waits, in a task of its own, until the answer has been sent and the peer has proved who it
    /// is. Until then nothing that it sends is taken for a message.
    ///
    /// # Errors
    /// [`AcceptError`] if that does not come about in time.
    pub async fn stream(self) -> Result<Stream, AcceptError> {
        let Self { upgrade, unwrap, peer, expected, options } = self;
        let after = HANDSHAKE_TIMEOUT;
        let in_time = |_| AcceptError::TimedOut { after };
        let Some(mut expected) = expected else {
            let upgraded = timeout(after, upgrade).await.map_err(in_time)??;
            return Ok(stream_over(unwrap(upgraded), peer, None, options));
        };
        let outcome = tokio::select! {
            outcome = timeout(after, proven(upgrade, &expected.secrets, &expected.transcript)) => {
                outcome.map_err(in_time).and_then(|outcome| outcome)
            }
            () = expected.place.taken_away() => Err(AcceptError::Crowded),
        };
        match outcome {
            Ok((upgraded, seals)) => Ok(stream_over(unwrap(upgraded), peer, Some(seals), options)),
            Err(error) => {
                expected.refusals.log(Some(peer.node), &error);
                Err(error)
            }
        }
    }
}

/// Waits for the peer's proof, which is the first that it sends, and checks it.
async fn proven(
    upgrade: OnUpgrade,
    secrets: &Secrets,
    transcript: &Transcript,
) -> Result<(Upgraded, Seals), AcceptError> {
    let mut upgraded = TokioIo::new(upgrade.await?);
    let mut proof = HexBytes([0; PROOF_BYTES]);
    upgraded.read_exact(&mut proof.0).await.map_err(AcceptError::NoProof)?;
    // The one that this node has proved: whoever knows only another has gone away by now.
    let secret = secrets.first();
    if !secret.is_proof(End::Dialer, transcript, &proof) {
        return Err(AcceptError::WrongProof);
    }
    Ok((upgraded.into_inner(), secret.seals(End::Acceptor, transcript)))
}

/// The socket that a connection is, if it is not wrapped in anything.
pub(crate) fn bare_socket(upgraded: Upgraded) -> Result<(TcpStream, Bytes), Upgraded> {
    let parts = upgraded.downcast::<TokioIo<TcpStream>>()?;
    Ok((parts.io.into_inner(), parts.read_buf))
}

/// Over the bare socket if there is one: reading through what wraps it costs extra steps a call.
pub(crate) fn stream_over(
    upgraded: Result<(TcpStream, Bytes), Upgraded>,
    peer: Accepted,
    seals: Option<Seals>,
    options: StreamOptions,
) -> Stream {
    match upgraded {
        Ok((socket, received)) => {
            let _ = tune(&socket, options.stall);
            Stream::with_seals(socket, received, peer, seals, options)
        }
        Err(upgraded) => {
            Stream::with_seals(TokioIo::new(upgraded), Bytes::new(), peer, seals, options)
        }
    }
}

/// What is written goes out at once, since whoever writes gathers already; and the system gives up
/// whoever acknowledges nothing for as long as `patience`, instead of sending again for a quarter of
/// an hour.
///
/// # Errors
/// The system's, if the socket has ended. Where it fails, only time is lost.
pub fn tune(socket: &TcpStream, patience: Duration) -> io::Result<()> {
    socket.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        let patience_ms = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        rustix::net::sockopt::set_tcp_user_timeout(socket, patience_ms)?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = patience;
    Ok(())
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

fn refusal(error: &HandshakeError, to_stranger: bool) -> Response<Full<Bytes>> {
    let detail = match error {
        HandshakeError::OtherCluster { is, of, .. } if to_stranger => format!(
            "node {is} has another cluster fingerprint than node {of}, whose log names both; all \
             nodes need the same ids, vnodes and n in nodes.json"
        ),
        _ => error.to_string(),
    };
    match error {
        HandshakeError::BadHeader { .. } => problem(StatusCode::BAD_REQUEST, "Bad header", &detail),
        HandshakeError::OtherNode { .. }
        | HandshakeError::UnknownNode { .. }
        | HandshakeError::OtherCluster { .. }
        | HandshakeError::NoCommonProtocol { .. }
        | HandshakeError::NoSecret { .. } => {
            problem(StatusCode::MISDIRECTED_REQUEST, "The nodes do not agree", &detail)
        }
        HandshakeError::NoProof { .. } | HandshakeError::WrongProof { .. } => {
            problem(StatusCode::UNAUTHORIZED, "No proof of the cluster secret", &detail)
        }
        HandshakeError::NoCertificate { .. } => {
            problem(StatusCode::UNAUTHORIZED, "No certificate of the node", &detail)
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
