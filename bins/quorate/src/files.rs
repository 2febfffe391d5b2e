use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets this process open as many files as the system allows it to: connections are files, and what
/// a shell allows at first is often less than a node's connections alone.
///
/// Nothing else in this program uses `select`, for which alone the lower limit is there.
pub(crate) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return tracing::debug!(open_files = current, "as many files as the system allows");
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::info!(from = current, to = maximum, "raised the limit of open files"),
        Err(error) => tracing::warn!(%error, open_files = current, "cannot open more files"),
    }
}
