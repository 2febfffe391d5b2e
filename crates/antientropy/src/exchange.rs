//! One comparison with one peer.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use quorate_record::Digest;

use crate::difference::{Listing, Move, difference, ways};
use crate::ranges::{Ranges, Span};
use crate::sketch_exchange::{GroupSketch, Overview};

/// The most spans that one question for digests has.
pub const MAX_SPANS: usize = 64;

/// Into how many parts a span is divided in which the replicas differ.
const FANOUT: usize = 16;

/// How much one [`Exchange`] may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A span in which neither side has more records than this is listed rather than divided.
    pub leaf_records: u64,
    /// After this many records pulled and pushed together the exchange ends; the next one goes on
    /// from there. At least 1. Passed only by keys that share one token, which move together.
    pub max_records: usize,
}

impl Default for Limits {
    /// Lists spans of up to 256 records, and moves up to 200.
    fn default() -> Self {
        Self { leaf_records: 256, max_records: 200 }
    }
}

/// Something that happened to a running [`Exchange`]: the answer to its latest action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExchangeEvent<S> {
    /// The digests of the spans asked for, in their order.
    Digests {
        /// Of this node.
        local: Vec<Digest>,
        /// Of the peer.
        remote: Vec<Digest>,
    },
    /// What is in the span asked for.
    Listed {
        /// At this node.
        local: Listing<S>,
        /// At the peer.
        remote: Listing<S>,
    },
    /// What the two hold in all buckets.
    Overview {
        /// The digest of each of [`Ranges::buckets`] at this node; not needed if the peer holds the
        /// same.
        local: Vec<Digest>,
        /// What the peer says, under the salt asked for.
        remote: Overview,
    },
    /// What is in the groups asked for, in their order.
    Sketches {
        /// Of this node.
        local: Vec<GroupSketch>,
        /// Of the peer.
        remote: Vec<GroupSketch>,
    },
    /// What was to be pulled has been merged here.
    Pulled {
        /// How many records came.
        records: usize,
        /// How many of what was asked for did not, as it cannot be read there or may not be kept
        /// here.
        left: usize,
    },
    /// What was to be pushed has been merged by the peer.
    Pushed {
        /// How many records went.
        records: usize,
        /// How many did not, as they cannot be read here or may not be kept there.
        left: usize,
    },
    /// The answer will not come: the peer is lost, or something is damaged or unreadable on either
    /// side. Never to be reported as an empty answer, which would read as "has nothing".
    Aborted,
}

/// Something the driver must do; it then reports the matching [`ExchangeEvent`]. There is at most
/// one of these to be answered at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExchangeAction {
    /// Ask both sides for one digest per span: of the records in [`Ranges::within`] it.
    Digests {
        /// 1 to [`MAX_SPANS`] disjoint spans.
        spans: Vec<RangeInclusive<u64>>,
    },
    /// Ask both sides for the token and the stamp of each record in [`Ranges::within`] the span.
    List {
        /// The span.
        span: RangeInclusive<u64>,
        /// The most records that a side may list; if it has more, its listing is not complete.
        limit: usize,
    },
    /// Ask the peer for an [`Overview`] of all that both own.
    Overview {
        /// For the short digests.
        salt: u64,
    },
    /// Ask both sides for a sketch of [`SKETCH_CELLS`](crate::SKETCH_CELLS) cells per group of
    /// buckets: of the records in them that are in the ranges.
    Sketches {
        /// 1 to [`MAX_GROUPS`](crate::MAX_GROUPS) groups of buckets, none of them twice.
        groups: Vec<Vec<u16>>,
    },
    /// Fetch all records at these tokens from the peer and merge them here, in as many messages as
    /// their size takes.
    Pull {
        /// Distinct tokens in the ranges.
        tokens: Vec<u64>,
    },
    /// Send all records at these tokens to the peer, to be merged there, in as many messages as
    /// their size takes.
    Push {
        /// Distinct tokens in the ranges.
        tokens: Vec<u64>,
    },
    /// It is over. Comes exactly once, last.
    Done(Summary),
}

/// How an [`Exchange`] ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was compared, and all that differed has moved.
    #[default]
    Complete,
    /// Everything was compared, but some of what differs could not be moved: see [`Summary::left`].
    Partial,
    /// [`Limits::max_records`] was reached; there may be more.
    Truncated,
    /// It was told to [abort](ExchangeEvent::Aborted), or the peer answered something else than it
    /// was asked.
    Aborted,
}

