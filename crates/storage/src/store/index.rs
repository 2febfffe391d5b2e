//! The records in memory, in token order.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::ops::{Bound, RangeInclusive};

use bytes::Bytes;
use quorate_record::{Digest, Key, NodeId, Record, Stamp, Version, Writer};

use super::digests::{Digests, bucket, first_token, last_token};

/// What a version, a key's length and the like take up beside key and value, about.
const OVERHEAD_BYTES: u64 = 64;

/// A key's place in the index: token first, so that a range of tokens is a range of the index.
pub(crate) type Place = (u64, Key);

/// A record with its content hash, which is costly for large values and needed again and again.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) record: Record,
    content: u64,
}

impl Held {
    pub(crate) fn new(record: Record) -> Self {
        let content = record.content_hash();
        Self { record, content }
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp { version: self.record.version, content: self.content }
    }

    /// The same in an allocation that it shares with its key, and with nothing else.
    pub(crate) fn detached(&self, key: &Key) -> (Key, Self) {
        let key_bytes = key.as_bytes();
        let value = self.record.value.as_deref().unwrap_or_default();
        let both = Bytes::from([key_bytes, value].concat());
        let key = Key::new(both.slice(..key_bytes.len())).expect("it was a key before");
        let value = self.record.value.is_some().then(|| both.slice(key_bytes.len()..));
        (key, Self { record: Record { value, ..self.record }, content: self.content })
    }

    /// The order of records, by the hashes that are there already.
    pub(crate) fn order(&self) -> (Stamp, &Option<Bytes>) {
        if planted!(TiesByArrival) {
            let node = NodeId::new("n").expect("a plain name");
            let writer = Writer { node, incarnation: 0 };
            let version = Version { writer, ..self.record.version };
            return (Stamp { version, content: 0 }, &None);
        }
        (self.stamp(), &self.record.value)
    }
}

/// The greatest record of each key.
pub(crate) struct Index {
    records: BTreeMap<Place, Held>,
    digests: Digests,
    live_bytes: u64,
}

impl Index {
    pub(crate) fn new() -> Self {
        Self { records: BTreeMap::new(), digests: Digests::new(), live_bytes: 0 }
    }

    pub(crate) fn get(&self, place: &Place) -> Option<&Held> {
        self.records.get(place)
    }

    pub(crate) fn keys(&self) -> u64 {
        self.records.len() as u64
    }

    /// About what the records take up when they are written once.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Keeps the greater of `held` and what is there.
    pub(crate) fn merge(&mut self, place: Place, held: Held) {
        let token = place.0;
        if planted!(DigestNotUpdated) && self.records.contains_key(&place) {
            // Taken away first, so that adding it and removing what it replaces changes nothing.
            let [new, old] = [held.stamp(), self.records[&place].stamp()];
            if old < new {
                self.digests.remove(token, new.digest_hash(token));
                self.digests.add(token, old.digest_hash(token));
            }
        }
        self.digests.add(token, held.stamp().digest_hash(token));
        self.live_bytes += size(&place.1, &held.record);
        let loser = match self.records.entry(place) {
            Slot::Vacant(slot) => {
                slot.insert(held);
                return;
            }
            Slot::Occupied(mut slot) => {
                let size_of = |held: &Held| size(&slot.key().1, &held.record);
                if slot.get().order() < held.order() || planted!(StoreOverwritesNewer) {
                    let bytes = size_of(slot.get());
                    (slot.insert(held), bytes)
                } else {
                    let bytes = size_of(&held);
                    (held, bytes)
                }
            }
        };
        self.digests.remove(token, loser.0.stamp().digest_hash(token));
        self.live_bytes -= loser.1;
    }

    /// The digest of the records with these tokens.
    pub(crate) fn digest(&self, tokens: &RangeInclusive<u64>) -> Digest {
        let (&first, &last) = (tokens.start(), tokens.end());
        if first > last {
            return Digest::default();
        }
        // Whole buckets have their digest; of the two at the edges the records are looked at one by one.
        let from =
            if first == first_token(bucket(first)) { bucket(first) } else { bucket(first) + 1 };
        let to = if last == last_token(bucket(last)) { bucket(last) + 1 } else { bucket(last) };
        if from >= to {
            return self.count(first..=last);
        }
        let mut digest = self.digests.of(from..to);
        if first < first_token(from) {
            digest = digest.combine(self.count(first..=first_token(from) - 1));
        }
        if last > last_token(to - 1) {
            digest = digest.combine(self.count(last_token(to - 1) + 1..=last));
        }
        digest
    }

