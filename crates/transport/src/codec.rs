//! The bytes of peer messages; the only place of this crate that knows bincode. Integers are
//! little-endian and of fixed width, every length and count is a `u64`, and no length is believed
//! before the bytes for it are seen to be there.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    time::Duration,
};

use bincode::{
    BorrowDecode, Encode,
    config::{Configuration, Fixint, Limit, LittleEndian},
    enc::write::Writer as Output,
    error::EncodeError,
};
use bytes::Bytes;
use quorate_node::{
    Cell, GroupSketch, MAX_BUCKETS, MAX_CELLS, MAX_GROUPS, MAX_ITEMS, MAX_SPANS, Message, Overview,
    PutOutcome, Refusal, Request, Response, Sketch, Standing,
};
use quorate_record::{
    Digest, Key, MAX_VALUE_BYTES, NodeId, Record, Stamp, Timestamp, Version, Writer,
};

use crate::{MAX_FRAME_BYTES, Protocol};

const CONFIG: Configuration<LittleEndian, Fixint, Limit<MAX_FRAME_BYTES>> =
    bincode::config::standard()
        .with_little_endian()
        .with_fixed_int_encoding()
        .with_limit::<MAX_FRAME_BYTES>();

/// Why some bytes are no [`Message`]. The connection they came on cannot be trusted any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end early, or a length or tag in them is impossible.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// A list holds more than a message may carry.
    #[error("{count} {what} in one message, the limit is {limit}")]
    TooMany {
        /// What the list holds.
        what: &'static str,
        /// How many it says it holds.
        count: u64,
        /// How many it may hold.
        limit: usize,
    },
    /// A span of tokens whose first token lies behind its last.
    #[error("the span {first:016x} to {last:016x} is empty")]
    EmptySpan {
        /// Its first token.
        first: u64,
        /// Its last token.
        last: u64,
    },
    /// A record that is not as it should be.
    #[error("a record is damaged or breaks a limit")]
    Record(#[from] quorate_record::DecodeError),
    /// There are more bytes than the message has.
    #[error("{count} bytes too many")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
}

/// The first byte of a message. Answers have the highest bit set.
mod kind {
    pub(super) const PING: u8 = 0x01;
    pub(super) const PUT: u8 = 0x02;
    pub(super) const GET: u8 = 0x03;
    pub(super) const MERGE: u8 = 0x04;
    pub(super) const DIGESTS: u8 = 0x05;
    pub(super) const LIST: u8 = 0x06;
    pub(super) const FETCH: u8 = 0x07;
    pub(super) const VERSION: u8 = 0x08;
    pub(super) const OVERVIEW: u8 = 0x10;
    pub(super) const SKETCHES: u8 = 0x11;
    pub(super) const MEET: u8 = 0x20;
    pub(super) const REPORT: u8 = 0x21;
    pub(super) const MET: u8 = ANSWER | MEET;
    pub(super) const REPORTED: u8 = ANSWER | REPORT;
    pub(super) const UNCOUNTED: u8 = ANSWER | 0x22;
    pub(super) const ANSWER: u8 = 0x80;
    pub(super) const PONG: u8 = ANSWER | PING;
    pub(super) const PUT_DONE: u8 = ANSWER | PUT;
    pub(super) const FOUND: u8 = ANSWER | GET;
    pub(super) const MERGED: u8 = ANSWER | MERGE;
    pub(super) const DIGESTED: u8 = ANSWER | DIGESTS;
    pub(super) const LISTED: u8 = ANSWER | LIST;
    pub(super) const FETCHED: u8 = ANSWER | FETCH;
    pub(super) const VERSION_HELD: u8 = ANSWER | VERSION;
    pub(super) const OVERVIEW_GIVEN: u8 = ANSWER | OVERVIEW;
    pub(super) const SUMMED_UP: u8 = ANSWER | SKETCHES;
    pub(super) const REFUSED: u8 = 0xff;
}

