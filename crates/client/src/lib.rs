//! A small async client for Quorate clusters.
//!
//! A [`Client`] speaks the HTTP interface of the nodes, keeps its connections, and tries the next
//! node when one fails, within the time that a call is given. It is honest about failures: only
//! [`ClientError::Indeterminate`] leaves open whether a write has happened, and such a write is not
//! repeated behind the caller's back, since somebody else may have written in between.
//!
//! A [`Connection`] is less: one connection to one node, and nothing is repeated. Programs that measure
//! nodes, or must keep many connections busy cheaply, use these.
//!
//! ```no_run
//! use quorate_client::{Client, ClientError, ClientOptions, GetOptions, PutOptions, Replicas};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let nodes = ["127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"];
//! let client = Client::new(nodes, ClientOptions::default())?;
//!
//! let everywhere = PutOptions { w: Some(Replicas::All), ..PutOptions::default() };
//! match client.put(b"cat", "meow", &everywhere).await {
//!     Ok(written) => println!("{} by {}", written.version, written.receipt),
//!     Err(ClientError::Indeterminate { detail, .. }) => println!("perhaps: {detail}"),
//!     Err(error) => println!("no: {error}"),
//! }
//! if let Some(found) = client.get(b"cat", &GetOptions::default()).await? {
//!     assert_eq!(&found.value[..], b"meow");
//! }
//! # Ok(())
//! # }
//! ```

mod answer;
mod client;
mod connection;
mod error;
mod node;
mod options;
mod pool;
mod socket;
mod target;
#[cfg(feature = "tls")]
mod tls;

pub use client::{Client, Found, Written};
pub use connection::Connection;
pub use error::{Acks, AddressError, ClientError};
pub use options::{ClientOptions, Consistency, GetOptions, PutOptions, Replicas, Token};
#[cfg(feature = "tls")]
pub use tls::{ClientTls, ClientTlsError};
