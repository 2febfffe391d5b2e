use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep, sleep};

use crate::{
    AddressError, ClientError, ClientOptions, Found, GetOptions, PutOptions, Token, Written,
    answer::{Failure, Kind},
    client::{check, check_value, found},
    node::{MAX_ANSWER_BYTES, Node},
    pool::{Answer, Broken, Progress},
    socket::Socket,
    target,
};

/// A call is given up after so many ticks of the connection's alarm.
const TICKS: u32 = 4;

/// One connection to one node, for one call at a time: the cheapest way to keep a node busy.
///
/// It shows what a [`Client`](crate::Client) hides: nothing is repeated, no other node is asked, and
/// no other call's connection is used. It is made by the first call and kept; one that broke is made
/// anew by the next call. Calls are driven by the task that makes them, without another one behind
/// it, and are given up on between one and one and a quarter
/// [`timeout`](ClientOptions::timeout)s, whatever their own options ask of the node.
///
/// ```no_run
/// use quorate_client::{ClientOptions, Connection, PutOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut connection = Connection::new("127.0.0.1:9001", &ClientOptions::default())?;
/// for i in 0..1000 {
///     connection.put(format!("key-{i}").as_bytes(), "meow", &PutOptions::default()).await?;
/// }
/// # Ok(())
/// # }
/// ```
pub struct Connection {
    node: Node,
    token: Option<Token>,
    timeout: Duration,
    line: Option<Box<Line>>,
    /// One timer for all calls: it ticks [`TICKS`] times in a timeout, and a call counts its ticks.
    alarm: Pin<Box<Sleep>>,
}

/// An open connection.
struct Line {
    sender: SendRequest<Full<Bytes>>,
    /// What sends and receives; gone once it is done, so that the sender knows.
    driver: Option<http1::Connection<TokioIo<Socket>, Full<Bytes>>>,
}

/// The time for a call is over.
struct TimedOut;

impl Connection {
    /// A connection to the node at `addr`, a host and a port. Nothing is connected to yet.
    ///
    /// # Errors
    /// [`AddressError`] if the address makes no sense.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(addr: &str, options: &ClientOptions) -> Result<Self, AddressError> {
        let node = Node::new(addr, options)?;
        let alarm = Box::pin(sleep(options.timeout / TICKS));
        let token = options.token.clone();
        Ok(Self { node, token, timeout: options.timeout, line: None, alarm })
    }

    /// The address of the node.
    #[must_use]
    pub fn addr(&self) -> &str {
        self.node.authority()
    }

    /// Whether it is open, as far as is known.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.line.as_ref().is_some_and(|line| !line.sender.is_closed())
    }

    /// Opens it, if it is not open.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`] if the node cannot be reached.
    pub async fn open(&mut self) -> Result<(), ClientError> {
        let opened = self.reopen().await;
        opened.map_err(|broken| Failure::broken(broken, Kind::Read, Progress::NotSent).error)
    }

    /// Writes a value.
    ///
    /// # Errors
    /// [`ClientError`]; on [`Indeterminate`](ClientError::Indeterminate) it may have happened.
    pub async fn put(
        &mut self,
        key: &[u8],
        value: impl Into<Bytes>,
        options: &PutOptions,
    ) -> Result<Written, ClientError> {
        let value = value.into();
        check_value(&value)?;
        self.write(Method::PUT, key, value, options).await
    }

    /// Deletes a key, whether or not it exists.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn delete(
        &mut self,
        key: &[u8],
        options: &PutOptions,
    ) -> Result<Written, ClientError> {
        self.write(Method::DELETE, key, Bytes::new(), options).await
    }

    /// Reads a value; `None` if enough replicas know that there is none.
    ///
    /// # Errors
    /// [`ClientError`], but never [`Indeterminate`](ClientError::Indeterminate) or
    /// [`Rejected`](ClientError::Rejected).
    pub async fn get(
        &mut self,
        key: &[u8],
        options: &GetOptions,
    ) -> Result<Option<Found>, ClientError> {
        check(key)?;
        let target = target::of_read(key, options);
        found(self.call(Method::GET, &target, Bytes::new(), Kind::Read).await?)
    }

    async fn write(
        &mut self,
        method: Method,
        key: &[u8],
        body: Bytes,
        options: &PutOptions,
    ) -> Result<Written, ClientError> {
        check(key)?;
        let target = target::of_write(key, options);
        self.call(method, &target, body, Kind::Write).await?.written()
    }

    async fn call(
        &mut self,
        method: Method,
        target: &str,
        body: Bytes,
        kind: Kind,
    ) -> Result<Answer, ClientError> {
        let mut progress = Progress::NotSent;
        match self.exchange(method, target, body, &mut progress).await {
            Ok(Ok(answer)) => answer.judged(kind, self.timeout),
            Ok(Err(broken)) => Err(Failure::broken(broken, kind, progress)),
            Err(TimedOut) => Err(Failure::timed_out(self.timeout, kind, progress)),
        }
        .map_err(|failure| failure.error)
    }

    async fn exchange(
        &mut self,
        method: Method,
        target: &str,
        body: Bytes,
        progress: &mut Progress,
    ) -> Result<Result<Answer, Broken>, TimedOut> {
        let mut request = match self.node.request(method, target, body, self.token.as_ref()) {
            Ok(request) => request,
            Err(broken) => return Ok(Err(broken)),
        };
        loop {
            let fresh = !self.is_open();
            if let Err(broken) = self.reopen().await {
                return Ok(Err(broken));
            }
            // It is put back only if all went well: whoever gives up on this call closes it.
            let mut line = self.line.take().expect("it has just been opened");
            let outcome =
                line.exchange(request, &self.node, progress, &mut self.alarm, self.timeout);
            match outcome.await? {
                Ok(answer) => {
                    self.line = Some(line);
                    return Ok(Ok(answer));
                }
                // It was never sent. An old connection proves nothing about the node.
                Err((_, Some(unsent))) if !fresh => request = unsent,
                Err((broken, _)) => return Ok(Err(broken)),
            }
        }
    }

    async fn reopen(&mut self) -> Result<(), Broken> {
        if !self.is_open() {
            let (sender, driver) = self.node.connect().await?;
            self.line = Some(Box::new(Line { sender, driver: Some(driver) }));
        }
        Ok(())
    }
}

