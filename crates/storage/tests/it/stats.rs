//! Counters are there at any time, whatever the disk is doing.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak, mpsc};
use std::time::Duration;

use quorate_storage::Log;
use quorate_storage::fault::FaultFs;
use quorate_storage::fs::{File, Fs};

use crate::scene::{DIR, append, small};

/// A file system that has the log's counters read, by another thread, during each change of a name.
#[derive(Default)]
struct Watched {
    files: FaultFs,
    log: OnceLock<Weak<Log>>,
}

impl Watched {
    fn read_counters(&self) {
        let Some(log) = self.log.get().and_then(Weak::upgrade) else { return };
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || sender.send(log.stats().segments));
        let segments = receiver.recv_timeout(Duration::from_secs(20));
        assert!(segments.expect("the counters wait for the disk") > 0);
    }
}

impl Fs for Watched {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.files.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.files.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.read_counters();
        self.files.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.read_counters();
        self.files.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.files.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.read_counters();
        self.files.sync_dir(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.files.create_dir_all(dir)
    }
}

#[test]
fn counters_can_be_read_while_files_are_given_up() {
    let fs = Arc::new(Watched::default());
    let (log, _) = Log::open(fs.clone(), DIR.as_ref(), &small(), |_| {}, |_| {}).unwrap();
    let log = Arc::new(log);
    append(&log, 1..=105);
    assert_eq!(log.stats().segments, 3);
    fs.log.set(Arc::downgrade(&log)).unwrap();
    log.recycle_below(105).unwrap();
    assert_eq!(log.stats().segments, 1);
}
