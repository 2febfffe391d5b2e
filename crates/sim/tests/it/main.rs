//! Simulated clusters keep their promises, and simulations theirs.

#[cfg(feature = "planted-bugs")]
mod bugs;
mod runs;
mod worlds;
