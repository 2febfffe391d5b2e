//! The Quorate server: configuration, HTTP routes and the driver of a node.

mod clock;
pub mod config;
mod driver;
mod face;
pub mod http;
pub mod local;
mod metrics;
mod pages;
mod run;

pub use run::{ServeError, ServeOptions, run};
