//! What a store knows, cut into parts by token: where the durable records are, and the writes on their way there.

use std::cmp;
use std::collections::{BTreeSet, HashMap, VecDeque, hash_map};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_record::{Stamp, Timestamp};

use super::cache::Cache;
use super::usage::Usage;
use super::{Applied, Bounds};
use crate::completion::Completion;
use crate::frame::frame_bytes;
use crate::index::{
    BuildPositionHasher, Counts, Entry, Merged, Position, SHARDS, Secret, Shard, TooManyWriters,
    Writers, shard_of,
};
use crate::queue::{LogError, Place, Progress, Ticket, Written};

/// The tag of frames that hold a ceiling; those of records have the number of their part.
const CEILING_TAG: u64 = SHARDS as u64;
/// The tag of frames that hold notes.
const NOTES_TAG: u64 = CEILING_TAG + 1;

/// From how many submissions on those of one part are taken in together: then each has some, and is locked once for all.
const GROUPED_FROM: usize = 4 * SHARDS;

/// Everything that the store has in memory.
///
/// Whoever needs several locks takes them in the order of these fields, and one part at a time.
pub(crate) struct Shards {
    pub(crate) secret: Secret,
    pub(crate) writers: Writers,
    account: Mutex<Account>,
    parts: Box<[Mutex<Part>]>,
    /// Whether a part has, or had, anything in its index: a small store has few of them, which are quickly looked through.
    in_use: Box<[AtomicBool]>,
    ceiling: Mutex<Latest<Timestamp>>,
    notes: Mutex<Latest<Notes>>,
    /// The durable horizon, to be read without a lock.
    horizon: AtomicU64,
    pub(crate) moves: Moves,
    ready: Mutex<Vec<Completion<Applied>>>,
    on_progress: Box<dyn Fn() + Send + Sync>,
}

/// What the index makes of the log, all in all.
#[derive(Default)]
pub(crate) struct Account {
    pub(crate) usage: Usage,
    /// Everything up to this sequence number is in the index.
    pub(crate) applied_seq: u64,
    /// Bytes of frames logged since the last snapshot.
    pub(crate) bytes_since_snapshot: u64,
    /// Bytes of frames logged since the store was opened.
    pub(crate) logged_bytes: u64,
    /// Segments with frames of tombstones that were forgotten since the last snapshot. Without such a frame a scan of
    /// the log would find what the tombstone had hidden, so they stay until a snapshot makes the scan needless.
    pub(crate) forgotten_in: BTreeSet<u64>,
    /// Records that were damaged and have been replaced since the store was opened.
    pub(crate) healed: u64,
}

/// What becomes of the frames that compaction writes again.
#[derive(Default)]
pub(crate) struct Moves {
    /// Bytes of those whose outcome is open.
    in_flight_bytes: AtomicU64,
    /// Bytes of those that were written.
    written_bytes: AtomicU64,
    /// Why one of them was not written.
    failure: Mutex<Option<LogError>>,
}

/// One part of the token space.
pub(crate) struct Part {
    /// Durable records only.
    pub(crate) index: Shard,
    in_flight: VecDeque<Write>,
    /// The number of the oldest write in flight; they are counted in the order of their tickets.
    oldest: u64,
    /// Frames of durable records that were read of late.
    cache: Cache,
    /// Which write in flight has the greatest record of a key.
    greatest: HashMap<Position, u64, BuildPositionHasher>,
}

struct Write {
    entry: Entry,
    cause: Cause,
    /// Whoever asked for something that this write answers once it is durable. Boxed, as there mostly is nobody.
    #[expect(clippy::box_collection, reason = "there are many writes, and hardly any has waiters")]
    waiters: Option<Box<Vec<(u64, Applied)>>>,
}

#[derive(Clone, Copy)]
enum Cause {
    /// Somebody applied a record, and waits under this id.
    Applied(u64),
    /// Compaction writes again what is at this place.
    Moved(Place),
}

