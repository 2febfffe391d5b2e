use proptest::prelude::*;

use super::*;

fn version() -> Version {
    let writer = Writer { node: NodeId::new("n1").unwrap(), incarnation: 0x5f0c_21aa };
    Version { timestamp: Timestamp::from_bits(0x0191_f3c2_a4b7_0003), writer }
}

fn key() -> Key {
    Key::new("cat").unwrap()
}

const ALL: [Protocol; 3] = [Protocol::V2, Protocol::V3, Protocol::V4];

fn encoded(message: &Message, protocol: Protocol) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_message(message, protocol, &mut bytes);
    bytes
}

fn request(body: Request) -> Message {
    Message::Request { id: 0x0a0b, time_left: Duration::from_nanos(0x0c0d), body }
}

fn response(body: Response) -> Message {
    Message::Response { id: 0x0a0b, notes: 0, body }
}

fn timestamp(bits: u64) -> Timestamp {
    Timestamp::from_bits(bits)
}

/// What version 4 has brought, and the bytes of each body in it.
fn new_in_version_4() -> Vec<(Message, u8, String)> {
    let standing = Standing {
        noted: 2,
        remembered: 3,
        notes: 4,
        lives: vec![(NodeId::new("n2").unwrap(), 5)],
        is_recovering: true,
        floor: timestamp(6),
        horizon: timestamp(7),
    };
    let standing = Box::new(standing);
    let long = |number: u64| format!("{number:02x}00000000000000");
    let below = Response::Put(PutOutcome::Below(timestamp(9)));
    let (meet, met) = ([1, 2, 3].map(long).concat(), [1, 2, 3].map(long).concat());
    let lives = format!("{}{}6e32{}", long(1), long(2), long(5));
    vec![
        (request(Request::Meet { wall_ms: 1, incarnation: 2, progress: 3 }), 0x20, meet),
        (request(Request::Report), 0x21, String::new()),
        (
            response(Response::Met { wall_ms: 1, standing }),
            0xa0,
            format!("{met}0400000001{}{lives}", [6, 7].map(long).concat()),
        ),
        (response(Response::Reported(timestamp(8))), 0xa1, long(8)),
        (response(below.clone()), 0x82, format!("03{}", long(9))),
        (response(Response::Uncounted(Box::new(below))), 0xa2, format!("8203{}", long(9))),
    ]
}

/// The bytes of `version()`.
const VERSION: &str = "0300b7a4c2f39101aa210c5f0000000002000000000000006e31";

/// One message of each kind, and the bytes of its body in version 2, as they were when version 3
/// came. They are never to be changed: nodes that speak only version 2 still run.
fn one_of_each() -> Vec<(Message, u8, String)> {
    let live = || Record::live(version(), "meow");
    let record = "0300b7a4c2f39101aa210c5f00000000026e3103006361740001040000006d656f77";
    let record = format!("2200000000000000{record}");
    let stamp = Stamp { version: version(), content: 5 };
    let merged = vec![
        PutOutcome::Stored,
        PutOutcome::Superseded(version()),
        PutOutcome::Refused(Refusal::DiskFull),
    ];
    vec![
        (request(Request::Ping { wall_ms: 7 }), 0x01, "0700000000000000".into()),
        (
            request(Request::Put { key: key(), record: live(), hint_for: None }),
            0x02,
            format!("00{record}"),
        ),
        (
            request(Request::Put {
                key: key(),
                record: live(),
                hint_for: Some(NodeId::new("n2").unwrap()),
            }),
            0x02,
            format!("0102000000000000006e32{record}"),
        ),
        (
            request(Request::Get { key: key(), from_hints: true, known: None }),
            0x03,
            "010300000000000000636174".into(),
        ),
        (
            request(Request::Merge { records: vec![(key(), live())] }),
            0x04,
            format!("0100000000000000{record}"),
        ),
        (
            request(Request::Digests { spans: vec![1..=2] }),
            0x05,
            "010000000000000001000000000000000200000000000000".into(),
        ),
        (request(Request::List { span: 1..=2 }), 0x06, "01000000000000000200000000000000".into()),
        (
            request(Request::Fetch { tokens: vec![9] }),
            0x07,
            "01000000000000000900000000000000".into(),
        ),
        (request(Request::Version { key: key() }), 0x08, "0300000000000000636174".into()),
        (response(Response::Pong { wall_ms: 7 }), 0x81, "0700000000000000".into()),
        (response(Response::Put(PutOutcome::Stored)), 0x82, "00".into()),
        (
            response(Response::Found(Some(live()))),
            0x83,
            format!("01{VERSION}000104000000000000006d656f77"),
        ),
        (
            response(Response::Found(Some(Record { expires_ms: Some(8), ..live() }))),
            0x83,
            format!("01{VERSION}0108000000000000000104000000000000006d656f77"),
        ),
        (
            response(Response::Found(Some(Record::tombstone(version())))),
            0x83,
            format!("01{VERSION}0000"),
        ),
        (response(Response::Found(None)), 0x83, "00".into()),
        (response(Response::Merged(merged)), 0x84, format!("03000000000000000001{VERSION}0201")),
        (
            response(Response::Digests(vec![Digest { xor: 1, count: 2 }])),
            0x85,
            "010000000000000001000000000000000200000000000000".into(),
        ),
        (
            response(Response::Listed { items: vec![(9, stamp)], complete: true }),
            0x86,
            format!("0101000000000000000900000000000000{VERSION}0500000000000000"),
        ),
        (
            response(Response::Fetched(vec![(key(), live())])),
            0x87,
            format!("0100000000000000{record}"),
        ),
        (response(Response::Version(Some(version()))), 0x88, format!("01{VERSION}")),
        (response(Response::Version(None)), 0x88, "00".into()),
        (response(Response::Refused(Refusal::Damaged)), 0xff, "09".into()),
    ]
}

