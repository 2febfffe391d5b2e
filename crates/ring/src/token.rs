//! Tokens: the points on the circle that keys and vnodes hash to.

use twox_hash::XxHash3_64;

/// The seed of every key's token: the ASCII letters `quor-key`, big-endian.
pub const KEY_SEED: u64 = 0x7175_6f72_2d6b_6579;

/// The seed of every vnode's token: the ASCII letters `quor-vno`, big-endian.
pub const VNODE_SEED: u64 = 0x7175_6f72_2d76_6e6f;

/// The token of a key: XXH3 (64 bits) of its bytes under [`KEY_SEED`].
///
/// Frozen: data on disk is filed under tokens, so this function never changes.
///
/// ```
/// assert_eq!(quorate_ring::token(b"cat"), 0x7138_e1c0_4e74_81bd);
/// ```
#[inline]
#[must_use]
pub fn token(key: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(KEY_SEED, key)
}

/// The token of a node's vnode number `index`: XXH3 (64 bits) under [`VNODE_SEED`] of the bytes of
/// the node's id, one zero byte, and `index` as four bytes, little-endian.
///
/// Frozen like [`token`]. A vnode's token does not depend on the other nodes, nor on how many
/// vnodes its node has: that is what makes a ring stable when either changes.
#[must_use]
pub fn vnode_token(id: &[u8], index: u32) -> u64 {
    let mut bytes = Vec::with_capacity(id.len() + 5);
    bytes.extend_from_slice(id);
    bytes.push(0);
    bytes.extend_from_slice(&index.to_le_bytes());
    XxHash3_64::oneshot_with_seed(VNODE_SEED, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_spell_what_they_are_for() {
        assert_eq!(KEY_SEED.to_be_bytes(), *b"quor-key");
        assert_eq!(VNODE_SEED.to_be_bytes(), *b"quor-vno");
    }

    /// One key for each branch of XXH3: 0, 1–3, 4–8, 9–16, 17–128, 129–240 and more bytes.
    #[test]
    fn key_tokens_are_frozen() {
        let counting: Vec<u8> = (0..=255).collect();
        let found =
            [0, 1, 3, 8, 16, 17, 128, 129, 240, 241, 256].map(|len| token(&counting[..len]));
        let frozen = [
            0x3c6b_78eb_0da3_80d8,
            0x282f_64c0_158e_d39b,
            0x4173_418d_0581_3bc3,
            0x8210_920d_7d87_1127,
            0x7ca0_10bc_c250_d3bb,
            0x8a65_752e_b9fb_f86f,
            0x9f8e_d54f_9abe_6652,
            0x6b05_29c3_1c4f_4d44,
            0xc138_b1ff_1bc5_51a0,
            0xb754_9121_e962_c686,
            0x1567_9dd5_dafe_a68a,
        ];
        assert_eq!(found, frozen);
    }

    #[test]
    fn vnode_tokens_are_frozen() {
        let found = [("n1", 0), ("n1", 1), ("n1", 4095), ("n2", 0), ("10.0.0.1:7000", 7)]
            .map(|(id, index)| vnode_token(id.as_bytes(), index));
        let frozen = [
            0xc504_edc3_18c4_1abb,
            0x04ca_be44_d9af_a543,
            0xa293_adce_ce15_84aa,
            0xeda9_a7d2_1582_0429,
            0x445f_c2de_c008_a6b1,
        ];
        assert_eq!(found, frozen);
    }
}
