use std::fmt::Write as _;

use hyper::header::{ETAG, HeaderName, HeaderValue};
use quorate_quorum::{GetReceipt, Holder, PutReceipt};
use quorate_record::{NodeId, Record, Version};

const QUORATE_VERSION: HeaderName = HeaderName::from_static("quorate-version");
const QUORATE_RECEIPT: HeaderName = HeaderName::from_static("quorate-receipt");

/// `ETag` and `Quorate-Version`.
pub(super) fn version(version: &Version) -> [(HeaderName, HeaderValue); 2] {
    let text = version.to_string();
    [(ETAG, header(format!("\"{text}\""))), (QUORATE_VERSION, header(text))]
}

/// `Quorate-Receipt` of a write that `this` node coordinated:
/// `w=2/3 acks=n1,n3 hinted=n2@n1 quorum=strict`.
pub(super) fn written(
    receipt: &PutReceipt<NodeId, Version>,
    this: NodeId,
) -> (HeaderName, HeaderValue) {
    let mut text = format!("w={}/{}", receipt.acks.len(), receipt.n);
    list(&mut text, "acks", receipt.acks.iter().map(NodeId::to_string));
    list(
        &mut text,
        "hinted",
        receipt.hinted.iter().map(|(replica, holder)| match holder {
            Holder::Fallback(fallback) => format!("{replica}@{fallback}"),
            Holder::Coordinator => format!("{replica}@{this}"),
        }),
    );
    end(text, receipt.sloppy)
}

/// `Quorate-Receipt` of a read: `r=2/3 from=n1,n3 repaired=n2 quorum=strict`.
pub(super) fn read(receipt: &GetReceipt<NodeId, Record>) -> (HeaderName, HeaderValue) {
    let mut text = format!("r={}/{}", receipt.from.len(), receipt.n);
    list(&mut text, "from", receipt.from.iter().map(NodeId::to_string));
    list(&mut text, "repaired", receipt.repaired.iter().map(NodeId::to_string));
    end(text, receipt.sloppy)
}

fn list(text: &mut String, word: &str, items: impl Iterator<Item = String>) {
    for (place, item) in items.enumerate() {
        let _ = if place == 0 { write!(text, " {word}={item}") } else { write!(text, ",{item}") };
    }
}

fn end(mut text: String, sloppy: bool) -> (HeaderName, HeaderValue) {
    text.push_str(if sloppy { " quorum=sloppy" } else { " quorum=strict" });
    (QUORATE_RECEIPT, header(text))
}

fn header(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("numbers, versions and node ids are plain ASCII")
}
