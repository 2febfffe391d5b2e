use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quorate_record::{Hint, HintKind, Key, NodeId, Record, Timestamp, Version, Writer};

use super::*;
use crate::fault::FaultFs;
use crate::segment::segment_path;

const DIR: &str = "/n1";

fn token(key: &[u8]) -> u64 {
    key.iter().fold(7, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    })
}

fn key(i: u64) -> Key {
    Key::new(format!("key-{i}")).unwrap()
}

fn record(i: u64) -> Record {
    let writer = Writer { node: NodeId::new("n1").unwrap(), incarnation: 5 };
    let version = Version { timestamp: Timestamp::from_wall_ms(1000 + i), writer };
    Record::live(version, format!("value-{i}"))
}

/// A node with forty records, half of them behind a snapshot, and ten hints.
fn stopped() -> FaultFs {
    let fs = FaultFs::new();
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let meta = Meta { node: NodeId::new("n1").unwrap(), cluster: 9, incarnation: 5 };
    Meta::open(&fs, DIR.as_ref(), meta).unwrap();
    let options = StoreOptions { log: manual_log(), ..StoreOptions::new(token) };
    let (store, _) = Store::open(shared.clone(), DIR.as_ref(), &options, Box::new(|| {})).unwrap();
    for i in 0..40 {
        store.apply(i, key(i), record(i)).unwrap();
        store.turn(Duration::ZERO);
        if i == 20 {
            store.snapshot().unwrap();
        }
    }
    store.reserve_clock(99, Timestamp::from_wall_ms(5000)).unwrap();
    store.turn(Duration::ZERO);
    drop(store);
    let dir = Path::new(DIR).join("hints");
    let (hints, _) = HintLog::open(shared, &dir, &manual_hints(), Box::new(|| {})).unwrap();
    for i in 0..10 {
        let target = NodeId::new("n2").unwrap();
        let hint =
            Hint { target, key: key(i), record: record(i), kind: HintKind::Owed, added_ms: 5 };
        hints.add(i, &hint).unwrap();
        hints.turn(Duration::ZERO);
    }
    fs
}

fn files(fs: &FaultFs) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for folder in ["", "log", "snapshot", "hints"] {
        let dir = Path::new(DIR).join(folder);
        for name in fs.list(&dir).unwrap_or_default() {
            let path = dir.join(name);
            files.push((path.clone(), fs.contents(&path).unwrap()));
        }
    }
    files
}

fn examined(fs: &FaultFs) -> Diagnosis {
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    examine(&shared, DIR.as_ref(), token).unwrap()
}

fn salvaged(fs: &FaultFs) -> (FaultFs, Salvaged) {
    let to = FaultFs::new();
    let (from, shared): (Arc<dyn Fs>, Arc<dyn Fs>) = (Arc::new(fs.clone()), Arc::new(to.clone()));
    let salvaged = salvage(&from, DIR.as_ref(), &shared, DIR.as_ref(), token, 77).unwrap();
    (to, salvaged)
}

fn kept(fs: &FaultFs) -> Vec<u64> {
    let options = StoreOptions { log: manual_log(), ..StoreOptions::new(token) };
    let fs = Arc::new(fs.clone());
    let (store, recovered) = Store::open(fs, DIR.as_ref(), &options, Box::new(|| {})).unwrap();
    assert_eq!(recovered.corrupt_frames() + recovered.truncated_bytes, 0);
    (0..40).filter(|i| store.get(&key(*i)).unwrap().is_some_and(|it| it == record(*i))).collect()
}

#[test]
fn a_sound_folder_has_no_problems_and_stays_as_it_is() {
    let fs = stopped();
    let (before, syncs) = (files(&fs), fs.syncs());
    let found = examined(&fs);
    assert_eq!(found.problems, []);
    assert_eq!((found.records, found.keys, found.hints), (40, 40, 10));
    assert_eq!(found.meta.unwrap().cluster, 9);
    let (to, salvaged) = salvaged(&fs);
    assert_eq!((salvaged.records, salvaged.keys, salvaged.hints), (40, 40, 10));
    assert!(salvaged.meta.unwrap().incarnation > 5, "no version is issued twice");
    assert_eq!(kept(&to).len(), 40);
    assert_eq!(examined(&to).problems, []);
    assert_eq!(examined(&to).hints, 10);
    assert!(files(&fs) == before && fs.syncs() == syncs);
}

