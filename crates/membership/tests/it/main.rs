//! Laws of the failure detector, through its public interface.

mod laws;
