//! What Quorate promises, kept by real processes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod anti_entropy;
mod backup;
mod bench;
mod cluster_command;
mod commands;
mod convergence;
mod deletes;
mod doctor;
mod durability;
mod full_disk;
mod healing;
mod hints;
mod keys_and_values;
mod limits;
mod lives;
mod lost_disk;
mod overload;
mod ownership;
mod refusals;
mod scripts;
mod secrets;
mod tls;
