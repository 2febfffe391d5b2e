//! Reads all records now and then, to find what the disk has lost while nobody asked for it.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quorate_storage::{RealFs, ScrubNote, ScrubPosition, Scrubbed};
use serde_json::{Value, json};

use crate::{clock::now, driver::Driver};

/// How much is read at a time.
const STEP_BYTES: u64 = 256 << 10;
/// A pass reads at least so much a second, so that a small store is not read for days.
const LEAST_BYTES_PER_S: u64 = 1 << 20;
/// How long to wait where there is nothing to do, or something else comes first.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long to wait when the files cannot be read.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// How often the place is noted down.
const NOTE_EVERY: Duration = Duration::from_secs(60);

/// When to scrub, and how far that has come.
pub(crate) struct Scrub {
    interval: Option<Duration>,
    data_dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the present pass began, or the last one if none is under way.
    began_ms: u64,
    /// Where to go on; `None` if no pass is under way.
    position: Option<ScrubPosition>,
    passes: u64,
    records: u64,
    bytes: u64,
    damaged: u64,
}

impl State {
    fn note(&self) -> ScrubNote {
        ScrubNote { began_ms: self.began_ms, at: self.position.map(|position| position.token()) }
    }
}

impl Scrub {
    /// One that goes on where the last process left off; `None` never does anything.
    pub(crate) fn new(interval: Option<Duration>, data_dir: PathBuf) -> Self {
        let note = ScrubNote::read(&RealFs, &data_dir).unwrap_or_default();
        let position = note.at.map(ScrubPosition::at);
        let state = State { began_ms: note.began_ms, position, ..State::default() };
        let state = Mutex::new(state);
        Self { interval, data_dir, state }
    }

    /// What `/debug/persist` says about it.
    pub(crate) fn page(&self) -> Value {
        let state = self.lock();
        let ScrubNote { began_ms, at } = state.note();
        let progress = at.map(share);
        json!({
            "interval_s": self.interval.map_or(0, |interval| interval.as_secs()),
            "running": progress.is_some(),
            "progress": progress,
            "last_began_unix_ms": began_ms,
            "passes": state.passes,
            "records": state.records,
            "bytes": state.bytes,
            "damaged": state.damaged,
        })
    }

    /// Scrubs for ever.
    pub(crate) async fn run(self: Arc<Self>, driver: Arc<Driver>) {
        let Some(interval) = self.interval else { return };
        let mut noted = now().instant;
        loop {
            let pressed = driver.look(|node| node.is_pressed(now().instant));
            if pressed || !self.begin_if_due(interval) {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            let wait = match self.step(&driver).await {
                Ok(scrubbed) => {
                    if scrubbed.damaged > 0 {
                        driver.report_damage(None);
                    }
                    pause(scrubbed.bytes, driver.local.store.stats().live_bytes, interval)
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot read the records to see whether they are whole");
                    RETRY_AFTER
                }
            };
            let has_ended = self.lock().position.is_none();
            if has_ended || now().instant.duration_since(noted) >= NOTE_EVERY {
                noted = now().instant;
                self.write_note().await;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Whether a pass is under way, or one has begun just now.
    fn begin_if_due(&self, interval: Duration) -> bool {
        let mut state = self.lock();
        if is_due(&state.note(), interval, now().wall_ms) {
            state.began_ms = now().wall_ms;
            state.position = Some(ScrubPosition::at(0));
        }
        state.position.is_some()
    }

    async fn step(&self, driver: &Arc<Driver>) -> Result<Scrubbed, String> {
        let from = self.lock().position;
        let there = Arc::clone(driver);
        let read = tokio::task::spawn_blocking(move || there.local.store.scrub(from, STEP_BYTES));
        let read = read.await.map_err(|error| error.to_string())?;
        let scrubbed = read.map_err(|error| error.to_string())?;
        let mut state = self.lock();
        state.position = scrubbed.next;
        state.passes += u64::from(scrubbed.next.is_none());
        state.records += scrubbed.records;
        state.bytes += scrubbed.bytes;
        state.damaged += scrubbed.damaged;
        Ok(scrubbed)
    }

    async fn write_note(self: &Arc<Self>) {
        let scrub = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || {
            let note = scrub.lock().note();
            note.write(&RealFs, &scrub.data_dir)
        });
        if let Err(error) = written.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            tracing::warn!(%error, "cannot note how far scrubbing has come");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the last pass has ended and began so long ago, or at a time that is yet to come, by a
/// clock that was wrong.
fn is_due(note: &ScrubNote, interval: Duration, wall_ms: u64) -> bool {
    let passed = wall_ms.checked_sub(note.began_ms).map(Duration::from_millis);
    note.at.is_none() && passed.is_none_or(|passed| passed >= interval)
}

/// How long to wait after so many bytes, so that a pass takes half of the interval, or less.
fn pause(bytes: u64, live_bytes: u64, interval: Duration) -> Duration {
    let in_half = 2 * u128::from(live_bytes) * 1_000 / interval.as_millis().max(1);
    let bytes_per_s = in_half.max(u128::from(LEAST_BYTES_PER_S));
    let nanos = u128::from(bytes) * 1_000_000_000 / bytes_per_s;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(LOOK_EVERY)
}

/// Which part of all tokens lies before this one.
fn share(token: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "it is shown with three digits")]
    let share = (token >> 11) as f64 / (1_u64 << 53) as f64;
    (share * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: Duration = Duration::from_secs(604_800);

    #[test]
    fn a_pass_is_due_when_there_was_none_for_so_long() {
        let ended = |began_ms| ScrubNote { began_ms, at: None };
        assert!(is_due(&ScrubNote::default(), WEEK, 1_700_000_000_000));
        assert!(!is_due(&ended(1_000), WEEK, 1_000 + 604_799_999));
        assert!(is_due(&ended(1_000), WEEK, 1_000 + 604_800_000));
        assert!(is_due(&ended(1_000), WEEK, 999), "the clock was wrong then, or is now");
        let under_way = ScrubNote { began_ms: 0, at: Some(7) };
        assert!(!is_due(&under_way, WEEK, 1_700_000_000_000));
    }

    #[test]
    fn a_pass_takes_half_of_the_interval_at_the_most() {
        let step = |live_bytes, interval| pause(256 << 10, live_bytes, interval);
        assert_eq!(step(0, WEEK), Duration::from_millis(250));
        assert_eq!(step(1 << 30, WEEK), Duration::from_millis(250), "a mebibyte a second");
        let steps = 1_u32 << 12; // of a gibibyte
        let hour = Duration::from_secs(3_600);
        assert!(step(1 << 34, hour) * steps * 16 <= hour / 2 + LOOK_EVERY);
        assert!(step(1 << 34, hour) * steps * 16 >= hour / 3);
        assert_eq!(pause(u64::MAX, 0, WEEK), LOOK_EVERY, "one huge record is no reason to rest");
    }
}
