//! Quorate's peer messages, their encoding, and the pipelined stream that carries them.
