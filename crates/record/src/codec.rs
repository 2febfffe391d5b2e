//! The canonical bytes of records, on disk and on the wire; the only place of this crate that knows
//! bincode. Integers are little-endian and of fixed width, so that every field of a given key and
//! value length has a fixed place.

mod counted;

use bincode::{
    BorrowDecode, Encode,
    config::{Configuration, Fixint, Limit, LittleEndian},
    enc::write::Writer as Output,
    error::EncodeError,
};
use bytes::Bytes;

use self::counted::Counted;
use crate::{
    Hint, HintKind, Key, MAX_KEY_BYTES, MAX_VALUE_BYTES, NodeId, Record, RecordView, Timestamp,
    Version, Writer,
};

/// Most bytes an encoded record or hint has.
pub const MAX_ENCODED_BYTES: usize = MAX_VALUE_BYTES + 2048;
const _: () = assert!(MAX_VALUE_BYTES + MAX_KEY_BYTES + 256 < MAX_ENCODED_BYTES);

const CONFIG: Configuration<LittleEndian, Fixint, Limit<MAX_ENCODED_BYTES>> =
    bincode::config::standard()
        .with_little_endian()
        .with_fixed_int_encoding()
        .with_limit::<MAX_ENCODED_BYTES>();

/// Why some bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end early, a length or tag in them is impossible, or they are too long.
    #[error("malformed bytes: {0}")]
    Malformed(String),
    /// There are more of them than the form has.
    #[error("{count} bytes too many")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A key that is empty or too long, a value that is too long, or a bad node id.
    #[error("bad field: {0}")]
    BadField(String),
}

type NodeForm<'a> = Counted<'a, 1>;

#[derive(Encode, BorrowDecode)]
struct VersionForm<'a> {
    timestamp: u64,
    incarnation: u64,
    node: NodeForm<'a>,
}

#[derive(Encode, BorrowDecode)]
struct RecordForm<'a> {
    version: VersionForm<'a>,
    key: Counted<'a, 2>,
    expires_ms: Option<u64>,
    value: Option<Counted<'a, 4>>,
}

#[derive(Encode, BorrowDecode)]
struct HintForm<'a> {
    added_ms: u64,
    owed: bool,
    target: NodeForm<'a>,
    record: RecordForm<'a>,
}

/// Appends the bytes of a record to `out`.
pub fn encode_record(key: &Key, record: &Record, out: &mut Vec<u8>) {
    encode(&RecordForm::of(key, record), out);
}

/// Reads a record back; its key and value share the memory of `bytes`.
///
/// # Errors
/// [`DecodeError`] unless `bytes` are exactly what [`encode_record`] writes. Nothing is allocated
/// for a length that `bytes` do not hold.
pub fn decode_record(bytes: &Bytes) -> Result<(Key, Record), DecodeError> {
    decode::<RecordForm<'_>>(bytes)?.into_record(bytes)
}

/// Reads a record where it lies: nothing is copied or allocated.
///
/// # Errors
/// [`DecodeError`] where [`decode_record`] would give one.
pub fn decode_record_view(bytes: &[u8]) -> Result<RecordView<'_>, DecodeError> {
    decode::<RecordForm<'_>>(bytes)?.into_view()
}

/// Appends the bytes of a version to `out`.
pub fn encode_version(version: &Version, out: &mut Vec<u8>) {
    encode(&VersionForm::of(version), out);
}

/// Reads a version back.
///
/// # Errors
/// [`DecodeError`] unless `bytes` are exactly what [`encode_version`] writes.
pub fn decode_version(bytes: &[u8]) -> Result<Version, DecodeError> {
    decode::<VersionForm<'_>>(bytes)?.into_version()
}

/// Appends the bytes of a hint to `out`.
pub fn encode_hint(hint: &Hint, out: &mut Vec<u8>) {
    let form = HintForm {
        added_ms: hint.added_ms,
        owed: hint.kind == HintKind::Owed,
        target: Counted(hint.target.as_ref()),
        record: RecordForm::of(&hint.key, &hint.record),
    };
    encode(&form, out);
}

