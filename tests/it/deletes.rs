use quorate_tests::{Cluster, PATIENCE, eventually};
use serde_json::json;

#[test]
fn p3_what_was_deleted_while_a_replica_was_down_stays_deleted() {
    let mut cluster = Cluster::of(3).option("--anti-entropy-interval", "200ms").start();
    cluster.node("n1").put("cat", "meow").expect_status(204);
    eventually("n3 has it", PATIENCE, || cluster.node("n3").held_value("cat").is_some());
    cluster.kill("n3");
    cluster.node("n1").delete("cat").expect_status(204);

    cluster.start("n3");
    eventually("all know of the delete", PATIENCE, || {
        let deleted = |record: serde_json::Value| record["deleted"] == json!(true);
        cluster.nodes().iter().all(|node| node.held("cat").is_some_and(deleted))
    });
    let rounds = |id: &str| cluster.node(id).json("/debug/ae")["rounds"].as_u64().unwrap();
    let before = ["n1", "n2", "n3"].map(rounds);
    eventually("replicas are compared again", PATIENCE, || {
        ["n1", "n2", "n3"].iter().zip(before).all(|(id, before)| rounds(id) > before + 3)
    });
    for node in cluster.nodes() {
        node.get("cat").expect_status(404);
        assert_eq!(node.held_value("cat"), None, "{}", node.id());
    }
}

#[test]
fn deleting_what_is_not_there_is_no_error() {
    let cluster = Cluster::of(1).start();
    cluster.node("n1").delete("cat").expect_status(204);
    cluster.node("n1").get("cat").expect_status(404);
    cluster.node("n1").put("cat", "meow").expect_status(204);
    cluster.node("n1").get("cat").expect_status(200);
}
