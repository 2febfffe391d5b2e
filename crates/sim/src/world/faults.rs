//! What may be done to a world.

use std::path::Path;
use std::time::Duration;

use quorate_node::{Event, MAX_BUCKETS, MAX_CELLS, Node, NodeOptions};
use quorate_storage::{
    Damage, ReadError, Step,
    fault::{Crash, Fault, FaultFs, FaultKind},
};

use super::{Answer, World, agenda::Happening, name};
use crate::{
    FileOptions, Loss,
    network::micros,
    process::{self, Process, Which},
};

/// How much compaction does at a time.
const COMPACTION_STEPS: usize = 8;
const COMPACTION_BYTES: u64 = 16 << 10;
/// How much is read again at a time.
const SCRUB_BYTES: u64 = 32 << 10;
/// How many damaged records a node is told of at a time.
const DAMAGED_TOKENS: usize = 1024;
/// How many bits of a token tell where in half a bucket it lies.
const HALF_BITS: u32 = u64::MAX.count_ones() - 1 - MAX_BUCKETS.ilog2();

impl World {
    /// Lets all disks work and have room, at the usual speed, and takes back what was to end processes.
    pub fn mend_machines(&mut self) {
        self.options.slow_turn = 0.0;
        for machine in &mut self.machines {
            machine.ends_after_actions = None;
            machine.power_fails_after_operations = None;
            machine.slowness = 1;
            // Nobody stands still who has yet to be started.
            if machine.process.is_none() {
                machine.paused_until_us = 0;
            }
            machine.fs.set_fault(None);
            machine.fs.set_capacity(None);
        }
    }

