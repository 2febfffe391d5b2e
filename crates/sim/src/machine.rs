//! One machine of the cluster: files, clock, and the process that runs on it or does not.

use std::collections::BTreeMap;

use quorate_node::NodeOptions;
use quorate_record::{Key, NodeId, Version};
use quorate_storage::{
    ScrubPosition,
    fault::{Crash, FaultFs},
};

use crate::{FileOptions, clock::WallClock, process::Process};

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It is killed; what it had written stays, synced or not.
    Process,
    /// The power fails; of what was not synced this much stays.
    Power(Crash),
}

pub(crate) struct Machine {
    pub(crate) id: NodeId,
    pub(crate) fs: FaultFs,
    pub(crate) clock: WallClock,
    /// How its files and its node behave from its next start on.
    pub(crate) files: FileOptions,
    pub(crate) options: NodeOptions,
    pub(crate) process: Option<Box<Process>>,
    /// Counts the processes that ran here.
    pub(crate) life: u64,
    /// Until when it does nothing at all.
    pub(crate) paused_until_us: u64,
    /// How many times longer than usual everything takes.
    pub(crate) slowness: u32,
    /// Ends the process when so many more of its node's actions have been carried out.
    pub(crate) ends_after_actions: Option<(u32, Loss)>,
    /// Cuts the power when so many more operations of its files have been done in turns of its logs.
    pub(crate) power_fails_after_operations: Option<(u64, Crash)>,
    /// The versions that this replica has answered for: it must never hold less.
    pub(crate) answered_for: BTreeMap<Key, Version>,
    /// The same from before its files were damaged: it may hold less, if it says so.
    pub(crate) at_risk: BTreeMap<Key, Version>,
    /// The hints that it is asked to keep, by connection and request.
    pub(crate) asked_to_keep: BTreeMap<(u64, u64), (NodeId, Key, Version)>,
    /// The hints that it has answered for, by target and key: it must keep as much until it is delivered.
    pub(crate) owes: BTreeMap<(NodeId, Key), Version>,
    /// The same from before its files were damaged, as for `at_risk`.
    pub(crate) owes_at_risk: BTreeMap<(NodeId, Key), Version>,
    /// What it was found to have lost by damage and has not been given again.
    pub(crate) lost: BTreeMap<Key, Version>,
    /// The keys of records on their way to the store, by the id of the request.
    pub(crate) applying: BTreeMap<u64, (Key, Version)>,
    /// How far scrubbing has come.
    pub(crate) scrubbed: Option<ScrubPosition>,
    /// Whether its files were damaged behind its back: it may have lost anything.
    pub(crate) damaged: bool,
}

impl Machine {
    pub(crate) fn new(id: NodeId, files: FileOptions, options: NodeOptions) -> Self {
        Self {
            id,
            fs: FaultFs::new(),
            clock: WallClock::default(),
            files,
            options,
            process: None,
            life: 0,
            paused_until_us: 0,
            slowness: 1,
            ends_after_actions: None,
            power_fails_after_operations: None,
            answered_for: BTreeMap::new(),
            at_risk: BTreeMap::new(),
            asked_to_keep: BTreeMap::new(),
            owes: BTreeMap::new(),
            owes_at_risk: BTreeMap::new(),
            lost: BTreeMap::new(),
            applying: BTreeMap::new(),
            scrubbed: None,
            damaged: false,
        }
    }

    /// Has other files from now on, while there is no process. What it has answered for may not be in them.
    pub(crate) fn have(&mut self, fs: FaultFs) {
        self.fs = fs;
        self.scrubbed = None;
        for versions in [&mut self.answered_for, &mut self.at_risk, &mut self.lost] {
            versions.clear();
        }
        for owes in [&mut self.owes, &mut self.owes_at_risk] {
            owes.clear();
        }
    }

    /// Ends the process and leaves the files as the next one finds them.
    pub(crate) fn end(&mut self, loss: Loss) {
        let fs = match loss {
            Loss::Process => self.fs.fork(),
            Loss::Power(crash) => self.fs.crash(crash),
        };
        fs.set_fault(None);
        // Only now: a log that is dropped writes what it has queued, to the files that are given up here.
        self.process = None;
        self.fs = fs;
        self.life += 1;
        self.paused_until_us = 0;
        self.ends_after_actions = None;
        self.power_fails_after_operations = None;
        self.applying.clear();
        self.asked_to_keep.clear();
    }
}
