use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request,
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use crate::{AddressError, ClientOptions, Token, pool::Broken, socket::Socket};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
#[cfg(feature = "tls")]
const TLS_TIMEOUT: Duration = Duration::from_secs(5);

/// Most bytes of an answer: the longest value, and then some for other pages.
pub(crate) const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Both ends of a new connection: what requests are sent by, and what must be polled for them to go.
pub(crate) type Connected =
    (SendRequest<Full<Bytes>>, http1::Connection<TokioIo<Socket>, Full<Bytes>>);

/// Where a node is.
pub(crate) struct Node {
    authority: String,
    host: HeaderValue,
    /// How it is spoken to, and what its certificate must name.
    #[cfg(feature = "tls")]
    tls: Option<(crate::ClientTls, rustls::pki_types::ServerName<'static>)>,
}

impl Node {
    pub(crate) fn new(address: &str, options: &ClientOptions) -> Result<Self, AddressError> {
        let malformed = || AddressError::Malformed { text: address.to_owned() };
        let authority: hyper::http::uri::Authority = address.parse().map_err(|_| malformed())?;
        if authority.port_u16().is_none() || address.contains('@') {
            return Err(malformed());
        }
        let host = address.try_into().map_err(|_| malformed())?;
        #[cfg(feature = "tls")]
        let tls = match &options.tls {
            None => None,
            Some(tls) => {
                let name = tls.name_of(address, authority.host()).map_err(|_| malformed())?;
                Some((tls.clone(), name))
            }
        };
        #[cfg(not(feature = "tls"))]
        let ClientOptions { .. } = options;
        Ok(Self {
            authority: address.to_owned(),
            host,
            #[cfg(feature = "tls")]
            tls,
        })
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    pub(crate) fn request(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
        token: Option<&Token>,
    ) -> Result<Request<Full<Bytes>>, Broken> {
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .body(Full::new(body))
            .map_err(|error| Broken(format!("{target:?} cannot be asked for: {error}")))?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, token.header().clone());
        }
        Ok(request)
    }

    pub(crate) async fn connect(&self) -> Result<Connected, Broken> {
        let socket = timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.authority))
            .await
            .map_err(|error| self.broken("cannot be connected to", &error))?
            .and_then(|socket| socket.set_nodelay(true).map(|()| socket))
            .map_err(|error| self.broken("cannot be connected to", &error))?;
        http1::handshake(TokioIo::new(self.agree(socket).await?))
            .await
            .map_err(|error| self.broken("closed the connection", &error))
    }

    #[cfg(feature = "tls")]
    async fn agree(&self, socket: TcpStream) -> Result<Socket, Broken> {
        let Some((tls, name)) = &self.tls else { return Ok(Socket::Plain(socket)) };
        let agreed = timeout(TLS_TIMEOUT, tls.connect(name.clone(), socket)).await;
        match agreed.map_err(std::io::Error::from) {
            Ok(Ok(stream)) => Ok(Socket::Tls(Box::new(stream))),
            Ok(Err(error)) | Err(error) => Err(self.broken("cannot be spoken to with TLS", &error)),
        }
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_async, reason = "the same as with the feature")]
    async fn agree(&self, socket: TcpStream) -> Result<Socket, Broken> {
        Ok(Socket::Plain(socket))
    }

    pub(crate) fn broken(&self, what: &str, error: &dyn std::error::Error) -> Broken {
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
            assert!(Node::new(good, &ClientOptions::default()).is_ok(), "{good}");
        }
        for bad in ["", "127.0.0.1", "http://127.0.0.1:9001", "a:b@c:1", "a:99999", "a b:1"] {
            assert!(Node::new(bad, &ClientOptions::default()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_sent_and_not_shown() {
        let (node, token) =
            (Node::new("a:1", &ClientOptions::default()).unwrap(), Token::new("sesame").unwrap());
        let request = node.request(Method::GET, "/kv/k", Bytes::new(), Some(&token)).unwrap();
        assert_eq!(request.headers()["authorization"], "Bearer sesame");
        assert!(!format!("{request:?}{token:?}").contains("sesame"));
        assert_eq!(Token::new("a\nb"), None);
    }
}
