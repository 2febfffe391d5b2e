//! The checkers against slower, plainer ones on random short histories.

use quorate_simulator::check::{
    Call, Fault, History, OpId, Outcome, Request, Violation, atomic, order, regular,
};

use crate::notation::{key, node, version};
use crate::search::{irregular_reads, is_linearizable};

const HISTORIES: u64 = 10_000;

/// splitmix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn one_in(&mut self, limit: u64) -> bool {
        self.below(limit) == 0
    }
}

/// An operation before it is known what it read.
struct Plan {
    request: Request,
    invoke_us: u64,
    return_us: u64,
    fate: Fate,
    /// When it took place, finer than the times, if it did.
    moment: Option<u64>,
    id: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    Rejected,
    Maybe { told: bool },
}

fn plan(random: &mut Random, id: u64, mixed_quorums: bool) -> Plan {
    let call = match random.below(9) {
        0..3 => Call::Put { id },
        3..5 => Call::Delete { id },
        _ => Call::Get,
    };
    let fate = match random.below(8) {
        0 => Fate::Rejected,
        1 => Fate::Maybe { told: false },
        2 => Fate::Maybe { told: true },
        _ => Fate::Done,
    };
    let fate = if call == Call::Get { Fate::Done } else { fate };
    let needed = if mixed_quorums { 1 + random.below(3) } else { 2 };
    let needed = usize::try_from(needed).unwrap();
    let sloppy = mixed_quorums && random.one_in(5);
    let invoke_us = random.below(30);
    let return_us = invoke_us + random.below(10);
    let last_us = if fate == Fate::Done { return_us } else { 40 };
    let took_place = fate != Fate::Rejected && (fate == Fate::Done || random.one_in(2));
    let moment = invoke_us * 64 + random.below((last_us - invoke_us + 1) * 64);
    let request = Request { key: key("a"), coordinator: node("n1"), call, needed, sloppy };
    Plan { request, invoke_us, return_us, fate, moment: took_place.then_some(moment), id }
}

/// The version that a write was given.
fn version_of(plan: &Plan) -> u64 {
    plan.id + 1
}

/// What a real register would have told the read, or, if `lie`, anything.
fn read(random: &mut Random, plans: &[Plan], at: &Plan, lie: bool) -> Outcome {
    let (strict, from) = (!at.request.sloppy, Vec::new());
    let past = plans.iter().filter(|it| it.moment < at.moment && it.moment.is_some());
    let writes = || plans.iter().filter(|it| it.request.call != Call::Get);
    let seen = if lie {
        let count = u64::try_from(writes().count()).unwrap();
        writes().nth(usize::try_from(random.below(count + 1)).unwrap())
    } else {
        past.filter(|it| it.request.call != Call::Get).max_by_key(|it| it.moment)
    };
    match seen.map(|write| (write, write.request.call)) {
        Some((write, Call::Put { id })) if !(lie && random.one_in(9)) => {
            Outcome::Found { id, version: version(version_of(write)), strict, from }
        }
        Some((write, _)) if !(lie && random.one_in(3)) => {
            Outcome::Absent { version: Some(version(version_of(write))), strict, from }
        }
        _ => Outcome::Absent { version: None, strict, from },
    }
}

/// A history that a linearizable register explains, unless some reads lie.
fn history(random: &mut Random, mixed_quorums: bool) -> History {
    let count = 2 + random.below(7);
    let mut plans: Vec<_> = (0..count).map(|id| plan(random, id, mixed_quorums)).collect();
    plans.sort_by_key(|plan| plan.invoke_us);
    let lies = [None, Some(3), Some(1)][usize::try_from(random.below(3)).unwrap()];
    let mut history = History::new(3);
    for plan in &plans {
        let op = history.invoke(plan.request.clone(), plan.invoke_us);
        let given = version(version_of(plan));
        let outcome = match (plan.request.call, plan.fate) {
            (Call::Get, _) => {
                let lie = lies.is_some_and(|limit| random.one_in(limit));
                read(random, &plans, plan, lie)
            }
            (_, Fate::Done) => {
                let strict = !plan.request.sloppy;
                Outcome::Acked { version: given, strict, acks: Vec::new() }
            }
            (_, Fate::Rejected) => Outcome::Rejected,
            (_, Fate::Maybe { told }) => Outcome::Indeterminate { version: told.then_some(given) },
        };
        history.answer(op, plan.return_us, outcome);
    }
    history
}

/// Runs `agrees` on many histories; it tells whether its history was good. Both kinds must come.
fn try_many(seed: u64, mixed_quorums: bool, agrees: impl Fn(&History) -> bool) {
    let mut random = Random(seed);
    let mut good = 0;
    for _ in 0..HISTORIES {
        good += u64::from(agrees(&history(&mut random, mixed_quorums)));
    }
    assert!((HISTORIES / 10..HISTORIES * 9 / 10).contains(&good), "{good} were good");
}

