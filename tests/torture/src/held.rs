//! What each node itself holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use quorate_record::{Key, NodeId, Version};
use quorate_ring::{Ring, RingNode};
use quorate_simulator::check::{self, Fault, Violation};
use quorate_tests::{Cluster, Node, now};
use serde_json::{Value, json};

use crate::{clients::Crowd, value};

/// How many nodes own a key.
pub(crate) const OWNERS: usize = 3;

/// The nodes.json of a run says so.
pub(crate) const VNODES: u32 = 64;

/// What the keys begin with that nobody asks for.
const OTHERS: &str = "other-";

/// Which nodes own which keys.
#[derive(Debug)]
pub(crate) struct Places {
    ring: Ring<NodeId>,
}

impl Places {
    pub(crate) fn new(nodes: impl IntoIterator<Item = NodeId>) -> Self {
        let nodes = nodes.into_iter().map(RingNode::new).collect();
        Self { ring: Ring::new(nodes, VNODES, OWNERS).expect("different nodes, and enough") }
    }

    pub(crate) fn owners(&self, key: &Key) -> Vec<NodeId> {
        self.ring.owners_of_key(key.as_bytes()).copied().collect()
    }
}

/// What a node holds of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) version: Version,
    pub(crate) deleted: bool,
}

/// Which keys nodes are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope<'a> {
    /// All that they hold.
    All,
    /// Those that the clients have asked for, of many more.
    Asked(&'a Crowd),
}

/// What all nodes hold.
#[derive(Clone, Debug)]
pub(crate) struct Dumps(pub(crate) BTreeMap<NodeId, BTreeMap<Key, Held>>);

impl Dumps {
    /// Asks every node for what it holds.
    ///
    /// # Errors
    /// Which node did not say, and why.
    pub(crate) fn take(cluster: &Cluster, scope: Scope<'_>) -> Result<Self, String> {
        let dump = |node: &Node| {
            let id = NodeId::new(node.id()).expect("nodes have ids");
            let held = match scope {
                Scope::All => keys_of(node),
                Scope::Asked(crowd) => held_of(node, crowd.keys()),
            };
            held.map(|held| (id, held)).map_err(|why| format!("{id}: {why}"))
        };
        cluster.nodes().iter().map(dump).collect::<Result<_, _>>().map(Self)
    }

    /// Which owners do not hold what others do, and who holds what it does not own. Nothing is as good
    /// as a tombstone, and so is another tombstone: owners forget those one after the other, and one
    /// that has forgotten it may bury what it is sent under its horizon.
    pub(crate) fn differing(&self, places: &Places) -> Vec<Violation> {
        let mut differing = check::converged(&self.0, |key| places.owners(key));
        differing.retain(|violation| match &*violation.fault {
            Fault::Missing { holder, .. } => !self.0[holder][&violation.key].deleted,
            Fault::Diverged { one, other } => {
                [one, other].iter().any(|owner| !self.0[*owner][&violation.key].deleted)
            }
            _ => true,
        });
        differing
    }

    /// The greatest that is held of each key.
    fn greatest(&self) -> BTreeMap<Key, Held> {
        let mut greatest: BTreeMap<Key, Held> = BTreeMap::new();
        for (key, held) in self.0.values().flatten() {
            let known = greatest.entry(key.clone()).or_insert(*held);
            if known.version < held.version {
                *known = *held;
            }
        }
        greatest
    }
}

/// Stores as many keys as nobody will ask for.
///
/// # Panics
/// If they cannot be stored.
pub(crate) fn fill(cluster: &Cluster, keys: u64) {
    if keys == 0 {
        return;
    }
    let addrs: Vec<String> = cluster.nodes().iter().map(|node| node.addr().to_string()).collect();
    let filled = quorate_tests::run(&[
        "bench",
        "--nodes",
        &addrs.join(","),
        "--load",
        "--keys",
        &keys.to_string(),
        "--key-prefix",
        OTHERS,
        "--mix",
        "get",
        "--warm-up",
        "0s",
        "--secs",
        "1s",
        "--quiet",
    ]);
    assert_eq!(filled.code, Some(0), "{}", filled.stderr);
}

/// How many records all nodes together hold of keys that are not in their `dumps`: each owner has one
/// of each, when all is well.
///
/// # Errors
/// Why a node did not say.
pub(crate) fn others(cluster: &Cluster, dumps: &Dumps) -> Result<u64, String> {
    let mut all = 0;
    for node in cluster.nodes() {
        let page = node.try_json("GET", "/debug/persist", b"").map_err(|it| it.to_string())?;
        all += page["keys"].as_u64().ok_or("there are no `keys`")?;
    }
    let dumped: usize = dumps.0.values().map(BTreeMap::len).sum();
    Ok(all.saturating_sub(dumped as u64))
}

/// Whether a node says that it counts in quorums: it has all that it ever acknowledged.
pub(crate) fn counts(node: &Node) -> bool {
    let page = node.try_json("GET", "/admin/status", b"");
    page.is_ok_and(|page| page["standing"]["state"] == "counted")
}

