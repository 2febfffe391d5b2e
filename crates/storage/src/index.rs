//! Where each record lies in the log, and its version: all that the store keeps in memory of it.
//!
//! The token space is cut into [`SHARDS`] equal parts, so that whoever uses one of them holds nobody else up. In a
//! shard, the [entries](Entry) are in the order of their [positions](Position).

mod entry;
mod leaf;
mod position;
mod shard;
mod sketches;
mod writers;

pub(crate) use self::entry::{ENTRY_BYTES, Entry};
pub(crate) use self::position::{BuildPositionHasher, Position, Secret};
pub(crate) use self::shard::{BUCKETS, Counts, Merged, SHARDS, Shard, shard_of};
pub(crate) use self::writers::{TooManyWriters, WriterId, Writers};
