//! Bugs that are planted are found.

use quorate_planted::Bug;
use quorate_simulator::bugs::{hunt, known};

/// The recorded seed finds it at once; after a change of what seeds stand for it takes some more.
const WITHIN: u64 = 400;

#[test]
fn every_planted_bug_is_found() {
    let missed = |bug: &Bug| {
        let (profile, seed) = known(*bug);
        hunt(*bug, &profile, seed..seed + WITHIN).is_none()
    };
    let missed: Vec<Bug> = Bug::ALL.iter().copied().filter(missed).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
