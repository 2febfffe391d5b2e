//! Which hints there are, and where in the log: all that is kept of them in memory, some 26 bytes each.

use std::collections::BTreeMap;
use std::hash::Hasher;

use quorate_record::{Hint, HintKind, Key, NodeId, Timestamp};
use siphasher::sip::SipHasher13;

use super::pages::Pages;
use crate::frame::ALIGN_BYTES;
use crate::queue::Place;

/// What frames begin at multiples of, and offsets and lengths are counted in here.
const UNIT_BYTES: u64 = ALIGN_BYTES as u64;

/// Every hint, by a hash of its key and by its place.
///
/// Hashes are short: several hints may share one, and whoever looks for a key reads what is found. They are keyed, so
/// that nobody outside can make many keys share one.
pub(crate) struct Held {
    secret: [u8; 16],
    index: Pages<Entry>,
    /// By the number of the segment; there is none without hints.
    tables: BTreeMap<u64, Table>,
    /// Frames name them by their place here.
    targets: Vec<NodeId>,
    live_bytes: u64,
}

/// Where a hint is, and how long its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) place: Place,
    pub(crate) bytes: u32,
}

/// The hints for one target, in all of the log or in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    /// None was taken on earlier; it may be that none was so early.
    pub(crate) oldest_added_ms: u64,
    /// None has a lesser version; it may be that none has so little.
    pub(crate) oldest_version: Timestamp,
}

/// How a hint is found by its key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    hash: u32,
    /// The low bits of its number: no log has four billion segments at a time.
    segment: u32,
    /// In units.
    offset: u32,
}

/// The hints of one segment.
struct Table {
    /// A sequence number in the segment that none of its hints' is below.
    first_seq: u64,
    /// In seconds since the Unix epoch: frames count from here.
    base_s: u32,
    /// No courtesy in it was taken on earlier, in seconds since the Unix epoch; it may be that none was so early.
    courtesies_from_s: u32,
    /// By their offsets, and dead ones among them.
    frames: Vec<Facts>,
    dead: usize,
    shares: BTreeMap<u16, Share>,
}

/// What is known of a frame without reading it.
#[derive(Clone, Copy)]
struct Facts {
    /// In units.
    offset: u32,
    /// The length in units, and two flags above.
    length: u32,
    target: u16,
    /// Seconds from the table's base on, or as many as fit: it was not taken on earlier.
    added: u16,
}

const COURTESY: u32 = 1 << 31;
const DEAD: u32 = 1 << 30;
const LENGTH: u32 = DEAD - 1;

