//! Laws of reads and writes, seen from outside.

mod floor_rule;
mod get_laws;
mod put_laws;
mod setting;
