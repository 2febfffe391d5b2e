//! What the index names in each segment of the log.

use std::collections::BTreeMap;

use crate::index::Entry;

/// What is named in a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// Bytes of frames that are good, as far as is known.
    pub(crate) live_bytes: u64,
    /// Frames that are not.
    pub(crate) damaged: u64,
}

/// What is named everywhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    segments: BTreeMap<u64, Named>,
    live_bytes: u64,
}

impl Usage {
    /// Takes in an entry of the index.
    pub(crate) fn add(&mut self, entry: &Entry) {
        let named = self.segments.entry(entry.place().segment).or_default();
        named.live_bytes += entry.live_bytes();
        named.damaged += u64::from(entry.is_damaged());
        self.live_bytes += entry.live_bytes();
    }

    /// Takes out an entry that was in the index.
    pub(crate) fn remove(&mut self, entry: &Entry) {
        if let Some(named) = self.segments.get_mut(&entry.place().segment) {
            named.live_bytes -= entry.live_bytes();
            named.damaged -= u64::from(entry.is_damaged());
            self.live_bytes -= entry.live_bytes();
        }
    }

    /// What is named in a segment.
    pub(crate) fn of(&self, segment: u64) -> Named {
        self.segments.get(&segment).copied().unwrap_or_default()
    }

    /// The segments in which something good is named.
    pub(crate) fn live_segments(&self) -> impl Iterator<Item = u64> {
        self.segments.iter().filter(|(_, named)| named.live_bytes > 0).map(|(number, _)| *number)
    }

    /// Bytes of good frames that are named anywhere.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Forgets a segment.
    pub(crate) fn give_up(&mut self, segment: u64) {
        self.live_bytes -= self.segments.remove(&segment).unwrap_or_default().live_bytes;
    }
}
