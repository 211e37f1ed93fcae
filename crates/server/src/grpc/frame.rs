//! gRPC's frame: a message behind five bytes that say whether it is compressed, and how long it is.

use std::cmp::Ordering;

use bytes::{BufMut, Bytes};
use hyper::body::Body;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use samovar_core::error::Error;

use crate::connection::MIN_TENSOR;
use crate::door::body::{BodyLimits, Pace, first_capacity, reserve};
use crate::door::invalid;
use crate::inflate::{Coding, Inflater};

/// Bytes in front of a message.
const PREFIX: usize = 5;

/// Read the one message of a unary call; `grow` takes room for each part that has come, and for what it inflates to. A
/// message that comes in one part is not copied.
///
/// Errors with `payload_too_large` before the message is there, `body_timeout`, `invalid_request` where the frame is no
/// frame or more than one, and what `grow` says.
pub(super) async fn read<B>(
    body: &mut B,
    coding: Option<Coding>,
    limits: &BodyLimits,
    mut grow: impl FnMut(u64) -> Result<(), Error>,
) -> Result<Bytes, Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut pace = Pace::new();
    let mut buffer = Buffer::default();
    // The frame says how long the message is; that is held against the limit, not what comes.
    let endless = BodyLimits { max_bytes: u64::MAX, ..*limits };
    let message = loop {
        let Some(part) = pace.next_part(body, &endless, &mut grow).await? else { return Err(buffer.cut_off()) };
        if let Some(message) = buffer.push(part, limits)? {
            break message;
        }
    };
    while !body.is_end_stream() {
        if pace.next_part(body, &endless, &mut grow).await?.is_some() {
            return Err(too_many());
        }
    }
    match (message.is_compressed, coding) {
        (false, _) => Ok(message.data),
        (true, None) => Err(invalid("the message says that it is compressed, but grpc-encoding does not say how")),
        (true, Some(coding)) => {
            let mut inflater = Inflater::new(coding, limits.max_bytes);
            inflater.push(&message.data, &mut grow).await?;
            inflater.finish()
        }
    }
}

struct Framed {
    is_compressed: bool,
    data: Bytes,
}

/// What has come of a frame.
#[derive(Default)]
struct Buffer {
    /// The only part, as long as there is one,
    first: Bytes,
    /// else all of them.
    whole: Vec<u8>,
    /// How long the frame is, once that is known.
    length: Option<u64>,
}

impl Buffer {
    /// The message, if `part` completes it.
    fn push(&mut self, part: Bytes, limits: &BodyLimits) -> Result<Option<Framed>, Error> {
        if self.come() == 0 {
            self.first = part;
        } else {
            self.append(&part);
        }
        let come: &[u8] = if self.first.is_empty() { &self.whole } else { &self.first };
        let Some(&[flag, a, b, c, d]) = come.first_chunk::<PREFIX>() else { return Ok(None) };
        if flag > 1 {
            return Err(invalid(format!("the body is no gRPC message: it starts with {flag}, want 0 or 1")));
        }
        let length = u64::from(u32::from_be_bytes([a, b, c, d]));
        if length > limits.max_bytes {
            return Err(limits.too_large(Some(length)));
        }
        let whole = PREFIX as u64 + length;
        self.length = Some(whole);
        match (come.len() as u64).cmp(&whole) {
            Ordering::Greater => Err(too_many()),
            Ordering::Equal => Ok(Some(Framed { is_compressed: flag == 1, data: self.take() })),
            Ordering::Less => Ok(None),
        }
    }

    fn come(&self) -> usize {
        self.first.len() + self.whole.len()
    }

    fn append(&mut self, part: &[u8]) {
        if !self.first.is_empty() {
            self.whole = Vec::with_capacity(first_capacity(self.length, self.come() + part.len()));
            self.whole.extend_from_slice(&std::mem::take(&mut self.first));
        }
        reserve(&mut self.whole, part.len(), self.length);
        self.whole.extend_from_slice(part);
    }

    fn take(&mut self) -> Bytes {
        let frame = match self.first.is_empty() {
            true => Bytes::from(std::mem::take(&mut self.whole)),
            false => std::mem::take(&mut self.first),
        };
        frame.slice(PREFIX..)
    }

    fn cut_off(&self) -> Error {
        invalid(match self.come() {
            0 => "the call has no message; want one".to_owned(),
            come => format!("the body ends after {come} bytes, in the middle of its message"),
        })
    }
}

#[cold]
fn too_many() -> Error {
    invalid("the call has more than one message, or bytes behind it; want one")
}

/// A message in its frame.
pub(super) struct Frame {
    pub(super) start: Bytes,
    /// What follows: large tensors, and what stands between them.
    pub(super) rest: Vec<Bytes>,
}

impl Frame {
    /// Bytes of the whole frame.
    pub(super) fn length(&self) -> usize {
        self.start.len() + self.rest.iter().map(Bytes::len).sum::<usize>()
    }
}

/// `message` in its frame; `None` if it is longer than a frame may say.
pub(super) fn framed(message: &impl Message) -> Option<Frame> {
    framed_with(message, 0, Vec::new())
}

