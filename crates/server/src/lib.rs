//! The Quorate server: configuration, HTTP routes and the driver of a node.

/// Whether this bug is planted, for the simulator to find; always `false` without the feature.
macro_rules! planted {
    ($bug:ident) => {{
        #[cfg(feature = "planted-bugs")]
        let planted = quorate_planted::is_planted(quorate_planted::Bug::$bug);
        #[cfg(not(feature = "planted-bugs"))]
        let planted = false;
        planted
    }};
}

mod clock;
pub mod config;
mod driver;
mod face;
pub mod http;
pub mod local;
mod metrics;
mod pages;
mod run;
mod scrub;

#[cfg(feature = "test-clock")]
pub use clock::set_clock_offset_ms;
pub use quorate_transport::{Tls, TlsFiles};
pub use run::{Ended, ServeError, ServeOptions, run};