/// The greatest of what there is only one of, and those on their way.
struct Latest<T> {
    durable: Option<(T, Place)>,
    in_flight: VecDeque<(T, Cause)>,
}

/// What the owner of a store keeps in it besides records.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Notes {
    /// Counts up, so that it is known which are the latest.
    pub(crate) revision: u64,
    /// Tombstones below it are gone.
    pub(crate) horizon: Timestamp,
    pub(crate) text: Arc<[u8]>,
}

impl Shards {
    /// `parts` are the shards of the index, in order; `cache_bytes` is for all of them together.
    pub(crate) fn new(
        secret: Secret,
        writers: Writers,
        parts: Vec<Shard>,
        cache_bytes: u64,
        on_progress: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        let in_use = parts.iter().map(|part| AtomicBool::new(part.counts().entries > 0)).collect();
        Self {
            secret,
            writers,
            account: Mutex::default(),
            in_use,
            parts: parts
                .into_iter()
                .map(|index| Mutex::new(Part::new(index, cache_bytes / SHARDS as u64)))
                .collect(),
            ceiling: Mutex::default(),
            notes: Mutex::default(),
            horizon: AtomicU64::new(0),
            moves: Moves::default(),
            ready: Mutex::default(),
            on_progress,
        }
    }

    /// The entry of a record that has no place yet.
    ///
    /// # Errors
    /// [`TooManyWriters`].
    pub(crate) fn entry(
        &self,
        token: u64,
        key: &[u8],
        stamp: &Stamp,
        is_tombstone: bool,
    ) -> Result<Entry, TooManyWriters> {
        let writer = self.writers.intern(&stamp.version.writer)?;
        let position = self.secret.position(token, key);
        Ok(Entry::new(position, stamp.version.timestamp, writer, stamp.content, is_tombstone))
    }

