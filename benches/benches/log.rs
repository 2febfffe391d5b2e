//! How near does the log come to what the disk gives, and how does it compare with published logs?
//!
//! Records of 100 bytes, on files in the target folder. Under `cargo bench` a table of ratios follows: every figure is
//! the median over rounds in which the bare probe and all candidates ran one right after the other, because the
//! cost of a sync drifts by a factor of several within minutes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use okaywal::{Entry, EntryId, LogManager, SegmentReader, WriteAheadLog};
use quorate_storage::{Log, LogOptions, RealFs, SyncPolicy};
use tempfile::TempDir;

const RECORD: [u8; 100] = [0x5a; 100];
const WRITERS: [usize; 3] = [1, 16, 64];
const IN_FLIGHT: [u64; 2] = [64, 512];
const ROUNDS: usize = 7;
/// More, because one thread and the writer hand over to each other, which other work on the machine disturbs most.
const IN_FLIGHT_ROUNDS: usize = 21;
const ROUND: Duration = Duration::from_millis(200);
const REPLAYED: u64 = 2_000_000;
const PEER_REPLAYED: u64 = 20_000;

type RaftEngine = raft_engine::Engine;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(10)
        .configure_from_args();
    single(&mut criterion);
    criterion.final_summary();
    // Cargo passes this for `cargo bench` only; a test run has no use for ratios.
    if std::env::args().any(|argument| argument == "--bench") {
        print_synced();
        print_unsynced();
        print_replay();
    }
}

/// One record after the other, as criterion counts.
fn single(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Elements(1));
    for (name, sync) in [("append_synced", SyncPolicy::Always), ("append_unsynced", SyncPolicy::Os)]
    {
        let (_dir, bench) = Ours::open(sync);
        group.bench_function(name, |b| b.iter(|| bench.log.append(1, &RECORD).expect("append")));
    }
    group.finish();
}

/// Our log, with a way to sleep until one of several records in flight is done.
struct Ours {
    log: Log,
    settled: Arc<AtomicU64>,
    sleeper: Arc<Sleeper>,
}

#[derive(Default)]
struct Sleeper {
    thread: std::sync::Mutex<Option<std::thread::Thread>>,
}

impl Ours {
    fn open(sync: SyncPolicy) -> (TempDir, Self) {
        let dir = folder();
        let settled = Arc::new(AtomicU64::new(0));
        let sleeper = Arc::new(Sleeper::default());
        let (news, wake) = (settled.clone(), sleeper.clone());
        let on_progress = move |progress: quorate_storage::Progress<'_>| {
            let last = *progress.tickets().end();
            progress.outcome.expect("append");
            news.store(last, Ordering::Release);
            if let Some(thread) = &*wake.thread.lock().expect("no panic under the lock") {
                thread.unpark();
            }
        };
        let options = LogOptions { sync, ..LogOptions::default() };
        let (log, _) =
            Log::open(Arc::new(RealFs), dir.path(), &options, on_progress, |_| {}).expect("open");
        (dir, Self { log, settled, sleeper })
    }

    /// Records a second, and syncs a second, by `writers` threads that each wait for their own.
    fn blocking(&self, writers: usize) -> (f64, f64) {
        let before = self.log.stats();
        let seconds = in_threads(writers, |_| _ = self.log.append(1, &RECORD).expect("append"));
        let after = self.log.stats();
        self.recycle();
        (
            (after.last_seq - before.last_seq) as f64 / seconds,
            (after.syncs - before.syncs) as f64 / seconds,
        )
    }

    /// The same by one thread that keeps `in_flight` records under way.
    fn in_flight(&self, in_flight: u64) -> (f64, f64) {
        *self.sleeper.thread.lock().expect("no panic under the lock") =
            Some(std::thread::current());
        let before = self.log.stats();
        let mut submitted = self.settled.load(Ordering::Acquire);
        let seconds = for_a_round(|| {
            while submitted - self.settled.load(Ordering::Acquire) >= in_flight {
                std::thread::park();
            }
            submitted = self.log.submit(1, &RECORD).expect("submit").0;
        });
        let after = self.log.stats();
        while self.settled.load(Ordering::Acquire) < submitted {
            std::thread::park();
        }
        *self.sleeper.thread.lock().expect("no panic under the lock") = None;
        self.recycle();
        (
            (after.last_seq - before.last_seq) as f64 / seconds,
            (after.syncs - before.syncs) as f64 / seconds,
        )
    }

    fn recycle(&self) {
        self.log.recycle_below(self.log.durable_seq()).expect("recycle");
    }
}