/// What became of a record, as its first byte.
mod outcome {
    pub(super) const STORED: u8 = 0;
    pub(super) const SUPERSEDED: u8 = 1;
    pub(super) const REFUSED: u8 = 2;
    pub(super) const BELOW: u8 = 3;
}

#[derive(Encode, BorrowDecode)]
struct VersionForm<'a> {
    timestamp: u64,
    incarnation: u64,
    node: &'a [u8],
}

#[derive(Encode, BorrowDecode)]
struct FoundForm<'a> {
    version: VersionForm<'a>,
    expires_ms: Option<u64>,
    value: Option<&'a [u8]>,
}

#[derive(Encode, BorrowDecode)]
struct ItemForm<'a> {
    token: u64,
    version: VersionForm<'a>,
    content: u64,
}

/// An item from version 3 on. If `writer` is the count of writers seen so far in the list, a
/// [`WriterForm`] follows: the next one.
#[derive(Encode, BorrowDecode)]
struct ShortItemForm {
    token: u64,
    timestamp: u64,
    content: u64,
    writer: u16,
}
const _: () = assert!(MAX_ITEMS < u16::MAX as usize);

#[derive(Encode, BorrowDecode)]
struct WriterForm<'a> {
    incarnation: u64,
    node: &'a [u8],
}

/// The fewest bytes that one item of each list has: a count is refused, before anything is
/// allocated, when so many items cannot be there.
mod least {
    pub(super) const VERSION: usize = 8 + 8 + 8;
    pub(super) const RECORD: usize = 8 + (8 + 8 + 1) + 2 + 1 + 1;
    pub(super) const OUTCOME: usize = 1;
    pub(super) const ITEM: usize = 8 + VERSION + 8;
    pub(super) const SHORT_ITEM: usize = 8 + 8 + 8 + 2;
    pub(super) const DIGEST: usize = 16;
    pub(super) const SPAN: usize = 16;
    pub(super) const LIFE: usize = 8 + 8 + 1;
    pub(super) const TOKEN: usize = 8;
    pub(super) const GROUP: usize = 8;
    pub(super) const BUCKET: usize = 2;
    pub(super) const SHORT_DIGEST: usize = 2;
    pub(super) const CELL: usize = 8 + 8 + 4 + 4 + 2;
    pub(super) const GROUP_SKETCH: usize = DIGEST + 8;
}

/// Whether this version of the protocol has such a message. A peer that is sent another one closes the
/// connection.
#[must_use]
pub fn is_spoken(message: &Message, protocol: Protocol) -> bool {
    let since = match message {
        Message::Request { body: Request::Overview { .. } | Request::Sketches { .. }, .. }
        | Message::Response { body: Response::Overview(_) | Response::Sketches(_), .. } => {
            Protocol::V4
        }
        _ => Protocol::OLDEST,
    };
    protocol >= since
}

/// Appends the bytes that a message has in this version of the protocol to `out`.
///
/// # Panics
/// If a list is longer than [`MAX_SPANS`] or [`MAX_ITEMS`], or a span of tokens is empty: the peer
/// would refuse it, and who makes messages promises to keep to the limits.
pub fn encode_message(message: &Message, protocol: Protocol, out: &mut Vec<u8>) {
    match message {
        Message::Request { id, time_left, body } => {
            let nanos = u64::try_from(time_left.as_nanos()).unwrap_or(u64::MAX);
            put(&(request_kind(body, protocol), *id, nanos), out);
            encode_request(body, protocol, out);
        }
        Message::Response { id, notes, body } => {
            put(&(response_kind(body, protocol), *id), out);
            if protocol >= Protocol::V4 {
                put(notes, out);
            }
            encode_response(body, protocol, out);
        }
    }
}

/// Takes the time that an [encoded](encode_message) message has waited from what it has left; `false`
/// if it is a request and nothing is left. Answers have no such time.
pub(crate) fn age_message(body: &mut [u8], waited: Duration) -> bool {
    const LEFT_AT: usize = 1 + 8;
    let is_request = body.first().is_some_and(|kind| kind & kind::ANSWER == 0);
    match body.get_mut(LEFT_AT..).and_then(<[u8]>::first_chunk_mut) {
        Some(left) if is_request => {
            let waited = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
            let nanos = u64::from_le_bytes(*left).saturating_sub(waited);
            *left = nanos.to_le_bytes();
            nanos > 0
        }
        _ => true,
    }
}

