//! What the frames of a hint log come to, when it is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use quorate_record::{Hint, Key, NodeId, decode_hint};

use super::held::Spot;
use super::state::{Removal, State, supersedes};
use super::{KIND_ADD, KIND_REMOVE, hint_in};
use crate::fs::{File, Fs};
use crate::read::{ReadError, read_frame};
use crate::recovery::Frame;
use crate::segment::segment_path;

/// Takes frames in, in their order. What an earlier one holds is read again when a later one is about it: keeping all
/// of it until then could take more memory than there is.
pub(crate) struct Replayed {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    /// The file that was last read from.
    file: Option<(u64, Arc<dyn File>)>,
}

impl Replayed {
    pub(crate) fn new(fs: Arc<dyn Fs>, dir: &Path) -> Self {
        Self { fs, dir: dir.to_path_buf(), file: None }
    }

    /// Takes in one frame; `false` if it makes no sense.
    pub(crate) fn take_in(&mut self, frame: Frame<'_>, state: &mut State) -> bool {
        let Ok(hint) = decode_hint(&Bytes::copy_from_slice(frame.payload)) else { return false };
        match frame.kind {
            KIND_ADD => {
                let spot = Spot { place: frame.place, bytes: frame.bytes };
                if let Some((held, at)) = self.held(hint.target, &hint.key, state) {
                    if supersedes(&held, &hint) {
                        return true;
                    }
                    state.held.remove(&held.key, at.place);
                }
                state.held.insert(&hint, frame.seq, spot)
            }
            KIND_REMOVE => {
                let held = self.held(hint.target, &hint.key, state);
                let removal =
                    Removal { slot: (hint.target, hint.key), version: hint.record.version };
                for (held, at) in held.iter().filter(|(held, _)| removal.removes(held)) {
                    state.held.remove(&held.key, at.place);
                }
                true
            }
            _ => false,
        }
    }

    /// What is held for this target and key: one hint at most.
    fn held(&mut self, target: NodeId, key: &Key, state: &State) -> Option<(Hint, Spot)> {
        let spots = state.held.candidates(Some(target), key);
        let mut read = spots.into_iter().filter_map(|spot| Some((self.read(spot).ok()?, spot)));
        read.find(|(hint, _)| hint.key == *key)
    }

    fn read(&mut self, Spot { place, bytes }: Spot) -> Result<Hint, ReadError> {
        let file = match &self.file {
            Some((segment, file)) if *segment == place.segment => file.clone(),
            _ => {
                let file = self.fs.open(&segment_path(&self.dir, place.segment))?;
                self.file.insert((place.segment, file)).1.clone()
            }
        };
        let mut buf = Vec::new();
        let (kind, payload) = read_frame(&*file, place, bytes, &mut buf)?;
        hint_in(kind, buf, payload)
    }
}
