use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use quorate_tests::{Cluster, PATIENCE, eventually, run};

/// Puts numbered keys until told to stop; `acked` counts those that were acknowledged, in order.
fn write(cluster: &Cluster, enough: &AtomicBool, acked: &AtomicUsize) {
    while !enough.load(Ordering::Relaxed) {
        let i = acked.load(Ordering::Relaxed);
        cluster.node("n1").put(format!("key-{i}"), format!("value-{i}")).expect_status(204);
        acked.store(i + 1, Ordering::Relaxed);
    }
}

#[test]
fn a_backup_under_load_gives_back_everything_acknowledged_before_it() {
    let mut cluster = Cluster::of(1).start();
    let (enough, acked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let before = thread::scope(|scope| {
        let writer = scope.spawn(|| write(&cluster, &enough, &acked));
        eventually("100 writes", PATIENCE, || acked.load(Ordering::Relaxed) >= 100);
        cluster.node("n1").request("POST", "/admin/snapshot", "").expect_status(200);
        let before = acked.load(Ordering::Relaxed);
        let addr = cluster.node("n1").addr().to_string();
        let finished = run(&["backup", "--node", &addr, "monday"]);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert!(finished.stdout.trim().ends_with("backups/monday"), "{finished:?}");
        let again = run(&["backup", "--node", &addr, "monday"]);
        assert_eq!(again.code, Some(1), "{again:?}");
        assert!(again.stderr.contains("there already"), "{again:?}");
        enough.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        before
    });
    let node = cluster.node("n1");
    node.request("POST", "/admin/backup?dir=monday", "").expect_status(409);
    node.request("POST", "/admin/backup?dir=../monday", "").expect_status(400);
    let dir = node.data_dir().to_path_buf();
    let old = dir.with_file_name("old");

    let refused = run(&["restore", "nowhere", dir.to_str().unwrap()]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("in use by process"), "{refused:?}");
    cluster.stop("n1");
    fs::rename(&dir, &old).unwrap();
    let backup = old.join("backups/monday");
    let finished = run(&["restore", backup.to_str().unwrap(), dir.to_str().unwrap()]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(run(&["doctor", dir.to_str().unwrap()]).code, Some(0));
    let again = run(&["restore", backup.to_str().unwrap(), dir.to_str().unwrap()]);
    assert!(again.stderr.contains("is not empty"), "{again:?}");
    cluster.start("n1");
    for i in 0..before {
        let reply = cluster.node("n1").get(format!("key-{i}")).expect_status(200);
        assert_eq!(reply.body, format!("value-{i}").into_bytes());
    }
    cluster.node("n1").put("key-0", "newer").expect_status(204);
}

#[test]
fn a_damaged_backup_is_refused_and_nothing_is_written() {
    let cluster = Cluster::of(1).start();
    for i in 0..20 {
        cluster.node("n1").put(format!("key-{i}"), "x").expect_status(204);
    }
    cluster.node("n1").request("POST", "/admin/backup?dir=b", "").expect_status(200);
    let backup = cluster.node("n1").data_dir().join("backups/b");
    let new = cluster.folder().join("new");
    for name in ["backup", "log/0000000000000001.qlog", "log/newest", "log/released"] {
        let path = backup.join(name);
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 20).unwrap();
        file.write_all_at(&[byte[0] ^ 1], 20).unwrap();
        let refused = run(&["restore", backup.to_str().unwrap(), new.to_str().unwrap()]);
        assert_eq!(refused.code, Some(1), "{name}: {refused:?}");
        assert!(refused.stderr.contains(path.to_str().unwrap()), "{name}: {refused:?}");
        assert!(!new.exists(), "{name}: something was written");
        file.write_all_at(&byte, 20).unwrap();
    }
    let restored = run(&["restore", backup.to_str().unwrap(), new.to_str().unwrap(), "--id", "n1"]);
    assert_eq!(restored.code, Some(0), "{restored:?}");
}
