use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use quorate_node::Message;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    time::{Instant, Sleep, sleep, timeout},
};

use crate::{
    Accepted, DecodeError, FrameError, Outbox, Protocol, decode_message,
    frame::{frame_bytes, next_frame, wanted_bytes},
    seal::{Opener, Sealer, Seals, sealed_bytes},
};

/// How many bytes are read at once, and how many may be read past the end of a frame.
const READ_BYTES: usize = 64 * 1024;

/// With less room than this, a read gets new memory.
const ENOUGH_BYTES: usize = 8 * 1024;

/// The limits of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// How many bytes may wait to be written, or a single larger message. Default 16 MiB: two of the
    /// largest values.
    pub queue_bytes: usize,
    /// How long the peer may take nothing of what waits for it. Default 5 s.
    pub stall: Duration,
    /// How long the peer may say nothing, noticed after twice that at the latest; `None` for ever.
    /// Default 10 s, which suits a stream on which the peer is asked something every few seconds.
    pub silence: Option<Duration>,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            queue_bytes: 16 * 1024 * 1024,
            stall: Duration::from_secs(5),
            silence: Some(Duration::from_secs(10)),
        }
    }
}

/// A connection to a peer, after the handshake: messages both ways, many to a system call.
pub struct Stream {
    peer: Accepted,
    outbox: Outbox,
    io: Box<dyn Io>,
    received: BytesMut,
    seals: Option<Seals>,
    options: StreamOptions,
}

