//! Values that say which write they are of.

/// Nobody wrote a value of this number.
pub(crate) const UNKNOWN: u64 = u64::MAX;

/// The value of a write: its number, and more bytes that hang on it.
pub(crate) fn of(id: u64) -> Vec<u8> {
    const USUAL_BYTES: u64 = 200;
    const LARGE_BYTES: usize = 20_000;
    let mixed = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let len = match mixed >> 57 {
        0 => LARGE_BYTES,
        _ => usize::try_from(mixed % USUAL_BYTES).expect("a small number"),
    };
    let mut value = format!("{id}:").into_bytes();
    let filler = mixed.to_be_bytes();
    value.extend(filler.iter().cycle().take(len));
    value
}

/// The number of the write that a value is of, if it is just that; else [`UNKNOWN`].
pub(crate) fn id(value: &[u8]) -> u64 {
    let digits = value.split(|&byte| byte == b':').next().unwrap_or_default();
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    number.filter(|&id| of(id) == value).unwrap_or(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_its_write_and_a_changed_one_none() {
        for number in (0..500).chain([u64::MAX - 1]) {
            let value = of(number);
            assert_eq!(id(&value), number);
            let mut changed = value.clone();
            *changed.last_mut().unwrap() ^= 1;
            assert_eq!(id(&changed), UNKNOWN, "{number}");
            assert_eq!(id(&value[..value.len() - 1]), UNKNOWN, "{number}");
        }
    }
}