#[test]
fn the_zones_agree_with_a_search_of_all_orders() {
    try_many(1, false, |history| {
        let found = atomic(history, true, |_| true);
        let expected = is_linearizable(history);
        let table = history.table_of_key(&key("a"));
        assert_eq!(found.is_empty(), expected, "{found:#?}\n{table}");
        expected
    });
}

#[test]
fn the_regular_rule_agrees_with_a_search_of_all_orders() {
    try_many(2, false, |history| {
        let found = regular(history, |_| true);
        let reads: Vec<_> = found.iter().map(|violation| violation.ops[0]).collect();
        let expected = irregular_reads(history);
        assert_eq!(reads, expected, "{found:#?}\n{}", history.table_of_key(&key("a")));
        expected.is_empty()
    });
}

/// A write that was acked: its start, its end, how many replicas have it if no fallback counted.
fn ack(history: &History, id: OpId) -> Option<(u64, u64, usize)> {
    let op = history.op(id);
    let Some(Outcome::Acked { strict: true, .. }) = op.outcome() else { return None };
    Some((op.invoke_us, op.answers()[0].at_us, op.request.needed))
}

/// Whether a strict read missed a write, by comparing it with every pair of writes.
fn misses(history: &History, read: OpId) -> bool {
    let op = history.op(read);
    let (value, seen_version) = match op.outcome() {
        Some(Outcome::Found { id, strict: true, .. }) => (Some(*id), None),
        Some(Outcome::Absent { version, strict: true, .. }) => (None, *version),
        _ => return false,
    };
    let at_us = op.answers()[0].at_us;
    let ids = || history.ops().map(|(id, _)| id);
    let replaced_since = |end_us: Option<u64>| {
        ids().filter_map(|id| ack(history, id)).any(|(began_us, ended_us, w)| {
            let meets = 2 * w > 3 && op.request.needed + w > 3;
            meets && ended_us < op.invoke_us && end_us.is_none_or(|end_us| end_us < began_us)
        })
    };
    let may_be_read = |id: OpId| match ack(history, id) {
        Some((_, end_us, w)) if 2 * w > 3 => !replaced_since(Some(end_us)),
        _ => true,
    };
    let known = seen_version.and_then(|version| history.write_of_version(&version));
    let known = known.filter(|&id| history.op(id).is_delete());
    match (value, known) {
        (Some(value), _) => !may_be_read(history.write_of_value(value).unwrap()),
        (None, Some(delete)) => !may_be_read(delete),
        (None, None) => {
            let mut deletes = history.ops().filter(|(_, op)| {
                let rejected = op.outcome() == Some(&Outcome::Rejected);
                op.is_delete() && !rejected && op.invoke_us <= at_us
            });
            replaced_since(None) && !deletes.any(|(id, _)| may_be_read(id))
        }
    }
}

#[test]
fn with_quorums_of_all_sizes_the_sweep_agrees_with_comparing_every_pair() {
    try_many(3, true, |history| {
        let found = regular(history, |_| true);
        let (missed, foreign): (Vec<_>, Vec<_>) =
            found.iter().partition(|it| matches!(*it.fault, Fault::Overridden | Fault::MissedPut));
        let reads_of = |found: Vec<&Violation>| found.iter().map(|it| it.ops[0]).collect();
        let (missing, foreign): (Vec<_>, Vec<_>) = (reads_of(missed), reads_of(foreign));
        let ids = history.ops().map(|(id, _)| id).filter(|id| !foreign.contains(id));
        let expected: Vec<_> = ids.filter(|&id| misses(history, id)).collect();
        assert_eq!(missing, expected, "{found:#?}\n{}", history.table_of_key(&key("a")));
        found.is_empty()
    });
}

#[test]
fn the_order_of_versions_agrees_with_comparing_every_pair() {
    try_many(4, true, |history| {
        let acked_version = |id: OpId| match history.op(id).outcome() {
            Some(Outcome::Acked { version, .. }) => Some(*version),
            _ => None,
        };
        let acks: Vec<_> = history
            .ops()
            .filter_map(|(id, _)| Some((ack(history, id)?, acked_version(id)?)))
            .collect();
        let later_is_less = acks.iter().any(|((_, end_us, w), version)| {
            acks.iter().any(|((began_us, _, later_w), later)| {
                end_us < began_us && version >= later && 2 * w > 3 && 2 * later_w > 3
            })
        });
        let found = order(history, |_| true);
        let wrong = found.iter().any(|it| matches!(*it.fault, Fault::WriteOrder { .. }));
        assert_eq!(wrong, later_is_less, "{found:#?}\n{}", history.table_of_key(&key("a")));
        wrong
    });
}
