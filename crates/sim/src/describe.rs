//! Messages in a few words.

use quorate_node::{ClientReply, ClientRequest, Message, Operation, PutOutcome, Request, Response};
use quorate_record::{Key, Record};

pub(crate) fn describe_request(request: &ClientRequest) -> String {
    let ClientRequest { key, operation, quorum, .. } = request;
    let (n, r, w) = (quorum.n(), quorum.r(), quorum.w());
    let sloppy = if quorum.sloppy() { " sloppy" } else { "" };
    match operation {
        Operation::Put(value) => {
            format!("put {} ({} bytes) w={w}/{n}{sloppy}", describe_key(key), value.len())
        }
        Operation::Delete => format!("delete {} w={w}/{n}{sloppy}", describe_key(key)),
        Operation::Get => format!("get {} r={r}/{n}{sloppy}", describe_key(key)),
    }
}

pub(crate) fn describe_reply(reply: &ClientReply) -> String {
    match reply {
        ClientReply::Written(Ok(receipt)) => {
            let sloppy = if receipt.sloppy { " sloppy" } else { "" };
            format!("stored {} acks={:?}{sloppy}", receipt.version, receipt.acks)
        }
        ClientReply::Written(Err(failure)) => {
            format!("failed: {} ({:?})", failure.error, failure.error.outcome())
        }
        ClientReply::Read(Ok(receipt)) => {
            let found = receipt.found.as_ref().map_or("nothing".to_owned(), describe_record);
            format!("{found} from={:?}", receipt.from)
        }
        ClientReply::Read(Err(failure)) => format!("failed: {}", failure.error),
        ClientReply::Refused(why) => format!("refused: {why}"),
    }
}

pub(crate) fn describe_message(message: &Message) -> String {
    match message {
        Message::Request { id, body, .. } => format!("?{id} {}", describe_body(body)),
        Message::Response { id, body, .. } => format!("!{id} {}", describe_response(body)),
    }
}

pub(crate) fn describe_key(key: &Key) -> String {
    String::from_utf8_lossy(key.as_bytes()).into_owned()
}

pub(crate) fn describe_record(record: &Record) -> String {
    match &record.value {
        Some(value) => format!("{} ({} bytes)", record.version, value.len()),
        None => format!("{} (deleted)", record.version),
    }
}

fn describe_body(body: &Request) -> String {
    match body {
        Request::Ping { .. } => "ping".to_owned(),
        Request::Put { key, record, hint_for } => {
            let hint = hint_for.map_or(String::new(), |target| format!(" for {target}"));
            format!("put {} {}{hint}", describe_key(key), describe_record(record))
        }
        Request::Get { key, from_hints, known } => {
            let hints = if *from_hints { " from hints" } else { "" };
            let known = known.map_or(String::new(), |known| format!(" unless {}", known.version));
            format!("get {}{hints}{known}", describe_key(key))
        }
        Request::Merge { records } => format!("merge {}", describe_records(records)),
        Request::Digests { spans } => format!("digests of {} spans", spans.len()),
        Request::Overview { .. } => "overview".to_owned(),
        Request::Sketches { groups } => format!("sketches of {} groups", groups.len()),
        Request::List { span } => format!("list {:016x}..{:016x}", span.start(), span.end()),
        Request::Fetch { tokens } => format!("fetch {} tokens", tokens.len()),
        #[allow(unreachable_patterns, reason = "requests may be added")]
        other => format!("{other:?}"),
    }
}

fn describe_response(body: &Response) -> String {
    match body {
        Response::Pong { .. } => "pong".to_owned(),
        Response::Put(outcome) => describe_outcome(outcome),
        Response::Found(None) => "found nothing".to_owned(),
        Response::Found(Some(record)) => format!("found {}", describe_record(record)),
        Response::Merged(outcomes) => {
            let outcomes: Vec<String> = outcomes.iter().map(describe_outcome).collect();
            format!("merged: {}", outcomes.join(", "))
        }
        Response::Digests(digests) => format!("{} digests", digests.len()),
        Response::Overview(overview) => match overview.short.len() {
            0 => "all is equal".to_owned(),
            count => format!("overview of {count} buckets"),
        },
        Response::Sketches(groups) => format!("{} sketches", groups.len()),
        Response::Listed { items, complete } => {
            format!("{} listed{}", items.len(), if *complete { "" } else { ", more to come" })
        }
        Response::Fetched(records) => format!("fetched {}", describe_records(records)),
        Response::Refused(why) => format!("refused: {why}"),
        #[allow(unreachable_patterns, reason = "responses may be added")]
        other => format!("{other:?}"),
    }
}

fn describe_outcome(outcome: &PutOutcome) -> String {
    match outcome {
        PutOutcome::Stored => "stored".to_owned(),
        PutOutcome::Superseded(by) => format!("superseded by {by}"),
        PutOutcome::Below(least) => format!("below {:016x}", least.bits()),
        PutOutcome::Refused(why) => format!("refused: {why}"),
    }
}

fn describe_records(records: &[(Key, Record)]) -> String {
    let described = records
        .iter()
        .map(|(key, record)| format!("{} {}", describe_key(key), describe_record(record)));
    described.collect::<Vec<_>>().join(", ")
}
