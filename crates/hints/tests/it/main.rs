//! Laws of the hint book, through its public interface.

mod book;
mod laws;
mod queue;
mod world;
