use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quorate_node::Message;
use tokio::{sync::Notify, time::Instant};

use crate::{
    FRAME_HEADER_BYTES, Protocol,
    codec::age_message,
    encode_frame,
    frame::{LENGTH_BYTES, frame_bytes},
    is_spoken,
    seal::{encode_unsealed, sealed_bytes},
};

/// A spent buffer larger than this is given back to the system, so that one burst of large values
/// does not occupy its memory for ever.
const KEPT_BUFFER_BYTES: usize = 1024 * 1024;

/// Small messages may go beyond the limit by this part of it: a peer that is slow to take large
/// values must still hear refusals, acknowledgements and pings.
const RESERVE_PART: usize = 64;

/// The values in a small message have at most this many bytes together.
const SMALL_BYTES: usize = 4 * 1024;

/// About how much is handed to the writer at a time. What waits still ages, and goes when its time
/// is over; what was handed over does not.
const BATCH_BYTES: usize = 64 * 1024;

/// How exactly is known since when a message waits.
const MARK_EVERY: Duration = Duration::from_millis(5);

/// The queue of one stream: messages that wait, encoded, to be written.
///
/// It is bounded in bytes. What was sent between two writes goes out in one of them, as far as that
/// is no long one. A request has as much less time left as it has waited, and is not sent at all once
/// that is gone: what is done for it would be of no use to anybody. Cheap to clone; all clones are
/// the same queue.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Shared>);

/// Why a message was not sent. It will not be; nothing waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer is not taking messages as fast as they come.
    #[error("{queued_bytes} bytes wait for the peer already")]
    Full {
        /// How many bytes wait.
        queued_bytes: usize,
    },
    /// The connection has ended.
    #[error("the connection has ended")]
    Closed,
    /// There is no connection to the peer at the moment.
    #[error("not connected to the peer")]
    NotConnected,
    /// The peer speaks an older version of the protocol, which has no such message.
    #[error("the peer's version of the protocol has no such message")]
    Unspoken,
    /// The message fits in no frame.
    #[error("a message of {len_bytes} bytes is longer than a frame may be")]
    TooLarge {
        /// How many bytes it would have.
        len_bytes: usize,
    },
}

#[derive(Debug)]
struct Shared {
    limit_bytes: usize,
    protocol: Protocol,
    /// Whether the writer seals the frames; if not, they get their CRC here.
    sealed: bool,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Batch>,
    waiting_bytes: usize,
    spare: Vec<u8>,
    /// What the writer has taken and not yet written.
    in_flight_bytes: usize,
    /// Whether the writer has something that it has not [`written`](Outbox::written).
    writing: bool,
    writer_sleeps: bool,
    closed: bool,
}

/// Some whole frames.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    /// From which byte on, the messages were sent at about this time. Those before the first mark
    /// were sent when nothing was before them.
    marks: Vec<(usize, Instant)>,
}

impl Outbox {
    /// An empty queue in which at most `limit_bytes` may wait, or a single larger message.
    #[must_use]
    pub(crate) fn new(limit_bytes: usize, protocol: Protocol, sealed: bool) -> Self {
        let (state, wake) = (Mutex::default(), Notify::new());
        Self(Arc::new(Shared { limit_bytes, protocol, sealed, state, wake }))
    }

    /// Queues a message. Small ones may go a little beyond the limit.
    ///
    /// # Errors
    /// [`SendError`], except for [`SendError::NotConnected`]; the message will not be sent then.
    ///
    /// # Panics
    /// As [`encode_message`](crate::encode_message) does.
    pub fn try_send(&self, message: &Message) -> Result<(), SendError> {
        if !is_spoken(message, self.0.protocol) {
            return Err(SendError::Unspoken);
        }
        let mut state = self.lock();
        if state.closed {
            return Err(SendError::Closed);
        }
        let queued_bytes = state.queued_bytes();
        let full = Err(SendError::Full { queued_bytes });
        let is_small = message.value_bytes() <= SMALL_BYTES;
        let reserve_bytes = if is_small { self.0.limit_bytes / RESERVE_PART } else { 0 };
        let limit_bytes = self.0.limit_bytes + reserve_bytes;
        if queued_bytes >= limit_bytes {
            return full;
        }
        let is_writing = state.writing;
        let (batch, is_first) = state.last_batch();
        let end = batch.bytes.len();
        let encode = if self.0.sealed { encode_unsealed } else { encode_frame };
        if let Err(len_bytes) = encode(message, self.0.protocol, &mut batch.bytes) {
            return Err(SendError::TooLarge { len_bytes });
        }
        let frame_bytes = batch.bytes.len() - end;
        // Its length is known only now. A message above the limit may still have the queue alone.
        if queued_bytes > 0 && queued_bytes + frame_bytes > limit_bytes {
            batch.bytes.truncate(end);
            return full;
        }
        if is_writing || !is_first {
            batch.mark(end, Instant::now());
        }
        state.waiting_bytes += frame_bytes;
        let writer_sleeps = mem::take(&mut state.writer_sleeps);
        drop(state);
        if writer_sleeps {
            self.0.wake.notify_one();
        }
        Ok(())
    }

