use bincode::{
    BorrowDecode, Encode,
    de::{
        BorrowDecoder,
        read::{BorrowReader, Reader},
    },
    enc::{Encoder, write::Writer},
    error::{DecodeError, EncodeError},
};

/// Bytes behind their number, which takes no more room than it needs: a store keeps millions of
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted<'a, const COUNT_BYTES: usize>(pub(super) &'a [u8]);

impl<const COUNT_BYTES: usize> Encode for Counted<'_, COUNT_BYTES> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let count = self.0.len().to_le_bytes();
        let (count, above) = count.split_at(COUNT_BYTES);
        assert!(above.iter().all(|&byte| byte == 0), "{} bytes are too many", self.0.len());
        encoder.writer().write(count)?;
        encoder.writer().write(self.0)
    }
}

impl<'de, const COUNT_BYTES: usize, Context> BorrowDecode<'de, Context>
    for Counted<'de, COUNT_BYTES>
{
    fn borrow_decode<D: BorrowDecoder<'de, Context = Context>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        let mut count = [0; size_of::<usize>()];
        decoder.claim_bytes_read(COUNT_BYTES)?;
        decoder.reader().read(&mut count[..COUNT_BYTES])?;
        let count = usize::from_le_bytes(count);
        decoder.claim_bytes_read(count)?;
        decoder.borrow_reader().take_bytes(count).map(Self)
    }
}
