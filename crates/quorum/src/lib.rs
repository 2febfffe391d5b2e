#![doc = include_str!("../README.md")]

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