    /// How many bytes wait to be written.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.lock().queued_bytes()
    }

    /// Takes no more messages; what waits is still written, then the stream ends.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.writer_sleeps = false;
        drop(state);
        self.0.wake.notify_one();
    }

    /// Takes no more messages and forgets those that wait.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        *state = State { closed: true, ..State::default() };
    }

    /// What has waited for longest, in order: all of it, or a part if that is much; `None` once the
    /// queue is closed and empty.
    ///
    /// Only the one writer calls this, after it has [`written`](Self::written) what it took before.
    pub(crate) async fn take(&self) -> Option<Vec<u8>> {
        loop {
            {
                let mut state = self.lock();
                while let Some(batch) = state.waiting.pop_front() {
                    state.waiting_bytes -= batch.bytes.len();
                    let framing = if self.0.sealed { Framing::Sealed } else { Framing::Checked };
                    let bytes = batch.aged(framing);
                    if !bytes.is_empty() {
                        state.in_flight_bytes = bytes.len();
                        state.writing = true;
                        return Some(bytes);
                    }
                }
                if state.closed {
                    return None;
                }
                state.writer_sleeps = true;
            }
            self.0.wake.notified().await;
        }
    }

    /// Of what was taken last, `len_bytes` more have been written.
    pub(crate) fn progressed(&self, len_bytes: usize) {
        let mut state = self.lock();
        state.in_flight_bytes = state.in_flight_bytes.saturating_sub(len_bytes);
    }

    /// Gives the buffer of a written batch back, to be used again.
    pub(crate) fn written(&self, mut batch: Vec<u8>) {
        batch.clear();
        let mut state = self.lock();
        state.in_flight_bytes = 0;
        state.writing = false;
        if batch.capacity() <= KEPT_BUFFER_BYTES {
            state.spare = batch;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while encoding leaves half a frame behind: nothing after it would make sense.
        self.0.state.lock().unwrap_or_else(|poisoned| {
            let mut state = PoisonError::into_inner(poisoned);
            *state = State { closed: true, ..State::default() };
            self.0.wake.notify_one();
            state
        })
    }
}

impl State {
    fn queued_bytes(&self) -> usize {
        self.waiting_bytes + self.in_flight_bytes
    }

    /// The batch that the next message is put into, and whether it is the first that waits.
    fn last_batch(&mut self) -> (&mut Batch, bool) {
        if self.waiting.back().is_none_or(|batch| batch.bytes.len() >= BATCH_BYTES) {
            let bytes = mem::take(&mut self.spare);
            self.waiting.push_back(Batch { bytes, marks: Vec::new() });
        }
        let is_first = self.waiting.len() == 1;
        (self.waiting.back_mut().expect("it was just put there"), is_first)
    }
}

/// What frames that wait to be sent have around their bodies.
#[derive(Clone, Copy)]
enum Framing {
    /// Before them, their CRC.
    Checked,
    /// Behind them, room for their seal.
    Sealed,
}

impl Framing {
    /// The first of some whole frames.
    fn first_of(self, frames: &mut [u8]) -> &mut [u8] {
        let bytes = match self {
            Self::Checked => frame_bytes(frames),
            Self::Sealed => sealed_bytes(frames),
        };
        &mut frames[..bytes.ok().flatten().expect("frames are whole")]
    }

    /// Takes the time that the message in a frame has waited from what it has left; `false` if it is
    /// a request and nothing is left.
    fn age(self, frame: &mut [u8], waited: Duration) -> bool {
        match self {
            Self::Sealed => age_message(&mut frame[LENGTH_BYTES..], waited),
            Self::Checked => {
                let (header, body) = frame.split_at_mut(FRAME_HEADER_BYTES);
                let is_left = age_message(body, waited);
                header[LENGTH_BYTES..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
                is_left
            }
        }
    }
}

impl Batch {
    fn mark(&mut self, from: usize, now: Instant) {
        if self.marks.last().is_none_or(|(_, last)| now - *last >= MARK_EVERY) {
            self.marks.push((from, now));
        }
    }