/// Reads a message back; keys and values in it share the memory of `bytes`.
///
/// # Errors
/// [`DecodeError`] unless `bytes` are exactly what [`encode_message`] writes. What is allocated on
/// the way is bounded by a small multiple of `bytes`, whatever they say.
pub fn decode_message(bytes: &Bytes, protocol: Protocol) -> Result<Message, DecodeError> {
    let mut input = Input { whole: bytes, rest: bytes };
    let (kind, id) = input.take::<(u8, u64)>()?;
    let message = if kind & kind::ANSWER == 0 {
        let time_left = Duration::from_nanos(input.take()?);
        Message::Request { id, time_left, body: decode_request(kind, protocol, &mut input)? }
    } else {
        let notes = if protocol >= Protocol::V4 { input.take()? } else { 0 };
        Message::Response { id, notes, body: decode_response(kind, protocol, &mut input)? }
    };
    match input.rest.len() {
        0 => Ok(message),
        count => Err(DecodeError::TrailingBytes { count }),
    }
}

fn request_kind(body: &Request, protocol: Protocol) -> u8 {
    match body {
        Request::Ping { .. } => kind::PING,
        // Who does not know these knows that, and its answer says no more than that it is there.
        Request::Meet { .. } | Request::Report if protocol < Protocol::V4 => kind::PING,
        Request::Meet { .. } => kind::MEET,
        Request::Report => kind::REPORT,
        Request::Put { .. } => kind::PUT,
        Request::Get { .. } => kind::GET,
        Request::Merge { .. } => kind::MERGE,
        Request::Digests { .. } => kind::DIGESTS,
        Request::List { .. } => kind::LIST,
        Request::Fetch { .. } => kind::FETCH,
        Request::Version { .. } => kind::VERSION,
        Request::Overview { .. } => kind::OVERVIEW,
        Request::Sketches { .. } => kind::SKETCHES,
    }
}

fn encode_request(body: &Request, protocol: Protocol, out: &mut Vec<u8>) {
    match body {
        Request::Ping { wall_ms } => put(wall_ms, out),
        Request::Meet { wall_ms, .. } if protocol < Protocol::V4 => put(wall_ms, out),
        Request::Meet { wall_ms, incarnation, progress } => {
            put(&(*wall_ms, *incarnation, *progress), out);
        }
        Request::Report if protocol < Protocol::V4 => put(&0_u64, out),
        Request::Report => {}
        Request::Put { key, record, hint_for } => {
            put(&hint_for.as_ref().map(AsRef::<[u8]>::as_ref), out);
            put_record(key, record, out);
        }
        Request::Get { key, from_hints, known } => {
            put(from_hints, out);
            // To leave it out only costs the answerer the reading.
            if protocol >= Protocol::V3 {
                put(
                    &known.as_ref().map(|stamp| (VersionForm::of(&stamp.version), stamp.content)),
                    out,
                );
            }
            put(&key.as_bytes(), out);
        }
        Request::Merge { records } => put_records(records, out),
        Request::Digests { spans } => {
            put_list(spans, MAX_SPANS, out, put_span);
        }
        Request::List { span } => put_span(span, out),
        Request::Fetch { tokens } => {
            put_list(tokens, MAX_ITEMS, out, put);
        }
        Request::Version { key } => put(&key.as_bytes(), out),
        Request::Overview { salt, whole } => {
            put(salt, out);
            put_digest(whole, out);
        }
        Request::Sketches { groups } => put_list(groups, MAX_GROUPS, out, |group, out| {
            put_list(group, MAX_BUCKETS, out, put);
        }),
    }
}

