//! What holds for all bytes that Quorate reads, whoever wrote them.
//!
//! Each law is a function that takes any bytes and panics where they break it. `tests/fuzz` looks
//! for such bytes with libFuzzer; `tests/replay.rs` shows every file of the committed corpus to its
//! law again, with nothing but `cargo test`.

mod config;
mod http;
mod message;
mod pieces;
mod record;
mod segment;
mod stream;

pub use config::config;
pub use http::{http_head, http_json, http_key, http_params};
pub use message::{any_message, message};
pub use record::record;
pub use segment::{segment, small_log};
pub use stream::{hello, stream};

/// Panics if the bytes break the law.
pub type Law = fn(&[u8]);

/// All laws by name; the fuzz target and the folder of the corpus have the same one.
pub const LAWS: &[(&str, Law)] = &[
    ("any_message", any_message),
    ("config", config),
    ("hello", hello),
    ("http_head", http_head),
    ("http_json", http_json),
    ("http_key", http_key),
    ("http_params", http_params),
    ("message", message),
    ("record", record),
    ("segment", segment),
    ("stream", stream),
];

/// Runs `read` and checks that it never holds more memory than `most_bytes` of its own.
fn within<T>(most_bytes: usize, read: impl FnOnce() -> T) -> T {
    let mut done = None;
    let counted = allocation_counter::measure(|| done = Some(read()));
    let held = counted.bytes_max;
    assert!(held <= most_bytes as u64, "{held} bytes of memory, at most {most_bytes} are allowed");
    done.expect("it was run")
}
