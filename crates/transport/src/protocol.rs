/// A version of the messages: what their bytes are. The handshake chooses one for each connection.
///
/// A program speaks the versions from [`OLDEST`](Self::OLDEST) to [`NEWEST`](Self::NEWEST), so that
/// nodes can be upgraded one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Lists of stamps name the writer of each.
    V2,
    /// Lists of stamps name each writer once; a get may name what its asker holds.
    V3,
    /// Answers say how many notes of others' lives their node has taken, and nodes say how they stand. Exchanges of
    /// anti-entropy by overviews and sketches.
    V4,
}

impl Protocol {
    /// The oldest version that this program speaks.
    pub const OLDEST: Self = Self::V2;
    /// The newest version that this program speaks.
    pub const NEWEST: Self = Self::V4;

    /// Its number in the handshake.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
            Self::V4 => 4,
        }
    }

    /// The version of this number, if this program speaks it.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            2 => Some(Self::V2),
            3 => Some(Self::V3),
            4 => Some(Self::V4),
            _ => None,
        }
    }
}
