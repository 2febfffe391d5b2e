use crate::{Stamp, Version, record::content_hash};

/// A record and its key where they lie encoded: what a log or a snapshot is scanned with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// The bytes of the key, which are within a [`Key`](crate::Key)'s limits.
    pub key: &'a [u8],
    /// Where it stands among the records of its key.
    pub version: Version,
    /// When it ends, see [`Record::expires_ms`](crate::Record::expires_ms).
    pub expires_ms: Option<u64>,
    /// The value; `None` in a tombstone.
    pub value: Option<&'a [u8]>,
}

impl RecordView<'_> {
    /// Whether this is a stored delete.
    #[must_use]
    pub const fn is_tombstone(&self) -> bool {
        self.value.is_none()
    }

    /// The same as [`Record::content_hash`](crate::Record::content_hash); reads the whole value.
    #[must_use]
    pub fn content_hash(&self) -> u64 {
        content_hash(self.value, self.expires_ms)
    }

    /// The record without its bytes; reads the whole value.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp { version: self.version, content: self.content_hash() }
    }
}
