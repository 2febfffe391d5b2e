use std::fmt;

use bytes::Bytes;

/// Most bytes a [`Key`] may have.
pub const MAX_KEY_BYTES: usize = 1024;

/// A key: 1 to [`MAX_KEY_BYTES`] bytes, any bytes, opaque (never a path, never normalised).
///
/// Cheap to clone: the bytes are shared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

/// Why some bytes are no [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No bytes at all.
    #[error("a key has at least one byte")]
    Empty,
    /// More than [`MAX_KEY_BYTES`].
    #[error("a key of {len_bytes} bytes is longer than {MAX_KEY_BYTES}")]
    TooLong {
        /// How many bytes there were.
        len_bytes: usize,
    },
}

impl Key {
    /// Takes `bytes` as a key.
    ///
    /// # Errors
    /// [`KeyError`] if it is empty or too long.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, KeyError> {
        let bytes = bytes.into();
        match bytes.len() {
            0 => Err(KeyError::Empty),
            1..=MAX_KEY_BYTES => Ok(Self(bytes)),
            len_bytes => Err(KeyError::TooLong { len_bytes }),
        }
    }

    /// The key's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same key in an allocation of its own, so that keeping it does not keep a whole receive
    /// buffer alive.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// For logs: escaped, and cut after 64 bytes.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_BYTES: usize = 64;
        let shown = &self.0[..self.0.len().min(SHOWN_BYTES)];
        write!(f, "{}", shown.escape_ascii())?;
        if self.0.len() > SHOWN_BYTES {
            write!(f, "… ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_from_one_to_1024_are_a_key() {
        assert_eq!(Key::new(""), Err(KeyError::Empty));
        assert!(Key::new(vec![0u8]).is_ok());
        assert!(Key::new(vec![0xff; MAX_KEY_BYTES]).is_ok());
        assert_eq!(Key::new(vec![0; 1025]), Err(KeyError::TooLong { len_bytes: 1025 }));
    }

    #[test]
    fn a_key_in_a_log_line_is_escaped_and_short() {
        assert_eq!(Key::new(&b"a\n\xff"[..]).unwrap().to_string(), r"a\n\xff");
        assert!(Key::new(vec![0xff; 1024]).unwrap().to_string().len() < 300);
    }
}
