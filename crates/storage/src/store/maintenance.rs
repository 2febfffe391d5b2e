//! Compaction in the background, with regard to those who wait for the disk.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Core;
use super::compaction::{Step, Waste};

/// How much is looked at in one go. Whoever writes meanwhile waits for the frames of one go at most.
const STEP_BYTES: u64 = 32 << 10;

/// How long to wait when nothing is to do.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long to wait for the disk.
const WAIT: Duration = Duration::from_micros(500);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Without a write for so long, nobody is in the way of tidying up further.
const QUIET_AFTER: Duration = Duration::from_secs(2);

/// Runs until it is dropped.
pub(crate) struct Maintenance {
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Bell {
    stop: Mutex<bool>,
    rung: Condvar,
}

impl Maintenance {
    pub(crate) fn start(core: Arc<Core>) -> io::Result<Self> {
        let bell = Arc::new(Bell::default());
        let heard = bell.clone();
        let thread = std::thread::Builder::new().name("store-compact".into());
        let thread = thread.spawn(move || run(&core, &heard))?;
        Ok(Self { bell, thread: Some(thread) })
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        *self.bell.stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.rung.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic has been shown already, and dropping must not add another.
            let _ = thread.join();
        }
    }
}

impl Bell {
    /// Waits so long, and says whether to go on.
    fn wait(&self, span: Duration) -> bool {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.rung.wait_timeout_while(stop, span, |stop| !*stop);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Core {
    /// How many bytes were written since the store was opened, but for what was only moved.
    fn written_bytes(&self) -> u64 {
        self.shards.account().logged_bytes.saturating_sub(self.shards.moves.written_bytes())
    }

    /// How much longer than it works compaction is to rest.
    fn patience(&self, quiet: bool) -> u32 {
        let percent = Waste::of(self).percent();
        match self.options.compact_at_percent {
            _ if quiet => 1,
            limit if percent < limit + limit / 6 => 7,
            // Whoever writes faster than this gives back would fill the disk.
            _ => 0,
        }
    }
}

fn run(core: &Core, bell: &Bell) {
    let (mut written, mut quiet_since) = (0, now());
    let mut pause = Duration::ZERO;
    while bell.wait(pause) {
        let began = now();
        if core.written_bytes() != written {
            (written, quiet_since) = (core.written_bytes(), began);
        }
        let quiet = began.duration_since(quiet_since) >= QUIET_AFTER;
        pause = match core.compact(STEP_BYTES, quiet) {
            Ok(Step::Idle) => LOOK_EVERY,
            Ok(Step::Waiting) => WAIT,
            // The rest of the time the disk and the processor are others'.
            Ok(Step::Moved { .. }) => now().duration_since(began) * core.patience(quiet),
            Ok(Step::Released { .. } | Step::Kept { .. }) => Duration::ZERO,
            Err(_) => RETRY,
        };
    }
}

#[expect(clippy::disallowed_methods, reason = "this thread is its own driver")]
fn now() -> Instant {
    Instant::now()
}
