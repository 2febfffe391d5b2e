use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use quorate_tests::{Cluster, PATIENCE, eventually};

/// A file system in memory that is soon full.
struct SmallDisk {
    folder: PathBuf,
    _parent: tempfile::TempDir,
}

impl SmallDisk {
    /// A disk of so many megabytes; the reason if this user may not mount one.
    fn mount(megabytes: u32) -> Result<Self, String> {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("disk");
        fs::create_dir(&folder).unwrap();
        let size = format!("size={megabytes}m");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(&folder)
            .output()
            .map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        output.status.success().then_some(Self { folder, _parent: parent }).ok_or(said)
    }

    fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.folder).status());
    }
}

#[test]
fn p8_a_full_disk_refuses_writes_goes_on_reading_and_recovers_by_itself() {
    let disk = match SmallDisk::mount(48) {
        Ok(disk) => disk,
        Err(reason) => {
            eprintln!("SKIPPED: a small disk cannot be mounted here ({reason})");
            return;
        }
    };
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 20 << 20]).unwrap();
    let cluster = Cluster::of(1).folder(disk.path()).start();
    let node = cluster.node("n1");

    let value = vec![7; 1 << 20];
    let mut acked = 0;
    let refused = loop {
        let reply = node.put(format!("key-{acked}"), &value);
        if reply.status != 204 {
            break reply.expect_status(503);
        }
        acked += 1;
        assert!(acked < 48, "more was acknowledged than there is room for");
    };
    assert!(refused.text().contains("disk is full"), "{}", refused.text());
    assert!(acked > 0);
    let all_readable = || {
        for i in 0..acked {
            assert!(node.get(format!("key-{i}")).expect_status(200).body == value, "key-{i}");
        }
    };
    all_readable();

    fs::remove_file(&ballast).unwrap();
    eventually("writes work again", PATIENCE, || node.put("after", "x").status == 204);
    node.put("more", &value).expect_status(204);
    all_readable();
}
