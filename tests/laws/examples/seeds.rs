//! Writes one input of each kind into the corpus of the laws about binary forms, for when those
//! have changed; the texts in it were written by hand.
#![expect(clippy::unwrap_used, reason = "there is nobody to handle errors")]

use std::{fs, path::Path, sync::Arc, time::Duration};

use quorate_laws::small_log;
use quorate_node::{
    Cell, GroupSketch, Message, Overview, PutOutcome, Refusal, Request, Response, Sketch, Standing,
};
use quorate_record::{
    Digest, Hint, HintKind, Key, NodeId, Record, Stamp, Timestamp, Version, Writer, encode_hint,
    encode_record, encode_version,
};
use quorate_storage::{Log, fault::FaultFs};
use quorate_transport::{Protocol, encode_frame, encode_message};

const DIGEST: Digest = Digest { xor: 5, count: 6 };

fn save(law: &str, name: &str, bytes: &[u8]) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(law);
    fs::create_dir_all(&corpus).unwrap();
    fs::write(corpus.join(name), bytes).unwrap();
}

fn version() -> Version {
    let writer = Writer { node: NodeId::new("n1").unwrap(), incarnation: 0x5f0c_21aa };
    Version { timestamp: Timestamp::from_bits(0x0191_f3c2_a4b7_0003), writer }
}

fn messages() -> Vec<(&'static str, Message)> {
    let key = || Key::new("cat").unwrap();
    let live = || Record::live(version(), "meow");
    let dead = || Record::tombstone(version());
    let expiring = || Record { expires_ms: Some(1_700_000_000_000), ..live() };
    let records = || vec![(key(), live()), (key(), dead()), (key(), expiring())];
    let hint_for = Some(NodeId::new("n2").unwrap());
    let requests = [
        ("ping", Request::Ping { wall_ms: 1_700_000_000_000 }),
        ("put", Request::Put { key: key(), record: live(), hint_for: None }),
        ("put_hint", Request::Put { key: key(), record: dead(), hint_for }),
        ("get", Request::Get { key: key(), from_hints: true, known: None }),
        ("version", Request::Version { key: key() }),
        ("merge", Request::Merge { records: records() }),
        ("merge_none", Request::Merge { records: Vec::new() }),
        ("digests", Request::Digests { spans: vec![0..=u64::MAX, 5..=5] }),
        ("list", Request::List { span: 1..=2 }),
        ("fetch", Request::Fetch { tokens: vec![0, 1, u64::MAX] }),
        ("meet", Request::Meet { wall_ms: 1_700_000_000_000, incarnation: 2, progress: 3 }),
        ("report", Request::Report),
        ("overview", Request::Overview { salt: 5, whole: DIGEST }),
        ("sketches", Request::Sketches { groups: vec![vec![1, 0x0fff], vec![2]] }),
    ];
    let outcomes = || {
        [
            PutOutcome::Stored,
            PutOutcome::Superseded(version()),
            PutOutcome::Refused(Refusal::DiskFull),
        ]
    };
    let items = vec![(1, live().stamp()), (2, Stamp { version: version(), content: 7 })];
    let [stored, superseded, refused] = outcomes();
    let lives = vec![(NodeId::new("n2").unwrap(), 5)];
    let standing = Standing { noted: 1, notes: 2, lives, ..Standing::default() };
    let sketch = Sketch::from_cells(vec![Cell::default()]);
    let group = GroupSketch { digest: DIGEST, sketch };
    let responses = [
        ("pong", Response::Pong { wall_ms: 1_700_000_000_000 }),
        ("stored", Response::Put(stored)),
        ("superseded", Response::Put(superseded)),
        ("put_refused", Response::Put(refused)),
        ("found", Response::Found(Some(expiring()))),
        ("found_tombstone", Response::Found(Some(dead()))),
        ("found_none", Response::Found(None)),
        ("version_held", Response::Version(Some(version()))),
        ("version_none", Response::Version(None)),
        ("merged", Response::Merged(outcomes().to_vec())),
        ("digested", Response::Digests(vec![DIGEST; 2])),
        ("listed", Response::Listed { items, complete: true }),
        ("listed_none", Response::Listed { items: Vec::new(), complete: false }),
        ("fetched", Response::Fetched(records())),
        ("refused", Response::Refused(Refusal::ClockAhead)),
        ("below", Response::Put(PutOutcome::Below(Timestamp::from_bits(5)))),
        ("overview_given", Response::Overview(Overview { whole: DIGEST, short: vec![8, 9] })),
        ("summed_up", Response::Sketches(vec![group])),
        ("reported", Response::Reported(Timestamp::from_bits(6))),
        ("uncounted", Response::Uncounted(Box::new(Response::Put(PutOutcome::Stored)))),
        ("met", Response::Met { wall_ms: 1_700_000_000_000, standing: Box::new(standing) }),
    ];
    let asked = requests.map(|(name, body)| {
        (name, Message::Request { id: 7, time_left: Duration::from_millis(800), body })
    });
    let answered =
        responses.map(|(name, body)| (name, Message::Response { id: 7, notes: 0, body }));
    asked.into_iter().chain(answered).collect()
}

