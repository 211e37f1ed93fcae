//! The 64-byte descriptor that stands for every frame, and the checks that make a foreign one safe to use.

use std::fmt;

use super::proto::{TensorRef, tensor_ref};
use crate::clock::{NEVER, Nanos};
use crate::tensor::{Datatype, MAX_RANK, MAX_TENSOR_BYTES, byte_size, count_bytes_elements, elements};

/// Bytes of a descriptor.
pub const DESCRIPTOR_BYTES: usize = 64;
/// Most bytes of a metadata message.
pub const MAX_METADATA_BYTES: u32 = 64 << 20;
/// Most bytes of the metadata of an END: decoding it may take 32 times as much.
pub const MAX_END_METADATA_BYTES: u32 = 1 << 20;
/// Most tensors of a frame: 1,024 inputs.
pub const MAX_TENSORS: usize = 1_024;

/// What a frame says. The same ten kinds travel both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Version and features; the first frame of each side.
    Hello = 1,
    /// Memory granted, wanted or withdrawn.
    Segment = 2,
    /// A range is no longer used.
    Release = 3,
    /// Run this.
    Call = 4,
    /// A piece of a stream.
    Part = 5,
    /// A call is over.
    End = 6,
    /// Nobody waits for this call any more.
    Cancel = 7,
    /// The receiver of a stream can take more pieces.
    Credit = 8,
    /// A question beside the calls.
    Ask = 9,
    /// The answer to a question.
    Tell = 10,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 10] = [
        Kind::Hello,
        Kind::Segment,
        Kind::Release,
        Kind::Call,
        Kind::Part,
        Kind::End,
        Kind::Cancel,
        Kind::Credit,
        Kind::Ask,
        Kind::Tell,
    ];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// Flag: the one tensor stands in the descriptor itself; its dims are the signature's behind `rows`.
pub const FLAG_TENSOR: u8 = 1;
/// Flag of END: the worker holds no view of the call's inputs any more, so no RELEASE will follow.
pub const FLAG_RELEASED: u8 = 2;
/// Flag of END: the call failed; the metadata says how.
pub const FLAG_FAILED: u8 = 4;
/// Flag of PART: nothing follows it in its direction.
pub const FLAG_LAST: u8 = 8;
const ALL_FLAGS: u8 = FLAG_TENSOR | FLAG_RELEASED | FLAG_FAILED | FLAG_LAST;

/// The bit by which a worker's calls differ from the engine's: each side counts its own.
pub const STEP: u64 = 1 << 63;
/// Pieces that the sender of a stream may send before the first CREDIT.
pub const INITIAL_CREDIT: u32 = 4;

/// Why a frame was refused. It costs the worker that sent it, nobody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BadFrame(pub String);

impl fmt::Display for BadFrame {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "bad frame: {}", self.0)
    }
}

impl std::error::Error for BadFrame {}

/// A refusal with its reason.
pub fn bad<T>(reason: impl Into<String>) -> Result<T, BadFrame> {
    Err(BadFrame(reason.into()))
}

/// The fixed part of every frame; little-endian, laid out as in `docs/channel.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// What the frame says.
    pub kind: Kind,
    /// `FLAG_*`.
    pub flags: u8,
    /// Tensors that belong to it.
    pub tensor_count: u16,
    /// The instance it is for or from.
    pub instance: u32,
    /// The call, or the question, it belongs to.
    pub call: u64,
    /// Reserved: the item a PART belongs to.
    pub item: u32,
    /// PART: its number within its stream. END: how many PARTs came before it.
    pub sequence: u32,
    /// CALL: never begin after this moment. END: when the call began. `CLOCK_MONOTONIC`, nanoseconds.
    pub deadline: Nanos,
    /// Segment of metadata and fast-path tensor; 0: they follow on the socket.
    pub segment: u32,
    /// Generation of the range in that segment.
    pub generation: u32,
    /// Where the range starts, in units of 64 bytes.
    pub offset: u32,
    /// Bytes of the metadata message; 0 is an empty message.
    pub metadata_length: u32,
    /// Where the fast-path tensor starts, in units of 64 bytes.
    pub tensor_offset: u32,
    /// Bytes of the fast-path tensor.
    pub tensor_length: u32,
    /// Rows along the batch axis. CREDIT: pieces that may follow.
    pub rows: u32,
    /// Datatype of the fast-path tensor, as a number.
    pub datatype: u8,
}

impl Descriptor {
    /// A descriptor of this kind with everything else zero.
    #[must_use]
    pub fn new(kind: Kind, call: u64) -> Self {
        Self {
            kind,
            flags: 0,
            tensor_count: 0,
            instance: 0,
            call,
            item: 0,
            sequence: 0,
            deadline: NEVER,
            segment: 0,
            generation: 0,
            offset: 0,
            metadata_length: 0,
            tensor_offset: 0,
            tensor_length: 0,
            rows: 0,
            datatype: 0,
        }
    }

    /// True if `flag` is set.
    #[must_use]
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Bytes of metadata that follow on the socket.
    #[must_use]
    pub fn following(&self) -> u32 {
        if self.segment == 0 { self.metadata_length } else { 0 }
    }

