//! Which nodes could have answered what, and when.

/// What works at some moment, as far as faults go. Nodes are numbered from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sky {
    /// Whether the node takes requests.
    pub(crate) up: Vec<bool>,
    /// Whether the node's answers count: it runs, and has all that it once acknowledged.
    pub(crate) counts: Vec<bool>,
    /// By speaker and listener: whether what the one says reaches the other in time.
    pub(crate) hears: Vec<Vec<bool>>,
}

/// What worked since when.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    nodes: usize,
    changes: Vec<(u64, Sky)>,
}

impl Sky {
    /// Everything works.
    #[must_use]
    pub(crate) fn clear(nodes: usize) -> Self {
        Self {
            up: vec![true; nodes],
            counts: vec![true; nodes],
            hears: vec![vec![true; nodes]; nodes],
        }
    }

    /// What works under both.
    fn and(&mut self, other: &Self) {
        let and = |ours: &mut Vec<bool>, theirs: &Vec<bool>| {
            ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours &= theirs);
        };
        and(&mut self.up, &other.up);
        and(&mut self.counts, &other.counts);
        self.hears.iter_mut().zip(&other.hears).for_each(|(ours, theirs)| and(ours, theirs));
    }

    /// Whether `node` can ask `other`: both run and hear each other.
    fn reaches(&self, node: usize, other: usize) -> bool {
        let hear_each_other = self.hears[node][other] && self.hears[other][node];
        self.up[node] && self.up[other] && (node == other || hear_each_other)
    }

    /// Whether node `coordinator` owes an answer that is a success: it is up and reaches a majority
    /// of all nodes, and among those are enough that count.
    ///
    /// With `stand_ins` every node may count, as fallbacks do for writes that are sloppy; else only
    /// the `owners` of the key. They alone know that there is nothing, so reads need them.
    #[must_use]
    pub(crate) fn owes(
        &self,
        coordinator: usize,
        owners: &[usize],
        needed: usize,
        stand_ins: bool,
    ) -> bool {
        let nodes = self.up.len();
        let reached: Vec<usize> =
            (0..nodes).filter(|&node| self.reaches(coordinator, node)).collect();
        let counted = |&&node: &&usize| self.counts[node] && (stand_ins || owners.contains(&node));
        2 * reached.len() > nodes && reached.iter().filter(counted).count() >= needed
    }
}

impl Weather {
    /// Everything works.
    #[must_use]
    pub(crate) fn new(nodes: usize) -> Self {
        Self { nodes, changes: Vec::new() }
    }

    /// From `at_us` on this works; not before what was noted last.
    pub(crate) fn note(&mut self, at_us: u64, sky: &Sky) {
        if self.changes.last().is_none_or(|(_, last)| last != sky) {
            self.changes.push((at_us, sky.clone()));
        }
    }

    /// What worked all the time from one moment to another.
    #[must_use]
    pub(crate) fn during(&self, from_us: u64, to_us: u64) -> Sky {
        let mut sky = Sky::clear(self.nodes);
        let first = self.changes.partition_point(|&(at_us, _)| at_us <= from_us).saturating_sub(1);
        for (_, change) in self.changes[first..].iter().take_while(|&&(at_us, _)| at_us <= to_us) {
            sky.and(change);
        }
        sky
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_worked_throughout_counts() {
        let mut weather = Weather::new(3);
        let mut sky = Sky::clear(3);
        sky.up[1] = false;
        weather.note(100, &sky);
        weather.note(200, &Sky::clear(3));
        assert_eq!(weather.during(0, 99), Sky::clear(3));
        for (from, to) in [(0, 100), (50, 300), (100, 199), (199, 200)] {
            assert_eq!(weather.during(from, to), sky, "{from} to {to}");
        }
        assert_eq!(weather.during(200, 500), Sky::clear(3));
    }

    #[test]
    fn a_node_owes_what_enough_in_its_majority_can_answer() {
        let owners = [0, 1, 2];
        let mut sky = Sky::clear(5);
        assert!(sky.owes(4, &owners, 3, false));
        sky.hears[3][4] = false; // one way is enough
        sky.counts[1] = false;
        assert!(sky.owes(4, &owners, 2, false));
        assert!(!sky.owes(4, &owners, 3, false));
        assert!(sky.owes(4, &owners, 3, true));
        sky.up[2] = false;
        assert!(!sky.owes(4, &owners, 2, false));
        assert!(sky.owes(4, &owners, 2, true), "three of five are a majority");
        sky.up[1] = false;
        assert!(!sky.owes(4, &owners, 2, true));
        assert!(!sky.owes(2, &owners, 1, true), "it is down itself");
    }
}
