use super::*;
use crate::Symbol;

const ALL: std::ops::RangeInclusive<u64> = 0..=u64::MAX;

fn actions(exchange: &mut SketchExchange<u8>) -> Vec<ExchangeAction> {
    std::iter::from_fn(|| exchange.poll_action()).collect()
}

fn salt(exchange: &mut SketchExchange<u8>) -> u64 {
    match &actions(exchange)[..] {
        [ExchangeAction::Overview { salt }] => *salt,
        other => panic!("{other:?}"),
    }
}

fn symbol(bucket: u16, timestamp: u64) -> Symbol {
    Symbol { token: *bucket_span(bucket).start(), timestamp, fingerprint: 0 }
}

fn digest(symbols: &[Symbol]) -> Digest {
    let mut digest = Digest::default();
    symbols.iter().for_each(|it| digest.add(it.token.wrapping_mul(3) ^ (it.timestamp << 7)));
    digest
}

/// What a replica with these symbols says.
fn digests(symbols: &[Symbol]) -> Vec<Digest> {
    let within = |bucket: u16| {
        let symbols = symbols.iter().filter(|it| bucket_of(it.token) == bucket);
        digest(&symbols.copied().collect::<Vec<_>>())
    };
    (0..4096).map(within).collect()
}

fn overview(symbols: &[Symbol], salt: u64) -> Overview {
    let short = digests(symbols).iter().map(|digest| short_digest(digest, salt)).collect();
    Overview { whole: digest(symbols), short }
}

fn looked(local: &[Symbol], remote: &[Symbol], salt: u64) -> ExchangeEvent<u8> {
    ExchangeEvent::Overview { local: digests(local), remote: overview(remote, salt) }
}

fn sketches(groups: &[Vec<u16>], symbols: &[Symbol]) -> Vec<GroupSketch> {
    let of_group = |group: &Vec<u16>| {
        let symbols = symbols.iter().filter(|it| group.contains(&bucket_of(it.token)));
        let symbols: Vec<Symbol> = symbols.copied().collect();
        let mut sketch = Sketch::new(SKETCH_CELLS);
        symbols.iter().for_each(|symbol| sketch.add(symbol));
        GroupSketch { digest: digest(&symbols), sketch }
    };
    groups.iter().map(of_group).collect()
}

/// An exchange that has heard the overviews of these two, and what it asks then.
fn after_overview(
    local: &[Symbol],
    remote: &[Symbol],
) -> (SketchExchange<u8>, Vec<ExchangeAction>) {
    let mut exchange = SketchExchange::start(Ranges::new([ALL]), 0, 5);
    let salt = salt(&mut exchange);
    exchange.handle(looked(local, remote, salt));
    let asked = actions(&mut exchange);
    (exchange, asked)
}

fn done(outcome: Outcome, (pulled, pushed): (usize, usize), compared: u64) -> ExchangeAction {
    ExchangeAction::Done(Summary { outcome, pulled, pushed, compared, ..Summary::default() })
}

#[test]
fn equal_replicas_cost_one_question() {
    let mut exchange = SketchExchange::<u8>::start(Ranges::new([ALL]), 0, 5);
    salt(&mut exchange);
    let whole = Digest { xor: 5, count: 1_000_000 };
    let remote = Overview { whole, short: Vec::new() };
    exchange.handle(ExchangeEvent::Overview { local: Vec::new(), remote });
    assert_eq!(actions(&mut exchange), [done(Outcome::Complete, (0, 0), 1_000_000)]);
    assert_eq!(exchange.differing(), Some(Differing { keys: 0, counted: true }));
}

#[test]
fn nothing_co_owned_is_nothing_to_ask() {
    let mut exchange = SketchExchange::<u8>::start(Ranges::default(), 0, 5);
    assert_eq!(actions(&mut exchange), [done(Outcome::Complete, (0, 0), 0)]);
}

