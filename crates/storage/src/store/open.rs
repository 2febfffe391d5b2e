//! Opening a store: the newest good snapshot, and what the log has behind it.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quorate_record::{Timestamp, decode_record_view};

use super::compaction::Compaction;
use super::shards::{Notes, Scratch, Shards};
use super::snapshot::{self, BadSnapshot, Contents, snapshot_number, snapshot_path};
use super::{Core, KIND_CEILING, KIND_NOTES, KIND_RECORD, Recovered, Snapshots, StoreOptions};
use crate::fs::{Fs, create_dir_durably, durable_replace};
use crate::index::{Entry, SHARDS, Secret, Shard, TooManyWriters, Writers, shard_of};
use crate::log::{Log, LogOptions};
use crate::queue::Place;
use crate::recovery::{BeforeLoss, Damage, Frame, OpenError, Recovery};
use crate::segment::index;
use crate::segments::SegmentInfo;

impl Core {
    pub(super) fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        options: &StoreOptions,
        on_progress: Box<dyn Fn() + Send + Sync>,
        before_loss: BeforeLoss<'_>,
    ) -> Result<Self, OpenError> {
        let snapshot_dir = dir.join("snapshot");
        create_dir_durably(&*fs, &snapshot_dir).map_err(OpenError::io("create", &snapshot_dir))?;
        let mut recovered = Recovered::default();
        let (loaded, next_number) = load_snapshot(&*fs, &snapshot_dir, options, &mut recovered)?;
        let shards = Arc::new(loaded.into_shards(options.cache_bytes, on_progress));

        let snapshot_seq = recovered.snapshot.as_ref().map_or(0, |info| info.seq);
        let log_options = LogOptions {
            next_seq_at_least: snapshot_seq + 1,
            replay_after: snapshot_seq,
            ..options.log.clone()
        };
        let (settler, mut scratch) = (shards.clone(), Scratch::default());
        let replayed = Replayed::new();
        let is_tail_read = !(planted!(TailNotReplayed) && recovered.snapshot.is_some());
        let (log, report) = Log::open_guarded(
            fs.clone(),
            &dir.join("log"),
            &log_options,
            move |progress| settler.settle(&progress, &mut scratch),
            |frame| {
                if frame.seq > snapshot_seq && is_tail_read {
                    replay(&frame, options.token_of, &shards, &replayed);
                }
            },
            before_loss,
        )?;
        let Replayed { records, others, unknown_frames, too_many } = replayed;
        records.end(&shards);
        shards.count_usage();
        recovered.unknown_frames += unknown_frames.into_inner();
        recovered.records += report.frames - others.into_inner() - recovered.unknown_frames;
        let too_many = too_many.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = too_many {
            return Err(OpenError::io("index", dir)(io::Error::other(error)));
        }
        recovered.lost_records = mark_lost(&shards, &log.segments(), &report);
        recovered.truncated_bytes = report.truncated_bytes;
        recovered.damages = report.damages;
        shards.account().applied_seq = log.stats().last_seq;
        recovered.clock_ceiling = shards.durable_ceiling().map(|(ceiling, _)| ceiling);
        recovered.notes = shards.durable_notes().map(|(notes, _)| notes.text.to_vec());
        // The newest snapshot does without the segments of forgotten tombstones; an older one, or none, may not.
        let is_newest = recovered.snapshot.is_some() && recovered.bad_snapshots.is_empty();
        recovered.is_doubtful =
            !is_newest && shards.horizon() > Timestamp::ZERO && !is_whole(&log.segments());
        if recovered.is_doubtful || !recovered.damages.is_empty() {
            before_loss().map_err(OpenError::io("go on with", dir))?;
        }
        for (path, _) in &recovered.bad_snapshots {
            // Also one that the device does not give just now: numbers that it covers may be used again from here on, if
            // the log has lost its end, and must not be taken for what it covers at a later opening.
            let aside = snapshot_dir.join("damaged-snapshot");
            durable_replace(&*fs, path, &aside).map_err(OpenError::io("set aside", path))?;
        }
        for number in 0..SHARDS {
            shards.drop_tombstones(number, usize::MAX);
        }
        let snapshots = Snapshots { newest: recovered.snapshot.clone(), next_number, made: 0 };
        Ok(Self {
            fs,
            snapshot_dir,
            options: options.clone(),
            shards,
            log,
            snapshotting: Mutex::default(),
            snapshots: Mutex::new(snapshots),
            compaction: Mutex::new(Compaction::default()),
            compacted: AtomicU64::new(0),
            recovered,
        })
    }
}