/// What differs in version 3.
fn changed_in_version_3() -> Vec<(Message, u8, String)> {
    let at = |node: &str, bits| {
        let writer = Writer { node: NodeId::new(node).unwrap(), incarnation: 0x5f0c_21aa };
        Version { timestamp: Timestamp::from_bits(bits), writer }
    };
    let item = |token, version| (token, Stamp { version, content: 5 });
    let items = vec![item(9, at("n1", 7)), item(10, at("n2", 8)), item(11, at("n1", 8))];
    let numbers = |token: u8, timestamp: u8, writer: u8| {
        format!(
            "{token:02x}00000000000000{timestamp:02x}000000000000000500000000000000{writer:02x}00"
        )
    };
    let body = [
        "01",
        "0300000000000000",
        &numbers(9, 7, 0),
        "aa210c5f0000000002000000000000006e31",
        &numbers(10, 8, 1),
        "aa210c5f0000000002000000000000006e32",
        &numbers(11, 8, 0),
    ];
    let get = |known| request(Request::Get { key: key(), from_hints: false, known });
    let key = "0300000000000000636174";
    vec![
        (response(Response::Listed { items, complete: true }), 0x86, body.concat()),
        (get(None), 0x03, format!("0000{key}")),
        (
            get(Some(Stamp { version: version(), content: 5 })),
            0x03,
            format!("0001{VERSION}0500000000000000{key}"),
        ),
    ]
}

/// How version 4 compares replicas.
fn sketches_in_version_4() -> Vec<(Message, u8, String)> {
    let cell = Cell { token: 1, timestamp: 2, fingerprint: 3, checksum: 4, count: -5 };
    let sketch = Sketch::from_cells(vec![cell]);
    let group = GroupSketch { digest: Digest { xor: 6, count: 7 }, sketch };
    let long = |number: u8| format!("{number:02x}00000000000000");
    let digest = [long(6), long(7)].concat();
    let overview = Overview { whole: group.digest, short: vec![8, 9] };
    vec![
        (
            request(Request::Overview { salt: 5, whole: group.digest }),
            0x10,
            format!("{}{digest}", long(5)),
        ),
        (
            request(Request::Sketches { groups: vec![vec![1, 0x0fff], vec![2]] }),
            0x11,
            [long(2), long(2), "0100ff0f".into(), long(1), "0200".into()].concat(),
        ),
        (
            response(Response::Overview(overview)),
            0x90,
            [digest.clone(), long(2), "08000900".into()].concat(),
        ),
        (
            response(Response::Sketches(vec![group])),
            0x91,
            [long(1), digest, long(1), long(1), long(2), "0300000004000000fbff".into()].concat(),
        ),
    ]
}

/// What becomes of a message on its way: version 2 has no place for what an asker knows already.
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

/// What a node that does not speak version 4 is told in place of an answer.
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