    /// Stops everything from one node to another, in this direction, until it is [joined](Self::join) as often.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.remark(|| format!("cut: {} cannot reach {}", name(from), name(to)));
        self.network.wall_up(from, to);
    }

    /// Takes one [cut](Self::cut) back.
    pub fn join(&mut self, from: usize, to: usize) {
        self.remark(|| format!("joined: {} to {}", name(from), name(to)));
        self.network.wall_down(from, to);
    }

    /// Takes all cuts back.
    pub fn join_all(&mut self) {
        self.network.all_walls_down();
    }

    /// How much longer a machine stands still.
    #[must_use]
    pub fn paused_for(&self, node: usize) -> Duration {
        Duration::from_micros(self.machines[node].paused_until_us.saturating_sub(self.now_us))
    }

    /// Lets a machine do nothing for so long, then go on as if nothing had been.
    pub fn pause(&mut self, node: usize, span: Duration) {
        self.remark(|| format!("{} is paused for {span:?}", name(node)));
        let until_us = self.now_us + micros(span);
        let machine = &mut self.machines[node];
        machine.paused_until_us = machine.paused_until_us.max(until_us);
        // Whoever waits for an answer of it waits longer.
        for open in self.open.values_mut().filter(|open| open.node == node) {
            open.due_us = open.due_us.max(until_us);
        }
    }

    /// Makes everything on a machine take so many times longer; 1 is the usual.
    pub fn slow_down(&mut self, node: usize, times: u32) {
        self.machines[node].slowness = times.max(1);
    }

    /// How far a machine's wall clock is ahead of true time, in microseconds.
    #[must_use]
    pub fn clock_ahead_us(&self, node: usize) -> i64 {
        self.machines[node].clock.ahead_us(self.now_us)
    }

    /// Moves a machine's wall clock.
    pub fn step_clock(&mut self, node: usize, by_us: i64) {
        self.remark(|| format!("the clock of {} steps by {} ms", name(node), by_us / 1000));
        self.machines[node].clock.step(by_us, self.now_us);
    }

    /// Makes a machine's wall clock run faster, in parts per million; -1,000,000 stands still.
    pub fn drift_clock(&mut self, node: usize, ppm: i64) {
        self.machines[node].clock.set_drift(ppm, self.now_us);
    }

    /// Sets a machine's wall clock so far ahead of true time.
    pub fn set_clock_ahead(&mut self, node: usize, ahead_us: i64) {
        self.machines[node].clock.set_ahead(ahead_us, self.now_us);
    }

    /// Tells the checks within that a machine's file was damaged at a byte, so that it may have lost anything.
    pub fn note_damage(&mut self, node: usize, fault: crate::Fault, file: &Path, at: usize) {
        self.remark(|| {
            format!("{}: {} at byte {at} of {}", name(node), fault.name(), file.display())
        });
        self.put_at_risk(node);
    }

    fn put_at_risk(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        machine.damaged = true;
        machine.at_risk.append(&mut machine.answered_for);
        machine.owes_at_risk.append(&mut machine.owes);
    }

    /// Lets a machine have other options from its next start on.
    pub fn reconfigure(&mut self, node: usize, files: FileOptions, options: NodeOptions) {
        let machine = &mut self.machines[node];
        (machine.files, machine.options) = (files, options);
    }

    /// Holds up, for so long, all that two nodes send each other from now on.
    pub fn clog(&mut self, one: usize, other: usize, span: Duration) {
        self.hold_up(one, other, span);
        self.hold_up(other, one, span);
    }

    /// Holds up, for so long, all that a node sends to another from now on.
    pub fn hold_up(&mut self, from: usize, to: usize, span: Duration) {
        let until_us = self.now_us + micros(span);
        self.remark(|| format!("what {} sends {} is held up for {span:?}", name(from), name(to)));
        self.network.clog(from, to, until_us);
    }

    /// Ends a node's process once so many more of its actions have been carried out.
    pub fn end_after_actions(&mut self, node: usize, actions: u32, loss: Loss) {
        self.machines[node].ends_after_actions = Some((actions, loss));
    }

    /// Cuts a machine's power within a turn of its logs, once so many more operations of its files have been done.
    pub fn power_fails_in_turn(&mut self, node: usize, operations: u64, crash: Crash) {
        self.machines[node].power_fails_after_operations = Some((operations, crash));
    }

    /// Whether a node runs whose log has failed, so that it must be restarted.
    #[must_use]
    pub fn is_poisoned(&self, node: usize) -> bool {
        self.machines[node].process.as_ref().is_some_and(|process| {
            process.local.store.poisoned().is_some() || process.local.hints.poisoned().is_some()
        })
    }

    /// Ends a node's process, if it runs.
    pub fn end(&mut self, node: usize, loss: Loss) {
        if self.machines[node].process.is_none() {
            return;
        }
        self.count_what_it_did(node);
        self.remark(|| format!("{} ends: {loss:?}", name(node)));
        self.trace.note(&[self.now_us, 1, node as u64]);
        self.machines[node].end(loss);
        if self.machines.iter().all(|machine| machine.process.is_none()) {
            self.coverage.count("state: all nodes down at once");
        }
        let ended: Vec<u64> =
            self.open.iter().filter(|(_, open)| open.node == node).map(|(&it, _)| it).collect();
        for request in ended {
            self.open.remove(&request);
            self.answer(request, Answer::Lost);
        }
        for number in self.network.connections_of(node) {
            let Some(connection) = self.network.connection(number) else { continue };
            if connection.dialer == node {
                self.network.disconnect(number);
                continue;
            }
            // Whoever is killed hangs up; who loses power is missed when somebody gets no answer.
            let noticed = match loss {
                Loss::Process => self.network.delay(),
                Loss::Power(_) => self.disk.between(Duration::ZERO, Duration::from_secs(5)),
            };
            self.plan(self.now_us + micros(noticed), Happening::Broken { connection: number });
        }
    }

    /// Starts a node's process, unless it runs.
    ///
    /// # Errors
    /// Why its files could not be opened.
    pub fn start(&mut self, node: usize) -> Result<(), String> {
        if self.machines[node].process.is_some() {
            return Ok(());
        }
        let now = self.now_at(node);
        let machine = &mut self.machines[node];
        let opened = process::open(&machine.fs, machine.id, &self.ring, &machine.files, now);
        let opened = opened.map_err(|error| {
            machine.at_risk.clear(); // what this start has cut, the next does not find
            machine.owes_at_risk.clear();
            chain(&error)
        })?;
        let truncated_bytes = opened.truncated_bytes();
        let damages: Vec<Damage> = opened.damages().cloned().collect();
        let snapshot = opened.store_found.snapshot.as_ref();
        let snapshot =
            snapshot.map_or("no snapshot".to_owned(), |info| format!("snapshot to {}", info.seq));
        let bad_snapshot = !opened.store_found.bad_snapshots.is_empty();
        let process = Process::start(opened, &self.ring, &machine.options, now);
        machine.process = Some(Box::new(process));
        self.trace.note(&[self.now_us, 2, node as u64, truncated_bytes]);
        if truncated_bytes > 0 {
            self.coverage.count("state: torn tail cut");
        }
        // Which records are damaged may be known from a snapshot only.
        let noticed = truncated_bytes > 0 || !damages.is_empty() || bad_snapshot;
        if !damages.is_empty() {
            self.coverage.count("state: damage found in a log");
            if !machine.damaged {
                self.breaks(format!(
                    "[damage] {} finds damage nobody did: {damages:?}",
                    name(node)
                ));
            }
        }
        if bad_snapshot && !self.machines[node].damaged {
            // The device did not give it. An older one names tombstones that were forgotten since, and their frames are gone.
            self.put_at_risk(node);
        }
        self.remark(|| {
            let cut = format!("{truncated_bytes} bytes cut");
            format!("{} starts: {cut}, {} damages, {snapshot}", name(node), damages.len())
        });
        self.check_answered_for(node);
        self.check_owed(node);
        self.check_noticed(node, noticed);
        for other in 0..self.machines.len() {
            for (from, to) in [(node, other), (other, node)] {
                if from != to && self.network.dialled(from, to).is_none() {
                    self.plan_dial(from, to, false);
                }
            }
        }
        self.plan_turn(node, Which::Store);
        self.plan_wake(node);
        Ok(())
    }

    /// Whether a node runs and has not lost data that it was not given again.
    #[must_use]
    pub fn counts(&self, node: usize) -> bool {
        self.node(node).is_some_and(Node::is_settled)
    }

    /// Whether all nodes [count](Self::counts).
    #[must_use]
    pub fn all_count(&self) -> bool {
        (0..self.nodes()).all(|node| self.counts(node))
    }

    /// Ends a node's process and puts an empty disk in the place of its own.
    pub fn lose_disk(&mut self, node: usize) {
        self.end(node, Loss::Process);
        self.remark(|| format!("{} has lost its disk", name(node)));
        self.machines[node].have(FaultFs::new());
    }

    /// A copy of a node's files as they are.
    #[must_use]
    pub fn copy_disk(&self, node: usize) -> FaultFs {
        self.machines[node].fs.fork()
    }

    /// Ends a node's process and puts an old copy of its files in the place of these, as the command for that does.
    pub fn restore_disk(&mut self, node: usize, copy: FaultFs) {
        self.end(node, Loss::Process);
        self.remark(|| format!("{} is given an old copy of its disk", name(node)));
        self.machines[node].have(copy);
        let now = self.now_at(node);
        if let Err(error) = process::renew(&self.machines[node].fs, 0, now) {
            self.breaks(format!("{} cannot be restored: {error}", name(node)));
        }
    }

    /// Starts a node anew in another life, as a server does when its peers remember more than it has.
    pub(super) fn begin_another_life(&mut self, node: usize, above: u64) {
        self.coverage.count("state: another life begun");
        self.end(node, Loss::Process);
        let now = self.now_at(node);
        let machine = &mut self.machines[node];
        // What cannot be written or opened now is tried again by whoever starts nodes that are down.
        if process::renew(&machine.fs, above, now).is_ok() {
            let _ = self.start(node);
        }
    }

    /// Tries to start a node whose power fails after so many operations of its files. Says whether it did.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with_power_failing(
        &mut self,
        node: usize,
        operations: u64,
        crash: Crash,
    ) -> Result<bool, String> {
        let machine = &mut self.machines[node];
        let at = machine.fs.operations() + operations;
        let seed = at;
        machine.at_risk.clear(); // as after a start that failed
        machine.owes_at_risk.clear();
        machine.fs.set_fault(Some(Fault { at, kind: FaultKind::Io, sticky: true, seed }));
        let now = self.now_at(node);
        let machine = &mut self.machines[node];
        let opened = process::open(&machine.fs, machine.id, &self.ring, &machine.files, now);
        if machine.fs.operations() > at {
            let fs = machine.fs.crash(crash);
            drop(opened); // writes to the files that are given up
            machine.fs = fs;
            self.coverage.count("state: crash during recovery");
            self.trace.note(&[self.now_us, 3, node as u64]);
            self.remark(|| format!("{} loses power while it starts", name(node)));
            return Ok(true);
        }
        machine.fs.set_fault(None);
        drop(opened);
        self.start(node).map(|()| false)
    }

    /// Does what a server does now and then: makes a snapshot if one is due, and gives up old files of hints.
    pub fn keep_house(&mut self, node: usize, snapshot: bool) {
        let Some(process) = &self.machines[node].process else { return };
        if self.machines[node].paused_until_us > self.now_us {
            return;
        }
        let store = &process.local.store;
        for _ in 0..COMPACTION_STEPS {
            match store.compact(COMPACTION_BYTES) {
                Ok(Step::Moved { bytes: 1.. }) => self.coverage.count("state: records compacted"),
                Ok(Step::Moved { .. }) => {}
                Ok(Step::Kept { .. }) => {}
                Ok(Step::Released { .. }) => self.coverage.count("state: segment compacted"),
                Ok(Step::Idle | Step::Waiting) | Err(_) => break,
            }
        }
        if (snapshot || store.snapshot_due()) && store.snapshot().is_ok() {
            self.coverage.count("state: snapshot made");
        }
        let scrubbed = store.scrub(self.machines[node].scrubbed, SCRUB_BYTES);
        if process.local.hints.maintain().is_ok_and(|more| more) {
            self.coverage.count("state: hints written again");
        }
        self.machines[node].scrubbed = scrubbed.ok().and_then(|scrubbed| scrubbed.next);
        self.check_damaged(node);
        self.plan_turn(node, Which::Store);
        self.plan_turn(node, Which::Hints);
        self.report_damage(node);
    }

    /// Has a node read all its records, as it would with time.
    pub(crate) fn scrub(&mut self, node: usize) {
        let Some(process) = &self.machines[node].process else { return };
        let mut from = None;
        let store = &process.local.store;
        while let Ok(scrubbed) = store.scrub(from, SCRUB_BYTES) {
            from = scrubbed.next;
            if from.is_none() {
                break;
            }
        }
        let found = store.stats().damaged;
        let all = store.scan(None, usize::MAX).map(|_| store.stats().damaged);
        self.check_damaged(node);
        if all.is_ok_and(|all| all > found) {
            let node = name(node);
            self.breaks(format!(
                "[damage] {node} has damaged records that its scrub has not found"
            ));
        }
        self.report_damage(node);
    }

    /// Tells a node of the records that it cannot read, so that it asks for them.
    fn report_damage(&mut self, node: usize) {
        let Some(process) = &self.machines[node].process else { return };
        let tokens = process.local.store.damaged_tokens(None, DAMAGED_TOKENS);
        if !tokens.is_empty() {
            self.report(node, Event::Damaged { tokens });
        }
    }

    /// The sketches that a store keeps are those of its records.
    pub(crate) fn check_sketches(&mut self, node: usize) {
        let Some(process) = &self.machines[node].process else { return };
        let store = &process.local.store;
        let whole = vec![0..=u64::MAX];
        // What is asked for in halves of buckets is looked through record by record.
        let halves = (0..2 * MAX_BUCKETS as u64).map(|half| {
            let first = half << HALF_BITS;
            first..=first + ((1 << HALF_BITS) - 1)
        });
        let sums = store.sketches(&[whole, halves.collect()], MAX_CELLS);
        if sums[0] != sums[1] {
            let what = format!("[sketches] {} keeps sketches of other records", name(node));
            self.breaks(what);
        }
    }

    /// Records are damaged only if somebody has damaged the files.
    fn check_damaged(&mut self, node: usize) {
        let machine = &self.machines[node];
        let damaged = machine.process.as_ref().map_or(0, |it| it.local.store.stats().damaged);
        if damaged > 0 {
            self.coverage.count("state: damage found late");
            if !machine.damaged {
                let what =
                    format!("[damage] {} has {damaged} records damaged by nobody", name(node));
                self.breaks(what);
            }
        }
    }

    pub(super) fn check_answered_for(&mut self, node: usize) {
        let machine = &self.machines[node];
        let Some(process) = &machine.process else { return };
        let lost = machine.answered_for.iter().find(|(key, version)| {
            match process.local.store.get(key) {
                // A tombstone below the horizon is forgotten.
                Ok(None) => version.timestamp >= process.local.store.horizon(),
                Ok(Some(record)) => record.version < **version,
                // It says so. What it holds and has not read since may have been damaged with the rest.
                Err(error) => matches!(error, ReadError::Damaged) && !machine.damaged,
            }
        });
        if let Some((key, version)) = lost {
            let what = format!("[held] {} has lost {key:?} of version {version}", name(node));
            self.breaks_about(&key.clone(), what);
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
