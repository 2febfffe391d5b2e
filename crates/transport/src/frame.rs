//! Frames: how a stream of bytes is cut into messages. Pure, so that a simulator can use it too.

use bytes::{Bytes, BytesMut};
use quorate_node::Message;
use quorate_record::MAX_ENCODED_BYTES;

use crate::{Protocol, encode_message};

/// Most bytes the body of a frame has: the longest record, and room for what goes with it.
pub const MAX_FRAME_BYTES: usize = 8 * 1024 * 1024 + 64 * 1024;
const _: () = assert!(MAX_ENCODED_BYTES + 1024 < MAX_FRAME_BYTES);

/// Bytes before a frame's body: its length, then its CRC-32, both `u32` little-endian.
pub const FRAME_HEADER_BYTES: usize = 8;

/// Bytes of the length alone, with which every frame begins.
pub(crate) const LENGTH_BYTES: usize = 4;

/// Why a stream cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No frame is that long, or has no body.
    #[error("a frame of {len_bytes} bytes; frames have 1 to {MAX_FRAME_BYTES}")]
    BadLength {
        /// The length that stood in the header.
        len_bytes: u32,
    },
    /// The body is not what was sent.
    #[error("a frame's CRC is {computed:08x}, its header says {stated:08x}")]
    BadCrc {
        /// The CRC-32 of the body as it came.
        computed: u32,
        /// The CRC-32 in the header.
        stated: u32,
    },
    /// The frame is not what the peer sent next. On a connection to a peer that proved who it is.
    #[error("a frame's seal is wrong: it was changed, repeated, moved or left out on its way")]
    BadSeal,
}

/// Appends a message in its frame to `out`.
///
/// # Errors
/// The length of the message if it exceeds [`MAX_FRAME_BYTES`]; `out` is as it was then.
///
/// # Panics
/// As [`encode_message`] does.
pub fn encode_frame(message: &Message, protocol: Protocol, out: &mut Vec<u8>) -> Result<(), usize> {
    let header_at = out.len();
    let body_at = header_at + FRAME_HEADER_BYTES;
    append_body(message, protocol, FRAME_HEADER_BYTES, out)?;
    let crc = crc32fast::hash(&out[body_at..]);
    out[header_at + LENGTH_BYTES..body_at].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// Appends a header, of which only the length is filled in, and the message.
pub(crate) fn append_body(
    message: &Message,
    protocol: Protocol,
    header_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), usize> {
    let header_at = out.len();
    out.resize(header_at + header_bytes, 0);
    let body_at = out.len();
    encode_message(message, protocol, out);
    let body_bytes = out.len() - body_at;
    let len = match u32::try_from(body_bytes) {
        Ok(len) if body_bytes <= MAX_FRAME_BYTES => len,
        _ => {
            out.truncate(header_at);
            return Err(body_bytes);
        }
    };
    out[header_at..header_at + LENGTH_BYTES].copy_from_slice(&len.to_le_bytes());
    Ok(())
}

/// Takes the body of the first frame out of `buffer`; `None` if it has not all come yet.
///
/// The body shares the buffer's memory.
///
/// # Errors
/// [`FrameError`]; the rest of the stream makes no sense then.
pub fn next_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
    let Some(header) = Header::read(buffer)? else { return Ok(None) };
    if buffer.len() < FRAME_HEADER_BYTES + header.body_bytes {
        return Ok(None);
    }
    let body = buffer.split_to(FRAME_HEADER_BYTES + header.body_bytes).freeze();
    let body = body.slice(FRAME_HEADER_BYTES..);
    match crc32fast::hash(&body) {
        computed if computed == header.crc || planted!(FrameNotChecked) => Ok(Some(body)),
        computed => Err(FrameError::BadCrc { computed, stated: header.crc }),
    }
}

/// How many bytes to ask for next, of which there are at most `chunk` unless the frame that
/// `buffer` begins with is known to need more; `frame_bytes` is how long that one is.
///
/// It never asks for more than has already come: a length that a peer merely states costs nothing.
/// After [`next_frame`] gave `None`, the buffer so holds at most one frame and `chunk` bytes.
pub(crate) fn wanted_bytes(buffer: &BytesMut, chunk: usize, frame_bytes: Option<usize>) -> usize {
    let missing = frame_bytes.unwrap_or(0).saturating_sub(buffer.len());
    missing.min(buffer.len()).max(chunk)
}

/// The length of the whole frame that `buffer` begins with, as far as it can be known.
pub(crate) fn frame_bytes(buffer: &[u8]) -> Result<Option<usize>, FrameError> {
    Ok(Header::read(buffer)?.map(|header| FRAME_HEADER_BYTES + header.body_bytes))
}

struct Header {
    body_bytes: usize,
    crc: u32,
}

