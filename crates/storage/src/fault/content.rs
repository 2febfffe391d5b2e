//! The bytes of a file.

use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const PAGE_BYTES: usize = 4096;

/// Bytes in pages, so that holes cost nothing and copies are cheap.
#[derive(Clone, Default)]
pub(super) struct Content {
    pub(super) len: u64,
    pub(super) pages: BTreeMap<u64, Arc<[u8; PAGE_BYTES]>>,
}

impl Content {
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let end = self.len.min(offset.saturating_add(buf.len() as u64));
        let count = to_index(end.saturating_sub(offset));
        for (page, within, range) in spans(offset, count) {
            match self.pages.get(&page) {
                Some(bytes) => {
                    let len = range.len();
                    buf[range].copy_from_slice(&bytes[within..within + len]);
                }
                None => buf[range].fill(0),
            }
        }
        count
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        for (page, within, range) in spans(offset, bytes.len()) {
            let len = range.len();
            let held = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            if held[within..within + len] != bytes[range.clone()] {
                Arc::make_mut(held)[within..within + len].copy_from_slice(&bytes[range]);
            }
        }
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (last, within) = (len / PAGE_BYTES as u64, to_index(len % PAGE_BYTES as u64));
            self.pages.retain(|page, _| *page < last || (*page == last && within > 0));
            if let Some(page) = self.pages.get_mut(&last) {
                Arc::make_mut(page)[within..].fill(0);
            }
        }
        self.len = len;
    }

    /// How many of `count` bytes at `offset` can be written if only `free_pages` more pages may be taken.
    pub(super) fn room(&self, offset: u64, count: usize, mut free_pages: u64) -> usize {
        for (page, _, range) in spans(offset, count) {
            if !self.pages.contains_key(&page) {
                if free_pages == 0 {
                    return range.start;
                }
                free_pages -= 1;
            }
        }
        count
    }
}

/// Cuts `count` bytes at `offset` into pages: page number, place in the page, place in the caller's bytes.
fn spans(offset: u64, count: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= count {
            return None;
        }
        let at = offset + done as u64;
        let within = to_index(at % PAGE_BYTES as u64);
        let piece = (PAGE_BYTES - within).min(count - done);
        let range = done..done + piece;
        done += piece;
        Some((at / PAGE_BYTES as u64, within, range))
    })
}

pub(super) fn to_index(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a file in memory fits into memory")
}
