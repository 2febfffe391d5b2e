//! What a run reached, so that nobody takes silence for a test.

use std::collections::BTreeMap;

/// The rare states that some thousand seeds of the default profile must have reached.
pub(crate) const RARE: &[&str] = &[
    "state: restart",
    "state: crash between two actions",
    "state: power lost within a turn",
    "state: crash during recovery",
    "state: all nodes down at once",
    "state: torn tail cut",
    "state: log failed",
    "state: start failed",
    "state: write refused by a full disk",
    "state: damage found in a log",
    "state: damage in a log healed by peers",
    "state: damaged record asked of other owners",
    "state: clock 10 s ahead",
    "state: clock 10 s behind",
    "state: version too far ahead refused",
    "state: write refused for the clock",
    "state: write in a second round",
    "state: write acknowledged in its second round",
    "state: second round superseded by a concurrent write",
    "state: write rejected",
    "state: fallback counted for a write",
    "state: fallback counted for a read",
    "state: read hedged",
    "state: tombstone sent by read repair",
    "state: hint delivered",
    "state: hint expired",
    "state: hint dropped for space",
    "state: hint refused for space",
    "state: hint for a node that holds newer",
    "state: hints written again",
    "state: one-way partition during handoff",
    "state: record moved by anti-entropy",
    "state: exchange aborted",
    "state: snapshot made",
    "state: corrupt frame caught",
];

/// How often each kind of fault happened and each rare state was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    /// Counts one.
    pub fn count(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    /// Counts so many.
    pub fn add(&mut self, what: &'static str, times: u64) {
        if times > 0 {
            *self.0.entry(what).or_default() += times;
        }
    }

    /// Adds what another run reached.
    pub fn merge(&mut self, other: &Coverage) {
        for (what, times) in &other.0 {
            self.add(what, *times);
        }
    }

    /// How often it happened.
    #[must_use]
    pub fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    /// All that happened, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().map(|(what, times)| (*what, *times))
    }
}
