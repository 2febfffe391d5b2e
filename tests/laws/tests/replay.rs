//! Every law is kept by every file of its corpus.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use quorate_laws::LAWS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_file_of_the_corpus_keeps_its_law() {
    for (name, law) in LAWS {
        let folder = fuzz().join("corpus").join(name);
        for file in names(&folder) {
            let input = fs::read(folder.join(&file)).unwrap();
            let kept = catch_unwind(AssertUnwindSafe(|| law(&input)));
            assert!(kept.is_ok(), "tests/fuzz/corpus/{name}/{file} breaks the law {name}");
        }
    }
}

#[test]
fn every_law_has_a_target_and_a_corpus_and_there_are_no_others() {
    let laws: BTreeSet<_> = LAWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&fuzz().join("corpus")), laws);
    let targets = names(&fuzz().join("fuzz_targets"));
    let targets: BTreeSet<_> =
        targets.iter().map(|file| file.strip_suffix(".rs").unwrap().to_owned()).collect();
    assert_eq!(targets, laws);
    for (name, _) in LAWS {
        assert!(!names(&fuzz().join("corpus").join(name)).is_empty(), "{name} has no corpus");
    }
}

#[test]
fn the_corpus_has_messages_of_all_kinds() {
    let folder = fuzz().join("corpus/message");
    let kinds: BTreeSet<u8> = names(&folder)
        .iter()
        .map(|file| Bytes::from(fs::read(folder.join(file)).unwrap()))
        .filter(|bytes| {
            quorate_transport::decode_message(bytes, quorate_transport::Protocol::NEWEST).is_ok()
        })
        .map(|bytes| bytes[0])
        .collect();
    let requests = (1..=8).chain([0x10, 0x11, 0x20, 0x21]);
    let answers = requests.clone().map(|kind| 0x80 | kind);
    let uncounted = 0xa2;
    assert_eq!(kinds, requests.chain(answers).chain([uncounted, 0xff]).collect());
}
