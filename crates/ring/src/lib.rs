//! A consistent-hash ring with vnodes, weights and zones: tokens, preference lists, ownership ranges.
