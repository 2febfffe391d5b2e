//! A short way to write histories down.
//!
//! One event after another, between semicolons; times in microseconds:
//!
//! ```text
//! put 1 0..10 v5           a put of value 1, acked with version 5
//! delete 2 0..10 v6        a delete
//! put 3 0..10 rejected     also: maybe (indeterminate), maybe v7 (and told so)
//! put 3 0..?               the client never heard of it again
//! get 20..30 = 1 v5        found; also: = none (nothing), = none v6 (a tombstone), failed
//! last 1 v5                what the key ends with; also: last none v6
//! n 5; settled 90; bound 20
//! ```
//!
//! Then, in any order: `w=1`, `r=3` (else 2), `key=b` (else `a`), `from=n1,n4` (else the first W or
//! R), `sloppy` (asked for and done), `loose` (done but not asked for), `again` (answered twice),
//! `silent` (no answer, though one is owed), `unclaimed`.

use std::collections::{BTreeMap, BTreeSet};

use quorate_record::{Key, NodeId, Timestamp, Version, Writer};
use quorate_simulator::check::{Call, History, Last, OpId, Outcome, Request, Violation};

pub(crate) struct Story {
    pub(crate) history: History,
    pub(crate) last: BTreeMap<Key, Last>,
    pub(crate) settled_us: Option<u64>,
    pub(crate) bound_us: u64,
    unclaimed: BTreeSet<OpId>,
}

/// A name that says what the history shows, the history, and the faults that are to be found.
pub(crate) type Bad = (&'static str, &'static str, &'static [&'static str]);

/// A name that says what the history shows, and the history.
pub(crate) type Good = (&'static str, &'static str);

pub(crate) fn judge_all(good: &[Good], bad: &[Bad], check: impl Fn(&Story) -> Vec<Violation>) {
    let good = good.iter().map(|&(name, text)| (name, text, &[][..]));
    for (name, text, expected) in good.chain(bad.iter().copied()) {
        let story = Story::parse(text);
        let found = check(&story);
        let names: Vec<_> = found.iter().map(fault_name).collect();
        let table: String = story.history.keys().map(|(key, _)| story.table(key)).collect();
        assert_eq!(names, expected, "{name}\n{found:#?}\n{table}");
    }
}

pub(crate) fn fault_name(violation: &Violation) -> String {
    let text = format!("{:?}", violation.fault);
    text.split([' ', '{']).next().expect("split gives at least one part").to_owned()
}

pub(crate) fn key(name: &str) -> Key {
    Key::new(name.to_owned()).unwrap()
}

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(crate) fn version(number: u64) -> Version {
    let writer = Writer { node: node("n1"), incarnation: 1 };
    Version { timestamp: Timestamp::from_bits(number), writer }
}

impl Story {
    pub(crate) fn parse(text: &str) -> Self {
        let mut n = 3;
        let (mut settled_us, mut bound_us) = (None, 0);
        let lines: Vec<_> =
            text.split(';').map(str::trim).filter(|line| !line.is_empty()).collect();
        for line in &lines {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["n", value] => n = value.parse().unwrap(),
                ["settled", value] => settled_us = Some(value.parse().unwrap()),
                ["bound", value] => bound_us = value.parse().unwrap(),
                _ => {}
            }
        }
        let (history, last) = (History::new(n), BTreeMap::new());
        let mut story = Self { history, last, settled_us, bound_us, unclaimed: BTreeSet::new() };
        for line in lines {
            story.add(line);
        }
        story
    }

    pub(crate) fn claimed(&self, op: OpId) -> bool {
        !self.unclaimed.contains(&op)
    }

    fn table(&self, key: &Key) -> String {
        format!("{key}:\n{}", self.history.table_of_key(key))
    }

    fn add(&mut self, line: &str) {
        let words: Vec<_> = line.split_whitespace().collect();
        let option = |name: &str| words.iter().find_map(|word| word.strip_prefix(name));
        let flag = |name: &str| words.contains(&name);
        let version_told = words.iter().find_map(|word| {
            word.strip_prefix('v').map(|number| version(number.parse().expect(line)))
        });
        let key = key(option("key=").unwrap_or("a"));
        let number = || words[1].parse().expect(line);
        let call = match words[0] {
            "put" => Call::Put { id: number() },
            "delete" => Call::Delete { id: number() },
            "get" => Call::Get,
            "last" => {
                let value = (words[1] != "none").then(number);
                self.last.insert(key, Last { version: version_told.expect(line), value });
                return;
            }
            "n" | "settled" | "bound" => return,
            _ => panic!("no such event: {line}"),
        };
        let needed = option("w=").or(option("r=")).map_or(2, |it| it.parse().expect(line));
        let (from_us, to_us) = words.iter().find_map(|word| word.split_once("..")).expect(line);
        let coordinator = node("n1");
        let request = Request { key, coordinator, call, needed, sloppy: flag("sloppy") };
        let op = self.history.invoke(request, from_us.parse().expect(line));
        if flag("unclaimed") {
            self.unclaimed.insert(op);
        }
        if flag("silent") {
            return;
        }
        if to_us == "?" {
            self.history.abandon(op);
            return;
        }
        let strict = !flag("sloppy") && !flag("loose");
        let nodes = match option("from=") {
            Some(names) => names.split(',').map(node).collect(),
            None => (1..=needed).map(|index| node(&format!("n{index}"))).collect(),
        };
        let found = words.iter().position(|&word| word == "=").map(|index| words[index + 1]);
        let outcome = match (found, version_told) {
            (Some("none"), version) => Outcome::Absent { version, strict, from: nodes },
            (Some(id), version) => Outcome::Found {
                id: id.parse().expect(line),
                version: version.expect(line),
                strict,
                from: nodes,
            },
            (None, _) if flag("rejected") => Outcome::Rejected,
            (None, _) if flag("failed") => Outcome::Failed,
            (None, version) if flag("maybe") => Outcome::Indeterminate { version },
            (None, version) => {
                Outcome::Acked { version: version.expect(line), strict, acks: nodes }
            }
        };
        for _ in 0..=usize::from(flag("again")) {
            self.history.answer(op, to_us.parse().expect(line), outcome.clone());
        }
    }
}
