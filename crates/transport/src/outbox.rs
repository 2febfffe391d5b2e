use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quorate_node::Message;
use tokio::sync::Notify;

use crate::{Protocol, encode_frame, is_spoken, seal::encode_unsealed};

/// A spent buffer larger than this is given back to the system, so that one burst of large values
/// does not occupy its memory for ever.
const KEPT_BUFFER_BYTES: usize = 1024 * 1024;

/// Small messages may go beyond the limit by this part of it: a peer that is slow to take large
/// values must still hear refusals, acknowledgements and pings.
const RESERVE_PART: usize = 64;

/// The values in a small message have at most this many bytes together.
const SMALL_BYTES: usize = 4 * 1024;

/// The queue of one stream: messages that wait, encoded, to be written.
///
/// It is bounded in bytes. What was sent between two writes goes out in one of them. Cheap to
/// clone; all clones are the same queue.
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
    waiting: Vec<u8>,
    spare: Vec<u8>,
    /// What the writer has taken and not yet written.
    in_flight_bytes: usize,
    writer_sleeps: bool,
    closed: bool,
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
        let end = state.waiting.len();
        let encode = if self.0.sealed { encode_unsealed } else { encode_frame };
        if let Err(len_bytes) = encode(message, self.0.protocol, &mut state.waiting) {
            return Err(SendError::TooLarge { len_bytes });
        }
        // Its length is known only now. A message above the limit may still have the queue alone.
        if queued_bytes > 0 && state.queued_bytes() > limit_bytes {
            state.waiting.truncate(end);
            return full;
        }
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

    /// All that waits, in order; `None` once the queue is closed and empty.
    ///
    /// Only the one writer calls this, after it has [`written`](Self::written) what it took before.
    pub(crate) async fn take(&self) -> Option<Vec<u8>> {
        loop {
            {
                let mut state = self.lock();
                if !state.waiting.is_empty() {
                    let spare = mem::take(&mut state.spare);
                    let batch = mem::replace(&mut state.waiting, spare);
                    state.in_flight_bytes = batch.len();
                    return Some(batch);
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
        self.waiting.len() + self.in_flight_bytes
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use quorate_node::Response;
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
