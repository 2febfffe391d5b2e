//! Compares a token range between two replicas and says which records must move.