/// Why a stream has ended. Requests without an answer will get none.
#[derive(Debug, thiserror::Error)]
pub enum StreamEnd {
    /// The [`Outbox`] was closed on this side and all of it has been written.
    #[error("closed by this node")]
    ClosedHere,
    /// The peer closed the connection between two messages.
    #[error("closed by the peer")]
    ClosedByPeer,
    /// The connection ended in the middle of a message.
    #[error("cut off within a message")]
    CutOff,
    /// The connection ended between two messages, but not by the will of a peer that proved who it
    /// is: it would have said so.
    #[error("ended without the peer's farewell: it was killed, or somebody cut the connection")]
    NoFarewell,
    /// What came is not made of frames.
    #[error("the peer sent garbage: {0}")]
    BadFrame(#[from] FrameError),
    /// A frame holds no message.
    #[error("the peer sent a bad message: {0}")]
    BadMessage(#[from] DecodeError),
    /// The peer does not take what is sent to it.
    #[error("the peer took nothing for {after:?}")]
    Stalled {
        /// The limit it exceeded.
        after: Duration,
    },
    /// The peer says nothing.
    #[error("the peer said nothing for {after:?}")]
    Silent {
        /// The limit it exceeded.
        after: Duration,
    },
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
}

/// What a stream runs over.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Stream {
    /// A stream to `peer` over any connection, of which `received` has been read already.
    ///
    /// [`dial`](crate::dial) and [`Acceptor`](crate::Acceptor) make them over TCP.
    pub fn new(
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        received: Bytes,
        peer: Accepted,
        options: StreamOptions,
    ) -> Self {
        Self::with_seals(io, received, peer, None, options)
    }

    /// Such a stream, on which every frame is sealed if there are `seals`.
    pub(crate) fn with_seals(
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        received: Bytes,
        peer: Accepted,
        seals: Option<Seals>,
        options: StreamOptions,
    ) -> Self {
        let outbox = Outbox::new(options.queue_bytes, peer.protocol, seals.is_some());
        Self { peer, outbox, io: Box::new(io), received: received.into(), seals, options }
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> Accepted {
        self.peer
    }

    /// The queue of messages to the peer. What is sent before [`run`](Self::run) waits for it.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// Sends and receives until the connection ends, and says why it did. `on_messages` gets all
    /// that one read brought, in order; while it runs nothing more is read, so a slow one slows the
    /// peer down and costs no memory.
    ///
    /// To end it, close the outbox, or drop the future. The outbox takes nothing any more then.
    pub async fn run(self, on_messages: impl FnMut(Vec<Message>)) -> StreamEnd {
        let Self { outbox, io, received, options, seals, peer } = self;
        let (sealer, opener) = match seals {
            Some(Seals { sealer, opener }) => (Some(sealer), Some(opener)),
            None => (None, None),
        };
        let frames = Frames { protocol: peer.protocol, opener };
        let abandoned = AbandonOnDrop(outbox);
        let (reader, writer) = tokio::io::split(io);
        let reading = pin!(read(reader, received, frames, options.silence, on_messages));
        let writing = pin!(write(writer, &abandoned.0, sealer, options.stall));
        let ended = tokio::select! {
            ended = reading => ended,
            ended = writing => ended,
        };
        ended.err().unwrap_or(StreamEnd::ClosedHere)
    }
}

/// However a stream ends, senders are told at once.
struct AbandonOnDrop(Outbox);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

async fn read(
    mut io: ReadHalf<Box<dyn Io>>,
    mut buffer: BytesMut,
    mut frames: Frames,
    silence: Option<Duration>,
    mut on_messages: impl FnMut(Vec<Message>),
) -> Result<(), StreamEnd> {
    let mut silence = silence.map(Silence::new);
    loop {
        let mut messages = Vec::new();
        let good = frames.take_messages(&mut buffer, &mut messages);
        if !messages.is_empty() {
            on_messages(messages);
        }
        good?;
        if frames.opener.as_ref().is_some_and(|opener| opener.ended) {
            return Err(StreamEnd::ClosedByPeer);
        }
        let wanted = wanted_bytes(&buffer, READ_BYTES, frames.next_bytes(&buffer)?);
        // What is left of the last piece of memory is warm, and most reads bring little.
        let left = buffer.capacity() - buffer.len();
        let wanted = if (ENOUGH_BYTES..wanted).contains(&left) { left } else { wanted };
        buffer.reserve(wanted);
        let mut space = (&mut buffer).limit(wanted);
        let got = unless_silent(&mut silence, pin!(io.read_buf(&mut space))).await?;
        if got == 0 {
            return Err(match frames.opener {
                _ if !buffer.is_empty() => StreamEnd::CutOff,
                Some(_) => StreamEnd::NoFarewell,
                None => StreamEnd::ClosedByPeer,
            });
        }
    }
}

/// One timer for all reads: setting one for each would cost more than the reading.
struct Silence {
    after: Duration,
    timer: Pin<Box<Sleep>>,
    broken: bool,
}

impl Silence {
    fn new(after: Duration) -> Self {
        Self { after, timer: Box::pin(sleep(after)), broken: false }
    }
}

/// Waits for a read; fails if nothing has come for the time of `silence`, noticed after twice that
/// at the latest.
async fn unless_silent(
    silence: &mut Option<Silence>,
    mut read: Pin<&mut impl Future<Output = io::Result<usize>>>,
) -> Result<usize, StreamEnd> {
    poll_fn(|cx| {
        if let Poll::Ready(read) = read.as_mut().poll(cx) {
            if let Some(silence) = silence {
                silence.broken = true;
            }
            return Poll::Ready(read.map_err(StreamEnd::from));
        }
        let Some(Silence { after, timer, broken }) = silence else { return Poll::Pending };
        while timer.as_mut().poll(cx).is_ready() {
            if !std::mem::take(broken) {
                return Poll::Ready(Err(StreamEnd::Silent { after: *after }));
            }
            timer.as_mut().reset(Instant::now() + *after);
        }
        Poll::Pending
    })
    .await
}

/// Waits for one step of writing, and sets a timer only if it has to.
async fn unless_stalled<T>(
    stall: Duration,
    step: impl Future<Output = io::Result<T>>,
) -> Result<T, StreamEnd> {
    let mut step = pin!(step);
    let mut timer = None;
    poll_fn(|cx| {
        if let Poll::Ready(done) = step.as_mut().poll(cx) {
            return Poll::Ready(done.map_err(StreamEnd::from));
        }
        let timer = timer.get_or_insert_with(|| Box::pin(sleep(stall)));
        timer.as_mut().poll(cx).map(|()| Err(StreamEnd::Stalled { after: stall }))
    })
    .await
}

/// How what comes is cut into messages.
struct Frames {
    protocol: Protocol,
    opener: Option<Opener>,
}

impl Frames {
    /// On an error, `messages` are those before it.
    fn take_messages(
        &mut self,
        buffer: &mut BytesMut,
        messages: &mut Vec<Message>,
    ) -> Result<(), StreamEnd> {
        while let Some(body) = match &mut self.opener {
            Some(opener) => opener.next_frame(buffer)?,
            None => next_frame(buffer)?,
        } {
            messages.push(decode_message(&body, self.protocol)?);
        }
        Ok(())
    }

    /// The length of the frame that `buffer` begins with, if it can be known.
    fn next_bytes(&self, buffer: &BytesMut) -> Result<Option<usize>, FrameError> {
        if self.opener.is_some() { sealed_bytes(buffer) } else { frame_bytes(buffer) }
    }
}

async fn write(
    mut io: WriteHalf<Box<dyn Io>>,
    outbox: &Outbox,
    mut sealer: Option<Sealer>,
    stall: Duration,
) -> Result<(), StreamEnd> {
    while let Some(mut batch) = outbox.take().await {
        let (mut written, mut ready) = (0, 0);
        while written < batch.len() {
            if written == ready {
                let rest = &mut batch[ready..];
                ready += sealer.as_mut().map_or(rest.len(), |sealer| sealer.seal(rest));
            }
            let len = unless_stalled(stall, io.write(&batch[written..ready])).await?;
            if len == 0 {
                return Err(StreamEnd::Io(io::ErrorKind::WriteZero.into()));
            }
            written += len;
            outbox.progressed(len);
        }
        // A socket holds nothing back, but what wraps one may.
        unless_stalled(stall, io.flush()).await?;
        outbox.written(batch);
    }
    if let Some(mut sealer) = sealer {
        unless_stalled(stall, io.write_all(&sealer.farewell())).await?;
    }
    // The peer reads all that was sent only if the connection is not reset behind it.
    let _ = timeout(stall, io.shutdown()).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use quorate_node::Response;
    use quorate_record::NodeId;
    use tokio::io::{DuplexStream, duplex};

    use super::*;
    use crate::encode_frame;

    fn peer() -> Accepted {
        Accepted { node: NodeId::new("n2").unwrap(), incarnation: 1, protocol: Protocol::NEWEST }
    }

    fn pong(id: u64) -> Message {
        Message::Response { id, notes: 0, body: Response::Pong { wall_ms: 0 } }
    }

    fn frames(ids: std::ops::Range<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        ids.for_each(|id| encode_frame(&pong(id), Protocol::NEWEST, &mut bytes).unwrap());
        bytes
    }

    fn stream(options: StreamOptions) -> (Stream, DuplexStream) {
        let (here, there) = duplex(1024);
        (Stream::new(here, Bytes::new(), peer(), options), there)
    }

    async fn run(stream: Stream) -> (Vec<Message>, StreamEnd) {
        let mut got = Vec::new();
        let end = stream.run(|messages| got.extend(messages)).await;
        (got, end)
    }

    #[tokio::test]
    async fn what_came_with_the_handshake_is_read_first() {
        let (here, mut there) = duplex(1024);
        let bytes = frames(0..4);
        let (early, late) = bytes.split_at(60);
        let early = Bytes::copy_from_slice(early);
        there.write_all(late).await.unwrap();
        drop(there);
        let (got, end) = run(Stream::new(here, early, peer(), StreamOptions::default())).await;
        assert_eq!(got, (0..4).map(pong).collect::<Vec<_>>());
        assert!(matches!(end, StreamEnd::ClosedByPeer), "{end}");
    }

    #[tokio::test]
    async fn messages_before_garbage_are_delivered_and_the_reason_is_given() {
        for (garbage, says) in [
            (&[0u8; 8][..], "a frame of 0 bytes"),
            (b"GET / HTTP/1.1\r\n", "a frame of 542393671 bytes"),
            (b"\x01\0\0\0\0\0\0\0\0", "a frame's CRC is"),
        ] {
            let (stream, mut there) = stream(StreamOptions::default());
            there.write_all(&[&frames(0..2), garbage].concat()).await.unwrap();
            let (got, end) = run(stream).await;
            assert_eq!(got.len(), 2);
            assert!(end.to_string().contains(says), "{end}");
        }
    }

    #[tokio::test]
    async fn an_end_within_a_message_is_told_from_one_between_messages() {
        let (stream, mut there) = stream(StreamOptions::default());
        there.write_all(&frames(0..1)[..20]).await.unwrap();
        drop(there);
        let (_, end) = run(stream).await;
        assert!(matches!(end, StreamEnd::CutOff), "{end}");
    }

    #[tokio::test]
    async fn closing_the_outbox_writes_what_waits_and_ends_the_stream() {
        let (stream, mut there) = stream(StreamOptions::default());
        let outbox = stream.outbox();
        (0..3).for_each(|id| outbox.try_send(&pong(id)).unwrap());
        outbox.close();
        let (_, end) = run(stream).await;
        assert!(matches!(end, StreamEnd::ClosedHere), "{end}");
        let mut got = Vec::new();
        there.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, frames(0..3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_given_up_on() {
        let (stream, _there) = stream(StreamOptions::default());
        let outbox = stream.outbox();
        let (_, end) = run(stream).await;
        assert!(matches!(end, StreamEnd::Silent { after } if after.as_secs() == 10), "{end}");
        assert_eq!(outbox.try_send(&pong(0)), Err(crate::SendError::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_on() {
        let (stream, _there) = stream(StreamOptions::default());
        let outbox = stream.outbox();
        (0..100).for_each(|id| outbox.try_send(&pong(id)).unwrap());
        let (_, end) = run(stream).await;
        assert!(matches!(end, StreamEnd::Stalled { after } if after.as_secs() == 5), "{end}");
        assert_eq!(outbox.queued_bytes(), 0);
    }
}
