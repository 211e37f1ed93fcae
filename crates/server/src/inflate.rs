//! Inflating what clients compressed: in steps, so that a bomb neither takes more memory than the limit nor holds up
//! the requests beside it.

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};
use samovar_core::error::{Code, Error};

/// Most bytes read and most written before others get their turn: a millisecond at the 280 MB/s that JSON takes.
const STEP: usize = 256 << 10;
/// The buffer starts no smaller and, whatever arrives first, no larger than [`STEP`].
const MIN_BUFFER: usize = 1 << 10;
/// Room for the common ratios of JSON and tensors before the buffer grows.
const USUAL_RATIO: usize = 4;
/// The largest window that gzip and zlib allow, in bits.
const WINDOW_BITS: u8 = 15;

/// How a body or a message is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// RFC 1952, one member.
    Gzip,
    /// RFC 1950 (zlib), or as browsers do RFC 1951 without it: some clients took the name at its word.
    Deflate,
}

impl Coding {
    /// The coding of this name (RFC 9110, 8.4.1), in any case.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") {
            return Some(Self::Gzip);
        }
        name.eq_ignore_ascii_case(b"deflate").then_some(Self::Deflate)
    }

    /// Its registered name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// A decoder for a stream whose first byte is `first`. Raw deflate from a real encoder never looks like zlib: 8 in
    /// the low half would be a stored block with a padding bit set.
    fn decoder(self, first: u8) -> Decompress {
        match self {
            Self::Gzip => Decompress::new_gzip(WINDOW_BITS),
            Self::Deflate => Decompress::new(first & 0x0f == 8),
        }
    }
}

/// Inflates one stream as its parts arrive.
pub(crate) struct Inflater {
    coding: Coding,
    /// Made with the first byte.
    decoder: Option<Decompress>,
    whole: Vec<u8>,
    max_bytes: u64,
    has_ended: bool,
}

impl Inflater {
    /// For a stream that may inflate to `max_bytes`.
    pub(crate) fn new(coding: Coding, max_bytes: u64) -> Self {
        Self { coding, decoder: None, whole: Vec::new(), max_bytes, has_ended: false }
    }

