use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use siphasher::sip::SipHasher13;

/// What a key is known by in memory: two keys practically never have the same.
///
/// Ordered by the token first, so that a range of the token space is a range of positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// Where the key is in the token space. Keys can be made that share theirs.
    pub(crate) token: u64,
    /// A hash of the key that depends on the store's [`Secret`], so that nobody outside can make two keys share both.
    pub(crate) check: u64,
}

/// A store's own key for hashing its records' keys. It has to stay the same for as long as positions are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) [u8; 16]);

impl Position {
    /// The least one with this token.
    pub(crate) fn first_of(token: u64) -> Self {
        Self { token, check: 0 }
    }

    /// The greatest one with this token.
    pub(crate) fn last_of(token: u64) -> Self {
        Self { token, check: u64::MAX }
    }
}

impl Hash for Position {
    /// The check alone: it is a keyed hash of all of the key.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.check);
    }
}

/// For maps of positions, whose hash is not hashed again.
pub(crate) type BuildPositionHasher = BuildHasherDefault<PositionHasher>;

/// Takes a [`Position`]'s check as it is.
#[derive(Default)]
pub(crate) struct PositionHasher(u64);

impl Hasher for PositionHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a position is hashed as one number");
    }

    fn write_u64(&mut self, check: u64) {
        self.0 = check;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Secret {
    /// The position of a key that has this token.
    pub(crate) fn position(&self, token: u64, key: &[u8]) -> Position {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(key);
        Position { token, check: hasher.finish() }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_ordered_by_token_then_check() {
        let [a, b] = [Position::last_of(3), Position::first_of(4)];
        assert!(Position::first_of(3) < a && a < b);
    }

    #[test]
    fn checks_are_siphash_1_3_and_depend_on_the_secret() {
        let secret = Secret(std::array::from_fn(|at| u8::try_from(at).unwrap()));
        let key: Vec<u8> = (0..15).collect();
        // From the test vectors of SipHash-1-3: files keep these hashes.
        assert_eq!(secret.position(7, &[]).check, CHECK_EMPTY_GOLDEN);
        assert_eq!(secret.position(7, &key).check, CHECK_GOLDEN);
        assert_ne!(Secret([1; 16]).position(7, &key).check, CHECK_GOLDEN);
    }
    const CHECK_EMPTY_GOLDEN: u64 = 0xabac_0158_050f_c4dc;
    const CHECK_GOLDEN: u64 = 0xd320_d86d_2a51_9956;
}
