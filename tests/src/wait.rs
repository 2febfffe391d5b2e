use std::{
    fmt::Debug,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// How long something may take that should be quick, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

const ASK_EVERY: Duration = Duration::from_millis(20);

/// The present instant.
#[expect(clippy::disallowed_methods, reason = "real processes run in real time")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Asks again and again until the answer is true.
///
/// # Panics
/// If that does not come about `within` the time; `what` says what was waited for.
pub fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    eventually_some(what, within, || if holds() { Ok(()) } else { Err("it is not so yet") });
}

/// Asks again and again until there is an answer.
///
/// # Panics
/// If there is none `within` the time; the last reason is shown.
pub fn eventually_some<T, E: Debug>(
    what: &str,
    within: Duration,
    mut ask: impl FnMut() -> Result<T, E>,
) -> T {
    let deadline = now() + within;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(reason) if now() >= deadline => panic!("{what}: not within {within:?}: {reason:?}"),
            Err(_) => thread::sleep(ASK_EVERY),
        }
    }
}

/// Sends a signal to a process that a test started; whether it was there.
///
/// # Panics
/// If `pid` is no process id.
#[must_use]
pub fn signal(pid: u32, signal: Signal) -> bool {
    let raw = i32::try_from(pid).expect("process ids are small");
    let pid = Pid::from_raw(raw).expect("process ids are above 0");
    kill_process(pid, signal).is_ok()
}
