//! Keys, values, versions, the hybrid logical clock and the merge of a leaderless replicated store.
