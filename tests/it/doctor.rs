use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use quorate_tests::{Cluster, Finished, run};
use serde_json::Value;

/// A node that was stopped, with forty keys and what its files then are.
fn stopped() -> Cluster {
    let mut cluster = Cluster::of(1).start();
    for i in 0..20 {
        cluster.node("n1").put(format!("key-{i}"), format!("value-{i}")).expect_status(204);
    }
    cluster.node("n1").request("POST", "/admin/snapshot", "").expect_status(200);
    for i in 20..40 {
        cluster.node("n1").put(format!("key-{i}"), format!("value-{i}")).expect_status(204);
    }
    cluster.stop("n1");
    cluster
}

fn doctor(dir: &Path, options: &[&str]) -> Finished {
    run(&[&["doctor", dir.to_str().unwrap()], options].concat())
}

fn json(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{finished:?}"))
}

/// All files below, with content and time of the last change.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>, SystemTime)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let changed = path.metadata().unwrap().modified().unwrap();
            found.push((path.clone(), fs::read(&path).unwrap(), changed));
        }
    }
    found.sort();
    found
}

#[test]
fn a_sound_node_has_no_problems_and_is_left_alone() {
    let cluster = stopped();
    let dir = cluster.node("n1").data_dir();
    let before = files(dir);
    let finished = doctor(dir, &[]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.contains("No problems found"), "{finished:?}");
    let finished = doctor(dir, &["--json"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let found = json(&finished);
    assert_eq!(found["node"], "n1");
    assert_eq!(found["keys"], 40);
    assert_eq!(found["problems"].as_array().unwrap().len(), 0);
    assert!(files(dir) == before, "nothing was changed");
}

#[test]
fn every_damaged_file_is_named_and_the_rest_is_salvaged_without_touching_it() {
    let cluster = stopped();
    let dir = cluster.node("n1").data_dir();
    let mut damaged = 0;
    for (path, bytes, _) in files(dir) {
        let Some(last) = bytes.iter().rposition(|byte| *byte != 0) else { continue };
        if path.ends_with("LOCK") || path.extension().is_some_and(|it| it == "qspare") {
            continue;
        }
        let file = File::options().write(true).open(&path).unwrap();
        for how in ["changed", "cut"] {
            match how {
                "changed" => file.write_all_at(&[bytes[last] ^ 4], last as u64).unwrap(),
                _ => file.set_len(last as u64 - 1).unwrap(),
            }
            let before = files(dir);
            let new = cluster.folder().join(format!("new-{damaged}"));
            let finished = doctor(dir, &["--json", "--repair", new.to_str().unwrap()]);
            assert_eq!(finished.code, Some(1), "{}: {how}: {finished:?}", path.display());
            let found = json(&finished);
            let problems = found["problems"].as_array().unwrap();
            let is_named = |it: &Value| it["file"].as_str() == path.to_str();
            assert!(problems.iter().any(is_named), "{}: {how}: {found}", path.display());
            assert!(found["repaired"]["keys"].as_u64().unwrap() >= 39, "{how}: {found}");
            assert!(files(dir) == before, "{}: {how}: something was changed", path.display());
            damaged += 1;
        }
        file.write_all_at(&bytes, 0).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
    }
    assert!(damaged >= 2 * 5, "only {damaged}");
    assert_eq!(doctor(dir, &[]).code, Some(0));
}

#[test]
fn a_node_runs_on_what_was_salvaged() {
    let mut cluster = stopped();
    let dir = cluster.node("n1").data_dir().to_path_buf();
    let snapshots = fs::read_dir(dir.join("snapshot")).unwrap().count();
    assert!(snapshots > 0);
    let finished = doctor(&dir, &["--repair"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let repaired = dir.with_file_name("n1.repaired");
    assert!(finished.stdout.contains(repaired.to_str().unwrap()), "{finished:?}");
    let again = doctor(&dir, &["--repair"]);
    assert_eq!(again.code, Some(2), "what is there is not overwritten: {again:?}");
    assert!(again.stderr.contains("is not empty"), "{again:?}");
    fs::rename(&dir, dir.with_file_name("old")).unwrap();
    fs::rename(&repaired, &dir).unwrap();
    cluster.start("n1");
    for i in 0..40 {
        let reply = cluster.node("n1").get(format!("key-{i}")).expect_status(200);
        assert_eq!(reply.body, format!("value-{i}").into_bytes());
    }
    cluster.node("n1").put("key-0", "newer").expect_status(204);
}

#[test]
fn a_running_node_and_what_is_no_data_folder_are_refused() {
    let cluster = Cluster::of(1).start();
    let finished = doctor(cluster.node("n1").data_dir(), &[]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("in use by process"), "{finished:?}");
    for dir in [cluster.folder(), &cluster.folder().join("nothing")] {
        let finished = doctor(dir, &["--json"]);
        assert_eq!((finished.code, &*finished.stdout), (Some(2), ""), "{finished:?}");
    }
    let inside = cluster.folder().join("n1/inside");
    let finished = doctor(cluster.node("n1").data_dir(), &["--repair", inside.to_str().unwrap()]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
}
