use std::fmt::Write as _;

use bytes::Bytes;
use hyper::header::{ETAG, HeaderName, HeaderValue};
use quorate_quorum::{GetReceipt, Holder, PutReceipt};
use quorate_record::{NodeId, Record, Version};

const QUORATE_VERSION: HeaderName = HeaderName::from_static("quorate-version");
const QUORATE_RECEIPT: HeaderName = HeaderName::from_static("quorate-receipt");

/// Room for the longest usual text, so that it is allocated once.
const USUAL_BYTES: usize = 96;

/// `ETag` and `Quorate-Version`.
pub(super) fn version(version: &Version) -> [(HeaderName, HeaderValue); 2] {
    let mut text = String::with_capacity(USUAL_BYTES);
    let _ = write!(text, "\"{version}\"");
    let quoted = Bytes::from(text);
    let plain = quoted.slice(1..quoted.len() - 1);
    [(ETAG, header(quoted)), (QUORATE_VERSION, header(plain))]
}

/// `Quorate-Receipt` of a write that `this` node coordinated:
/// `w=2/3 acks=n1,n3 hinted=n2@n1 quorum=strict`. If the client has `waited` for all owners,
/// `lacking=n2` says which of them do not hold it, or `owners=all` that there is none.
pub(super) fn written(
    receipt: &PutReceipt<NodeId, Version>,
    this: NodeId,
    waited: bool,
) -> (HeaderName, HeaderValue) {
    let mut text = begin("w=", receipt.acks.len(), receipt.n);
    list(&mut text, " acks=", &receipt.acks, |text, node| text.push_str(node.as_str()));
    list(&mut text, " hinted=", &receipt.hinted, |text, (replica, holder)| {
        text.push_str(replica.as_str());
        text.push('@');
        text.push_str(match holder {
            Holder::Fallback(fallback) => fallback.as_str(),
            Holder::Coordinator => this.as_str(),
        });
    });
    if waited {
        list(&mut text, " lacking=", &receipt.lacking, |text, node| text.push_str(node.as_str()));
        text.push_str(if receipt.lacking.is_empty() { " owners=all" } else { "" });
    }
    end(text, receipt.sloppy)
}

/// `Quorate-Receipt` of a read: `r=2/3 from=n1,n3 repaired=n2 quorum=strict`.
pub(super) fn read(receipt: &GetReceipt<NodeId, Record>) -> (HeaderName, HeaderValue) {
    let mut text = begin("r=", receipt.from.len(), receipt.n);
    list(&mut text, " from=", &receipt.from, |text, node| text.push_str(node.as_str()));
    list(&mut text, " repaired=", &receipt.repaired, |text, node| text.push_str(node.as_str()));
    end(text, receipt.sloppy)
}

fn begin(word: &str, reached: usize, n: usize) -> String {
    let mut text = String::with_capacity(USUAL_BYTES);
    let _ = write!(text, "{word}{reached}/{n}");
    text
}

/// Adds ` word=item,item`, or nothing if there are no items.
fn list<T>(text: &mut String, word: &str, items: &[T], add: impl Fn(&mut String, &T)) {
    for (place, item) in items.iter().enumerate() {
        text.push_str(if place == 0 { word } else { "," });
        add(text, item);
    }
}

fn end(mut text: String, sloppy: bool) -> (HeaderName, HeaderValue) {
    text.push_str(if sloppy { " quorum=sloppy" } else { " quorum=strict" });
    (QUORATE_RECEIPT, header(Bytes::from(text)))
}

fn header(text: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(text).expect("numbers, versions and node ids are plain ASCII")
}
