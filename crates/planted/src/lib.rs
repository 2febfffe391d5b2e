#![doc = include_str!("../README.md")]

mod arm;
mod bug;
mod plant;
mod site;

pub use arm::{Armed, arm, fires};
pub use bug::Bug;
pub use plant::{Planted, is_planted, plant};
pub use site::Site;
