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
    /// Who says so: names of [checkers](crate::check), `world` for what is checked while a run goes on, `settled` for
    /// what is checked when it has come to rest, `panic` for an assertion of the code under test.
    pub by: BTreeSet<String>,
    /// The first thing that was said.
    pub what: String,
}

/// The profile under which a bug shows itself best, and a seed of it that does.
#[must_use]
pub fn known(bug: Bug) -> (Profile, u64) {
    let (profile, seed) = match bug {
        _ => ("default", 0),
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
