//! Tests of a whole cluster of real processes.