fn decode_request(
    kind: u8,
    protocol: Protocol,
    input: &mut Input<'_>,
) -> Result<Request, DecodeError> {
    Ok(match kind {
        kind::PING => Request::Ping { wall_ms: input.take()? },
        kind::MEET if protocol >= Protocol::V4 => {
            let (wall_ms, incarnation, progress) = input.take()?;
            Request::Meet { wall_ms, incarnation, progress }
        }
        kind::REPORT if protocol >= Protocol::V4 => Request::Report,
        kind::PUT => {
            let hint_for = input.take::<Option<&[u8]>>()?.map(node_id).transpose()?;
            let (key, record) = input.record()?;
            Request::Put { key, record, hint_for }
        }
        kind::GET => {
            let from_hints = input.take()?;
            let known = match protocol {
                Protocol::V2 => None,
                Protocol::V3 | Protocol::V4 => input.stamp()?,
            };
            Request::Get { key: input.key()?, from_hints, known }
        }
        kind::VERSION => Request::Version { key: input.key()? },
        kind::MERGE => Request::Merge { records: input.records()? },
        kind::DIGESTS => {
            Request::Digests { spans: input.list("spans", MAX_SPANS, least::SPAN, Input::span)? }
        }
        kind::LIST => Request::List { span: input.span()? },
        kind::FETCH => {
            Request::Fetch { tokens: input.list("tokens", MAX_ITEMS, least::TOKEN, Input::take)? }
        }
        kind::OVERVIEW if protocol >= Protocol::V4 => {
            Request::Overview { salt: input.take()?, whole: input.digest()? }
        }
        kind::SKETCHES if protocol >= Protocol::V4 => {
            let group = |input: &mut Input<'_>| {
                input.list("buckets", MAX_BUCKETS, least::BUCKET, Input::take)
            };
            let groups = input.list("groups", MAX_GROUPS, least::GROUP, group)?;
            let count = groups.iter().map(|group: &Vec<u16>| group.len()).sum::<usize>();
            if count > MAX_BUCKETS {
                let (what, count) = ("buckets", count as u64);
                return Err(DecodeError::TooMany { what, count, limit: MAX_BUCKETS });
            }
            Request::Sketches { groups }
        }
        kind => return Err(DecodeError::Malformed(format!("no request has kind {kind:#04x}"))),
    })
}

fn response_kind(body: &Response, protocol: Protocol) -> u8 {
    match body {
        Response::Pong { .. } => kind::PONG,
        Response::Met { .. } | Response::Reported(_) if protocol < Protocol::V4 => kind::PONG,
        Response::Met { .. } => kind::MET,
        Response::Reported(_) => kind::REPORTED,
        // Who does not know what it means to count for nothing must not count it.
        Response::Uncounted(_) if protocol < Protocol::V4 => kind::REFUSED,
        Response::Uncounted(_) => kind::UNCOUNTED,
        Response::Put(_) => kind::PUT_DONE,
        Response::Found(_) => kind::FOUND,
        Response::Merged(_) => kind::MERGED,
        Response::Digests(_) => kind::DIGESTED,
        Response::Listed { .. } => kind::LISTED,
        Response::Fetched(_) => kind::FETCHED,
        Response::Version(_) => kind::VERSION_HELD,
        Response::Overview(_) => kind::OVERVIEW_GIVEN,
        Response::Sketches(_) => kind::SUMMED_UP,
        Response::Refused(_) => kind::REFUSED,
    }
}

