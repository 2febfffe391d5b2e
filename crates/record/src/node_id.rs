use std::{cmp::Ordering, fmt, str::FromStr};

/// Most bytes a [`NodeId`] may have.
pub const MAX_NODE_ID_BYTES: usize = 32;

/// The name of a node: 1 to 32 of `A-Z a-z 0-9 . _ -`, kept inline so that it is `Copy`.
///
/// Ordered like its text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId([u8; MAX_NODE_ID_BYTES]); // padded with zeros, which no name contains

/// Why some text is no [`NodeId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no node id: 1 to {MAX_NODE_ID_BYTES} of A-Z a-z 0-9 . _ -")]
pub struct NodeIdError {
    text: String,
}

impl NodeId {
    /// Takes `text` as a node id.
    ///
    /// # Errors
    /// [`NodeIdError`] if it is empty, too long, or has other characters.
    pub fn new(text: &str) -> Result<Self, NodeIdError> {
        Self::from_bytes(text.as_bytes())
            .ok_or_else(|| NodeIdError { text: text.chars().take(2 * MAX_NODE_ID_BYTES).collect() })
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let named = !bytes.is_empty() && bytes.iter().all(|&byte| is_allowed(byte));
        let mut padded = [0; MAX_NODE_ID_BYTES];
        padded.get_mut(..bytes.len())?.copy_from_slice(bytes);
        named.then_some(Self(padded))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_ref()).expect("only ASCII was let in")
    }

    /// The bytes as numbers, which compare in no time and in the same order.
    fn words(&self) -> [u128; 2] {
        let (words, _) = self.0.as_chunks();
        [u128::from_be_bytes(words[0]), u128::from_be_bytes(words[1])]
    }
}

impl Ord for NodeId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.words().cmp(&other.words())
    }
}

impl PartialOrd for NodeId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

impl AsRef<[u8]> for NodeId {
    fn as_ref(&self) -> &[u8] {
        let len = self.0.iter().position(|&byte| byte == 0).unwrap_or(MAX_NODE_ID_BYTES);
        &self.0[..len]
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        Self::new(text)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_plain_names() {
        let longest = "a".repeat(32);
        for good in ["n1", "A.b_c-9", longest.as_str()] {
            assert_eq!(NodeId::new(good).unwrap().as_str(), good);
        }
        let too_long = "a".repeat(33);
        for bad in ["", "a b", "n/1", "ä", "n\0", too_long.as_str()] {
            assert!(NodeId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_are_ordered_like_their_text() {
        let mut ids = ["n10", "n1", "n2", "N", "n"].map(|id| NodeId::new(id).unwrap());
        ids.sort();
        assert_eq!(ids.map(|id| id.to_string()), ["N", "n", "n1", "n10", "n2"]);
    }
}
