use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::{budget::Held, guests::Guest};

/// A connection that watches what is read from it: for requests whose length or target can be
/// understood in two ways, for trailers that are not written as they must be, and for heads that take
/// too long.
///
/// hyper settles such requests silently (it lets `Transfer-Encoding` win, and folds repeated
/// lengths into one) before anybody can see them, and a proxy in front may have settled them the
/// other way (RFC 9112 §6.3 and §11.2). So the heads are looked at on their way in.
///
/// hyper could limit the time of a head too, but sets a timer for each one. Most come whole, in one
/// read; only for the others is a timer needed.
pub(super) struct Watched<S> {
    stream: S,
    scan: Scan,
    findings: Arc<Findings>,
    guest: Arc<Guest>,
    rests: bool,
    stalled: bool, // some of an answer has not been taken yet
    limits: ReadLimits,
    wait: Option<(Awaited, Pin<Box<Sleep>>)>,
}

/// How long a [`Watched`] connection may keep this node waiting; beyond that, reading fails.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadLimits {
    /// From the first byte of a head to its end.
    pub(super) head: Duration,
    /// Before a request begins; noticed after twice that at the latest.
    pub(super) idle: Duration,
}

/// What a silent connection is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Awaited {
    /// Whose head has begun; else the next request.
    rest_of_head: bool,
    /// How many heads have ended so far.
    requests: u64,
}

/// What a [`Watched`] connection has found.
#[derive(Debug)]
pub(super) struct Findings {
    doubt: OnceLock<(u64, Doubt)>, // from which request on, counted from 0
    asked: AtomicU64,
    answered: AtomicU64,
    over: AtomicBool,
    leaving: AtomicBool,
    /// What answers take up that have not been written yet.
    held: Mutex<Vec<Arc<Held>>>,
}

/// What can be understood in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Where the request ends.
    Length,
    /// What it is for: its target has a `#`, behind which hyper cuts it without a word.
    Target,
}

/// Far above what hyper takes for a whole head.
const MAX_LINE_BYTES: usize = 32 * 1024;

impl<S> Watched<S> {
    pub(super) fn new(stream: S, limits: ReadLimits, guest: Arc<Guest>) -> (Self, Arc<Findings>) {
        let findings = Arc::new(Findings {
            doubt: OnceLock::new(),
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            over: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            held: Mutex::default(),
        });
        let watched = Self {
            stream,
            scan: Scan::default(),
            findings: Arc::clone(&findings),
            guest,
            rests: true,
            stalled: false,
            limits,
            wait: None,
        };
        (watched, findings)
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// Says that this connection is idle if all requests are answered, all answers are taken, and no
    /// more than a part of another head has come.
    fn rest_if_idle(&mut self) {
        let Some(Awaited { requests, .. }) = self.scan.awaited() else { return };
        if !self.rests && !self.is_owed(requests) {
            self.rests = true;
            self.guest.rest();
        }
    }

    /// Whether an answer is still to be given, or to be taken.
    fn is_owed(&self, requests: u64) -> bool {
        self.stalled || self.findings.answered.load(Ordering::Relaxed) < requests
    }

    /// Nothing more has come for now: whether that may go on.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(awaited) = self.scan.awaited() else { return Poll::Pending };
        if awaited.rest_of_head
            && self.findings.leaving.load(Ordering::Relaxed)
            && !self.is_owed(awaited.requests)
        {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        // Who waits for an answer, or takes a long one slowly, is not idle.
        if !awaited.rest_of_head && self.is_owed(awaited.requests) {
            return Poll::Pending;
        }
        let limit = if awaited.rest_of_head { self.limits.head } else { self.limits.idle };
        let timer = match &mut self.wait {
            Some((since, timer)) if *since == awaited => {
                let is_over = timer.is_elapsed();
                return if is_over { Poll::Ready(Err(too_long())) } else { Poll::Pending };
            }
            // A timer for idleness runs out before it is set again: that spares one a request.
            Some((since, timer))
                if !since.rest_of_head && !awaited.rest_of_head && !timer.is_elapsed() =>
            {
                return Poll::Pending;
            }
            Some((since, timer)) => {
                timer.as_mut().reset(Instant::now() + limit);
                *since = awaited;
                timer
            }
            wait => &mut wait.insert((awaited, Box::pin(sleep(limit)))).1,
        };
        timer.as_mut().poll(cx).map(|()| Err(too_long()))
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "nothing came for too long")
}

impl Findings {
    /// What there is to doubt of the next request, in the order they were sent. To be called once a
    /// request, when its head has been read.
    pub(super) fn next_doubt(&self) -> Option<Doubt> {
        // Reading and answering take turns in one task, so nothing weaker or stronger matters.
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        self.doubt.get().filter(|(first, _)| number >= *first).map(|(_, doubt)| *doubt)
    }

