//! One comparison with one peer that costs what differs.

use std::collections::{BTreeSet, VecDeque};

use quorate_record::{Difference, Digest, Sketch, Symbol};

use crate::buckets::{BUCKETS, bucket_of, bucket_span, short_digest};
use crate::difference::{Move, ways};
use crate::exchange::{Exchange, ExchangeAction, ExchangeEvent, Limits, Outcome, Summary};
use crate::ranges::Ranges;

/// How many cells the sketches of an exchange have. A store does well to keep as many.
pub const SKETCH_CELLS: usize = 64;

/// The most groups of buckets that one question for sketches has.
pub const MAX_GROUPS: usize = 128;

/// How many symbols a group of buckets is to have: 99 of 100 sketches of so many are decoded.
const GROUP_SYMBOLS: f64 = 26.0;

/// A key that is stale on one side differs by two symbols.
const KEY_SYMBOLS: f64 = 2.0;

/// So many buckets are listed between two overviews. Others mend at the same time.
const LISTED_BUCKETS: usize = 64;

/// A list has up to so many records.
const LEAF_RECORDS: u64 = 512;

/// What a replica says of all that two share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// The digest of everything.
    pub whole: Digest,
    /// The [short digest](short_digest) of each of [`Ranges::buckets`]; none if `whole` is what the
    /// asker has.
    pub short: Vec<u16>,
}

/// What a replica says of a group of buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSketch {
    /// The digest of what is in them.
    pub digest: Digest,
    /// The sketch of the same.
    pub sketch: Sketch,
}

/// How far the replicas differ, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Differing {
    /// How many keys.
    pub keys: u64,
    /// Whether they were counted; if not, it is an estimate.
    pub counted: bool,
}

/// What is known of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Its digests were equal under one salt, which may be chance.
    OnceEqual,
    /// Its digests were equal under two salts, or what differed has moved.
    Settled,
}

#[derive(Clone, Debug)]
enum Waiting<S> {
    Overview,
    Sketches(Vec<Vec<u16>>),
    Pulling {
        push: Vec<u64>,
    },
    Pushing,
    /// For the answer to this exchange, which lists.
    Listing(Box<Exchange<S>>),
    Nothing,
}

/// A comparison between this node and one peer over the ranges that both own, by sketches of the
/// buckets in which they differ; by an [`Exchange`] where too much does.
///
/// It goes on in passes until every bucket was seen to be equal, or what differed in it has moved. A
/// pass begins with an overview. Where all is equal, it is one question and a digest for an answer.
#[derive(Clone, Debug)]
pub struct SketchExchange<S> {
    ranges: Ranges,
    buckets: Vec<u16>,
    states: Vec<State>,
    start_at: u64,
    seed: u64,
    passes: u64,
    waiting: Waiting<S>,
    /// Buckets that this pass settles.
    batch: Vec<u16>,
    /// Groups of them that are to be asked for yet, and those whose sketches told too little.
    groups: VecDeque<Vec<u16>>,
    moves: Vec<Move>,
    /// What the two hold outside of the batch, if it is all that differs.
    rest: Option<(Digest, Digest)>,
    to_list: Vec<u16>,
    prefers_lists: bool,
    /// Below which each side has forgotten tombstones.
    forgotten: (u64, u64),
    /// How many symbols a bucket that differs is expected to have.
    bucket_symbols: f64,
    differing: Option<Differing>,
    sum: Summary,
    actions: VecDeque<ExchangeAction>,
}

impl<S: Clone + Ord> SketchExchange<S> {
    /// Starts a comparison of all `ranges`, beginning with the bucket of the token `resume_at`, see
    /// [`Summary::resume_at`]. `seed` is for salts; no two exchanges should have the same.
    #[must_use]
    pub fn start(ranges: Ranges, resume_at: u64, seed: u64) -> Self {
        let buckets = ranges.buckets();
        let first = buckets.partition_point(|bucket| *bucket < bucket_of(resume_at));
        let states = vec![State::Open; buckets.len()];
        let mut exchange = Self {
            ranges,
            start_at: buckets.get(first).map_or(0, |bucket| *bucket_span(*bucket).start()),
            buckets,
            states,
            seed,
            passes: 0,
            waiting: Waiting::Nothing,
            batch: Vec::new(),
            groups: VecDeque::new(),
            moves: Vec::new(),
            rest: None,
            to_list: Vec::new(),
            prefers_lists: false,
            forgotten: (0, 0),
            bucket_symbols: 0.0,
            differing: None,
            sum: Summary::default(),
            actions: VecDeque::new(),
        };
        exchange.next_pass();
        exchange
    }

