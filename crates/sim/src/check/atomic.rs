use std::collections::BTreeMap;

use quorate_record::{Key, Version};

use super::history::{History, Op, OpId, Seen};
use super::origin::{origin, origin_of_tombstone};
use super::violation::{Fault, Violation};

const BEFORE_ALL: u64 = 0;
const NEVER: u64 = u64::MAX;

/// Judges whether every key is a linearizable register, by its zones (Gibbons and Korach, "Testing
/// Shared Memories", 1997).
///
/// The zone of a value lies between the first return and the last start of the operations that
/// wrote or read it. If the first return comes first, the register held the value throughout: two
/// such zones may not overlap. Otherwise it held it at some moment in between, so that the zone may
/// not lie within one of the others. As values are unique this is sufficient too.
///
/// An unacked write has no return, and does not count if nobody read it. A tombstone is told from
/// another by its version. One that is not of any acked write must be of an unacked delete of
/// unknown version, each of which wrote one at most.
///
/// A read that found nothing at all read the initial value, if tombstones are never dropped
/// (`tombstones_kept`). Otherwise it may stand for any delete too, and is not judged here when
/// there is one, but by [`regular`](super::regular()).
///
/// A key is left out if one of its writes is not `claimed`, unless that was rejected; so are reads
/// that are not claimed.
///
/// Takes `m log m` for `m` operations.
pub fn atomic(
    history: &History,
    tombstones_kept: bool,
    claimed: impl Fn(OpId) -> bool,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (key, ops) in history.keys() {
        let mut writes = ops.iter().filter(|&&id| history.op(id).may_exist());
        if writes.all(|&id| claimed(id)) {
            let mut zones = Zones::new(history, key, ops);
            for &id in ops.iter().filter(|&&id| claimed(id)) {
                let op = history.op(id);
                if let Some(seen) = op.seen() {
                    violations.extend(zones.add_read((id, op), &seen, tombstones_kept).err());
                }
            }
            zones.judge(&mut violations);
        }
    }
    violations
}

/// What a read read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Initial,
    Write(OpId),
    /// An unacked delete that nobody was told the version of, found under this one.
    Tombstone(Version),
}

/// Times are one microsecond late, so that there is a moment before all.
#[derive(Clone, Copy, Debug)]
struct Zone {
    first_return: (u64, Option<OpId>),
    last_start: (u64, Option<OpId>),
}

/// The zones of one key.
struct Zones<'h> {
    history: &'h History,
    key: &'h Key,
    zones: BTreeMap<Source, Zone>,
    first_delete_us: u64,
    unknown_deletes: Vec<u64>, // when each began
}

impl<'h> Zones<'h> {
    fn new(history: &'h History, key: &'h Key, ops: &[OpId]) -> Self {
        let initial = Zone { first_return: (BEFORE_ALL, None), last_start: (BEFORE_ALL, None) };
        let mut zones = BTreeMap::from([(Source::Initial, initial)]);
        let mut first_delete_us = NEVER;
        let mut unknown_deletes = Vec::new();
        for &id in ops {
            let op = history.op(id);
            if op.is_delete() && op.may_exist() {
                first_delete_us = first_delete_us.min(op.invoke_us);
            }
            if op.acked().is_some() {
                zones.insert(Source::Write(id), Zone::of_write(id, op));
            } else if op.is_delete() && op.may_exist() && op.version().is_none() {
                unknown_deletes.push(late(op.invoke_us));
            }
        }
        unknown_deletes.sort_unstable();
        Self { history, key, zones, first_delete_us, unknown_deletes }
    }

    fn add_read(
        &mut self,
        read: (OpId, &Op),
        seen: &Seen,
        tombstones_kept: bool,
    ) -> Result<(), Violation> {
        let (id, op) = read;
        let source = match (seen.value, seen.version) {
            (Some(value), _) => Source::Write(origin(self.history, read, seen, value)?),
            (None, Some(version)) => self.source_of_tombstone(read, seen, version)?,
            (None, None) if !tombstones_kept && self.first_delete_us <= seen.at_us => return Ok(()),
            (None, None) => Source::Initial,
        };
        let empty = match source {
            Source::Initial | Source::Tombstone(_) => {
                Zone { first_return: (NEVER, None), last_start: (BEFORE_ALL, None) }
            }
            Source::Write(write) => Zone::of_write(write, self.history.op(write)),
        };
        let zone = self.zones.entry(source).or_insert(empty);
        zone.first_return = zone.first_return.min((late(seen.at_us), Some(id)));
        zone.last_start = zone.last_start.max((late(op.invoke_us), Some(id)));
        Ok(())
    }

