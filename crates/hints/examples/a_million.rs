//! How much a million hints for one target cost, and whether those for another wait behind them.
//!
//! `cargo run --release -p quorate-hints --example a_million [HINTS]`

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use quorate_hints::{Handed, HintAction, HintBook, HintOptions, Offer};
use quorate_record::{Hint, HintKind, Key, NodeId, Record, Timestamp, Version, Writer};
use quorate_storage::{HintLog, HintLogOptions, RealFs};

/// How many hints are offered at once.
const AT_ONCE: u64 = 1000;

#[expect(clippy::disallowed_methods, reason = "a driver owns the clock")]
fn now() -> Instant {
    Instant::now()
}

/// A book, its log, and targets that take whatever comes as soon as it is sent.
struct Desk {
    book: HintBook,
    log: HintLog,
    rung: Arc<(Mutex<bool>, Condvar)>,
    batches: Vec<(NodeId, u64, usize)>,
    refused: u64,
}

impl Desk {
    fn open(dir: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let rung = Arc::new((Mutex::new(false), Condvar::new()));
        let bell = rung.clone();
        let ring = move || {
            if let Ok(mut rung) = bell.0.lock() {
                *rung = true;
            }
            bell.1.notify_one();
        };
        let options = HintLogOptions::default();
        let (log, _) = HintLog::open(Arc::new(RealFs), dir, &options, Box::new(ring))?;
        let mut book = HintBook::new(HintOptions::default());
        book.restore(&log.summary(), now(), 0);
        Ok(Self { book, log, rung, batches: Vec::new(), refused: 0 })
    }

    /// Carries out what the book wants, but for deliveries.
    fn drive(&mut self) {
        while let Some(action) = self.book.poll_action() {
            match action {
                HintAction::LookUp { id, target, key } => {
                    self.book.looked_up(id, self.log.get(target, &key).map_err(drop));
                }
                HintAction::Persist { id, hint } => {
                    if self.log.add(id, &hint).is_err() {
                        self.book.persisted(id, false, now());
                    }
                }
                HintAction::Answer { answer, .. } => {
                    self.refused += u64::from(matches!(answer, Offer::Refused(_)));
                }
                HintAction::Read { target, batch, after, max_hints, max_bytes } => {
                    let found = self.log.next(target, after, max_hints, max_bytes);
                    self.book.read(batch, found.ok(), now());
                }
                HintAction::Sweep { after, added_until_ms, max_hints } => {
                    let found = self.log.courtesies(after, added_until_ms, max_hints);
                    self.book.swept(found.ok(), now());
                }
                HintAction::Deliver { target, batch, hints } => {
                    self.batches.push((target, batch, hints.len()));
                }
                HintAction::Forget { target, key, version } => {
                    self.log.remove(target, &key, version);
                }
                HintAction::Dropped { .. } => {}
            }
        }
    }

    /// Waits for the log, and reports what it has done.
    fn settle(&mut self) {
        {
            let (lock, bell) = &*self.rung;
            let Ok(rung) = lock.lock() else { return };
            let patience = Duration::from_millis(100);
            if let Ok((mut rung, _)) = bell.wait_timeout_while(rung, patience, |rung| !*rung) {
                *rung = false;
            }
        }
        let mut done = Vec::new();
        self.log.take_completions(&mut done);
        for completion in done {
            self.book.persisted(completion.id, completion.outcome.is_ok(), now());
        }
        self.drive();
    }

    /// Offers hints and waits until they are durable.
    fn keep(&mut self, hints: impl Iterator<Item = Hint>) {
        for hint in hints {
            self.book.offer(hint, now());
        }
        self.drive();
        while self.book.stats(0).pending_bytes > 0 {
            self.settle();
        }
    }

