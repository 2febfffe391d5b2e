use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{StatusCode, server::conn::http1, service::service_fn, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use quorate_transport::{PeerCertificate, Tls, tune};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};

use super::{
    Backend, HttpLimits,
    framing::{ReadLimits, Watched},
    guests::{Guests, Present},
    pace::{Pace, Pauses},
    problem::Problem,
    routes::Face,
    stall::Impatient,
};

/// Most bytes of a request line and its headers.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// How long to let be after the system refused a connection, mostly for want of files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers HTTP requests until `shutdown` is ready; then takes no more, and returns when all open
/// ones are answered or the backend's [`drain`](HttpLimits::drain) is over.
///
/// Streams that were handed to [`Backend::accept_stream`] are not waited for. To be run on a tokio
/// runtime with time and I/O.
pub async fn serve(
    listener: TcpListener,
    backend: Arc<dyn Backend>,
    shutdown: impl Future<Output = ()> + Send,
) {
    serve_from(listener, Arc::new(Face::new(backend)), shutdown).await;
}

/// Where connections come from.
trait Accept: Send {
    fn accept(&mut self) -> impl Future<Output = io::Result<TcpStream>> + Send;
}

impl Accept for TcpListener {
    async fn accept(&mut self) -> io::Result<TcpStream> {
        TcpListener::accept(self).await.map(|(socket, _)| socket)
    }
}

async fn serve_from(
    mut door: impl Accept,
    face: Arc<Face>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let max_connections = face.settings().max_connections;
    let limits = face.settings().limits.clone();
    let (stop, stopped) = watch::channel(());
    let (mut connections, mut refusals) = (JoinSet::new(), JoinSet::new());
    let mut guests = Guests::new(max_connections);
    let mut shutdown = pin!(shutdown);
    let mut paused_until = None;
    loop {
        let accepted = async {
            if let Some(until) = paused_until {
                sleep_until(until).await;
            }
            door.accept().await
        };
        tokio::select! {
            biased; // what has ended is counted out before the next one is counted in
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => report(ended),
            Some(ended) = refusals.join_next() => report(ended),
            accepted = accepted => match accepted {
                Ok(socket) => {
                    paused_until = None;
                    let leaving = guests.leaving();
                    if connections.len() < max_connections + leaving
                        || (leaving < limits.max_refusals && guests.vacate())
                    {
                        let (face, guest) = (Arc::clone(&face), guests.welcome());
                        connections.spawn(connection(socket, guest, face, stopped.clone()));
                    } else if face.settings().tls.is_none() && refusals.len() < limits.max_refusals {
                        refusals.spawn(refuse(socket, limits.clone()));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    // Mostly there are no files left, and one that rests has one.
                    if guests.leaving() < limits.max_refusals {
                        guests.vacate();
                    }
                    paused_until = Some(Instant::now() + ACCEPT_PAUSE);
                }
            }
        }
    }
    drop((door, stop));
    let drained = timeout(limits.drain, async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    });
    if drained.await.is_err() {
        tracing::warn!(open = connections.len(), "connections cut off");
    }
}

/// One connection must not take the others with it.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection failed");
    }
}

async fn connection(
    socket: TcpStream,
    guest: Present,
    face: Arc<Face>,
    stopped: watch::Receiver<()>,
) {
    if let Err(error) = tune(&socket, face.settings().limits.write_timeout) {
        tracing::debug!(%error, "cannot tune a socket");
    }
    match face.settings().tls.clone() {
        None => converse(socket, guest, None, face, stopped).await,
        // In a box, so that a connection without TLS has no room for the state of one.
        Some(tls) => Box::pin(encrypted(tls, socket, guest, face, stopped)).await,
    }
}

async fn encrypted(
    tls: Tls,
    socket: TcpStream,
    guest: Present,
    face: Arc<Face>,
    mut stopped: watch::Receiver<()>,
) {
    let accepted = tokio::select! {
        accepted = tls.accept(socket) => accepted,
        _ = stopped.changed() => return,
        () = guest.0.asked_to_leave() => return,
    };
    match accepted {
        Ok((stream, shown)) => converse(stream, guest, shown, face, stopped).await,
        Err(error) => tracing::debug!(%error, "a connection did not become one with TLS"),
    }
}