/// What an [`Exchange`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How it ended.
    pub outcome: Outcome,
    /// Records compared, by digest or one by one; where the sides differ in number, the greater.
    pub compared: u64,
    /// Records pulled.
    pub pulled: usize,
    /// Records pushed.
    pub pushed: usize,
    /// Records, or tokens that have some, that were to move and did not: they cannot be read, or
    /// were refused.
    pub left: usize,
    /// Spans whose digests differed though their lists were the same. A write that came in between
    /// does that; the same spans again and again mean that a digest does not match its records.
    pub unexplained: u64,
    /// Where the next exchange with this peer should start, so that a large difference, or a record
    /// that cannot be read, does not keep it from ever reaching the rest.
    pub resume_at: u64,
}

impl Summary {
    /// Counts what a pull brought, and what it did not.
    pub(crate) fn count_pulled(&mut self, records: usize, left: usize) {
        self.pulled = self.pulled.saturating_add(records);
        self.left = self.left.saturating_add(left);
    }

    /// Counts what a push took there, and what it did not.
    pub(crate) fn count_pushed(&mut self, records: usize, left: usize) {
        self.pushed = self.pushed.saturating_add(records);
        self.left = self.left.saturating_add(left);
    }

    /// The same at the end of the exchange, which is partial if something was left.
    pub(crate) fn ended(self, outcome: Outcome, resume_at: u64) -> Self {
        let outcome = match outcome {
            Outcome::Complete if self.left > 0 => Outcome::Partial,
            outcome => outcome,
        };
        Self { outcome, resume_at, ..self }
    }

    fn moved(&self) -> usize {
        self.pulled.saturating_add(self.pushed)
    }
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Compare(Span),
    List(Span),
}

impl Work {
    fn first(self) -> u64 {
        match self {
            Self::Compare(span) | Self::List(span) => span.first,
        }
    }
}

#[derive(Clone, Debug)]
enum Waiting {
    Digests(Vec<Span>),
    Listing(Span),
    Pulling { push: Vec<u64>, cut_at: Option<u64>, span: Span },
    Pushing { cut_at: Option<u64>, span: Span },
    Nothing,
}

/// One comparison between this node and one peer, over the ranges that both own.
///
/// This side drives it; the peer only answers questions about what it holds. Where the replicas are
/// equal it costs one digest. `S` is the stamp of a record: greater is newer, and equal stamps mean
/// the same record.
#[derive(Clone, Debug)]
pub struct Exchange<S> {
    ranges: Ranges,
    limits: Limits,
    start_at: u64,
    whole: bool, // until the first digest, which is of everything, has been answered
    work: VecDeque<Work>, // in token order, beginning at `start_at`
    waiting: Waiting,
    sum: Summary,
    actions: VecDeque<ExchangeAction>,
    stamps: std::marker::PhantomData<S>,
}

impl<S: Clone + Ord> Exchange<S> {
    /// Starts a comparison of all `ranges`, working through them from the token `resume_at` on and
    /// around: the [`Summary::resume_at`] of the last exchange with this peer, or any token.
    ///
    /// # Panics
    /// If [`Limits::max_records`] is zero: nothing could ever move.
    #[must_use]
    pub fn start(ranges: Ranges, limits: Limits, resume_at: u64) -> Self {
        assert!(limits.max_records > 0, "an exchange that may move nothing");
        let work = ranges.hull().map(Work::Compare).into_iter().collect();
        let mut exchange = Self {
            ranges,
            limits,
            start_at: resume_at,
            whole: true,
            work,
            waiting: Waiting::Nothing,
            sum: Summary::default(),
            actions: VecDeque::new(),
            stamps: std::marker::PhantomData,
        };
        exchange.ask();
        exchange
    }

    /// Takes in one event. One that does not answer the latest action changes nothing.
    pub fn handle(&mut self, event: ExchangeEvent<S>) {
        let event = if buggify!(AbortExchange) { ExchangeEvent::Aborted } else { event };
        match (std::mem::replace(&mut self.waiting, Waiting::Nothing), event) {
            (Waiting::Nothing, _) => {}
            (waiting, ExchangeEvent::Aborted) => self.abort(&waiting),
            (Waiting::Digests(spans), ExchangeEvent::Digests { local, remote }) => {
                self.compare(spans, &local, &remote);
            }
            (Waiting::Listing(span), ExchangeEvent::Listed { local, remote }) => {
                self.plan(span, local, remote);
            }
            (Waiting::Pulling { push, cut_at, span }, ExchangeEvent::Pulled { records, left }) => {
                self.sum.count_pulled(records, left);
                self.push(push, cut_at, span);
            }
            (Waiting::Pushing { cut_at, .. }, ExchangeEvent::Pushed { records, left }) => {
                self.sum.count_pushed(records, left);
                self.go_on(cut_at);
            }
            (waiting, _) => self.waiting = waiting,
        }
    }

