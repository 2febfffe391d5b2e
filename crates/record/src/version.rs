use std::{fmt, str::FromStr};

use crate::{MAX_NODE_ID_BYTES, NodeId};

/// A hybrid timestamp: 48 bits of milliseconds since the Unix epoch, then 16 bits of counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// Who issued a version: a node in one of its lives.
///
/// A node that lost its disk draws a new incarnation, so that it cannot issue a version twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Writer {
    /// The node.
    pub node: NodeId,
    /// Which of its lives; later ones are greater.
    pub incarnation: u64,
}

/// What orders the records of a key: the timestamp, then the writer.
///
/// Its text form is 16 hex digits of the timestamp, `-`, the node id, `.`, the incarnation in hex:
/// `0191f3c2a4b70003-n1.5f0c21aa`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// When it was written, by the writer's hybrid clock.
    pub timestamp: Timestamp,
    /// Who wrote it.
    pub writer: Writer,
}

/// Why some text is no [`Version`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a version reads like 0191f3c2a4b70003-n1.5f0c21aa")]
pub struct VersionError;

impl Timestamp {
    /// Before every issued timestamp.
    pub const ZERO: Self = Self(0);

    /// The first timestamp of a millisecond. Milliseconds past 48 bits (the year 10889) saturate.
    #[must_use]
    pub const fn from_wall_ms(wall_ms: u64) -> Self {
        const LAST_MS: u64 = (1 << 48) - 1;
        Self(if wall_ms > LAST_MS { LAST_MS } else { wall_ms } << 16)
    }

    /// Takes all 64 bits as they are.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// All 64 bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The milliseconds since the Unix epoch.
    #[must_use]
    pub const fn wall_ms(self) -> u64 {
        self.0 >> 16
    }

    /// The next greater timestamp; the counter carries over into the milliseconds.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every answer to a client carries this text: one piece costs a third of five.
        let Writer { node, incarnation } = self.writer;
        let mut text = [0; 16 + 1 + MAX_NODE_ID_BYTES + 1 + 16];
        let mut len = 0;
        let mut push = |bytes: &[u8]| {
            text[len..len + bytes.len()].copy_from_slice(bytes);
            len += bytes.len();
        };
        push(&hex_digits(self.timestamp.0));
        push(b"-");
        push(node.as_ref());
        push(b".");
        let digits = hex_digits(incarnation);
        let zeros = digits[..15].iter().take_while(|&&digit| digit == b'0').count();
        push(&digits[zeros..]);
        f.write_str(std::str::from_utf8(&text[..len]).expect("digits and node ids are ASCII"))
    }
}

impl Version {
    /// Above every version with a lesser timestamp, and below every other one that any node issues.
    ///
    /// # Panics
    /// Never: the name of its writer is one.
    #[must_use]
    pub fn buried(horizon: Timestamp) -> Self {
        let node = NodeId::new(LEAST_NAME).expect("a good name");
        Self { timestamp: horizon, writer: Writer { node, incarnation: NO_LIFE } }
    }

    /// Whether no node has issued it: it is that of [`Record::buried`](crate::Record::buried).
    #[must_use]
    pub fn is_buried(&self) -> bool {
        self.writer.incarnation == NO_LIFE && self.writer.node.as_str() == LEAST_NAME
    }
}

/// The least of all names that a node may have.
const LEAST_NAME: &str = "-";
/// An incarnation that no node is ever in.
const NO_LIFE: u64 = 0;

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let parse = || {
            let (timestamp, writer) = text.split_at_checked(16)?;
            let (node, incarnation) = writer.strip_prefix('-')?.rsplit_once('.')?;
            Some(Self {
                timestamp: Timestamp(hex(timestamp)?),
                writer: Writer { node: NodeId::new(node).ok()?, incarnation: hex(incarnation)? },
            })
        };
        parse().ok_or(VersionError)
    }
}

/// All 16 digits of a number.
fn hex_digits(number: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; 16];
    for (digit, shift) in digits.iter_mut().rev().zip((0..64).step_by(4)) {
        *digit = DIGITS[(number >> shift & 0xf) as usize];
    }
    digits
}

/// Lower-case hex digits only: `from_str_radix` alone would let a sign through.
fn hex(digits: &str) -> Option<u64> {
    let plain = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    u64::from_str_radix(digits, 16).ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(timestamp: u64, node: &str, incarnation: u64) -> Version {
        let writer = Writer { node: NodeId::new(node).unwrap(), incarnation };
        Version { timestamp: Timestamp(timestamp), writer }
    }

    #[test]
    fn text_is_parsed_back() {
        let version = version(0x0191_f3c2_a4b7_0003, "n-1.x", 0x5f0c_21aa);
        assert_eq!(version.to_string(), "0191f3c2a4b70003-n-1.x.5f0c21aa");
        assert_eq!(version.to_string().parse(), Ok(version));
        for (version, text) in [
            (self::version(0, "a", 0), "0000000000000000-a.0".to_owned()),
            (
                self::version(u64::MAX, &"z".repeat(32), u64::MAX),
                format!("{0}-{1}.{0}", "f".repeat(16), "z".repeat(32)),
            ),
        ] {
            assert_eq!(version.to_string(), text);
            assert_eq!(text.parse(), Ok(version));
        }
    }

    #[test]
    fn other_text_is_refused() {
        for bad in
            ["", "1-n1.2", "0191f3c2a4b70003n1.2", "0191f3c2a4b70003-n1", "0191f3c2a4b7000é-n1.2"]
        {
            assert_eq!(bad.parse::<Version>(), Err(VersionError), "{bad:?}");
        }
        assert_eq!("+191f3c2a4b70003-n1.2".parse::<Version>(), Err(VersionError));
        assert_eq!("0191f3c2a4b70003-n1.".parse::<Version>(), Err(VersionError));
    }

    #[test]
    fn the_timestamp_counts_before_the_node_and_the_node_before_its_incarnation() {
        let ordered =
            [version(1, "b", 9), version(2, "a", 9), version(2, "b", 1), version(2, "b", 2)];
        assert!(ordered.is_sorted());
    }

    #[test]
    fn what_is_buried_is_above_all_that_is_below_the_horizon_and_nothing_else() {
        let buried = Version::buried(Timestamp(5));
        assert!(version(4, "z", u64::MAX) < buried && buried < version(5, "-", 1));
        assert!(buried < version(5, ".", 0) && buried.is_buried());
        assert!(!version(5, "-", 1).is_buried() && !version(5, "a", 0).is_buried());
    }

    #[test]
    fn far_wall_clocks_saturate() {
        assert_eq!(Timestamp::from_wall_ms(u64::MAX).wall_ms(), (1 << 48) - 1);
        assert_eq!(Timestamp::from_wall_ms(5).next().wall_ms(), 5);
    }
}
