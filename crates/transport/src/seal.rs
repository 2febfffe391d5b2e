//! Frames that only the peer can have sent, each once and in its place: instead of a CRC they carry
//! a keyed check. Pure, like the frames without.

use bytes::{Bytes, BytesMut};
use quorate_node::Message;
use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::{
    FrameError, MAX_FRAME_BYTES, Protocol,
    frame::{LENGTH_BYTES, append_body},
};

/// Bytes of the check behind the body of a sealed frame.
pub(crate) const SEAL_BYTES: usize = 16;

/// About how much is sealed before it is written: a long queue must not keep the thread for long.
const CHUNK_BYTES: usize = 256 * 1024;

/// Both directions of one connection.
pub(crate) struct Seals {
    pub(crate) sealer: Sealer,
    pub(crate) opener: Opener,
}

/// The key of one direction, and how many frames it has sealed. The number is part of each check,
/// so a frame that is repeated, left out or moved does not match.
struct Counted {
    key: LessSafeKey,
    frames: u64,
}

/// Seals what goes out.
pub(crate) struct Sealer(Counted);

/// Checks what comes in.
pub(crate) struct Opener {
    counted: Counted,
    /// Whether the peer has said that nothing more comes.
    pub(crate) ended: bool,
}

impl Counted {
    fn new(key: UnboundKey) -> Self {
        Self { key: LessSafeKey::new(key), frames: 0 }
    }

    /// GMAC: the check of AES-GCM over text that is not encrypted. No number comes twice under a
    /// key, which it must not.
    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[NONCE_LEN - 8..].copy_from_slice(&self.frames.to_le_bytes());
        self.frames += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Appends a message in a frame that has room for the check, which [`Sealer::seal`] fills in.
///
/// # Errors
/// As [`encode_frame`](crate::encode_frame).
pub(crate) fn encode_unsealed(
    message: &Message,
    protocol: Protocol,
    out: &mut Vec<u8>,
) -> Result<(), usize> {
    append_body(message, protocol, LENGTH_BYTES, out)?;
    out.extend_from_slice(&[0; SEAL_BYTES]);
    Ok(())
}

impl Sealer {
    pub(crate) fn new(key: UnboundKey) -> Self {
        Self(Counted::new(key))
    }

    /// Fills in the checks of the first of these whole frames, and says how long they are
    /// together: at most one frame more than a chunk.
    pub(crate) fn seal(&mut self, frames: &mut [u8]) -> usize {
        let mut at = 0;
        while at < frames.len() && at < CHUNK_BYTES {
            let body_bytes = stated(&frames[at..]).expect("frames are whole");
            let (text, rest) = frames[at..].split_at_mut(LENGTH_BYTES + body_bytes);
            let nonce = self.0.next_nonce();
            let seal = self.0.key.seal_in_place_separate_tag(nonce, Aad::from(&*text), &mut []);
            let seal = seal.expect("a frame is shorter than GCM allows");
            rest[..SEAL_BYTES].copy_from_slice(seal.as_ref());
            at += LENGTH_BYTES + body_bytes + SEAL_BYTES;
        }
        at
    }

    /// The frame that says that nothing more comes: without it a connection was cut.
    pub(crate) fn farewell(&mut self) -> Vec<u8> {
        let mut frame = vec![0; LENGTH_BYTES + SEAL_BYTES];
        self.seal(&mut frame);
        frame
    }
}

impl Opener {
    pub(crate) fn new(key: UnboundKey) -> Self {
        Self { counted: Counted::new(key), ended: false }
    }