fn held_of(node: &Node, keys: impl Iterator<Item = Key>) -> Result<BTreeMap<Key, Held>, String> {
    let mut held = BTreeMap::new();
    for key in keys {
        if let Some((it, _)) = record_of(node, &key)? {
            held.insert(key, it);
        }
    }
    Ok(held)
}

fn keys_of(node: &Node) -> Result<BTreeMap<Key, Held>, String> {
    let mut held = BTreeMap::new();
    let mut after = None;
    loop {
        let body = match &after {
            None => json!({}),
            Some(key) => json!({ "after": key }),
        };
        let page = node.try_json("POST", "/internal/keys", body.to_string().as_bytes());
        let page = page.map_err(|error| error.to_string())?;
        for (key, stamp) in page["keys"].as_object().ok_or("there are no `keys`")? {
            let key = Key::new(key.clone()).map_err(|error| error.to_string())?;
            held.insert(key, stamp_of(stamp)?);
        }
        match page["next"].as_str() {
            None => return Ok(held),
            Some(next) => after = Some(next.to_owned()),
        }
    }
}

/// What a node holds of one key, and the number of the write of its value.
///
/// # Errors
/// Why it did not say.
pub(crate) fn record_of(node: &Node, key: &Key) -> Result<Option<(Held, Option<u64>)>, String> {
    let record = node.try_held(key.as_bytes()).map_err(|error| error.to_string())?;
    let Some(record) = record else { return Ok(None) };
    let held = stamp_of(&record)?;
    let value = record["value"].as_str().unwrap_or_default();
    let value = BASE64_STANDARD.decode(value).map_err(|error| error.to_string())?;
    Ok(Some((held, (!held.deleted).then(|| value::id(&value)))))
}

fn stamp_of(shown: &Value) -> Result<Held, String> {
    let version = shown["version"].as_str().ok_or("there is no `version`")?;
    let version = version.parse().map_err(|_| format!("{version} is no version"))?;
    Ok(Held { version, deleted: shown["deleted"] == json!(true) })
}

/// How far a node that lost data is on its way to have all of it again.
///
/// It is there when every owner of every key holds at least what anybody held at some moment after
/// the loss at which no hint from before was left, and it says that it counts. Then no
/// acknowledgement from before rests on that node, and another one may lose its data.
#[derive(Debug, Default)]
pub(crate) struct Catching {
    /// The nodes that were seen without hints.
    without_hints: BTreeSet<NodeId>,
    awaited: Option<BTreeMap<Key, Held>>,
    looked_at: Option<Instant>,
}

impl Catching {
    /// Whether it is time to look again.
    pub(crate) fn is_due(&self) -> bool {
        const LOOK_EVERY: Duration = Duration::from_secs(1);
        self.looked_at.is_none_or(|at| now() - at >= LOOK_EVERY)
    }

    /// Looks how far hints and, if it is awaited, the node have come; whether the node has caught up.
    pub(crate) fn look(
        &mut self,
        node: &Node,
        cluster: &Cluster,
        places: &Places,
        scope: Scope<'_>,
    ) -> bool {
        let is_there = match &self.awaited {
            None => {
                self.look_at_hints(cluster, scope);
                false
            }
            Some(awaited) => counts(node) && all_hold(awaited, cluster, places, scope),
        };
        self.looked_at = Some(now());
        is_there
    }

    fn look_at_hints(&mut self, cluster: &Cluster, scope: Scope<'_>) {
        for node in cluster.nodes() {
            if node.try_hints().is_ok_and(|count| count == 0) {
                self.without_hints.insert(NodeId::new(node.id()).expect("nodes have ids"));
            }
        }
        if self.without_hints.len() == cluster.nodes().len() {
            // What was delivered meanwhile is in the next dump.
            self.awaited = Dumps::take(cluster, scope).ok().map(|dumps| dumps.greatest());
        }
    }
}

/// Whether every owner holds what is awaited of it, or more. What was deleted meanwhile may be forgotten by some or by all:
/// that nobody has lost it is for the checkers to say.
fn all_hold(
    awaited: &BTreeMap<Key, Held>,
    cluster: &Cluster,
    places: &Places,
    scope: Scope<'_>,
) -> bool {
    let dumps = match scope {
        Scope::All => Dumps::take(cluster, scope).map(Some),
        // Few of many are asked for, and only until one is lacking.
        Scope::Asked(_) => Ok(None),
    };
    let Ok(dumps) = dumps else { return false };
    let held = |owner: &NodeId, key: &Key| match &dumps {
        Some(dumps) => Ok(dumps.0[owner].get(key).copied()),
        None => Ok(record_of(cluster.node(owner.as_str()), key)?.map(|(held, _)| held)),
    };
    awaited.iter().all(|(key, awaited)| {
        let held = places.owners(key).into_iter().map(|owner| held(&owner, key));
        let Ok(held) = held.collect::<Result<Vec<_>, String>>() else { return false };
        let newest = held.iter().flatten().max_by_key(|it| it.version);
        let may_be_forgotten = awaited.deleted || newest.is_none_or(|newest| newest.deleted);
        held.iter().all(|held| match held {
            Some(held) => held.version >= awaited.version,
            None => may_be_forgotten,
        })
    })
}