fn print_synced() {
    println!(
        "\nSynced records of {} bytes; medians of {ROUNDS} to {IN_FLIGHT_ROUNDS} rounds of {ROUND:?}",
        RECORD.len()
    );
    println!(
        "(bare: one thread that writes 128 bytes to prepared blocks and syncs them, again and again)\n"
    );
    println!(
        "who                  records/s  per bare sync  syncs per bare sync  raft-engine  okaywal"
    );
    let probe = Probe::new();
    let (_ours_dir, ours) = Ours::open(SyncPolicy::Always);
    let (_raft_dir, raft) = open_raft_engine();
    let (_okay_dir, okay) = open_okaywal();
    for writers in WRITERS {
        let rounds: Vec<[f64; 5]> = (0..ROUNDS)
            .map(|_| {
                let before = probe.run();
                let (records, syncs) = ours.blocking(writers);
                let bare = (before + probe.run()) / 2.0;
                [
                    bare,
                    records,
                    syncs,
                    raft_engine_blocking(&raft, writers, true),
                    okaywal_blocking(&okay, writers),
                ]
            })
            .collect();
        row(&format!("{writers} blocking"), &rounds, true);
    }
    for in_flight in IN_FLIGHT {
        let rounds: Vec<[f64; 5]> = (0..IN_FLIGHT_ROUNDS)
            .map(|_| {
                let before = probe.run();
                let (records, syncs) = ours.in_flight(in_flight);
                [(before + probe.run()) / 2.0, records, syncs, f64::NAN, f64::NAN]
            })
            .collect();
        row(&format!("{in_flight} in flight"), &rounds, false);
    }
}

/// One line: medians of ratios within rounds of `[bare, records, syncs, raft-engine, okaywal]`.
fn row(who: &str, rounds: &[[f64; 5]], peers: bool) {
    let median_of = |figure: fn(&[f64; 5]) -> f64| median(rounds.iter().map(figure));
    let (records, to_bare) = (median_of(|r| r[1]), median_of(|r| r[1] / r[0]));
    let syncs = median_of(|r| r[2] / r[0]);
    print!("{who:<18} {records:>11.0}  {to_bare:>12.1}x  {syncs:>18.2}x");
    if peers {
        println!("  {:>10.2}x  {:>6.2}x", median_of(|r| r[1] / r[3]), median_of(|r| r[1] / r[4]));
    } else {
        println!("  {:>11}  {:>7}", "-", "-");
    }
}

fn print_unsynced() {
    println!("\nUnsynced records\n");
    println!("who                  records/s  raft-engine");
    let (_ours_dir, ours) = Ours::open(SyncPolicy::Os);
    let (_raft_dir, raft) = open_raft_engine();
    for writers in WRITERS {
        let rounds = (0..ROUNDS)
            .map(|_| (ours.blocking(writers).0, raft_engine_blocking(&raft, writers, false)));
        let rounds: Vec<(f64, f64)> = rounds.collect();
        let (records, ratio) =
            (median(rounds.iter().map(|r| r.0)), median(rounds.iter().map(|r| r.0 / r.1)));
        println!("{:<18} {records:>11.0}  {ratio:>10.2}x", format!("{writers} blocking"));
    }
    for in_flight in IN_FLIGHT {
        let records = median((0..ROUNDS).map(|_| ours.in_flight(in_flight).0));
        println!("{:<18} {records:>11.0}  {:>11}", format!("{in_flight} in flight"), "-");
    }
}

fn print_replay() {
    let (ours_dir, ours) = Ours::open(SyncPolicy::Os);
    for _ in 0..REPLAYED {
        while ours.log.submit(1, &RECORD).is_err() {
            std::thread::yield_now();
        }
    }
    drop(ours);
    let (peer_dir, peer) = open_okaywal();
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| (0..PEER_REPLAYED / 64).for_each(|_| okaywal_append(&peer)));
        }
    });
    peer.shutdown().expect("shut down");
    let rounds: Vec<(f64, f64)> = (0..ROUNDS)
        .map(|_| {
            let mut frames = 0;
            let ours = time(|| {
                let options = LogOptions::default();
                let replay = |frame: quorate_storage::Frame<'_>| {
                    frames += u64::from(frame.payload.len() == 100)
                };
                drop(
                    Log::open(Arc::new(RealFs), ours_dir.path(), &options, |_| {}, replay)
                        .expect("open"),
                );
            });
            assert_eq!(frames, REPLAYED);
            let seen = Arc::new(AtomicU64::new(0));
            let peer = time(|| {
                let manager = Counting { seen: seen.clone() };
                let wal = okaywal_config(peer_dir.path()).open(manager).expect("open");
                wal.shutdown().expect("shut down");
            });
            assert_eq!(seen.load(Ordering::Relaxed), PEER_REPLAYED / 64 * 64);
            (REPLAYED as f64 / ours, PEER_REPLAYED as f64 / peer)
        })
        .collect();
    println!(
        "\nReplay of {REPLAYED} records, opening and closing included; okaywal {PEER_REPLAYED}\n"
    );
    println!("records/s         okaywal");
    let (records, ratio) =
        (median(rounds.iter().map(|r| r.0)), median(rounds.iter().map(|r| r.0 / r.1)));
    println!("{records:>11.0}  {ratio:>10.2}x");
}

