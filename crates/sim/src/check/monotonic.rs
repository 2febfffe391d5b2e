use std::collections::BTreeMap;

use quorate_record::{Key, NodeId, Version};

use super::violation::{Fault, Violation};

/// Judges whether the version that a replica holds of a key never goes back while the replica
/// lives, by whatever path records come: clients, hints, repairs, anti-entropy, recovery.
///
/// Report what is durable, or a crash that loses what was never acknowledged looks like a step
/// back. Each report takes `log m` for `m` pairs of replica and key.
#[derive(Clone, Debug, Default)]
pub struct Monotonic {
    held: BTreeMap<(NodeId, u64), BTreeMap<Key, Version>>,
}

impl Monotonic {
    /// Knows of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in that `node` in this incarnation now holds `version` of `key`.
    ///
    /// # Errors
    /// [`Fault::WentBack`] if it held a greater one. What counts from then on is the lesser.
    pub fn holds(
        &mut self,
        node: NodeId,
        incarnation: u64,
        key: &Key,
        version: Version,
    ) -> Result<(), Violation> {
        let held = self.held.entry((node, incarnation)).or_default();
        match held.insert(key.clone(), version) {
            Some(before) if version < before => {
                let fault = Fault::WentBack { node, incarnation, before, after: version };
                Err(Violation::new(key, [], fault))
            }
            _ => Ok(()),
        }
    }

    /// Takes in that `node` dropped its tombstone of `key`, as it may once nothing older is left.
    pub fn dropped(&mut self, node: NodeId, incarnation: u64, key: &Key) {
        if let Some(held) = self.held.get_mut(&(node, incarnation)) {
            held.remove(key);
        }
    }
}