fn is_encoded_as((message, kind, body): &(Message, u8, String), protocol: Protocol) {
    let head = match message {
        Message::Request { .. } => "0b0a0000000000000d0c000000000000",
        Message::Response { .. } => "0b0a000000000000",
    };
    let head = match (message, protocol) {
        (Message::Response { .. }, Protocol::V4) => format!("{head}00000000"),
        _ => head.to_owned(),
    };
    let bytes = encoded(message, protocol);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, format!("{kind:02x}{head}{body}"), "{message:?}");
    assert_eq!(decode_message(&bytes.into(), protocol).as_ref(), Ok(message));
}

#[test]
fn the_bytes_of_version_2_are_frozen() {
    one_of_each().iter().for_each(|each| is_encoded_as(each, Protocol::V2));
}

#[test]
fn the_bytes_of_version_3_are_frozen() {
    let changed = changed_in_version_3();
    let is_unchanged =
        |each: &&(Message, u8, String)| changed.iter().all(|(_, kind, _)| *kind != each.1);
    one_of_each().iter().filter(is_unchanged).for_each(|each| is_encoded_as(each, Protocol::V3));
    changed.iter().for_each(|each| is_encoded_as(each, Protocol::V3));
}

#[test]
fn the_bytes_of_version_4_are_frozen() {
    let changed = changed_in_version_3();
    let is_unchanged =
        |each: &&(Message, u8, String)| changed.iter().all(|(_, kind, _)| *kind != each.1);
    one_of_each().iter().filter(is_unchanged).for_each(|each| is_encoded_as(each, Protocol::V4));
    changed.iter().for_each(|each| is_encoded_as(each, Protocol::V4));
    new_in_version_4().iter().for_each(|each| is_encoded_as(each, Protocol::V4));
}

#[test]
fn what_version_3_does_not_know_is_said_so_that_it_does_no_harm() {
    let said: Vec<Message> = new_in_version_4()
        .iter()
        .map(|(message, ..)| {
            decode_message(&encoded(message, Protocol::V3).into(), Protocol::V3).unwrap()
        })
        .collect();
    let refused = |why| response(Response::Put(PutOutcome::Refused(why)));
    assert_eq!(
        said,
        [
            request(Request::Ping { wall_ms: 1 }),
            request(Request::Ping { wall_ms: 0 }),
            response(Response::Pong { wall_ms: 1 }),
            response(Response::Pong { wall_ms: 0 }),
            refused(Refusal::TooLate),
            response(Response::Refused(Refusal::Overloaded)),
        ]
    );
}

#[test]
fn an_answer_that_does_not_count_is_one_answer() {
    let bytes = [&[0xa2][..], &[0; 12], &[0xa2, 0xa2, 0x82, 0]].concat();
    let refused = decode_message(&bytes.into(), Protocol::V4).unwrap_err();
    assert!(refused.to_string().contains("twice"), "{refused}");
}

#[test]
fn sketches_are_not_spoken_in_older_versions() {
    for each in sketches_in_version_4() {
        is_encoded_as(&each, Protocol::V4);
        let (message, kind, _) = each;
        let bytes = encoded(&message, Protocol::V4).into();
        for older in [Protocol::V2, Protocol::V3] {
            assert!(!is_spoken(&message, older), "{kind:#x}");
            assert!(decode_message(&bytes, older).is_err(), "{kind:#x}");
        }
    }
    assert!(one_of_each().iter().all(|(message, ..)| is_spoken(message, Protocol::V2)));
}

#[test]
fn no_more_buckets_are_asked_for_than_there_are() {
    let groups = vec![vec![0; MAX_BUCKETS / 2 + 1]; 2];
    let bytes = encoded(&request(Request::Sketches { groups }), Protocol::V4);
    let refused = decode_message(&bytes.into(), Protocol::V4);
    assert!(matches!(refused, Err(DecodeError::TooMany { count: 4098, .. })), "{refused:?}");
}

#[test]
fn a_list_of_one_writer_is_much_shorter_in_version_3() {
    let items: Vec<_> =
        (0..1024).map(|token| (token, Stamp { version: version(), content: 5 })).collect();
    let listed = response(Response::Listed { items, complete: true });
    let lens = [Protocol::V2, Protocol::V3].map(|protocol| encoded(&listed, protocol).len());
    assert_eq!(lens, [18 + 1024 * 42, 18 + 1024 * 26 + 18]);
}

#[test]
fn a_list_names_its_writers_in_order_and_once() {
    let (message, _, _) = changed_in_version_3().remove(0);
    let good = encoded(&message, Protocol::V3);
    let second_at = 18 + 26 + 18 + 24;
    assert_eq!(good[second_at], 1, "the number of the second writer");
    let mut unknown = good.clone();
    unknown[second_at] = 2;
    let mut repeated = good;
    repeated[second_at + 2 + 8 + 8 + 1] = b'1';
    for (bytes, says) in [(unknown, "writer 2 of 1"), (repeated, "writer 1 is one of those before")]
    {
        let refused = decode_message(&bytes.into(), Protocol::V3).unwrap_err();
        assert!(refused.to_string().contains(says), "{refused}");
    }
}

