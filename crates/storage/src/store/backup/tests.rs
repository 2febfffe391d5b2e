use std::sync::Arc;
use std::time::Duration;

use quorate_record::{Key, Record, Timestamp, Version, Writer};

use super::*;
use crate::doctor;
use crate::fault::{Crash, Fault, FaultFs, FaultKind};
use crate::log::{Drive, LogOptions};
use crate::store::StoreOptions;

const TO: &str = "/backups/monday";

fn token(key: &[u8]) -> u64 {
    key.iter().fold(7, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    })
}

fn options() -> StoreOptions {
    let log = LogOptions {
        drive: Drive::Manual,
        segment_bytes: 16 << 10,
        max_payload_bytes: 4 << 10,
        ..LogOptions::default()
    };
    StoreOptions { log, ..StoreOptions::new(token) }
}

fn open(fs: &FaultFs, dir: &str) -> Store {
    let fs = Arc::new(fs.clone());
    let (store, found) = Store::open(fs, dir.as_ref(), &options(), Box::new(|| {})).unwrap();
    assert_eq!((found.corrupt_frames(), found.truncated_bytes, found.lost_records), (0, 0, 0));
    store
}

fn key(i: u64) -> Key {
    Key::new(format!("key-{i}")).unwrap()
}

fn put(store: &Store, i: u64, round: u64) {
    let writer = Writer { node: NodeId::new("n1").unwrap(), incarnation: 5 };
    let version = Version { timestamp: Timestamp::from_wall_ms(round * 1000 + i), writer };
    let record = Record::live(version, format!("{round}-{}", "x".repeat(500)));
    store.apply(i, key(i), record).unwrap();
    store.turn(Duration::ZERO);
}

fn rounds(store: &Store) -> Vec<u8> {
    let value = |i| store.get(&key(i)).unwrap().unwrap().value.unwrap()[0];
    (0..60).map(value).collect()
}

fn meta() -> Meta {
    Meta { node: NodeId::new("n1").unwrap(), cluster: 9, incarnation: 5 }
}

/// A store of several segments with gaps between them and a snapshot.
fn filled() -> (FaultFs, Store) {
    let fs = FaultFs::new();
    let store = open(&fs, "/data");
    for round in 1..=3 {
        (0..60).for_each(|i| put(&store, i, round));
        if round == 2 {
            store.snapshot().unwrap();
        }
    }
    while !matches!(store.compact(1 << 20).unwrap(), super::super::Step::Idle) {
        store.turn(Duration::ZERO);
    }
    (fs, store)
}

fn restored(fs: &FaultFs) -> Result<Restored, BackupError> {
    restore(fs, TO.as_ref(), fs, "/new".as_ref(), None, 77, &mut |_, _| {})
}

#[test]
fn a_backup_has_what_was_durable_when_it_was_made_and_nothing_later() {
    let (fs, store) = filled();
    let info = store.backup(TO.as_ref(), meta(), 1234).unwrap();
    assert!(info.files > 4 && info.bytes > 30_000, "{info:?}");
    (0..60).for_each(|i| put(&store, i, 4));
    while !matches!(store.compact(1 << 20).unwrap(), super::super::Step::Idle) {
        store.turn(Duration::ZERO);
    }
    assert_eq!(rounds(&store), [b'4'; 60]);
    let fs = fs.crash(Crash::Nothing);
    let restored = restored(&fs).unwrap();
    assert_eq!((restored.taken_ms, restored.files), (1234, info.files));
    assert_eq!((restored.meta.node, restored.meta.cluster), (meta().node, 9));
    assert!(restored.meta.incarnation > 5, "no version is issued twice");
    assert_eq!(rounds(&open(&fs, "/new")), [b'3'; 60]);
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let found = doctor::examine(&shared, "/new".as_ref(), token).unwrap();
    assert_eq!(found.problems, []);
    assert_eq!(rounds(&open(&fs, TO)), [b'3'; 60], "it is a store by itself");
}

