use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use hyper::{Method, StatusCode};
use quorate_record::{Key, MAX_KEY_BYTES, MAX_VALUE_BYTES, NodeId, Version};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    AddressError, ClientError, ClientOptions, GetOptions, PutOptions,
    answer::{Failure, Kind},
    node::Node,
    pool::{Answer, Call, Pool, Progress},
    target,
};

/// Copying a large store takes long.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// About how long to wait before a first and a late repetition.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// A client of one cluster.
///
/// Calls go to the node that answered last, at first to the first one, and to the next one when it
/// fails. A node that says nothing has half of a read's time, and the next one half of the rest; a
/// write that was sent is waited for, and only the next call goes to the next node. Any number of
/// calls may be under way at once; each has a connection of its own, which is kept for later ones. A
/// call that is dropped is given up; a write may happen nonetheless.
pub struct Client {
    nodes: Vec<Pool>,
    /// The node that answered last, or the one behind it if that has failed since.
    current: AtomicUsize,
    options: ClientOptions,
}

/// A write that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The version that it got.
    pub version: Version,
    /// What the quorum did: `w=2/3 acks=n1,n3 hinted=n2@n1 quorum=strict`.
    pub receipt: String,
}

/// A value that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The value.
    pub value: Bytes,
    /// Its version.
    pub version: Version,
    /// What the quorum did: `r=2/3 from=n1,n3 quorum=strict`.
    pub receipt: String,
}

impl Client {
    /// A client of the cluster to which the nodes at `addrs` belong, each a host and a port.
    /// Nothing is connected to yet.
    ///
    /// # Errors
    /// [`AddressError`] if there is none, or one makes no sense.
    pub fn new(
        addrs: impl IntoIterator<Item = impl ToString>,
        options: ClientOptions,
    ) -> Result<Self, AddressError> {
        let pool = |addr: String| {
            let node = Node::new(&addr, &options)?;
            Ok(Pool::new(node, options.idle_connections))
        };
        let nodes: Vec<_> =
            addrs.into_iter().map(|addr| pool(addr.to_string())).collect::<Result<_, _>>()?;
        if nodes.is_empty() {
            return Err(AddressError::None);
        }
        Ok(Self { nodes, current: AtomicUsize::new(0), options })
    }

