//! The store without a node: a few writes, a snapshot, and a second opening that finds everything.
//!
//! ```text
//! cargo run -p quorate-storage --example store_alone
//! ```

use std::collections::hash_map::DefaultHasher;
use std::error::Error;
use std::hash::Hasher;
use std::path::Path;
use std::sync::{Arc, mpsc};

use quorate_record::{Key, NodeId, Record, Timestamp, Version, Writer};
use quorate_storage::{Applied, RealFs, Store, StoreOptions, lock_dir};

/// Where a key lies in the token space. A cluster needs one that is the same everywhere and for ever.
fn token_of(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    hasher.finish()
}

fn open(dir: &Path) -> Result<(Store, mpsc::Receiver<()>), Box<dyn Error>> {
    let (progress, wake) = mpsc::channel();
    let on_progress = Box::new(move || {
        // The receiver is gone when nobody waits any more.
        let _ = progress.send(());
    });
    let (store, found) =
        Store::open(Arc::new(RealFs), dir, &StoreOptions::new(token_of), on_progress)?;
    println!(
        "{} records read, {} bytes torn, {} frames damaged",
        found.records,
        found.truncated_bytes,
        found.corrupt_frames()
    );
    Ok((store, wake))
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let _lock = lock_dir(dir.path())?;
    let (store, wake) = open(dir.path())?;
    let writer = Writer { node: NodeId::new("n1")?, incarnation: 1 };
    let version = |wall_ms| Version { timestamp: Timestamp::from_wall_ms(wall_ms), writer };

    let writes = [("cat", 1, "meow"), ("dog", 1, "woof"), ("cat", 3, "purr"), ("cat", 2, "hiss")];
    for (id, (key, wall_ms, value)) in (0..).zip(writes) {
        store.apply(id, Key::new(key)?, Record::live(version(wall_ms), value))?;
    }
    let mut done = Vec::new();
    while done.len() < writes.len() {
        wake.recv()?;
        store.take_completions(&mut done);
    }
    for completion in done {
        match completion.outcome? {
            Applied::Stored => println!("write {} is stored", completion.id),
            Applied::Below(least) => println!("write {} is below {least:?}", completion.id),
            Applied::Superseded(version) => {
                println!("write {} came after {version}", completion.id)
            }
        }
    }

    println!("cat: {:?}", store.get(&Key::new("cat")?)?.and_then(|record| record.value));
    let info = store.snapshot()?;
    println!("{} records in a snapshot of {} bytes", info.records, info.bytes);
    store.close()?;

    let (store, _wake) = open(dir.path())?;
    for (key, record) in store.scan(None, 10)?.records {
        println!("{key}: {:?}", record.value);
    }
    println!("digest of everything: {:?}", store.digest(0..=u64::MAX));
    Ok(())
}
