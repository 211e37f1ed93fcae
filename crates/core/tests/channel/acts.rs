//! What a hostile worker may do, made up by proptest: some of it nearly right.

use std::io::Write;
use std::os::unix::net::UnixStream;

use proptest::prelude::*;
use prost::Message;
use samovar_core::channel::frame::{Descriptor, Kind, STEP};
use samovar_core::channel::proto;

use crate::raw::{CONTROL, RawWorker};

/// What a hostile worker does.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Bytes that need not be a frame.
    Bytes(Vec<u8>),
    /// A frame on the socket.
    Frame(Descriptor, Vec<u8>),
    /// A descriptor in the ring.
    Push(Descriptor),
    /// Any 64 bytes in the ring.
    PushBytes(Vec<u8>),
    /// Any word of the control page.
    Word(u64, u32),
    /// Metadata in an answer segment: which segment, where, what.
    Fill(u32, u32, Vec<u8>),
    /// An END, PART or CALL in the ring whose metadata is as it should be, but for the references in it.
    Answer(Descriptor, Vec<proto::TensorRef>),
    /// Wake the engine.
    Wake,
}

fn datatype() -> impl Strategy<Value = u32> {
    prop_oneof![Just(2_u32), Just(11), Just(13), 0..20_u32]
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![0..70_u64, Just(4_194_304), Just(4_194_305), Just(1 << 31), Just(u64::MAX), any::<u64>()]
}

fn reference() -> impl Strategy<Value = proto::TensorRef> {
    let dims = prop::collection::vec(prop_oneof![0..9_i64, -2..70_000_i64, any::<i64>()], 0..18);
    ((0..5_i32, 0..4_u32, 0..4_u32), (length(), length()), datatype(), dims).prop_map(
        |((kind, segment, generation), (offset, length), datatype, dims)| proto::TensorRef {
            kind,
            device: 0,
            segment,
            generation,
            offset,
            length,
            datatype,
            dims,
        },
    )
}

/// References that are right but for their place, and sometimes right.
fn plausible() -> impl Strategy<Value = proto::TensorRef> {
    let place = (prop_oneof![9 => Just(1), 1 => 0..4_i32], Just(1), prop_oneof![9 => Just(1), 1 => 0..3_u32]);
    let bytes = prop_oneof![3 => 0..70_u64, 1 => length()];
    (place, bytes, 0..200_i64, prop_oneof![Just(11_u32), Just(13)]).prop_map(
        |((kind, segment, generation), offset, rows, datatype)| {
            let (length, dims) = (rows as u64 * 4, vec![rows]);
            proto::TensorRef { kind, device: 0, segment, generation, offset, length, datatype, dims }
        },
    )
}

fn metadata() -> impl Strategy<Value = Vec<u8>> {
    let failure = prop::option::of((0..4_i32, ".{0,9}"));
    let end =
        (failure, prop::collection::vec(prop_oneof![reference(), plausible()], 0..4)).prop_map(|(failure, tensors)| {
            let failure = failure.map(|(kind, message)| proto::Failure { kind, message, ..proto::Failure::default() });
            proto::End { failure, tensors, ..proto::End::default() }.encode_to_vec()
        });
    let tensors = || prop::collection::vec(prop_oneof![reference(), plausible()], 0..4);
    let part = (tensors(), prop::option::of(0..70_000_u32)).prop_map(|(tensors, status)| {
        let http = status.map(|status| proto::HttpResponse { status, headers: Vec::new() });
        proto::Part { tensors, http, names: Vec::new() }.encode_to_vec()
    });
    let call = (tensors(), prop::option::of(target()))
        .prop_map(|(tensors, target)| proto::Call { tensors, target, ..proto::Call::default() }.encode_to_vec());
    let segment = (0..6_u32, length(), any::<bool>())
        .prop_map(|(segment, size, writable)| proto::Segment { segment, size, writable }.encode_to_vec());
    let hello = (0..3_u32).prop_map(|version| proto::Hello { version, ..proto::Hello::default() }.encode_to_vec());
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![Just(Vec::new()), end, part, call, segment, hello, noise]
}

/// A call of any model.
fn target() -> impl Strategy<Value = proto::Target> {
    (".{0,9}", 0..4_usize, 0..4_u64).prop_map(|(model, inputs, parent)| proto::Target {
        model,
        version: String::new(),
        names: vec!["x".into(); inputs],
        parent,
    })
}

/// A call of the engine, or one of the worker's own.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 0..4_u64, 1 => (0..4_u64).prop_map(|number| STEP | number), 1 => Just(u64::MAX)]
}

/// A number within a stream, or the number of its pieces.
fn sequence() -> impl Strategy<Value = u32> {
    prop_oneof![6 => Just(0), 6 => 0..6_u32, 1 => Just(u32::MAX), 1 => any::<u32>()]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        10 => Just(Kind::End),
        10 => Just(Kind::Part),
        2 => Just(Kind::Credit),
        2 => Just(Kind::Cancel),
        2 => Just(Kind::Call),
        2 => Just(Kind::Segment),
        1 => (0..10_usize).prop_map(|kind| Kind::ALL[kind]),
    ]
}