/// What the disk gives: small writes to blocks that were written before, each synced.
struct Probe {
    _dir: TempDir,
    file: File,
}

impl Probe {
    const BYTES: u64 = 16 << 20;

    fn new() -> Self {
        let dir = folder();
        let file = File::create(dir.path().join("probe")).expect("create");
        for offset in (0..Self::BYTES).step_by(1 << 20) {
            file.write_all_at(&[0; 1 << 20], offset).expect("write");
        }
        file.sync_all().expect("sync");
        Self { _dir: dir, file }
    }

    /// Syncs a second.
    fn run(&self) -> f64 {
        let mut count = 0;
        let seconds = for_a_round(|| {
            self.file.write_all_at(&[0x5a; 128], count * 128 % Self::BYTES).expect("write");
            self.file.sync_data().expect("sync");
            count += 1;
        });
        count as f64 / seconds
    }
}

fn open_raft_engine() -> (TempDir, RaftEngine) {
    let dir = folder();
    let path = dir.path().to_str().expect("a plain path").to_owned();
    let config = raft_engine::Config { dir: path, ..raft_engine::Config::default() };
    (dir, RaftEngine::open(config).expect("open"))
}

/// Records a second.
fn raft_engine_blocking(engine: &RaftEngine, writers: usize, sync: bool) -> f64 {
    let records = AtomicU64::new(0);
    let seconds = in_threads(writers, |writer| {
        let mut batch = raft_engine::LogBatch::with_capacity(1);
        batch.put(writer as u64, b"key".to_vec(), RECORD.to_vec()).expect("put");
        engine.write(&mut batch, sync).expect("write");
        records.fetch_add(1, Ordering::Relaxed);
    });
    records.into_inner() as f64 / seconds
}

fn okaywal_config(dir: &Path) -> okaywal::Configuration {
    // As the log beside it: segments of 32 MiB, and nothing else to do meanwhile.
    okaywal::Configuration::default_for(dir)
        .preallocate_bytes(32 << 20)
        .checkpoint_after_bytes(30 << 20)
}

fn open_okaywal() -> (TempDir, WriteAheadLog) {
    let dir = folder();
    let wal = okaywal_config(dir.path()).open(Counting { seen: Arc::default() }).expect("open");
    (dir, wal)
}

fn okaywal_append(wal: &WriteAheadLog) {
    let mut entry = wal.begin_entry().expect("begin");
    entry.write_chunk(&RECORD).expect("write");
    entry.commit().expect("commit");
}

/// Records a second.
fn okaywal_blocking(wal: &WriteAheadLog, writers: usize) -> f64 {
    let records = AtomicU64::new(0);
    let seconds = in_threads(writers, |_| {
        okaywal_append(wal);
        records.fetch_add(1, Ordering::Relaxed);
    });
    records.into_inner() as f64 / seconds
}

#[derive(Debug)]
struct Counting {
    seen: Arc<AtomicU64>,
}

impl LogManager for Counting {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        let chunks = entry.read_all_chunks()?.unwrap_or_default();
        self.seen.fetch_add(chunks.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn checkpoint_to(
        &mut self,
        _: EntryId,
        _: &mut SegmentReader,
        _: &WriteAheadLog,
    ) -> io::Result<()> {
        Ok(())
    }
}

/// A folder on the disk that holds the target folder: a temporary one may be in memory.
fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

/// Repeats `work` in so many threads for a round; returns the seconds that it took.
fn in_threads(threads: usize, work: impl Fn(usize) + Sync) -> f64 {
    time(|| {
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let work = &work;
                scope.spawn(move || for_a_round(|| work(thread)));
            }
        });
    })
}

/// Repeats `work` for a round; returns the seconds that it took.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn for_a_round(mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    while start.elapsed() < ROUND {
        work();
    }
    start.elapsed().as_secs_f64()
}

/// Seconds that `work` takes.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn time(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
