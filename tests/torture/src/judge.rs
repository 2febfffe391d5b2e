//! What the clients of a run were told, held against what was promised.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use quorate_record::{Key, NodeId};
use quorate_simulator::check::{self, Call, History, Last, Violation};
use quorate_tests::Cluster;

use crate::{
    Options, Report,
    clients::{Asked, Family, is_success},
    held::{Dumps, OWNERS, Places, record_of},
    nemesis::Story,
    report::Availability,
    weather::Weather,
};

/// How a run ended, besides what clients were told.
pub(crate) struct Ended {
    /// When the last fault was over, and when the replicas had come to rest.
    pub(crate) end_us: u64,
    pub(crate) settled_us: u64,
    pub(crate) equal_after: Option<Duration>,
    pub(crate) hintless_after: Option<Duration>,
    pub(crate) story: Story,
}

pub(crate) fn judge(
    options: &Options,
    cluster: &Cluster,
    places: &Places,
    dumps: Result<Dumps, String>,
    weather: &Weather,
    mut asked: Vec<Asked>,
    ended: Ended,
) -> Report {
    asked.sort_by_key(|asked| asked.invoke_us);
    let history = history_of(&asked);
    let Story { log, counts, mut broken, longest_loss } = ended.story;
    let mut violations: Vec<Violation> = Vec::new();

    let last = end_of(cluster, places, &history);
    let last = last
        .map_err(|why| broken.push(format!("who holds what in the end is not known: {why}")))
        .ok();
    let atomic = |op| {
        let request = &history.op(op).request;
        Family::is_atomic(&request.key) && request.needed > 1
    };
    violations.extend(check::honest(&history, |key| places.owners(key)));
    violations.extend(check::regular(&history, |_| true));
    violations.extend(check::order(&history, |_| true));
    violations.extend(check::read_order(&history, atomic));
    violations.extend(check::atomic(&history, false, atomic));
    if let Some(last) = &last {
        violations.extend(check::durable(&history, last, |_| true));
        violations.extend(check::resurrection(&history, last, Some(ended.settled_us), |_| true));
    }
    match &dumps {
        Ok(dumps) => violations.extend(dumps.differing(places)),
        Err(why) => broken.push(format!("a node does not say what it holds: {why}")),
    }

    let mut tables: BTreeMap<Key, String> = BTreeMap::new();
    for violation in &violations {
        let key = &violation.key;
        tables.entry(key.clone()).or_insert_with(|| table(key, &history, cluster, places));
    }
    broken.extend(violations.iter().map(|it| format!("[{}] {it}", it.fault.checker())));
    let (available, missed) = availability(cluster, &asked, places, weather, ended.end_us);
    Report {
        kind: options.kind,
        seed: options.seed,
        time: Duration::from_micros(ended.end_us),
        counts,
        told: told(&asked),
        available,
        missed,
        equal_after: ended.equal_after,
        hintless_after: ended.hintless_after,
        longest_loss,
        broken,
        tables: tables.into_values().collect(),
        log,
        node_logs: cluster.nodes().iter().map(|node| (node.id().to_owned(), node.log())).collect(),
    }
}

fn history_of(asked: &[Asked]) -> History {
    let mut history = History::new(OWNERS);
    for Asked { request, invoke_us, answer, .. } in asked {
        let op = history.invoke(request.clone(), *invoke_us);
        match answer {
            Some((at_us, outcome)) => history.answer(op, *at_us, outcome.clone()),
            None => history.abandon(op),
        }
    }
    history
}

/// What each key ends with: the greatest that an owner holds.
fn end_of(
    cluster: &Cluster,
    places: &Places,
    history: &History,
) -> Result<BTreeMap<Key, Last>, String> {
    let mut last: BTreeMap<Key, Last> = BTreeMap::new();
    for (key, _) in history.keys() {
        for owner in places.owners(key) {
            let Some((held, value)) = record_of(cluster.node(owner.as_str()), key)? else {
                continue;
            };
            let end = Last { version: held.version, value };
            let known = last.entry(key.clone()).or_insert(end);
            if known.version < end.version {
                *known = end;
            }
        }
    }
    Ok(last)
}

fn table(key: &Key, history: &History, cluster: &Cluster, places: &Places) -> String {
    let owners = places.owners(key);
    let names: Vec<_> = owners.iter().map(NodeId::as_str).collect();
    let mut table = format!("{key}, owned by {}\n{}", names.join(" "), history.table_of_key(key));
    for node in cluster.nodes() {
        let held = match record_of(node, key) {
            Ok(Some((held, Some(value)))) => format!("{} put {value}", held.version),
            Ok(Some((held, None))) => format!("{} a tombstone", held.version),
            Ok(None) => "nothing".to_owned(),
            Err(why) => format!("what it does not say: {why}"),
        };
        let _ = writeln!(table, "{} holds {held}", node.id());
    }
    table
}

/// How many requests were owed a success, and got it; and why those failed that did not.
fn availability(
    cluster: &Cluster,
    asked: &[Asked],
    places: &Places,
    weather: &Weather,
    end_us: u64,
) -> (Availability, Vec<String>) {
    let number = |id: &NodeId| cluster.nodes().iter().position(|node| node.id() == id.as_str());
    let mut available = Availability::default();
    let mut missed = Vec::new();
    for one in asked.iter().filter(|one| one.invoke_us < end_us) {
        // A client that was not answered may have gone on waiting for longer than faults lasted.
        let returned_us = one.answer.as_ref().map_or(end_us, |(at_us, _)| *at_us);
        let sky = weather.during(one.invoke_us, returned_us);
        let request = &one.request;
        let owners: Vec<usize> = places.owners(&request.key).iter().filter_map(number).collect();
        let stand_ins = request.sloppy && request.call != Call::Get;
        if sky.owes(one.node, &owners, request.needed, stand_ins) {
            available.owed += 1;
            if one.answer.as_ref().is_some_and(|(_, outcome)| is_success(outcome)) {
                available.given += 1;
            } else {
                let (at_us, key) = (one.invoke_us, &request.key);
                let took_ms = (returned_us - one.invoke_us) / 1_000;
                missed.push(format!(
                    "{at_us} µs, {took_ms} ms: {:?} of {key} by {}: {}",
                    request.call, request.coordinator, one.reason
                ));
            }
        }
    }
    (available, missed)
}

fn told(asked: &[Asked]) -> BTreeMap<&'static str, u64> {
    let mut told = BTreeMap::new();
    for one in asked {
        let (kind, outcome) = (one.request.call, one.answer.as_ref().map(|(_, outcome)| outcome));
        let name = match (kind, outcome) {
            (_, Some(outcome)) if is_success(outcome) => match kind {
                Call::Put { .. } => "puts acked",
                Call::Delete { .. } => "deletes acked",
                Call::Get => "reads answered",
            },
            (Call::Get, _) => "reads failed",
            (_, Some(check::Outcome::Rejected)) => "writes rejected",
            _ => "writes with an unknown end",
        };
        *told.entry(name).or_default() += 1;
    }
    told
}