    pub(crate) fn account(&self) -> MutexGuard<'_, Account> {
        lock(&self.account)
    }

    /// One part of [`SHARDS`].
    pub(crate) fn part(&self, number: usize) -> MutexGuard<'_, Part> {
        lock(&self.parts[number])
    }

    /// Whether there may be anything in the index of a part.
    pub(crate) fn is_in_use(&self, number: usize) -> bool {
        self.in_use[number].load(Ordering::Acquire)
    }

    /// To be called before anything is put into the index of a part: whoever has seen it there finds it again.
    fn note_use(&self, number: usize) {
        // Mostly it is set already, and reading it leaves the line in every core's cache.
        if !self.is_in_use(number) {
            self.in_use[number].store(true, Ordering::Release);
        }
    }

    /// What is known of the durable record of a position.
    pub(crate) fn get(&self, position: Position) -> Option<Entry> {
        self.part(shard_of(position.token)).index.get(position).copied()
    }

    /// The payload of a position's frame if it was read of late, in `buf`, whose content is lost.
    pub(super) fn recall<'a>(&self, position: Position, buf: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        let mut part = self.part(shard_of(position.token));
        let payload = part.cache.get(position)?;
        buf.clear();
        buf.extend_from_slice(payload);
        Some(buf)
    }

    /// Keeps the payload that was read at an entry's place, as far as there is room, if the index names that still.
    pub(super) fn keep(&self, entry: &Entry, payload: &[u8]) {
        let mut part = self.part(shard_of(entry.token()));
        if part.cache.takes(payload.len()) && part.index.get(entry.position()) == Some(entry) {
            part.cache.insert(entry.position(), payload);
        }
    }

    /// Puts the next entries of a shard behind `after` in place of what is in `batch`: as many as `most`.
    pub(crate) fn copy_entries(
        &self,
        shard: usize,
        after: Option<Position>,
        most: usize,
        batch: &mut Vec<Entry>,
    ) {
        batch.clear();
        if !self.is_in_use(shard) {
            return;
        }
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let part = self.part(shard);
        // A position of an earlier shard is before all of this one's.
        batch.extend(part.index.range((from, Bound::Unbounded)).take(most));
    }

    /// What all parts have, all in all.
    pub(crate) fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for number in (0..SHARDS).filter(|number| self.is_in_use(*number)) {
            let Counts { entries, tombstones, damaged, live_bytes } =
                self.part(number).index.counts();
            sum.entries += entries;
            sum.tombstones += tombstones;
            sum.damaged += damaged;
            sum.live_bytes += live_bytes;
        }
        sum
    }

    /// Judges a record by what is durable, then by what is on its way, and submits it by `submit`, which is given a tag,
    /// if it is the greatest and within `bounds`.
    ///
    /// # Errors
    /// What `submit` says.
    pub(crate) fn apply(
        &self,
        id: u64,
        entry: Entry,
        bounds: Bounds,
        submit: impl FnOnce(u64) -> Result<Ticket, LogError>,
    ) -> Result<(), LogError> {
        let number = shard_of(entry.token());
        let mut part = self.part(number);
        match part.judge(&entry, &self.writers) {
            Verdict::Answer(answer) => {
                drop(part);
                self.complete(id, answer);
            }
            Verdict::Wait(write, answer) => part.wait(write, id, answer),
            Verdict::Write { is_absent } if bounds.refuse(entry.timestamp(), is_absent) => {
                drop(part);
                self.complete(id, Applied::Below(bounds.floor.max(bounds.horizon)));
            }
            Verdict::Write { .. } => {
                // Under the lock, so that the outcome cannot come before anybody knows what it is of.
                submit(number as u64)?;
                part.submitted(entry, Cause::Applied(id));
            }
        }
        Ok(())
    }

    /// Submits a frame again if the index names the one at `place`, and says whether it does. The entry follows when
    /// the new one is durable.
    ///
    /// # Errors
    /// What `submit` says.
    pub(crate) fn move_record(
        &self,
        position: Position,
        place: Place,
        submit: impl FnOnce(u64) -> Result<Ticket, LogError>,
    ) -> Result<bool, LogError> {
        let number = shard_of(position.token);
        let mut part = self.part(number);
        let named = part.index.get(position).copied();
        let Some(entry) = named.filter(|entry| entry.place() == place && !entry.is_damaged())
        else {
            return Ok(false);
        };
        if planted!(TombstonesNotMoved) && entry.is_tombstone() {
            return Ok(false);
        }
        submit(number as u64)?;
        self.moves.submitted(entry.bytes());
        part.submitted(entry, Cause::Moved(place));
        Ok(true)
    }

    /// Submits a ceiling unless a greater one is durable.
    ///
    /// # Errors
    /// What `submit` says.
    pub(crate) fn raise_ceiling(
        &self,
        id: u64,
        to: Timestamp,
        submit: impl FnOnce(u64) -> Result<Ticket, LogError>,
    ) -> Result<(), LogError> {
        let mut ceiling = lock(&self.ceiling);
        if ceiling.durable.is_some_and(|(durable, _)| to <= durable) {
            drop(ceiling);
            self.complete(id, Applied::Stored);
            return Ok(());
        }
        submit(CEILING_TAG)?;
        ceiling.in_flight.push_back((to, Cause::Applied(id)));
        Ok(())
    }

    /// Submits notes, whose revision and horizon are not below those of earlier ones.
    ///
    /// # Errors
    /// What `submit` says.
    pub(crate) fn keep_notes(
        &self,
        id: u64,
        horizon: Timestamp,
        text: &[u8],
        submit: impl FnOnce(&Notes, u64) -> Result<Ticket, LogError>,
    ) -> Result<(), LogError> {
        let mut notes = lock(&self.notes);
        let last = notes.in_flight.iter().map(|(notes, _)| notes);
        let last = last.chain(notes.durable.iter().map(|(notes, _)| notes)).max();
        let (revision, least) =
            last.map_or((1, Timestamp::ZERO), |last| (last.revision + 1, last.horizon));
        let next = Notes { revision, horizon: horizon.max(least), text: text.into() };
        submit(&next, NOTES_TAG)?;
        notes.in_flight.push_back((next, Cause::Applied(id)));
        Ok(())
    }

    /// Submits ceiling and notes again if their frames are in `segment`, and says whether any is.
    ///
    /// # Errors
    /// What the submissions say.
    pub(crate) fn move_latest(
        &self,
        segment: u64,
        submit_ceiling: impl FnOnce(Timestamp, u64) -> Result<Ticket, LogError>,
        submit_notes: impl FnOnce(&Notes, u64) -> Result<Ticket, LogError>,
    ) -> Result<bool, LogError> {
        let ceiling = lock(&self.ceiling).submit_again(segment, &self.moves, |ceiling| {
            Ok((submit_ceiling(*ceiling, CEILING_TAG)?, size_of_val(ceiling)))
        })?;
        let notes = lock(&self.notes).submit_again(segment, &self.moves, |notes| {
            Ok((submit_notes(notes, NOTES_TAG)?, notes.encoded_len()))
        })?;
        Ok(ceiling || notes)
    }

    /// The greatest ceiling that is durable, and where it is.
    pub(crate) fn durable_ceiling(&self) -> Option<(Timestamp, Place)> {
        lock(&self.ceiling).durable
    }

    /// The latest notes that are durable, and where they are.
    pub(crate) fn durable_notes(&self) -> Option<(Notes, Place)> {
        lock(&self.notes).durable.clone()
    }

    /// The durable horizon: tombstones below it may be forgotten.
    pub(crate) fn horizon(&self) -> Timestamp {
        Timestamp::from_bits(self.horizon.load(Ordering::Acquire))
    }

    /// Forgets the tombstones of one part that are below the durable horizon, at most `limit`; returns how many. The
    /// segments of their frames are added to what must not be given up before the next snapshot.
    pub(crate) fn drop_tombstones(&self, number: usize, limit: usize) -> usize {
        if !self.is_in_use(number) {
            return 0;
        }
        let horizon = self.horizon();
        let mut account = self.account();
        let mut part = self.part(number);
        if part.index.counts().tombstones == 0 {
            return 0;
        }
        let is_past = |entry: &&Entry| entry.is_tombstone() && entry.timestamp() < horizon;
        let past = part.index.range(..).filter(is_past).map(Entry::position).take(limit);
        let past: Vec<Position> = past.collect();
        for &position in &past {
            if let Some(old) = part.index.remove(position, &self.writers) {
                part.cache.remove(position);
                account.usage.remove(&old);
                account.forgotten_in.insert(old.place().segment);
            }
        }
        past.len()
    }

    /// Takes in records of one part that the log has held since before it was opened, and leaves `entries` empty.
    pub(crate) fn recover(&self, number: usize, entries: &mut Vec<Entry>) {
        // Neighbours are found close together in memory.
        entries.sort_unstable_by_key(Entry::position);
        self.note_use(number);
        let mut part = self.part(number);
        for entry in entries.drain(..) {
            part.take_in(entry, &self.writers);
        }
    }

    /// Takes in a ceiling that log or snapshot have held since before they were opened.
    pub(crate) fn recover_ceiling(&self, to: Timestamp, place: Place) {
        lock(&self.ceiling).merge(to, place);
    }

    /// Takes in notes that log or snapshot have held since before they were opened.
    pub(crate) fn recover_notes(&self, notes: Notes, place: Place) {
        self.horizon.fetch_max(notes.horizon.bits(), Ordering::AcqRel);
        lock(&self.notes).merge(notes, place);
    }

    /// Counts what the index names in each segment, as is to be done once all is recovered.
    pub(crate) fn count_usage(&self) {
        let mut account = self.account();
        account.usage = Usage::default();
        for number in (0..SHARDS).filter(|number| self.is_in_use(*number)) {
            self.part(number).index.range(..).for_each(|entry| account.usage.add(entry));
        }
    }

    /// Notes that the record at `place` cannot be read, unless the index knows better by now.
    pub(crate) fn mark_damaged(&self, position: Position, place: Place) {
        let mut account = self.account();
        let mut part = self.part(shard_of(position.token));
        if let Some(old) = part.index.mark_damaged(position, place, &self.writers) {
            part.cache.remove(position);
            account.usage.remove(&old);
            account.usage.add(&old.damaged());
        }
    }

    /// Takes in what became of submissions; `scratch` is kept from one call to the next.
    pub(crate) fn settle(&self, progress: &Progress<'_>, scratch: &mut Scratch) {
        let Scratch { done, by_part } = scratch;
        by_part.resize_with(SHARDS, Vec::new);
        let mut account = self.account();
        let (frames, error) = (progress.frames, progress.outcome.as_ref().err());
        let is_large = frames.len() >= GROUPED_FROM;
        for (at, written) in frames.iter().enumerate() {
            match usize::try_from(written.tag) {
                Ok(number) if number < SHARDS && is_large => by_part[number].push(at),
                Ok(number) if number < SHARDS => {
                    self.note_use(number);
                    let settled = Settled { written, error, done };
                    self.part(number).settle(settled, &self.writers, &mut account, &self.moves);
                }
                _ if written.tag == CEILING_TAG => {
                    lock(&self.ceiling).settle(Settled { written, error, done }, &self.moves);
                }
                _ => {
                    let mut notes = lock(&self.notes);
                    notes.settle(Settled { written, error, done }, &self.moves);
                    if let Some((Notes { horizon, .. }, _)) = &notes.durable {
                        self.horizon.fetch_max(horizon.bits(), Ordering::AcqRel);
                    }
                }
            }
        }
        for (number, ats) in by_part.iter_mut().enumerate().filter(|(_, ats)| !ats.is_empty()) {
            self.note_use(number);
            let mut part = self.part(number);
            part.touch(ats.len());
            for at in ats.drain(..) {
                let settled = Settled { written: &frames[at], error, done };
                part.settle(settled, &self.writers, &mut account, &self.moves);
            }
        }
        if let Ok(last_seq) = progress.outcome {
            account.applied_seq = last_seq;
            let bytes: u64 = progress.frames.iter().map(|frame| u64::from(frame.bytes)).sum();
            account.bytes_since_snapshot += bytes;
            account.logged_bytes += bytes;
        }
        drop(account);
        if !done.is_empty() {
            self.ready().append(done);
            (self.on_progress)();
        }
    }

    /// Moves all completions to the end of `out`.
    pub(crate) fn take_completions(&self, out: &mut Vec<Completion<Applied>>) {
        out.append(&mut self.ready());
    }

    fn complete(&self, id: u64, answer: Applied) {
        self.ready().push(Completion { id, outcome: Ok(answer) });
        (self.on_progress)();
    }

    fn ready(&self) -> MutexGuard<'_, Vec<Completion<Applied>>> {
        lock(&self.ready)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory that one call of [`Shards::settle`] leaves to the next.
