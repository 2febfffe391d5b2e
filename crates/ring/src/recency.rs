//! What was met last: the order in which a backward walk leaves nodes and zones.

/// The numbers `0..len`, most recently touched first; those never touched are left out.
///
/// Walking the circle *backwards* and touching the node of every vnode keeps, at each vnode, the
/// order in which a forward walk from there would meet the nodes. That makes the preference lists
/// of a whole ring cost a constant time each, where a walk from every vnode would take the
/// square of the ring's size as soon as one zone is small.
pub(crate) struct Recency {
    /// A circular list in two arrays; the last element is the sentinel, before the most recent.
    next: Vec<u16>,
    prev: Vec<u16>,
}

impl Recency {
    /// # Panics
    /// If `len` does not fit in 16 bits.
    pub(crate) fn new(len: usize) -> Self {
        let sentinel = u16::try_from(len).expect("a ring has at most 1,024 nodes");
        let unlinked: Vec<u16> = (0..=sentinel).collect();
        Self { next: unlinked.clone(), prev: unlinked }
    }

    pub(crate) fn touch(&mut self, number: u16) {
        let sentinel = self.sentinel();
        let (before, after) = (self.prev[usize::from(number)], self.next[usize::from(number)]);
        self.link(before, after);
        let latest = self.next[usize::from(sentinel)];
        self.link(sentinel, number);
        self.link(number, latest);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> {
        let sentinel = self.sentinel();
        let after =
            move |number: u16| Some(self.next[usize::from(number)]).filter(|&n| n != sentinel);
        std::iter::successors(after(sentinel), move |&number| after(number))
    }

    fn link(&mut self, before: u16, after: u16) {
        self.next[usize::from(before)] = after;
        self.prev[usize::from(after)] = before;
    }

    fn sentinel(&self) -> u16 {
        u16::try_from(self.next.len() - 1).expect("checked when the list was made")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_touched_comes_first_and_the_untouched_never() {
        let mut recency = Recency::new(5);
        assert_eq!(recency.iter().count(), 0);
        for number in [3, 0, 4, 0, 0, 3] {
            recency.touch(number);
        }
        assert_eq!(recency.iter().collect::<Vec<_>>(), [3, 0, 4]);
    }
}
