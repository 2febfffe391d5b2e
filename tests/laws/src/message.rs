use std::{ops::RangeInclusive, time::Duration};

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use quorate_node::{
    Cell, GroupSketch, MAX_BUCKETS, MAX_CELLS, MAX_GROUPS, MAX_ITEMS, MAX_SPANS, Message, Overview,
    PutOutcome, Refusal, Request, Response, Sketch, Standing,
};
use quorate_record::{
    Digest, Key, MAX_KEY_BYTES, MAX_NODE_ID_BYTES, NodeId, Record, Stamp, Timestamp, Version,
    Writer,
};
use quorate_transport::{Protocol, decode_message, encode_message, is_spoken};

use crate::within;

/// How many bytes of memory one byte of a message may cost, and what comes to them once.
const MEMORY_PER_BYTE: usize = 64;
const MEMORY_ONCE: usize = 4096;

/// Every version of the messages that the program speaks.
const PROTOCOLS: [Protocol; 2] = [Protocol::OLDEST, Protocol::NEWEST];

/// Bytes are refused, or are the one form of a message; reading them takes memory in proportion.
pub fn message(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let most_bytes = MEMORY_PER_BYTE * input.len() + MEMORY_ONCE;
    for protocol in PROTOCOLS {
        if let Ok(message) = within(most_bytes, || decode_message(&bytes, protocol)) {
            let mut again = Vec::new();
            encode_message(&message, protocol, &mut again);
            assert_eq!(again, bytes, "another form of {message:?}");
        }
    }
}

/// Every message that a node can make is read as it was written.
pub fn any_message(input: &[u8]) {
    let Ok(message) = some_message(&mut Unstructured::new(input)) else { return };
    for protocol in PROTOCOLS.into_iter().filter(|protocol| is_spoken(&message, *protocol)) {
        let mut bytes = Vec::new();
        encode_message(&message, protocol, &mut bytes);
        assert_eq!(decode_message(&bytes.into(), protocol), Ok(as_sent(message.clone(), protocol)));
    }
}

/// Version 2 has no place for what the asker of a record knows already, and only version 4 for lives and horizons.
fn as_sent(mut message: Message, protocol: Protocol) -> Message {
    if let (Protocol::V2, Message::Request { body: Request::Get { known, .. }, .. }) =
        (protocol, &mut message)
    {
        *known = None;
    }
    if protocol < Protocol::V4 {
        match &mut message {
            Message::Request { body, .. } => match *body {
                Request::Meet { wall_ms, .. } => *body = Request::Ping { wall_ms },
                Request::Report => *body = Request::Ping { wall_ms: 0 },
                _ => {}
            },
            Message::Response { notes, body, .. } => {
                *notes = 0;
                as_before(body);
            }
        }
    }
    message
}

/// What is said in place of an answer to who does not speak version 4.
fn as_before(body: &mut Response) {
    let refuse = |outcome: &mut PutOutcome| {
        if let PutOutcome::Below(_) = outcome {
            *outcome = PutOutcome::Refused(Refusal::TooLate);
        }
    };
    match body {
        Response::Met { wall_ms, .. } => *body = Response::Pong { wall_ms: *wall_ms },
        Response::Reported(_) => *body = Response::Pong { wall_ms: 0 },
        Response::Uncounted(uncounted) => {
            let refusal = match **uncounted {
                Response::Put(PutOutcome::Stored | PutOutcome::Superseded(_)) => Refusal::LogFailed,
                _ => Refusal::Overloaded,
            };
            *body = Response::Refused(refusal);
        }
        Response::Put(outcome) => refuse(outcome),
        Response::Merged(outcomes) => outcomes.iter_mut().for_each(refuse),
        _ => {}
    }
}

fn some_message(input: &mut Unstructured<'_>) -> Result<Message> {
    Ok(if input.arbitrary()? {
        let (id, time_left) = (input.arbitrary()?, Duration::from_nanos(input.arbitrary()?));
        Message::Request { id, time_left, body: request(input)? }
    } else {
        Message::Response {
            id: input.arbitrary()?,
            notes: input.arbitrary()?,
            body: response(input)?,
        }
    })
}

fn request(input: &mut Unstructured<'_>) -> Result<Request> {
    Ok(match input.int_in_range(0..=11)? {
        8 => Request::Report,
        9 => {
            let (wall_ms, incarnation, progress) = input.arbitrary()?;
            Request::Meet { wall_ms, incarnation, progress }
        }
        10 => Request::Overview { salt: input.arbitrary()?, whole: digest(input)? },
        11 => Request::Sketches {
            groups: list(input, MAX_GROUPS, |input| list(input, 4, Unstructured::arbitrary))?,
        },
        0 => Request::Ping { wall_ms: input.arbitrary()? },
        1 => {
            let (key, record) = keyed_record(input)?;
            Request::Put { key, record, hint_for: option(input, node_id)? }
        }
        2 => Request::Get {
            key: key(input)?,
            from_hints: input.arbitrary()?,
            known: option(input, |input| {
                Ok(Stamp { version: version(input)?, content: input.arbitrary()? })
            })?,
        },
        3 => Request::Version { key: key(input)? },
        4 => Request::Merge { records: list(input, MAX_ITEMS, keyed_record)? },
        5 => Request::Digests { spans: list(input, MAX_SPANS, span)? },
        6 => Request::List { span: span(input)? },
        _ => Request::Fetch { tokens: list(input, MAX_ITEMS, Unstructured::arbitrary)? },
    })
}

fn response(input: &mut Unstructured<'_>) -> Result<Response> {
    Ok(match input.int_in_range(0..=13)? {
        11 => Response::Uncounted(Box::new(plain_response(input)?)),
        12 => Response::Reported(Timestamp::from_bits(input.arbitrary()?)),
        13 => {
            let standing = Box::new(standing(input)?);
            Response::Met { wall_ms: input.arbitrary()?, standing }
        }
        _ => plain_response(input)?,
    })
}