    /// Token and stamp of the records in these ranges, in order; `false` if there are more behind the last one's token.
    /// The records of one token are never separated, and so may be more than `limit` if they come first.
    pub(crate) fn list(
        &self,
        ranges: &[RangeInclusive<u64>],
        limit: usize,
    ) -> (Vec<(u64, Stamp)>, bool) {
        let mut items: Vec<(u64, Stamp)> = Vec::new();
        for (place, held) in
            ranges.iter().flat_map(|range| self.range(*range.start(), *range.end()))
        {
            let (first, last) = (items.first().map(|item| item.0), items.last().map(|item| item.0));
            if items.len() >= limit && first != Some(place.0) {
                if last == Some(place.0) {
                    items.truncate(items.partition_point(|item| item.0 < place.0));
                }
                return (items, false);
            }
            items.push((place.0, held.stamp()));
        }
        (items, true)
    }

    /// The records with these tokens, which are in order, until `max_bytes` of keys and values are reached. The records
    /// of one token are never separated, and so may be more than that if they come first.
    pub(crate) fn fetch(&self, tokens: &[u64], max_bytes: usize) -> Vec<(Key, Record)> {
        let mut records = Vec::new();
        let mut bytes = 0_usize;
        for token in tokens {
            let group = || self.range(*token, *token).map(|((_, key), held)| (key, &held.record));
            let len = |(key, record): (&Key, &Record)| {
                key.as_bytes().len() + record.value.as_ref().map_or(0, Bytes::len)
            };
            bytes = bytes.saturating_add(group().map(len).sum());
            if bytes > max_bytes && !records.is_empty() {
                break;
            }
            records.extend(group().map(|(key, record)| (key.clone(), record.clone())));
        }
        records
    }

    /// The records behind `after`, in order: at most `limit`, and no more once `max_bytes` are reached.
    pub(crate) fn scan(
        &self,
        after: Option<&Place>,
        limit: usize,
        max_bytes: u64,
    ) -> Vec<(Key, Record)> {
        let from = after.map_or(Bound::Unbounded, |place| Bound::Excluded(place.clone()));
        let mut bytes = 0;
        self.records
            .range((from, Bound::Unbounded))
            .take(limit)
            .take_while(|((_, key), held)| {
                let go_on = bytes < max_bytes;
                bytes += size(key, &held.record);
                go_on
            })
            .map(|((_, key), held)| (key.clone(), held.record.clone()))
            .collect()
    }

    fn count(&self, tokens: RangeInclusive<u64>) -> Digest {
        let mut digest = Digest::default();
        self.range(*tokens.start(), *tokens.end())
            .for_each(|((token, _), held)| digest.add(held.stamp().digest_hash(*token)));
        digest
    }

    fn range(&self, start: u64, end: u64) -> impl Iterator<Item = (&Place, &Held)> {
        let to = end
            .checked_add(1)
            .map_or(Bound::Unbounded, |next| Bound::Excluded((next, least_key())));
        // A range map panics if the bounds are the wrong way round.
        let (from, to) = if start <= end {
            (Bound::Included((start, least_key())), to)
        } else {
            (Bound::Included((0, least_key())), Bound::Excluded((0, least_key())))
        };
        self.records.range((from, to))
    }
}

/// The key that is below or equal to every other.
fn least_key() -> Key {
    Key::new(&[0_u8][..]).expect("one byte is a key")
}