    /// Below these timestamps this side and the peer have forgotten their tombstones, zero for none: one that the other
    /// still has, and that lies below, is no difference. Lists are for the driver to see to.
    #[must_use]
    pub fn leaving_out_forgotten(self, here: u64, there: u64) -> Self {
        Self { forgotten: (here, there), ..self }
    }

    /// Takes in one event. One that does not answer the latest action changes nothing.
    pub fn handle(&mut self, event: ExchangeEvent<S>) {
        let event = if buggify!(AbortExchange) { ExchangeEvent::Aborted } else { event };
        match (std::mem::replace(&mut self.waiting, Waiting::Nothing), event) {
            (Waiting::Nothing, _) => {}
            (Waiting::Listing(mut listing), event) => {
                listing.handle(event);
                self.follow(listing);
            }
            (_, ExchangeEvent::Aborted) => self.finish(Outcome::Aborted),
            (Waiting::Overview, ExchangeEvent::Overview { local, remote }) => {
                self.look(&local, &remote);
            }
            (Waiting::Sketches(groups), ExchangeEvent::Sketches { local, remote }) => {
                self.decode(groups, local, remote);
            }
            (Waiting::Pulling { push }, ExchangeEvent::Pulled { records, left }) => {
                self.sum.count_pulled(records, left);
                self.push(push);
            }
            (Waiting::Pushing, ExchangeEvent::Pushed { records, left }) => {
                self.sum.count_pushed(records, left);
                self.list();
            }
            (waiting, _) => self.waiting = waiting,
        }
    }

    /// The next thing to do; `None` until another event has been handled.
    pub fn poll_action(&mut self) -> Option<ExchangeAction> {
        self.actions.pop_front()
    }

    /// How far the replicas differed when they were first compared; `None` before that.
    #[must_use]
    pub fn differing(&self) -> Option<Differing> {
        self.differing
    }

    fn next_pass(&mut self) {
        self.passes += 1;
        if self.buckets.is_empty() {
            return self.finish(Outcome::Complete);
        }
        self.waiting = Waiting::Overview;
        self.actions.push_back(ExchangeAction::Overview { salt: self.salt() });
    }