/// Reads a hint back; its key and value share the memory of `bytes`.
///
/// # Errors
/// [`DecodeError`] unless `bytes` are exactly what [`encode_hint`] writes.
pub fn decode_hint(bytes: &Bytes) -> Result<Hint, DecodeError> {
    let HintForm { added_ms, owed, target, record } = decode(bytes)?;
    let (key, record) = record.into_record(bytes)?;
    let kind = if owed { HintKind::Owed } else { HintKind::Courtesy };
    Ok(Hint { target: node_id(target)?, key, record, kind, added_ms })
}

impl<'a> VersionForm<'a> {
    fn of(version: &'a Version) -> Self {
        let Version { timestamp, writer } = version;
        Self {
            timestamp: timestamp.bits(),
            incarnation: writer.incarnation,
            node: Counted(writer.node.as_ref()),
        }
    }

    fn into_version(self) -> Result<Version, DecodeError> {
        Ok(Version {
            timestamp: Timestamp::from_bits(self.timestamp),
            writer: Writer { node: node_id(self.node)?, incarnation: self.incarnation },
        })
    }
}

impl<'a> RecordForm<'a> {
    fn of(key: &'a Key, record: &'a Record) -> Self {
        Self {
            version: VersionForm::of(&record.version),
            key: Counted(key.as_bytes()),
            expires_ms: record.expires_ms,
            value: record.value.as_deref().map(Counted),
        }
    }

    fn into_view(self) -> Result<RecordView<'a>, DecodeError> {
        let Self { version, key: Counted(key), expires_ms, value } = self;
        let value = value.map(|Counted(value)| value);
        let (key_bytes, value_bytes) = (key.len(), value.map_or(0, <[u8]>::len));
        if key_bytes == 0 || key_bytes > MAX_KEY_BYTES {
            return Err(DecodeError::BadField(format!("a key of {key_bytes} bytes")));
        }
        if value_bytes > MAX_VALUE_BYTES {
            return Err(DecodeError::BadField(format!("a value of {value_bytes} bytes")));
        }
        Ok(RecordView { key, version: version.into_version()?, expires_ms, value })
    }

    /// `bytes` are the ones that this form borrows from.
    fn into_record(self, bytes: &Bytes) -> Result<(Key, Record), DecodeError> {
        let RecordView { key, version, expires_ms, value } = self.into_view()?;
        let key = Key::new(bytes.slice_ref(key))
            .map_err(|error| DecodeError::BadField(error.to_string()))?;
        let value = value.map(|value| bytes.slice_ref(value));
        Ok((key, Record { version, expires_ms, value }))
    }
}

fn node_id(Counted(bytes): NodeForm<'_>) -> Result<NodeId, DecodeError> {
    NodeId::from_bytes(bytes)
        .ok_or_else(|| DecodeError::BadField(format!("{} is no node id", bytes.escape_ascii())))
}

struct Append<'a>(&'a mut Vec<u8>);

impl Output for Append<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fn encode(form: &impl Encode, out: &mut Vec<u8>) {
    bincode::encode_into_writer(form, Append(out), CONFIG)
        .expect("writing into memory cannot fail");
}