impl Held {
    pub(crate) fn new(secret: [u8; 16]) -> Self {
        Self {
            secret,
            index: Pages::new(),
            tables: BTreeMap::new(),
            targets: Vec::new(),
            live_bytes: 0,
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.index.len() as u64
    }

    /// What the frames of all hints take up.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// No frame below this sequence number is needed; `None` if there are no hints.
    pub(crate) fn needed_from(&self) -> Option<u64> {
        self.tables.first_key_value().map(|(_, table)| table.first_seq)
    }

    /// Whether a hint for this target can be named at all: there are numbers for 65,536.
    pub(crate) fn names(&mut self, target: NodeId) -> bool {
        self.number_of(target).is_some()
    }

    /// Adds a hint, whose place is greater than that of every other one. `false` if it cannot be, as nobody ever wrote
    /// such a frame.
    pub(crate) fn insert(&mut self, hint: &Hint, seq: u64, spot: Spot) -> bool {
        let Spot { place, bytes } = spot;
        let units = |bytes: u64| u32::try_from(bytes / UNIT_BYTES).ok();
        let length = units(bytes.into()).filter(|length| *length <= LENGTH);
        let facts = (units(place.offset), length, self.number_of(hint.target));
        let (Some(offset), Some(length), Some(target)) = facts else { return false };
        let added_s = u32::try_from(hint.added_ms / 1000).unwrap_or(u32::MAX);
        let table = self.tables.entry(place.segment).or_insert_with(|| Table {
            first_seq: seq,
            base_s: added_s,
            courtesies_from_s: u32::MAX,
            frames: Vec::new(),
            dead: 0,
            shares: BTreeMap::new(),
        });
        // One that was written again is older than its neighbours: the others then look older, too, than they are.
        table.base_s = table.base_s.min(added_s);
        let added = u16::try_from(added_s - table.base_s).unwrap_or(u16::MAX);
        let is_courtesy = hint.kind == HintKind::Courtesy || planted!(OwedHintDropped);
        if is_courtesy {
            table.courtesies_from_s = table.courtesies_from_s.min(added_s);
        }
        let length = length | if is_courtesy { COURTESY } else { 0 };
        if table.frames.len() == table.frames.capacity() {
            table.frames.reserve_exact(table.frames.len() / 4 + 16);
        }
        table.frames.push(Facts { offset, length, target, added });
        let share = table.shares.entry(target).or_insert(Share::NONE);
        share.add(&Share {
            count: 1,
            bytes: bytes.into(),
            oldest_added_ms: hint.added_ms,
            oldest_version: hint.record.version.timestamp,
        });
        self.live_bytes += u64::from(bytes);
        let hash = self.hash(&hint.key);
        self.index.insert(Entry { hash, segment: low(place.segment), offset })
    }

    /// Takes out the hint at this place, if there is one.
    pub(crate) fn remove(&mut self, key: &Key, place: Place) {
        let hash = self.hash(key);
        if let Some(offset) = self.mark_dead(place) {
            self.index.remove(&Entry { hash, segment: low(place.segment), offset });
        }
    }

    /// Takes out the hint at this place that nobody can read any more; the target that it was for, if there is one.
    pub(crate) fn lose(&mut self, place: Place) -> Option<NodeId> {
        let table = self.tables.get(&place.segment)?;
        let target = self.targets[usize::from(table.frames[table.find(place)?].target)];
        let offset = self.mark_dead(place)?;
        // Only its key would tell which hash it has.
        let segment = low(place.segment);
        let is_it = |entry: &Entry| (entry.segment, entry.offset) == (segment, offset);
        let entry = self.index.from(Entry { hash: 0, segment: 0, offset: 0 }).find(is_it);
        if let Some(entry) = entry {
            self.index.remove(&entry);
        }
        Some(target)
    }

    fn mark_dead(&mut self, place: Place) -> Option<u32> {
        let table = self.tables.get_mut(&place.segment)?;
        let at = table.find(place)?;
        let facts = &mut table.frames[at];
        facts.length |= DEAD;
        let (offset, target, bytes) = (facts.offset, facts.target, facts.bytes());
        self.live_bytes -= u64::from(bytes);
        table.dead += 1;
        if let Some(share) = table.shares.get_mut(&target) {
            share.count -= 1;
            share.bytes -= u64::from(bytes);
            if share.count == 0 {
                table.shares.remove(&target);
            }
        }
        if table.shares.is_empty() {
            self.tables.remove(&place.segment);
        } else if table.dead > table.frames.len() / 2 {
            table.frames.retain(|facts| !facts.is_dead());
            table.frames.shrink_to_fit();
            table.dead = 0;
        }
        Some(offset)
    }

    /// Whether there is a hint at this place.
    pub(crate) fn is_live(&self, place: Place) -> bool {
        self.tables.get(&place.segment).is_some_and(|table| table.find(place).is_some())
    }

    /// Where the hints may be that have this key, for one target or all.
    pub(crate) fn candidates(&self, target: Option<NodeId>, key: &Key) -> Vec<Spot> {
        let hash = self.hash(key);
        let target = target.map(|target| self.known(target));
        let Some(base) = self.tables.first_key_value().map(|(number, _)| *number) else {
            return Vec::new();
        };
        self.index
            .from(Entry { hash, segment: 0, offset: 0 })
            .take_while(|entry| entry.hash == hash)
            .filter_map(|entry| {
                let segment = base + u64::from(entry.segment.wrapping_sub(low(base)));
                let place = Place { segment, offset: u64::from(entry.offset) * UNIT_BYTES };
                let table = self.tables.get(&segment)?;
                let facts = &table.frames[table.find(place)?];
                let is_for = |target: Option<u16>| target == Some(facts.target);
                target.is_none_or(is_for).then_some(Spot { place, bytes: facts.bytes() })
            })
            .collect()
    }

    /// The hints for a target behind a place and then around, in the order of the log, until there are so many or they
    /// have so many bytes; one at least, if there is any.
    pub(crate) fn next(
        &self,
        target: NodeId,
        after: Option<Place>,
        max_hints: usize,
        max_bytes: u64,
    ) -> Vec<Spot> {
        let Some(number) = self.known(target) else { return Vec::new() };
        let is_for = move |facts: &Facts| facts.target == number;
        let has = move |table: &Table| table.shares.contains_key(&number);
        let behind = self.spots(after, has, is_for);
        let around = after.into_iter().flat_map(move |after| {
            let upto = move |spot: &Spot| spot.place <= after;
            self.spots(None, has, is_for).take_while(upto)
        });
        take_bytes(behind.chain(around).take(max_hints), max_bytes)
    }

    /// The hints at the start of the log, until they have so many bytes.
    pub(crate) fn oldest(&self, max_bytes: u64) -> Vec<Spot> {
        take_bytes(self.spots(None, |_| true, |_| true), max_bytes)
    }

    /// The hints behind a place, in the order of the log, until there are so many or they have so many bytes; one at
    /// least, if there is any.
    pub(crate) fn all(&self, after: Option<Place>, max_hints: usize, max_bytes: u64) -> Vec<Spot> {
        take_bytes(self.spots(after, |_| true, |_| true).take(max_hints), max_bytes)
    }

    /// The courtesies behind a place that may have been taken on up to this time, in milliseconds since the Unix epoch,
    /// until there are so many or they have so many bytes, and whether there may be more.
    pub(crate) fn courtesies(
        &mut self,
        after: Option<Place>,
        added_until_ms: u64,
        max_hints: usize,
        max_bytes: u64,
    ) -> (Vec<Spot>, bool) {
        let until_s = u32::try_from(added_until_ms / 1000).unwrap_or(u32::MAX);
        let mut spots = Vec::new();
        let first = after.map_or(0, |after| after.segment);
        for (&segment, table) in self.tables.range_mut(first..) {
            if table.courtesies_from_s > until_s {
                continue;
            }
            // What was given up since the last look leaves the table with a time that is too early.
            table.courtesies_from_s =
                table.courtesies().map(|facts| table.added_s(facts)).min().unwrap_or(u32::MAX);
            let early = table.courtesies().filter(|facts| table.added_s(facts) <= until_s);
            let places = early.map(|facts| facts.spot(segment));
            let behind = places.filter(|spot| Some(spot.place) > after);
            spots.extend(behind.take(max_hints - spots.len()));
            if spots.len() == max_hints {
                break;
            }
        }
        let chosen = take_bytes(spots.iter().copied(), max_bytes);
        let more = spots.len() == max_hints || chosen.len() < spots.len();
        (chosen, more)
    }

    /// No courtesy was taken on earlier, in milliseconds since the Unix epoch; `None` if there is none. It may be that
    /// none was so early, or that there is none, until [`Self::courtesies`] has looked.
    pub(crate) fn courtesies_from_ms(&self) -> Option<u64> {
        let from_s = self.tables.values().map(|table| table.courtesies_from_s).min()?;
        (from_s < u32::MAX).then_some(u64::from(from_s) * 1000)
    }

    /// What is held for each target.
    pub(crate) fn shares(&self) -> BTreeMap<NodeId, Share> {
        let mut all: BTreeMap<NodeId, Share> = BTreeMap::new();
        for (&number, share) in self.tables.values().flat_map(|table| &table.shares) {
            all.entry(self.targets[usize::from(number)]).or_insert(Share::NONE).add(share);
        }
        all
    }

    /// Live frames in the order of the log, of the tables and for whom the caller likes.
    fn spots<'a>(
        &'a self,
        after: Option<Place>,
        table: impl Fn(&Table) -> bool + 'a,
        frame: impl Fn(&Facts) -> bool + Copy + 'a,
    ) -> impl Iterator<Item = Spot> + 'a {
        let first = after.map_or(0, |after| after.segment);
        let tables = self.tables.range(first..).filter(move |(_, it)| table(it));
        tables.flat_map(move |(&segment, table)| {
            let from = match after {
                Some(after) if after.segment == segment => {
                    let behind =
                        |facts: &Facts| u64::from(facts.offset) * UNIT_BYTES <= after.offset;
                    table.frames.partition_point(behind)
                }
                _ => 0,
            };
            let live = table.frames[from..].iter().filter(move |it| !it.is_dead() && frame(it));
            live.map(move |facts| facts.spot(segment))
        })
    }

    /// The number of a target that there was a hint for.
    fn known(&self, target: NodeId) -> Option<u16> {
        let number = self.targets.iter().position(|other| *other == target)?;
        u16::try_from(number).ok()
    }

    fn number_of(&mut self, target: NodeId) -> Option<u16> {
        let known = self.known(target);
        if known.is_some() {
            return known;
        }
        let next = u16::try_from(self.targets.len()).ok()?;
        self.targets.push(target);
        Some(next)
    }

    fn hash(&self, key: &Key) -> u32 {
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        hasher.write(key.as_bytes());
        low(hasher.finish())
    }
}

