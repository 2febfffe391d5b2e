//! Nodes that lose their data, and deletes that are forgotten.

use std::fs;

use quorate_tests::{Cluster, Node, PATIENCE, copy_folder, eventually};
use serde_json::{Value, json};

fn three() -> Cluster {
    Cluster::of(3).option("--anti-entropy-interval", "200ms").start()
}

fn standing(node: &Node) -> Value {
    node.json("/admin/status")["standing"].clone()
}

fn counts(node: &Node) -> bool {
    standing(node)["state"] == json!("counted")
}

fn strict(node: &Node, key: &str) -> u16 {
    node.request("GET", &format!("/kv/{key}?sloppy=false&timeout_ms=500"), "").status
}

/// Takes n2 down, and n3's disk away; n3 is back, and n1 has filled it as far as it can.
fn leave_one_and_wipe_one(cluster: &mut Cluster) {
    cluster.kill("n3");
    cluster.kill("n2");
    fs::remove_dir_all(cluster.node("n3").data_dir()).unwrap();
    cluster.spawn("n3");
    eventually("n1 has filled it", PATIENCE, || {
        cluster.node("n3").answers()
            && standing(cluster.node("n3"))["recovery"]["done"] == json!(["n1"])
    });
}

#[test]
fn p1_a_node_without_its_disk_counts_for_nothing_until_both_others_have_filled_it() {
    let mut cluster = three();
    for i in 0..50 {
        cluster.node("n1").put(format!("cat{i}"), "meow").expect_status(204);
    }
    leave_one_and_wipe_one(&mut cluster);
    let n3 = cluster.node("n3");
    assert!(n3.held_value("cat49").is_some(), "it has what n1 has");
    assert_eq!(standing(n3)["recovery"]["away"], json!(["n2"]));
    let ready = n3.request("GET", "/ready", "").expect_status(503);
    assert!(ready.text().contains("compared with: n1; "), "{}", ready.text());
    assert_eq!(strict(cluster.node("n1"), "cat1"), 503, "n1 alone is no quorum");
    assert_eq!(strict(n3, "cat1"), 503);

    cluster.start("n2");
    eventually("it counts", PATIENCE, || counts(cluster.node("n3")));
    assert_eq!(strict(cluster.node("n3"), "cat1"), 200);
}

#[test]
fn p1_a_node_without_its_disk_is_not_ready_before_it_counts() {
    let mut cluster = three();
    cluster.kill("n3");
    fs::remove_dir_all(cluster.node("n3").data_dir()).unwrap();
    cluster.start("n3");
    assert!(counts(cluster.node("n3")), "the other two would be enough for reads");
}

#[test]
fn an_operator_says_that_a_node_is_gone_for_good() {
    let mut cluster = three();
    cluster.node("n1").put("cat", "meow").expect_status(204);
    leave_one_and_wipe_one(&mut cluster);
    let n3 = cluster.node("n3");
    assert_eq!(n3.request("POST", "/admin/gone?node=n9", "").status, 400);
    assert_eq!(n3.request("POST", "/admin/gone?node=n3", "").status, 400, "that is itself");
    let addr = n3.addr().to_string();
    let told = quorate_tests::run(&["gone", "n2", "--node", &addr]);
    assert_eq!(told.code, Some(0), "{told:?}");
    eventually("it counts", PATIENCE, || counts(cluster.node("n3")));
    eventually("two of three are a quorum", PATIENCE, || strict(cluster.node("n1"), "cat") == 200);
}

#[test]
fn p1_a_node_that_is_given_an_old_copy_of_its_disk_notices_and_is_filled_again() {
    let mut cluster = three();
    cluster.node("n1").put("before", "x").expect_status(204);
    eventually("n2 has it", PATIENCE, || cluster.node("n2").held_value("before").is_some());
    cluster.stop("n2");
    // Its peers remember how far its log was, which it tells every half a second.
    let remembered =
        |cluster: &Cluster| cluster.node("n1").json("/debug/peers")["n2"]["progress"].as_u64();
    let at_the_copy = remembered(&cluster).unwrap();
    let data_dir = cluster.node("n2").data_dir().to_path_buf();
    let old = cluster.folder().join("old");
    copy_folder(&data_dir, &old);
    cluster.start("n2");
    for i in 0..50 {
        cluster.node("n1").put(format!("cat{i}"), "meow").expect_status(204);
    }
    let is_there = |cluster: &Cluster| cluster.node("n2").held_value("cat49").is_some();
    eventually("n2 has them", PATIENCE, || is_there(&cluster));
    let life = cluster.node("n2").json("/admin/status")["incarnation"].as_u64().unwrap();
    eventually("n1 knows it", PATIENCE, || remembered(&cluster) >= Some(at_the_copy + 50));
    cluster.kill("n2");
    fs::remove_dir_all(&data_dir).unwrap();
    fs::rename(&old, &data_dir).unwrap();
    cluster.spawn("n2");

    eventually("another life", PATIENCE, || {
        let page = cluster.node("n2").try_request("GET", "/admin/status", b"");
        page.is_ok_and(|page| page.json()["incarnation"].as_u64() > Some(life))
    });
    assert!(cluster.node("n2").log().contains("begins another life"), "it says why");
    eventually("it counts", PATIENCE, || counts(cluster.node("n2")));
    assert!(is_there(&cluster), "before it was given all again");
}

#[test]
fn p3_deletes_are_forgotten_when_all_are_well_and_not_before() {
    let mut cluster = three();
    for i in 0..50 {
        cluster.node("n1").put(format!("cat{i}"), "meow").expect_status(204);
    }
    cluster.stop("n3");
    for i in 0..50 {
        cluster.node("n2").delete(format!("cat{i}")).expect_status(204);
    }
    let tombstones = |node: &Node| node.json("/debug/persist")["tombstones"].as_u64().unwrap();
    eventually("n1 knows who is missing", PATIENCE, || {
        standing(cluster.node("n1"))["held_back_by"] == json!(["n3"])
    });
    assert_eq!(["n1", "n2"].map(|id| tombstones(cluster.node(id))), [50, 50]);

    cluster.start("n3");
    eventually("all is forgotten", PATIENCE, || {
        cluster.nodes().iter().all(|node| node.json("/debug/persist")["keys"] == json!(0))
    });
    for node in cluster.nodes() {
        assert_eq!(tombstones(node), 0);
        node.get("cat7").expect_status(404);
    }
    cluster.kill_all();
    cluster.start_all();
    for node in cluster.nodes() {
        node.get("cat7").expect_status(404);
        assert_eq!(node.held("cat7"), None, "what the log still has is not found again");
    }
}
