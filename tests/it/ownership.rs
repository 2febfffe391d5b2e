use std::collections::BTreeMap;

use quorate_tests::{Cluster, PATIENCE, eventually};
use serde_json::Value;

fn five_nodes() -> Cluster {
    Cluster::of(5).field("n", 3).option("--anti-entropy-interval", "200ms").start()
}

/// All nodes in the order in which they are responsible for a key.
fn preference(cluster: &Cluster, key: &str) -> Vec<String> {
    let ring = cluster.running().next().unwrap().json(&format!("/debug/ring?key={key}"));
    ring["preference"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap().to_owned())
        .collect()
}

fn holders(cluster: &Cluster, key: &str) -> Vec<String> {
    cluster
        .running()
        .filter(|node| node.held(key).is_some())
        .map(|node| node.id().to_owned())
        .collect()
}

#[test]
fn each_key_ends_on_exactly_its_three_owners() {
    let cluster = five_nodes();
    let keys: Vec<_> = (0..100).map(|i| format!("key-{i}")).collect();
    for (i, key) in keys.iter().enumerate() {
        cluster.nodes()[i % 5].put(key, "x").expect_status(204);
    }
    let owners: BTreeMap<&String, Vec<String>> = keys
        .iter()
        .map(|key| {
            let mut owners = preference(&cluster, key)[..3].to_vec();
            owners.sort();
            (key, owners)
        })
        .collect();
    eventually("all owners have their keys", PATIENCE, || {
        owners.iter().all(|(key, owners)| holders(&cluster, key) == *owners)
    });

    let rounds = |id: &str| cluster.node(id).json("/debug/ae")["rounds"].as_u64().unwrap();
    let ids = ["n1", "n2", "n3", "n4", "n5"];
    let before = ids.map(rounds);
    eventually("replicas are compared again", PATIENCE, || {
        ids.iter().zip(before).all(|(id, before)| rounds(id) > before + 3)
    });
    for (key, owners) in &owners {
        assert_eq!(holders(&cluster, key), *owners, "{key} has gone no further");
    }
    for node in cluster.nodes() {
        assert_eq!(node.get("key-7").expect_status(200).text(), "x", "any node finds any key");
    }
}

#[test]
fn p5_with_two_owners_down_a_sloppy_quorum_writes_and_reads_and_a_strict_one_says_no() {
    let mut cluster = five_nodes();
    let order = preference(&cluster, "cat");
    cluster.kill(&order[0]);
    cluster.kill(&order[1]);
    let (owner, outsider) = (order[2].clone(), order[3].clone());

    for coordinator in [&owner, &outsider] {
        let node = cluster.node(coordinator);
        let written = node.put("cat", format!("through {coordinator}")).expect_status(204);
        assert!(written.header("quorate-receipt").contains("quorum=sloppy"), "{written:?}");
        for reader in [&owner, &outsider] {
            let found = cluster.node(reader).get("cat").expect_status(200);
            assert_eq!(found.text(), format!("through {coordinator}"));
            assert!(found.header("quorate-receipt").contains("quorum=sloppy"), "{found:?}");
        }
        let refused =
            node.request("PUT", "/kv/cat?sloppy=false", "strict").expect_status(503).json();
        assert!(refused["outcome"].is_string(), "{refused}");
        assert_eq!(refused["needed"], 2, "{refused}");
        node.request("GET", "/kv/cat?sloppy=false", "").expect_status(503);
    }
}

#[test]
fn p5_a_read_that_cannot_know_never_says_that_there_is_nothing() {
    let mut cluster = Cluster::of(3).start();
    cluster.kill("n2");
    cluster.kill("n3");
    let reply = cluster.node("n1").get("cat");
    assert!([503, 504].contains(&reply.status), "{reply:?}");
}

#[test]
fn no_node_has_much_more_than_its_share() {
    let cluster = Cluster::of(3).start();
    let ring = cluster.node("n1").json("/debug/ring");
    let shares: Vec<f64> = ring["nodes"]
        .as_object()
        .unwrap()
        .values()
        .map(|node| node["share"].as_f64().unwrap())
        .collect();
    assert_eq!(shares.len(), 3);
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{shares:?}");
    assert!(shares.iter().all(|share| (0.2..0.5).contains(share)), "{shares:?}");
    let fingerprints: Vec<Value> = cluster
        .nodes()
        .iter()
        .map(|node| node.json("/debug/ring")["fingerprint"].clone())
        .collect();
    assert!(
        fingerprints.iter().all(|fingerprint| *fingerprint == fingerprints[0]),
        "{fingerprints:?}"
    );
}
