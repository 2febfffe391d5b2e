//! `nodes.json`: what every node of a cluster must agree on, and how each of them runs.
//!
//! A file is read whole and all that is wrong with it is told at once, each problem with its place.
//! Fields that nobody knows are problems too: a misspelt limit would otherwise be no limit.
//!
//! | field | default | meaning |
//! |---|---|---|
//! | `nodes` | required | `id`, `addr`, and optionally `zone` and `weight` (1.0) of each node |
//! | `vnodes` | 64 | vnodes of a node of weight 1 |
//! | `n`, `r`, `w` | min(3, nodes), majority of `n` | replicas of a key; how many must answer a read, a write |
//! | `sloppy` | true | whether fallbacks may stand in for replicas |
//! | `read_repair` | `"async"` | or `"blocking"`: mend stale replicas before the answer |
//! | `timeout_ms` | 800 | deadline of a client's request that names none |
//! | `hint_ttl_s`, `hint_max_bytes` | 10800, 1 GiB | how long courtesy hints are kept (0: none), and how many bytes of them |
//! | `anti_entropy` | true | whether replicas are compared in the background |
//! | `anti_entropy_interval_ms`, `anti_entropy_max_per_tick` | 1500, 200 | how often, and how many records at most each time |
//! | `sync` | `"always"` | an ack means synced; `"50ms"`: synced at least that often; `"os"`: when the system likes |
//! | `snapshot_interval_s` | 0 | seconds between snapshots, 0 for none |
//! | `scrub_interval_s` | 604800 | seconds between two readings of all records, 0 for none |
//! | `max_value_bytes` | 8 MiB | largest value; no more than that either |
//! | `max_in_flight`, `max_connections` | 4096, 4096 | beyond them callers get a 503 at once |
//! | `max_clock_skew_ms` | 10000 | versions further ahead than that are refused |
//! | `allowed_hosts` | `[]` | further names that a request's `Host` may have |
//! | `client_auth`, `client_tokens` | `"none"`, `[]` | `"token"`: clients must show one of the tokens |
//! | `admin_auth` | `"peer"` | operators are let in as peers are |
//! | `tls` | none | `cert`, `key` and `ca`: files of the node's certificate, its key (mode 0600) and the cluster's authority, in PEM; `{id}` in a path stands for the node's id; every connection is TLS then |
//! | `cluster_secret` | none | what nodes prove to each other to know: at least 32 visible ASCII characters; or a list of two, of which the first is proved and both are accepted |
//! | `cluster_secret_file` | none | instead, a file of mode 0600 with one or two secrets, each on a line |
//!
//! Without a secret or `tls` only loopback addresses may be used, unless [`Overrides::insecure`] is
//! set.
//!
//! `peer_addr` and `admin_addr` are known and refused: they are not supported yet.

mod checks;
mod fields;
mod load;
mod outline;
mod overrides;
mod problem;
mod values;

use std::{fmt, net::SocketAddr, path::Path, time::Duration};

use quorate_record::NodeId;
use quorate_transport::{Tls, TlsFiles};

pub use overrides::Overrides;
pub use problem::{ConfigErrors, Place, Problem};
pub use values::{ValueError, check_loopback, parse_addr, parse_duration};

/// Most bytes a configuration file may have.
pub const MAX_CONFIG_BYTES: usize = 64 * 1024;

/// Fewest characters of a cluster secret.
pub const MIN_SECRET_CHARS: usize = 32;

