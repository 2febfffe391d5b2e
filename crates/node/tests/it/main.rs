//! Whole clusters of nodes in one thread.

mod cluster;
mod heal;
mod lives;
mod owners;
mod queue;
mod world;