fn encode_response(body: &Response, protocol: Protocol, out: &mut Vec<u8>) {
    match body {
        Response::Pong { wall_ms } => put(wall_ms, out),
        Response::Met { wall_ms, .. } if protocol < Protocol::V4 => put(wall_ms, out),
        Response::Met { wall_ms, standing } => {
            put(wall_ms, out);
            put_standing(standing, out);
        }
        Response::Reported(_) if protocol < Protocol::V4 => put(&0_u64, out),
        Response::Reported(least) => put(&least.bits(), out),
        Response::Uncounted(body) if protocol < Protocol::V4 => {
            // It has stored it all the same, and of all that older nodes know, only a log that failed
            // leaves that open.
            let refusal = match **body {
                Response::Put(PutOutcome::Stored | PutOutcome::Superseded(_)) => Refusal::LogFailed,
                _ => Refusal::Overloaded,
            };
            put(&refusal_code(&refusal), out);
        }
        Response::Uncounted(body) => {
            put(&response_kind(body, protocol), out);
            encode_response(body, protocol, out);
        }
        Response::Put(outcome) => put_outcome(outcome, protocol, out),
        Response::Found(found) => {
            let form = found.as_ref().map(|record| FoundForm {
                version: VersionForm::of(&record.version),
                expires_ms: record.expires_ms,
                value: record.value.as_deref(),
            });
            put(&form, out);
        }
        Response::Merged(outcomes) => {
            put_list(outcomes, MAX_ITEMS, out, |outcome, out| put_outcome(outcome, protocol, out));
        }
        Response::Digests(digests) => put_list(digests, MAX_SPANS, out, put_digest),
        Response::Listed { items, complete } => {
            put(complete, out);
            match protocol {
                Protocol::V2 => put_list(items, MAX_ITEMS, out, |(token, stamp), out| {
                    let version = VersionForm::of(&stamp.version);
                    put(&ItemForm { token: *token, version, content: stamp.content }, out);
                }),
                Protocol::V3 | Protocol::V4 => put_short_items(items, out),
            }
        }
        Response::Fetched(records) => put_records(records, out),
        Response::Overview(Overview { whole, short }) => {
            put_digest(whole, out);
            put_list(short, MAX_BUCKETS, out, put);
        }
        Response::Sketches(groups) => put_list(groups, MAX_GROUPS, out, put_group),
        Response::Version(held) => put(&held.as_ref().map(VersionForm::of), out),
        Response::Refused(refusal) => put(&refusal_code(refusal), out),
    }
}

fn decode_response(
    kind: u8,
    protocol: Protocol,
    input: &mut Input<'_>,
) -> Result<Response, DecodeError> {
    Ok(match kind {
        kind::PONG => Response::Pong { wall_ms: input.take()? },
        kind::MET if protocol >= Protocol::V4 => {
            Response::Met { wall_ms: input.take()?, standing: Box::new(input.standing()?) }
        }
        kind::REPORTED if protocol >= Protocol::V4 => {
            Response::Reported(Timestamp::from_bits(input.take()?))
        }
        // What does not count is one answer, not a chain of them.
        kind::UNCOUNTED if protocol >= Protocol::V4 => match input.take::<u8>()? {
            kind::UNCOUNTED => {
                return Err(DecodeError::Malformed(
                    "an answer that twice does not count".to_owned(),
                ));
            }
            kind => Response::Uncounted(Box::new(decode_response(kind, protocol, input)?)),
        },
        kind::PUT_DONE => Response::Put(input.outcome(protocol)?),
        kind::FOUND => Response::Found(input.found()?),
        kind::MERGED => {
            Response::Merged(
                input
                    .list("outcomes", MAX_ITEMS, least::OUTCOME, |input| input.outcome(protocol))?,
            )
        }
        kind::DIGESTED => {
            Response::Digests(input.list("digests", MAX_SPANS, least::DIGEST, Input::digest)?)
        }
        kind::LISTED => {
            let complete = input.take()?;
            let items = match protocol {
                Protocol::V2 => input.list("stamps", MAX_ITEMS, least::ITEM, |input| {
                    let ItemForm { token, version, content } = input.take()?;
                    Ok((token, Stamp { version: version.into_version()?, content }))
                })?,
                Protocol::V3 | Protocol::V4 => input.short_items()?,
            };
            Response::Listed { items, complete }
        }
        kind::FETCHED => Response::Fetched(input.records()?),
        kind::VERSION_HELD => Response::Version(input.version()?),
        kind::OVERVIEW_GIVEN if protocol >= Protocol::V4 => {
            let whole = input.digest()?;
            let short = input.list("digests", MAX_BUCKETS, least::SHORT_DIGEST, Input::take)?;
            Response::Overview(Overview { whole, short })
        }
        kind::SUMMED_UP if protocol >= Protocol::V4 => Response::Sketches(input.list(
            "sketches",
            MAX_GROUPS,
            least::GROUP_SKETCH,
            Input::group,
        )?),
        kind::REFUSED => Response::Refused(input.refusal()?),
        kind => return Err(DecodeError::Malformed(format!("no answer has kind {kind:#04x}"))),
    })
}

