//! The end of something that was asked for under an id.

use crate::queue::LogError;

/// What came of a request that was given an id.
#[derive(Clone, Debug)]
pub struct Completion<T> {
    /// The id given with the request.
    pub id: u64,
    /// What came of it. [`LogError::NoSpace`] passes by itself; after [`LogError::Poisoned`] nothing can be written
    /// until the files are opened anew. What failed may all the same be there then.
    pub outcome: Result<T, LogError>,
}
