//! Dynamo-style quorum reads and writes as pure state machines: no runtime, no I/O, no clock.