/// A checked configuration, all defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// All nodes of the cluster: distinct ids, distinct addresses.
    pub nodes: Vec<NodeConfig>,
    /// Vnodes of a node of weight 1.
    pub vnodes: u32,
    /// Replicas of a key; 1 to the number of nodes.
    pub n: usize,
    /// Replicas that must answer a read; 1 to `n`.
    pub r: usize,
    /// Replicas that must acknowledge a write; 1 to `n`.
    pub w: usize,
    /// Whether fallbacks may stand in for replicas.
    pub sloppy: bool,
    /// When stale replicas found by a read are mended.
    pub read_repair: ReadRepair,
    /// Deadline of a client's request that names none.
    pub timeout: Duration,
    /// How long courtesy hints are kept; zero switches them off.
    pub hint_ttl: Duration,
    /// Most bytes of hints.
    pub hint_max_bytes: u64,
    /// Whether replicas are compared in the background.
    pub anti_entropy: bool,
    /// Time between two comparisons.
    pub anti_entropy_interval: Duration,
    /// Most records moved by one comparison.
    pub anti_entropy_max_per_tick: usize,
    /// What an acknowledged write has survived.
    pub sync: SyncPolicy,
    /// Time between two snapshots; `None` for no snapshots but those asked for.
    pub snapshot_interval: Option<Duration>,
    /// Time between the beginnings of two readings of all records, in search of damage; `None` for none.
    pub scrub_interval: Option<Duration>,
    /// Largest value, in bytes.
    pub max_value_bytes: usize,
    /// Most requests at work at once.
    pub max_in_flight: usize,
    /// Most client connections at once.
    pub max_connections: usize,
    /// How far ahead of a node's clock a version may be, in milliseconds.
    pub max_clock_skew_ms: u64,
    /// Further names that a request's `Host` may have, with or without a port.
    pub allowed_hosts: Vec<String>,
    /// The tokens of which a client must show one; `None` lets everybody in.
    pub client_tokens: Option<Vec<Secret>>,
    /// The secrets shared by all nodes: none, one, or two while they are replaced. The first is
    /// used, and all are accepted.
    pub cluster_secrets: Vec<Secret>,
    /// Where the certificates are, from the current folder; `{id}` in a path stands for a node's id.
    pub tls: Option<TlsFiles>,
    /// Whether addresses may be used without a secret that others can reach. Anybody who does is
    /// believed then.
    pub insecure: bool,
    /// What is allowed but costs something, in words.
    pub warnings: Vec<String>,
}

/// One node of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeConfig {
    /// Its name.
    pub id: NodeId,
    /// Where it listens, for clients and peers alike.
    pub addr: SocketAddr,
    /// What fails together with it, such as a rack.
    pub zone: Option<String>,
    /// Its share of the keys relative to the others.
    pub weight: f64,
}

/// When stale replicas found by a read are mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadRepair {
    /// After the client has its answer.
    Async,
    /// Before the client has its answer.
    Blocking,
}

/// What an acknowledged write has survived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Loss of power: it is synced before it is acknowledged.
    Always,
    /// Loss of power if it came this long after the write.
    Interval(Duration),
    /// The end of the process; the operating system writes it out when it likes.
    Os,
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Config {
    /// Reads a `nodes.json`.
    ///
    /// # Errors
    /// [`ConfigErrors`] lists everything that is wrong with the file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigErrors> {
        load::load(path.as_ref(), false)
    }

    /// Reads the text of a `nodes.json`; a `cluster_secret_file` is looked for in the current
    /// folder.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(text: &str) -> Result<Self, ConfigErrors> {
        load::parse(text, "nodes.json", Path::new(""))
    }

    /// Reads a `nodes.json`, and puts what the command line says in place of what it says.
    ///
    /// # Errors
    /// [`ConfigErrors`] lists everything that is wrong with the file, or else with the command line.
    pub fn load_with(path: impl AsRef<Path>, overrides: &Overrides) -> Result<Self, ConfigErrors> {
        let may_be_exposed = overrides.insecure || overrides.cluster_secret.is_some();
        let mut config = load::load(path.as_ref(), may_be_exposed)?;
        config.apply(overrides)?;
        Ok(config)
    }

    /// Lets an address through that is safe to listen on.
    ///
    /// # Errors
    /// If others can reach it, and neither a secret nor certificates keep them out nor
    /// [`insecure`](Self::insecure) lets them in.
    pub fn check_addr(&self, addr: SocketAddr) -> Result<SocketAddr, ValueError> {
        if self.insecure || self.tls.is_some() || !self.cluster_secrets.is_empty() {
            return Ok(addr);
        }
        check_loopback(addr)
    }

    /// Reads the certificates of the node called `id`, if the cluster has any. `source` is where this
    /// configuration comes from.
    ///
    /// # Errors
    /// [`ConfigErrors`] names the file that cannot be used.
    pub fn load_tls(&self, id: NodeId, source: &Path) -> Result<Option<Tls>, ConfigErrors> {
        let loaded = self.tls.as_ref().map(|files| Tls::load(files.of(id), id)).transpose();
        loaded.map_err(|error| {
            let (field, what) = (format!("tls.{}", error.file), error.to_string());
            let problems = vec![Problem { field, place: None, what }];
            ConfigErrors { source: source.display().to_string(), problems }
        })
    }

    /// The node called `id`.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodeConfig> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// Puts what the command line says in place of what the file says.
    ///
    /// # Errors
    /// [`ConfigErrors`] names the options that are out of range; the configuration is then as it
    /// was.
    pub fn apply(&mut self, overrides: &Overrides) -> Result<(), ConfigErrors> {
        overrides.apply_to(self)
    }
}