impl Share {
    pub(crate) const NONE: Self = Self {
        count: 0,
        bytes: 0,
        oldest_added_ms: u64::MAX,
        oldest_version: Timestamp::from_bits(u64::MAX),
    };

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.bytes += other.bytes;
        self.oldest_added_ms = self.oldest_added_ms.min(other.oldest_added_ms);
        self.oldest_version = self.oldest_version.min(other.oldest_version);
    }
}

impl Table {
    /// Where among the frames the live one at this place is.
    fn find(&self, place: Place) -> Option<usize> {
        let offset = u32::try_from(place.offset / UNIT_BYTES).ok()?;
        let at = self.frames.binary_search_by_key(&offset, |facts| facts.offset).ok()?;
        (!self.frames[at].is_dead()).then_some(at)
    }

    fn courtesies(&self) -> impl Iterator<Item = &Facts> {
        self.frames.iter().filter(|facts| facts.length & (COURTESY | DEAD) == COURTESY)
    }

    fn added_s(&self, facts: &Facts) -> u32 {
        self.base_s.saturating_add(facts.added.into())
    }
}

impl Facts {
    fn is_dead(&self) -> bool {
        self.length & DEAD != 0
    }

    fn bytes(&self) -> u32 {
        let bytes = u64::from(self.length & LENGTH) * UNIT_BYTES;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    fn spot(&self, segment: u64) -> Spot {
        let place = Place { segment, offset: u64::from(self.offset) * UNIT_BYTES };
        Spot { place, bytes: self.bytes() }
    }
}

/// Spots until they have so many bytes; one at least.
fn take_bytes(spots: impl Iterator<Item = Spot>, max_bytes: u64) -> Vec<Spot> {
    let mut bytes = 0;
    spots
        .enumerate()
        .take_while(|(place, spot)| {
            bytes += u64::from(spot.bytes);
            *place == 0 || bytes <= max_bytes
        })
        .map(|(_, spot)| spot)
        .collect()
}

fn low(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).expect("masked to 32 bits")
}