fn refusal_code(refusal: &Refusal) -> u8 {
    match refusal {
        Refusal::DiskFull => 1,
        Refusal::LogFailed => 2,
        Refusal::Overloaded => 3,
        Refusal::NoHintRoom => 4,
        Refusal::NotOwner => 5,
        Refusal::TooFarAhead => 6,
        Refusal::TooLate => 7,
        Refusal::Malformed => 8,
        Refusal::Damaged => 9,
        Refusal::ClockAhead => 10,
    }
}

fn refusal(code: u8) -> Result<Refusal, DecodeError> {
    Ok(match code {
        1 => Refusal::DiskFull,
        2 => Refusal::LogFailed,
        3 => Refusal::Overloaded,
        4 => Refusal::NoHintRoom,
        5 => Refusal::NotOwner,
        6 => Refusal::TooFarAhead,
        7 => Refusal::TooLate,
        8 => Refusal::Malformed,
        9 => Refusal::Damaged,
        10 => Refusal::ClockAhead,
        code => return Err(DecodeError::Malformed(format!("no refusal has code {code}"))),
    })
}

impl<'a> VersionForm<'a> {
    fn of(version: &'a Version) -> Self {
        let Version { timestamp, writer } = version;
        Self {
            timestamp: timestamp.bits(),
            incarnation: writer.incarnation,
            node: writer.node.as_ref(),
        }
    }

    fn into_version(self) -> Result<Version, DecodeError> {
        Ok(Version {
            timestamp: Timestamp::from_bits(self.timestamp),
            writer: Writer { node: node_id(self.node)?, incarnation: self.incarnation },
        })
    }
}

fn node_id(bytes: &[u8]) -> Result<NodeId, DecodeError> {
    std::str::from_utf8(bytes).ok().and_then(|text| NodeId::new(text).ok()).ok_or_else(|| {
        let shown = &bytes[..bytes.len().min(64)];
        DecodeError::Malformed(format!("{} is no node id", shown.escape_ascii()))
    })
}

struct Append<'a>(&'a mut Vec<u8>);

impl Output for Append<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fn put(form: &impl Encode, out: &mut Vec<u8>) {
    bincode::encode_into_writer(form, Append(out), CONFIG)
        .expect("writing into memory cannot fail");
}

fn put_list<T>(
    items: &[T],
    limit: usize,
    out: &mut Vec<u8>,
    mut each: impl FnMut(&T, &mut Vec<u8>),
) {
    assert!(items.len() <= limit, "{} items in a list of at most {limit}", items.len());
    put(&(items.len() as u64), out);
    for item in items {
        each(item, out);
    }
}

fn put_span(span: &RangeInclusive<u64>, out: &mut Vec<u8>) {
    assert!(!span.is_empty(), "a message holds an empty span of tokens");
    put(&(*span.start(), *span.end()), out);
}

/// The length comes first but is known last.
fn put_record(key: &Key, record: &Record, out: &mut Vec<u8>) {
    let length_at = out.len();
    put(&0u64, out);
    let start = out.len();
    quorate_record::encode_record(key, record, out);
    let len = (out.len() - start) as u64;
    out[length_at..start].copy_from_slice(&len.to_le_bytes());
}

fn put_records(records: &[(Key, Record)], out: &mut Vec<u8>) {
    put_list(records, MAX_ITEMS, out, |(key, record), out| put_record(key, record, out));
}

