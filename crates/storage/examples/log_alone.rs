//! The log without the store: several threads append, and a second opening reads everything back.
//!
//! ```text
//! cargo run -p quorate-storage --example log_alone
//! ```

use std::error::Error;
use std::sync::Arc;

use quorate_storage::{Log, LogOptions, RealFs};

/// What kind of frame this is, is up to the log's user; 0 is taken.
const NOTE: u8 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let options = LogOptions::default();
    let (log, _) = Log::open(Arc::new(RealFs), dir.path(), &options, |_| {}, |_| {})?;
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let log = &log;
                scope.spawn(move || {
                    (0..50).try_for_each(|n| {
                        log.append(NOTE, note(writer, n).as_bytes()).map(|_seq| ())
                    })
                })
            })
            .collect();
        writers.into_iter().try_for_each(|writer| writer.join().expect("a writer does not panic"))
    })?;
    let stats = log.stats();
    println!(
        "{} notes, durable after {} syncs, in {} bytes",
        stats.durable_seq, stats.syncs, stats.bytes
    );
    drop(log);

    let mut last = String::new();
    let keep = |frame: quorate_storage::Frame<'_>| {
        last = String::from_utf8_lossy(frame.payload).into_owned()
    };
    let (_log, found) = Log::open(Arc::new(RealFs), dir.path(), &options, |_| {}, keep)?;
    println!("{} notes read back; the last is {last:?}", found.frames);
    if !found.damages.is_empty() {
        println!("damaged: {:?}", found.damages);
    }
    Ok(())
}

fn note(writer: u32, n: u32) -> String {
    format!("note {n} of writer {writer}")
}
