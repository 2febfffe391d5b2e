//! Hinted handoff as pure decisions: what to keep for whom, when to deliver it, when to give up.
