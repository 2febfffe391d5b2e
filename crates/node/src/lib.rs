//! One replica and coordinator of a Quorate cluster as a pure machine: events in, actions out.

mod call;
mod client;
mod counters;
mod event;
mod handoff;
mod hedge;
mod message;
mod node;
mod options;
mod parked;
mod read;
mod reconcile;
mod serve;
mod write;

pub use client::{ClientReply, ClientRequest, Failure, Operation};
pub use counters::Counters;
pub use event::{Action, Event, Now, StoreReply, StoreRequest};
pub use message::{
    MAX_BATCH_BYTES, MAX_ITEMS, MAX_SPANS, Message, PutOutcome, Refusal, Request, Response,
};
pub use node::Node;
pub use options::NodeOptions;
pub use reconcile::Comparison;