    /// Its frames without the requests whose time is over; the others have as much less left as they
    /// have waited.
    fn aged(mut self, framing: Framing) -> Vec<u8> {
        let Some(&(first, _)) = self.marks.first() else { return self.bytes };
        let now = Instant::now();
        let mut marks = self.marks.iter().peekable();
        let mut waited = Duration::ZERO;
        let (mut at, mut kept) = (first, first);
        while at < self.bytes.len() {
            while let Some((_, since)) = marks.next_if(|(from, _)| *from <= at) {
                waited = now - *since;
            }
            let frame = framing.first_of(&mut self.bytes[at..]);
            let frame_bytes = frame.len();
            if framing.age(frame, waited) {
                self.bytes.copy_within(at..at + frame_bytes, kept);
                kept += frame_bytes;
            }
            at += frame_bytes;
        }
        self.bytes.truncate(kept);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use quorate_node::{Request, Response};
    use quorate_record::{NodeId, Record, Timestamp, Version, Writer};

    use super::*;
    use crate::{decode_message, next_frame};

    const PONG_BYTES: usize = 8 + 21;

    fn pong(id: u64) -> Message {
        Message::Response { id, notes: 0, body: Response::Pong { wall_ms: 0 } }
    }

    fn large(value_bytes: usize) -> Message {
        let writer = Writer { node: NodeId::new("n1").unwrap(), incarnation: 1 };
        let version = Version { timestamp: Timestamp::ZERO, writer };
        let record = Record::live(version, Bytes::from(vec![0; value_bytes]));
        Message::Response { id: 0, notes: 0, body: Response::Found(Some(record)) }
    }

    async fn taken(outbox: &Outbox) -> Vec<u64> {
        let batch = outbox.take().await.unwrap();
        let mut buffer = BytesMut::from(&batch[..]);
        outbox.written(batch);
        let mut ids = Vec::new();
        while let Some(body) = next_frame(&mut buffer).unwrap() {
            let (Message::Request { id, .. } | Message::Response { id, .. }) =
                decode_message(&body, Protocol::NEWEST).unwrap();
            ids.push(id);
        }
        ids
    }

    #[tokio::test]
    async fn all_that_gathered_goes_out_at_once_and_in_order() {
        let outbox = Outbox::new(1000, Protocol::NEWEST, false);
        (1..=3).for_each(|id| outbox.try_send(&pong(id)).unwrap());
        assert_eq!(outbox.queued_bytes(), 3 * PONG_BYTES);
        assert_eq!(taken(&outbox).await, [1, 2, 3]);
        assert_eq!(outbox.queued_bytes(), 0);
    }

    #[tokio::test]
    async fn what_is_being_written_counts_as_queued() {
        let outbox = Outbox::new(2 * PONG_BYTES, Protocol::NEWEST, false);
        outbox.try_send(&pong(1)).unwrap();
        let batch = outbox.take().await.unwrap();
        outbox.try_send(&pong(2)).unwrap();
        let full = Err(SendError::Full { queued_bytes: 2 * PONG_BYTES });
        assert_eq!(outbox.try_send(&pong(3)), full);
        outbox.progressed(PONG_BYTES - 1);
        let full = Err(SendError::Full { queued_bytes: PONG_BYTES + 1 });
        assert_eq!(outbox.try_send(&pong(3)), full);
        outbox.written(batch);
        assert_eq!(outbox.try_send(&pong(3)), Ok(()));
        assert_eq!(taken(&outbox).await, [2, 3]);
    }

    #[tokio::test]
    async fn a_message_above_the_limit_needs_the_queue_for_itself() {
        let outbox = Outbox::new(100, Protocol::NEWEST, false);
        outbox.try_send(&pong(1)).unwrap();
        let full = Err(SendError::Full { queued_bytes: PONG_BYTES });
        assert_eq!(outbox.try_send(&large(1000)), full);
        assert_eq!(taken(&outbox).await, [1]);
        assert_eq!(outbox.try_send(&large(1000)), Ok(()));
        assert!(matches!(outbox.try_send(&pong(2)), Err(SendError::Full { .. })));
    }

    #[tokio::test]
    async fn a_sleeping_writer_is_woken() {
        let outbox = Outbox::new(1000, Protocol::NEWEST, false);
        let writer = tokio::spawn({
            let outbox = outbox.clone();
            async move { (taken(&outbox).await, outbox.take().await) }
        });
        while !outbox.lock().writer_sleeps {
            tokio::task::yield_now().await;
        }
        outbox.try_send(&pong(1)).unwrap();
        outbox.close();
        assert_eq!(writer.await.unwrap(), (vec![1], None));
    }

    #[tokio::test]
    async fn closing_lets_out_what_waits_and_abandoning_does_not() {
        let outbox = Outbox::new(1000, Protocol::NEWEST, false);
        outbox.try_send(&pong(1)).unwrap();
        outbox.close();
        assert_eq!(outbox.try_send(&pong(2)), Err(SendError::Closed));
        assert_eq!(taken(&outbox).await, [1]);
        assert_eq!(outbox.take().await, None);

        let outbox = Outbox::new(1000, Protocol::NEWEST, false);
        outbox.try_send(&pong(1)).unwrap();
        outbox.abandon();
        assert_eq!(outbox.try_send(&pong(2)), Err(SendError::Closed));
        assert_eq!(outbox.take().await, None);
    }

    fn request(id: u64, ms_left: u64) -> Message {
        let body = Request::Ping { wall_ms: 0 };
        Message::Request { id, time_left: Duration::from_millis(ms_left), body }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_has_less_time_for_having_waited_and_goes_when_it_has_none() {
        for (sealed, header) in [(false, crate::FRAME_HEADER_BYTES), (true, 4)] {
            let outbox = Outbox::new(1000, Protocol::NEWEST, sealed);
            outbox.try_send(&request(1, 100)).unwrap();
            let batch = outbox.take().await.unwrap();
            for (id, ms_left) in [(2, 100), (3, 1_000), (4, 300)] {
                outbox.try_send(&request(id, ms_left)).unwrap();
            }
            tokio::time::advance(Duration::from_millis(200)).await;
            outbox.try_send(&pong(5)).unwrap();
            outbox.try_send(&request(6, 150)).unwrap();
            tokio::time::advance(Duration::from_millis(100)).await;
            outbox.written(batch);
            let mut rest = &outbox.take().await.unwrap()[..];
            let mut got = Vec::new();
            while let Some(len) = rest.first_chunk() {
                let body_bytes = u32::from_le_bytes(*len) as usize;
                let body = &rest[header..header + body_bytes];
                if !sealed {
                    assert_eq!(crc32fast::hash(body).to_le_bytes(), rest[4..8]);
                }
                got.push(decode_message(&Bytes::copy_from_slice(body), Protocol::NEWEST).unwrap());
                rest = &rest[if sealed { 4 + 16 } else { 8 } + body_bytes..];
            }
            assert_eq!(got, [request(3, 700), pong(5), request(6, 50)]);
            assert_eq!(outbox.lock().waiting_bytes, 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_behind_a_large_message_ages_from_the_beginning() {
        let outbox = Outbox::new(1 << 20, Protocol::NEWEST, false);
        outbox.try_send(&large(BATCH_BYTES)).unwrap();
        outbox.try_send(&request(1, 100)).unwrap();
        outbox.try_send(&request(2, 300)).unwrap();
        let batch = outbox.take().await.unwrap();
        // All of it is with what wraps the socket, which has not let go of it.
        outbox.progressed(batch.len());
        tokio::time::advance(Duration::from_millis(200)).await;
        outbox.try_send(&request(3, 100)).unwrap();
        tokio::time::advance(Duration::from_millis(50)).await;
        outbox.written(batch);
        assert_eq!(taken(&outbox).await, [2, 3]);
    }

    #[tokio::test]
    async fn much_is_handed_over_in_parts() {
        let outbox = Outbox::new(1 << 20, Protocol::NEWEST, false);
        (0..3).for_each(|_| outbox.try_send(&large(BATCH_BYTES)).unwrap());
        for _ in 0..3 {
            assert_eq!(taken(&outbox).await.len(), 1);
        }
        assert_eq!(outbox.queued_bytes(), 0);
    }

    #[test]
    fn a_small_message_gets_through_where_a_large_one_does_not() {
        let outbox = Outbox::new(40 * 1024, Protocol::NEWEST, false);
        let found = |id| {
            let writer = Writer { node: NodeId::new("n1").unwrap(), incarnation: 1 };
            let version = Version { timestamp: Timestamp::from_bits(1), writer };
            let record = Record::live(version, vec![0; 40 * 1024]);
            Message::Response { id, notes: 0, body: Response::Found(Some(record)) }
        };
        assert_eq!(outbox.try_send(&found(1)), Ok(()));
        assert!(matches!(outbox.try_send(&found(2)), Err(SendError::Full { .. })));
        let refusal = Response::Refused(quorate_node::Refusal::Overloaded);
        assert_eq!(outbox.try_send(&Message::Response { id: 2, notes: 0, body: refusal }), Ok(()));
    }
}
