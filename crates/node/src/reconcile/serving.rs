//! What a node answers to the exchanges of its peers.

use std::{ops::RangeInclusive, sync::Arc};

use quorate_antientropy::{Overview, Ranges, SKETCH_CELLS, short_digest};
use quorate_record::{Digest, Key, Record};

use super::Shared;
use crate::{
    MAX_BATCH_BYTES, MAX_ITEMS, Node, Refusal, Request, Response, StoreRequest,
    serve::{Origin, StoreWaiter},
};

/// What one message of an exchange weighs besides its keys, values and stamps, in bytes.
const MESSAGE_BYTES: u64 = 32;
/// What a stamp in a list weighs, in bytes.
const ITEM_BYTES: u64 = 40;
/// What a record weighs besides its key and value, in bytes.
const RECORD_BYTES: u64 = 48;
/// What a cell of a sketch weighs, in bytes.
const CELL_BYTES: u64 = 26;

impl Node {
    /// Serves a peer's exchange: whatever it asks about, it gets only what both own.
    pub(crate) fn serve_exchange(&mut self, origin: Origin, body: Request) {
        let Some(shared) = self.shared_with(origin) else {
            return self.respond(origin, Response::Refused(Refusal::NotOwner));
        };
        let within = |span: &RangeInclusive<u64>| shared.within(span);
        let request = match body {
            Request::Overview { salt, whole } => {
                let request = StoreRequest::Digests { sets: vec![shared.everything()] };
                return self.store(request, StoreWaiter::Whole { origin, salt, asked: whole });
            }
            Request::Sketches { groups } => StoreRequest::Sketches {
                sets: groups.iter().map(|group| shared.of_buckets(group)).collect(),
                cells: SKETCH_CELLS,
            },
            Request::Digests { spans } => {
                StoreRequest::Digests { sets: spans.iter().map(within).collect() }
            }
            Request::List { span } => {
                let limit = if buggify!(OneRecordListed) { 1 } else { MAX_ITEMS };
                StoreRequest::List { ranges: within(&span), limit }
            }
            Request::Fetch { mut tokens } => {
                tokens.retain(|&token| shared.0.contains(token));
                let max_bytes = if buggify!(OneRecordFetched) { 1 } else { MAX_BATCH_BYTES };
                StoreRequest::Fetch { tokens, max_bytes }
            }
            other => unreachable!("{other:?} is no part of an exchange"),
        };
        self.store(request, StoreWaiter::Respond(origin));
    }

    /// The store has told the digest of all that is shared with `origin`.
    pub(crate) fn whole_digested(
        &mut self,
        (origin, salt): (Origin, u64),
        asked: Digest,
        response: Response,
    ) {
        match response {
            Response::Digests(digests) if digests[..] == [asked] => {
                let overview = Overview { whole: asked, short: Vec::new() };
                self.respond(origin, Response::Overview(overview));
            }
            Response::Digests(_) => {
                let ranges = self.shared_with(origin).map(|shared| shared.everything());
                let request = StoreRequest::Buckets { ranges: ranges.unwrap_or_default() };
                self.store(request, StoreWaiter::Short { origin, salt });
            }
            response => self.respond(origin, response),
        }
    }

    /// The store has told the digests of the buckets that are shared with `origin`.
    pub(crate) fn buckets_digested(&mut self, origin: Origin, salt: u64, response: Response) {
        let Response::Digests(digests) = response else { return self.respond(origin, response) };
        let whole = digests.iter().copied().fold(Digest::default(), Digest::combine);
        let short = digests.iter().map(|digest| short_digest(digest, salt)).collect();
        self.respond(origin, Response::Overview(Overview { whole, short }));
    }
}

impl Node {
    /// What whoever asks may ask about.
    fn shared_with(&self, origin: Origin) -> Option<Shared> {
        match origin {
            Origin::Peer { node, .. } => self.reconcile.co_owned.get(&node).cloned(),
            Origin::Own { .. } | Origin::Outside { .. } => {
                Some(Shared(Arc::new(Ranges::new([0..=u64::MAX]))))
            }
        }
    }
}

impl Request {
    /// About how many bytes it has on the wire, as a part of an exchange.
    pub(super) fn exchange_bytes(&self) -> u64 {
        MESSAGE_BYTES
            + match self {
                Self::Overview { .. } => 24,
                Self::Sketches { groups } => {
                    groups.iter().map(|group| 8 + 2 * group.len() as u64).sum()
                }
                Self::Digests { spans } => 16 * spans.len() as u64,
                Self::Fetch { tokens } => 8 * tokens.len() as u64,
                Self::Merge { records } => records_bytes(records),
                _ => 16,
            }
    }
}

impl Response {
    /// The same of an answer.
    pub(super) fn exchange_bytes(&self) -> u64 {
        MESSAGE_BYTES
            + match self {
                Self::Overview(overview) => 24 + 2 * overview.short.len() as u64,
                Self::Sketches(groups) => {
                    let cells = |it: &quorate_antientropy::GroupSketch| it.sketch.cells().len();
                    groups.iter().map(|it| 24 + CELL_BYTES * cells(it) as u64).sum()
                }
                Self::Digests(digests) => 16 * digests.len() as u64,
                Self::Listed { items, .. } => ITEM_BYTES * items.len() as u64,
                _ => 16,
            }
    }
}

pub(super) fn records_bytes(records: &[(Key, Record)]) -> u64 {
    let weigh = |(key, record): &(Key, Record)| {
        let value = record.value.as_ref().map_or(0, |value| value.len());
        RECORD_BYTES + (key.as_bytes().len() + value) as u64
    };
    records.iter().map(weigh).sum()
}
