//! What is going to happen.

use bytes::Bytes;
use quorate_node::ClientRequest;

use crate::{network::Way, process::Which};

/// Something that is going to happen, in the order of its time, then of its planning.
pub(super) struct Planned {
    pub(super) at_us: u64,
    pub(super) number: u64,
    pub(super) what: Happening,
}

/// What is going to happen.
pub(super) enum Happening {
    Ask { node: usize, request: u64, body: Box<ClientRequest> },
    Arrive { connection: u64, way: Way, frame: Bytes, corrupted: bool, replayed: bool },
    Wake { node: usize, life: u64 },
    Turn { node: usize, life: u64, which: Which },
    Dial { from: usize, life: u64, to: usize },
    Broken { connection: u64 },
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.number).cmp(&(other.at_us, other.number))
    }
}
