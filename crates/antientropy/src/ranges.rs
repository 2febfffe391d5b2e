//! The part of the token space that two replicas compare.

use std::ops::RangeInclusive;

/// A stretch of the token space; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Span {
    pub(crate) fn to_range(self) -> RangeInclusive<u64> {
        self.first..=self.last
    }

    /// At most `parts` stretches of about equal width that make up this one, in order.
    fn cut(self, parts: u64) -> Vec<Self> {
        let width = (self.last - self.first) / parts + 1;
        let mut cuts = Vec::new();
        let mut first = self.first;
        loop {
            let last = first.saturating_add(width - 1).min(self.last);
            cuts.push(Self { first, last });
            if last == self.last {
                return cuts;
            }
            first = last + 1;
        }
    }
}

/// A set of tokens as ranges: sorted, disjoint, none empty.
///
/// Both sides of an exchange work it out for themselves, from the ring and the other's identity, and
/// answer every question about a span of the token space for [`within`](Self::within) that span only.
/// So a question is small however many ranges there are, and nobody can ask for what it does not own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    spans: Vec<Span>,
}

impl Ranges {
    /// Takes ranges in any order; empty ones are left out, overlapping and adjacent ones merged.
    pub fn new(ranges: impl IntoIterator<Item = RangeInclusive<u64>>) -> Self {
        let mut given: Vec<(u64, u64)> =
            ranges.into_iter().filter(|range| !range.is_empty()).map(|r| r.into_inner()).collect();
        given.sort_unstable();
        let mut spans: Vec<Span> = Vec::with_capacity(given.len());
        for (first, last) in given {
            match spans.last_mut() {
                Some(before) if first <= before.last.saturating_add(1) => {
                    before.last = before.last.max(last);
                }
                _ => spans.push(Span { first, last }),
            }
        }
        Self { spans }
    }

    /// Whether there is no token in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Whether `token` lies in one of the ranges.
    #[must_use]
    pub fn contains(&self, token: u64) -> bool {
        self.clip(Span { first: token, last: token }).next().is_some()
    }

    /// The parts of the ranges that lie in `span`, in order.
    pub fn within(&self, span: &RangeInclusive<u64>) -> impl Iterator<Item = RangeInclusive<u64>> {
        let span = (!span.is_empty()).then(|| Span { first: *span.start(), last: *span.end() });
        span.into_iter().flat_map(|span| self.clip(span)).map(Span::to_range)
    }

    /// From the first token to the last; `None` if it is empty.
    pub(crate) fn hull(&self) -> Option<Span> {
        let (first, last) = (self.spans.first()?, self.spans.last()?);
        Some(Span { first: first.first, last: last.last })
    }

    /// Divides what is in `span` into up to `parts` smaller spans, in order: between ranges as long
    /// as there are several, inside the range after that. `None` if it is a single token.
    pub(crate) fn split(&self, span: Span, parts: usize) -> Option<Vec<Span>> {
        let pieces: Vec<Span> = self.clip(span).collect();
        match pieces[..] {
            [] => Some(Vec::new()),
            [Span { first, last }] if first == last => None,
            [piece] => Some(piece.cut(parts as u64)),
            _ => Some(
                pieces
                    .chunks(pieces.len().div_ceil(parts))
                    .map(|group| Span { first: group[0].first, last: group[group.len() - 1].last })
                    .collect(),
            ),
        }
    }

    fn clip(&self, span: Span) -> impl Iterator<Item = Span> {
        let from = self.spans.partition_point(|own| own.last < span.first);
        self.spans[from..].iter().take_while(move |own| own.first <= span.last).map(move |own| {
            Span { first: own.first.max(span.first), last: own.last.min(span.last) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(ranges: &Ranges, span: RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        ranges.within(&span).collect()
    }

    #[test]
    fn overlapping_adjacent_and_empty_ranges_are_one() {
        #[expect(clippy::reversed_empty_ranges, reason = "an empty range is the point")]
        let ranges = Ranges::new([30..=39, 5..=4, 10..=14, 12..=19, 20..=20]);
        assert_eq!(within(&ranges, 0..=u64::MAX), [10..=20, 30..=39]);
        assert_eq!(Ranges::new([0..=u64::MAX, 3..=4]), Ranges::new([0..=u64::MAX]));
    }

    #[test]
    fn a_span_is_clipped_to_the_ranges() {
        let ranges = Ranges::new([10..=20, 30..=40, 50..=60]);
        assert_eq!(within(&ranges, 15..=30), [15..=20, 30..=30]);
        assert_eq!(within(&ranges, 21..=29), []);
        assert!(ranges.contains(60) && !ranges.contains(61) && !ranges.contains(9));
    }

    #[test]
    fn several_ranges_are_divided_between_and_a_single_one_inside() {
        let ranges = Ranges::new((0..6).map(|i| i * 10..=i * 10 + 4));
        let span = |first, last| Span { first, last };
        assert_eq!(
            ranges.split(span(0, 99), 4),
            Some(vec![span(0, 14), span(20, 34), span(40, 54)])
        );
        assert_eq!(ranges.split(span(5, 14), 2), Some(vec![span(10, 12), span(13, 14)]));
        assert_eq!(ranges.split(span(14, 19), 4), None);
        assert_eq!(ranges.split(span(15, 19), 4), Some(vec![]));
    }

    #[test]
    fn the_whole_token_space_is_cut_into_equal_parts() {
        let cuts = Span { first: 0, last: u64::MAX }.cut(16);
        assert_eq!(cuts.len(), 16);
        assert_eq!(cuts[15], Span { first: 15 << 60, last: u64::MAX });
    }
}
