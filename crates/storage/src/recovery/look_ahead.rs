//! What lies behind a bad frame tells what the bad one was.

use super::files::Segment;
use crate::frame::{HEADER_BYTES, frame_bytes};

/// What lies behind a bad frame.
pub(super) struct Ahead {
    /// The first good frame that belongs behind it: its offset and sequence number.
    pub(super) candidate: Option<(u64, u64)>,
    /// What the good frames behind say had been synced.
    pub(super) proven: u64,
    /// The end of what this segment's writer left.
    pub(super) remains_end: u64,
}

/// How much of nothing is passed over at once.
const ZERO_RUN_BYTES: u64 = 4096;

/// Searches behind the bad frame at `bad`, which should have been number `expected`.
pub(super) fn look_ahead(
    segment: &mut Segment,
    bad: u64,
    skip: u64,
    expected: u64,
    limit: Option<u64>,
) -> Ahead {
    let window = &mut segment.window;
    let mut ahead = Ahead { candidate: None, proven: 0, remains_end: bad };
    // In a segment that was never used before, everything but zeros is ours.
    let only_zeros_behind = segment.header.is_none_or(|header| !header.recycled);
    let size = window.size();
    if skip > 8 {
        ahead.remains_end = bad + skip;
    } else if window.looks_like_frame(bad, expected) {
        ahead.remains_end = (bad + HEADER_BYTES as u64).min(size);
    }
    let mut offset = bad;
    let mut step = skip;
    let mut step_is_zero = false;
    while offset < size {
        if only_zeros_behind && !step_is_zero {
            let len = step.min(size - offset);
            let bytes = window.bytes(offset, len).expect("within the file");
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                ahead.remains_end = ahead.remains_end.max(offset + last as u64 + 1);
            }
        }
        offset += step;
        if offset >= size {
            break;
        }
        step = 8;
        step_is_zero =
            offset.is_multiple_of(ZERO_RUN_BYTES) && window.is_zero(offset, ZERO_RUN_BYTES);
        if step_is_zero {
            // A header's kind is among its first eight bytes and is never zero, so none begins in here.
            step = ZERO_RUN_BYTES;
            continue;
        }
        let Some(header) = window.header(offset) else { continue };
        step = frame_bytes(u64::from(header.len));
        ahead.remains_end = ahead.remains_end.max(offset + step);
        if window.payload(offset, &header).is_none() {
            continue;
        }
        // So many frames cannot have stood in so few bytes: this one is part of somebody's payload.
        let room = (offset - bad) / HEADER_BYTES as u64;
        let fits = header.seq > expected && header.seq - expected <= room;
        if !fits || limit.is_some_and(|limit| header.seq >= limit) {
            continue;
        }
        ahead.proven = ahead.proven.max(header.synced_through());
        ahead.candidate = ahead.candidate.or(Some((offset, header.seq)));
        if limit.is_some() || ahead.proven >= expected {
            break;
        }
    }
    ahead
}