#[derive(Default)]
pub(crate) struct Scratch {
    done: Vec<Completion<Applied>>,
    by_part: Vec<Vec<usize>>,
}

/// One submission and its outcome.
struct Settled<'a> {
    written: &'a Written,
    error: Option<&'a LogError>,
    done: &'a mut Vec<Completion<Applied>>,
}

impl Settled<'_> {
    fn complete(&mut self, id: u64, answer: Applied) {
        let outcome = self.error.map_or(Ok(answer), |error| Err(error.clone()));
        self.done.push(Completion { id, outcome });
    }
}

impl Part {
    fn new(index: Shard, cache_bytes: u64) -> Self {
        Self {
            index,
            in_flight: VecDeque::new(),
            oldest: 0,
            cache: Cache::new(cache_bytes),
            greatest: HashMap::default(),
        }
    }

    /// Compares a record with what is durable, then with what is on its way: an answer must not rest on a record that
    /// may yet fail to be stored.
    fn judge(&self, entry: &Entry, writers: &Writers) -> Verdict {
        let known = self.index.get(entry.position());
        if let Some(answer) = known.and_then(|known| answer(known, entry, writers)) {
            return Verdict::Answer(answer);
        }
        let is_absent = known.is_none();
        if self.greatest.is_empty() {
            return Verdict::Write { is_absent };
        }
        let in_flight = self
            .greatest
            .get(&entry.position())
            .map(|&number| (number, answer(&self.write(number).entry, entry, writers)));
        match in_flight {
            Some((_, Some(answer))) if planted!(AnswersByUndurable) => Verdict::Answer(answer),
            Some((number, Some(answer))) => Verdict::Wait(number, answer),
            Some((_, None)) => Verdict::Write { is_absent: false },
            None => Verdict::Write { is_absent },
        }
    }

