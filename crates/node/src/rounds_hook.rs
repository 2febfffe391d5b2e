use quorate_record::NodeId;

use crate::{Node, Now};

impl Node {
    /// An exchange has ended. `begun_id` was drawn when it began, so exchanges that began after
    /// something else was drawn have greater ones. It is `complete` if all that the two share was
    /// compared and all that differed has moved.
    pub(crate) fn exchange_ended(
        &mut self,
        _peer: NodeId,
        _begun_id: u64,
        _complete: bool,
        _now: Now,
    ) {
    }
}