    fn source_of_tombstone(
        &self,
        read: (OpId, &Op),
        seen: &Seen,
        version: Version,
    ) -> Result<Source, Violation> {
        match origin_of_tombstone(self.history, read, seen)? {
            Some(write) => Ok(Source::Write(write)),
            None => match self.history.write_of_version(&version) {
                None => Ok(Source::Tombstone(version)),
                Some(other) => {
                    let fault = Fault::NoSuchDelete { version };
                    Err(Violation::new(self.key, [read.0, other], fault))
                }
            },
        }
    }

    fn judge(&self, violations: &mut Vec<Violation>) {
        let (mut forward, backward): (Vec<&Zone>, Vec<&Zone>) =
            self.zones.values().partition(|zone| zone.is_forward());
        forward.sort_by_key(|zone| zone.first_return);

        // Of the forward zones up to each, in the order of their beginnings, the one that ends last.
        let mut longest: Vec<&Zone> = Vec::with_capacity(forward.len());
        for zone in forward {
            let before = longest.last().copied();
            if let Some(before) = before
                && zone.first_return.0 < before.last_start.0
            {
                violations.push(self.violation(before, zone, Fault::ZonesOverlap));
            }
            longest.push(before.filter(|it| it.last_start >= zone.last_start).unwrap_or(zone));
        }
        for zone in backward {
            let begun = longest.partition_point(|around| around.first_return.0 < zone.last_start.0);
            if let Some(around) = begun.checked_sub(1).map(|last| longest[last])
                && zone.first_return.0 < around.last_start.0
            {
                violations.push(self.violation(around, zone, Fault::ZoneWithin));
            }
        }
        self.judge_tombstones(&longest, violations);
    }

    /// Gives each tombstone of unknown origin a delete of its own.
    ///
    /// Such a delete is unacked, so it matters to its tombstone's zone only by its start, and the
    /// tombstone only needs it to have begun by a certain time: it is enough to take both in order.
    fn judge_tombstones(&self, longest: &[&Zone], violations: &mut Vec<Violation>) {
        let mut needs = Vec::new();
        for (source, zone) in &self.zones {
            let Source::Tombstone(version) = source else { continue };
            let first_return = zone.first_return.0;
            // If the tombstone held but for a moment, no zone may begin before the delete and end
            // after that moment. Zones that contain it already were reported.
            let ending_later =
                longest.partition_point(|around| around.last_start.0 <= first_return);
            let around = longest.get(ending_later).filter(|_| !zone.is_forward());
            let began_by = around.map_or(first_return, |it| it.first_return.0.min(first_return));
            needs.push((began_by.max(zone.last_start.0.min(first_return)), *version, zone));
        }
        needs.sort_by_key(|&(began_by, version, _)| (began_by, version));
        let mut deletes = self.unknown_deletes.iter();
        for (began_by, version, zone) in needs {
            if deletes.next().is_none_or(|&began| began > began_by) {
                let fault = Fault::UnexplainedTombstone { version };
                violations.push(Violation::new(self.key, zone.ops(), fault));
            }
        }
    }

    fn violation(&self, one: &Zone, other: &Zone, fault: Fault) -> Violation {
        Violation::new(self.key, [one.ops(), other.ops()].concat(), fault)
    }
}

impl Zone {
    fn of_write(id: OpId, op: &Op) -> Self {
        let returned = op.acked().map_or(NEVER, |ack| late(ack.at_us));
        Self { first_return: (returned, Some(id)), last_start: (late(op.invoke_us), Some(id)) }
    }

    const fn is_forward(&self) -> bool {
        self.first_return.0 < self.last_start.0
    }

    fn ops(&self) -> Vec<OpId> {
        let mut ops: Vec<_> = self.first_return.1.into_iter().chain(self.last_start.1).collect();
        ops.dedup();
        ops
    }
}

const fn late(time_us: u64) -> u64 {
    time_us.saturating_add(1)
}
