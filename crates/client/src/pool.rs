use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, HOST, HeaderMap},
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{AddressError, Token};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that was idle for longer is not used again: the node may be closing it just now,
/// and a write would end in doubt.
const MAX_IDLE: Duration = Duration::from_secs(5);

/// Most bytes of an answer: the longest value, and then some for other pages.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// One node and the idle connections to it.
pub(crate) struct Pool {
    authority: String,
    idle: Mutex<Vec<Idle>>,
    max_idle: usize,
}

struct Idle {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

/// What is asked of a node.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) body: Bytes,
    pub(crate) token: Option<Token>,
}

/// What a node said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why a node said nothing.
#[derive(Debug)]
pub(crate) struct Broken(pub(crate) String);

/// How far a call has come; a write that has been sent may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    NotSent,
    Sent,
}

impl Pool {
    pub(crate) fn new(address: &str, max_idle: usize) -> Result<Self, AddressError> {
        let malformed = || AddressError::Malformed { text: address.to_owned() };
        let authority: hyper::http::uri::Authority = address.parse().map_err(|_| malformed())?;
        if authority.port_u16().is_none() || address.contains('@') {
            return Err(malformed());
        }
        Ok(Self { authority: address.to_owned(), idle: Mutex::default(), max_idle })
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Asks the node. `progress` is up to date also when this is given up on.
    pub(crate) async fn call(
        &self,
        call: &Call,
        progress: &mut Progress,
    ) -> Result<Answer, Broken> {
        let mut request = self.request(call)?;
        loop {
            let (mut sender, fresh) = match self.reuse().await {
                Some(sender) => (sender, false),
                None => (self.connect().await?, true),
            };
            *progress = Progress::Sent;
            let response = match sender.try_send_request(request).await {
                Ok(response) => response,
                Err(mut error) => match error.take_message() {
                    // It was never sent. An old connection proves nothing about the node.
                    Some(unsent) => {
                        *progress = Progress::NotSent;
                        if fresh {
                            return Err(self.broken("closed the connection", error.error()));
                        }
                        request = unsent;
                        continue;
                    }
                    None => return Err(self.broken("broke off", error.error())),
                },
            };
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES)
                .collect()
                .await
                .map_err(|error| self.broken("broke off within its answer", &*error))?;
            self.keep(sender);
            return Ok(Answer {
                status: head.status,
                headers: head.headers,
                body: body.to_bytes(),
            });
        }
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, Broken> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(&call.target)
            .header(HOST, &self.authority)
            .body(Full::new(call.body.clone()))
            .map_err(|error| Broken(format!("{:?} cannot be asked for: {error}", call.target)))?;
        if let Some(token) = &call.token {
            request.headers_mut().insert(AUTHORIZATION, token.header().clone());
        }
        Ok(request)
    }

    async fn reuse(&self) -> Option<SendRequest<Full<Bytes>>> {
        loop {
            let Idle { mut sender, since } = self.idle().pop()?;
            if since.elapsed() <= MAX_IDLE && sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Broken> {
        let socket = timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.authority))
            .await
            .map_err(|error| self.broken("cannot be connected to", &error))?
            .and_then(|socket| socket.set_nodelay(true).map(|()| socket))
            .map_err(|error| self.broken("cannot be connected to", &error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket))
            .await
            .map_err(|error| self.broken("closed the connection", &error))?;
        // It ends with its sender; what goes wrong on it, the sender reports.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn keep(&self, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle();
        if idle.len() < self.max_idle && !sender.is_closed() {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self, what: &str, error: &dyn std::error::Error) -> Broken {
        let mut text = format!("{} {what}: {error}", self.authority);
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        Broken(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_a_host_and_a_port() {
        for good in ["127.0.0.1:9001", "[::1]:9001", "localhost:1"] {
            assert!(Pool::new(good, 1).is_ok(), "{good}");
        }
        for bad in ["", "127.0.0.1", "http://127.0.0.1:9001", "a:b@c:1", "a:99999", "a b:1"] {
            assert!(Pool::new(bad, 1).is_err(), "{bad}");
        }
    }
}