#[test]
fn every_shorter_and_every_longer_input_is_refused() {
    let new = new_in_version_4().into_iter().chain(sketches_in_version_4());
    let new = new.map(|each| (Protocol::V4, each));
    for (protocol, (message, ..)) in ALL
        .into_iter()
        .flat_map(|protocol| one_of_each().into_iter().map(move |each| (protocol, each)))
        .chain(new)
    {
        let mut bytes = encoded(&message, protocol);
        for len in 0..bytes.len() {
            let cut = Bytes::copy_from_slice(&bytes[..len]);
            assert!(decode_message(&cut, protocol).is_err(), "{len} bytes of {message:?}");
        }
        bytes.push(0);
        let refused = decode_message(&bytes.into(), protocol);
        assert_eq!(refused, Err(DecodeError::TrailingBytes { count: 1 }));
    }
}

#[test]
fn keys_and_values_are_slices_of_the_input() {
    let record = Record::live(version(), vec![7; 1000]);
    let bytes = Bytes::from(encoded(
        &request(Request::Put { key: key(), record, hint_for: None }),
        Protocol::NEWEST,
    ));
    let Ok(Message::Request { body: Request::Put { record, .. }, .. }) =
        decode_message(&bytes, Protocol::NEWEST)
    else {
        panic!("a put was encoded");
    };
    assert!(bytes.as_ptr_range().contains(&record.value.unwrap().as_ptr()));
}

/// The bytes of a message whose list says that it has `count` items and holds `items`.
fn list(kind: u8, count: u64, items: &[u8]) -> Bytes {
    let mut bytes = vec![kind; 1];
    bytes.extend([0; 8]);
    bytes.extend(if kind & kind::ANSWER == 0 { &[0; 8][..] } else { &[0; 4] });
    if kind == kind::LISTED {
        bytes.push(0);
    }
    bytes.extend(count.to_le_bytes());
    bytes.extend(items);
    bytes.into()
}

const LISTS: [(u8, usize); 9] = [
    (kind::SKETCHES, MAX_GROUPS),
    (kind::SUMMED_UP, MAX_GROUPS),
    (kind::MERGE, MAX_ITEMS),
    (kind::DIGESTS, MAX_SPANS),
    (kind::FETCH, MAX_ITEMS),
    (kind::MERGED, MAX_ITEMS),
    (kind::DIGESTED, MAX_SPANS),
    (kind::LISTED, MAX_ITEMS),
    (kind::FETCHED, MAX_ITEMS),
];

#[test]
fn a_list_longer_than_its_limit_is_refused_whatever_follows() {
    for (kind, limit) in LISTS {
        for count in [limit as u64 + 1, u64::MAX] {
            let bytes = list(kind, count, &[0; 64 * 1025]);
            let refused = decode_message(&bytes, Protocol::NEWEST);
            let right =
                matches!(refused, Err(DecodeError::TooMany { count: said, .. }) if said == count);
            assert!(right, "{kind:#x}: {refused:?}");
        }
    }
}

#[test]
fn a_list_that_cannot_be_there_is_refused_before_it_is_allocated() {
    for (kind, limit) in LISTS {
        let refused = decode_message(&list(kind, limit as u64, &[]), Protocol::NEWEST).unwrap_err();
        assert!(refused.to_string().contains("cannot be in 0 bytes"), "{kind:#x}: {refused}");
    }
}

#[test]
fn what_a_list_allocates_is_bounded_by_the_bytes_it_is_made_of() {
    const MOST_PER_BYTE: usize = 64;
    let sizes = [
        (size_of::<(Key, Record)>(), least::RECORD),
        (size_of::<PutOutcome>(), least::OUTCOME),
        (size_of::<(u64, Stamp)>(), least::ITEM),
        (size_of::<(u64, Stamp)>(), least::SHORT_ITEM),
        (size_of::<Digest>(), least::DIGEST),
        (size_of::<RangeInclusive<u64>>(), least::SPAN),
        (size_of::<u64>(), least::TOKEN),
        (size_of::<(NodeId, u64)>(), least::LIFE),
    ];
    for (in_memory, on_the_wire) in sizes {
        assert!(in_memory <= MOST_PER_BYTE * on_the_wire, "{in_memory} from {on_the_wire}");
    }
}

