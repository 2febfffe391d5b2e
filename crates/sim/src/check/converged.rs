use std::collections::{BTreeMap, BTreeSet};

use quorate_record::{Key, NodeId};

use super::violation::{Fault, Violation};

/// Judges whether the owners of every key hold the same, and nobody else holds it.
///
/// `dumps` has what each node holds of each key, tombstones included: the encoded record, or
/// whatever is equal only if that is. A node without a dump holds nothing. Each owner is compared
/// with the first that holds the key.
pub fn converged<R: Eq>(
    dumps: &BTreeMap<NodeId, BTreeMap<Key, R>>,
    owners: impl Fn(&Key) -> Vec<NodeId>,
) -> Vec<Violation> {
    let keys: BTreeSet<&Key> = dumps.values().flat_map(BTreeMap::keys).collect();
    let mut violations = Vec::new();
    for key in keys {
        let owners = owners(key);
        let held = |node: NodeId| dumps.get(&node).and_then(|dump| dump.get(key));
        let strays = dumps.keys().filter(|node| !owners.contains(node));
        for &node in strays.filter(|&&node| held(node).is_some()) {
            violations.push(Violation::new(key, [], Fault::Stray { node }));
        }
        let first = owners.iter().find_map(|&node| Some((node, held(node)?)));
        let Some((holder, record)) = first else { continue };
        for &node in &owners {
            let fault = match held(node) {
                None => Fault::Missing { node, holder },
                Some(other) if other != record => Fault::Diverged { one: holder, other: node },
                Some(_) => continue,
            };
            violations.push(Violation::new(key, [], fault));
        }
    }
    violations
}
