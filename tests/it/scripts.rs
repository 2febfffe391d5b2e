use std::process::{Command, Output};

use quorate_tests::{Cluster, program, root};

/// Runs `scripts/smoke` against the nodes of a cluster.
fn smoke(cluster: &Cluster) -> Output {
    let addrs = cluster.nodes().iter().map(|node| node.addr().to_string());
    Command::new(root().join("scripts/smoke"))
        .args(addrs)
        .env("QUORATE_BIN", program())
        .output()
        .unwrap()
}

#[test]
fn smoke_passes_on_a_sound_cluster_and_fails_on_a_broken_one() {
    let mut cluster = Cluster::of(3).start();
    let output = smoke(&cluster);
    assert!(output.status.success(), "{output:?}");

    cluster.kill("n3");
    let output = smoke(&cluster);
    assert_eq!(output.status.code(), Some(1), "a dead node is noticed: {output:?}");

    cluster.kill("n2");
    cluster.kill("n1");
    let output = smoke(&cluster);
    assert_eq!(output.status.code(), Some(1), "a dead cluster is noticed: {output:?}");
}

#[test]
fn smoke_fails_when_a_node_lies() {
    // Three clusters of one node each: what was written to one is not on the others.
    let strangers = [Cluster::of(1).start(), Cluster::of(1).start(), Cluster::of(1).start()];
    let output = Command::new(root().join("scripts/smoke"))
        .args(strangers.iter().map(|cluster| cluster.node("n1").addr().to_string()))
        .env("QUORATE_BIN", program())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
