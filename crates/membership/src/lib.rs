//! A failure detector as a pure state machine: which peers are up, suspect or down.