    /// Lets the targets take the batches that were sent to them, and time pass.
    fn deliver(&mut self) {
        let batches = std::mem::take(&mut self.batches);
        for &(_, batch, len) in &batches {
            self.book.delivered(batch, &vec![Handed::Taken; len], now());
        }
        if self.book.next_wake().is_some_and(|at| at <= now()) {
            self.book.tick(now(), 0);
        }
        self.drive();
    }

    fn count(&self, target: NodeId) -> u64 {
        let mut targets = self.book.targets(0);
        targets.find(|stats| stats.target == target).map_or(0, |stats| stats.count)
    }
}

fn hint(target: NodeId, number: u64) -> Result<Hint, Box<dyn std::error::Error>> {
    let writer = Writer { node: NodeId::new("n1")?, incarnation: 1 };
    let version = Version { timestamp: Timestamp::from_wall_ms(1_000_000 + number), writer };
    Ok(Hint {
        target,
        key: Key::new(format!("user{number:012}"))?,
        record: Record::live(version, vec![7; 100]),
        kind: HintKind::Courtesy,
        added_ms: 1_000_000 + number,
    })
}

/// What of this process is in memory and its own.
fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

fn disk_mib(dir: &Path) -> Result<u64, std::io::Error> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes >> 20)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let most = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse::<u64>())?;
    let (dead, alive) = (NodeId::new("n2")?, NodeId::new("n3")?);
    let dir = tempfile::tempdir()?;
    let mut desk = Desk::open(dir.path())?;
    desk.keep(
        (0..AT_ONCE).map(|number| hint(dead, number)).collect::<Result<Vec<_>, _>>()?.into_iter(),
    );
    let (before_kib, start) = (memory_kib(), now());
    for from in (AT_ONCE..most).step_by(usize::try_from(AT_ONCE)?) {
        let hints = (from..from + AT_ONCE).map(|number| hint(dead, number));
        desk.keep(hints.collect::<Result<Vec<_>, _>>()?.into_iter());
    }
    println!(
        "{} hints taken on in {:.1?}, {} refused: memory {} KiB more, {} MiB on disk",
        desk.count(dead),
        start.elapsed(),
        desk.refused,
        memory_kib().saturating_sub(before_kib),
        disk_mib(dir.path())?,
    );

    drop(desk);
    let start = now();
    let mut desk = Desk::open(dir.path())?;
    println!("opened again in {:.1?}: memory {} KiB", start.elapsed(), memory_kib());

    // Alone first, then while the backlog of the other target is delivered.
    desk.book.target_up(alive, now());
    let one = |desk: &mut Desk, number| -> Result<Duration, Box<dyn std::error::Error>> {
        let start = now();
        desk.book.offer(hint(alive, number)?, now());
        desk.drive();
        while desk.book.stats(0).pending_bytes > 0 {
            desk.settle();
        }
        while desk.count(alive) > 0 {
            desk.deliver();
        }
        Ok(start.elapsed())
    };
    let mut alone = (0..200).map(|number| one(&mut desk, number)).collect::<Result<Vec<_>, _>>()?;
    let (start, mut beside) = (now(), Vec::new());
    desk.book.target_up(dead, now());
    desk.drive();
    let mut maintained = start;
    while desk.count(dead) > 0 {
        desk.deliver();
        if beside.len() < 200 {
            beside.push(one(&mut desk, 1000 + beside.len() as u64)?);
        }
        if maintained.elapsed() > Duration::from_secs(1) {
            maintained = now();
            desk.log.maintain()?;
        }
    }
    let took = start.elapsed();
    alone.sort();
    beside.sort();
    println!(
        "delivered in {took:.1?}; one for another target, from the offer to its delivery: median \
         {:.1?}, meanwhile {:.1?}",
        alone[alone.len() / 2],
        beside[beside.len() / 2],
    );
    while desk.log.maintain()? {
        desk.settle();
    }
    desk.settle();
    desk.log.maintain()?;
    println!("at the end: memory {} KiB, {} MiB on disk", memory_kib(), disk_mib(dir.path())?);
    Ok(())
}
