//! The ring through its public surface only.

mod balance;
mod naive;
mod placement;
mod ranges;