type Unsent = Option<Request<Full<Bytes>>>;

impl Line {
    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        node: &Node,
        progress: &mut Progress,
        alarm: &mut Pin<Box<Sleep>>,
        timeout: Duration,
    ) -> Result<Result<Answer, (Broken, Unsent)>, TimedOut> {
        let Self { sender, driver } = self;
        let mut exchange = pin!(async {
            if let Err(error) = sender.ready().await {
                return Err((node.broken("closed the connection", &error), Some(request)));
            }
            *progress = Progress::Sent;
            let response = match sender.try_send_request(request).await {
                Ok(response) => response,
                Err(mut error) => {
                    let unsent = error.take_message();
                    if unsent.is_some() {
                        *progress = Progress::NotSent;
                    }
                    return Err((node.broken("broke off", error.error()), unsent));
                }
            };
            let (head, body) = response.into_parts();
            match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
                Ok(body) => {
                    Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
                }
                Err(error) => Err((node.broken("broke off within its answer", &*error), None)),
            }
        });
        let mut ticks = 0;
        poll_fn(|cx: &mut Context<'_>| {
            if let Poll::Ready(outcome) = exchange.as_mut().poll(cx) {
                return Poll::Ready(Ok(outcome));
            }
            if let Some(connection) = driver {
                if Pin::new(connection).poll(cx).is_ready() {
                    // What went wrong on it, the exchange reports.
                    *driver = None;
                }
                if let Poll::Ready(outcome) = exchange.as_mut().poll(cx) {
                    return Poll::Ready(Ok(outcome));
                }
            }
            while alarm.as_mut().poll(cx).is_ready() {
                ticks += 1;
                // The first tick may come at once.
                if ticks > TICKS {
                    return Poll::Ready(Err(TimedOut));
                }
                alarm.as_mut().reset(Instant::now() + timeout / TICKS);
            }
            Poll::Pending
        })
        .await
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("addr", &self.addr())
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}