    /// Writes a value.
    ///
    /// It is written again by itself only if it is certain that it has not happened, unless
    /// [`ClientOptions::retry_indeterminate`] is set.
    ///
    /// # Errors
    /// [`ClientError`]; on [`Indeterminate`](ClientError::Indeterminate) it may have happened.
    pub async fn put(
        &self,
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
    pub async fn delete(&self, key: &[u8], options: &PutOptions) -> Result<Written, ClientError> {
        self.write(Method::DELETE, key, Bytes::new(), options).await
    }

    /// Reads a value; `None` if enough replicas know that there is none.
    ///
    /// # Errors
    /// [`ClientError`], but never [`Indeterminate`](ClientError::Indeterminate) or
    /// [`Rejected`](ClientError::Rejected).
    pub async fn get(
        &self,
        key: &[u8],
        options: &GetOptions,
    ) -> Result<Option<Found>, ClientError> {
        check(key)?;
        let target = target::of_read(key, options);
        let call = self.client_call(Method::GET, target, Bytes::new());
        found(self.call(&call, Kind::Read, options.timeout).await?)
    }

    /// What one node says of itself and its peers.
    ///
    /// # Errors
    /// [`ClientError`]; there are no repetitions.
    pub async fn status(&self, addr: &str) -> Result<serde_json::Value, ClientError> {
        json(&self.page(addr, Method::GET, "/admin/status", self.options.timeout).await?)
    }

    /// Has one node write a backup into the folder `name` below its own data, and waits for that as long as a day:
    /// its path, how many files it has and how many bytes were copied.
    ///
    /// # Errors
    /// [`ClientError`]; there are no repetitions.
    pub async fn backup(&self, addr: &str, name: &str) -> Result<serde_json::Value, ClientError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let escape = |byte: u8| match byte {
            byte if is_plain(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        };
        let dir: String = name.bytes().map(escape).collect();
        let path = format!("/admin/backup?dir={dir}");
        json(&self.page(addr, Method::POST, &path, BACKUP_TIMEOUT).await?)
    }

    /// Tells one node, at `addr`, which is being filled again, that another one will never come back.
    ///
    /// # Errors
    /// [`ClientError`]; there are no repetitions.
    pub async fn declare_gone(&self, addr: &str, node: NodeId) -> Result<(), ClientError> {
        let path = format!("/admin/gone?node={node}");
        self.page(addr, Method::POST, &path, self.options.timeout).await.map(drop)
    }

    /// One page of one node as text: `/health`, `/metrics`, `/debug/hints`.
    ///
    /// # Errors
    /// [`ClientError`]; there are no repetitions.
    pub async fn get_text(&self, addr: &str, path: &str) -> Result<String, ClientError> {
        let answer = self.page(addr, Method::GET, path, self.options.timeout).await?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    async fn write(
        &self,
        method: Method,
        key: &[u8],
        body: Bytes,
        options: &PutOptions,
    ) -> Result<Written, ClientError> {
        check(key)?;
        let call = self.client_call(method, target::of_write(key, options), body);
        self.call(&call, Kind::Write, options.timeout).await?.written()
    }

    async fn page(
        &self,
        addr: &str,
        method: Method,
        path: &str,
        after: Duration,
    ) -> Result<Answer, ClientError> {
        let other;
        let node = match self.nodes.iter().find(|node| node.authority() == addr) {
            Some(node) => node,
            None => {
                let node = Node::new(addr, &self.options);
                let detail = |error: AddressError| error.to_string();
                other = node.map(|node| Pool::new(node, 0)).map_err(|error| {
                    ClientError::Unavailable { detail: detail(error), acks: None }
                })?;
                &other
            }
        };
        let token = self.options.operator_token.clone();
        let call = Call { method, target: path.to_owned(), body: Bytes::new(), token };
        let attempt = Self::attempt(node, &call, Kind::Read, Instant::now() + after, after);
        attempt.await.map_err(|failure| failure.error)
    }

    fn client_call(&self, method: Method, target: String, body: Bytes) -> Call {
        Call { method, target, body, token: self.options.token.clone() }
    }

    async fn call(
        &self,
        call: &Call,
        kind: Kind,
        timeout: Option<Duration>,
    ) -> Result<Answer, ClientError> {
        let after = timeout.unwrap_or(self.options.timeout);
        let deadline = Instant::now() + after;
        let first = self.current.load(Ordering::Relaxed);
        let mut nodes = (0..self.nodes.len()).cycle().skip(first);
        let mut in_doubt = None;
        let mut wait = FIRST_WAIT;
        let mut attempts = 0;
        loop {
            let at = nodes.next().expect("a client has a node");
            let has_others =
                attempts + 1 < self.nodes.len() && attempts < self.options.retries as usize;
            let until = match kind {
                Kind::Read if has_others => halfway(deadline),
                Kind::Read | Kind::Write => deadline,
            };
            let failure = match Self::attempt(&self.nodes[at], call, kind, until, after).await {
                Ok(answer) => {
                    self.current.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            if failure.is_nodes {
                // Another call may have gone on to another node already.
                let next = (at + 1) % self.nodes.len();
                let _ =
                    self.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
            }
            let doubtful = matches!(failure.error, ClientError::Indeterminate { .. });
            let again = failure.retriable || (doubtful && self.options.retry_indeterminate);
            if doubtful {
                in_doubt = Some(failure.error.clone());
            }
            // An earlier attempt may have happened, whatever became of the later ones.
            let error = in_doubt.clone().unwrap_or_else(|| failure.error.clone());
            attempts += 1;
            if !again || attempts > self.options.retries as usize {
                return Err(error);
            }
            let asked_all = attempts.is_multiple_of(self.nodes.len());
            let mut pause = jittered(wait);
            wait = (wait * 2).min(LONGEST_WAIT);
            // Who was silent has taken time enough from the next one.
            if !asked_all && matches!(failure.error, ClientError::TimedOut { .. }) {
                pause = Duration::ZERO;
            }
            if let Some(retry_after) = failure.retry_after.filter(|_| asked_all) {
                pause = pause.max(retry_after);
            }
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    async fn attempt(
        node: &Pool,
        call: &Call,
        kind: Kind,
        deadline: Instant,
        after: Duration,
    ) -> Result<Answer, Failure> {
        let mut progress = Progress::NotSent;
        match timeout_at(deadline, node.call(call, &mut progress)).await {
            Ok(Ok(answer)) => answer.judged(kind, after),
            Ok(Err(broken)) => Err(Failure::broken(broken, kind, progress)),
            Err(_) => Err(Failure::timed_out(after, kind, progress)),
        }
    }
}

fn json(answer: &Answer) -> Result<serde_json::Value, ClientError> {
    serde_json::from_slice(&answer.body)
        .map_err(|error| ClientError::BadAnswer { detail: format!("it is no JSON: {error}") })
}

pub(crate) fn check(key: &[u8]) -> Result<(), ClientError> {
    // Only what is wrong with a key is worth a copy of it.
    if !(1..=MAX_KEY_BYTES).contains(&key.len()) {
        Key::new(Bytes::copy_from_slice(key))?;
    }
    Ok(())
}

pub(crate) fn check_value(value: &[u8]) -> Result<(), ClientError> {
    if value.len() <= MAX_VALUE_BYTES {
        return Ok(());
    }
    let detail = format!("{} bytes, and no node takes so many", value.len());
    Err(ClientError::TooLarge { detail, limit_bytes: Some(MAX_VALUE_BYTES as u64) })
}

/// What an answer to a read says.
pub(crate) fn found(answer: Answer) -> Result<Option<Found>, ClientError> {
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let (version, receipt) = (answer.version()?, answer.receipt()?);
    Ok(Some(Found { value: answer.body, version, receipt }))
}

/// When half of the time is over that is left.
fn halfway(deadline: Instant) -> Instant {
    deadline - deadline.saturating_duration_since(Instant::now()) / 2
}

/// Between half of `wait` and all of it. The keys of hash maps are drawn at random: good enough to
/// keep clients from moving in step.
fn jittered(wait: Duration) -> Duration {
    let share = RandomState::new().build_hasher().finish() % 1024;
    wait / 2 + (wait / 2).mul_f64(share as f64 / 1024.0)
}