fn save_messages() {
    let mut all = vec![0x83, 0, 10, 200]; // checksums mended; pieces of 1, 11 and 201 bytes
    for (name, message) in messages() {
        let mut bytes = Vec::new();
        encode_message(&message, Protocol::NEWEST, &mut bytes);
        save("message", name, &bytes);
        encode_frame(&message, Protocol::NEWEST, &mut all).unwrap();
    }
    save("stream", "all", &all);

    let short = messages().into_iter().filter(|(name, _)| ["ping", "pong"].contains(name));
    let mut good = vec![0x02, 0, 10];
    short.for_each(|(_, message)| encode_frame(&message, Protocol::NEWEST, &mut good).unwrap());
    save("stream", "good", &good);
    save("stream", "open", &good[..good.len() - 1]);
    let mut bad = good.clone();
    bad[8] ^= 1;
    save("stream", "bad_checksum", &bad);
    bad[0] |= 0x80;
    save("stream", "bad_message", &bad);
    good[3..7].fill(0xff);
    save("stream", "too_long", &good);
    good[3..7].fill(0);
    save("stream", "empty", &good);
}

fn save_records() {
    let key = Key::new("cat").unwrap();
    let live = Record::live(version(), "meow");
    let expiring = Record { expires_ms: Some(5), ..live.clone() };
    let dead = Record::tombstone(version());
    for (name, record) in [("live", &live), ("expiring", &expiring), ("tombstone", &dead)] {
        let mut bytes = Vec::new();
        encode_record(&key, record, &mut bytes);
        save("record", name, &bytes);
    }
    for (name, kind) in [("hint_owed", HintKind::Owed), ("hint_courtesy", HintKind::Courtesy)] {
        let (target, record) = (NodeId::new("n2").unwrap(), live.clone());
        let mut bytes = Vec::new();
        encode_hint(&Hint { target, key: key.clone(), record, kind, added_ms: 7 }, &mut bytes);
        save("record", name, &bytes);
    }
    let mut bytes = Vec::new();
    encode_version(&version(), &mut bytes);
    save("record", "version", &bytes);
    save("record", "version_text", version().to_string().as_bytes());
}

fn save_segments() {
    let fs = FaultFs::new();
    let opened = Log::open(Arc::new(fs.clone()), "/log".as_ref(), &small_log(), |_| {}, |_| {});
    let (log, _) = opened.unwrap();
    for payload in [&b"one"[..], b"", &[7; 100], b"four"] {
        log.submit(3, payload).unwrap();
        log.turn(Duration::ZERO);
    }
    drop(log);
    let whole = fs.contents("/log/0000000000000001.qlog".as_ref()).unwrap();
    for (name, flags) in [("whole", 0), ("whole_mended", 2)] {
        save("segment", name, &[&[flags], &whole[..]].concat());
    }
    let frames = &whole[512..800];
    save("segment", "frames", &[&[3], frames].concat());
    let mut torn = frames.to_vec();
    torn[30] ^= 1; // the second frame, with others behind it that say that it was synced
    save("segment", "damaged", &[&[1], &torn[..]].concat());
    save("segment", "cut", &[&[0], &whole[..700]].concat());
}

fn main() {
    save_messages();
    save_records();
    save_segments();
}
