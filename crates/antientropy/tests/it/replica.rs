//! A replica as a map, and a driver that runs an exchange between two of them.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use quorate_antientropy::{
    Exchange, ExchangeAction, ExchangeEvent, GroupSketch, Limits, Listing, MAX_GROUPS, MAX_SPANS,
    Overview, Ranges, SKETCH_CELLS, Sketch, SketchExchange, Summary, Symbol, bucket_span,
    short_digest,
};
use quorate_record::Digest;

/// Token and key, to the stamp of its record. A stamp belongs to one key only, as versions do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Replica(pub(crate) BTreeMap<(u64, u8), u64>);

impl Replica {
    pub(crate) fn merge(&mut self, place: (u64, u8), stamp: u64) {
        let held = self.0.entry(place).or_insert(stamp);
        *held = stamp.max(*held);
    }

    fn items(&self, ranges: &Ranges, span: &RangeInclusive<u64>) -> Vec<(u64, u64)> {
        let parts = ranges.within(span).map(RangeInclusive::into_inner);
        parts
            .flat_map(|(first, last)| self.0.range((first, 0)..=(last, u8::MAX)))
            .map(|(&(token, _), &stamp)| (token, stamp))
            .collect()
    }

    fn digest(&self, ranges: &Ranges, span: &RangeInclusive<u64>) -> Digest {
        let mut digest = Digest::default();
        for (token, stamp) in self.items(ranges, span) {
            digest.add(mixed(token ^ mixed(stamp)));
        }
        digest
    }

    fn buckets(&self, ranges: &Ranges) -> Vec<Digest> {
        let buckets = ranges.buckets().into_iter();
        buckets.map(|bucket| self.digest(ranges, &bucket_span(bucket))).collect()
    }

    fn overview(&self, ranges: &Ranges, salt: u64, asked: Digest) -> Overview {
        let whole = self.digest(ranges, &(0..=u64::MAX));
        let buckets = if whole == asked { Vec::new() } else { self.buckets(ranges) };
        let short = buckets.iter().map(|digest| short_digest(digest, salt)).collect();
        Overview { whole, short }
    }

    fn sketch(&self, ranges: &Ranges, group: &[u16]) -> GroupSketch {
        let mut of_group =
            GroupSketch { digest: Digest::default(), sketch: Sketch::new(SKETCH_CELLS) };
        for bucket in group {
            let digest = self.digest(ranges, &bucket_span(*bucket));
            of_group.digest = of_group.digest.combine(digest);
            for (token, stamp) in self.items(ranges, &bucket_span(*bucket)) {
                let hash = mixed(token ^ mixed(stamp));
                of_group.sketch.add(&Symbol::hashed(token, stamp, hash, false));
            }
        }
        of_group
    }

    fn list(&self, ranges: &Ranges, span: &RangeInclusive<u64>, limit: usize) -> Listing<u64> {
        let mut items = self.items(ranges, span);
        let complete = items.len() <= limit;
        items.truncate(limit);
        Listing { items, complete }
    }

    /// Merges all that `from` holds at `tokens`; returns how many records that were.
    fn take(&mut self, from: &Self, tokens: &[u64]) -> usize {
        let mut records = 0;
        for &token in tokens {
            for (&place, &stamp) in from.0.range((token, 0)..=(token, u8::MAX)) {
                self.merge(place, stamp);
                records += 1;
            }
        }
        records
    }
}

fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (bits ^ (bits >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// What an exchange asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) digest_messages: usize,
    pub(crate) digests: usize,
    pub(crate) overviews: usize,
    pub(crate) sketches: usize,
    pub(crate) listed: usize,
    pub(crate) moved: usize,
}

/// An exchange of either kind.
pub(crate) trait Compare {
    fn handle(&mut self, event: ExchangeEvent<u64>);
    fn poll_action(&mut self) -> Option<ExchangeAction>;
}

impl Compare for Exchange<u64> {
    fn handle(&mut self, event: ExchangeEvent<u64>) {
        self.handle(event);
    }

    fn poll_action(&mut self) -> Option<ExchangeAction> {
        self.poll_action()
    }
}

impl Compare for SketchExchange<u64> {
    fn handle(&mut self, event: ExchangeEvent<u64>) {
        self.handle(event);
    }

    fn poll_action(&mut self) -> Option<ExchangeAction> {
        self.poll_action()
    }
}

/// Runs an exchange by lists to its end; aborts it in place of the answer number `abort_at`.
pub(crate) fn run(
    (local, remote): (&mut Replica, &mut Replica),
    ranges: &Ranges,
    limits: Limits,
    resume_at: u64,
    abort_at: Option<usize>,
) -> (Summary, Traffic) {
    let exchange = Exchange::<u64>::start(ranges.clone(), limits, resume_at);
    drive(exchange, (local, remote), ranges, abort_at, &mut |_| {})
}

/// Runs an exchange by sketches to its end; aborts it in place of the answer number `abort_at`, and
/// lets `meanwhile` change the replicas before each action.
pub(crate) fn run_by_sketches(
    replicas: (&mut Replica, &mut Replica),
    ranges: &Ranges,
    resume_at: u64,
    abort_at: Option<usize>,
    meanwhile: &mut dyn FnMut((&mut Replica, &mut Replica)),
) -> (Summary, Traffic) {
    let exchange = SketchExchange::<u64>::start(ranges.clone(), resume_at, resume_at);
    drive(exchange, replicas, ranges, abort_at, meanwhile)
}

fn drive(
    mut exchange: impl Compare,
    (local, remote): (&mut Replica, &mut Replica),
    ranges: &Ranges,
    abort_at: Option<usize>,
    meanwhile: &mut dyn FnMut((&mut Replica, &mut Replica)),
) -> (Summary, Traffic) {
    let mut traffic = Traffic::default();
    for answers in 0.. {
        let action = exchange.poll_action().expect("an exchange that is not done asks");
        if let ExchangeAction::Done(summary) = action {
            assert_eq!(exchange.poll_action(), None);
            return (summary, traffic);
        }
        assert_eq!(exchange.poll_action(), None, "one question at a time");
        meanwhile((local, remote));
        if abort_at == Some(answers) {
            exchange.handle(ExchangeEvent::Aborted);
            continue;
        }
        let event = match action {
            ExchangeAction::Digests { spans } => {
                assert!((1..=MAX_SPANS).contains(&spans.len()));
                traffic.digest_messages += 1;
                traffic.digests += spans.len();
                ExchangeEvent::Digests {
                    local: spans.iter().map(|span| local.digest(ranges, span)).collect(),
                    remote: spans.iter().map(|span| remote.digest(ranges, span)).collect(),
                }
            }
            ExchangeAction::Overview { salt } => {
                traffic.overviews += 1;
                let whole = local.digest(ranges, &(0..=u64::MAX));
                let remote = remote.overview(ranges, salt, whole);
                ExchangeEvent::Overview { local: local.buckets(ranges), remote }
            }
            ExchangeAction::Sketches { groups } => {
                assert!((1..=MAX_GROUPS).contains(&groups.len()));
                traffic.sketches += groups.len();
                ExchangeEvent::Sketches {
                    local: groups.iter().map(|group| local.sketch(ranges, group)).collect(),
                    remote: groups.iter().map(|group| remote.sketch(ranges, group)).collect(),
                }
            }
            ExchangeAction::List { span, limit } => {
                let local = local.list(ranges, &span, limit);
                let remote = remote.list(ranges, &span, limit);
                traffic.listed += local.items.len() + remote.items.len();
                ExchangeEvent::Listed { local, remote }
            }
            ExchangeAction::Pull { tokens } => {
                assert!(tokens.iter().all(|&token| ranges.contains(token)));
                let records = local.take(remote, &tokens);
                traffic.moved += records;
                ExchangeEvent::Pulled { records, left: 0 }
            }
            ExchangeAction::Push { tokens } => {
                assert!(tokens.iter().all(|&token| ranges.contains(token)));
                let records = remote.take(local, &tokens);
                traffic.moved += records;
                ExchangeEvent::Pushed { records, left: 0 }
            }
            ExchangeAction::Done(_) => unreachable!("handled above"),
        };
        exchange.handle(event);
    }
    unreachable!("the loop is endless")
}
