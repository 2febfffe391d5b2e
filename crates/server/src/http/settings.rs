use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use quorate_quorum::Quorum;
use quorate_record::{MAX_VALUE_BYTES, NodeId};
use quorate_transport::Tls;

/// What the HTTP face of a node keeps to.
#[derive(Clone)]
pub struct HttpSettings {
    /// This node; named in receipts as the holder of the hints that it keeps itself.
    pub node: NodeId,
    /// All nodes of the cluster, this one included; others are refused as `hint_for`.
    pub nodes: BTreeSet<NodeId>,
    /// What a request that says nothing about it gets.
    pub quorum: Quorum,
    /// How long a request that says nothing about it may take.
    pub timeout: Duration,
    /// Most bytes of a value.
    pub max_value_bytes: usize,
    /// Most requests of clients and peers at once; the next is told to come back later.
    pub max_in_flight: usize,
    /// Most connections at once. The next takes the place of the one that has been idle the
    /// longest; if none is idle, it is told so and closed.
    pub max_connections: usize,
    /// What `Host` may name besides localhost and the loopback addresses: names and addresses,
    /// with or without a port, which is not compared.
    pub allowed_hosts: BTreeSet<String>,
    /// The bearer tokens that let a client in; `None` lets everyone in.
    pub client_tokens: Option<Vec<String>>,
    /// The secrets of which peers and operators must show one; none lets everyone in.
    pub cluster_secrets: Vec<String>,
    /// If there are certificates, every connection is encrypted; and peers and operators must show
    /// one of the cluster's authority where there is no secret.
    pub tls: Option<Tls>,
    /// The limits that no configuration file names.
    pub limits: HttpLimits,
}

/// How much time and space a connection may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// How long a request's head may take, from its first byte.
    pub head_timeout: Duration,
    /// How long a connection may stay idle; it is closed after twice that at the latest.
    pub idle_timeout: Duration,
    /// How long a request's body may take in all.
    pub body_timeout: Duration,
    /// How long a body may take before it has to keep to `min_body_bytes_per_s`.
    pub body_grace: Duration,
    /// How many bytes of a body must come in each second after `body_grace`, on average; not 0.
    pub min_body_bytes_per_s: u32,
    /// Most bytes of bodies held at once, over all connections.
    pub max_body_bytes_in_flight: usize,
    /// Most bytes of values above 64 KiB in answers that have not been written yet.
    pub max_answer_bytes_in_flight: usize,
    /// How long a client may take nothing of an answer.
    pub write_timeout: Duration,
    /// How long the rest of a refused body is read and thrown away, so that the refusal is read.
    pub linger: Duration,
    /// Most bytes of a refused body that are read and thrown away.
    pub linger_bytes: usize,
    /// Most connections above `max_connections` that are told so; more are only closed. As many
    /// may be on their way out to make room.
    pub max_refusals: usize,
    /// How long a client that was refused for overload is not listened to on the same connection if it
    /// asks again sooner; doubles each time, up to `longest_pause`. Give or take a quarter.
    pub first_pause: Duration,
    /// The longest such pause. Less than clients usually wait for an answer.
    pub longest_pause: Duration,
    /// How long open requests may go on once the listener was told to stop.
    pub drain: Duration,
}

impl HttpSettings {
    /// The defaults for `node`, alone in its cluster until `nodes` says otherwise.
    #[must_use]
    pub fn new(node: NodeId, quorum: Quorum) -> Self {
        Self {
            node,
            nodes: BTreeSet::from([node]),
            quorum,
            timeout: Duration::from_millis(800),
            max_value_bytes: MAX_VALUE_BYTES,
            max_in_flight: 4096,
            max_connections: 4096,
            allowed_hosts: BTreeSet::new(),
            client_tokens: None,
            cluster_secrets: Vec::new(),
            tls: None,
            limits: HttpLimits::default(),
        }
    }
}

/// Leaves tokens and secrets out.
impl fmt::Debug for HttpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = BTreeMap::from([
            ("max_value_bytes", self.max_value_bytes),
            ("max_in_flight", self.max_in_flight),
            ("max_connections", self.max_connections),
            ("client_tokens", self.client_tokens.as_ref().map_or(0, Vec::len)),
            ("cluster_secrets", self.cluster_secrets.len()),
        ]);
        f.debug_struct("HttpSettings")
            .field("node", &self.node)
            .field("nodes", &self.nodes)
            .field("quorum", &self.quorum)
            .field("timeout", &self.timeout)
            .field("numbers", &numbers)
            .field("allowed_hosts", &self.allowed_hosts)
            .field("tls", &self.tls)
            .field("limits", &self.limits)
            .finish()
    }
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            body_grace: Duration::from_secs(5),
            min_body_bytes_per_s: 1024,
            max_body_bytes_in_flight: 64 * 1024 * 1024,
            max_answer_bytes_in_flight: 128 * 1024 * 1024,
            write_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            linger_bytes: 16 * 1024 * 1024,
            max_refusals: 64,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_millis(500),
            drain: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_not_shown() {
        let node = NodeId::new("n1").unwrap();
        let mut settings = HttpSettings::new(node, Quorum::new(1, 1, 1, true).unwrap());
        settings.client_tokens = Some(vec!["open-sesame".into()]);
        settings.cluster_secrets = vec!["sesame-too".into()];
        assert!(!format!("{settings:?}").contains("sesame"));
    }
}
