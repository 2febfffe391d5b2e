use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{
    StatusCode,
    body::{Body, Frame, Incoming},
    header::{EXPECT, HeaderMap},
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    HttpLimits,
    budget::{Budget, Share},
    problem::Problem,
};

/// The body of a request, as long as it has not been read.
pub(super) struct Upload {
    incoming: Incoming,
    state: State,
}

enum State {
    /// Not asked for yet; the client sends it only when it is.
    Withheld,
    Coming,
    Finished,
}

/// A body that has been read to its end, and its part of the memory for bodies.
pub(super) struct Received<'a> {
    pub(super) bytes: Bytes,
    _share: Share<&'a Budget>,
}

/// Memory that a client gets for having announced a length.
const MAX_ADVANCE_BYTES: usize = 64 * 1024;

/// A body that comes in one piece of at least so many bytes is not copied; a shorter one would keep
/// a whole read buffer from being used again.
const MIN_SHARED_BYTES: usize = 4 * 1024;

/// Most bytes of a body where none belongs; some programs send an empty object with everything.
const MAX_IGNORED_BYTES: usize = 64 * 1024;

impl Upload {
    pub(super) fn new(headers: &HeaderMap, incoming: Incoming) -> Self {
        let state = if incoming.is_end_stream() {
            State::Finished
        } else if headers.contains_key(EXPECT) {
            State::Withheld
        } else {
            State::Coming
        };
        Self { incoming, state }
    }

    /// Reads the body to its end.
    ///
    /// # Errors
    /// `413` above `most_bytes`, before anything is read if the announced length says so; `503` if
    /// the memory for bodies is used up; `408` if it comes too slowly; `400` if it ends early.
    pub(super) async fn collect<'a>(
        &mut self,
        most_bytes: usize,
        limits: &HttpLimits,
        budget: &'a Budget,
    ) -> Result<Received<'a>, Problem> {
        let full = || Problem::overloaded("too many bodies are being received");
        let announced = match self.incoming.size_hint().exact() {
            Some(len) => match usize::try_from(len) {
                Ok(len) if len <= most_bytes => Some(len),
                _ => return Err(Problem::too_large(most_bytes)),
            },
            None => None,
        };
        if !budget.has(announced.unwrap_or(0)) {
            return Err(full());
        }
        // Taken as the bytes come: whoever announces much and sends nothing blocks nobody.
        let mut share = budget.take(0).expect("nothing is always left");
        let mut bytes = BytesMut::new();
        if let State::Finished = self.state {
            return Ok(Received { bytes: bytes.freeze(), _share: share });
        }
        self.state = State::Coming;
        let mut start = None;
        loop {
            let frame = match self.frame_already_here().await {
                Some(frame) => frame,
                None => {
                    let start = *start.get_or_insert_with(Instant::now);
                    let due = start + limits.body_due(bytes.len());
                    timeout_at(due, self.incoming.frame()).await.map_err(|_| too_slow())?
                }
            };
            let frame = match frame {
                Some(Err(_)) => return Err(cut_short()),
                Some(Ok(frame)) => frame,
                None => break,
            };
            let Ok(data) = frame.into_data() else { continue };
            if data.len() > most_bytes - bytes.len() {
                return Err(Problem::too_large(most_bytes));
            }
            if !share.grow(data.len()) {
                return Err(full().closing());
            }
            if announced == Some(data.len()) && data.len() >= MIN_SHARED_BYTES {
                self.state = State::Finished;
                return Ok(Received { bytes: data, _share: share });
            }
            if bytes.is_empty() {
                bytes.reserve(announced.unwrap_or(data.len()).min(MAX_ADVANCE_BYTES));
            }
            bytes.extend_from_slice(&data);
            if announced == Some(bytes.len()) {
                break;
            }
        }
        self.state = State::Finished;
        if announced.is_some_and(|len| len != bytes.len()) {
            return Err(cut_short());
        }
        Ok(Received { bytes: bytes.freeze(), _share: share })
    }

    /// The next part of the body, if it has come already; hyper hands it over only when it gets its
    /// turn. That spares a small body, which comes with its head, a timer.
    async fn frame_already_here(&mut self) -> Option<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut had_turn = false;
        poll_fn(|cx| match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            Poll::Pending if had_turn => Poll::Ready(None),
            Poll::Pending => {
                had_turn = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await
    }

    /// Reads past a body that means nothing here.
    ///
    /// # Errors
    /// As [`collect`](Self::collect).
    pub(super) async fn ignore(
        &mut self,
        limits: &HttpLimits,
        budget: &Budget,
    ) -> Result<(), Problem> {
        if let State::Finished = self.state {
            return Ok(());
        }
        self.collect(MAX_IGNORED_BYTES, limits, budget).await.map(drop)
    }

    /// Whether the client still waits to be asked for it; then nobody can tell what it sends next.
    pub(super) fn is_withheld(&self) -> bool {
        matches!(self.state, State::Withheld)
    }

    /// Goes on reading what nobody wants, for a while and beside the answer: a connection that is
    /// closed with bytes unread is reset, and the client might never see the answer.
    ///
    /// A client that still waits to be asked for the body is not asked.
    pub(super) fn linger(self, limits: &HttpLimits) {
        let State::Coming = self.state else { return };
        let (most_bytes, most_time) = (limits.linger_bytes, limits.linger);
        let mut incoming = self.incoming;
        tokio::spawn(timeout(most_time, async move {
            let mut seen_bytes = 0;
            while let Some(Ok(frame)) = incoming.frame().await {
                seen_bytes += frame.data_ref().map_or(0, Bytes::len);
                if seen_bytes > most_bytes {
                    break;
                }
            }
        }));
    }
}

impl HttpLimits {
    /// How long after its beginning a body of which `received` bytes are here must go on.
    fn body_due(&self, received: usize) -> Duration {
        let received = u32::try_from(received).unwrap_or(u32::MAX);
        let earned = Duration::from_secs(1) * received / self.min_body_bytes_per_s.max(1);
        (self.body_grace + earned).min(self.body_timeout)
    }
}

fn too_slow() -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, "the body came too slowly").closing()
}

fn cut_short() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "the body ended early or was malformed").closing()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_to_keep_a_minimum_rate_after_a_grace_and_to_end() {
        let limits = HttpLimits::default();
        assert_eq!(limits.body_due(0), Duration::from_secs(5));
        assert_eq!(limits.body_due(10 * 1024), Duration::from_secs(15));
        assert_eq!(limits.body_due(usize::MAX), Duration::from_secs(30));
    }
}