#[test]
fn what_differs_is_told_by_sketches_and_moves_both_ways() {
    let local = [symbol(1, 5), symbol(2, 5), symbol(3, 7), symbol(9, 1)];
    let remote = [symbol(1, 6), symbol(2, 4), symbol(4, 7), symbol(9, 1)];
    let (mut exchange, asked) = after_overview(&local, &remote);
    let groups = vec![vec![1, 2, 3, 4]];
    assert_eq!(asked, [ExchangeAction::Sketches { groups: groups.clone() }]);
    exchange.handle(ExchangeEvent::Sketches {
        local: sketches(&groups, &local),
        remote: sketches(&groups, &remote),
    });
    let token = |bucket| symbol(bucket, 0).token;
    let pull = ExchangeAction::Pull { tokens: vec![token(1), token(4)] };
    assert_eq!(actions(&mut exchange), [pull]);
    assert_eq!(exchange.differing(), Some(Differing { keys: 4, counted: true }));
    exchange.handle(ExchangeEvent::Pulled { records: 2, left: 0 });
    let push = ExchangeAction::Push { tokens: vec![token(2), token(3)] };
    assert_eq!(actions(&mut exchange), [push]);
    exchange.handle(ExchangeEvent::Pushed { records: 2, left: 0 });
    assert_eq!(actions(&mut exchange), [done(Outcome::Complete, (2, 2), 4)], "no further look");
}

#[test]
fn records_of_the_same_time_move_both_ways() {
    let (here, there) = (symbol(1, 5), Symbol { fingerprint: 2, ..symbol(1, 5) });
    let found = Difference { local: vec![here], remote: vec![there] };
    let moves: Vec<Move> = moves(&found).collect();
    assert_eq!(moves, [Move { token: here.token, pull: 1, push: 2 }]);
}

#[test]
fn what_could_not_be_moved_makes_it_partial() {
    let (mut exchange, asked) = after_overview(&[], &[symbol(1, 5)]);
    let [ExchangeAction::Sketches { groups }] = &asked[..] else { panic!("{asked:?}") };
    exchange.handle(ExchangeEvent::Sketches {
        local: sketches(groups, &[]),
        remote: sketches(groups, &[symbol(1, 5)]),
    });
    actions(&mut exchange);
    exchange.handle(ExchangeEvent::Pulled { records: 0, left: 1 });
    let summary = Summary { outcome: Outcome::Partial, compared: 1, left: 1, ..Summary::default() };
    assert_eq!(actions(&mut exchange), [ExchangeAction::Done(summary)]);
}

#[test]
fn a_difference_that_short_digests_hide_is_found_under_the_next_salt() {
    let (local, remote) = ([symbol(1, 5)], [symbol(1, 5), symbol(7, 1)]);
    let mut exchange = SketchExchange::start(Ranges::new([ALL]), 0, 5);
    let salt_1 = salt(&mut exchange);
    let hidden = Overview { whole: digest(&remote), ..overview(&local, salt_1) };
    exchange.handle(ExchangeEvent::Overview { local: digests(&local), remote: hidden });
    let salt_2 = salt(&mut exchange);
    assert_ne!(salt_1, salt_2);
    exchange.handle(looked(&local, &remote, salt_2));
    let asked = actions(&mut exchange);
    assert_eq!(asked, [ExchangeAction::Sketches { groups: vec![vec![7]] }]);
}

#[test]
fn a_bucket_that_was_mended_is_not_mended_again_because_of_a_new_write() {
    let (mut exchange, asked) = after_overview(&[], &[symbol(1, 5)]);
    let [ExchangeAction::Sketches { groups }] = &asked[..] else { panic!("{asked:?}") };
    // The peer has been written to since it gave the overview.
    let now = [symbol(1, 6)];
    exchange.handle(ExchangeEvent::Sketches {
        local: sketches(groups, &[]),
        remote: sketches(groups, &now),
    });
    actions(&mut exchange);
    exchange.handle(ExchangeEvent::Pulled { records: 1, left: 0 });
    let salt = salt(&mut exchange);
    exchange.handle(looked(&now, &[symbol(1, 7)], salt));
    assert_eq!(actions(&mut exchange), [done(Outcome::Complete, (1, 0), 1)]);
}

