use std::fs;

use quorate_tests::{Cluster, PATIENCE, eventually};

#[test]
fn p1_a_node_that_lost_its_disk_does_not_say_that_there_is_nothing() {
    let mut cluster = Cluster::of(3).field("timeout_ms", 1_000).start();
    cluster.kill("n3");
    cluster.node("n1").put("cat", "meow").expect_status(204);

    // n1 has lost it, n3 never had it, and n2, which has it, cannot be asked.
    cluster.kill("n1");
    fs::remove_dir_all(cluster.node("n1").data_dir()).expect("the data can be removed");
    cluster.pause("n2");
    for id in ["n1", "n3"] {
        cluster.spawn(id);
        eventually(&format!("{id} takes requests"), PATIENCE, || cluster.node(id).answers());
    }
    let sees = |id: &str, peer: &str| cluster.node(id).json("/debug/peers")[peer]["state"] == "up";
    eventually("n3 sees n1", PATIENCE, || sees("n3", "n1"));
    let reply = cluster.node("n3").get("cat");
    assert_ne!(reply.status, 404, "{:?}", reply.headers);

    cluster.resume("n2");
    eventually("everybody can read it", PATIENCE, || {
        ["n1", "n2", "n3"].iter().all(|id| cluster.node(id).get("cat").body == b"meow")
    });
}