fn put_short_items(items: &[(u64, Stamp)], out: &mut Vec<u8>) {
    let mut writers = BTreeMap::new();
    put_list(items, MAX_ITEMS, out, |(token, Stamp { version, content }), out| {
        let Version { timestamp, writer } = version;
        let next = u16::try_from(writers.len()).expect("there are fewer than items");
        let number = *writers.entry(*writer).or_insert(next);
        let (token, timestamp, content) = (*token, timestamp.bits(), *content);
        put(&ShortItemForm { token, timestamp, content, writer: number }, out);
        if number == next {
            put(&WriterForm { incarnation: writer.incarnation, node: writer.node.as_ref() }, out);
        }
    });
}

fn put_digest(digest: &Digest, out: &mut Vec<u8>) {
    put(&(digest.xor, digest.count), out);
}

fn put_group(group: &GroupSketch, out: &mut Vec<u8>) {
    put_digest(&group.digest, out);
    put_list(group.sketch.cells(), MAX_CELLS, out, |cell, out| {
        let Cell { token, timestamp, fingerprint, checksum, count } = *cell;
        put(&(token, timestamp, fingerprint, checksum, count), out);
    });
}

fn put_standing(standing: &Standing, out: &mut Vec<u8>) {
    let Standing { noted, remembered, notes, lives, is_recovering, floor, horizon } = standing;
    put(&(*noted, *remembered, *notes, *is_recovering, floor.bits(), horizon.bits()), out);
    put_list(lives, MAX_ITEMS, out, |(node, life), out| {
        put(&(AsRef::<[u8]>::as_ref(node), *life), out);
    });
}

fn put_outcome(outcome: &PutOutcome, protocol: Protocol, out: &mut Vec<u8>) {
    match outcome {
        // To who does not know why: it was not taken and will not be.
        PutOutcome::Below(_) if protocol < Protocol::V4 => {
            put(&(outcome::REFUSED, refusal_code(&Refusal::TooLate)), out);
        }
        PutOutcome::Below(least) => put(&(outcome::BELOW, least.bits()), out),
        PutOutcome::Stored => put(&outcome::STORED, out),
        PutOutcome::Superseded(version) => {
            put(&(outcome::SUPERSEDED, VersionForm::of(version)), out);
        }
        PutOutcome::Refused(refusal) => put(&(outcome::REFUSED, refusal_code(refusal)), out),
    }
}