fn size(key: &Key, record: &Record) -> u64 {
    OVERHEAD_BYTES + (key.as_bytes().len() + record.value.as_ref().map_or(0, Bytes::len)) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_record::{NodeId, Timestamp, Version, Writer};

    use super::*;

    fn held(timestamp: u64, value: &'static str) -> Held {
        let writer = Writer { node: NodeId::new("n1").unwrap(), incarnation: 1 };
        Held::new(Record::live(
            Version { timestamp: Timestamp::from_bits(timestamp), writer },
            value,
        ))
    }

    fn key(text: &'static str) -> Key {
        Key::new(text).unwrap()
    }

    fn index(records: &[(u64, &'static str, u64)]) -> Index {
        let mut index = Index::new();
        for (token, text, timestamp) in records {
            index.merge((*token, key(text)), held(*timestamp, text));
        }
        index
    }

    fn tokens(items: &[(u64, Stamp)]) -> Vec<u64> {
        items.iter().map(|item| item.0).collect()
    }

    #[test]
    fn the_greater_record_stays_and_is_counted_once() {
        let mut index = index(&[(7, "a", 2), (7, "a", 1), (7, "a", 2)]);
        let bytes = index.live_bytes();
        assert_eq!(index.get(&(7, key("a"))).unwrap().record, held(2, "a").record);
        assert_eq!(index.digest(&(0..=u64::MAX)).count, 1);
        index.merge((7, key("a")), held(3, "b"));
        assert_eq!(index.get(&(7, key("a"))).unwrap().record, held(3, "b").record);
        let hash = held(3, "b").stamp().digest_hash(7);
        assert_eq!(index.digest(&(7..=7)), Digest { xor: hash, count: 1 });
        assert_eq!(index.live_bytes(), bytes);
    }

    #[test]
    fn a_detached_record_is_the_same_record() {
        let wire = Bytes::from_static(b"...keyvalue...");
        let held = Held::new(Record { value: Some(wire.slice(6..11)), ..held(1, "").record });
        let (key, own) = held.detached(&Key::new(wire.slice(3..6)).unwrap());
        assert_eq!((key.as_bytes(), &own.record), (&b"key"[..], &held.record));
        let dead = Held::new(Record::tombstone(held.record.version));
        assert_eq!(dead.detached(&key).1.record, dead.record);
    }

    #[test]
    fn a_list_says_whether_it_is_complete() {
        let index = index(&[(1, "a", 1), (2, "b", 1), (3, "c", 1), (9, "d", 1)]);
        let all = index.list(&[1..=2, 3..=8], 3);
        assert_eq!((tokens(&all.0), all.1), (vec![1, 2, 3], true));
        let some = index.list(&[1..=2, 3..=8], 2);
        assert_eq!((tokens(&some.0), some.1), (vec![1, 2], false));
    }

    #[test]
    fn a_list_never_ends_between_records_of_one_token() {
        let index = index(&[(1, "a", 1), (2, "b", 1), (2, "c", 1), (3, "d", 1)]);
        let some = index.list(&[0..=9], 2);
        assert_eq!((tokens(&some.0), some.1), (vec![1], false));
        let group = index.list(&[2..=9], 1);
        assert_eq!((tokens(&group.0), group.1), (vec![2, 2], false));
    }

    #[test]
    fn a_fetch_stops_at_the_limit_but_gives_at_least_one_token() {
        let index = index(&[(1, "aa", 1), (2, "bb", 1), (2, "cc", 1), (3, "dd", 1)]);
        let keys = |tokens: &[u64], max_bytes| {
            let records = index.fetch(tokens, max_bytes);
            records.into_iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(keys(&[2, 3], 0), ["bb", "cc"]);
        assert_eq!(keys(&[1, 2, 3], 11), ["aa"]);
        assert_eq!(keys(&[1, 2, 3], 12), ["aa", "bb", "cc"]);
        assert_eq!(keys(&[0, 3, 4], 0), ["dd"]);
    }

    #[test]
    fn a_scan_goes_on_behind_a_key() {
        let index = index(&[(5, "a", 1), (1, "b", 1), (5, "c", 1)]);
        let keys = |after: Option<&Place>, limit, bytes| {
            index
                .scan(after, limit, bytes)
                .into_iter()
                .map(|(key, _)| key.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(None, 9, u64::MAX), ["b", "a", "c"]);
        assert_eq!(keys(Some(&(5, key("a"))), 9, u64::MAX), ["c"]);
        assert_eq!(keys(None, 2, u64::MAX), ["b", "a"]);
        assert_eq!(keys(None, 9, 1), ["b"]);
    }

    /// Tokens near the borders of buckets and anywhere.
    fn any_token() -> impl Strategy<Value = u64> {
        prop_oneof![
            (0_usize..4, 0_u64..3)
                .prop_map(|(bucket, off)| first_token(bucket).wrapping_add(off).wrapping_sub(1)),
            any::<u64>(),
        ]
    }

    proptest! {
        #[test]
        fn the_digest_of_any_range_is_that_of_its_records(
            writes in prop::collection::vec((any_token(), 0_usize..3, 0_u64..4), 0..40),
            (a, b) in (any_token(), any_token()),
        ) {
            let names = ["x", "y", "z"];
            let mut index = Index::new();
            for (token, name, timestamp) in writes {
                index.merge((token, key(names[name])), held(timestamp, names[name]));
            }
            let range = a.min(b)..=a.max(b);
            prop_assert_eq!(index.digest(&range), index.count(range.clone()));
            prop_assert_eq!(index.digest(&(0..=u64::MAX)), index.count(0..=u64::MAX));
        }
    }
}
