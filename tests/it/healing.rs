use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
};

use quorate_tests::{Cluster, Node, PATIENCE, eventually};

/// Changes one byte of a value in a node's log; returns whether the value is there.
fn rot(node: &Node, value: &str) -> bool {
    let files = fs::read_dir(node.data_dir().join("log")).unwrap();
    for path in files.map(|file| file.unwrap().path()) {
        let bytes = fs::read(&path).unwrap();
        let Some(at) = bytes.windows(value.len()).position(|it| it == value.as_bytes()) else {
            continue;
        };
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[bytes[at] ^ 1], u64::try_from(at).unwrap()).unwrap();
        return true;
    }
    false
}

fn value(number: usize) -> String {
    format!("the value of key number {number:04}")
}

fn write(cluster: &Cluster, keys: usize) {
    for i in 0..keys {
        let reply = cluster.node("n1").request("PUT", &format!("/kv/key-{i}?w=all"), value(i));
        reply.expect_status(204);
    }
}

#[track_caller]
fn count(node: &Node, field: &str) -> u64 {
    let page = node.json("/debug/persist");
    page[field].as_u64().unwrap_or_else(|| panic!("`{field}` is a number in {page}"))
}

/// No comparison brings anything back, and nothing is read that nobody asks for.
fn by_reads_only() -> Cluster {
    Cluster::of(3).option("--anti-entropy", "false").field("scrub_interval_s", 0).start()
}

#[test]
fn p7_a_record_that_rots_on_disk_is_never_served_and_heals_when_it_is_read() {
    let mut cluster = by_reads_only();
    write(&cluster, 3);
    assert!(rot(cluster.node("n2"), &value(1)));

    // It coordinates the read, cannot read its own record, and asks others.
    let reply = cluster.node("n2").get("key-1").expect_status(200);
    assert_eq!(reply.text(), value(1));
    assert!(!reply.header("quorate-receipt").contains("n2"), "{reply:?}");
    eventually("n2 holds it again", PATIENCE, || count(cluster.node("n2"), "healed_records") == 1);
    assert_eq!(count(cluster.node("n2"), "damaged"), 0);
    assert_eq!(cluster.node("n2").held_value("key-1"), Some(value(1).into_bytes()));

    cluster.kill("n2");
    cluster.start("n2");
    assert_eq!(cluster.node("n2").held_value("key-1"), Some(value(1).into_bytes()));
}

#[test]
fn p7_what_a_node_finds_damaged_at_its_start_heals_by_itself() {
    let mut cluster = by_reads_only();
    write(&cluster, 3);
    cluster.stop("n2"); // with a snapshot, which knows what is missing
    assert!(rot(cluster.node("n2"), &value(1)));
    cluster.start("n2");
    assert_eq!(count(cluster.node("n2"), "corrupt_frames"), 1);
    eventually("n2 holds it again", PATIENCE, || count(cluster.node("n2"), "healed_records") == 1);
    assert_eq!(cluster.node("n2").held_value("key-1"), Some(value(1).into_bytes()));
}

#[test]
fn p7_a_scrub_finds_what_rots_in_a_running_node_and_it_heals_without_a_read() {
    let cluster =
        Cluster::of(3).option("--anti-entropy", "false").field("scrub_interval_s", 1).start();
    write(&cluster, 100);
    let node = cluster.node("n3");
    let passes = |node: &Node| node.json("/debug/persist")["scrub"]["passes"].as_u64().unwrap();
    eventually("a pass has ended", PATIENCE, || passes(node) > 0);
    assert_eq!(node.json("/debug/persist")["scrub"]["damaged"], 0);

    for i in (0..100).step_by(10) {
        assert!(rot(node, &value(i)), "{i}");
    }
    eventually("all are healed", PATIENCE, || count(node, "healed_records") == 10);
    assert_eq!(count(node, "damaged"), 0);
    let scrub = node.json("/debug/persist")["scrub"].clone();
    assert!(
        scrub["damaged"].as_u64() >= Some(10) && scrub["records"].as_u64() > Some(100),
        "{scrub}"
    );
    for i in 0..100 {
        assert_eq!(node.held_value(format!("key-{i}")), Some(value(i).into_bytes()));
    }
    assert_eq!(count(cluster.node("n1"), "healed_records"), 0);
}

#[test]
fn p7_a_scrub_goes_on_over_a_restart_and_is_not_begun_anew_before_its_time() {
    let mut cluster = Cluster::of(1).field("scrub_interval_s", 1_000_000).start();
    let scrub = |cluster: &Cluster| cluster.node("n1").json("/debug/persist")["scrub"].clone();
    eventually("a pass has ended", PATIENCE, || scrub(&cluster)["passes"] == 1);
    let began = scrub(&cluster)["last_began_unix_ms"].clone();
    eventually("it is noted", PATIENCE, || cluster.node("n1").data_dir().join("scrub").exists());
    cluster.kill("n1");
    cluster.start("n1");
    let after = scrub(&cluster);
    assert_eq!((&after["last_began_unix_ms"], &after["running"]), (&began, &false.into()));
    assert_eq!(after["passes"], 0, "{after}");
}

#[test]
fn p7_a_segment_that_is_damaged_in_the_middle_is_refilled() {
    let mut cluster = Cluster::of(3)
        .option("--anti-entropy-interval", "100ms")
        .field("scrub_interval_s", 0)
        .start();
    write(&cluster, 50);
    cluster.kill("n2"); // without a snapshot, so the log is read at the next start
    for i in [10, 20] {
        assert!(rot(cluster.node("n2"), &value(i)), "{i}");
    }
    cluster.start("n2");
    let page = cluster.node("n2").json("/debug/persist");
    assert_eq!(
        (&page["corrupt_frames"], &page["damaged_segments"]),
        (&2.into(), &1.into()),
        "{page}"
    );
    eventually("it is refilled", PATIENCE, || count(cluster.node("n2"), "refilled_segments") == 1);
    for i in 0..50 {
        assert_eq!(cluster.node("n2").held_value(format!("key-{i}")), Some(value(i).into_bytes()));
    }
}