/// What a snapshot says, or nothing.
struct Loaded {
    secret: Secret,
    writers: Writers,
    parts: Vec<Shard>,
    ceiling: Option<(Timestamp, Place)>,
    notes: Option<(Notes, Place)>,
}

impl Loaded {
    fn into_shards(self, cache_bytes: u64, on_progress: Box<dyn Fn() + Send + Sync>) -> Shards {
        let Self { secret, writers, parts, .. } = self;
        let shards = Shards::new(secret, writers, parts, cache_bytes, on_progress);
        if let Some((ceiling, place)) = self.ceiling {
            shards.recover_ceiling(ceiling, place);
        }
        if let Some((notes, place)) = self.notes {
            shards.recover_notes(notes, place);
        }
        shards
    }
}

/// Reads the newest snapshot that is good, and returns the number for the next one.
fn load_snapshot(
    fs: &dyn Fs,
    dir: &Path,
    options: &StoreOptions,
    recovered: &mut Recovered,
) -> Result<(Loaded, u64), OpenError> {
    let names = fs.list(dir).map_err(OpenError::io("list", dir))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| snapshot_number(name)).collect();
    numbers.sort_unstable();
    let next_number = numbers.last().map_or(1, |last| last + 1);
    for number in numbers.into_iter().rev() {
        let path = snapshot_path(dir, number);
        match load(fs, &path, number, options) {
            Ok((contents, parts)) => {
                recovered.records = contents.info.records;
                recovered.snapshot = Some(contents.info);
                let Contents { secret, writers, ceiling, notes, .. } = contents;
                return Ok((Loaded { secret, writers, parts, ceiling, notes }, next_number));
            }
            Err(bad) => {
                if let Some(refusal) = bad.refusal(&path) {
                    return Err(refusal);
                }
                recovered.bad_snapshots.push((path, bad.to_string()));
            }
        }
    }
    let secret = Secret(options.secret.unwrap_or_else(random));
    let parts = empty_parts(options);
    let (ceiling, notes) = (None, None);
    Ok((Loaded { secret, writers: Writers::new(), parts, ceiling, notes }, next_number))
}

fn empty_parts(options: &StoreOptions) -> Vec<Shard> {
    (0..SHARDS).map(|number| Shard::new(number).keeping_sketches(options.sketch_cells)).collect()
}

fn load(
    fs: &dyn Fs,
    path: &Path,
    number: u64,
    options: &StoreOptions,
) -> Result<(Contents, Vec<Shard>), BadSnapshot> {
    let mut parts = empty_parts(options);
    let mut in_order = true;
    let contents = snapshot::read(fs, path, number, &mut |entries, writers| {
        let Some(first) = entries.first() else { return };
        in_order &= parts[shard_of(first.token())].append(entries, writers).is_ok();
    })?;
    if in_order { Ok((contents, parts)) } else { Err(BadSnapshot::Damaged { offset: 0 }) }
}

/// What was read from the log, by as many threads as read it.
struct Replayed {
    records: Gathered,
    /// Good frames that hold something else.
    others: AtomicU64,
    unknown_frames: AtomicU64,
    too_many: Mutex<Option<TooManyWriters>>,
}

impl Replayed {
    fn new() -> Self {
        Self {
            records: Gathered::new(),
            others: AtomicU64::new(0),
            unknown_frames: AtomicU64::new(0),
            too_many: Mutex::default(),
        }
    }
}

/// Records on their way from the log to the index, gathered by part: the index takes many of one part in at a time.
struct Gathered(Vec<Mutex<Vec<Entry>>>);

impl Gathered {
    /// Segments of different lanes are gathered apart, so that threads seldom meet.
    const LANES: usize = 2;
    const AT_ONCE: usize = 256;

    fn new() -> Self {
        Self((0..Self::LANES * SHARDS).map(|_| Mutex::default()).collect())
    }

