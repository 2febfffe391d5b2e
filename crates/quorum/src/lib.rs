#![doc = include_str!("../README.md")]

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

/// Whether what is rare at this site is to happen now; always `false` without the feature.
macro_rules! buggify {
    ($site:ident) => {{
        #[cfg(feature = "buggify")]
        let fires = quorate_planted::fires(quorate_planted::Site::$site);
        #[cfg(not(feature = "buggify"))]
        let fires = false;
        fires
    }};
}

mod error;
mod get;
mod put;
mod quorum;
mod receipt;

pub use error::{GetError, Outcome, PutError};
pub use get::{Get, GetAction, GetEvent, GetOptions, Repair};
pub use put::{Failure, Put, PutAction, PutEvent, Round};
pub use quorum::{Quorum, QuorumError};
pub use receipt::{GetReceipt, Holder, PutReceipt};
