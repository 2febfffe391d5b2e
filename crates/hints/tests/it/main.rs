//! Laws of the hint book, through its public interface.

mod laws;
mod world;