    fn salt(&self) -> u64 {
        self.seed.wrapping_add(self.passes.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn look(&mut self, local: &[Digest], remote: &Overview) {
        if self.passes == 1 {
            self.sum.compared = remote.whole.count;
        }
        if remote.short.is_empty() {
            self.differing.get_or_insert(Differing { keys: 0, counted: true });
            return self.finish(Outcome::Complete);
        }
        if local.len() != self.buckets.len() || remote.short.len() != self.buckets.len() {
            return self.finish(Outcome::Aborted);
        }
        let salt = self.salt();
        let mut differing = Vec::new();
        let mut seem_equal = Digest::default();
        let mut all_open = true;
        for (at, (digest, short)) in local.iter().zip(&remote.short).enumerate() {
            let state = &mut self.states[at];
            if short_digest(digest, salt) == *short {
                seem_equal = seem_equal.combine(*digest);
                *state = if *state == State::Open { State::OnceEqual } else { State::Settled };
            } else if *state == State::Settled {
                all_open = false; // a write that came since
            } else {
                differing.push(self.buckets[at]);
            }
        }
        let keys = estimate(differing.len(), self.buckets.len());
        if self.differing.is_none() {
            #[expect(clippy::cast_possible_truncation, reason = "some tens of thousands at most")]
            let rounded = keys.round() as u64;
            self.differing = Some(Differing { keys: rounded, counted: false });
        }
        let behind = differing.partition_point(|b| *b < bucket_of(self.start_at));
        differing.rotate_left(behind);
        self.rest = None;
        if self.prefers_lists {
            differing.truncate(LISTED_BUCKETS);
            self.to_list.clone_from(&differing);
            self.batch = differing;
            return self.list();
        }
        // What is left of an earlier pass has as many in each bucket as it had then.
        let symbols = KEY_SYMBOLS * keys / differing.len().max(1) as f64;
        self.bucket_symbols = self.bucket_symbols.max(symbols);
        #[expect(clippy::cast_possible_truncation, reason = "at most GROUP_SYMBOLS")]
        let size = ((GROUP_SYMBOLS / self.bucket_symbols).round() as usize).clamp(1, BUCKETS);
        let is_all = all_open && differing.len() <= MAX_GROUPS * size;
        differing.truncate(MAX_GROUPS * size);
        self.rest = is_all.then_some((seem_equal, remote.whole));
        self.groups = differing.chunks(size).map(<[u16]>::to_vec).collect();
        if planted!(StreamSkipsRange) {
            self.groups.pop_back();
        }
        self.batch = differing;
        self.ask_for_sketches();
    }

    fn ask_for_sketches(&mut self) {
        if self.groups.is_empty() {
            return self.move_records();
        }
        let most = self.groups.len().min(MAX_GROUPS);
        let groups: Vec<Vec<u16>> = self.groups.drain(..most).collect();
        self.waiting = Waiting::Sketches(groups.clone());
        self.actions.push_back(ExchangeAction::Sketches { groups });
    }

    fn decode(&mut self, groups: Vec<Vec<u16>>, local: Vec<GroupSketch>, remote: Vec<GroupSketch>) {
        let as_asked = |of: &[GroupSketch]| {
            let full = |it: &GroupSketch| it.sketch.cells().len() == SKETCH_CELLS;
            of.len() == groups.len() && of.iter().all(full)
        };
        if !as_asked(&local) || !as_asked(&remote) {
            return self.finish(Outcome::Aborted);
        }
        let asked = groups.len();
        let mut failed = Vec::new();
        for ((group, here), there) in groups.into_iter().zip(local).zip(remote) {
            let mut sketch = here.sketch;
            sketch.subtract(&there.sketch);
            let decoded = if buggify!(SketchFails) { None } else { sketch.decode() };
            match decoded.filter(|it| self.is_within(&group, it)) {
                None => failed.push(group),
                Some(found) => {
                    if let Some((_, rest)) = &mut self.rest {
                        rest.xor ^= there.digest.xor;
                        rest.count = rest.count.wrapping_sub(there.digest.count);
                    }
                    if found == Difference::default() && here.digest != there.digest {
                        // A sketch that is not what it should be, or a write meanwhile.
                        self.to_list.extend(group);
                    } else {
                        self.moves.extend(moves(&self.without_forgotten(found)));
                    }
                }
            }
        }
        if failed.len() > 8 && 2 * failed.len() > asked {
            // There is much more than it seemed: whatever else was asked would say no more.
            self.prefers_lists = true;
            self.to_list.extend(failed.into_iter().flatten());
        } else {
            for group in failed {
                match group.len() {
                    1 => self.to_list.extend(group),
                    len => self.groups.extend(group.chunks(len.div_ceil(3)).map(<[u16]>::to_vec)),
                }
            }
        }
        self.ask_for_sketches();
    }

    fn without_forgotten(&self, mut found: Difference) -> Difference {
        let (here, there) = self.forgotten;
        let tokens = |of: &[Symbol]| of.iter().map(|it| it.token).collect::<BTreeSet<_>>();
        let (on_both, others) = (tokens(&found.local), tokens(&found.remote));
        let is_forgotten = |it: &Symbol, by: u64, has: &BTreeSet<u64>| {
            it.is_tombstone() && it.timestamp < by && !has.contains(&it.token)
        };
        found.local.retain(|it| !is_forgotten(it, there, &others));
        found.remote.retain(|it| !is_forgotten(it, here, &on_both));
        found
    }

    /// Whether all that was decoded lies where it was asked for.
    fn is_within(&self, group: &[u16], found: &Difference) -> bool {
        let mut tokens = found.local.iter().chain(&found.remote).map(|symbol| symbol.token);
        tokens.all(|token| group.contains(&bucket_of(token)) && self.ranges.contains(token))
    }

    fn move_records(&mut self) {
        let moves = std::mem::take(&mut self.moves);
        if self.passes == 1 && self.rest.is_some() && self.to_list.is_empty() {
            self.differing = Some(Differing { keys: moves.len() as u64, counted: true });
        }
        let (pull, push) = ways(&moves);
        if pull.is_empty() {
            return self.push(push);
        }
        self.waiting = Waiting::Pulling { push };
        self.actions.push_back(ExchangeAction::Pull { tokens: pull });
    }

    fn push(&mut self, tokens: Vec<u64>) {
        if tokens.is_empty() {
            return self.list();
        }
        self.waiting = Waiting::Pushing;
        self.actions.push_back(ExchangeAction::Push { tokens });
    }

    /// Lists the buckets that sketches said too little of, or ends the pass.
    fn list(&mut self) {
        if self.to_list.is_empty() {
            return self.end_pass();
        }
        self.rest = None;
        // Peers answer for all of a span, so what lies between the buckets is compared as well. In
        // order from `start_at` on, and not around, that is not much.
        let first = bucket_of(self.start_at);
        self.to_list.sort_unstable_by_key(|bucket| (*bucket < first, *bucket));
        let ascending = self.to_list.windows(2).take_while(|pair| pair[0] < pair[1]).count() + 1;
        let rest = self.to_list.split_off(ascending.min(LISTED_BUCKETS));
        let buckets = std::mem::replace(&mut self.to_list, rest);
        let (first, last) = (buckets[0], buckets[buckets.len() - 1]);
        let span = *bucket_span(first).start()..=*bucket_span(last).end();
        let parts: Vec<_> = self.ranges.within(&span).collect();
        let limits = Limits { leaf_records: LEAF_RECORDS, max_records: usize::MAX };
        self.follow(Box::new(Exchange::start(Ranges::new(parts), limits, 0)));
    }

    fn follow(&mut self, mut listing: Box<Exchange<S>>) {
        match listing.poll_action() {
            Some(ExchangeAction::Done(of_listing)) => {
                self.sum.count_pulled(of_listing.pulled, of_listing.left);
                self.sum.count_pushed(of_listing.pushed, 0);
                self.sum.unexplained += of_listing.unexplained;
                match of_listing.outcome {
                    Outcome::Aborted => self.finish(Outcome::Aborted),
                    _ => self.list(),
                }
            }
            // None if the event was none of its.
            action => {
                self.actions.extend(action);
                self.waiting = Waiting::Listing(listing);
            }
        }
    }

    fn end_pass(&mut self) {
        let batch: BTreeSet<u16> = std::mem::take(&mut self.batch).into_iter().collect();
        for (bucket, state) in self.buckets.iter().zip(&mut self.states) {
            if batch.contains(bucket) {
                *state = State::Settled;
            }
        }
        let others_equal = self.rest.take().is_some_and(|(local, remote)| local == remote);
        if others_equal || self.states.iter().all(|state| *state == State::Settled) {
            return self.finish(Outcome::Complete);
        }
        self.next_pass();
    }

    fn finish(&mut self, outcome: Outcome) {
        let last = self.batch.last().map(|bucket| bucket_span(*bucket).end().wrapping_add(1));
        self.waiting = Waiting::Nothing;
        let resume_at = match outcome {
            Outcome::Aborted => last.unwrap_or(self.start_at),
            _ => self.start_at,
        };
        self.actions.push_back(ExchangeAction::Done(self.sum.ended(outcome, resume_at)));
    }
}

/// How many keys, spread like hashes are, touch so many of all buckets: each further one meets a
/// bucket of its own less often.
fn estimate(touched: usize, buckets: usize) -> f64 {
    (0..touched).map(|before| buckets as f64 / (buckets - before) as f64).sum()
}

/// Where what was decoded has to go, by token. Two records that were written at the same time are
/// compared by whoever gets both.
fn moves(found: &Difference) -> impl Iterator<Item = Move> {
    let all: BTreeSet<u64> =
        found.local.iter().chain(&found.remote).map(|symbol| symbol.token).collect();
    all.into_iter().map(|token| {
        let of = |symbols: &[crate::Symbol]| {
            let from = symbols.partition_point(|symbol| symbol.token < token);
            let to = symbols.partition_point(|symbol| symbol.token <= token);
            (to - from, symbols[from..to].first().map(|symbol| symbol.timestamp))
        };
        match (of(&found.local), of(&found.remote)) {
            ((1, _), (0, _)) | ((0, _), (1, _)) if planted!(AbsentIsEqual) => {
                Move { token, pull: 0, push: 0 }
            }
            ((0 | 1, here), (0 | 1, there)) if here < there => Move { token, pull: 1, push: 0 },
            ((0 | 1, here), (0 | 1, there)) if here > there => Move { token, pull: 0, push: 1 },
            ((local, _), (remote, _)) => Move::everything(token, local, remote),
        }
    })
}

#[cfg(test)]
mod tests;