    fn wait(&mut self, number: u64, id: u64, answer: Applied) {
        let at = self.at(number);
        self.in_flight[at].waiters.get_or_insert_default().push((id, answer));
    }

    /// Has what settling the oldest so many writes needs of the index come from memory.
    fn touch(&self, count: usize) {
        self.index.touch(self.in_flight.iter().take(count).map(|write| write.entry.position()));
    }

    fn submitted(&mut self, entry: Entry, cause: Cause) {
        if let Cause::Applied(_) = cause {
            self.greatest.insert(entry.position(), self.oldest + self.in_flight.len() as u64);
        }
        self.in_flight.push_back(Write { entry, cause, waiters: None });
    }

    fn settle(
        &mut self,
        mut settled: Settled<'_>,
        writers: &Writers,
        account: &mut Account,
        moves: &Moves,
    ) {
        let Write { entry, cause, waiters } =
            self.in_flight.pop_front().expect("every submission is noted");
        let number = self.oldest;
        self.oldest += 1;
        let (place, bytes) = (settled.written.place, u64::from(settled.written.bytes));
        let is_written = settled.error.is_none();
        match cause {
            Cause::Applied(id) => {
                if let hash_map::Entry::Occupied(greatest) = self.greatest.entry(entry.position())
                    && *greatest.get() == number
                {
                    greatest.remove();
                }
                if is_written {
                    self.merge(entry.at(place, bytes), writers, account);
                }
                settled.complete(id, Applied::Stored);
                let waiters = waiters.map(|waiters| *waiters).unwrap_or_default();
                waiters.into_iter().for_each(|(id, answer)| settled.complete(id, answer));
            }
            Cause::Moved(from) => {
                if is_written {
                    self.relocate(&entry, from, place, bytes, writers, account);
                }
                moves.settle(bytes, settled.error);
            }
        }
    }