#[test]
fn a_backup_of_an_empty_store_is_one_too() {
    let fs = FaultFs::new();
    open(&fs, "/data").backup(TO.as_ref(), meta(), 1).unwrap();
    restored(&fs).unwrap();
    assert_eq!(open(&fs, "/new").stats().keys, 0);
}

#[test]
fn a_backup_that_failed_or_was_cut_off_is_none_and_the_store_goes_on() {
    let (fs, store) = filled();
    drop(store);
    let count = {
        let fs = fs.fork();
        let store = open(&fs, "/data");
        let before = fs.operations();
        store.backup(TO.as_ref(), meta(), 1).unwrap();
        before..fs.operations()
    };
    for at in count.step_by(3) {
        let fs = fs.fork();
        let store = open(&fs, "/data");
        fs.set_fault(Some(Fault { at, kind: FaultKind::Io, sticky: true, seed: 0 }));
        let outcome = store.backup(TO.as_ref(), meta(), 1);
        fs.set_fault(None);
        for crash in [Crash::Nothing, Crash::Everything, Crash::Random(at)] {
            let after = fs.crash(crash);
            match restored(&after) {
                Ok(_) => assert_eq!(rounds(&open(&after, "/new")), [b'3'; 60]),
                Err(BackupError::NoBackup(_)) => assert!(outcome.is_err(), "{at}"),
                Err(error) => panic!("{at}: {error}"),
            }
            assert_eq!(rounds(&open(&after, "/data")), [b'3'; 60]);
        }
    }
}

#[test]
fn damage_is_found_before_anything_is_written() {
    let (fs, store) = filled();
    store.backup(TO.as_ref(), meta(), 1).unwrap();
    for folder in ["", "log", "snapshot"] {
        let dir = Path::new(TO).join(folder);
        for name in fs.list(&dir).unwrap() {
            let path = dir.join(name);
            let used = fs.contents(&path).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
            for at in [0, used / 2, used] {
                let fs = fs.fork();
                fs.tamper(&path, |bytes| bytes[at] ^= 1).unwrap();
                assert!(restored(&fs).is_err(), "{} at {at}", path.display());
                fs.tamper(&path, |bytes| bytes.truncate(at)).unwrap();
                assert!(restored(&fs).is_err(), "{} cut at {at}", path.display());
                assert!(fs.list("/new".as_ref()).is_err(), "nothing was written");
            }
            let fs = fs.fork();
            fs.remove(&path).unwrap();
            assert!(restored(&fs).is_err(), "{}", path.display());
        }
    }
}

#[test]
fn a_folder_with_something_in_it_is_refused() {
    let (fs, store) = filled();
    store.backup(TO.as_ref(), meta(), 1).unwrap();
    let again = store.backup(TO.as_ref(), meta(), 1).unwrap_err();
    assert!(matches!(again, BackupError::NotEmpty(_)), "{again}");
    restored(&fs).unwrap();
    let again = restored(&fs).unwrap_err();
    assert!(matches!(again, BackupError::NotEmpty(_)), "{again}");
}

#[test]
fn the_manifest_is_frozen_and_names_no_file_elsewhere() {
    let listed = |name: &str| Listed { name: name.into(), used_bytes: 3, file_bytes: 16, crc: 7 };
    let manifest =
        |name| Manifest { meta: meta(), seq: 8, taken_ms: 17, files: vec![listed(name)] };
    let text = manifest("log/newest").encode();
    let expected = "quorate backup 1\nnode n1\ncluster 0000000000000009\n\
        incarnation 0000000000000005\nseq 0000000000000008\ntaken 0000000000000011\n\
        file 0000000000000010 0000000000000003 00000007 log/newest\ncrc32 ";
    assert!(text.starts_with(expected), "{text}");
    for name in ["/etc/passwd", "../meta", "log/../x", "log/..", "meta", "hints/a/b"] {
        let fs = FaultFs::new();
        create_dir_durably(&fs, TO.as_ref()).unwrap();
        manifest(name).write(&fs, TO.as_ref()).unwrap();
        let error = Manifest::read(&fs, TO.as_ref()).err().unwrap();
        assert!(matches!(error, BackupError::Damaged { .. }), "{name}: {error}");
    }
}