#[cfg(test)]
mod tests {
    use quorate_record::{Record, Version, Writer};

    use super::*;

    const FRAME_BYTES: u32 = 128;

    fn hint(target: &str, key: &str, added_s: u64, kind: HintKind) -> Hint {
        let writer = Writer { node: NodeId::new("n1").unwrap(), incarnation: 1 };
        let version = Version { timestamp: Timestamp::from_bits(added_s), writer };
        Hint {
            target: NodeId::new(target).unwrap(),
            key: Key::new(key.to_owned()).unwrap(),
            record: Record::tombstone(version),
            kind,
            added_ms: added_s * 1000 + 7,
        }
    }

    /// The place of the frame with this number, ten to a segment.
    fn place(number: u64) -> Place {
        Place { segment: 1 + number / 10, offset: 512 + number % 10 * u64::from(FRAME_BYTES) }
    }

    fn spot(number: u64) -> Spot {
        Spot { place: place(number), bytes: FRAME_BYTES }
    }

    fn places(spots: Vec<Spot>) -> Vec<Place> {
        spots.into_iter().map(|spot| spot.place).collect()
    }

    fn numbers(numbers: impl IntoIterator<Item = u64>) -> Vec<Place> {
        numbers.into_iter().map(place).collect()
    }

    /// Forty courtesies, of which every fourth is for `n3`, taken on a second apart.
    fn forty() -> Held {
        let mut held = Held::new([7; 16]);
        for number in 0..40 {
            let target = if number % 4 == 3 { "n3" } else { "n2" };
            let hint = hint(target, &format!("k{number}"), 100 + number, HintKind::Courtesy);
            assert!(held.insert(&hint, number + 1, spot(number)));
        }
        held
    }

