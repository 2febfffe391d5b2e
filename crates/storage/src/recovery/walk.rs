//! One segment, read from its start to where its frames end.

use super::files::Segment;
use super::look_ahead::look_ahead;
use super::{Damage, Frame};
use crate::frame::frame_bytes;
use crate::queue::Place;

/// Where the frames of the next segment begin.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    pub(super) seq: u64,
    /// Whether there should be another segment between.
    pub(super) file_missing: bool,
}

/// Where the frames of a segment begin.
pub(super) struct Start {
    pub(super) offset: u64,
    pub(super) damaged: bool,
}

/// What reading a segment found.
pub(super) struct Walk {
    /// How many frames were given out.
    pub(super) frames: u64,
    pub(super) damages: Vec<Damage>,
    /// The next sequence number, if any is known.
    pub(super) expected: Option<u64>,
    /// The greatest sequence number that anything in here says was synced.
    pub(super) proven: u64,
    /// Where the good frames end.
    pub(super) head: u64,
    /// The end of what was written behind the head and is to be cut; the head itself if there is nothing.
    pub(super) remains_end: u64,
    pub(super) damaged: bool,
    /// Now and then, where a frame is.
    pub(super) checkpoints: Vec<(u64, u64)>,
}

/// How far checkpoints are apart.
const CHECKPOINT_BYTES: u64 = 64 * 1024;

impl Walk {
    /// Of a segment that is not read: all of it may be frames.
    pub(super) fn over(segment: &Segment, expected: Option<u64>, limit: Option<Limit>) -> Self {
        let head = segment.window.size();
        let expected = expected.max(limit.map(|limit| limit.seq));
        Self::at(&Start { offset: head, damaged: false }, expected)
    }

    /// Gives out the frames behind number `after`, up to where the next segment begins if there is one.
    pub(super) fn run(
        segment: &mut Segment,
        start: Start,
        expected: Option<u64>,
        limit: Option<Limit>,
        after: u64,
        replay: &mut dyn FnMut(Frame<'_>),
    ) -> Self {
        let mut walk = Self::at(&start, expected);
        let mut offset = start.offset;
        let Some(mut expected) = expected else { return walk };
        walk.checkpoints.push((expected, offset));
        loop {
            // What follows was torn, then written again in the next segment.
            if limit.is_some_and(|limit| limit.seq == expected) {
                break;
            }
            let header = segment.window.header(offset);
            if let Some(stale) = header.filter(|_| planted!(RecycledFrameAccepted)) {
                expected = stale.seq;
            }
            if let Some(header) = header.filter(|header| header.seq == expected)
                && let Some(payload) = segment.window.payload(offset, &header)
            {
                if expected > after {
                    let place = Place { segment: segment.number, offset };
                    let bytes = header.frame_bytes();
                    replay(Frame { seq: expected, kind: header.kind, payload, place, bytes });
                    walk.frames += 1;
                }
                walk.proven = walk.proven.max(header.synced_through());
                if walk.checkpoints.last().is_none_or(|(_, at)| offset - at >= CHECKPOINT_BYTES) {
                    walk.checkpoints.push((expected, offset));
                }
                expected += 1;
                offset += frame_bytes(u64::from(header.len));
                continue;
            }
            let skip = header.map_or(8, |header| frame_bytes(u64::from(header.len)));
            let ahead = look_ahead(segment, offset, skip, expected, limit.map(|limit| limit.seq));
            walk.proven = walk.proven.max(ahead.proven);
            let (at, seq) = match (ahead.candidate, limit) {
                (Some(candidate), Some(_)) => candidate,
                (Some(candidate), None) if ahead.proven >= expected => candidate,
                // Here nothing is wrong: what is missing was in the missing file.
                (None, Some(limit)) if limit.file_missing && ahead.remains_end <= offset => break,
                (None, Some(limit)) => {
                    let len = segment.window.size().saturating_sub(offset);
                    walk.damages.push(Damage {
                        segment: segment.number,
                        offset,
                        len,
                        first_seq: expected,
                        last_seq: limit.seq - 1,
                    });
                    expected = limit.seq;
                    break;
                }
                (_, None) => {
                    walk.remains_end = ahead.remains_end;
                    break;
                }
            };
            walk.damages.push(Damage {
                segment: segment.number,
                offset,
                len: at - offset,
                first_seq: expected,
                last_seq: seq - 1,
            });
            walk.damaged = true;
            (offset, expected) = (at, seq);
        }
        walk.expected = Some(expected);
        walk.head = offset;
        walk.remains_end = walk.remains_end.max(offset);
        walk
    }

    fn at(start: &Start, expected: Option<u64>) -> Self {
        Self {
            frames: 0,
            damages: Vec::new(),
            expected,
            proven: 0,
            head: start.offset,
            remains_end: start.offset,
            damaged: start.damaged,
            checkpoints: Vec::new(),
        }
    }
}
