//! The very same node in a seeded world, with every fault.

pub mod check;
