//! What replicas hold: per step, and in the end.

use std::collections::BTreeMap;

use crate::notation::{fault_name, key, node, version};
use quorate_simulator::check::{Monotonic, converged};

/// `n1.2 a 5` for: node 1 in incarnation 2 now holds version 5 of `a`; `n1.2 a -` for: none.
fn monotonic_faults(text: &str) -> Vec<String> {
    let mut monotonic = Monotonic::new();
    let mut faults = Vec::new();
    for line in text.split(';') {
        let [life, name, held] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("no such event: {line}");
        };
        let (id, incarnation) = life.split_once('.').expect(line);
        let (id, incarnation, name) = (node(id), incarnation.parse().unwrap(), key(name));
        match held.parse() {
            Ok(held) => faults.extend(monotonic.holds(id, incarnation, &name, version(held)).err()),
            Err(_) => monotonic.dropped(id, incarnation, &name),
        }
    }
    faults.iter().map(fault_name).collect()
}

#[test]
fn versions_of_a_replica_only_grow_while_it_lives() {
    for (name, text) in [
        ("it grows", "n1.1 a 1; n1.1 a 2; n1.1 a 3"),
        ("the same again", "n1.1 a 2; n1.1 a 2"),
        ("a new life begins anew", "n1.1 a 2; n1.2 a 1"),
        ("each node for itself", "n1.1 a 2; n2.1 a 1"),
        ("each key for itself", "n1.1 a 2; n1.1 b 1"),
        ("a dropped tombstone is forgotten", "n1.1 a 2; n1.1 a -; n1.1 a 1"),
    ] {
        assert!(monotonic_faults(text).is_empty(), "{name}");
    }
    for (name, text) in [
        ("it shrinks", "n1.1 a 2; n1.1 a 1"),
        ("it shrinks later", "n1.1 a 2; n2.1 a 5; n1.1 b 7; n1.1 a 3; n1.1 a 2"),
        ("an old life goes on and shrinks", "n1.1 a 2; n1.2 a 1; n1.1 a 1"),
    ] {
        assert_eq!(monotonic_faults(text), ["WentBack"], "{name}");
    }
}

/// `n1 a=x b=y` for: node 1 holds `x` under `a` and `y` under `b`. Nodes 1 to 3 own all.
fn convergence_faults(text: &str) -> Vec<String> {
    let mut dumps = BTreeMap::new();
    for line in text.split(';') {
        let mut words = line.split_whitespace();
        let id = node(words.next().expect(line));
        let held = words.filter_map(|word| word.split_once('='));
        dumps.insert(id, held.map(|(name, held)| (key(name), held)).collect());
    }
    let faults = converged(&dumps, |_| ["n1", "n2", "n3"].map(node).into());
    faults.iter().map(fault_name).collect()
}

#[test]
fn in_the_end_owners_hold_the_same_and_others_nothing() {
    for (name, text) in [
        ("nothing anywhere", "n1; n2; n3; n4"),
        ("the same everywhere", "n1 a=x b=y; n2 a=x b=y; n3 a=x b=y; n4"),
    ] {
        assert!(convergence_faults(text).is_empty(), "{name}");
    }
    let bad: [(&str, &str, &[&str]); 6] = [
        ("one differs", "n1 a=x; n2 a=y; n3 a=x", &["Diverged"]),
        ("one lacks it", "n1 a=x; n2; n3 a=x", &["Missing"]),
        ("the first lacks it", "n1; n2 a=x; n3 a=x", &["Missing"]),
        ("one is gone", "n1 a=x; n2 a=x", &["Missing"]),
        ("somebody else holds it", "n1 a=x; n2 a=x; n3 a=x; n4 a=x", &["Stray"]),
        ("only somebody else holds it", "n1; n2; n3; n4 a=x", &["Stray"]),
    ];
    for (name, text, faults) in bad {
        assert_eq!(convergence_faults(text), faults, "{name}");
    }
}