/// What of a message is still to be read.
struct Input<'a> {
    whole: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn take<T: BorrowDecode<'a, ()>>(&mut self) -> Result<T, DecodeError> {
        let (form, read) = bincode::borrow_decode_from_slice(self.rest, CONFIG)
            .map_err(|error| DecodeError::Malformed(error.to_string()))?;
        self.rest = &self.rest[read..];
        Ok(form)
    }

    fn share(&self, part: &'a [u8]) -> Bytes {
        self.whole.slice_ref(part)
    }

    fn stamp(&mut self) -> Result<Option<Stamp>, DecodeError> {
        let stamp = self.take::<Option<(VersionForm<'_>, u64)>>()?;
        let stamp =
            stamp.map(|(form, content)| Ok(Stamp { version: form.into_version()?, content }));
        stamp.transpose()
    }

    fn version(&mut self) -> Result<Option<Version>, DecodeError> {
        self.take::<Option<VersionForm<'_>>>()?.map(VersionForm::into_version).transpose()
    }

    fn key(&mut self) -> Result<Key, DecodeError> {
        let key = self.take()?;
        Key::new(self.share(key)).map_err(|error| DecodeError::Malformed(error.to_string()))
    }

    fn list<T>(
        &mut self,
        what: &'static str,
        limit: usize,
        least_bytes: usize,
        mut each: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let said = self.take::<u64>()?;
        let count = usize::try_from(said)
            .ok()
            .filter(|&count| count <= limit)
            .ok_or(DecodeError::TooMany { what, count: said, limit })?;
        let rest_bytes = self.rest.len();
        if count * least_bytes > rest_bytes {
            let text = format!("{count} {what} cannot be in {rest_bytes} bytes");
            return Err(DecodeError::Malformed(text));
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(each(self)?);
        }
        Ok(items)
    }

    fn digest(&mut self) -> Result<Digest, DecodeError> {
        let (xor, count) = self.take()?;
        Ok(Digest { xor, count })
    }

    fn group(&mut self) -> Result<GroupSketch, DecodeError> {
        let digest = self.digest()?;
        let cells = self.list("cells", MAX_CELLS, least::CELL, |input| {
            let (token, timestamp, fingerprint, checksum, count) = input.take()?;
            Ok(Cell { token, timestamp, fingerprint, checksum, count })
        })?;
        Ok(GroupSketch { digest, sketch: Sketch::from_cells(cells) })
    }

    fn span(&mut self) -> Result<RangeInclusive<u64>, DecodeError> {
        let (first, last) = self.take()?;
        if first > last { Err(DecodeError::EmptySpan { first, last }) } else { Ok(first..=last) }
    }

    fn record(&mut self) -> Result<(Key, Record), DecodeError> {
        let blob = self.take()?;
        Ok(quorate_record::decode_record(&self.share(blob))?)
    }

    fn records(&mut self) -> Result<Vec<(Key, Record)>, DecodeError> {
        self.list("records", MAX_ITEMS, least::RECORD, Self::record)
    }

    fn found(&mut self) -> Result<Option<Record>, DecodeError> {
        let Some(FoundForm { version, expires_ms, value }) = self.take()? else { return Ok(None) };
        let value_bytes = value.map_or(0, <[u8]>::len);
        if value_bytes > MAX_VALUE_BYTES {
            let text = format!("a value of {value_bytes} bytes is longer than {MAX_VALUE_BYTES}");
            return Err(DecodeError::Malformed(text));
        }
        let value = value.map(|value| self.share(value));
        Ok(Some(Record { version: version.into_version()?, expires_ms, value }))
    }

    fn short_items(&mut self) -> Result<Vec<(u64, Stamp)>, DecodeError> {
        let malformed = |text: String| Err(DecodeError::Malformed(text));
        let mut known = BTreeSet::new();
        let mut writers = Vec::new();
        self.list("stamps", MAX_ITEMS, least::SHORT_ITEM, |input| {
            let ShortItemForm { token, timestamp, content, writer: number } = input.take()?;
            let number = usize::from(number);
            if number == writers.len() {
                let WriterForm { incarnation, node } = input.take()?;
                let writer = Writer { node: node_id(node)?, incarnation };
                if !known.insert(writer) {
                    return malformed(format!("writer {number} is one of those before"));
                }
                writers.push(writer);
            }
            let Some(&writer) = writers.get(number) else {
                return malformed(format!("writer {number} of {}", writers.len()));
            };
            let version = Version { timestamp: Timestamp::from_bits(timestamp), writer };
            Ok((token, Stamp { version, content }))
        })
    }

    fn standing(&mut self) -> Result<Standing, DecodeError> {
        let (noted, remembered, notes, is_recovering, floor, horizon) = self.take()?;
        let [floor, horizon] = [floor, horizon].map(Timestamp::from_bits);
        let lives = self.list("lives", MAX_ITEMS, least::LIFE, |input| {
            let (node, life) = input.take::<(&[u8], u64)>()?;
            Ok((node_id(node)?, life))
        })?;
        Ok(Standing { noted, remembered, notes, lives, is_recovering, floor, horizon })
    }

    fn outcome(&mut self, protocol: Protocol) -> Result<PutOutcome, DecodeError> {
        Ok(match self.take()? {
            outcome::BELOW if protocol >= Protocol::V4 => {
                PutOutcome::Below(Timestamp::from_bits(self.take()?))
            }
            outcome::STORED => PutOutcome::Stored,
            outcome::SUPERSEDED => {
                PutOutcome::Superseded(self.take::<VersionForm<'_>>()?.into_version()?)
            }
            outcome::REFUSED => PutOutcome::Refused(self.refusal()?),
            tag => return Err(DecodeError::Malformed(format!("no outcome has tag {tag}"))),
        })
    }

    fn refusal(&mut self) -> Result<Refusal, DecodeError> {
        refusal(self.take()?)
    }
}

#[cfg(test)]
mod tests;
