//! What nodes have answered for and so owe: hints until they are delivered, records in spite of damage.

use quorate_node::{Event, Message, PutOutcome, Request, Response};
use quorate_record::{Key, NodeId, Record, Version};
use quorate_storage::ReadError;

use super::{World, name};
use crate::machine::Machine;

impl World {
    /// A node may be asked to keep a hint.
    pub(super) fn note_request(&mut self, node: usize, event: &Event) {
        if let Event::Received { via, message: Message::Request { id, body, .. }, .. } = event
            && let Request::Put { key, record, hint_for: Some(target) } = body
        {
            let hint = (*target, key.clone(), record.version);
            self.machines[node].asked_to_keep.insert((*via, *id), hint);
        }
    }

    /// A node may have answered that it keeps a hint. From then on it must, until the target has it.
    pub(super) fn note_response(&mut self, node: usize, via: u64, message: &Message) {
        let Message::Response { id, body, .. } = message else { return };
        let Some((target, key, version)) = self.machines[node].asked_to_keep.remove(&(via, *id))
        else {
            return;
        };
        if matches!(body, Response::Put(PutOutcome::Stored | PutOutcome::Superseded(_))) {
            // The target may have got it, and the hint been forgotten, before the answer went out.
            let there = self.number_of(target).map(|number| &self.machines[number]);
            let had = |there: &Machine| {
                [&there.answered_for, &there.at_risk]
                    .iter()
                    .any(|it| it.get(&key) >= Some(&version))
            };
            if there.is_some_and(had) {
                return;
            }
            let owed = self.machines[node].owes.entry((target, key)).or_insert(version);
            *owed = version.max(*owed);
        }
    }

    /// A node forgets a hint, which it may only if the target has answered for as much.
    pub(super) fn note_forgotten(
        &mut self,
        node: usize,
        target: NodeId,
        key: &Key,
        version: Version,
    ) {
        let slot = (target, key.clone());
        let Some(&owed) = self.machines[node].owes.get(&slot).filter(|owed| **owed <= version)
        else {
            return;
        };
        self.machines[node].owes.remove(&slot);
        let Some(there) = self.number_of(target).map(|number| &self.machines[number]) else {
            return;
        };
        if !there.damaged && there.answered_for.get(key).is_none_or(|held| *held < owed) {
            let node = name(node);
            let what = format!("[hints] {node} gives up {key} {owed}, which it owes to {target}");
            self.breaks_about(key, what);
        }
    }

    /// A node that has just started still has every hint that it owes.
    pub(super) fn check_owed(&mut self, node: usize) {
        let machine = &self.machines[node];
        let Some(process) = &machine.process else { return };
        let mut missing = machine.owes.clone();
        let Some(held) = process.hints() else { return };
        for hint in held {
            missing.retain(|(target, key), owed| {
                (*target, key) != (hint.target, &hint.key) || *owed > hint.record.version
            });
        }
        if let Some(((target, key), owed)) = missing.first_key_value() {
            let node = name(node);
            let what = format!("[hints] {node} has lost the hint {key} {owed} for {target}");
            self.breaks_about(&key.clone(), what);
        }
    }

    /// What damage has taken from a node that has just started must have been noticed.
    pub(super) fn check_noticed(&mut self, node: usize, noticed: bool) {
        let machine = &mut self.machines[node];
        let mut lost = std::mem::take(&mut machine.at_risk);
        let mut hints = std::mem::take(&mut machine.owes_at_risk);
        let Some(process) = &machine.process else { return };
        lost.retain(|key, it| match process.local.store.get(key) {
            // A tombstone below the horizon is forgotten.
            Ok(None) => it.timestamp >= process.local.store.horizon(),
            Ok(Some(record)) => record.version < *it,
            Err(error) => !matches!(error, ReadError::Io(_)),
        });
        for hint in process.hints().unwrap_or_default() {
            hints.retain(|(target, key), owed| {
                (*target, key) != (hint.target, &hint.key) || *owed > hint.record.version
            });
        }
        if !noticed {
            // Of a record that cannot be read, the node says so.
            let record = lost.iter().find(|(key, _)| process.local.store.get(key).is_ok());
            let record = record.map(|(key, version)| (key, version, None));
            let hint = hints.first_key_value();
            let hint = hint.map(|((target, key), version)| (key, version, Some(target)));
            if let Some((key, version, target)) = record.or(hint) {
                let hint = target.map_or(String::new(), |it| format!("the hint for {it} of "));
                let node = name(node);
                let what = format!("[damage] {node} lost {hint}{key} {version} and did not notice");
                self.breaks_about(&key.clone(), what);
            }
        }
        let machine = &mut self.machines[node];
        machine.lost.append(&mut lost);
    }

    /// Counts what damage took from nodes that hold it again.
    pub(crate) fn count_healed(&mut self) {
        for machine in &mut self.machines {
            let Some(process) = &machine.process else { continue };
            let lost = std::mem::take(&mut machine.lost);
            let held = |key: &Key| {
                let record = process.local.store.get(key).ok().flatten();
                record.map(|record| record.version)
            };
            let healed = lost.iter().filter(|(key, version)| held(key) >= Some(**version)).count();
            self.coverage.add("state: damage in a log healed by peers", healed as u64);
        }
    }

    /// No replica stores what its own clock says is from too far in the future.
    pub(super) fn check_skew(&mut self, node: usize, record: &Record) {
        let limit_ms = self.now_at(node).wall_ms + self.options.node.max_clock_skew_ms;
        if record.version.timestamp.wall_ms() > limit_ms {
            let (node, version) = (name(node), record.version);
            self.breaks(format!("[skew] {node} stores {version}, which is too far ahead"));
        }
    }
}
