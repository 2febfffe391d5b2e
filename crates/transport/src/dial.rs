use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1,
    header::{CONNECTION, HOST, HeaderMap, HeaderValue, UPGRADE},
};
use hyper_util::rt::TokioIo;
use quorate_record::NodeId;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    HandshakeError, Hello, Identity, NotLoopback, STREAM_PATH, Stream, StreamOptions, Trust,
    accept::{
        HANDSHAKE_TIMEOUT, UPGRADE_PROTOCOL, asks_for_upgrade, bare_socket, stream_over, tune,
    },
    hello::{read_nonce, read_proof, write_proof},
    proof::{End, HexBytes, Transcript},
    seal::Seals,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How much is read of the reason that a peer gives for a refusal.
const MAX_REFUSAL_BYTES: usize = 4096;

/// Why there is no stream to a peer.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Such addresses are not dialled.
    #[error(transparent)]
    NotLoopback(#[from] NotLoopback),
    /// Nobody listens there.
    #[error("cannot connect to {addr}: {source}")]
    Connect {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Whoever is there took too long.
    #[error("{addr} did not {step} within {after:?}")]
    TimedOut {
        /// The address.
        addr: SocketAddr,
        /// What was waited for.
        step: &'static str,
        /// For how long.
        after: Duration,
    },
    /// The connection failed during the handshake, or what is there does not speak HTTP.
    #[error("the handshake with {addr} failed: {source}")]
    Http {
        /// The address.
        addr: SocketAddr,
        /// What went wrong.
        source: hyper::Error,
    },
    /// The two nodes do not agree on how to encrypt, or one does not like the other's certificate.
    #[error("no TLS with {addr}: {source}")]
    Tls {
        /// The address.
        addr: SocketAddr,
        /// What went wrong.
        source: io::Error,
    },
    /// The connection broke off within the handshake.
    #[error("{addr} broke off the handshake: {source}")]
    Lost {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The peer refuses.
    #[error("{addr} refused with {status}: {detail}")]
    Refused {
        /// The address.
        addr: SocketAddr,
        /// The status of its answer.
        status: u16,
        /// The reason it gives.
        detail: String,
    },
    /// The peer agrees, but this node does not.
    #[error("{addr}: {source}")]
    Disagreed {
        /// The address.
        addr: SocketAddr,
        /// What differs.
        source: HandshakeError,
    },
}

/// Connects to the node `to`, which listens at `addr`, and agrees with it on how to talk.
///
/// Takes at most a second to connect and three to agree.
///
/// # Errors
/// [`DialError`], which says what to change if trying again will not help.
pub async fn dial(
    addr: SocketAddr,
    to: NodeId,
    identity: &Identity,
    trust: &Trust,
    options: StreamOptions,
) -> Result<Stream, DialError> {
    trust.check_addr(addr)?;
    let timed_out = |step, after| move |_| DialError::TimedOut { addr, step, after };
    let socket = timeout(CONNECT_TIMEOUT, TcpStream::connect(addr))
        .await
        .map_err(timed_out("take the connection", CONNECT_TIMEOUT))?
        .map_err(|source| DialError::Connect { addr, source })?;
    let handshake = async {
        let Some(tls) = trust.tls() else {
            return shake_hands(socket, addr, to, identity, trust, options).await;
        };
        // What is below TLS cannot be reached any more when the stream begins.
        let _ = tune(&socket, options.stall);
        let agreed = tls.connect(socket, to).await;
        let socket = agreed.map_err(|source| DialError::Tls { addr, source })?;
        shake_hands(socket, addr, to, identity, trust, options).await
    };
    timeout(HANDSHAKE_TIMEOUT, handshake)
        .await
        .map_err(timed_out("finish the handshake", HANDSHAKE_TIMEOUT))?
}

async fn shake_hands(
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    addr: SocketAddr,
    to: NodeId,
    identity: &Identity,
    trust: &Trust,
    options: StreamOptions,
) -> Result<Stream, DialError> {
    let failed = |source| failed(addr, source);
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(failed)?;
    let exchange = async move {
        let hello = identity.hello(to);
        let nonce = trust.secrets().map(|_| HexBytes::random());
        let response = sender.send_request(request(addr, &hello, nonce)).await.map_err(failed)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(addr, response).await);
        }
        let disagreed = |source| DialError::Disagreed { addr, source };
        if !asks_for_upgrade(response.headers()) {
            let problem = "the peer switched to something else than quorate/1".into();
            return Err(disagreed(HandshakeError::BadHeader { name: "Upgrade", problem }));
        }
        let answer = Hello::read_headers(response.headers()).map_err(disagreed)?;
        let peer = answer.check(identity, |node| node == to).map_err(disagreed)?;
        let proven = nonce
            .map(|nonce| check_proof(response.headers(), trust, &hello, nonce, &answer))
            .transpose()
            .map_err(disagreed)?;
        let mut upgraded = TokioIo::new(hyper::upgrade::on(response).await.map_err(failed)?);
        let seals = match proven {
            None => None,
            Some((proof, seals)) => {
                let lost = |source| DialError::Lost { addr, source };
                upgraded.write_all(&proof.0).await.map_err(lost)?;
                upgraded.flush().await.map_err(lost)?;
                Some(seals)
            }
        };
        Ok(stream_over(bare_socket(upgraded.into_inner()), peer, seals, options))
    };
    // The connection only moves the exchange along; what goes wrong on it the exchange reports.
    let (_, stream) = tokio::join!(connection.with_upgrades(), exchange);
    stream
}