fn standing(input: &mut Unstructured<'_>) -> Result<Standing> {
    let (floor, horizon): (u64, u64) = input.arbitrary()?;
    let [floor, horizon] = [floor, horizon].map(Timestamp::from_bits);
    Ok(Standing {
        noted: input.arbitrary()?,
        remembered: input.arbitrary()?,
        notes: input.arbitrary()?,
        lives: list(input, MAX_ITEMS, |input| Ok((node_id(input)?, input.arbitrary()?)))?,
        is_recovering: input.arbitrary()?,
        floor,
        horizon,
    })
}

fn plain_response(input: &mut Unstructured<'_>) -> Result<Response> {
    Ok(match input.int_in_range(0..=10)? {
        9 => Response::Overview(Overview {
            whole: digest(input)?,
            short: list(input, MAX_BUCKETS, Unstructured::arbitrary)?,
        }),
        10 => Response::Sketches(list(input, MAX_GROUPS, group)?),
        0 => Response::Pong { wall_ms: input.arbitrary()? },
        1 => Response::Put(outcome(input)?),
        2 => Response::Found(option(input, record)?),
        3 => Response::Version(option(input, version)?),
        4 => Response::Merged(list(input, MAX_ITEMS, outcome)?),
        5 => Response::Digests(list(input, MAX_SPANS, |input| {
            Ok(Digest { xor: input.arbitrary()?, count: input.arbitrary()? })
        })?),
        6 => {
            let items = list(input, MAX_ITEMS, |input| {
                let (token, content) = input.arbitrary()?;
                Ok((token, Stamp { version: version(input)?, content }))
            })?;
            Response::Listed { items, complete: input.arbitrary()? }
        }
        7 => Response::Fetched(list(input, MAX_ITEMS, keyed_record)?),
        _ => Response::Refused(refusal(input)?),
    })
}

fn digest(input: &mut Unstructured<'_>) -> Result<Digest> {
    let (xor, count) = input.arbitrary()?;
    Ok(Digest { xor, count })
}

fn group(input: &mut Unstructured<'_>) -> Result<GroupSketch> {
    let cells = list(input, MAX_CELLS, |input| {
        let (token, timestamp, fingerprint, checksum, count) = input.arbitrary()?;
        Ok(Cell { token, timestamp, fingerprint, checksum, count })
    })?;
    Ok(GroupSketch { digest: digest(input)?, sketch: Sketch::from_cells(cells) })
}

fn list<'a, T>(
    input: &mut Unstructured<'a>,
    limit: usize,
    each: impl Fn(&mut Unstructured<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    // Most inputs are short: they get short lists with something in them.
    let most = if input.ratio(1, 8)? { limit } else { 4 };
    let count = input.int_in_range(0..=most)?;
    (0..count).map(|_| each(input)).collect()
}

fn option<'a, T>(
    input: &mut Unstructured<'a>,
    some: impl Fn(&mut Unstructured<'a>) -> Result<T>,
) -> Result<Option<T>> {
    input.arbitrary::<bool>()?.then(|| some(input)).transpose()
}

fn outcome(input: &mut Unstructured<'_>) -> Result<PutOutcome> {
    Ok(match input.int_in_range(0..=3)? {
        3 => PutOutcome::Below(Timestamp::from_bits(input.arbitrary()?)),
        0 => PutOutcome::Stored,
        1 => PutOutcome::Superseded(version(input)?),
        _ => PutOutcome::Refused(refusal(input)?),
    })
}

fn refusal(input: &mut Unstructured<'_>) -> Result<Refusal> {
    Ok(input
        .choose(&[
            Refusal::DiskFull,
            Refusal::LogFailed,
            Refusal::Overloaded,
            Refusal::NoHintRoom,
            Refusal::NotOwner,
            Refusal::TooFarAhead,
            Refusal::ClockAhead,
            Refusal::TooLate,
            Refusal::Malformed,
            Refusal::Damaged,
        ])?
        .clone())
}

fn span(input: &mut Unstructured<'_>) -> Result<RangeInclusive<u64>> {
    let (a, b): (u64, u64) = input.arbitrary()?;
    Ok(a.min(b)..=a.max(b))
}

fn keyed_record(input: &mut Unstructured<'_>) -> Result<(Key, Record)> {
    Ok((key(input)?, record(input)?))
}

fn key(input: &mut Unstructured<'_>) -> Result<Key> {
    let len = input.int_in_range(1..=MAX_KEY_BYTES)?.min(input.len()).max(1);
    Ok(Key::new(input.bytes(len)?.to_vec()).expect("it is neither empty nor too long"))
}

fn record(input: &mut Unstructured<'_>) -> Result<Record> {
    let version = version(input)?;
    let value = option(input, |input| Ok(Bytes::from(input.arbitrary::<Vec<u8>>()?)))?;
    Ok(Record { version, expires_ms: input.arbitrary()?, value })
}

fn version(input: &mut Unstructured<'_>) -> Result<Version> {
    let timestamp = Timestamp::from_bits(input.arbitrary()?);
    let writer = Writer { node: node_id(input)?, incarnation: input.arbitrary()? };
    Ok(Version { timestamp, writer })
}

fn node_id(input: &mut Unstructured<'_>) -> Result<NodeId> {
    const CHARS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    let len = input.int_in_range(1..=MAX_NODE_ID_BYTES)?;
    let text = (0..len).map(|_| Ok(char::from(*input.choose(CHARS)?))).collect::<Result<String>>();
    Ok(NodeId::new(&text?).expect("it is neither empty nor too long"))
}
