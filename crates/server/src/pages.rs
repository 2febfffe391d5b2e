//! The pages that show a node's state, as JSON.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use quorate_membership::PeerState;
use quorate_node::{Comparison, Node, Now, PeerStatus, Recovery};
use quorate_record::{Key, NodeId};
use quorate_storage::SyncPolicy;
use quorate_transport::PeerLinks;
use serde_json::{Map, Value, json};

use crate::{
    config::Config,
    http::{DebugPage, ShownKey},
    local::Local,
    run::Facts,
};

/// Everything that a page may show.
pub(crate) struct View<'a> {
    pub(crate) node: &'a Node,
    pub(crate) local: &'a Local,
    pub(crate) links: Option<&'a PeerLinks>,
    pub(crate) config: &'a Config,
    pub(crate) facts: &'a Facts,
    pub(crate) now: Now,
}

impl View<'_> {
    pub(crate) fn page(&self, page: &DebugPage) -> Value {
        match page {
            DebugPage::Hints => self.hints(),
            DebugPage::AntiEntropy => self.anti_entropy(),
            DebugPage::Persist => self.persist(),
            DebugPage::Ring { key: Some(key) } => self.preference(key),
            DebugPage::Ring { key: None } => self.ring(),
            DebugPage::Peers => self.peers(),
            DebugPage::Status => self.status(),
            DebugPage::Convergence => self.convergence(),
        }
    }

    fn hints(&self) -> Value {
        let book = self.node.hints();
        let all = book.stats(self.now.wall_ms);
        let targets: Vec<_> = book.targets(self.now.wall_ms).collect();
        let owing = targets.iter().filter(|target| target.count > 0);
        let per_target: BTreeMap<&str, Value> = targets
            .iter()
            .map(|target| {
                let page = json!({
                    "count": target.count,
                    "bytes": target.bytes,
                    "oldest_age_ms": target.oldest_age_ms,
                    "state": target.state.to_string(),
                    "window": target.window,
                    "last_error": target.last_error,
                });
                (target.target.as_str(), page)
            })
            .collect();
        json!({
            "count": all.count,
            "bytes": all.bytes,
            "oldest_age_ms": all.oldest_age_ms,
            "targets": owing.map(|target| target.target.as_str()).collect::<Vec<_>>(),
            "per_target": per_target,
            "delivered": all.delivered,
            "dead": all.dead,
            "damaged": all.damaged,
            "expired": all.expired,
            "evicted": all.evicted,
            "refused": all.refused,
            "max_bytes": self.config.hint_max_bytes,
            "wal": self.facts.hints_dir,
        })
    }

    fn anti_entropy(&self) -> Value {
        let stats = self.node.anti_entropy();
        let last = |value: fn(&Stats) -> u64| stats.map_or(0, value);
        json!({
            "enabled": stats.is_some(),
            "interval_ms": millis(self.config.anti_entropy_interval),
            "max_per_tick": self.config.anti_entropy_max_per_tick,
            "rounds": last(|stats| stats.exchanges),
            "last_peer": stats.and_then(|stats| stats.last_peer).map(|peer| peer.to_string()),
            "last_run_unix": last(|stats| stats.last_run_ms.unwrap_or(0) / 1_000),
            "last_dur_ms": stats.map_or(0, |stats| millis(stats.last_took)),
            "last_compared": last(|stats| stats.last_compared),
            "last_pulled": last(|stats| stats.last_pulled),
            "last_pushed": last(|stats| stats.last_pushed),
            "total_compared": last(|stats| stats.total_compared),
            "total_pulled": last(|stats| stats.total_pulled),
            "total_pushed": last(|stats| stats.total_pushed),
            "total_bytes_sent": last(|stats| stats.total_bytes_sent),
            "total_bytes_received": last(|stats| stats.total_bytes_received),
            "total_unexplained": last(|stats| stats.total_unexplained),
            "total_errors": last(|stats| stats.total_errors),
            "last_error": stats.and_then(|stats| stats.last_error.clone()),
        })
    }

    fn persist(&self) -> Value {
        let stats = self.local.store.stats();
        let sync = match stats.sync {
            SyncPolicy::Always => "always".to_owned(),
            SyncPolicy::Interval(interval) => format!("{}ms", millis(interval)),
            SyncPolicy::Os => "os".to_owned(),
        };
        json!({
            "kv_wal": stats.log_dir,
            "kv_snapshot": stats.snapshot.as_ref().map(|info| &info.path),
            "snapshot_dir": stats.snapshot_dir,
            "wal_ops": stats.wal_ops,
            "wal_bytes": stats.wal_bytes,
            "snapshot_tick": self.config.snapshot_interval.map_or(0, |every| every.as_secs()),
            "snapshots": stats.snapshots,
            "sync_policy": sync,
            "segments": stats.segments,
            "live_bytes": stats.live_bytes,
            "dead_bytes": stats.dead_bytes,
            "tombstones": stats.tombstones,
            "damaged": stats.damaged,
            "healed_records": stats.healed,
            "damaged_segments": self.node.damaged_segments(),
            "refilled_segments": self.node.refilled_segments(),
            "healing": self.node.healing(),
            "scrub": self.facts.scrub.page(),
            "compacted_segments": stats.compacted_segments,
            "compacted_bytes": stats.compacted_bytes,
            "queued_bytes": stats.queued_bytes,
            "keys": stats.keys,
            "recovered_records": stats.recovered_records,
            "truncated_bytes": stats.truncated_bytes,
            "corrupt_frames": stats.corrupt_frames,
            "failed": self.local.store.poisoned().map(|why| why.to_string()),
        })
    }

    fn ring(&self) -> Value {
        let ring = self.node.ring();
        let nodes: BTreeMap<&str, Value> = ring
            .nodes()
            .iter()
            .map(|node| {
                let page = json!({
                    "share": ring.share(&node.id),
                    "ownership": ring.ownership(&node.id),
                    "vnodes": ring.vnodes_of(&node.id),
                    "zone": node.zone,
                    "weight": node.weight,
                });
                (node.id.as_str(), page)
            })
            .collect();
        json!({
            "nodes": nodes,
            "n": ring.owners(),
            "vnodes": ring.vnodes(),
            "fingerprint": format!("{:016x}", ring.fingerprint()),
        })
    }

    fn preference(&self, key: &Key) -> Value {
        let ring = self.node.ring();
        let token = quorate_ring::token(key.as_bytes());
        let preference: Vec<&str> = ring.preference(token).map(NodeId::as_str).collect();
        let mut page = json!(ShownKey::new(key));
        page["token"] = format!("{token:016x}").into();
        page["preference"] = preference.into();
        page["n"] = ring.owners().into();
        page
    }

    fn peers(&self) -> Value {
        let peers: Map<String, Value> =
            self.node.peers().map(|peer| (peer.id.to_string(), self.peer(&peer))).collect();
        Value::Object(peers)
    }

    fn peer(&self, peer: &PeerStatus) -> Value {
        let link = self.links.and_then(|links| links.get(peer.id));
        let connected = link.is_some_and(|link| link.is_connected());
        let evidence = self.node.evidence(peer.id, self.now);
        let ago = |at: Option<Instant>| {
            at.map(|at| millis(self.now.instant.saturating_duration_since(at)))
        };
        let rtt_ms = |rtt: Option<Duration>| rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0);
        json!({
            "addr": self.config.node(peer.id).map(|node| node.addr.to_string()),
            "state": peer.state.to_string(),
            "connected": connected,
            "incarnation": peer.incarnation,
            "reason": evidence.map(|evidence| evidence.reason.to_string()),
            "phi": evidence.and_then(|evidence| evidence.phi),
            "rtt_ms": rtt_ms(peer.rtt),
            "usual_rtt_ms": rtt_ms(evidence.and_then(|evidence| evidence.usual_rtt)),
            "last_seen_ms": ago(evidence.and_then(|evidence| evidence.last_answered)),
            "last_spoke_ms": ago(evidence.and_then(|evidence| evidence.last_spoke)),
            "recovering": peer.is_recovering,
            "progress": peer.progress,
            "in_flight": peer.in_flight,
            "queued_bytes": link.map_or(0, |link| link.queued_bytes()),
            "clock_offset_ms": peer.clock_offset_ms,
            "last_error": link.filter(|_| !connected).and_then(|link| link.last_error()),
        })
    }

    fn status(&self) -> Value {
        let writer = self.node.writer();
        let hints = self.node.hints().stats(self.now.wall_ms);
        let store = self.local.store.stats();
        let counters = self.node.counters();
        json!({
            "node": writer.node.as_str(),
            "incarnation": writer.incarnation,
            "addr": self.facts.addr.to_string(),
            "version": env!("CARGO_PKG_VERSION"),
            "state": if self.ready().is_ok() { "ready" } else { "not ready" },
            "reason": self.ready().err(),
            "uptime_ms": millis(self.now.instant.saturating_duration_since(self.facts.started)),
            "n": self.config.n, "r": self.config.r, "w": self.config.w,
            "sloppy": self.config.sloppy,
            "authenticated": !self.config.cluster_secrets.is_empty() || self.config.tls.is_some(),
            "tls": self.config.tls.is_some(),
            "insecure": self.config.insecure,
            "keys": store.keys,
            "bytes": store.live_bytes,
            "hints": hints.count,
            "hint_bytes": hints.bytes,
            "differs": self.differs(),
            "peers_behind": self.node.peers_behind().map(|id| id.to_string()).collect::<Vec<_>>(),
            "open_requests": self.node.open_requests(),
            "writes": counters.writes,
            "reads": counters.reads,
            "second_rounds": counters.second_rounds,
            "buried": counters.buried,
            "below": counters.below,
            "standing": self.standing(),
            "peers": self.peers(),
        })
    }

    /// Whether the node counts in quorums, and how far deletes are forgotten.
    fn standing(&self) -> Value {
        let names = |nodes: Vec<NodeId>| nodes.iter().map(NodeId::to_string).collect::<Vec<_>>();
        let recovery = self.node.recovery().map(|recovery| {
            json!({
                "done": names(recovery.done),
                "waiting": names(recovery.waiting),
                "away": names(recovery.away),
            })
        });
        let horizon = self.node.horizon();
        json!({
            "state": if recovery.is_some() { "recovering" } else { "counted" },
            "recovery": recovery,
            "horizon_unix_ms": horizon.horizon.wall_ms(),
            "floor_unix_ms": horizon.floor.wall_ms(),
            "rounds": horizon.rounds,
            "held_back_by": names(horizon.held_back_by),
        })
    }

    /// In how many keys this node last differed from its peers, all together; `None` if it was not
    /// compared with all of them.
    fn differs(&self) -> Option<u64> {
        self.node.comparisons().map(|(_, it)| it.map(|it| it.differing)).sum()
    }

    /// Per peer that shares ranges with this node, how the two last stood, and which ranges those
    /// are.
    fn convergence(&self) -> Value {
        let peers: Map<String, Value> = self
            .node
            .comparisons()
            .map(|(peer, comparison)| (peer.to_string(), comparison_page(comparison)))
            .collect();
        let ranges = self.node.owned_ranges().into_iter().map(|range| {
            json!({
                "first": format!("{:016x}", range.tokens.start()),
                "last": format!("{:016x}", range.tokens.end()),
                "peers": range.peers.iter().map(NodeId::as_str).collect::<Vec<_>>(),
            })
        });
        json!({
            "node": self.node.writer().node.as_str(),
            "hints": self.node.hints().stats(self.now.wall_ms).count,
            "peers": peers,
            "ranges": ranges.collect::<Vec<_>>(),
        })
    }

    /// Whether requests should be sent to this node: it counts for quorums itself, and reads of every key can be answered.
    pub(crate) fn ready(&self) -> Result<(), String> {
        if let Some(why) = self.local.store.poisoned() {
            return Err(why.to_string());
        }
        if let Some(Recovery { done, away, waiting }) = self.node.recovery() {
            let [done, away, waiting] = [done, away, waiting].map(listed);
            return Err(format!(
                "new, or without all of its data; compared with: {done}; to be compared with: {waiting}; not up: {away}"
            ));
        }
        let r = self.config.r;
        if self.node.can_read(r) {
            return Ok(());
        }
        let peers = |which: fn(&PeerStatus) -> bool| {
            listed(self.node.peers().filter(which).map(|peer| peer.id).collect())
        };
        let (filled, away) =
            (peers(|peer| peer.is_recovering), peers(|peer| peer.state != PeerState::Up));
        Err(format!(
            "some keys have fewer than {r} replicas that count; being filled: {filled}; not up: {away}"
        ))
    }
}

/// Nodes for a reader.
fn listed(nodes: Vec<NodeId>) -> String {
    let names: Vec<_> = nodes.iter().map(NodeId::as_str).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

type Stats = quorate_antientropy::RoundsStats<NodeId>;

fn comparison_page(comparison: Option<Comparison>) -> Value {
    match comparison {
        None => json!({ "compared": false }),
        Some(Comparison { as_of_ms, since_ms, equal, differing, complete }) => json!({
            "compared": true,
            "equal": equal,
            "differing": differing,
            "complete": complete,
            "as_of_unix_ms": as_of_ms,
            "since_unix_ms": since_ms,
        }),
    }
}

pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
