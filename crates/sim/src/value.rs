//! Values that say which write they are of.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_record::{Key, NodeId};

/// The values that were written, by number.
#[derive(Debug, Default)]
pub(crate) struct Values {
    lengths: BTreeMap<u64, usize>,
    /// The numbers of writes of a value that was written before, by that value and who coordinates.
    again: BTreeMap<(u64, NodeId), u64>,
    /// The one empty value that each key may have.
    empty: BTreeMap<Key, u64>,
    last: u64,
}

/// The shortest value that names its write.
const NUMBER_BYTES: usize = 8;

impl Values {
    /// A number for a write without a value.
    pub(crate) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// A new value for this key with about so many bytes. Only one of a key can be empty, as nothing tells two apart.
    pub(crate) fn make(&mut self, key: &Key, len: usize) -> (u64, Bytes) {
        let number = self.number();
        let len = match len {
            0 if !self.empty.contains_key(key) => {
                self.empty.insert(key.clone(), number);
                0
            }
            len => len.max(NUMBER_BYTES),
        };
        self.lengths.insert(number, len);
        (number, content(number, len))
    }

    /// A number for one more write of the value with this number, coordinated by a node that has not written it before.
    pub(crate) fn again(&mut self, number: u64, coordinator: NodeId) -> u64 {
        let again = self.number();
        let earlier = self.again.insert((number, coordinator), again);
        assert!(earlier.is_none(), "{coordinator} writes {number} twice");
        again
    }

    /// Which of the writes of a value it was whose record has a version of this node.
    pub(crate) fn try_of(&self, number: u64, coordinator: NodeId) -> u64 {
        self.again.get(&(number, coordinator)).copied().unwrap_or(number)
    }

    /// Which write this is the value of, if it is just that.
    pub(crate) fn number_of(&self, key: &Key, value: &Bytes) -> Option<u64> {
        if value.is_empty() {
            return self.empty.get(key).copied();
        }
        let number = u64::from_le_bytes(*value.first_chunk()?);
        let len = *self.lengths.get(&number)?;
        (content(number, len) == *value).then_some(number)
    }
}

fn content(number: u64, len: usize) -> Bytes {
    let [filler, ..] = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let mut bytes = vec![filler; len];
    if let Some(head) = bytes.first_chunk_mut() {
        *head = number.to_le_bytes();
    }
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_name_their_writes_and_changed_ones_do_not() {
        let key = Key::new("k").unwrap();
        let mut values = Values::default();
        let (first, long) = values.make(&key, 100);
        let (second, empty) = values.make(&key, 0);
        let (third, short) = values.make(&key, 0);
        assert_eq!((long.len(), empty.len(), short.len()), (100, 0, NUMBER_BYTES));
        for (number, value) in [(first, &long), (second, &empty), (third, &short)] {
            assert_eq!(values.number_of(&key, value), Some(number));
        }
        let [one, other] = ["n1", "n2"].map(|name| NodeId::new(name).unwrap());
        let again = values.again(first, other);
        assert_eq!((values.try_of(first, one), values.try_of(first, other)), (first, again));
        let mut changed = long.to_vec();
        changed[50] ^= 1;
        assert_eq!(values.number_of(&key, &changed.into()), None);
        assert_eq!(values.number_of(&key, &long.slice(..99)), None);
        assert_eq!(values.number_of(&Key::new("other").unwrap(), &empty), None);
    }
}
