use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use quorate_tests::{Cluster, PATIENCE, eventually};

#[test]
fn p1_every_acknowledged_write_survives_the_death_of_all_nodes_under_load() {
    let mut cluster = Cluster::of(3).start();
    let (enough, acked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let written = thread::scope(|scope| {
        let writers: Vec<_> = ["n1", "n2", "n3"]
            .map(|id| {
                let (addr, enough, acked) = (cluster.node(id).addr(), &enough, &acked);
                scope.spawn(move || {
                    let mut written = Vec::new();
                    for i in 0.. {
                        let key = format!("{id}-{i}");
                        let reply = quorate_tests::request(
                            addr,
                            "PUT",
                            &format!("/kv/{key}"),
                            key.as_bytes(),
                        );
                        if reply.is_ok_and(|reply| reply.status == 204) {
                            acked.fetch_add(1, Ordering::Relaxed);
                            written.push(key);
                        } else if enough.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    written
                })
            })
            .into();
        eventually("300 writes", PATIENCE, || acked.load(Ordering::Relaxed) >= 300);
        enough.store(true, Ordering::Relaxed);
        cluster.kill_all();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
    });

    cluster.start_all();
    for key in &written {
        assert_eq!(cluster.node("n2").get(key).expect_status(200).body, key.as_bytes());
    }
}

#[test]
fn p7_a_log_that_ends_in_the_middle_of_a_record_does_not_stop_the_node() {
    let mut cluster = Cluster::of(1).start();
    for i in 0..100 {
        cluster.node("n1").put(format!("key-{i}"), format!("value-{i}")).expect_status(204);
    }
    cluster.kill("n1");
    tear(&cluster);
    cluster.start("n1");

    let persist = cluster.node("n1").json("/debug/persist");
    assert!(persist["truncated_bytes"].as_u64().unwrap() > 0, "{persist}");
    for i in 0..99 {
        let reply = cluster.node("n1").get(format!("key-{i}")).expect_status(200);
        assert_eq!(reply.body, format!("value-{i}").into_bytes());
    }
    cluster.node("n1").put("after", "x").expect_status(204);
    cluster.kill("n1");
    cluster.start("n1");
    cluster.node("n1").get("after").expect_status(200);
}

/// Takes away the last bytes that were written to a node's log.
fn tear(cluster: &Cluster) {
    let mut segments: Vec<PathBuf> = fs::read_dir(cluster.node("n1").data_dir().join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "qlog"))
        .collect();
    segments.sort();
    let last = segments.last().expect("a log has a segment");
    let end =
        fs::read(last).unwrap().iter().rposition(|&byte| byte != 0).expect("something is written");
    let file = File::options().write(true).open(last).unwrap();
    file.write_all_at(&[0; 10], u64::try_from(end).unwrap() - 9).unwrap();
}

#[test]
fn the_largest_value_survives_a_restart_and_a_larger_one_is_refused() {
    let mut cluster = Cluster::of(3).start();
    let largest: Vec<u8> = (0..8 << 20).map(|i: u32| i.to_le_bytes()[i as usize % 3]).collect();
    cluster.node("n1").put("largest", &largest).expect_status(204);
    cluster.node("n1").put("larger", vec![7; 12 << 20]).expect_status(413);
    cluster.kill_all();
    cluster.start_all();
    assert!(cluster.node("n2").get("largest").expect_status(200).body == largest);
    cluster.node("n2").get("larger").expect_status(404);
}

#[test]
fn p1_a_clean_stop_loses_nothing_under_any_policy() {
    for sync in ["always", "50ms", "os"] {
        let mut cluster = Cluster::of(1).option("--sync", sync).start();
        for i in 0..50 {
            cluster.node("n1").put(format!("key-{i}"), "x").expect_status(204);
        }
        cluster.stop("n1");
        cluster.start("n1");
        for i in 0..50 {
            cluster.node("n1").get(format!("key-{i}")).expect_status(200);
        }
    }
}

#[test]
fn p1_snapshots_keep_everything_too() {
    let mut cluster = Cluster::of(1).start();
    for i in 0..50 {
        cluster.node("n1").put(format!("key-{i}"), "before").expect_status(204);
    }
    cluster.node("n1").request("POST", "/admin/snapshot", "").expect_status(200);
    for i in 25..75 {
        cluster.node("n1").put(format!("key-{i}"), "after").expect_status(204);
    }
    cluster.kill("n1");
    cluster.start("n1");
    for i in 0..75 {
        let expected = if i < 25 { "before" } else { "after" };
        assert_eq!(cluster.node("n1").get(format!("key-{i}")).expect_status(200).text(), expected);
    }
}