fn decode<'a, T: BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    let (form, read) = bincode::borrow_decode_from_slice(bytes, CONFIG)
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    match bytes.len() - read {
        0 => Ok(form),
        count => Err(DecodeError::TrailingBytes { count }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hint() -> Hint {
        let writer = Writer { node: NodeId::new("n1").unwrap(), incarnation: 0x5f0c_21aa };
        let timestamp = Timestamp::from_bits(0x0191_f3c2_a4b7_0003);
        Hint {
            target: NodeId::new("n2").unwrap(),
            key: Key::new("cat").unwrap(),
            record: Record::live(Version { timestamp, writer }, "meow"),
            kind: HintKind::Owed,
            added_ms: 0x0102_0304,
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    const VERSION: &str = "0300b7a4c2f39101aa210c5f00000000026e31";

    #[test]
    fn the_bytes_of_a_record_are_frozen() {
        let Hint { key, mut record, .. } = hint();
        let mut bytes = Vec::new();
        encode_record(&key, &record, &mut bytes);
        assert_eq!(hex(&bytes), format!("{VERSION}0300636174{}{}", "00", "01040000006d656f77"));

        record.expires_ms = Some(0x0506_0708);
        bytes.clear();
        encode_record(&key, &record, &mut bytes);
        let expires = "010807060500000000";
        assert_eq!(hex(&bytes), format!("{VERSION}0300636174{expires}01040000006d656f77"));

        record = Record::tombstone(record.version);
        bytes.clear();
        encode_record(&key, &record, &mut bytes);
        assert_eq!(hex(&bytes), format!("{VERSION}0300636174{}{}", "00", "00"));

        bytes.clear();
        encode_version(&record.version, &mut bytes);
        assert_eq!(hex(&bytes), VERSION);
        assert_eq!(decode_version(&bytes), Ok(record.version));
    }

    #[test]
    fn the_bytes_of_a_hint_are_frozen() {
        let mut bytes = Vec::new();
        encode_hint(&hint(), &mut bytes);
        let head = "040302010000000001026e32";
        let record = format!("{VERSION}03006361740001040000006d656f77");
        assert_eq!(hex(&bytes), format!("{head}{record}"));
        assert_eq!(decode_hint(&bytes.into()), Ok(hint()));
    }

    #[test]
    fn every_shorter_and_every_longer_input_is_refused() {
        let mut bytes = Vec::new();
        encode_hint(&hint(), &mut bytes);
        for len in 0..bytes.len() {
            assert!(decode_hint(&Bytes::copy_from_slice(&bytes[..len])).is_err(), "{len}");
        }
        bytes.push(0);
        let too_long = DecodeError::TrailingBytes { count: 1 };
        assert_eq!(decode_hint(&bytes.into()), Err(too_long));
    }

    #[test]
    fn a_length_that_is_not_there_is_refused() {
        let Hint { key, record, .. } = hint();
        let mut bytes = Vec::new();
        encode_record(&key, &record, &mut bytes);
        for (count_at, count_bytes) in [(16, 1), (19, 2), (26, 4)] {
            let mut garbage = bytes.clone();
            garbage[count_at..count_at + count_bytes].fill(0xff);
            assert!(decode_record(&garbage.into()).is_err());
        }
    }

    #[test]
    fn what_breaks_a_limit_is_refused() {
        let Hint { key, record, .. } = hint();
        let form = |key, value| RecordForm {
            version: VersionForm::of(&record.version),
            key: Counted(key),
            expires_ms: None,
            value: Some(Counted(value)),
        };
        let (long_key, long_value) = (vec![0; MAX_KEY_BYTES + 1], vec![0; MAX_VALUE_BYTES + 1]);
        for (key, value) in [(&b""[..], &b""[..]), (&long_key, b""), (key.as_bytes(), &long_value)]
        {
            let mut bytes = Vec::new();
            encode(&form(key, value), &mut bytes);
            let refused = decode_record_view(&bytes).unwrap_err();
            assert!(matches!(refused, DecodeError::BadField(_)), "{refused}");
        }
    }

    fn records() -> impl Strategy<Value = (Key, Record)> {
        let key = prop::collection::vec(any::<u8>(), 1..=64);
        let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..300));
        (key, "[A-Za-z0-9._-]{1,32}", any::<(u64, u64, Option<u64>)>(), value).prop_map(
            |(key, node, (timestamp, incarnation, expires_ms), value)| {
                let writer = Writer { node: NodeId::new(&node).expect("a good id"), incarnation };
                let version = Version { timestamp: Timestamp::from_bits(timestamp), writer };
                let record = Record { version, expires_ms, value: value.map(Bytes::from) };
                (Key::new(key).expect("a good key"), record)
            },
        )
    }

    proptest! {
        #[test]
        fn decoding_inverts_encoding((key, record) in records()) {
            let mut bytes = Vec::new();
            encode_record(&key, &record, &mut bytes);
            let view = decode_record_view(&bytes).expect("just encoded");
            prop_assert_eq!((view.key, view.value), (key.as_bytes(), record.value.as_deref()));
            prop_assert_eq!(view.expires_ms, record.expires_ms);
            prop_assert_eq!(view.stamp(), record.stamp());
            prop_assert_eq!(decode_record(&bytes.into()), Ok((key, record)));
        }

        #[test]
        fn any_bytes_are_refused_or_are_the_one_form_of_a_record(
            (key, record) in records(), at in any::<prop::sample::Index>(), flip in 1u8..,
        ) {
            let mut bytes = Vec::new();
            encode_record(&key, &record, &mut bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let bytes = Bytes::from(bytes);
            if let Ok((key, record)) = decode_record(&bytes) {
                let mut again = Vec::new();
                encode_record(&key, &record, &mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