#[test]
fn empty_spans_and_unknown_tags_are_refused() {
    let mut span = encoded(&request(Request::List { span: 1..=2 }), Protocol::NEWEST);
    let first_at = span.len() - 16;
    span[first_at] = 3;
    assert_eq!(
        decode_message(&span.into(), Protocol::NEWEST),
        Err(DecodeError::EmptySpan { first: 3, last: 2 })
    );
    for (bytes, says) in [
        (vec![0x09; 17], "no request has kind 0x09"),
        (vec![0x89; 13], "no answer has kind 0x89"),
        (vec![0xff; 14], "no refusal has code 255"),
        ([vec![0x82; 13], vec![9]].concat(), "no outcome has tag 9"),
    ] {
        let refused = decode_message(&bytes.into(), Protocol::NEWEST).unwrap_err();
        assert!(refused.to_string().contains(says), "{refused}");
    }
}

#[test]
fn a_value_above_the_limit_is_refused() {
    let longest = Record::live(version(), vec![0; MAX_VALUE_BYTES]);
    let mut bytes = encoded(&response(Response::Found(Some(longest.clone()))), Protocol::NEWEST);
    assert!(decode_message(&bytes.clone().into(), Protocol::NEWEST).is_ok());
    let length_at = bytes.len() - MAX_VALUE_BYTES - 8;
    let longer = MAX_VALUE_BYTES as u64 + 1;
    bytes[length_at..length_at + 8].copy_from_slice(&longer.to_le_bytes());
    bytes.push(0);
    let refused = decode_message(&bytes.into(), Protocol::NEWEST).unwrap_err();
    assert!(refused.to_string().contains("is longer than"), "{refused}");

    let put =
        Request::Put { key: Key::new(vec![0; 1024]).unwrap(), record: longest, hint_for: None };
    assert!(encoded(&request(put), Protocol::NEWEST).len() <= MAX_FRAME_BYTES);
}

#[test]
#[should_panic(expected = "65 items in a list of at most 64")]
fn more_than_a_peer_would_take_is_never_encoded() {
    encoded(&request(Request::Digests { spans: vec![0..=0; 65] }), Protocol::NEWEST);
}

fn versions() -> impl Strategy<Value = Version> {
    (
        prop_oneof![Just("n1".to_owned()), "[A-Za-z0-9._-]{1,32}"],
        any::<u64>(),
        prop_oneof![0..2u64, any::<u64>()],
    )
        .prop_map(|(node, timestamp, incarnation)| {
            let writer = Writer { node: NodeId::new(&node).expect("a good id"), incarnation };
            Version { timestamp: Timestamp::from_bits(timestamp), writer }
        })
}

fn keys() -> impl Strategy<Value = Key> {
    prop::collection::vec(any::<u8>(), 1..=40).prop_map(|bytes| Key::new(bytes).expect("not empty"))
}

fn records() -> impl Strategy<Value = Record> {
    (versions(), any::<Option<u64>>(), prop::option::of(prop::collection::vec(any::<u8>(), 0..100)))
        .prop_map(|(version, expires_ms, value)| Record {
            version,
            expires_ms,
            value: value.map(Bytes::from),
        })
}

fn lists<T: Strategy>(items: T) -> impl Strategy<Value = Vec<T::Value>> {
    prop::collection::vec(items, 0..6)
}

fn spans() -> impl Strategy<Value = RangeInclusive<u64>> {
    any::<(u64, u64)>().prop_map(|(a, b)| a.min(b)..=a.max(b))
}

fn refusals() -> impl Strategy<Value = Refusal> {
    (1u8..=10).prop_map(|code| refusal(code).expect("a known code"))
}

fn outcomes() -> impl Strategy<Value = PutOutcome> {
    prop_oneof![
        Just(PutOutcome::Stored),
        versions().prop_map(PutOutcome::Superseded),
        any::<u64>().prop_map(|bits| PutOutcome::Below(timestamp(bits))),
        refusals().prop_map(PutOutcome::Refused),
    ]
}

