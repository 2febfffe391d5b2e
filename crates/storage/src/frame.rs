//! One entry of the log: a header that can be trusted on its own, and the caller's bytes behind it.

/// What comes before a payload, in bytes.
pub(crate) const HEADER_BYTES: usize = 24;

/// Frames begin at multiples of this.
pub(crate) const ALIGN_BYTES: usize = 8;

/// The greatest distance between a frame and the last synced one that a header can tell.
pub(crate) const MAX_LAG: u64 = (1 << 24) - 1;

/// The greatest sequence number that is believed. No log comes near it, and what follows on it can still be counted.
pub(crate) const MAX_SEQ: u64 = u64::MAX / 2;

/// The header of a frame: `len u32, kind u8, lag u24, seq u64, payload crc u32, header crc u32`, little-endian.
///
/// Both checksums start from the segment's epoch, so what another segment left in a recycled file never counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Bytes of payload, without padding.
    pub(crate) len: u32,
    /// The caller's kind, 1 or more.
    pub(crate) kind: u8,
    /// `seq` less the last sequence number known to be synced when this frame was written; 1 to [`MAX_LAG`].
    pub(crate) lag: u32,
    pub(crate) seq: u64,
    pub(crate) payload_crc: u32,
}

impl FrameHeader {
    /// What had surely been synced before this frame was written.
    pub(crate) fn synced_through(&self) -> u64 {
        self.seq.saturating_sub(u64::from(self.lag))
    }

    /// What the frame takes up, padding included. Only for a header whose length is below the limit.
    pub(crate) fn frame_bytes(&self) -> u32 {
        u32::try_from(frame_bytes(u64::from(self.len))).expect("the limit is below 4 GiB")
    }

    pub(crate) fn encode(&self, epoch: u32) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.len.to_le_bytes());
        bytes[4..8].copy_from_slice(&(u32::from(self.kind) | self.lag << 8).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.seq.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = checksum(epoch, &bytes[..20]);
        bytes[20..24].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header without believing it.
    pub(crate) fn decode_unchecked(bytes: &[u8; HEADER_BYTES]) -> Self {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let (kind_and_lag, seq_low, seq_high) = (word(4), word(8), word(12));
        Self {
            len: word(0),
            kind: kind_and_lag.to_le_bytes()[0],
            lag: kind_and_lag >> 8,
            seq: u64::from(seq_low) | u64::from(seq_high) << 32,
            payload_crc: word(16),
        }
    }

    /// Reads a header; `None` unless it was written under this epoch and is whole.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES], epoch: u32) -> Option<Self> {
        let header = Self::decode_unchecked(bytes);
        if header.kind == 0 || header.lag == 0 || header.seq > MAX_SEQ {
            return None;
        }
        let crc = u32::from_le_bytes([bytes[20], bytes[21], bytes[22], bytes[23]]);
        (checksum(epoch, &bytes[..20]) == crc).then_some(header)
    }
}

/// The CRC-32 of `bytes`, started from `epoch`.
pub(crate) fn checksum(epoch: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(epoch);
    hasher.update(bytes);
    hasher.finalize()
}

/// The bytes that a frame with `len_bytes` of payload takes up, padding included.
pub(crate) fn frame_bytes(len_bytes: u64) -> u64 {
    (HEADER_BYTES as u64 + len_bytes).next_multiple_of(ALIGN_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: FrameHeader =
        FrameHeader { len: 100, kind: 3, lag: 70_000, seq: 1 << 40, payload_crc: 0xdead_beef };

    #[test]
    fn a_header_reads_as_it_was_written() {
        assert_eq!(FrameHeader::decode(&HEADER.encode(7), 7), Some(HEADER));
        assert_eq!(HEADER.synced_through(), (1 << 40) - 70_000);
    }

    #[test]
    fn a_header_of_another_epoch_is_none() {
        assert_eq!(FrameHeader::decode(&HEADER.encode(7), 8), None);
    }

    #[test]
    fn a_header_with_any_bit_flipped_is_none() {
        for bit in 0..HEADER_BYTES * 8 {
            let mut bytes = HEADER.encode(7);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHeader::decode(&bytes, 7), None, "bit {bit}");
        }
    }

    #[test]
    fn a_number_that_no_log_reaches_is_not_believed() {
        let with = |seq| FrameHeader::decode(&FrameHeader { seq, ..HEADER }.encode(7), 7);
        assert!(with(MAX_SEQ).is_some());
        assert_eq!(with(MAX_SEQ + 1), None);
    }

    #[test]
    fn zeros_are_no_header() {
        for epoch in [0, 1, u32::MAX] {
            assert_eq!(FrameHeader::decode(&[0; HEADER_BYTES], epoch), None);
        }
    }

    #[test]
    fn the_format_is_frozen() {
        let bytes =
            FrameHeader { len: 5, kind: 1, lag: 1, seq: 1, payload_crc: checksum(1, b"hello") }
                .encode(1);
        assert_eq!(bytes[..16], [5, 0, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[16..], [54, 143, 112, 11, 124, 45, 202, 74]);
    }
}
