//! The files of a log, the store's or that of the hints.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quorate_record::{decode_hint, decode_record_view};

use super::overlay::Overlay;
use super::{Diagnosis, FORGETS, Problem, REPLICAS};
use crate::fs::Fs;
use crate::hint_log::{KIND_ADD, KIND_REMOVE};
use crate::log::{Log, LogOptions};
use crate::newest::NewestFile;
use crate::recovery::{Damage, Frame};
use crate::released::ReleasedFile;
use crate::segment::{DATA_OFFSET, segment_number, segment_path};
use crate::store::{KIND_CEILING, KIND_NOTES, KIND_RECORD, Notes};

/// What the frames of a log hold.
pub(super) struct Logs {
    /// Whether a frame is a record or hint; `None` if it makes no sense.
    holds: fn(&Frame<'_>) -> Option<bool>,
}

impl Logs {
    pub(super) const STORE: Self = Self {
        holds: |frame| match frame.kind {
            KIND_RECORD => decode_record_view(frame.payload).ok().map(|_| true),
            KIND_CEILING => (frame.payload.len() == 8).then_some(false),
            KIND_NOTES => Notes::decode(frame.payload).map(|_| false),
            _ => None,
        },
    };

    pub(super) const HINTS: Self = Self {
        holds: |frame| match frame.kind {
            KIND_ADD | KIND_REMOVE => {
                decode_hint(&Bytes::copy_from_slice(frame.payload)).ok().map(|_| true)
            }
            _ => None,
        },
    };

    /// Reads all frames of the log in `dir`, and returns how many hold records; `None` if it cannot be opened.
    pub(super) fn read(
        &self,
        fs: &Arc<dyn Fs>,
        dir: &Path,
        options: &LogOptions,
        found: &mut Diagnosis,
    ) -> Option<u64> {
        let names = fs.list(dir).unwrap_or_default();
        let segments = names.iter().filter(|name| segment_number(name).is_some()).count() as u64;
        found.files += segments;
        let mut records = 0;
        let overlay = Arc::new(Overlay::new(fs.clone()));
        let opened = Log::open(
            overlay,
            dir,
            options,
            |_| {},
            |frame| match (self.holds)(&frame) {
                Some(is_record) => records += u64::from(is_record),
                None => found.problem(Problem {
                    file: segment_path(dir, frame.place.segment),
                    offset: Some(frame.place.offset),
                    bytes: Some(frame.bytes.into()),
                    what: format!("frame {} is whole, but holds nothing that is known", frame.seq),
                    meaning: "it is stepped over",
                    advice: "look which version of the program wrote it",
                }),
            },
        );
        let (log, report) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                found.cannot_open(dir, &error);
                return None;
            }
        };
        for damage in &report.damages {
            found.problem(explain(&**fs, dir, damage));
        }
        let infos = log.segments();
        if report.truncated_bytes > 0 {
            let last = infos.last();
            found.problem(Problem {
                file: last.map_or(dir.to_path_buf(), |last| segment_path(dir, last.number)),
                offset: last.map(|last| last.used_bytes),
                bytes: Some(report.truncated_bytes),
                what: "the log ends in something that is no frame".to_owned(),
                meaning: "a write that was under way when the node or the machine stopped, and was never \
                     acknowledged; after a clean stop, damage of what was written last",
                advice: "start the node: the end is cut. After a clean stop look at the disk",
            });
        }
        let has_frames = infos.iter().rev().find(|info| info.used_bytes > DATA_OFFSET);
        let last = has_frames.map_or(0, |info| info.number);
        self.small_files(&**fs, dir, last, segments > 0, found);
        Some(records)
    }

    fn small_files(
        &self,
        fs: &dyn Fs,
        dir: &Path,
        last: u64,
        has_segments: bool,
        found: &mut Diagnosis,
    ) {
        let newest = NewestFile::bad_records(fs, dir, last);
        let released = ReleasedFile::bad_records(fs, dir);
        for (name, bad) in [("newest", newest), ("released", released)] {
            let file = dir.join(name);
            if fs.open(&file).is_err() {
                // A log that was never written to may have neither.
                if last > 0 || (has_segments && name == "released") {
                    found.problem(Problem {
                        file,
                        offset: None,
                        bytes: None,
                        what: "it is missing".to_owned(),
                        meaning: "segments that are missing at an end of the log would not be noticed",
                        advice: "start the node: it is written again",
                    });
                }
                continue;
            }
            found.files += 1;
            match bad {
                Ok(offsets) => offsets.into_iter().for_each(|offset| {
                    found.problem(Problem {
                        file: file.clone(),
                        offset: Some(offset),
                        bytes: None,
                        what: "one of its two records is not what was written".to_owned(),
                        meaning: "the other one counts; if it is older, segments may seem to be missing, or not",
                        advice: "start the node: it is written again",
                    });
                }),
                Err(error) => found.cannot_open(dir, &error),
            }
        }
    }
}

fn explain(fs: &dyn Fs, dir: &Path, damage: &Damage) -> Problem {
    let file = segment_path(dir, damage.segment);
    let is_there = fs.open(&file).is_ok();
    let lost = match (damage.last_seq + 1).saturating_sub(damage.first_seq) {
        0 => String::new(),
        1 => format!("; frame {} is lost", damage.first_seq),
        _ => format!("; frames {} to {} are lost", damage.first_seq, damage.last_seq),
    };
    let what = if !is_there {
        "the file is missing, and nothing says that it was given up"
    } else if damage.len == 0 {
        "frames are missing from here on"
    } else if damage.offset == 0 && damage.len <= DATA_OFFSET {
        "the header is not what was written"
    } else {
        "what was written and synced here cannot be read"
    };
    Problem {
        file,
        offset: is_there.then_some(damage.offset),
        bytes: (damage.len > 0).then_some(damage.len),
        what: format!("{what}{lost}"),
        meaning: FORGETS,
        advice: REPLICAS,
    }
}
