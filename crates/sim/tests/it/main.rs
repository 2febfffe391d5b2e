//! Simulated clusters keep their promises, and simulations theirs.

mod runs;
mod worlds;