#[test]
fn groups_that_cannot_be_decoded_are_cut_and_single_buckets_listed() {
    // One bucket has far more than the others let expect.
    let mut remote: Vec<Symbol> =
        (0..200).map(|i| Symbol { timestamp: i, ..symbol(3, 0) }).collect();
    remote.iter_mut().zip(1..).for_each(|(it, i)| it.token += i);
    remote.extend([symbol(1, 5), symbol(8, 5)]);
    let (mut exchange, mut asked) = after_overview(&[], &remote);
    let mut questions = 0;
    while let [ExchangeAction::Sketches { groups }] = &asked[..] {
        questions += 1;
        exchange.handle(ExchangeEvent::Sketches {
            local: sketches(groups, &[]),
            remote: sketches(groups, &remote),
        });
        asked = actions(&mut exchange);
    }
    assert_eq!(questions, 2);
    let pull = ExchangeAction::Pull { tokens: vec![symbol(1, 0).token, symbol(8, 0).token] };
    assert_eq!(asked, [pull]);
    exchange.handle(ExchangeEvent::Pulled { records: 2, left: 0 });
    assert_eq!(actions(&mut exchange), [ExchangeAction::Digests { spans: vec![bucket_span(3)] }]);
}

#[test]
fn a_sketch_that_explains_nothing_is_not_believed() {
    let (mut exchange, asked) = after_overview(&[], &[symbol(3, 5)]);
    let [ExchangeAction::Sketches { groups }] = &asked[..] else { panic!("{asked:?}") };
    let mut stale = sketches(groups, &[]);
    stale[0].digest = digest(&[symbol(3, 5)]);
    exchange.handle(ExchangeEvent::Sketches { local: sketches(groups, &[]), remote: stale });
    assert_eq!(actions(&mut exchange), [ExchangeAction::Digests { spans: vec![bucket_span(3)] }]);
}

#[test]
fn a_peer_that_answers_something_else_is_left_alone() {
    let aborted = [done(Outcome::Aborted, (0, 0), 1)];
    let mut exchange = SketchExchange::<u8>::start(Ranges::new([ALL]), 0, 5);
    salt(&mut exchange);
    let remote = Overview { whole: Digest { xor: 1, count: 1 }, short: vec![1, 2] };
    exchange.handle(ExchangeEvent::Overview { local: digests(&[]), remote });
    assert_eq!(actions(&mut exchange), aborted);

    let resume_at = *bucket_span(2).start();
    let summary =
        Summary { outcome: Outcome::Aborted, compared: 1, resume_at, ..Summary::default() };
    for (wrong, ..) in [(sketches(&[], &[]), 0), (sketches(&[vec![1], vec![2]], &[]), 1)] {
        let (mut exchange, asked) = after_overview(&[], &[symbol(1, 5)]);
        let [ExchangeAction::Sketches { groups }] = &asked[..] else { panic!("{asked:?}") };
        exchange.handle(ExchangeEvent::Sketches { local: sketches(groups, &[]), remote: wrong });
        assert_eq!(actions(&mut exchange), [ExchangeAction::Done(summary)]);
    }
}

#[test]
fn what_lies_elsewhere_than_asked_for_is_no_answer() {
    let (mut exchange, asked) = after_overview(&[], &[symbol(1, 5)]);
    let [ExchangeAction::Sketches { groups }] = &asked[..] else { panic!("{asked:?}") };
    let mut elsewhere = sketches(&[vec![2]], &[symbol(2, 5)]);
    elsewhere[0].digest = digest(&[symbol(1, 5)]);
    exchange.handle(ExchangeEvent::Sketches { local: sketches(groups, &[]), remote: elsewhere });
    assert_eq!(actions(&mut exchange), [ExchangeAction::Digests { spans: vec![bucket_span(1)] }]);
}

#[test]
fn work_begins_where_the_last_exchange_left_off() {
    let remote: Vec<Symbol> = (0..50).map(|bucket| symbol(bucket * 80, 1)).collect();
    let mut exchange = SketchExchange::start(Ranges::new([ALL]), symbol(2000, 0).token, 5);
    let salt = salt(&mut exchange);
    exchange.handle(looked(&[], &remote, salt));
    let asked = actions(&mut exchange);
    let [ExchangeAction::Sketches { groups }] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((groups[0][0], groups.last().unwrap().last()), (2000, Some(&1920)));
}

#[test]
fn an_event_that_answers_nothing_changes_nothing() {
    let (mut exchange, _) = after_overview(&[], &[symbol(1, 5)]);
    exchange.handle(ExchangeEvent::Pulled { records: 1, left: 0 });
    exchange.handle(ExchangeEvent::Digests { local: vec![], remote: vec![] });
    assert_eq!(actions(&mut exchange), []);
    exchange.handle(ExchangeEvent::Aborted);
    exchange.handle(ExchangeEvent::Aborted);
    assert_eq!(actions(&mut exchange).len(), 1);
}
