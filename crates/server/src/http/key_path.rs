use std::borrow::Cow;

use bytes::Bytes;
use quorate_record::Key;

use super::problem::Problem;

/// The key of `/kv/{key}`: `raw`, percent-decoded exactly once and otherwise taken as it is.
///
/// # Errors
/// `400` on a bad escape, on nothing at all, and on more than a key may have.
pub(super) fn key(raw: &str) -> Result<Key, Problem> {
    let bytes = decoded(raw)
        .ok_or_else(|| Problem::bad("key", "a % is not followed by two hexadecimal digits"))?;
    let bytes = match bytes {
        Cow::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    Key::new(bytes).map_err(|error| Problem::bad("key", error.to_string()))
}

/// Percent-decodes once; `None` if a `%` is not followed by two hexadecimal digits, which lenient
/// decoders let through and which would make two spellings of different keys the same.
pub(super) fn decoded(raw: &str) -> Option<Cow<'_, [u8]>> {
    let Some(first) = raw.find('%') else { return Some(Cow::Borrowed(raw.as_bytes())) };
    let (plain, mut rest) = raw.as_bytes().split_at(first);
    let mut bytes = Vec::with_capacity(raw.len());
    bytes.extend_from_slice(plain);
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let (&[high, low], tail) = tail.split_first_chunk()?;
        bytes.push(digit(high)? << 4 | digit(low)?);
        rest = tail;
    }
    Some(Cow::Owned(bytes))
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_key(raw: &str, bytes: &[u8]) {
        assert_eq!(key(raw).unwrap().as_bytes(), bytes, "{raw}");
    }

    #[test]
    fn a_key_is_decoded_once_and_never_normalised() {
        assert_key("cat", b"cat");
        assert_key("a//b/../c/.", b"a//b/../c/.");
        assert_key("a%2Fb%2f..%2F", b"a/b/../");
        assert_key("%2541", b"%41");
        assert_key("%00%ff", b"\0\xff");
        assert_key("a+b", b"a+b");
    }

    #[test]
    fn bad_escapes_are_refused() {
        for raw in ["%", "a%2", "%zz", "%2x", "%%41", "%+1", "%é1"] {
            assert_eq!(key(raw).unwrap_err().status(), 400, "{raw}");
        }
    }

    #[test]
    fn a_key_has_1_to_1024_bytes_after_decoding() {
        assert!(key("").is_err());
        assert!(key(&"%ff".repeat(1024)).is_ok());
        assert!(key(&"a".repeat(1025)).is_err());
    }
}