/// Where anything was written: the rest are holes and zeros.
fn written(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len()).filter(|at| bytes[*at] != 0).collect()
}

#[test]
fn every_kind_of_file_is_found_damaged_and_what_is_left_is_salvaged() {
    let sound = stopped();
    let mut kinds = 0;
    for (path, bytes) in files(&sound) {
        let written = written(&bytes);
        let Some(last) = written.last() else { continue };
        kinds += 1;
        let mut damaged = Vec::new();
        for at in written.iter().step_by((written.len() / 6).max(1)).chain([last]) {
            let fs = sound.fork();
            fs.tamper(&path, |bytes| bytes[*at] ^= 0x10).unwrap();
            damaged.push((format!("byte {at} changed"), fs));
        }
        for len in [0, last / 2, last - 1] {
            let fs = sound.fork();
            fs.tamper(&path, |bytes| bytes.truncate(len)).unwrap();
            damaged.push((format!("cut to {len}"), fs));
        }
        for (how, fs) in damaged {
            let before = files(&fs);
            let found = examined(&fs);
            let problem = found.problems.iter().find(|problem| problem.file == path);
            assert!(problem.is_some(), "{}: {how}: {:?}", path.display(), found.problems);
            let (to, salvaged) = salvaged(&fs);
            assert_eq!(salvaged.meta.is_none(), path.ends_with("meta"), "{how}");
            assert_eq!(kept(&to).len() as u64, salvaged.keys);
            let is_log = path.parent().is_some_and(|dir| dir.ends_with("log"));
            let is_segment = is_log && path.extension().is_some();
            let least = if !is_segment {
                40
            } else if how.starts_with("byte") {
                39
            } else {
                0
            };
            assert!(salvaged.keys >= least, "{}: {how}: {salvaged:?}", path.display());
            assert!(files(&fs) == before, "{}: {how}", path.display());
        }
    }
    assert_eq!(kinds, 8, "meta, a snapshot, and three files of each log");
}

#[test]
fn a_missing_segment_is_found() {
    for folder in ["log", "hints"] {
        let fs = stopped();
        let path = segment_path(&Path::new(DIR).join(folder), 1);
        fs.remove(&path).unwrap();
        let found = examined(&fs);
        let problem = found.problems.iter().find(|it| it.file == path).unwrap();
        assert!(problem.what.contains("missing"), "{problem:?}");
        salvaged(&fs);
    }
}

#[test]
fn a_file_of_another_version_is_found_and_named() {
    let fs = stopped();
    let path = segment_path(&Path::new(DIR).join("log"), 1);
    fs.tamper(&path, |bytes| {
        bytes[8] = 99;
        let crc = crate::frame::checksum(0, &bytes[..40]).to_le_bytes();
        bytes[40..44].copy_from_slice(&crc);
    })
    .unwrap();
    let found = examined(&fs);
    assert!(found.problems.iter().any(|it| it.file == path && it.what.contains("99")), "{found:?}");
}

#[test]
fn what_is_no_data_folder_or_not_empty_is_refused() {
    let fs: Arc<dyn Fs> = Arc::new(FaultFs::new());
    fs.create_dir_all("/empty".as_ref()).unwrap();
    let error = examine(&fs, "/empty".as_ref(), token).unwrap_err();
    assert!(matches!(error, DoctorError::NotData(_)), "{error}");
    let from: Arc<dyn Fs> = Arc::new(stopped());
    let error = salvage(&from, DIR.as_ref(), &from, DIR.as_ref(), token, 1).unwrap_err();
    assert!(matches!(error, SalvageError::NotEmpty(_)), "{error}");
}
