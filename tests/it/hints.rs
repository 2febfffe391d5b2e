use std::time::Duration;

use quorate_tests::{Cluster, PATIENCE, eventually};

/// No help from anti-entropy: what arrives has come as a hint.
fn hints_only() -> quorate_tests::Builder {
    Cluster::of(3).option("--anti-entropy", "false").field("timeout_ms", 1_000)
}

fn targets(cluster: &Cluster, holder: &str) -> Vec<String> {
    let hints = cluster.node(holder).json("/debug/hints");
    match &hints["targets"] {
        serde_json::Value::Object(targets) => targets.keys().cloned().collect(),
        targets => {
            let ids = targets.as_array().expect("`targets` lists ids");
            ids.iter().map(|id| id.as_str().expect("an id is text").to_owned()).collect()
        }
    }
}

#[test]
fn p9_a_killed_replica_gets_what_it_missed_within_five_seconds_of_its_return() {
    let mut cluster = hints_only().start();
    cluster.kill("n2");
    for i in 0..200 {
        cluster.node("n1").put(format!("key-{i}"), format!("value-{i}")).expect_status(204);
    }
    eventually("hints are held", PATIENCE, || cluster.hints() >= 200);
    assert!(cluster.running().any(|node| targets(&cluster, node.id()).contains(&"n2".to_owned())));

    cluster.start("n2");
    eventually("hints drain", Duration::from_secs(5), || cluster.hints() == 0);
    for i in 0..200 {
        let value = cluster.node("n2").held_value(format!("key-{i}"));
        assert_eq!(value, Some(format!("value-{i}").into_bytes()), "key-{i}");
    }
}

#[test]
fn p9_hints_survive_the_holder() {
    let mut cluster = hints_only().start();
    cluster.kill("n2");
    for i in 0..20 {
        cluster.node("n1").put(format!("key-{i}"), "x").expect_status(204);
    }
    eventually("hints are held", PATIENCE, || cluster.hints() >= 20);
    cluster.kill_all();
    cluster.start_all();
    eventually("hints drain", PATIENCE, || cluster.hints() == 0);
    for i in 0..20 {
        assert!(cluster.node("n2").held(format!("key-{i}")).is_some(), "key-{i}");
    }
}

#[test]
fn p9_one_dead_target_does_not_hold_up_the_hints_for_another() {
    let mut cluster = hints_only().field("w", 1).field("r", 1).start();
    cluster.kill("n2");
    cluster.kill("n3");
    for i in 0..50 {
        cluster.node("n1").put(format!("key-{i}"), "x").expect_status(204);
    }
    eventually("hints for both", PATIENCE, || cluster.hints() >= 100);

    cluster.start("n3");
    eventually("n3 has its hints", Duration::from_secs(5), || {
        (0..50).all(|i| cluster.node("n3").held(format!("key-{i}")).is_some())
    });
    eventually("only n2's are left", PATIENCE, || targets(&cluster, "n1") == ["n2"]);
}

#[test]
fn p9_a_replica_that_stands_still_costs_no_write_and_misses_none() {
    let cluster = hints_only().start();
    cluster.pause("n3");
    for i in 0..20 {
        cluster.node("n1").put(format!("key-{i}"), "x").expect_status(204);
    }
    eventually("every write has a hint", PATIENCE, || cluster.node("n1").hints() >= 20);
    cluster.resume("n3");
    eventually("n3 has every write", PATIENCE, || {
        (0..20).all(|i| cluster.node("n3").held(format!("key-{i}")).is_some())
    });
    eventually("hints drain", PATIENCE, || cluster.hints() == 0);
}