async fn converse(
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    guest: Present,
    shown: Option<PeerCertificate>,
    face: Arc<Face>,
    mut stopped: watch::Receiver<()>,
) {
    let HttpLimits {
        head_timeout, idle_timeout, write_timeout, first_pause, longest_pause, ..
    } = face.settings().limits;
    let pace = Arc::new(Pace::new(Pauses { first: first_pause, most: longest_pause }));
    let patience = ReadLimits { head: head_timeout, idle: idle_timeout };
    let (socket, findings) = Watched::new(socket, patience, Arc::clone(&guest.0));
    let socket = Impatient::new(socket, write_timeout);
    let leaving = Arc::clone(&findings);
    let service = service_fn(move |mut request| {
        let doubt = findings.next_doubt();
        if let Some(shown) = &shown {
            request.extensions_mut().insert(shown.clone());
        }
        let (face, findings) = (Arc::clone(&face), Arc::clone(&findings));
        let pace = Arc::clone(&pace);
        async move {
            let mut answer = face.answer(request, doubt, &pace).await;
            if let Some(held) = answer.extensions_mut().remove() {
                findings.hold(held);
            }
            findings.answered();
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                findings.end();
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(true)
        .title_case_headers(true)
        // With it hyper forgets the last answer when something unread follows the request.
        .pipeline_flush(false)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { tokio::select! {
            _ = stopped.changed() => {}
            () = guest.0.asked_to_leave() => {}
        } } => {
            leaving.leave();
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// The socket of a connection that was upgraded, and what has been read from it already; the same
/// connection if it is one of TLS.
///
/// # Errors
/// The connection, if there is something below that must not be left out.
pub(crate) fn bare_socket(upgraded: Upgraded) -> Result<(TcpStream, Bytes), Upgraded> {
    let parts = upgraded.downcast::<TokioIo<Impatient<Watched<TcpStream>>>>()?;
    Ok((parts.io.into_inner().into_inner().into_inner(), parts.read_buf))
}

/// Tells somebody beyond the limit so, without reading what is asked.
async fn refuse(mut socket: TcpStream, limits: HttpLimits) {
    let answer = Problem::unavailable("too many connections").closing().into_answer();
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes);
    let body = body.unwrap_or_else(|never: Infallible| match never {});
    let told = timeout(limits.linger, async {
        socket.write_all(&raw(&parts, &body)).await?;
        socket.shutdown().await?;
        // Until the other side has closed too, or what it sent would make the answer a reset.
        let mut rest = [0; 4096];
        let mut seen_bytes = 0;
        while seen_bytes < limits.linger_bytes {
            match socket.read(&mut rest).await? {
                0 => break,
                read => seen_bytes += read,
            }
        }
        io::Result::Ok(())
    });
    if let Ok(Err(error)) = told.await {
        tracing::debug!(%error, "a connection beyond the limit ended early");
    }
}

fn raw(parts: &hyper::http::response::Parts, body: &Bytes) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {}\r\ncontent-length: {}\r\n", parts.status, body.len());
    for (name, value) in &parts.headers {
        let value = value.to_str().expect("a problem's headers are plain text");
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    [text.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::http::tests::{fake::Fake, settings};

    /// Fails a few times as if there were no files left, then lets in whoever comes.
    struct Failing {
        errors: VecDeque<io::ErrorKind>,
        listener: TcpListener,
    }

    impl Accept for Failing {
        async fn accept(&mut self) -> io::Result<TcpStream> {
            match self.errors.pop_front() {
                Some(error) => Err(error.into()),
                None => Accept::accept(&mut self.listener).await,
            }
        }
    }

    #[tokio::test]
    async fn failing_to_accept_does_not_end_the_loop() {
        let errors = [io::ErrorKind::Other, io::ErrorKind::ConnectionAborted].into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let face = Arc::new(Face::new(Arc::new(Fake::new(settings()))));
        tokio::spawn(serve_from(Failing { errors, listener }, face, std::future::pending()));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /health HTTP/1.0\r\n\r\n").await.unwrap();
        let mut reply = String::new();
        client.read_to_string(&mut reply).await.unwrap();
        assert!(reply.starts_with("HTTP/1.0 200 OK\r\n"), "{reply}");
    }
}
