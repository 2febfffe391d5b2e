//! The bugs by name.

use std::fmt;

macro_rules! bugs {
    ($($variant:ident, $name:literal, $about:literal;)+) => {
        /// A mistake that a crate can be built to make.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Bug {
            $(#[doc = $about] $variant,)+
        }

        impl Bug {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// A short name; the one that the command line takes.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it does, in one sentence.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => $about,)+ }
            }
        }
    };
}

bugs! {
    NoSecondRound, "no-second-round",
        "A write that met a greater version is acknowledged under the lesser one that it has.";
    OldRoundCounts, "old-round-counts",
        "What a replica answered to the first version counts for the second.";
    AckCountedTwice, "ack-counted-twice",
        "The first replica's ack counts as two.";
    HintDroppedWithFallback, "hint-dropped-with-fallback",
        "When a fallback fails, nobody else keeps the hint that it was to keep.";
    NoHintOnceAcked, "no-hint-once-acked",
        "Once the client has its ack, a replica that is still silent gets no hint.";
    NoAckIsRejected, "no-ack-is-rejected",
        "A write without a single ack is called rejected, although replicas that were asked may hold it.";
    AbsentFromFallback, "absent-from-fallback",
        "A fallback without a hint counts as a replica that knows of nothing.";
    RepairNotAwaited, "repair-not-awaited",
        "A blocking read takes a repair that was sent for one that was done.";
    HintAckedEarly, "hint-acked-early",
        "A hint is acknowledged before it is durable.";
    TimerLost, "timer-lost",
        "Of two timers for the same instant one is lost.";
    CallIdReused, "call-id-reused",
        "Requests to peers are numbered modulo 64, so a late answer is taken for another request's.";
    PushToNonOwner, "push-to-non-owner",
        "Anti-entropy compares everything with everybody, and nodes take what they do not own.";
    NoFirstPhase, "no-first-phase",
        "An atomic write does not ask for versions before it writes.";
    AtomicHasManyVersions, "atomic-has-many-versions",
        "An atomic write that some replica has stored is sent again under a greater version.";
    NoWriteBack, "no-write-back",
        "An atomic read answers before the newest version is on a majority.";
    ClockForgetsCeiling, "clock-forgets-ceiling",
        "The clock starts at the wall clock, whatever was issued before the restart.";
    VersionReused, "version-reused",
        "The clock does not remember what it issued, only what it saw.";
    SkewNotRefused, "skew-not-refused",
        "Versions from the far future are taken.";
    HintForgottenEarly, "hint-forgotten-early",
        "A hint is forgotten when it is sent, not when it has arrived.";
    OwedHintDropped, "owed-hint-dropped",
        "A hint that an ack was given for may expire or make room like any other.";
    AbsentIsEqual, "absent-is-equal",
        "Anti-entropy takes a key that one side lacks for one that is equal on both.";
    StoreOverwritesNewer, "store-overwrites-newer",
        "A replica stores whatever comes, without a look at what it has.";
    TombstoneDroppedByAge, "tombstone-dropped-by-age",
        "A snapshot leaves out tombstones that are some seconds old.";
    TornTailKept, "torn-tail-kept",
        "Recovery appends behind a torn tail in place of cutting it off.";
    RecycledFrameAccepted, "recycled-frame-accepted",
        "Frames that an earlier segment left in a recycled file are read as the present one's.";
    SyncRetried, "sync-retried",
        "A sync that failed is tried again, and believed.";
    RenameNotSynced, "rename-not-synced",
        "The folder is not synced when a file has got a new name.";
    MovesNotAwaited, "moves-not-awaited",
        "Compaction gives a segment up before what it moved is durable.";
    MovedThoughOverwritten, "moved-though-overwritten",
        "The index follows a record that was moved although a newer one has come meanwhile.";
    PlaceNotUpdated, "place-not-updated",
        "The index does not follow a record that was moved.";
    TombstonesNotMoved, "tombstones-not-moved",
        "Compaction does not move tombstones.";
    CachedThoughOverwritten, "cached-though-overwritten",
        "A record that was read is remembered although a newer one has come meanwhile.";
    SnapshotMissesWrites, "snapshot-misses-writes",
        "A snapshot claims to have what settled while it was written.";
    TailNotReplayed, "tail-not-replayed",
        "A store that finds a snapshot does not read what the log has behind it.";
    DamagedIsAbsent, "damaged-is-absent",
        "A record that cannot be read is answered as if there were none.";
    ScrubTrustsIndex, "scrub-trusts-index",
        "A scrub looks at the index and not at what is on the disk.";
    CorruptFrameServed, "corrupt-frame-served",
        "Recovery does not compare a frame's payload with its checksum.";
    CorruptFrameSkipped, "corrupt-frame-skipped",
        "Recovery steps over a damaged frame and says nothing.";
    TiesByArrival, "ties-by-arrival",
        "Of two records with the same timestamp each replica keeps the one that came first.";
    AnswersByUndurable, "answers-by-undurable",
        "The store answers by what is not durable yet.";
    DigestNotUpdated, "digest-not-updated",
        "A record that replaces another leaves the digest of its range as it was.";
    SketchNotUpdated, "sketch-not-updated",
        "A record that replaces another leaves the sketch of its range as it was.";
    StreamSkipsRange, "stream-skips-range",
        "An exchange takes its last group of ranges for mended without a look at what differs there.";
    FrameNotChecked, "frame-not-checked",
        "A message's checksum is not looked at.";
    FailedWriteAcked, "failed-write-acked",
        "A write that the log refused or lost is answered as stored.";
    BelowIsAnAck, "below-is-an-ack",
        "In a later round a replica that refuses a version as too old counts as one that has it.";
    DeadHintRestamped, "dead-hint-restamped",
        "What is handed over and below the horizon is written under a new version instead of refused.";
    DeadIsKept, "dead-is-kept",
        "A record that a co-owner lacks and takes for deleted stays where it is.";
    FloorIgnored, "floor-ignored",
        "A replica takes on versions below the floor that it has reported.";
    OldExchangeCounts, "old-exchange-counts",
        "The horizon rises although it was compared before all nodes had reported.";
    OneExchangeIsEnough, "one-exchange-is-enough",
        "A node that lost its data counts again once it has compared with one other owner.";
    CountsAtOnce, "counts-at-once",
        "A node that lost its data counts as if it had not.";
    NoFence, "no-fence",
        "What a node answered counts although it has lost its data since.";
}

impl Bug {
    /// The bug of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| bug.name() == name)
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn bugs_are_found_by_names_that_differ() {
        for &bug in Bug::ALL {
            assert_eq!(Bug::from_name(bug.name()), Some(bug));
        }
        let names: BTreeSet<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        assert_eq!(names.len(), Bug::ALL.len());
        assert_eq!(Bug::from_name("nonsense"), None);
    }
}