    /// There is an answer to the request that was asked for last.
    pub(super) fn answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// An answer takes up this, until all that there is to be written has been.
    pub(super) fn hold(&self, held: Arc<Held>) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(held);
    }

    fn release(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// No further head is waited for.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// What follows is no HTTP any more.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf)?;
        if self.findings.over.load(Ordering::Relaxed) {
            return read.map(Ok);
        }
        if read.is_pending() {
            self.rest_if_idle();
            return self.poll_patience(cx);
        }
        let asked = self.scan.requests;
        self.scan.feed(&buf.filled()[before..]);
        // Not before a head is whole: whoever has only begun one can give way, too.
        let is_asking = self.scan.requests > asked || self.scan.awaited().is_none();
        if self.rests && is_asking {
            self.rests = false;
            self.guest.work();
        }
        match self.scan.state {
            State::Ambiguous(doubt) => {
                self.findings.doubt.get_or_init(|| (self.scan.requests, doubt));
                self.findings.end();
            }
            // hyper reads them as if they went on, and then nobody knows where a request begins.
            State::Malformed => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            _ => {}
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.stalled |= written.is_pending();
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.stalled |= written.is_pending();
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Comes when all that there is of an answer has been written. After it hyper may not read again
    /// until it is told that something has come.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.stalled = flushed.is_pending();
        if flushed.is_ready() {
            self.findings.release();
        }
        self.rest_if_idle();
        if flushed.is_ready()
            && !self.findings.over.load(Ordering::Relaxed)
            && let Poll::Ready(tired) = self.poll_patience(cx)
        {
            return Poll::Ready(tired);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Follows the requests in a stream of bytes, however it is cut.
#[derive(Default)]
struct Scan {
    state: State,
    line: Vec<u8>, // the beginning of a line whose end has not come yet
    requests: u64, // whose heads have ended
}

#[derive(Default)]
enum State {
    /// Before a request line; empty lines there are skipped, as hyper does.
    #[default]
    Start,
    Head(Head),
    Body {
        left: u64,
    },
    ChunkSize,
    /// The chunk and the line end behind it.
    Chunk {
        left: u64,
    },
    Trailer,
    /// The request whose head this is can be understood in two ways.
    Ambiguous(Doubt),
    /// Nothing that could be followed: hyper refuses it.
    Lost,
    /// Trailers that are not written as they must be, which hyper does not mind.
    Malformed,
}

#[derive(Clone, Copy, Default)]
struct Head {
    length: Option<u64>,
    lengths: u32,
    encodings: u32,
    has_fragment: bool,
}

impl Scan {
    /// What is to come next; `None` within a body, whose reader has a timer, and where hyper will
    /// not go on.
    fn awaited(&self) -> Option<Awaited> {
        let rest_of_head = match self.state {
            State::Start => !self.line.is_empty(),
            State::Head(_) => true,
            _ => return None,
        };
        Some(Awaited { rest_of_head, requests: self.requests })
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Ambiguous(_) | State::Lost | State::Malformed => return,
                State::Body { left } | State::Chunk { left } => {
                    let skipped = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[skipped..];
                    *left -= skipped as u64;
                    if *left == 0 {
                        let in_chunk = matches!(self.state, State::Chunk { .. });
                        self.state = if in_chunk { State::ChunkSize } else { State::Start };
                    }
                }
                _ => {
                    let end = bytes.iter().position(|&byte| byte == b'\n');
                    if self.line.len() + end.unwrap_or(bytes.len()) > MAX_LINE_BYTES {
                        let in_trailer = matches!(self.state, State::Trailer);
                        self.state = if in_trailer { State::Malformed } else { State::Lost };
                        return;
                    }
                    let Some(end) = end else {
                        self.line.extend_from_slice(bytes);
                        return;
                    };
                    let (line, rest) = bytes.split_at(end);
                    bytes = &rest[1..];
                    if self.line.is_empty() {
                        self.take_line(line);
                    } else {
                        let mut whole = std::mem::take(&mut self.line);
                        whole.extend_from_slice(line);
                        self.take_line(&whole);
                        whole.clear();
                        self.line = whole; // its space, for the next one
                    }
                }
            }
        }
    }

    fn take_line(&mut self, line: &[u8]) {
        // Of a head hyper takes lines that end without it, too.
        let (line, is_whole) = line.strip_suffix(b"\r").map_or((line, false), |line| (line, true));
        self.state = match self.state {
            State::Start if line.is_empty() => State::Start,
            State::Start => {
                State::Head(Head { has_fragment: line.contains(&b'#'), ..Head::default() })
            }
            State::Head(head) if !line.is_empty() => State::Head(head.with(line)),
            State::Head(head) => self.end_of(head),
            State::ChunkSize if !is_whole => State::Lost,
            State::ChunkSize => match chunk_size(line) {
                Some(0) => State::Trailer,
                Some(size) => State::Chunk { left: size.saturating_add(2) },
                None => State::Lost,
            },
            State::Trailer if !is_whole => State::Malformed,
            State::Trailer if line.is_empty() => State::Start,
            State::Trailer => State::Trailer,
            _ => State::Lost,
        };
    }

    fn end_of(&mut self, head: Head) -> State {
        if head.lengths > 1 || head.encodings > 1 || (head.lengths == 1 && head.encodings == 1) {
            return State::Ambiguous(Doubt::Length);
        }
        if head.has_fragment {
            return State::Ambiguous(Doubt::Target);
        }
        self.requests += 1;
        match (head.encodings, head.lengths, head.length) {
            (1, ..) => State::ChunkSize,
            (_, 1, None) => State::Lost,
            (_, _, None | Some(0)) => State::Start,
            (_, _, Some(left)) => State::Body { left },
        }
    }
}

impl Head {
    fn with(mut self, line: &[u8]) -> Self {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { return self };
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            self.lengths += 1;
            self.length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.encodings += 1;
        }
        self
    }
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|&byte| byte == b';').next()?.trim_ascii();
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The number of the first ambiguous request in what comes in these `pieces`, and how many heads
/// were followed to their end.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Option<u64>, u64) {
    let mut scan = Scan::default();
    pieces.into_iter().for_each(|piece| scan.feed(piece));
    let is_ambiguous = matches!(scan.state, State::Ambiguous(_));
    (is_ambiguous.then_some(scan.requests), scan.requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_scan(text: &str, expected: (Option<u64>, u64)) {
        for step in [1, 2, 3, 7, text.len()] {
            assert_eq!(scan(text.as_bytes().chunks(step)), expected, "{text:?} in steps of {step}");
        }
    }

    #[test]
    fn clear_requests_are_followed_one_after_the_other() {
        assert_scan(
            "GET /a HTTP/1.1\r\nHost: a\r\n\r\n\
             PUT /b HTTP/1.1\r\nContent-Length: 28\r\n\r\nContent-Length: 1\r\nX: 1\r\n\r\n12\
             \r\nPUT /c HTTP/1.1\nTransfer-Encoding: chunked\n\n1c;x=y\r\n\
             PUT / HTTP/1.1\r\nA: b\r\n\r\n1234\r\n0\r\nTrailer: x\r\n\r\n\
             DELETE /d HTTP/1.1\r\n\r\n",
            (None, 4),
        );
    }

    #[test]
    fn two_lengths_are_found_wherever_they_stand() {
        for head in [
            "Content-Length: 4\r\nTransfer-Encoding: chunked",
            "transfer-encoding: chunked\r\nX: y\r\nCONTENT-LENGTH: 4",
            "Content-Length: 4\r\ncontent-length: 4",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        ] {
            let first = format!("PUT /a HTTP/1.1\r\n{head}\r\n\r\n");
            assert_scan(&first, (Some(0), 0));
            let second = format!("PUT /b HTTP/1.1\r\nContent-Length: 3\r\n\r\n\r\n\r{first}");
            assert_scan(&second, (Some(1), 1));
        }
    }

    #[test]
    fn a_target_that_hyper_would_cut_is_found() {
        assert_scan("DELETE /kv/a#b HTTP/1.1\r\nHost: a\r\n\r\n", (Some(0), 0));
        assert_scan("GET / HTTP/1.1\r\nReferer: /a#b\r\n\r\n", (None, 1));
    }

    #[test]
    fn trailers_are_written_as_they_must_be_or_the_connection_ends() {
        let head = "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
        for (trailers, is_malformed) in
            [("X: y\r\n\r\n", false), ("X: y\n\r\n", true), ("X: y\r\n\n", true), ("\n", true)]
        {
            let mut scan = Scan::default();
            scan.feed(format!("{head}{trailers}").as_bytes());
            assert_eq!(matches!(scan.state, State::Malformed), is_malformed, "{trailers:?}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_left_to_hyper() {
        assert_scan(
            "PUT /a HTTP/1.1\r\nContent-Length: x\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            (None, 1),
        );
        assert_eq!(scan([b'x'; 2 * MAX_LINE_BYTES].chunks(100)), (None, 0));
    }

    #[test]
    fn a_line_is_too_long_however_it_is_cut() {
        for (bytes, heads) in [(MAX_LINE_BYTES, 1), (MAX_LINE_BYTES + 1, 0)] {
            let head = format!("{}\n\n", "x".repeat(bytes));
            for step in [100, MAX_LINE_BYTES, head.len()] {
                let found = scan(head.as_bytes().chunks(step));
                assert_eq!(found, (None, heads), "{bytes} bytes in steps of {step}");
            }
        }
    }
}