/// Any fields; those of the fast path fit together most of the time.
fn descriptor() -> impl Strategy<Value = Descriptor> {
    let place = (
        prop_oneof![9 => Just(1), 1 => 0..4_u32],
        0..4_u32,
        prop_oneof![8 => 0..3_u32, 1 => Just(65_535), 1 => any::<u32>()],
    );
    let tensor = (prop_oneof![8 => 0..3_u32, 1 => Just(65_536), 1 => any::<u32>()], any::<u32>(), 0..20_u8);
    let counts = (0..4_u16, 0..30_u32, prop::bool::weighted(0.9));
    (kind(), 0..16_u8, (number(), sequence()), counts, place, tensor, any::<u64>()).prop_map(
        |(kind, flags, (call, sequence), (tensor_count, rows, fits), place, tensor, deadline)| Descriptor {
            flags: if fits && flags & 1 != 0 { flags & 3 } else { flags },
            sequence: if fits && kind == Kind::End { 0 } else { sequence },
            tensor_count: if fits && flags & 1 != 0 { 1 } else { tensor_count },
            rows,
            deadline,
            segment: place.0,
            generation: place.1,
            offset: place.2,
            metadata_length: if (fits && flags & 1 != 0) || rows % 3 > 0 { 0 } else { rows },
            tensor_offset: tensor.0,
            tensor_length: if fits { rows * 4 } else { tensor.1 },
            datatype: if fits { 11 } else { tensor.2 },
            ..Descriptor::new(kind, call)
        },
    )
}

fn answer() -> impl Strategy<Value = Act> {
    let tensors = prop::collection::vec(prop_oneof![9 => plausible(), 1 => reference()], 0..3);
    let kind = prop_oneof![3 => Just(Kind::End), 3 => Just(Kind::Part), 1 => Just(Kind::Call)];
    let place = (prop_oneof![9 => Just(1), 1 => 0..4_u32], 0..3_u32);
    ((kind, number(), sequence()), place, tensors, prop::bool::weighted(0.9)).prop_map(
        |((kind, call, sequence), (segment, offset), mut tensors, is_count_right)| {
            tensors.iter_mut().filter(|tensor| tensor.segment != 0).for_each(|tensor| tensor.segment = segment);
            let tensor_count = tensors.len() as u16 + u16::from(!is_count_right);
            let call = if kind == Kind::Call { call | STEP } else { call };
            let frame =
                Descriptor { sequence, segment, offset, generation: 1, tensor_count, ..Descriptor::new(kind, call) };
            Act::Answer(frame, tensors)
        },
    )
}

/// What a descriptor says alone, of a stream or a step; most of it is right.
fn bare() -> impl Strategy<Value = Descriptor> {
    let kind =
        prop_oneof![4 => Just(Kind::Part), 2 => Just(Kind::End), 1 => Just(Kind::Credit), 1 => Just(Kind::Cancel)];
    (kind, number(), sequence(), 0..3_u32).prop_map(|(kind, call, sequence, rows)| {
        let call = if kind == Kind::Cancel { call | STEP } else { call };
        Descriptor { sequence, rows, ..Descriptor::new(kind, call) }
    })
}

pub(crate) fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Act::Bytes),
        4 => (descriptor(), metadata()).prop_map(|(descriptor, metadata)| {
            Act::Frame(Descriptor { metadata_length: metadata.len() as u32, ..descriptor }, metadata)
        }),
        8 => descriptor().prop_map(Act::Push),
        8 => bare().prop_map(Act::Push),
        4 => bare().prop_map(|descriptor| Act::Frame(descriptor, Vec::new())),
        8 => answer(),
        1 => prop::collection::vec(any::<u8>(), 64).prop_map(Act::PushBytes),
        1 => (0..CONTROL / 4, prop_oneof![0..300_u32, any::<u32>()]).prop_map(|(word, value)| Act::Word(word * 4, value)),
        4 => (0..3_u32, 0..3_u32, metadata()).prop_map(|(segment, place, metadata)| Act::Fill(segment, place, metadata)),
        1 => Just(Act::Wake),
    ]
}

pub(crate) fn perform(worker: &RawWorker, act: &Act) {
    let mut socket: &UnixStream = &worker.socket;
    match (act, &worker.page) {
        (Act::Bytes(bytes), _) => drop(socket.write_all(bytes)),
        (Act::Frame(descriptor, metadata), _) => {
            let _ = socket.write_all(&[&descriptor.encode()[..], metadata].concat());
        }
        (Act::Push(descriptor), Some(page)) => page.push(&descriptor.encode(), 0),
        (Act::PushBytes(bytes), Some(page)) => page.push(bytes.as_slice().try_into().unwrap(), 0),
        (Act::Word(at, value), Some(page)) => page.set(*at, *value),
        (Act::Fill(segment, place, bytes), _) => {
            let _ = worker.segments.get(segment).is_some_and(|mapping| mapping.write(u64::from(*place) * 64, bytes));
        }
        (Act::Answer(descriptor, tensors), Some(page)) => {
            let metadata = right_metadata(descriptor.kind, tensors.clone());
            let place = u64::from(descriptor.offset) * 64;
            let _ = worker.segments.get(&descriptor.segment).is_some_and(|mapping| mapping.write(place, &metadata));
            page.push(&Descriptor { metadata_length: metadata.len() as u32, ..*descriptor }.encode(), 0);
        }
        (Act::Wake, Some(page)) => page.wake_peer(),
        _ => {}
    }
}

/// The message that a frame of this kind carries.
fn right_metadata(kind: Kind, tensors: Vec<proto::TensorRef>) -> Vec<u8> {
    match kind {
        Kind::Call => {
            let target = proto::Target { names: vec!["x".into(); tensors.len()], ..proto::Target::default() };
            proto::Call { tensors, target: Some(target), ..proto::Call::default() }.encode_to_vec()
        }
        Kind::Part => proto::Part { tensors, ..proto::Part::default() }.encode_to_vec(),
        _ => proto::End { tensors, ..proto::End::default() }.encode_to_vec(),
    }
}
