//! A crash-safe framed log with group commit, and a record store on top of it.

pub mod fault;
pub mod fs;

pub use fs::RealFs;
