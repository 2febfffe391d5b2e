use bytes::{BufMut, Bytes, BytesMut};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use quorate_node::Message;
use quorate_record::NodeId;
use quorate_transport::{
    DecodeError, FRAME_HEADER_BYTES, FrameError, Hello, Identity, Protocol, decode_message,
    encode_frame, next_frame,
};

use crate::{pieces::Pieces, within};

/// How a stream of frames comes to its end.
#[derive(Debug, PartialEq)]
enum End {
    Open { rest: Bytes },
    BadFrame(FrameError),
    BadMessage(DecodeError),
}

/// However a stream of frames is cut, the same messages come out of it, and it breaks off at the
/// same place for the same reason; the messages are written again as the bytes that they were.
pub fn stream(input: &[u8]) {
    let Some(pieces) = Pieces::of(input) else { return };
    let mut bytes = pieces.whole.to_vec();
    if pieces.flags[0] {
        mend_checksums(&mut bytes);
    }
    let (messages, end) = read([&bytes[..]]);
    assert_eq!(read(pieces.cut(&bytes)), (messages.clone(), end), "cut and uncut");

    let mut again = Vec::new();
    for message in &messages {
        encode_frame(message, Protocol::NEWEST, &mut again).expect("it came in a frame");
    }
    assert_eq!(again, bytes[..again.len()], "other frames of {messages:?}");
}

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Message>, End) {
    let mut buffer = BytesMut::new();
    let mut messages = Vec::new();
    for piece in pieces {
        buffer.put_slice(piece);
        loop {
            // What a header says costs nothing before it has come.
            let body = match within(1024, || next_frame(&mut buffer)) {
                Ok(Some(body)) => body,
                Ok(None) => break,
                Err(error) => return (messages, End::BadFrame(error)),
            };
            match decode_message(&body, Protocol::NEWEST) {
                Ok(message) => messages.push(message),
                Err(error) => return (messages, End::BadMessage(error)),
            }
        }
    }
    (messages, End::Open { rest: buffer.freeze() })
}

/// Gives every frame the checksum that it should have: nobody comes upon one by chance.
fn mend_checksums(mut bytes: &mut [u8]) {
    while let Some((header, rest)) = bytes.split_first_chunk_mut::<FRAME_HEADER_BYTES>() {
        let [l0, l1, l2, l3, ..] = *header;
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        let Ok(len) = usize::try_from(len) else { return };
        let Some((body, rest)) = rest.split_at_mut_checked(len) else { return };
        header[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        bytes = rest;
    }
}

/// Headers of a handshake are refused, or say what is written again as headers that say the same;
/// whoever is let in is the one expected and speaks a known protocol.
pub fn hello(input: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in input.split(|&byte| byte == b'\n') {
        let mut parts = line.splitn(2, |&byte| byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii()))
        else {
            continue;
        };
        headers.append(name, value);
    }
    let hello = match Hello::read_headers(&headers) {
        Ok(hello) => hello,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let mut again = HeaderMap::new();
    hello.write_headers(&mut again);
    assert_eq!(Hello::read_headers(&again), Ok(hello.clone()));

    let id = |text| NodeId::new(text).expect("a plain id");
    let newest = Protocol::NEWEST;
    let me = Identity { node: id("n2"), incarnation: 1, fingerprint: 7, newest };
    match hello.check(&me, |node| node == id("n1")) {
        Ok(accepted) => {
            assert_eq!((hello.to, hello.fingerprint), (me.node, me.fingerprint));
            assert_eq!((accepted.node, accepted.incarnation), (id("n1"), hello.incarnation));
            assert!(hello.protocols.contains(&accepted.protocol.number()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
