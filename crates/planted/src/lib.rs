#![doc = include_str!("../README.md")]

mod bug;
mod plant;

pub use bug::Bug;
pub use plant::{Planted, is_planted, plant};