    fn add(&self, entry: Entry, shards: &Shards) {
        let number = shard_of(entry.token());
        let lane = index(entry.place().segment % Self::LANES as u64);
        let gathered = &self.0[lane * SHARDS + number];
        let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
        gathered.push(entry);
        if gathered.len() == Self::AT_ONCE {
            shards.recover(number, &mut gathered);
        }
    }

    fn end(self, shards: &Shards) {
        for (at, gathered) in self.0.into_iter().enumerate() {
            let mut gathered = gathered.into_inner().unwrap_or_else(PoisonError::into_inner);
            if !gathered.is_empty() {
                shards.recover(at % SHARDS, &mut gathered);
            }
        }
    }
}

/// Takes in what a frame holds. Records and ceilings merge, so it does not matter in which order frames come.
fn replay(frame: &Frame<'_>, token_of: fn(&[u8]) -> u64, shards: &Shards, replayed: &Replayed) {
    match frame.kind {
        KIND_RECORD => {
            if let Ok(record) = decode_record_view(frame.payload) {
                let token = token_of(record.key);
                let stamp = record.stamp();
                match shards.entry(token, record.key, &stamp, record.is_tombstone()) {
                    Ok(entry) => {
                        let entry = entry.at(frame.place, frame.bytes.into());
                        replayed.records.add(entry, shards);
                    }
                    Err(error) => {
                        let mut too_many =
                            replayed.too_many.lock().unwrap_or_else(PoisonError::into_inner);
                        too_many.get_or_insert(error);
                    }
                }
                return;
            }
        }
        KIND_CEILING => {
            if let Ok(bits) = frame.payload.try_into() {
                replayed.others.fetch_add(1, Ordering::Relaxed);
                let ceiling = Timestamp::from_bits(u64::from_le_bytes(bits));
                return shards.recover_ceiling(ceiling, frame.place);
            }
        }
        KIND_NOTES => {
            if let Some(notes) = Notes::decode(frame.payload) {
                replayed.others.fetch_add(1, Ordering::Relaxed);
                return shards.recover_notes(notes, frame.place);
            }
        }
        _ => {}
    }
    replayed.unknown_frames.fetch_add(1, Ordering::Relaxed);
}

/// Marks the records that the snapshot names and the log does not have, and counts them.
fn mark_lost(shards: &Shards, segments: &[SegmentInfo], report: &Recovery) -> u64 {
    let has = |number| segments.binary_search_by_key(&number, |segment| segment.number).is_ok();
    let all_there = shards.account().usage.live_segments().all(has);
    if all_there && report.damages.is_empty() && report.truncated_bytes == 0 {
        return 0;
    }
    let mut lost = Vec::new();
    for number in 0..SHARDS {
        let part = shards.part(number);
        let is_lost =
            |entry: &&Entry| !entry.is_damaged() && !is_there(entry, segments, &report.damages);
        lost.extend(part.index.range(..).filter(is_lost).map(|it| (it.position(), it.place())));
    }
    lost.iter().for_each(|&(position, place)| shards.mark_damaged(position, place));
    lost.len() as u64
}

/// Whether no segment was ever given up, or lost.
fn is_whole(segments: &[SegmentInfo]) -> bool {
    (1..).zip(segments).all(|(number, segment)| number == segment.number)
}

fn is_there(entry: &Entry, segments: &[SegmentInfo], damages: &[Damage]) -> bool {
    let place = entry.place();
    let end = place.offset + entry.bytes();
    let Ok(at) = segments.binary_search_by_key(&place.segment, |segment| segment.number) else {
        return false;
    };
    let overlaps = |damage: &Damage| {
        damage.segment == place.segment
            && damage.offset < end
            && place.offset < damage.offset + damage.len
    };
    end <= segments[at].used_bytes && !damages.iter().any(overlaps)
}

/// Bits that nobody outside can guess.
pub(crate) fn random() -> [u8; 16] {
    let halves = [(); 2].map(|()| RandomState::new().hash_one(()));
    let mut bits = [0; 16];
    bits[..8].copy_from_slice(&halves[0].to_le_bytes());
    bits[8..].copy_from_slice(&halves[1].to_le_bytes());
    bits
}
