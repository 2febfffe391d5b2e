//! Exchanges between model replicas, through the public interface.

mod convergence;
mod ownership;
mod replica;
mod sketches;
mod traffic;
