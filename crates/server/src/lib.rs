//! The Quorate server: configuration, HTTP routes and the driver of a node.

pub mod config;