fn requests() -> impl Strategy<Value = Request> {
    let hint_for = || prop::option::of(versions().prop_map(|version| version.writer.node));
    prop_oneof![
        any::<u64>().prop_map(|wall_ms| Request::Ping { wall_ms }),
        any::<(u64, u64, u64)>().prop_map(|(wall_ms, incarnation, progress)| Request::Meet {
            wall_ms,
            incarnation,
            progress
        }),
        Just(Request::Report),
        (keys(), records(), hint_for()).prop_map(|(key, record, hint_for)| Request::Put {
            key,
            record,
            hint_for
        }),
        (keys(), any::<bool>(), prop::option::of((versions(), any::<u64>()))).prop_map(
            |(key, from_hints, known)| {
                let known = known.map(|(version, content)| Stamp { version, content });
                Request::Get { key, from_hints, known }
            }
        ),
        lists((keys(), records())).prop_map(|records| Request::Merge { records }),
        lists(spans()).prop_map(|spans| Request::Digests { spans }),
        spans().prop_map(|span| Request::List { span }),
        lists(any::<u64>()).prop_map(|tokens| Request::Fetch { tokens }),
        keys().prop_map(|key| Request::Version { key }),
    ]
}

fn standings() -> impl Strategy<Value = Standing> {
    let lives = lists((versions(), any::<u64>()));
    (any::<(u64, u64, u32, bool, u64, u64)>(), lives).prop_map(|(numbers, lives)| {
        let (noted, remembered, notes, is_recovering, floor, horizon) = numbers;
        let [floor, horizon] = [floor, horizon].map(timestamp);
        let lives = lives.into_iter().map(|(version, life)| (version.writer.node, life)).collect();
        Standing { noted, remembered, notes, lives, is_recovering, floor, horizon }
    })
}

fn responses() -> impl Strategy<Value = Response> {
    prop_oneof![
        9 => plain_responses(),
        1 => plain_responses().prop_map(|response| Response::Uncounted(Box::new(response))),
        1 => (any::<u64>(), standings()).prop_map(|(wall_ms, standing)| Response::Met {
            wall_ms,
            standing: Box::new(standing)
        }),
        1 => any::<u64>().prop_map(|bits| Response::Reported(timestamp(bits))),
    ]
}

fn plain_responses() -> impl Strategy<Value = Response> {
    let digests = lists(any::<(u64, u64)>().prop_map(|(xor, count)| Digest { xor, count }));
    let item = (any::<u64>(), versions(), any::<u64>())
        .prop_map(|(token, version, content)| (token, Stamp { version, content }));
    prop_oneof![
        any::<u64>().prop_map(|wall_ms| Response::Pong { wall_ms }),
        outcomes().prop_map(Response::Put),
        prop::option::of(records()).prop_map(Response::Found),
        lists(outcomes()).prop_map(Response::Merged),
        digests.prop_map(Response::Digests),
        (lists(item), any::<bool>())
            .prop_map(|(items, complete)| Response::Listed { items, complete }),
        lists((keys(), records())).prop_map(Response::Fetched),
        prop::option::of(versions()).prop_map(Response::Version),
        refusals().prop_map(Response::Refused),
    ]
}

fn messages() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<(u64, u64)>(), requests()).prop_map(|((id, nanos), body)| Message::Request {
            id,
            time_left: Duration::from_nanos(nanos),
            body
        }),
        (any::<u64>(), any::<u32>(), responses()).prop_map(|(id, notes, body)| Message::Response {
            id,
            notes,
            body
        }),
    ]
}

proptest! {
    #[test]
    fn decoding_inverts_encoding(message in messages(), protocol in prop::sample::select(&ALL)) {
        let decoded = decode_message(&encoded(&message, protocol).into(), protocol);
        prop_assert_eq!(decoded, Ok(as_sent(message, protocol)));
    }

    #[test]
    fn changed_bytes_are_refused_or_are_the_one_form_of_a_message(
        message in messages(), protocol in prop::sample::select(&ALL),
        at in any::<prop::sample::Index>(), flip in 1u8..,
    ) {
        let mut bytes = encoded(&message, protocol);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let bytes = Bytes::from(bytes);
        if let Ok(message) = decode_message(&bytes, protocol) {
            prop_assert_eq!(encoded(&message, protocol), bytes);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_are_the_one_form_of_a_message(
        protocol in prop::sample::select(&ALL),
        kind in prop::sample::select(vec![1u8, 2, 3, 4, 5, 6, 7, 8, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0xff, 0x20, 0x21, 0xa0, 0xa1, 0xa2, 0x10, 0x11, 0x90, 0x91]),
        rest in prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 0..200),
    ) {
        let bytes = Bytes::from([vec![kind], rest].concat());
        if let Ok(message) = decode_message(&bytes, protocol) {
            prop_assert_eq!(encoded(&message, protocol), bytes);
        }
    }
}