    /// Takes the body of the first frame out of `buffer`; `None` if it has not all come yet, or if
    /// it is the farewell: nothing that follows counts.
    ///
    /// The body shares the buffer's memory.
    ///
    /// # Errors
    /// [`FrameError`]; nothing on this connection can be believed from there on.
    pub(crate) fn next_frame(
        &mut self,
        buffer: &mut BytesMut,
    ) -> Result<Option<Bytes>, FrameError> {
        let Some(frame_bytes) = sealed_bytes(buffer)? else { return Ok(None) };
        if buffer.len() < frame_bytes {
            return Ok(None);
        }
        let text_bytes = frame_bytes - SEAL_BYTES;
        let (text, seal) = buffer[..frame_bytes].split_at(text_bytes);
        let mut seal: [u8; SEAL_BYTES] = seal.try_into().expect("split there");
        let nonce = self.counted.next_nonce();
        if self.counted.key.open_in_place(nonce, Aad::from(text), &mut seal).is_err() {
            return Err(FrameError::BadSeal);
        }
        let frame = buffer.split_to(frame_bytes).freeze();
        if text_bytes > LENGTH_BYTES {
            return Ok(Some(frame.slice(LENGTH_BYTES..text_bytes)));
        }
        self.ended = true;
        Ok(None)
    }
}

/// The length of the whole sealed frame that `buffer` begins with, as far as it can be known.
pub(crate) fn sealed_bytes(buffer: &[u8]) -> Result<Option<usize>, FrameError> {
    match stated(buffer) {
        None => Ok(None),
        Some(body_bytes @ 0..=MAX_FRAME_BYTES) => Ok(Some(LENGTH_BYTES + body_bytes + SEAL_BYTES)),
        Some(body_bytes) => {
            Err(FrameError::BadLength { len_bytes: u32::try_from(body_bytes).unwrap_or(u32::MAX) })
        }
    }
}

/// The length that stands in front of a frame.
fn stated(buffer: &[u8]) -> Option<usize> {
    let len_bytes = u32::from_le_bytes(*buffer.first_chunk()?);
    Some(usize::try_from(len_bytes).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use quorate_node::Response;
    use ring::aead::AES_128_GCM;

    use super::*;

    fn key() -> UnboundKey {
        UnboundKey::new(&AES_128_GCM, &[7; 16]).unwrap()
    }

    fn pong(id: u64) -> Message {
        Message::Response { id, notes: 0, body: Response::Pong { wall_ms: 0 } }
    }

    fn sealed(ids: std::ops::Range<u64>) -> Vec<u8> {
        let mut frames = Vec::new();
        ids.for_each(|id| encode_unsealed(&pong(id), Protocol::V3, &mut frames).unwrap());
        assert_eq!(Sealer::new(key()).seal(&mut frames), frames.len());
        frames
    }

    fn open(opener: &mut Opener, buffer: &mut BytesMut) -> Result<u64, FrameError> {
        let mut count = 0;
        while let Some(body) = opener.next_frame(buffer)? {
            let message = crate::decode_message(&body, Protocol::V3).unwrap();
            assert_eq!(message, pong(count));
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn the_bytes_of_a_sealed_frame_are_frozen() {
        let frames = sealed(0..2);
        let hex: String = frames.iter().map(|byte| format!("{byte:02x}")).collect();
        let body = |id: &str| format!("11000000{}{id}{}", "81", "00".repeat(8));
        let first = format!("{}{FIRST}", body("0000000000000000"));
        assert_eq!(hex, format!("{first}{}{SECOND}", body("0100000000000000")));
    }
    const FIRST: &str = "ef2894f71bb9a57510dffb77c078d828";
    const SECOND: &str = "eb0d22131cd46dce3969de285452f86e";

    #[test]
    fn a_sealed_stream_may_be_cut_anywhere() {
        let bytes = sealed(0..3);
        for cut in 0..=bytes.len() {
            let mut opener = Opener::new(key());
            let mut buffer = BytesMut::from(&bytes[..cut]);
            let early = open(&mut opener, &mut buffer).unwrap();
            assert_eq!(early, (cut / (bytes.len() / 3)) as u64);
            buffer.extend_from_slice(&bytes[cut..]);
            while let Some(body) = opener.next_frame(&mut buffer).unwrap() {
                crate::decode_message(&body, Protocol::V3).unwrap();
            }
            assert!(buffer.is_empty(), "cut at {cut}");
        }
    }

    #[test]
    fn any_flipped_bit_of_a_sealed_frame_is_noticed() {
        let bytes = sealed(0..1);
        for at in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[at / 8] ^= 1 << (at % 8);
            let outcome = Opener::new(key()).next_frame(&mut BytesMut::from(&bad[..]));
            assert!(!matches!(outcome, Ok(Some(_))), "bit {at}");
        }
    }

    #[test]
    fn nothing_after_the_farewell_counts() {
        let mut sealer = Sealer::new(key());
        let mut bytes = sealer.farewell();
        bytes.extend(sealed(0..1));
        let (mut opener, mut buffer) = (Opener::new(key()), BytesMut::from(&bytes[..]));
        assert_eq!(opener.next_frame(&mut buffer), Ok(None));
        assert!(opener.ended);
    }

    #[test]
    fn a_long_queue_is_sealed_in_pieces() {
        let mut frames = Vec::new();
        while frames.len() < 3 * CHUNK_BYTES {
            encode_unsealed(&pong(0), Protocol::V3, &mut frames).unwrap();
        }
        let mut sealer = Sealer::new(key());
        let first = sealer.seal(&mut frames);
        assert!((CHUNK_BYTES..CHUNK_BYTES + 64).contains(&first), "{first}");
        let mut at = first;
        while at < frames.len() {
            at += sealer.seal(&mut frames[at..]);
        }
        let (mut opener, mut buffer) = (Opener::new(key()), BytesMut::from(&frames[..]));
        while opener.next_frame(&mut buffer).unwrap().is_some() {}
        assert!(buffer.is_empty());
    }
}
