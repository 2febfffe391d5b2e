/// Bytes that come in pieces, as a socket may give them.
pub(crate) struct Pieces<'a> {
    pub(crate) whole: &'a [u8],
    /// How long the pieces are, in turn; not empty, none is 0.
    steps: Vec<usize>,
    /// Any two choices that the input makes for the law.
    pub(crate) flags: [bool; 2],
}

impl<'a> Pieces<'a> {
    /// The first byte of `input` says how many bytes behind it are lengths of pieces, and holds the
    /// flags; `None` if they are not all there.
    pub(crate) fn of(input: &'a [u8]) -> Option<Self> {
        let (&first, rest) = input.split_first()?;
        let (steps, whole) = rest.split_at_checked(usize::from(first & 0x0f))?;
        let steps = if steps.is_empty() { &[0] } else { steps };
        let steps = steps.iter().map(|&step| usize::from(step) + 1).collect();
        Some(Self { whole, steps, flags: [first & 0x80 != 0, first & 0x40 != 0] })
    }

    /// The pieces of `bytes`, which has the length of `whole`.
    pub(crate) fn cut<'b>(&'b self, bytes: &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
        let mut rest = bytes;
        let mut steps = self.steps.iter().copied().cycle();
        std::iter::from_fn(move || {
            let step = steps.next()?.min(rest.len());
            let (piece, tail) = rest.split_at(step);
            rest = tail;
            (!piece.is_empty()).then_some(piece)
        })
    }
}
