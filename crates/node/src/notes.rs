use std::collections::BTreeMap;

use quorate_record::{MAX_NODE_ID_BYTES, NodeId, Timestamp};

/// The version of the form that [`Notes::encode`] writes.
const FORM: u8 = 1;

/// What a node must find again after a restart, besides records, hints and the clock's ceiling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The incarnation under which the node counts in quorums; in any other it has lost data and is to be filled first.
    pub counted: u64,
    /// It takes on no new version below this, as a replica or as a holder of hints.
    pub floor: Timestamp,
    /// It holds every acknowledged write below this, so what is absent and below it is deleted.
    pub horizon: Timestamp,
    /// The latest incarnation of each peer that it has met.
    pub lives: BTreeMap<NodeId, u64>,
}

/// Why some bytes are no [`Notes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the notes of a node cannot be read: they are damaged, or another version of this program wrote them"
)]
pub struct NotesError;

impl Notes {
    /// The bytes to keep: at most about 42 for each peer.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORM];
        for field in [self.counted, self.floor.bits(), self.horizon.bits()] {
            bytes.extend(field.to_le_bytes());
        }
        for (node, incarnation) in &self.lives {
            let name: &[u8] = node.as_ref();
            bytes.push(u8::try_from(name.len()).expect("node ids are short"));
            bytes.extend(name);
            bytes.extend(incarnation.to_le_bytes());
        }
        bytes
    }

    /// Reads back what [`encode`](Self::encode) has written.
    ///
    /// # Errors
    /// [`NotesError`] if `bytes` are anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotesError> {
        let parse = || {
            let (&form, mut rest) = bytes.split_first()?;
            let counted = long(&mut rest)?;
            let [floor, horizon] = [long(&mut rest)?, long(&mut rest)?].map(Timestamp::from_bits);
            let mut lives = BTreeMap::new();
            while let Some((&len, more)) = rest.split_first() {
                let (name, more) = more.split_at_checked(usize::from(len))?;
                rest = more;
                let node = NodeId::new(std::str::from_utf8(name).ok()?).ok()?;
                lives.insert(node, long(&mut rest)?);
            }
            (form == FORM).then_some(Self { counted, floor, horizon, lives })
        };
        parse().ok_or(NotesError)
    }
}

const _: () = assert!(MAX_NODE_ID_BYTES <= u8::MAX as usize);

fn long(rest: &mut &[u8]) -> Option<u64> {
    let (bytes, more) = rest.split_first_chunk()?;
    *rest = more;
    Some(u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes() -> Notes {
        let lives = ["n2", "n10"].map(|name| (NodeId::new(name).unwrap(), 0x0102));
        Notes {
            counted: 7,
            floor: Timestamp::from_bits(9),
            horizon: Timestamp::from_bits(8),
            lives: lives.into(),
        }
    }

    #[test]
    fn the_bytes_are_frozen_and_read_back() {
        let bytes = notes().encode();
        let numbers = [7, 9, 8_u64].map(u64::to_le_bytes).concat();
        let life = 0x0102_u64.to_le_bytes();
        assert_eq!(bytes, [&[1], &numbers[..], b"\x03n10", &life, b"\x02n2", &life].concat());
        assert_eq!(Notes::decode(&bytes), Ok(notes()));
        let none = Notes::default();
        assert_eq!(Notes::decode(&none.encode()), Ok(none));
    }

    #[test]
    fn what_is_cut_within_a_field_or_of_another_form_is_refused() {
        let bytes = notes().encode();
        for len in (0..bytes.len()).filter(|len| ![25, 37].contains(len)) {
            assert_eq!(Notes::decode(&bytes[..len]), Err(NotesError), "{len} bytes");
        }
        assert_eq!(Notes::decode(&[&[2], &bytes[1..]].concat()), Err(NotesError));
    }
}
