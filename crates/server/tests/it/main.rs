//! What nodes say to each other over files of their own.

mod exchange_cost;
mod pair;