    fn merge(&mut self, entry: Entry, writers: &Writers, account: &mut Account) {
        match self.take_in(entry, writers) {
            Merged::Lost(_) => return,
            Merged::Replaced(old) => {
                account.healed += u64::from(old.is_damaged());
                account.usage.remove(&old);
            }
            Merged::Added => {}
        }
        if !planted!(CachedThoughOverwritten) {
            self.cache.remove(entry.position());
        }
        account.usage.add(&entry);
    }

    fn take_in(&mut self, entry: Entry, writers: &Writers) -> Merged {
        match planted!(StoreOverwritesNewer) {
            true => self.index.put(entry, writers).map_or(Merged::Added, Merged::Replaced),
            false => self.index.merge(entry, writers),
        }
    }

    fn relocate(
        &mut self,
        entry: &Entry,
        from: Place,
        to: Place,
        bytes: u64,
        writers: &Writers,
        account: &mut Account,
    ) {
        if planted!(PlaceNotUpdated) {
            account.usage.remove(&entry.at(from, bytes));
            return account.usage.add(&entry.at(to, bytes));
        }
        if planted!(MovedThoughOverwritten) {
            let moved = entry.at(to, bytes);
            if let Some(old) = self.index.put(moved, writers) {
                account.usage.remove(&old);
            }
            return account.usage.add(&moved);
        }
        if let Some(old) = self.index.relocate(entry.position(), from, to, bytes) {
            account.usage.remove(&old);
            account.usage.add(&old.at(to, bytes));
        }
    }

    fn write(&self, number: u64) -> &Write {
        &self.in_flight[self.at(number)]
    }

