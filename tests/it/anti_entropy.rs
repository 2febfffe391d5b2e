use quorate_tests::{Cluster, PATIENCE, eventually};

/// No help from hints: what arrives was found by comparison.
fn anti_entropy_only() -> Cluster {
    Cluster::of(3).option("--hint-ttl", "0").option("--anti-entropy-interval", "200ms").start()
}

#[test]
fn p2_a_replica_that_was_away_gets_everything_without_hints_and_without_a_read() {
    let mut cluster = anti_entropy_only();
    cluster.kill("n3");
    for i in 0..500 {
        cluster.node("n1").put(format!("key-{i}"), format!("value-{i}")).expect_status(204);
    }
    assert_eq!(cluster.hints(), 0, "courtesy hints are switched off");

    cluster.start("n3");
    let keys = |id: &str| {
        let page = cluster.node(id).request("POST", "/internal/keys", r#"{"limit":1000}"#);
        page.expect_status(200).json()["keys"].as_object().expect("`keys` is an object").len()
    };
    eventually("n3 has all keys", PATIENCE, || keys("n3") == 500);
    for i in 0..500 {
        let value = cluster.node("n3").held_value(format!("key-{i}"));
        assert_eq!(value, Some(format!("value-{i}").into_bytes()), "key-{i}");
    }
    let pulled = |id: &str| cluster.node(id).json("/debug/ae")["total_pulled"].as_u64().unwrap();
    let pushed = |id: &str| cluster.node(id).json("/debug/ae")["total_pushed"].as_u64().unwrap();
    let moved: u64 = ["n1", "n2", "n3"].iter().map(|id| pulled(id) + pushed(id)).sum();
    assert!(moved >= 500, "{moved} records were moved by comparison");
}

#[test]
fn keys_that_are_not_text_reach_the_other_replicas_unharmed() {
    let mut cluster = anti_entropy_only();
    let keys: [&[u8]; 4] = [b"\xff\xfe", b"\x00", b"a\xc3", b"\xed\xa0\x80//"];
    cluster.kill("n3");
    for key in keys {
        cluster.node("n1").put(key, key).expect_status(204);
    }
    cluster.start("n3");
    eventually("n3 has them", PATIENCE, || {
        keys.iter().all(|key| cluster.node("n3").held_value(key).as_deref() == Some(*key))
    });
}

#[test]
fn p2_two_values_under_one_version_end_as_one() {
    let cluster = anti_entropy_only();
    cluster.node("n1").plant("tie", Some("heads"));
    cluster.node("n2").plant("tie", Some("tails"));
    let held = |id: &str| cluster.node(id).held_value("tie");
    eventually("all hold the same", PATIENCE, || {
        held("n1").is_some() && held("n1") == held("n2") && held("n2") == held("n3")
    });
    let winner = held("n1");
    for value in ["heads", "tails"] {
        cluster.node("n3").plant("tie", Some(value));
        assert_eq!(held("n3"), winner, "the same one wins in any order");
    }
}

#[test]
fn p2_a_tombstone_and_a_value_under_one_version_end_as_one() {
    let cluster = anti_entropy_only();
    cluster.node("n1").plant("tie", None);
    cluster.node("n2").plant("tie", Some("x"));
    let held = |id: &str| cluster.node(id).held("tie").map(|record| record["deleted"].clone());
    eventually("all hold the same", PATIENCE, || {
        held("n1").is_some() && held("n1") == held("n2") && held("n2") == held("n3")
    });
}
