//! Two maps that drifted apart are compared by sketches and mended.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use quorate_antientropy::{
    ExchangeAction, ExchangeEvent, GroupSketch, Listing, Overview, Ranges, SKETCH_CELLS, Sketch,
    SketchExchange, Symbol, bucket_span, short_digest,
};
use quorate_record::Digest;

/// Token to stamp. A real store keeps digests and sketches at hand instead of walking its records.
struct Replica(BTreeMap<u64, u64>);

impl Replica {
    fn symbols<'a>(
        &'a self,
        ranges: &Ranges,
        span: &RangeInclusive<u64>,
    ) -> impl Iterator<Item = (u64, Symbol)> + use<'a> {
        let parts: Vec<_> = ranges.within(span).collect();
        parts.into_iter().flat_map(|part| self.0.range(part)).map(|(&token, &timestamp)| {
            let hash = (token ^ timestamp.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (hash, Symbol::hashed(token, timestamp, hash, false))
        })
    }

    fn digest(&self, ranges: &Ranges, span: &RangeInclusive<u64>) -> Digest {
        let mut digest = Digest::default();
        self.symbols(ranges, span).for_each(|(hash, _)| digest.add(hash));
        digest
    }

    fn digests(&self, ranges: &Ranges) -> Vec<Digest> {
        let buckets = ranges.buckets().into_iter();
        buckets.map(|bucket| self.digest(ranges, &bucket_span(bucket))).collect()
    }

    fn overview(&self, ranges: &Ranges, salt: u64, asked: Digest) -> Overview {
        let whole = self.digest(ranges, &(0..=u64::MAX));
        let digests = if whole == asked { Vec::new() } else { self.digests(ranges) };
        Overview { whole, short: digests.iter().map(|it| short_digest(it, salt)).collect() }
    }

    fn sketch(&self, ranges: &Ranges, group: &[u16]) -> GroupSketch {
        let mut sum = GroupSketch { digest: Digest::default(), sketch: Sketch::new(SKETCH_CELLS) };
        for (hash, symbol) in
            group.iter().flat_map(|bucket| self.symbols(ranges, &bucket_span(*bucket)))
        {
            sum.digest.add(hash);
            sum.sketch.add(&symbol);
        }
        sum
    }

    fn list(&self, ranges: &Ranges, span: &RangeInclusive<u64>, limit: usize) -> Listing<u64> {
        let all = self.symbols(ranges, span).map(|(_, symbol)| (symbol.token, symbol.timestamp));
        let mut items: Vec<_> = all.take(limit + 1).collect();
        let complete = items.len() <= limit;
        items.truncate(limit);
        Listing { items, complete }
    }

    fn copy_to(&self, other: &mut Self, tokens: &[u64]) -> usize {
        other.0.extend(tokens.iter().map(|token| (*token, self.0[token])));
        tokens.len()
    }
}

fn main() {
    let ranges = Ranges::new([0..=u64::MAX / 2]);
    let all = 0..=u64::MAX;
    let token = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut local = Replica((0..10_000).map(|i| (token(i), i)).collect());
    let mut remote = Replica(local.0.clone());
    remote.0.extend((0..300).map(|i| (token(i * 7), 1_000_002)));
    remote.0.retain(|_, stamp| *stamp % 33 != 1);

    let mut exchange = SketchExchange::<u64>::start(ranges.clone(), 0, 1);
    let (mut questions, mut cells) = (0, 0);
    let summary = loop {
        questions += 1;
        let action = exchange.poll_action().expect("an exchange that is not done asks");
        exchange.handle(match action {
            ExchangeAction::Overview { salt } => ExchangeEvent::Overview {
                local: local.digests(&ranges),
                remote: remote.overview(&ranges, salt, local.digest(&ranges, &all)),
            },
            ExchangeAction::Sketches { groups } => {
                cells += groups.len() * SKETCH_CELLS;
                ExchangeEvent::Sketches {
                    local: groups.iter().map(|group| local.sketch(&ranges, group)).collect(),
                    remote: groups.iter().map(|group| remote.sketch(&ranges, group)).collect(),
                }
            }
            ExchangeAction::Digests { spans } => ExchangeEvent::Digests {
                local: spans.iter().map(|span| local.digest(&ranges, span)).collect(),
                remote: spans.iter().map(|span| remote.digest(&ranges, span)).collect(),
            },
            ExchangeAction::List { span, limit } => ExchangeEvent::Listed {
                local: local.list(&ranges, &span, limit),
                remote: remote.list(&ranges, &span, limit),
            },
            ExchangeAction::Pull { tokens } => {
                ExchangeEvent::Pulled { records: remote.copy_to(&mut local, &tokens), left: 0 }
            }
            ExchangeAction::Push { tokens } => {
                ExchangeEvent::Pushed { records: local.copy_to(&mut remote, &tokens), left: 0 }
            }
            ExchangeAction::Done(summary) => break summary,
        });
    };
    println!(
        "{:?}: {} compared, {} pulled, {} pushed, {questions} steps, {cells} cells",
        summary.outcome, summary.compared, summary.pulled, summary.pushed
    );
    assert_eq!(local.digest(&ranges, &all), remote.digest(&ranges, &all));
}
