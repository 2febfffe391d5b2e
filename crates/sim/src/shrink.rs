//! Makes a failing scenario smaller.

use crate::Scenario;

/// Takes away faults, then operations, clients and nodes, as long as `fails` says that what is left still fails.
///
/// Each step is tried on its own and kept if it helps, over again until none does; so the result is small, but not
/// the smallest. `fails` is not asked about `scenario` itself.
#[must_use]
pub fn shrink(scenario: &Scenario, mut fails: impl FnMut(&Scenario) -> bool) -> Scenario {
    let mut smallest = scenario.clone();
    loop {
        let Some(better) = smaller(&smallest).into_iter().find(|it| fails(it)) else {
            return smallest;
        };
        smallest = better;
    }
}

/// What is one step smaller, the greatest steps first.
fn smaller(scenario: &Scenario) -> Vec<Scenario> {
    let with = |change: &dyn Fn(&mut Scenario)| {
        let mut changed = scenario.clone();
        change(&mut changed);
        changed
    };
    let mut steps = Vec::new();
    for fault in scenario.faults.keys() {
        steps.push(with(&|it| {
            it.faults.remove(fault);
        }));
    }
    if !scenario.sites.is_empty() {
        steps.push(with(&|it| it.sites.clear()));
    }
    for site in &scenario.sites {
        steps.push(with(&|it| {
            it.sites.remove(site);
        }));
    }
    for part in [2, 4, 8] {
        let less = scenario.operations - scenario.operations / part;
        if less < scenario.operations && less > 0 {
            steps.push(with(&|it| it.operations = less));
        }
    }
    if scenario.clients > 1 {
        steps.push(with(&|it| it.clients = 1));
        steps.push(with(&|it| it.clients -= 1));
    }
    if scenario.nodes > scenario.owners.max(2) {
        steps.push(with(&|it| it.nodes -= 1));
    }
    if scenario.keys > 1 {
        steps.push(with(&|it| it.keys = 1));
        steps.push(with(&|it| it.keys /= 2));
    }
    if scenario.sloppy > 0.0 {
        steps.push(with(&|it| it.sloppy = 0.0));
    }
    if scenario.odd_quorums > 0.0 {
        steps.push(with(&|it| it.odd_quorums = 0.0));
    }
    if scenario.huge > 0.0 {
        steps.push(with(&|it| it.huge = 0.0));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fault, Profile};

    #[test]
    fn what_does_not_matter_is_taken_away() {
        let seeds = 0..;
        let drawn = seeds.map(|seed| Scenario::draw(seed, &Profile::default()));
        let mut with_loss = drawn.filter(|it| it.of(Fault::Loss) > 0.0 && it.faults.len() > 5);
        let scenario = with_loss.next().unwrap();
        let small = shrink(&scenario, |it| it.of(Fault::Loss) > 0.0 && it.operations >= 10);
        assert_eq!(small.faults.len(), 1);
        assert_eq!((small.operations, small.clients, small.keys), (10, 1, 1));
        assert_eq!(small.nodes, scenario.owners.max(2));
    }
}