    /// Inflate the next `part`; `grow` takes room for what comes out of it.
    ///
    /// Errors with `payload_too_large`, with `invalid_request` where the data is damaged or goes on behind its end, and
    /// what `grow` says.
    pub(crate) async fn push(
        &mut self,
        mut part: &[u8],
        grow: &mut impl FnMut(u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        while self.step(&mut part, grow)? {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// What has been inflated. Errors with `invalid_request` where the end is missing.
    pub(crate) fn finish(self) -> Result<Bytes, Error> {
        match &self.decoder {
            Some(decoder) if !self.has_ended => {
                Err(self.faulty(&format!("ends early, after {} bytes; send all of it", decoder.total_in())))
            }
            _ => Ok(Bytes::from(self.whole)),
        }
    }

    /// Inflate some of `part`; false when that is done.
    fn step(&mut self, part: &mut &[u8], grow: &mut impl FnMut(u64) -> Result<(), Error>) -> Result<bool, Error> {
        if self.has_ended && !part.is_empty() {
            let message = format!("is followed by {} more bytes; send one stream and nothing behind it", part.len());
            return Err(self.faulty(&message));
        }
        let decoder = match (&mut self.decoder, part.first()) {
            (Some(decoder), _) => decoder,
            (none, Some(&first)) => none.insert(self.coding.decoder(first)),
            (None, None) => return Ok(false),
        };
        let (read, written) = (decoder.total_in(), decoder.total_out());
        let filled = self.whole.len();
        let room = room(&mut self.whole, part.len(), self.max_bytes);
        self.whole.resize(filled + room, 0);
        let input = &part[..part.len().min(STEP)];
        let status = decoder.decompress(input, &mut self.whole[filled..], FlushDecompress::None);
        let at = decoder.total_in();
        let (read, written) = ((at - read) as usize, (decoder.total_out() - written) as usize);
        self.whole.truncate(filled + written);
        let is_stuck = read + written == 0 && !input.is_empty();
        match status {
            Ok(Status::StreamEnd) => self.has_ended = true,
            Ok(_) if !is_stuck => {}
            _ => return Err(self.faulty(&format!("is damaged at byte {at}"))),
        }
        if self.whole.len() as u64 > self.max_bytes {
            let (name, limit) = (self.coding.name(), self.max_bytes);
            let message = format!("the {name} data inflates to more than the limit of {limit} bytes");
            return Err(Error::new(Code::PayloadTooLarge, message));
        }
        grow(written as u64)?;
        *part = &part[read..];
        // A full buffer may leave output behind that needs no further input.
        Ok(!part.is_empty() || (written == room && !self.has_ended))
    }

    fn faulty(&self, how: &str) -> Error {
        Error::new(Code::InvalidRequest, format!("the {} data {how}", self.coding.name()))
    }
}

/// Make room for output, at most one byte beyond the limit, and say how much.
fn room(whole: &mut Vec<u8>, ahead: usize, max_bytes: u64) -> usize {
    let most = usize::try_from(max_bytes).unwrap_or(usize::MAX).saturating_add(1).saturating_sub(whole.len());
    let step = ahead.saturating_mul(USUAL_RATIO).clamp(MIN_BUFFER, STEP);
    if whole.len() == whole.capacity() {
        whole.reserve_exact(step.max(whole.len()).min(most));
    }
    // It is zeroed before it is written: a part of one byte must not cost a whole step of that.
    (whole.capacity() - whole.len()).min(step).min(most)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(data: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn raw(data: &[u8], level: Compression) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), level);
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    /// The result of inflating `data` in parts of `size`, and the room that was taken for it.
    async fn inflate(coding: Coding, data: &[u8], size: usize, max_bytes: u64) -> Result<(Bytes, u64), Error> {
        let mut taken = 0;
        let mut grow = |bytes| {
            taken += bytes;
            Ok(())
        };
        let mut inflater = Inflater::new(coding, max_bytes);
        for part in data.chunks(size) {
            inflater.push(part, &mut grow).await?;
        }
        Ok((inflater.finish()?, taken))
    }

    #[tokio::test]
    async fn every_form_comes_back_whatever_its_parts() {
        let text: Vec<u8> = (0..100_000_u32).flat_map(|number| (number % 1_000).to_le_bytes()).collect();
        for data in [&b""[..], b"a", &text[..100], &text[..70_000], &text] {
            let stored = raw(data, Compression::none());
            let forms = [
                (Coding::Gzip, gzip(data)),
                (Coding::Deflate, zlib(data)),
                (Coding::Deflate, raw(data, Compression::fast())),
                (Coding::Deflate, stored),
            ];
            for (coding, packed) in forms {
                for size in [1, 1_000, packed.len()].into_iter().filter(|size| packed.len() / size < 9_000) {
                    let (bytes, taken) = inflate(coding, &packed, size, data.len() as u64).await.unwrap();
                    assert!(bytes == data, "{coding:?} in parts of {size}");
                    assert_eq!(taken, data.len() as u64);
                }
            }
        }
    }

    #[tokio::test]
    async fn one_byte_too_many_is_refused() {
        for (coding, packed) in [(Coding::Gzip, gzip(&[7; 5_000])), (Coding::Deflate, zlib(&[7; 5_000]))] {
            assert!(inflate(coding, &packed, 64, 5_000).await.is_ok());
            let error = inflate(coding, &packed, 64, 4_999).await.unwrap_err();
            assert_eq!(error.code, Code::PayloadTooLarge);
            assert!(error.message.contains("4999 bytes"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_bomb_takes_no_more_than_the_limit() {
        let bomb = gzip(&vec![0; 8 << 20]);
        assert!(bomb.len() < 10 << 10);
        let mut inflater = Inflater::new(Coding::Gzip, 1 << 20);
        let mut taken = 0;
        let mut grow = |bytes| {
            taken += bytes;
            Ok(())
        };
        assert_eq!(inflater.push(&bomb, &mut grow).await.unwrap_err().code, Code::PayloadTooLarge);
        assert!(taken <= 1 << 20 && inflater.whole.capacity() <= 1 + (1 << 20));
    }

    #[tokio::test]
    async fn room_that_is_not_there_ends_it() {
        let mut inflater = Inflater::new(Coding::Deflate, 1 << 30);
        let mut grow = |_| Err(Error::new(Code::Overloaded, ""));
        assert_eq!(inflater.push(&zlib(&[1; 99]), &mut grow).await.unwrap_err().code, Code::Overloaded);
    }

    #[tokio::test]
    async fn what_is_no_whole_stream_is_refused() {
        let (packed, wrapped) = (gzip(&[3; 2_000]), zlib(&[3; 2_000]));
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut changed = packed.clone();
            change(&mut changed);
            changed
        };
        let last = packed.len() - 1;
        for (coding, data, text) in [
            (Coding::Gzip, with(&|data| data.truncate(last)), "the gzip data ends early, after"),
            (Coding::Gzip, with(&|data| data.truncate(5)), "ends early"),
            (Coding::Gzip, with(&|data| data.push(0)), "is followed by 1 more bytes"),
            (Coding::Gzip, with(&|data| data.extend(gzip(b"again"))), "is followed by"),
            (Coding::Gzip, with(&|data| data[last] ^= 1), "is damaged"),
            (Coding::Gzip, with(&|data| data[last - 4] ^= 1), "is damaged"),
            (Coding::Gzip, with(&|data| data[2] = 9), "is damaged"),
            (Coding::Gzip, wrapped.clone(), "is damaged"),
            (Coding::Gzip, b"{\"inputs\": []}".to_vec(), "the gzip data is damaged at byte"),
            (Coding::Deflate, packed.clone(), "is damaged"),
            (Coding::Deflate, b"{\"inputs\": []}".to_vec(), "the deflate data"),
            (Coding::Deflate, wrapped[..9].to_vec(), "ends early"),
            (Coding::Deflate, [0x78, 0xbb, 1, 2, 3, 4, 5].to_vec(), "is damaged"), // wants a dictionary
        ] {
            for size in [1, data.len()] {
                let error = inflate(coding, &data, size, 1 << 20).await.unwrap_err();
                assert_eq!(error.code, Code::InvalidRequest, "{error}");
                assert!(error.message.contains(text), "{error}, wanted {text}");
            }
        }
    }

    #[tokio::test]
    async fn nothing_stays_nothing() {
        let (bytes, _) = inflate(Coding::Gzip, b"", 1, 0).await.unwrap();
        assert!(bytes.is_empty());
    }

    #[test]
    fn names_are_those_of_the_registry() {
        assert_eq!(Coding::named(b"GZIP"), Some(Coding::Gzip));
        assert_eq!(Coding::named(b"x-gzip").map(Coding::name), Some("gzip"));
        assert_eq!(Coding::named(b"deflate").map(Coding::name), Some("deflate"));
        assert_eq!(Coding::named(b"br"), None);
    }
}
