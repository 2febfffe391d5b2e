use std::{
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quorate_client::{AddressError, ClientError};
use tokio::{
    sync::Semaphore,
    task::{JoinSet, spawn_blocking},
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    Operation, Pace, Phase, Plan, PlanError, Progress, Report,
    pace::Schedule,
    random::Random,
    session::Session,
    tally::{Failure, Outcome, Tally},
    workload::{Order, Orders, Values},
};

/// How often progress is told.
const TICK: Duration = Duration::from_millis(250);
/// How long a connection waits before it tries again to reach a node.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// How often a key that cannot be written is tried again before loading is given up.
const LOAD_ATTEMPTS: u32 = 5;
/// The pacer sleeps at least so long, and begins what became due meanwhile at once.
const SHORTEST_NAP: Duration = Duration::from_micros(50);
/// The same while so many wait for a connection that what becomes due makes no difference: at ten
/// times what a cluster can do, a pacer that wakes all the time takes half a core from it.
const NAP_WHILE_MANY_WAIT: Duration = Duration::from_millis(1);
/// More than connections that are free take up in such a nap.
const MANY_WAITING: usize = 1_000;
/// The pacer sleeps at most so long, so that it notices when nobody waits for it any more.
const LONGEST_NAP: Duration = Duration::from_millis(50);

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The plan makes no sense.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The address of a node makes no sense.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// No node can be reached.
    #[error("no node can be reached; the last one: {last}")]
    NobodyReached {
        /// What went wrong at the last of them.
        last: ClientError,
    },
    /// A key could not be written before the run.
    #[error("loading the keys: {kind}: {detail}")]
    Loading {
        /// What it would be counted as.
        kind: String,
        /// What the node or the client says.
        detail: String,
    },
    /// It was stopped before there was anything to report.
    #[error("stopped before anything was measured")]
    Stopped,
}

/// Carries out a plan on a tokio runtime, whose time must be enabled, and reports; ends early when
/// `stop` does.
///
/// A single thread is enough for most clusters; an open loop takes a second one, which sleeps
/// between arrivals. `on_progress` is called a few times a second, and must not block.
///
/// # Errors
/// [`LoadError`]. That operations fail is no error but part of the report.
pub async fn run(
    plan: &Plan,
    stop: impl Future<Output = ()>,
    mut on_progress: impl FnMut(&Progress),
) -> Result<Report, LoadError> {
    plan.check()?;
    let mut stop = pin!(stop);
    let mut sessions = open(plan).await?;
    if plan.load {
        sessions = tokio::select! {
            sessions = load(plan, sessions, &mut on_progress) => sessions?,
            () = &mut stop => return Err(LoadError::Stopped),
        };
    }
    let run = Arc::new(Run::new(plan, now()));
    let mut workers = JoinSet::new();
    for session in sessions {
        workers.spawn(work(Arc::clone(&run), session));
    }
    if run.due.is_some() {
        let run = Arc::downgrade(&run);
        spawn_blocking(move || pace(&run));
    }
    let stopped = tokio::select! {
        () = report_progress(&run, &mut on_progress) => false,
        () = &mut stop => true,
    };
    run.end(now());
    while workers.join_next().await.is_some() {}
    let mut state = run.state();
    if stopped && state.tally.measured().is_zero() {
        return Err(LoadError::Stopped);
    }
    Ok(Report::new(plan, stopped, &mut state.tally))
}

/// Opens all connections before anything is measured.
async fn open(plan: &Plan) -> Result<Vec<Session>, LoadError> {
    let nodes: Arc<[String]> = plan.nodes.clone().into();
    let mut opening = JoinSet::new();
    for i in 0..plan.connections {
        let mut session = Session::new(&nodes, i, &plan.workload.key_prefix, &plan.requests)?;
        let attempts = nodes.len();
        opening.spawn(async move {
            let mut last = None;
            for _ in 0..attempts {
                match session.open().await {
                    Ok(()) => return (session, None),
                    Err(error) => last = Some(error),
                }
            }
            (session, last)
        });
    }
    let (mut sessions, mut failed) = (Vec::new(), None);
    while let Some(opened) = opening.join_next().await {
        let (session, error) = opened.expect("opening a connection does not panic");
        sessions.push(session);
        failed = failed.or(error);
    }
    match failed {
        Some(last) if sessions.iter().all(Session::is_out_of_reach) => {
            Err(LoadError::NobodyReached { last })
        }
        _ => Ok(sessions),
    }
}

/// Writes every key once, and gives the sessions back.
async fn load(
    plan: &Plan,
    sessions: Vec<Session>,
    on_progress: &mut impl FnMut(&Progress),
) -> Result<Vec<Session>, LoadError> {
    let (begin, keys) = (now(), plan.workload.keys);
    let next = Arc::new(AtomicU64::new(0));
    let values = Arc::new(Values::new(&plan.workload));
    let mut writers = JoinSet::<Result<Session, LoadError>>::new();
    for (i, mut session) in (0u64..).zip(sessions) {
        let (next, values) = (Arc::clone(&next), Arc::clone(&values));
        let mut random = Random::new(plan.workload.seed ^ (i << 32));
        writers.spawn(async move {
            loop {
                let key = next.fetch_add(1, Ordering::Relaxed);
                if key >= keys {
                    return Ok(session);
                }
                write_patiently(&mut session, key, values.draw(&mut random)).await?;
            }
        });
    }
    let (mut sessions, mut ticks) = (Vec::new(), interval(TICK));
    loop {
        tokio::select! {
            written = writers.join_next() => match written {
                Some(session) => sessions.push(session.expect("a writer does not panic")?),
                None => return Ok(sessions),
            },
            _ = ticks.tick() => {
                let done = next.load(Ordering::Relaxed).min(keys);
                let phase = Phase::Loading { done, keys };
                on_progress(&Progress::new(phase, now() - begin));
            }
        }
    }
}