    /// The next thing to do; `None` until another event has been handled.
    pub fn poll_action(&mut self) -> Option<ExchangeAction> {
        self.actions.pop_front()
    }

    fn compare(&mut self, spans: Vec<Span>, local: &[Digest], remote: &[Digest]) {
        if local.len() != spans.len() || remote.len() != spans.len() {
            return self.abort(&Waiting::Digests(spans));
        }
        let mut finer = Vec::new();
        for (&span, (local, remote)) in spans.iter().zip(local.iter().zip(remote)) {
            if local == remote {
                self.sum.compared = self.sum.compared.saturating_add(local.count);
            } else if local.count.max(remote.count) <= self.limits.leaf_records {
                finer.push(Work::List(span));
            } else {
                finer.extend(self.divide(span));
            }
        }
        self.whole = false;
        self.put_first(finer);
        self.ask();
    }

    fn plan(&mut self, span: Span, local: Listing<S>, remote: Listing<S>) {
        let asked = |items: &[(u64, S)]| {
            items.iter().all(|&(token, _)| {
                (span.first..=span.last).contains(&token) && self.ranges.contains(token)
            })
        };
        if !asked(&local.items) || !asked(&remote.items) {
            return self.abort(&Waiting::Listing(span));
        }
        let complete = local.complete && remote.complete;
        if !complete && span.first != span.last {
            let finer = self.divide(span);
            self.put_first(finer);
            return self.ask();
        }
        let listed = local.items.len().max(remote.items.len());
        self.sum.compared = self.sum.compared.saturating_add(listed as u64);
        let mut moves = if complete {
            difference(local.items, remote.items)
        } else {
            // More keys at one token than fit in a listing: it cannot be divided further.
            vec![Move::everything(span.first, local.items.len(), remote.items.len())]
        };
        if moves.is_empty() {
            self.sum.unexplained += 1;
            return self.ask();
        }
        moves.sort_unstable_by_key(|m| m.token.wrapping_sub(self.start_at));
        let cut_at = self.cut(&mut moves);
        let (pull, push) = ways(&moves);
        if pull.is_empty() {
            return self.push(push, cut_at, span);
        }
        self.waiting = Waiting::Pulling { push, cut_at, span };
        self.actions.push_back(ExchangeAction::Pull { tokens: pull });
    }

    /// Keeps the moves that the limit allows; returns the token of the next.
    fn cut(&self, moves: &mut Vec<Move>) -> Option<u64> {
        let moved = self.sum.moved();
        let allowed = self.limits.max_records.saturating_sub(moved);
        let mut records = 0;
        let fit = moves.iter().take_while(|m| {
            records += m.records();
            records <= allowed
        });
        // Keys that share a token can be more than the limit, and must move some time.
        let kept = fit.count().max(usize::from(moved == 0));
        let cut_at = moves.get(kept).map(|m| m.token);
        moves.truncate(kept);
        cut_at
    }

    fn push(&mut self, tokens: Vec<u64>, cut_at: Option<u64>, span: Span) {
        if tokens.is_empty() {
            return self.go_on(cut_at);
        }
        self.waiting = Waiting::Pushing { cut_at, span };
        self.actions.push_back(ExchangeAction::Push { tokens });
    }

    fn go_on(&mut self, cut_at: Option<u64>) {
        match cut_at {
            Some(token) => self.finish(Outcome::Truncated, token),
            None => self.ask(),
        }
    }