    fn at(&self, number: u64) -> usize {
        usize::try_from(number - self.oldest).expect("an index into memory")
    }
}

impl Notes {
    /// Bytes of what comes before the text.
    const HEAD_BYTES: usize = 16;

    fn encoded_len(&self) -> usize {
        Self::HEAD_BYTES + self.text.len()
    }

    pub(crate) fn encode(&self, buf: &mut Vec<u8>) {
        buf.extend(self.revision.to_le_bytes());
        buf.extend(self.horizon.bits().to_le_bytes());
        buf.extend_from_slice(&self.text);
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let (head, text) = payload.split_at_checked(Self::HEAD_BYTES)?;
        let field = |at: usize| head[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        let horizon = Timestamp::from_bits(field(8)?);
        Some(Self { revision: field(0)?, horizon, text: text.into() })
    }
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self { durable: None, in_flight: VecDeque::new() }
    }
}

impl<T: Ord + Clone> Latest<T> {
    fn merge(&mut self, to: T, place: Place) {
        let found = (to, place);
        if self.durable.as_ref().is_none_or(|durable| *durable <= found) {
            self.durable = Some(found);
        }
    }

    /// Submits the durable one again if it is in `segment`, and says whether it is.
    fn submit_again(
        &mut self,
        segment: u64,
        moves: &Moves,
        submit: impl FnOnce(&T) -> Result<(Ticket, usize), LogError>,
    ) -> Result<bool, LogError> {
        let there = self.durable.as_ref().filter(|(_, place)| place.segment == segment);
        let Some((durable, place)) = there.cloned() else { return Ok(false) };
        let (_, payload_bytes) = submit(&durable)?;
        moves.submitted(frame_bytes(payload_bytes as u64));
        self.in_flight.push_back((durable, Cause::Moved(place)));
        Ok(true)
    }

    fn settle(&mut self, mut settled: Settled<'_>, moves: &Moves) {
        let (to, cause) = self.in_flight.pop_front().expect("every submission is noted");
        if settled.error.is_none() {
            self.merge(to, settled.written.place);
        }
        match cause {
            Cause::Applied(id) => settled.complete(id, Applied::Stored),
            Cause::Moved(_) => moves.settle(u64::from(settled.written.bytes), settled.error),
        }
    }
}

impl Moves {
    /// Why a frame was not written again, if one was not since this was asked last.
    pub(crate) fn take_failure(&self) -> Option<LogError> {
        lock(&self.failure).take()
    }

    /// Bytes of frames whose outcome is open.
    pub(crate) fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes.load(Ordering::Acquire)
    }

    /// Bytes of frames that were written again since the store was opened.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    fn submitted(&self, bytes: u64) {
        self.in_flight_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Comes after the index has taken the outcome in.
    fn settle(&self, bytes: u64, error: Option<&LogError>) {
        match error {
            Some(error) => {
                *lock(&self.failure) = Some(error.clone());
            }
            None => {
                self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
            }
        }
        self.in_flight_bytes.fetch_sub(bytes, Ordering::Release);
    }
}

/// What `known` says to somebody who brings `entry`; `None` if that is the greater one, or `known` cannot be read and
/// `entry` is the same.
fn answer(known: &Entry, entry: &Entry, writers: &Writers) -> Option<Applied> {
    match known.order(entry, writers) {
        _ if planted!(StoreOverwritesNewer) => None,
        cmp::Ordering::Less => None,
        cmp::Ordering::Equal if known.is_damaged() => None,
        cmp::Ordering::Equal => Some(Applied::Stored),
        cmp::Ordering::Greater => Some(Applied::Superseded(known.version(writers))),
    }
}

/// What is to be done with a record that somebody wants to apply.
enum Verdict {
    /// Nothing: this is the answer, and it is durable.
    Answer(Applied),
    /// Nothing but to wait until this write is durable; then this is the answer.
    Wait(u64, Applied),
    /// It is greater than everything known.
    Write { is_absent: bool },
}
