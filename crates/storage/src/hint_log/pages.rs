//! A sorted set of small values that takes little more memory than they do.

use std::collections::BTreeMap;

/// The most values on a page. Adding one moves half a page at most, a few hundred bytes.
const PAGE_LEN: usize = 128;

/// A set of values, in order, on pages of about a hundred.
///
/// A `BTreeSet` has eleven values to a node, and a third of that is empty; here a page has room for one in sixteen more
/// than it holds.
pub(crate) struct Pages<T> {
    /// By the least value that ever was on the page: everything from there to the next page's.
    pages: BTreeMap<T, Vec<T>>,
    len: usize,
}

impl<T: Copy + Ord> Pages<T> {
    pub(crate) fn new() -> Self {
        Self { pages: BTreeMap::new(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a value; `false` if it is there already.
    pub(crate) fn insert(&mut self, value: T) -> bool {
        let page = match self.pages.range_mut(..=value).next_back() {
            Some((_, page)) => page,
            // Less than all others: it becomes the least of the first page.
            None => {
                let page = self.pages.pop_first().map_or_else(Vec::new, |(_, page)| page);
                self.pages.entry(value).or_insert(page)
            }
        };
        let Err(at) = page.binary_search(&value) else { return false };
        if page.len() == page.capacity() {
            page.reserve_exact(page.len() / 16 + 4);
        }
        page.insert(at, value);
        self.len += 1;
        if page.len() > PAGE_LEN {
            let upper = page.split_off(page.len() / 2);
            page.shrink_to_fit();
            self.pages.insert(upper[0], upper);
        }
        true
    }

    /// Takes a value out; `false` if it is not there.
    pub(crate) fn remove(&mut self, value: &T) -> bool {
        let Some((&first, page)) = self.pages.range_mut(..=*value).next_back() else {
            return false;
        };
        let Ok(at) = page.binary_search(value) else { return false };
        page.remove(at);
        self.len -= 1;
        if page.is_empty() {
            self.pages.remove(&first);
        } else if page.len() < page.capacity() / 2 {
            self.merge(first);
        }
        true
    }

    /// The values from `least` on.
    pub(crate) fn from(&self, least: T) -> impl Iterator<Item = T> + '_ {
        let page = self.pages.range(..=least).next_back().map(|(first, _)| *first);
        let pages = self.pages.range(page.unwrap_or(least)..).flat_map(|(_, page)| page);
        pages.copied().skip_while(move |value| *value < least)
    }

    /// Gives back what a page has too much, and joins it with the next one if both are small.
    fn merge(&mut self, first: T) {
        let next = self.pages.range(first..).nth(1).map(|(next, page)| (*next, page.len()));
        let Some(page) = self.pages.get_mut(&first) else { return };
        let mut moved = Vec::new();
        if let Some((next, len)) = next
            && page.len() + len <= PAGE_LEN / 2
        {
            moved = self.pages.remove(&next).unwrap_or_default();
        }
        let Some(page) = self.pages.get_mut(&first) else { return };
        page.append(&mut moved);
        page.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_sorted_set(
            steps in prop::collection::vec((any::<bool>(), 0..1500_u16), 0..3000),
            least in 0..1500_u16,
        ) {
            let (mut pages, mut set) = (Pages::new(), BTreeSet::new());
            for (adds, value) in steps {
                if adds {
                    prop_assert_eq!(pages.insert(value), set.insert(value));
                } else {
                    prop_assert_eq!(pages.remove(&value), set.remove(&value));
                }
            }
            prop_assert_eq!(pages.len(), set.len());
            prop_assert!(pages.from(0).eq(set.iter().copied()));
            prop_assert!(pages.from(least).eq(set.range(least..).copied()));
            prop_assert!(pages.pages.values().all(|page| (1..=PAGE_LEN).contains(&page.len())));
        }
    }

    #[test]
    fn it_takes_little_more_memory_than_its_values() {
        let mut pages = Pages::new();
        for number in 0..200_000_u64 {
            pages.insert(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        let room: usize = pages.pages.values().map(Vec::capacity).sum();
        assert!(room < 215_000, "{room}");
        for number in 0..199_000_u64 {
            pages.remove(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        let room: usize = pages.pages.values().map(Vec::capacity).sum();
        assert!(pages.len() == 1000 && room < 6000, "{room}");
    }
}
