//! Bugs that are planted on purpose, to see that they are found.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

use quorate_planted::{Bug, plant};

use crate::{Profile, Report, Scenario, run};

/// A planted bug that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The seed that showed it.
    pub seed: u64,
    /// How many seeds it took, that one included.
    pub tried: u64,
    /// Who says so: names of [checkers](crate::check), or of what is checked in the world itself: `answers` come once
    /// and in time, replicas have `held` on to what they answered for, holders to `hints` that they owe, no version
    /// passes the limit on `skew`, `damage` is reported if and only if there is any, changed `frames` are refused, all
    /// has `settled` in the end. `panic` is an assertion of the code under test.
    pub by: BTreeSet<String>,
    /// The first thing that was said.
    pub what: String,
}

/// The profile under which a bug shows itself best, and a seed of it that does.
#[must_use]
pub fn known(bug: Bug) -> (Profile, u64) {
    let (profile, seed) = match bug {
        Bug::NoSecondRound => ("clock", 0),
        Bug::OldRoundCounts => ("clock", 49),
        Bug::AckCountedTwice => ("default", 0),
        Bug::HintDroppedWithFallback => ("handoff", 76),
        Bug::NoHintOnceAcked => ("handoff", 0),
        Bug::NoAckIsRejected => ("default", 4),
        Bug::AbsentFromFallback => ("sloppy", 0),
        Bug::RepairNotAwaited => ("default", 53),
        Bug::HintAckedEarly => ("sloppy", 5),
        Bug::TimerLost => ("default", 10),
        Bug::CallIdReused => ("default", 7),
        Bug::PushToNonOwner => ("default", 0),
        Bug::NoFirstPhase => ("atomic", 1),
        Bug::AtomicHasManyVersions => ("atomic", 138),
        Bug::NoWriteBack => ("atomic", 141),
        Bug::ClockForgetsCeiling => ("clock", 27),
        Bug::VersionReused => ("default", 0),
        Bug::SkewNotRefused => ("clock", 0),
        Bug::HintForgottenEarly => ("sloppy", 0),
        Bug::OwedHintDropped => ("sloppy", 0),
        Bug::AbsentIsEqual => ("default", 10),
        Bug::StoreOverwritesNewer => ("default", 0),
        Bug::TombstoneDroppedByAge => ("crash", 8),
        Bug::TornTailKept => ("disk", 15),
        Bug::RecycledFrameAccepted => ("crash", 18),
        Bug::SyncRetried => ("disk", 315),
        Bug::RenameNotSynced => ("crash", 2),
        Bug::MovesNotAwaited => ("crash", 1),
        Bug::MovedThoughOverwritten => ("disk", 29),
        Bug::PlaceNotUpdated => ("default", 5),
        Bug::TombstonesNotMoved => ("default", 1),
        Bug::CachedThoughOverwritten => ("default", 0),
        Bug::SnapshotMissesWrites => ("default", 10),
        Bug::TailNotReplayed => ("crash", 0),
        Bug::DamagedIsAbsent => ("rot", 66),
        Bug::ScrubTrustsIndex => ("rot", 6),
        Bug::CorruptFrameServed => ("rot", 1),
        Bug::CorruptFrameSkipped => ("rot", 2),
        Bug::TiesByArrival => ("default", 0),
        Bug::AnswersByUndurable => ("disk", 0),
        Bug::DigestNotUpdated => ("default", 28),
        Bug::SketchNotUpdated => ("default", 0),
        Bug::StreamSkipsRange => ("default", 1),
        Bug::FrameNotChecked => ("network", 0),
        Bug::FailedWriteAcked => ("disk", 8),
        Bug::BelowIsAnAck => ("graves", 43),
        Bug::DeadHintRestamped => ("graves", 10),
        Bug::DeadIsKept => ("thin", 480),
        Bug::FloorIgnored => ("late", 679),
        Bug::OldExchangeCounts => ("graves", 8),
        Bug::OneExchangeIsEnough => ("thin", 80),
        Bug::CountsAtOnce => ("lives", 217),
        Bug::NoFence => ("late", 812),
    };
    (Profile::named(profile).expect("the table names profiles that there are"), seed)
}

/// Plants a bug and runs `seeds` of a profile, one after the other, until it is found.
///
/// A run that panics has found something too; whoever does not want to see why silences the panic hook.
pub fn hunt(bug: Bug, profile: &Profile, seeds: impl IntoIterator<Item = u64>) -> Option<Found> {
    let _planted = plant(Some(bug));
    let mut tried = 0;
    seeds.into_iter().find_map(|seed| {
        tried += 1;
        let scenario = Scenario::draw(seed, profile);
        let (by, what) = match catch_unwind(AssertUnwindSafe(|| run(&scenario, false))) {
            Ok(report) => finders(&report)?,
            Err(_) => (BTreeSet::from(["panic".to_owned()]), "the code under test panics".into()),
        };
        Some(Found { seed, tried, by, what })
    })
}

/// Who found the promises broken that a report names, and the first of these; `None` if none was.
fn finders(report: &Report) -> Option<(BTreeSet<String>, String)> {
    let first = report.violations.first()?.clone();
    let checker = |violation: &String| match violation.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default().to_owned(),
        None => "world".to_owned(),
    };
    Some((report.violations.iter().map(checker).collect(), first))
}
