use std::{fmt::Write, time::Duration};

use quorate_quorum::Quorum;
use quorate_record::{MAX_KEY_BYTES, NodeId};
use quorate_server::http::{
    Answer, HttpSettings,
    fuzzing::{Asked, asked, key, record, scan, shown_record},
};
use serde_json::Value;

use crate::{pieces::Pieces, within};

/// A query is refused, or asks for something in range that means the same when it is spelt out.
/// The first three bytes of the input say what the node is configured to.
pub fn http_params(input: &[u8]) {
    let Some((&[n, r, w], query)) = input.split_first_chunk() else { return };
    let Ok(query) = std::str::from_utf8(query) else { return };
    let n = usize::from(n % 5) + 1;
    let (r_configured, w_configured) = (usize::from(r) % n + 1, usize::from(w) % n + 1);
    let quorum = Quorum::new(n, r_configured, w_configured, r & 0x80 != 0).expect("it is in range");
    let settings = HttpSettings::new(NodeId::new("n1").expect("a plain id"), quorum);

    let Asked { quorum, atomic, timeout, wait } = match asked(query, &settings) {
        Ok(asked) => asked,
        Err(answer) => return assert_refused(&answer, &[400]),
    };
    assert_eq!(quorum.n(), n);
    assert!((1..=n).contains(&quorum.r()) && (1..=n).contains(&quorum.w()), "{quorum:?}");
    assert!((Duration::from_millis(1)..=Duration::from_secs(60)).contains(&timeout), "{timeout:?}");
    if atomic {
        let majority = Quorum::majority(n);
        assert!(quorum.r() >= majority && quorum.w() >= majority && !quorum.sloppy(), "{quorum:?}");
    }
    let (r, w, sloppy) = (quorum.r(), quorum.w(), quorum.sloppy());
    let timeout_ms = timeout.as_millis();
    let level = if atomic { "&consistency=atomic" } else { "" };
    let waiting = if wait { "&wait=owners" } else { "" };
    let spelt_out = format!("r={r}&w={w}&sloppy={sloppy}&timeout_ms={timeout_ms}{level}{waiting}");
    let again = asked(&spelt_out, &settings).ok();
    assert_eq!(again, Some(Asked { quorum, atomic, timeout, wait }), "{spelt_out}");
}

/// What stands behind `/kv/` is refused, or is a key that comes out the same when every byte of it
/// is escaped.
pub fn http_key(input: &[u8]) {
    let Ok(raw) = std::str::from_utf8(input) else { return };
    let read = match within(2 * input.len() + 4096, || key(raw)) {
        Ok(read) => read,
        Err(answer) => return assert_refused(&answer, &[400]),
    };
    let len = read.as_bytes().len();
    assert!((1..=MAX_KEY_BYTES).contains(&len) && len <= raw.len(), "{len} bytes");
    let mut escaped = String::with_capacity(3 * len);
    for byte in read.as_bytes() {
        write!(escaped, "%{byte:02x}").expect("writing into memory cannot fail");
    }
    assert_eq!(key(&escaped).ok(), Some(read.clone()), "{escaped}");
    assert_eq!(key(&escaped.to_uppercase()).ok(), Some(read));
}

/// However a stream of requests is cut, the same one is found to have two lengths.
pub fn http_head(input: &[u8]) {
    let Some(pieces) = Pieces::of(input) else { return };
    let bytes = pieces.whole;
    let whole = scan([bytes]);
    assert_eq!(scan(pieces.cut(bytes)), whole, "cut and uncut");
    assert_eq!(scan(bytes.chunks(1)), whole, "byte by byte and uncut");
    let (ambiguous, heads) = whole;
    assert!(ambiguous.is_none_or(|number| number == heads), "{ambiguous:?} of {heads}");
}

/// A record that somebody writes is refused, or is shown so that it is read back.
pub fn http_json(input: &[u8]) {
    const MOST_BYTES: usize = 64;
    let (key, read) = match record(input, MOST_BYTES) {
        Ok(read) => read,
        Err(answer) => return assert_refused(&answer, &[400, 413]),
    };
    assert!(read.value.as_ref().is_none_or(|value| value.len() <= MOST_BYTES));
    let shown = Value::Object(shown_record(&key, &read)).to_string();
    assert_eq!(record(shown.as_bytes(), MOST_BYTES).ok(), Some((key, read)), "{shown}");
}

#[track_caller]
fn assert_refused(answer: &Answer, statuses: &[u16]) {
    let status = answer.status().as_u16();
    assert!(statuses.contains(&status), "answered with {status}");
    let kind = answer.headers().get("content-type").map(|kind| kind.as_bytes());
    assert_eq!(kind, Some(&b"application/problem+json"[..]));
}
