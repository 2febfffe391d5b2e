//! The HTTP face of a node: connections, limits, routes and the forms of answers.
//!
//! It decides nothing about data. It checks what comes in, turns it into a
//! [`quorate_node::ClientRequest`] or [`quorate_node::Request`], hands that to a [`Backend`], and
//! writes out what comes back. One listener serves every path:
//!
//! | paths | for | module |
//! |---|---|---|
//! | `/health`, `/ready` | probes | `operator` |
//! | `/kv/{key}` | clients | `kv` |
//! | `/internal/…` | peers, and people with curl | `internal` |
//! | `/debug/…`, `/admin/…`, `/metrics` | operators | `operator` |

mod admit;
mod answer;
mod backend;
mod body;
mod budget;
mod framing;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod guests;
mod hosts;
mod internal;
mod json;
mod key_path;
mod kv;
mod listener;
mod operator;
mod pace;
mod params;
mod problem;
mod receipt;
mod refusal;
mod routes;
mod settings;
mod stall;
#[cfg(test)]
mod tests;
mod throttle;

pub use answer::Answer;
pub use backend::{Backend, DebugPage, KeysPage, NoBackup};
pub(crate) use json::ShownKey;
pub(crate) use listener::bare_socket;
pub use listener::serve;
pub use settings::{HttpLimits, HttpSettings};