/// The same with `tensors` as the bytes of a repeated field behind everything else; large ones are not copied.
pub(super) fn framed_with(message: &impl Message, field: u32, tensors: Vec<Bytes>) -> Option<Frame> {
    let sizes = tensors.iter().map(|tensor| {
        let length = tensor.len();
        key_len(field) + encoded_len_varint(length as u64) + length
    });
    let length = message.encoded_len() + sizes.sum::<usize>();
    let announced = u32::try_from(length).ok()?;
    let copied = tensors.iter().map(Bytes::len).filter(|length| *length < MIN_TENSOR).sum::<usize>();
    let mut part = Vec::with_capacity(PREFIX + message.encoded_len() + copied + 16 * tensors.len());
    part.push(0);
    part.put_u32(announced);
    message.encode(&mut part).ok()?;
    let mut parts = Vec::new();
    for tensor in tensors {
        encode_key(field, WireType::LengthDelimited, &mut part);
        encode_varint(tensor.len() as u64, &mut part);
        if tensor.len() < MIN_TENSOR {
            part.extend_from_slice(&tensor);
        } else {
            parts.push(Bytes::from(std::mem::take(&mut part)));
            parts.push(tensor);
        }
    }
    parts.push(Bytes::from(part));
    parts.retain(|part| !part.is_empty());
    let start = parts.remove(0);
    Some(Frame { start, rest: parts })
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use hyper::body::Frame;
    use samovar_core::error::Code;
    use std::io::Write;

    use super::*;
    use crate::proto::inference::ModelInferResponse;

    /// A body in given parts.
    struct Parts(VecDeque<Bytes>);

    impl Body for Parts {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }

    async fn read_in(bytes: &[u8], size: usize, coding: Option<Coding>) -> Result<(Bytes, u64), Error> {
        let mut body = Parts(bytes.chunks(size).map(Bytes::copy_from_slice).collect());
        let mut taken = 0;
        let grow = |bytes| {
            taken += bytes;
            Ok(())
        };
        let message = read(&mut body, coding, &BodyLimits::new(100), grow).await?;
        Ok((message, taken))
    }

    fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
        [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat()
    }

    #[tokio::test]
    async fn a_message_comes_back_whatever_its_parts() {
        for message in [&b""[..], b"a", &[7; 100]] {
            let bytes = frame(0, message);
            for size in [1, 3, 5, 6, 200] {
                let (read, taken) = read_in(&bytes, size, Some(Coding::Gzip)).await.unwrap();
                assert_eq!((&read[..], taken), (message, bytes.len() as u64));
            }
        }
    }

    #[test]
    fn large_tensors_stand_in_the_frame_uncopied() {
        let tensors = [3, MIN_TENSOR, 5, MIN_TENSOR + 1].map(|size| Bytes::from(vec![size as u8; size]));
        let message = ModelInferResponse { model_name: "m".into(), ..ModelInferResponse::default() };
        let frame = framed_with(&message, 6, tensors.to_vec()).unwrap();
        assert_eq!(frame.rest.iter().filter(|part| tensors.iter().any(|t| t.as_ptr() == part.as_ptr())).count(), 2);
        let bytes = [&*frame.start, &frame.rest.concat()].concat();
        assert_eq!((bytes.len(), bytes.len() - PREFIX), (frame.length(), frame_length(&bytes)));
        let read = ModelInferResponse::decode(&bytes[PREFIX..]).unwrap();
        assert_eq!((read.model_name.as_str(), &read.raw_output_contents[..]), ("m", &tensors[..]));
        assert_eq!(framed(&message).unwrap().start[PREFIX..], message.encode_to_vec());
    }

    fn frame_length(bytes: &[u8]) -> usize {
        u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize
    }

    #[tokio::test]
    async fn one_part_is_not_copied() {
        let bytes = Bytes::from(frame(0, b"abc"));
        let mut body = Parts([bytes.clone()].into());
        let message = read(&mut body, None, &BodyLimits::new(3), |_| Ok(())).await.unwrap();
        assert_eq!(message.as_ptr(), bytes[PREFIX..].as_ptr());
    }

    #[tokio::test]
    async fn compressed_messages_are_inflated_within_the_limit() {
        let gzip = |data: &[u8]| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        };
        let packed = frame(1, &gzip(&[7; 100]));
        let (read, taken) = read_in(&packed, 4, Some(Coding::Gzip)).await.unwrap();
        assert_eq!((&read[..], taken), (&[7; 100][..], packed.len() as u64 + 100));
        let bomb = frame(1, &gzip(&[7; 101]));
        assert_eq!(read_in(&bomb, 9, Some(Coding::Gzip)).await.unwrap_err().code, Code::PayloadTooLarge);
        assert!(read_in(&packed, 9, None).await.unwrap_err().message.contains("does not say how"));
    }

    #[tokio::test]
    async fn what_is_no_frame_is_refused() {
        for (bytes, code, text) in [
            (frame(0, &[7; 101]), Code::PayloadTooLarge, "101 bytes is larger than the limit of 100 bytes"),
            (frame(2, b""), Code::InvalidRequest, "starts with 2"),
            (b"{\"inputs\":[]}".to_vec(), Code::InvalidRequest, "no gRPC message"),
            ([frame(0, b"a"), frame(0, b"a")].concat(), Code::InvalidRequest, "more than one message"),
            (vec![], Code::InvalidRequest, "no message"),
            (frame(0, b"abc")[..7].to_vec(), Code::InvalidRequest, "ends after 7 bytes"),
            (vec![0, 0], Code::InvalidRequest, "ends after 2 bytes"),
        ] {
            for size in [1, 6, 1_000] {
                let error = read_in(&bytes, size, None).await.unwrap_err();
                assert_eq!(error.code, code);
                assert!(error.message.contains(text), "{error}");
            }
        }
    }

    #[tokio::test]
    async fn a_frame_that_announces_too_much_is_refused_unread() {
        let mut body = Parts([Bytes::from_static(&[0, 255, 255, 255, 255]), Bytes::from_static(b"x")].into());
        let error = read(&mut body, None, &BodyLimits::new(100), |_| Ok(())).await.unwrap_err();
        assert_eq!((error.code, body.0.len()), (Code::PayloadTooLarge, 1));
    }
}
