//! Whole clusters of nodes in one thread.

mod cluster;
mod heal;
mod owners;
mod world;