    /// Asks the next question, or ends when there is none or no more may be moved.
    fn ask(&mut self) {
        let Some(&next) = self.work.front() else {
            return self.finish(Outcome::Complete, self.start_at);
        };
        if self.sum.moved() >= self.limits.max_records {
            return self.finish(Outcome::Truncated, next.first());
        }
        if let Work::List(span) = next {
            self.work.pop_front();
            self.waiting = Waiting::Listing(span);
            let limit = self.limits.leaf_records.saturating_mul(2).max(16);
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            self.actions.push_back(ExchangeAction::List { span: span.to_range(), limit });
            return;
        }
        let mut spans = Vec::new();
        while spans.len() < MAX_SPANS {
            let Some(&Work::Compare(span)) = self.work.front() else { break };
            self.work.pop_front();
            spans.push(span);
        }
        let asked = spans.iter().map(|span| span.to_range()).collect();
        self.waiting = Waiting::Digests(spans);
        self.actions.push_back(ExchangeAction::Digests { spans: asked });
    }

    /// The parts of a span, or the span to be listed if it has none.
    fn divide(&self, span: Span) -> Vec<Work> {
        let Some(parts) = self.ranges.split(span, FANOUT) else { return vec![Work::List(span)] };
        let parts = if self.whole { rotate(parts, self.start_at) } else { parts };
        parts.into_iter().map(Work::Compare).collect()
    }

    fn put_first(&mut self, finer: Vec<Work>) {
        for work in finer.into_iter().rev() {
            self.work.push_front(work);
        }
    }

    fn abort(&mut self, during: &Waiting) {
        let behind = match during {
            // Nothing is known yet of where the trouble lies.
            Waiting::Nothing => None,
            Waiting::Digests(_) if self.whole => None,
            Waiting::Digests(spans) => spans.first().copied(),
            Waiting::Listing(span)
            | Waiting::Pulling { span, .. }
            | Waiting::Pushing { span, .. } => Some(*span),
        };
        self.finish(Outcome::Aborted, behind.map_or(self.start_at, |s| s.last.wrapping_add(1)));
    }

    fn finish(&mut self, outcome: Outcome, resume_at: u64) {
        self.waiting = Waiting::Nothing;
        self.work.clear();
        self.actions.push_back(ExchangeAction::Done(self.sum.ended(outcome, resume_at)));
    }
}