    #[test]
    fn keys_that_share_a_hash_are_kept_apart_by_their_places() {
        let mut held = Held::new([7; 16]);
        let mut seen = BTreeMap::new();
        let (one, other) = (0..)
            .find_map(|number: u32| {
                let key = format!("k{number}");
                let hash = held.hash(&Key::new(key.clone()).unwrap());
                seen.insert(hash, key.clone()).map(|before| (before, key))
            })
            .unwrap();
        let [one, other] = [one, other].map(|key| hint("n2", &key, 1, HintKind::Owed));
        held.insert(&one, 1, spot(0));
        held.insert(&other, 2, spot(1));
        assert_eq!(held.candidates(Some(one.target), &one.key), [spot(0), spot(1)]);
        held.remove(&one.key, place(0));
        assert_eq!(held.candidates(None, &one.key), [spot(1)]);
        assert!(held.is_live(place(1)) && !held.is_live(place(0)));
    }

    #[test]
    fn hints_come_in_the_order_of_the_log_and_around() {
        let held = forty();
        let n3 = NodeId::new("n3").unwrap();
        let all = [3, 7, 11, 15, 19, 23, 27, 31, 35, 39];
        assert_eq!(places(held.next(n3, None, 100, u64::MAX)), numbers(all));
        let from = held.next(n3, Some(place(30)), 5, u64::MAX);
        assert_eq!(places(from), numbers([31, 35, 39, 3, 7]));
        let few = held.next(n3, Some(place(31)), 100, u64::from(3 * FRAME_BYTES));
        assert_eq!(places(few), numbers([35, 39, 3]));
        assert_eq!(held.next(n3, Some(place(31)), 100, 1).len(), 1);
        assert_eq!(held.next(NodeId::new("n4").unwrap(), None, 100, u64::MAX), []);
        assert_eq!(places(held.all(Some(place(37)), 100, u64::MAX)), numbers([38, 39]));
        assert_eq!(places(held.all(None, 100, u64::from(3 * FRAME_BYTES))), numbers([0, 1, 2]));
    }

    #[test]
    fn courtesies_are_found_by_their_age() {
        let mut held = forty();
        assert_eq!(held.courtesies_from_ms(), Some(100_000));
        let mut early = |after, until_ms, most, bytes| {
            let (spots, more) = held.courtesies(after, until_ms, most, bytes);
            (places(spots), more)
        };
        assert_eq!(early(None, 112_999, 100, u64::MAX), (numbers(0..13), false));
        assert_eq!(early(Some(place(9)), 112_999, 2, u64::MAX), (numbers([10, 11]), true));
        assert_eq!(early(Some(place(9)), 112_999, 100, 300), (numbers([10, 11]), true));
        for number in 0..11 {
            held.remove(&Key::new(format!("k{number}")).unwrap(), place(number));
        }
        let all =
            |held: &mut Held, until_ms| places(held.courtesies(None, until_ms, 99, u64::MAX).0);
        assert_eq!(all(&mut held, 112_999), numbers([11, 12]));
        assert_eq!(held.courtesies_from_ms(), Some(111_000));
        // What was written again is older than what lies before it.
        held.insert(&hint("n2", "old", 5, HintKind::Courtesy), 99, spot(39 + 1));
        held.insert(&hint("n2", "owed", 5, HintKind::Owed), 99, spot(39 + 2));
        assert_eq!(all(&mut held, 50_000), numbers([40]));
    }

    #[test]
    fn nothing_is_left_of_what_is_gone() {
        let mut held = forty();
        let shares = held.shares();
        let n3 = shares[&NodeId::new("n3").unwrap()];
        assert_eq!((n3.count, n3.bytes), (10, 10 * u64::from(FRAME_BYTES)));
        assert_eq!((n3.oldest_added_ms, n3.oldest_version.bits()), (103_007, 103));
        assert_eq!(held.needed_from(), Some(1));
        for number in 0..40 {
            let key = Key::new(format!("k{number}")).unwrap();
            if number % 2 == 0 {
                held.remove(&key, place(number));
                held.remove(&key, place(number));
            } else {
                assert!(held.lose(place(number)).is_some());
                assert_eq!(held.lose(place(number)), None);
            }
            let next = (number + 1) / 10 * 10 + 1;
            assert_eq!(held.needed_from(), (number < 39).then_some(next));
        }
        assert_eq!((held.len(), held.live_bytes(), held.tables.len()), (0, 0, 0));
        assert_eq!((held.shares(), held.courtesies_from_ms()), (BTreeMap::new(), None));
    }
}