impl Header {
    fn read(buffer: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some(&[l0, l1, l2, l3, c0, c1, c2, c3]) = buffer.first_chunk() else { return Ok(None) };
        let len_bytes = u32::from_le_bytes([l0, l1, l2, l3]);
        let crc = u32::from_le_bytes([c0, c1, c2, c3]);
        match usize::try_from(len_bytes) {
            Ok(body_bytes @ 1..=MAX_FRAME_BYTES) => Ok(Some(Self { body_bytes, crc })),
            _ => Err(FrameError::BadLength { len_bytes }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quorate_node::{Request, Response};
    use quorate_record::{Key, NodeId, Record, Timestamp, Version, Writer};

    use super::*;
    use crate::decode_message;

    fn messages() -> Vec<Message> {
        let time_left = Duration::from_millis(800);
        let key = Key::new("cat").unwrap();
        vec![
            Message::Request { id: 1, time_left, body: Request::Ping { wall_ms: 5 } },
            Message::Response { id: 2, notes: 0, body: Response::Found(None) },
            Message::Request {
                id: 3,
                time_left,
                body: Request::Get { key, from_hints: false, known: None },
            },
        ]
    }

    fn stream(messages: &[Message]) -> Vec<u8> {
        let mut bytes = Vec::new();
        messages
            .iter()
            .for_each(|message| encode_frame(message, Protocol::NEWEST, &mut bytes).unwrap());
        bytes
    }

    fn drain(buffer: &mut BytesMut) -> Result<Vec<Message>, FrameError> {
        let mut messages = Vec::new();
        while let Some(body) = next_frame(buffer)? {
            messages.push(decode_message(&body, Protocol::NEWEST).unwrap());
        }
        Ok(messages)
    }

    #[test]
    fn the_bytes_of_a_frame_are_frozen() {
        let (time_left, body) = (Duration::from_secs(1), Request::Ping { wall_ms: 2 });
        let ping = Message::Request { id: 1, time_left, body };
        let mut bytes = Vec::new();
        encode_frame(&ping, Protocol::V2, &mut bytes).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let body = concat!("01", "0100000000000000", "00ca9a3b00000000", "0200000000000000");
        assert_eq!(hex, format!("19000000{CRC}{body}"));
    }
    const CRC: &str = "925171bb";

    #[test]
    fn a_stream_may_be_cut_anywhere() {
        let bytes = stream(&messages());
        for cut in 0..=bytes.len() {
            let mut buffer = BytesMut::from(&bytes[..cut]);
            let mut got = drain(&mut buffer).unwrap();
            buffer.extend_from_slice(&bytes[cut..]);
            got.extend(drain(&mut buffer).unwrap());
            assert_eq!(got, messages(), "cut at {cut}");
            assert!(buffer.is_empty());
        }
        let mut buffer = BytesMut::new();
        let mut got = Vec::new();
        for byte in bytes {
            buffer.extend_from_slice(&[byte]);
            got.extend(drain(&mut buffer).unwrap());
        }
        assert_eq!(got, messages());
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let bytes = stream(&messages()[..1]);
        for at in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[at / 8] ^= 1 << (at % 8);
            let outcome = next_frame(&mut BytesMut::from(&bad[..]));
            assert!(!matches!(outcome, Ok(Some(_))), "bit {at}");
        }
    }

    #[test]
    fn impossible_lengths_are_refused_by_the_header_alone() {
        let too_long = u32::try_from(MAX_FRAME_BYTES).unwrap() + 1;
        for len_bytes in [0, too_long, u32::MAX] {
            let mut buffer = BytesMut::from(&len_bytes.to_le_bytes()[..]);
            buffer.extend_from_slice(&[0; 4]);
            assert_eq!(next_frame(&mut buffer), Err(FrameError::BadLength { len_bytes }));
        }
    }

    #[test]
    fn no_more_is_asked_for_than_has_come() {
        const CHUNK: usize = 64;
        let wanted =
            |buffer: &BytesMut| wanted_bytes(buffer, CHUNK, frame_bytes(buffer).ok().flatten());
        let len = u32::try_from(MAX_FRAME_BYTES).unwrap();
        let mut buffer = BytesMut::from(&len.to_le_bytes()[..]);
        assert_eq!(wanted(&buffer), CHUNK);
        buffer.extend_from_slice(&[0; 4]);
        assert_eq!(wanted(&buffer), CHUNK);
        buffer.extend_from_slice(&[0; 1000]);
        assert_eq!(wanted(&buffer), 1008);
        buffer.extend_from_slice(&vec![0; MAX_FRAME_BYTES - 1010]);
        assert_eq!(wanted(&buffer), CHUNK);
    }

    #[test]
    fn a_message_that_fits_in_no_frame_leaves_the_output_as_it_was() {
        let writer = Writer { node: NodeId::new("n1").unwrap(), incarnation: 1 };
        let version = Version { timestamp: Timestamp::ZERO, writer };
        let record = Record::live(version, vec![0; 5 * 1024 * 1024]);
        let records = vec![(Key::new("k").unwrap(), record); 2];
        let message = Message::Response { id: 1, notes: 0, body: Response::Fetched(records) };
        let mut out = vec![1, 2, 3];
        assert!(encode_frame(&message, Protocol::NEWEST, &mut out).unwrap_err() > MAX_FRAME_BYTES);
        assert_eq!(out, [1, 2, 3]);
    }
}
