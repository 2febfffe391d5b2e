use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, StatusCode, client::conn::http1::SendRequest, header::HeaderMap};
use tokio::time::Instant;

use crate::{
    Token,
    node::{MAX_ANSWER_BYTES, Node},
};

/// A connection that was idle for longer is not used again: the node may be closing it just now,
/// and a write would end in doubt.
const MAX_IDLE: Duration = Duration::from_secs(5);

/// One node and the idle connections to it.
pub(crate) struct Pool {
    node: Node,
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
    pub(crate) fn new(node: Node, max_idle: usize) -> Self {
        Self { node, idle: Mutex::default(), max_idle }
    }

    pub(crate) fn authority(&self) -> &str {
        self.node.authority()
    }

    /// Asks the node. `progress` is up to date also when this is given up on.
    pub(crate) async fn call(
        &self,
        call: &Call,
        progress: &mut Progress,
    ) -> Result<Answer, Broken> {
        let Self { node, .. } = self;
        let mut request = node.request(
            call.method.clone(),
            &call.target,
            call.body.clone(),
            call.token.as_ref(),
        )?;
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
                            return Err(node.broken("closed the connection", error.error()));
                        }
                        request = unsent;
                        continue;
                    }
                    None => return Err(node.broken("broke off", error.error())),
                },
            };
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES)
                .collect()
                .await
                .map_err(|error| node.broken("broke off within its answer", &*error))?;
            self.keep(sender);
            return Ok(Answer {
                status: head.status,
                headers: head.headers,
                body: body.to_bytes(),
            });
        }
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
        let (sender, connection) = self.node.connect().await?;
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
}
