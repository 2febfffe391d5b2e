//! Quorate's peer messages, their encoding, and the pipelined stream that carries them.
//!
//! Each node [dials](dial) each of its peers and keeps that connection ([`Link`], [`PeerLinks`]):
//! its requests go out on it and their answers come back. The connections that peers dial come in
//! through an [`Acceptor`], as HTTP/1.1 upgrades on the listener that serves everything else. Once
//! both sides have checked that they agree ([`Hello`]), a connection is a [`Stream`] of
//! [frames](next_frame), one message each, in both directions at once: nothing waits for an answer
//! before the next question, and what gathers while the socket is busy goes out in one write.
//!
//! With [`Secrets`], peers prove to each other that they belong to the same cluster before anything
//! else, and every frame carries a keyed check and its number: nobody on the way can speak for a
//! node, change what it says, or say it again. It is not encrypted.
//!
//! With [`Tls`] (feature `tls`) it is: both ends show certificates of the cluster's authority that
//! name their ids. Secrets may be proved inside.
//!
//! The bytes of a message depend on the [`Protocol`] that the handshake chose, the newest that both
//! ends speak.
//!
//! An [`Outbox`] is bounded in bytes and never makes its sender wait. What does not fit fails at
//! once, and so does everything for a peer that is not there: the caller knows best what to do.
//!
//! ```
//! use bytes::BytesMut;
//! use quorate_node::{Message, Response};
//! use quorate_transport::{Protocol, decode_message, encode_frame, next_frame};
//!
//! let pong = Message::Response { id: 7, notes: 0, body: Response::Pong { wall_ms: 1_700_000_000_000 } };
//! let mut sent = Vec::new();
//! encode_frame(&pong, Protocol::NEWEST, &mut sent).expect("it is short");
//!
//! let (early, late) = sent.split_at(11);
//! let mut received = BytesMut::from(early);
//! assert_eq!(next_frame(&mut received)?, None); // more must come
//! received.extend_from_slice(late);
//! let body = next_frame(&mut received)?.expect("all of it has come");
//! assert_eq!(decode_message(&body, Protocol::NEWEST)?, pong);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

/// Whether this bug is planted, for the simulator to find; always `false` without the feature.
macro_rules! planted {
    ($bug:ident) => {{
        #[cfg(feature = "planted-bugs")]
        let planted = quorate_planted::is_planted(quorate_planted::Bug::$bug);
        #[cfg(not(feature = "planted-bugs"))]
        let planted = false;
        planted
    }};
}

mod accept;
mod backoff;
mod codec;
mod dial;
mod frame;
mod hello;
mod link;
mod loopback;
mod outbox;
mod pending;
mod proof;
mod protocol;
mod refusals;
mod seal;
mod stream;
mod tls;
mod trust;

pub use accept::{AcceptError, Accepting, Acceptor, STREAM_PATH, tune};
pub use codec::{DecodeError, decode_message, encode_message, is_spoken};
pub use dial::{DialError, dial};
pub use frame::{FRAME_HEADER_BYTES, FrameError, MAX_FRAME_BYTES, encode_frame, next_frame};
pub use hello::{Accepted, HandshakeError, Hello, Identity};
pub use link::{Link, LinkHandler, LinkOptions, PeerLinks};
pub use loopback::{NotLoopback, check_loopback};
pub use outbox::{Outbox, SendError};
pub use protocol::Protocol;
pub use stream::{Stream, StreamEnd, StreamOptions};
pub use tls::{PeerCertificate, Tls, TlsError, TlsFile, TlsFiles, TlsProblem};
pub use trust::{Secrets, Trust};
