//! One replica and coordinator of a Quorate cluster as a pure machine: events in, actions out.