    /// The 64 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; DESCRIPTOR_BYTES] {
        let mut bytes = [0; DESCRIPTOR_BYTES];
        bytes[0] = self.kind as u8;
        bytes[1] = self.flags;
        bytes[2..4].copy_from_slice(&self.tensor_count.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.instance.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.call.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.item.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.deadline.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.segment.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.generation.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.offset.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.metadata_length.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.tensor_offset.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.tensor_length.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.rows.to_le_bytes());
        bytes[60] = self.datatype;
        bytes
    }

    /// Read 64 bytes that may come from anybody.
    pub fn decode(bytes: &[u8; DESCRIPTOR_BYTES]) -> Result<Self, BadFrame> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | (u64::from(word(at + 4)) << 32);
        let Some(kind) = Kind::from_number(bytes[0]) else {
            return bad(format!("kind {} is none of 1 to 10", bytes[0]));
        };
        let descriptor = Self {
            kind,
            flags: bytes[1],
            tensor_count: u16::from_le_bytes([bytes[2], bytes[3]]),
            instance: word(4),
            call: long(8),
            item: word(16),
            sequence: word(20),
            deadline: long(24),
            segment: word(32),
            generation: word(36),
            offset: word(40),
            metadata_length: word(44),
            tensor_offset: word(48),
            tensor_length: word(52),
            rows: word(56),
            datatype: bytes[60],
        };
        descriptor.check(&bytes[61..])?;
        Ok(descriptor)
    }

    fn check(&self, reserved: &[u8]) -> Result<(), BadFrame> {
        if self.flags & !ALL_FLAGS != 0 || reserved.iter().any(|byte| *byte != 0) {
            return bad(format!("unknown flags {:#x} or reserved bytes that are not zero", self.flags));
        }
        let limit = if self.kind == Kind::End { MAX_END_METADATA_BYTES } else { MAX_METADATA_BYTES };
        if self.metadata_length > limit {
            return bad(format!("metadata of {} bytes, at most {limit}", self.metadata_length));
        }
        if usize::from(self.tensor_count) > MAX_TENSORS {
            return bad(format!("{} tensors, at most {MAX_TENSORS}", self.tensor_count));
        }
        if self.has(FLAG_TENSOR) {
            if self.tensor_count != 1 || u64::from(self.tensor_length) > MAX_TENSOR_BYTES {
                return bad("a tensor in the descriptor must be the only one and at most 2 GiB");
            }
            if Datatype::from_number(u32::from(self.datatype)).is_none() {
                return bad(format!("datatype {} is unknown", self.datatype));
            }
        }
        Ok(())
    }
}

/// A checked reference to the bytes of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Where: `None` behind the metadata on the socket, else (segment, generation, offset).
    pub place: Option<(u32, u32, u64)>,
    /// Bytes.
    pub length: u64,
    /// Element type.
    pub datatype: Datatype,
    /// The whole shape.
    pub shape: Vec<u64>,
}

impl Reference {
    /// Check a reference that may come from anybody: rank, dims, overflow, and length against shape.
    pub fn check(tensor: &TensorRef) -> Result<Self, BadFrame> {
        let place = match tensor_ref::Kind::try_from(tensor.kind) {
            Ok(tensor_ref::Kind::Inline) => None,
            Ok(tensor_ref::Kind::Shm) => Some((tensor.segment, tensor.generation, tensor.offset)),
            _ => return bad(format!("tensor reference of kind {} cannot be read here", tensor.kind)),
        };
        let Some(datatype) = Datatype::from_number(tensor.datatype) else {
            return bad(format!("datatype {} is unknown", tensor.datatype));
        };
        if tensor.dims.len() > MAX_RANK || tensor.length > MAX_TENSOR_BYTES {
            return bad(format!("rank {} or {} bytes is too large", tensor.dims.len(), tensor.length));
        }
        let Ok(shape) = tensor.dims.iter().map(|dim| u64::try_from(*dim)).collect::<Result<Vec<_>, _>>() else {
            return bad(format!("negative length in shape {:?}", tensor.dims));
        };
        let Some(count) = elements(&shape) else { return bad(format!("shape {shape:?} overflows")) };
        let wanted = byte_size(datatype, &shape);
        let fits = match datatype.size() {
            Some(_) => wanted == Some(tensor.length),
            // Each BYTES element has at least its length prefix.
            None => count.checked_mul(4).is_some_and(|least| least <= tensor.length),
        };
        if !fits {
            return bad(format!("{} bytes do not hold {} {shape:?}", tensor.length, datatype.name()));
        }
        Ok(Self { place, length: tensor.length, datatype, shape })
    }

    /// Check the content where its length depends on it: BYTES elements must fill the tensor exactly.
    pub fn check_content(&self, data: &[u8]) -> Result<(), BadFrame> {
        if self.datatype == Datatype::Bytes && count_bytes_elements(data) != elements(&self.shape) {
            return bad(format!("BYTES {:?}: the element lengths do not fill the tensor", self.shape));
        }
        Ok(())
    }
}

/// `tensor` as a message that points into a segment.
#[must_use]
pub fn shm_reference(place: (u32, u32, u64), length: u64, datatype: Datatype, shape: &[u64]) -> TensorRef {
    TensorRef {
        kind: tensor_ref::Kind::Shm as i32,
        device: 0,
        segment: place.0,
        generation: place.1,
        offset: place.2,
        length,
        datatype: datatype as u32,
        dims: shape.iter().map(|dim| *dim as i64).collect(),
    }
}

/// `tensor` as a message whose bytes follow on the socket.
#[must_use]
pub fn inline_reference(length: u64, datatype: Datatype, shape: &[u64]) -> TensorRef {
    TensorRef { kind: tensor_ref::Kind::Inline as i32, ..shm_reference((0, 0, 0), length, datatype, shape) }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
