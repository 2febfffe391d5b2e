use quorate_simulator::{Fault, Profile, Report, Scenario, run, run_liveness};

fn report(profile: &str, seed: u64, liveness: bool) -> Report {
    let profile = Profile::named(profile).expect("a profile");
    let scenario = Scenario::draw(seed, &profile);
    if liveness { run_liveness(&scenario, false) } else { run(&scenario, false) }
}

fn assert_kept(profile: &str, seed: u64, liveness: bool) {
    let report = report(profile, seed, liveness);
    let tables = report.tables.join("\n");
    assert!(report.is_ok(), "{profile} {seed}: {:#?}\n{tables}", report.violations);
}

#[test]
fn the_same_seed_does_the_same() {
    for profile in Profile::all() {
        let [one, other] = [(); 2].map(|()| report(profile.name, 0, false));
        assert_eq!((one.hash, one.events), (other.hash, other.events), "{}", profile.name);
    }
}

#[test]
fn reading_along_changes_nothing() {
    let scenario = Scenario::draw(3, &Profile::default());
    let (quiet, loud) = (run(&scenario, false), run(&scenario, true));
    assert_eq!(quiet.hash, loud.hash);
    assert!(quiet.log.is_empty() && loud.log.len() > 1_000);
}

#[test]
fn different_seeds_do_different_things() {
    assert_ne!(report("default", 1, false).hash, report("default", 2, false).hash);
}

#[test]
fn some_seeds_of_every_profile_keep_every_promise() {
    for profile in Profile::all() {
        for seed in 100..103 {
            assert_kept(profile.name, seed, false);
        }
    }
}

#[test]
fn a_core_with_a_quorum_goes_on_by_itself() {
    for seed in 0..5 {
        assert_kept("default", seed, true);
    }
}

#[test]
fn seeds_that_were_mended_stay_mended() {
    for line in include_str!("../../seeds.txt").lines() {
        let line = line.split('#').next().unwrap().trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        let [profile, seed, rest @ ..] = words.as_slice() else { continue };
        assert_kept(profile, seed.parse().unwrap(), rest == ["liveness"]);
    }
}

#[test]
fn a_calm_run_refuses_nobody() {
    let report = report("calm", 1, false);
    assert_eq!(report.told.failed, 0);
    assert!(report.told.succeeded >= 500);
}

#[test]
fn what_is_switched_off_does_not_happen() {
    let mut scenario = Scenario::draw(8, &Profile::default());
    scenario.faults.clear();
    let report = run(&scenario, false);
    assert!(Fault::ALL.iter().all(|fault| report.coverage.of(fault.name()) == 0));
}