/// A peer tells what it thinks of this node's certificate only after this end has agreed.
fn failed(addr: SocketAddr, source: hyper::Error) -> DialError {
    let alert = std::error::Error::source(&source)
        .and_then(|cause| cause.downcast_ref::<io::Error>())
        .filter(|cause| cause.kind() == io::ErrorKind::InvalidData)
        .map(|cause| io::Error::new(cause.kind(), cause.to_string()));
    match alert {
        Some(source) => DialError::Tls { addr, source },
        None => DialError::Http { addr, source },
    }
}

/// Whether the peer that answered knows one of the secrets; what proves the same to it, and the
/// keys that come with that.
fn check_proof(
    headers: &HeaderMap,
    trust: &Trust,
    hello: &Hello,
    nonce: HexBytes,
    answer: &Hello,
) -> Result<(HexBytes, Seals), HandshakeError> {
    let (is, of) = (answer.node, hello.node);
    let secrets = trust.secrets().expect("only with secrets a nonce is sent");
    let (Some(peer_nonce), Some(proof)) = (read_nonce(headers)?, read_proof(headers)?) else {
        return Err(HandshakeError::NoProof { is, of });
    };
    let transcript = Transcript::new(hello, nonce, answer, peer_nonce);
    let known = secrets.iter().find(|known| known.is_proof(End::Acceptor, &transcript, &proof));
    let secret = known.ok_or(HandshakeError::WrongProof { is, of })?;
    Ok((secret.prove(End::Dialer, &transcript), secret.seals(End::Dialer, &transcript)))
}

fn request(addr: SocketAddr, hello: &Hello, nonce: Option<HexBytes>) -> Request<Empty<Bytes>> {
    let mut request = Request::post(STREAM_PATH)
        .header(HOST, addr.to_string())
        .header(CONNECTION, HeaderValue::from_static("upgrade"))
        .header(UPGRADE, UPGRADE_PROTOCOL)
        .body(Empty::new())
        .expect("the parts are well-formed");
    hello.write_headers(request.headers_mut());
    if let Some(nonce) = nonce {
        write_proof(request.headers_mut(), nonce, None);
    }
    request
}

/// What a stranger may have said, as it can stand in a line of a log.
fn legible(text: &str) -> String {
    const MOST_CHARS: usize = 256;
    let chars = text.chars().map(|it| if it.is_control() { ' ' } else { it });
    chars.take(MOST_CHARS).collect()
}

async fn refused(addr: SocketAddr, response: Response<Incoming>) -> DialError {
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), MAX_REFUSAL_BYTES).collect().await;
    let detail = body
        .ok()
        .and_then(|body| serde_json::from_slice::<serde_json::Value>(&body.to_bytes()).ok())
        .and_then(|problem| Some(legible(problem.get("detail")?.as_str()?)))
        .unwrap_or_else(|| "no reason given".into());
    DialError::Refused { addr, status, detail }
}