async fn write_patiently(session: &mut Session, key: u64, value: Bytes) -> Result<(), LoadError> {
    let order = Order { operation: Operation::Put, key, value };
    let mut attempts = 1;
    loop {
        match session.perform(&order).await {
            Outcome::Failed(Failure { kind, detail, .. }) if attempts == LOAD_ATTEMPTS => {
                return Err(LoadError::Loading { kind, detail });
            }
            Outcome::Failed(_) => sleep(RECONNECT_PAUSE * attempts).await,
            Outcome::Done | Outcome::Absent => return Ok(()),
        }
        attempts += 1;
    }
}

/// A run that is going on. Times are counted from its beginning.
struct Run {
    begin: Instant,
    warm_up: Duration,
    end: Duration,
    /// In an open loop: one permit for each operation that waits.
    due: Option<Semaphore>,
    state: Mutex<State>,
}

struct State {
    orders: Orders,
    schedule: Option<Schedule>,
    tally: Tally,
    over: bool,
}

/// An operation under way.
struct Begun {
    order: Order,
    due: Duration,
}

impl Run {
    fn new(plan: &Plan, begin: Instant) -> Self {
        let end = plan.warm_up + plan.duration;
        let schedule = match plan.pace {
            Pace::Closed => None,
            Pace::Open { rate, arrivals, max_outstanding } => {
                let seed = plan.workload.seed;
                Some(Schedule::new(arrivals, rate, max_outstanding, end, seed))
            }
        };
        let due = schedule.as_ref().map(|_| Semaphore::new(0));
        let state = State {
            orders: Orders::new(&plan.workload),
            schedule,
            tally: Tally::new(plan.warm_up, end),
            over: false,
        };
        Self { begin, warm_up: plan.warm_up, end, due, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next operation for a connection that is free at `now`, as soon as one is due; `None` once
    /// the run is over.
    async fn begin(&self, now: Instant) -> Option<Begun> {
        // What still waits at the end is not begun, also if the end is noticed late.
        if now - self.begin >= self.end {
            return None;
        }
        if let Some(due) = &self.due {
            due.acquire().await.ok()?.forget();
        }
        let mut state = self.state();
        let due = match &mut state.schedule {
            Some(schedule) => schedule.begin()?,
            None => now - self.begin,
        };
        (!state.over).then(|| Begun { order: state.orders.next(), due })
    }

    fn ended(&self, begun: &Begun, outcome: Outcome, now: Instant) {
        let mut state = self.state();
        state.orders.done(&begun.order);
        if let Some(schedule) = &mut state.schedule {
            schedule.ended();
        }
        state.tally.ended(begun.order.operation, begun.due, now - self.begin, outcome);
    }

    /// Takes in what has become due, and says after how long to come back; `None` if nothing will be due.
    fn advance(&self, now: Instant) -> Option<Duration> {
        let mut state = self.state();
        let State { schedule, tally, .. } = &mut *state;
        let schedule = schedule.as_mut()?;
        let at = now - self.begin;
        let waiting = schedule.advance(at, |due| tally.shed(due));
        let many = schedule.waiting() >= MANY_WAITING;
        let shortest = if many { NAP_WHILE_MANY_WAIT } else { SHORTEST_NAP };
        let nap =
            schedule.next_at().map(|next| next.saturating_sub(at).clamp(shortest, LONGEST_NAP));
        drop(state);
        if let Some(due) = &self.due {
            due.add_permits(waiting);
        }
        nap
    }

    /// Nothing more is begun.
    fn end(&self, now: Instant) {
        self.advance(now);
        let mut state = self.state();
        let State { schedule, tally, over, .. } = &mut *state;
        *over = true;
        tally.cut(now - self.begin);
        for due in schedule.as_mut().map(Schedule::stop).unwrap_or_default() {
            tally.not_begun(due);
        }
        drop(state);
        if let Some(due) = &self.due {
            due.close();
        }
    }

    fn progress(&self, now: Instant) -> Progress {
        let at = now - self.begin;
        let mut state = self.state();
        let failed = state.tally.failed();
        let last = state.tally.seconds(at).last().copied();
        let phase = if at < self.warm_up { Phase::WarmUp } else { Phase::Measuring };
        Progress { total: Some(self.end), last, failed, ..Progress::new(phase, at) }
    }
}

/// Does one operation after the other over one connection.
async fn work(run: Arc<Run>, mut session: Session) {
    let mut at = now();
    while let Some(begun) = run.begin(at).await {
        let sent = now();
        let mut outcome = session.perform(&begun.order).await;
        at = now();
        if let Outcome::Failed(failure) = &mut outcome {
            failure.took = at - sent;
        }
        run.ended(&begun, outcome, at);
        if session.is_out_of_reach() {
            sleep(RECONNECT_PAUSE).await;
            at = now();
        }
    }
}

/// Tells the run of the passing of time, until all is due or nobody is interested any more. The
/// runtime's timers are good to a millisecond, in which an operation may have been due, done and
/// forgotten; a thread's sleep is good to some ten microseconds.
fn pace(run: &Weak<Run>) {
    while let Some(run) = run.upgrade() {
        let Some(nap) = run.advance(now()) else { return };
        drop(run);
        thread::sleep(nap);
    }
}

/// Until the run is over.
async fn report_progress(run: &Run, on_progress: &mut impl FnMut(&Progress)) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut over = pin!(sleep((run.begin + run.end).saturating_duration_since(now())));
    loop {
        tokio::select! {
            () = &mut over => return,
            _ = ticks.tick() => on_progress(&run.progress(now())),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the driver, which passes the time in")]
fn now() -> Instant {
    Instant::now()
}
