//! A small async client for Quorate clusters.