/// Puts the spans in the order in which one meets them from `start_at` on, cutting the one in which
/// it lies.
fn rotate(spans: Vec<Span>, start_at: u64) -> Vec<Span> {
    let (mut after, mut before) = (Vec::new(), Vec::new());
    for Span { first, last } in spans {
        if first >= start_at {
            after.push(Span { first, last });
        } else if last < start_at {
            before.push(Span { first, last });
        } else {
            after.push(Span { first: start_at, last });
            before.push(Span { first, last: start_at - 1 });
        }
    }
    after.append(&mut before);
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: RangeInclusive<u64> = 0..=u64::MAX;

    fn exchange(max_records: usize, resume_at: u64) -> Exchange<u8> {
        let limits = Limits { max_records, ..Limits::default() };
        Exchange::start(Ranges::new([ALL]), limits, resume_at)
    }

    fn actions(exchange: &mut Exchange<u8>) -> Vec<ExchangeAction> {
        std::iter::from_fn(|| exchange.poll_action()).collect()
    }

    fn digest(xor: u64, count: u64) -> Digest {
        Digest { xor, count }
    }

    fn digests(local: &[Digest], remote: &[Digest]) -> ExchangeEvent<u8> {
        ExchangeEvent::Digests { local: local.to_vec(), remote: remote.to_vec() }
    }

    fn listed(local: &[(u64, u8)], remote: &[(u64, u8)]) -> ExchangeEvent<u8> {
        let listing = |items: &[(u64, u8)]| Listing { items: items.to_vec(), complete: true };
        ExchangeEvent::Listed { local: listing(local), remote: listing(remote) }
    }

    fn list(span: RangeInclusive<u64>) -> ExchangeAction {
        ExchangeAction::List { span, limit: 512 }
    }

    fn summary(outcome: Outcome, pulled: usize, pushed: usize) -> Summary {
        Summary { outcome, pulled, pushed, ..Summary::default() }
    }

    #[test]
    fn equal_replicas_cost_one_digest() {
        let mut exchange = exchange(200, 77);
        assert_eq!(actions(&mut exchange), [ExchangeAction::Digests { spans: vec![ALL] }]);
        exchange.handle(digests(&[digest(5, 1_000_000)], &[digest(5, 1_000_000)]));
        let done =
            Summary { compared: 1_000_000, resume_at: 77, ..summary(Outcome::Complete, 0, 0) };
        assert_eq!(actions(&mut exchange), [ExchangeAction::Done(done)]);
    }

    #[test]
    fn nothing_co_owned_is_nothing_to_ask() {
        let mut exchange = Exchange::<u8>::start(Ranges::default(), Limits::default(), 0);
        let done = ExchangeAction::Done(summary(Outcome::Complete, 0, 0));
        assert_eq!(actions(&mut exchange), [done]);
    }

    #[test]
    fn the_first_question_is_one_span_however_many_ranges_there_are() {
        let ranges = Ranges::new((1..1000).map(|i| i * 1000..=i * 1000 + 9));
        let mut exchange = Exchange::<u8>::start(ranges, Limits::default(), 0);
        assert_eq!(
            actions(&mut exchange),
            [ExchangeAction::Digests { spans: vec![1000..=999_009] }]
        );
    }

    #[test]
    fn a_small_difference_is_listed_at_once_and_moves_both_ways() {
        let mut exchange = exchange(200, 0);
        actions(&mut exchange);
        exchange.handle(digests(&[digest(1, 2)], &[digest(2, 256)]));
        assert_eq!(actions(&mut exchange), [list(ALL)]);
        exchange.handle(listed(&[(1, 1), (2, 2)], &[(2, 1), (3, 3)]));
        assert_eq!(actions(&mut exchange), [ExchangeAction::Pull { tokens: vec![3] }]);
        exchange.handle(ExchangeEvent::Pulled { records: 1, left: 0 });
        assert_eq!(actions(&mut exchange), [ExchangeAction::Push { tokens: vec![1, 2] }]);
        exchange.handle(ExchangeEvent::Pushed { records: 2, left: 0 });
        let done = Summary { compared: 2, ..summary(Outcome::Complete, 1, 2) };
        assert_eq!(actions(&mut exchange), [ExchangeAction::Done(done)]);
    }

    #[test]
    fn a_large_difference_is_divided_by_sixteen() {
        let mut exchange = exchange(200, 0);
        actions(&mut exchange);
        exchange.handle(digests(&[digest(1, 257)], &[digest(2, 0)]));
        let spans: Vec<_> = (0..16).map(|i| i << 60..=(i << 60) + (u64::MAX >> 4)).collect();
        assert_eq!(actions(&mut exchange), [ExchangeAction::Digests { spans }]);
    }

    #[test]
    fn work_goes_on_where_the_last_exchange_left_off() {
        let at = (9 << 60) + 5;
        let mut exchange = exchange(200, at);
        actions(&mut exchange);
        exchange.handle(digests(&[digest(1, 257)], &[digest(2, 0)]));
        let actions = actions(&mut exchange);
        let [ExchangeAction::Digests { spans }] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(spans.len(), 17);
        assert_eq!(*spans[0].start(), at);
        assert_eq!(*spans[16].end(), at - 1);
    }

    #[test]
    fn the_bound_on_records_ends_an_exchange_at_the_token_that_comes_next() {
        let mut exchange = exchange(2, 3);
        actions(&mut exchange);
        exchange.handle(digests(&[digest(1, 4)], &[digest(2, 0)]));
        actions(&mut exchange);
        exchange.handle(listed(&[(1, 1), (2, 1), (3, 1), (4, 1)], &[]));
        assert_eq!(actions(&mut exchange), [ExchangeAction::Push { tokens: vec![3, 4] }]);
        exchange.handle(ExchangeEvent::Pushed { records: 2, left: 0 });
        let done = Summary { compared: 4, resume_at: 1, ..summary(Outcome::Truncated, 0, 2) };
        assert_eq!(actions(&mut exchange), [ExchangeAction::Done(done)]);
    }

    #[test]
    fn keys_that_share_a_token_move_even_if_they_pass_the_bound() {
        let mut exchange = exchange(1, 0);
        actions(&mut exchange);
        exchange.handle(digests(&[digest(1, 3)], &[digest(2, 0)]));
        actions(&mut exchange);
        exchange.handle(listed(&[(1, 1), (1, 2), (5, 1)], &[]));
        assert_eq!(actions(&mut exchange), [ExchangeAction::Push { tokens: vec![1] }]);
    }

    #[test]
    fn an_aborted_exchange_moves_nothing_further_and_skips_that_span_next_time() {
        let mut exchange = exchange(200, 0);
        actions(&mut exchange);
        exchange.handle(digests(&[digest(1, 300)], &[digest(2, 300)]));
        actions(&mut exchange);
        let mut remote = [digest(0, 0); 16];
        remote[2] = digest(7, 1);
        exchange.handle(digests(&[digest(0, 0); 16], &remote));
        let span = 2 << 60..=(3 << 60) - 1;
        assert_eq!(actions(&mut exchange), [list(span)]);
        exchange.handle(listed(&[], &[(2 << 60, 1)]));
        assert_eq!(actions(&mut exchange), [ExchangeAction::Pull { tokens: vec![2 << 60] }]);
        exchange.handle(ExchangeEvent::Aborted);
        let done = Summary { compared: 1, resume_at: 3 << 60, ..summary(Outcome::Aborted, 0, 0) };
        assert_eq!(actions(&mut exchange), [ExchangeAction::Done(done)]);
        exchange.handle(ExchangeEvent::Pulled { records: 1, left: 0 });
        exchange.handle(ExchangeEvent::Aborted);
        assert_eq!(actions(&mut exchange), []);
    }

    #[test]
    fn a_peer_that_lists_what_it_was_not_asked_for_is_left_alone() {
        let mut exchange =
            Exchange::<u8>::start(Ranges::new([10..=19, 30..=39]), Limits::default(), 0);
        actions(&mut exchange);
        exchange.handle(digests(&[digest(1, 1)], &[digest(2, 1)]));
        actions(&mut exchange);
        exchange.handle(listed(&[(10, 1)], &[(25, 1)]));
        let done = Summary { resume_at: 40, ..summary(Outcome::Aborted, 0, 0) };
        assert_eq!(actions(&mut exchange), [ExchangeAction::Done(done)]);
    }

    #[test]
    fn a_peer_that_answers_fewer_spans_than_asked_is_left_alone() {
        let mut exchange = exchange(200, 0);
        actions(&mut exchange);
        exchange.handle(digests(&[digest(1, 1)], &[]));
        let done = ExchangeAction::Done(summary(Outcome::Aborted, 0, 0));
        assert_eq!(actions(&mut exchange), [done]);
    }

    #[test]
    fn a_listing_that_is_not_complete_decides_nothing() {
        let mut exchange = exchange(200, 0);
        actions(&mut exchange);
        exchange.handle(digests(&[digest(1, 1)], &[digest(2, 1)]));
        actions(&mut exchange);
        exchange.handle(ExchangeEvent::Listed {
            local: Listing { items: vec![(1, 1)], complete: true },
            remote: Listing { items: vec![], complete: false },
        });
        let actions = actions(&mut exchange);
        assert!(matches!(&actions[..], [ExchangeAction::Digests { spans }] if spans.len() == 16));
    }

    #[test]
    fn a_token_with_more_keys_than_can_be_listed_moves_both_ways() {
        let ranges = Ranges::new([7..=7]);
        let mut exchange = Exchange::<u8>::start(ranges, Limits::default(), 0);
        actions(&mut exchange);
        exchange.handle(digests(&[digest(1, 9999)], &[digest(2, 9999)]));
        assert_eq!(actions(&mut exchange), [list(7..=7)]);
        let listing = || Listing { items: vec![(7, 1); 512], complete: false };
        exchange.handle(ExchangeEvent::Listed { local: listing(), remote: listing() });
        assert_eq!(actions(&mut exchange), [ExchangeAction::Pull { tokens: vec![7] }]);
    }

    #[test]
    fn digests_that_differ_over_equal_lists_are_counted() {
        let mut exchange = exchange(200, 0);
        actions(&mut exchange);
        exchange.handle(digests(&[digest(1, 1)], &[digest(2, 1)]));
        actions(&mut exchange);
        exchange.handle(listed(&[(1, 1)], &[(1, 1)]));
        let done = Summary { compared: 1, unexplained: 1, ..summary(Outcome::Complete, 0, 0) };
        assert_eq!(actions(&mut exchange), [ExchangeAction::Done(done)]);
    }

    #[test]
    fn answers_to_other_questions_change_nothing() {
        let mut exchange = exchange(200, 0);
        actions(&mut exchange);
        exchange.handle(listed(&[], &[(1, 1)]));
        exchange.handle(ExchangeEvent::Pulled { records: 3, left: 0 });
        exchange.handle(ExchangeEvent::Pushed { records: 3, left: 0 });
        assert_eq!(actions(&mut exchange), []);
        exchange.handle(digests(&[digest(0, 0)], &[digest(0, 0)]));
        let done = ExchangeAction::Done(summary(Outcome::Complete, 0, 0));
        assert_eq!(actions(&mut exchange), [done]);
    }
}
