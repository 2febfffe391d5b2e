//! Whole clusters of nodes in one thread.

mod cluster;
mod lives;
mod heal;
mod owners;
mod world;
