//! Two maps that drifted apart are compared and mended, a few records at a time.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use quorate_antientropy::{
    Exchange, ExchangeAction, ExchangeEvent, Limits, Listing, Outcome, Ranges,
};
use quorate_record::Digest;

/// Token to stamp. A real store keeps digests at hand instead of walking its records.
type Replica = BTreeMap<u64, u64>;

fn digest(replica: &Replica, ranges: &Ranges, span: &RangeInclusive<u64>) -> Digest {
    let mut digest = Digest::default();
    for (token, stamp) in ranges.within(span).flat_map(|part| replica.range(part)) {
        digest.add((token ^ stamp.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
    digest
}

fn list(
    replica: &Replica,
    ranges: &Ranges,
    span: &RangeInclusive<u64>,
    limit: usize,
) -> Listing<u64> {
    let all = ranges.within(span).flat_map(|part| replica.range(part));
    let mut items: Vec<_> = all.map(|(&token, &stamp)| (token, stamp)).take(limit + 1).collect();
    let complete = items.len() <= limit;
    items.truncate(limit);
    Listing { items, complete }
}

fn copy(from: &Replica, to: &mut Replica, tokens: &[u64]) -> usize {
    for token in tokens {
        to.insert(*token, from[token]);
    }
    tokens.len()
}

fn main() {
    let ranges = Ranges::new([0..=u64::MAX / 2]);
    let token = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut local: Replica = (0..10_000).map(|i| (token(i), i)).collect();
    let mut remote = local.clone();
    remote.extend((0..300).map(|i| (token(i * 7), 1_000_002)));
    remote.retain(|_, stamp| *stamp % 33 != 1);

    let mut resume_at = 0;
    loop {
        let mut exchange = Exchange::start(ranges.clone(), Limits::default(), resume_at);
        let summary = loop {
            let action = exchange.poll_action().expect("an exchange that is not done asks");
            exchange.handle(match action {
                ExchangeAction::Digests { spans } => ExchangeEvent::Digests {
                    local: spans.iter().map(|span| digest(&local, &ranges, span)).collect(),
                    remote: spans.iter().map(|span| digest(&remote, &ranges, span)).collect(),
                },
                ExchangeAction::List { span, limit } => ExchangeEvent::Listed {
                    local: list(&local, &ranges, &span, limit),
                    remote: list(&remote, &ranges, &span, limit),
                },
                ExchangeAction::Pull { tokens } => {
                    ExchangeEvent::Pulled { records: copy(&remote, &mut local, &tokens), left: 0 }
                }
                ExchangeAction::Push { tokens } => {
                    ExchangeEvent::Pushed { records: copy(&local, &mut remote, &tokens), left: 0 }
                }
                ExchangeAction::Done(summary) => break summary,
            });
        };
        println!(
            "{:?}: {} compared, {} pulled, {} pushed",
            summary.outcome, summary.compared, summary.pulled, summary.pushed
        );
        if summary.outcome == Outcome::Complete {
            break;
        }
        resume_at = summary.resume_at;
    }
}
