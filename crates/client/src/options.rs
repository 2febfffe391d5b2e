use std::{fmt, time::Duration};

use hyper::header::HeaderValue;

/// How a [`Client`](crate::Client) goes about its calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// How long a call may take, all attempts together. Default 2 s.
    pub timeout: Duration,
    /// How often a call is tried again, each time at the next node. Default 3.
    pub retries: u32,
    /// Whether a write is tried again although it may have happened. Default no: between the two,
    /// somebody else may have written, and would be overwritten by the repetition. Where writes are
    /// never in each other's way, or always write the same, it is safe.
    pub retry_indeterminate: bool,
    /// How many idle connections are kept to each node. Default 32.
    pub idle_connections: usize,
    /// What is shown to nodes that ask clients for it (`client_auth: "token"`). Default none.
    pub token: Option<Token>,
    /// What is shown to nodes on the pages for operators ([`Client::status`](crate::Client::status)
    /// and so on): the cluster's secret, if it has one. Without TLS it goes over the network as it is.
    pub operator_token: Option<Token>,
    /// How to speak TLS with the nodes. Default not at all.
    #[cfg(feature = "tls")]
    pub tls: Option<crate::ClientTls>,
}

/// Text for an `Authorization: Bearer` header, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(HeaderValue);

impl Token {
    /// A token of visible ASCII; `None` if it is something else.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let mut value = HeaderValue::try_from(format!("Bearer {text}")).ok().filter(|_| fits)?;
        value.set_sensitive(true);
        Some(Self(value))
    }

    pub(crate) fn header(&self) -> &HeaderValue {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(token)")
    }
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(2),
            retries: 3,
            retry_indeterminate: false,
            idle_connections: 32,
            token: None,
            operator_token: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

/// What a read may rely on, whatever else is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// What the configuration and the other options say.
    Eventual,
    /// Strict majorities: a read sees every write acknowledged before it began.
    Quorum,
    /// The key is a linearizable register, if all its reads and writes ask for this.
    Atomic,
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eventual => "eventual",
            Self::Quorum => "quorum",
            Self::Atomic => "atomic",
        })
    }
}

/// How many replicas must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replicas {
    /// So many.
    Count(usize),
    /// One.
    One,
    /// More than half.
    Quorum,
    /// Each.
    All,
}

impl fmt::Display for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::One => f.write_str("one"),
            Self::Quorum => f.write_str("quorum"),
            Self::All => f.write_str("all"),
        }
    }
}

/// How to write. What is not given, the cluster's configuration decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// How many replicas must have the write.
    pub w: Option<Replicas>,
    /// Whether nodes that stand in for replicas count.
    pub sloppy: Option<bool>,
    /// What the call promises about others.
    pub consistency: Option<Consistency>,
    /// Whether the call ends only when all owners of the key hold the write or something newer. If
    /// they do not in time, [`ClientError::Lacking`](crate::ClientError::Lacking) names them; so that
    /// this is heard, the node is given nine tenths of `timeout`.
    pub wait_for_owners: bool,
    /// How long the call may take, and the node may spend on it, instead of
    /// [`ClientOptions::timeout`].
    pub timeout: Option<Duration>,
}

/// How to read. What is not given, the cluster's configuration decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GetOptions {
    /// How many replicas must answer.
    pub r: Option<Replicas>,
    /// Whether nodes that stand in for replicas count.
    pub sloppy: Option<bool>,
    /// What the call promises about others.
    pub consistency: Option<Consistency>,
    /// How long the call may take, and the node may spend on it, instead of
    /// [`ClientOptions::timeout`].
    pub timeout: Option<Duration>,
}
