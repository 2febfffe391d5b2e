use bytes::Bytes;
use quorate_record::{
    Version, decode_hint, decode_record, decode_record_view, decode_version, encode_hint,
    encode_record, encode_version,
};

use crate::within;

/// How many bytes of memory reading may take: keys and values are not copied, and an error quotes a
/// node id of at most 255 bytes.
const MEMORY: usize = 4096;

/// Bytes are refused, or are the one form of a record, a hint or a version; a record is the same
/// whether it is read out or looked at in place. The text of a version has one form, too.
pub fn record(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let mut again = Vec::new();

    let record = within(MEMORY, || decode_record(&bytes));
    let view = within(MEMORY, || decode_record_view(&bytes));
    match (record, view) {
        (Ok((key, record)), Ok(view)) => {
            assert_eq!((view.key, view.version), (key.as_bytes(), record.version));
            assert_eq!((view.value, view.expires_ms), (record.value.as_deref(), record.expires_ms));
            assert_eq!(view.stamp(), record.stamp());
            encode_record(&key, &record, &mut again);
            assert_eq!(again, bytes, "another form of {record:?}");
        }
        (Err(_), Err(_)) => {}
        (record, view) => panic!("{record:?}, but seen in place {view:?}"),
    }

    if let Ok(hint) = within(MEMORY, || decode_hint(&bytes)) {
        again.clear();
        encode_hint(&hint, &mut again);
        assert_eq!(again, bytes, "another form of {hint:?}");
    }

    if let Ok(version) = decode_version(&bytes) {
        again.clear();
        encode_version(&version, &mut again);
        assert_eq!(again, bytes, "another form of {version}");
        assert_eq!(version.to_string().parse(), Ok(version));
    }

    if let Some(version) = std::str::from_utf8(input).ok().and_then(|text| text.parse().ok()) {
        let version: Version = version;
        assert_eq!(version.to_string().parse(), Ok(version));
    }
}
