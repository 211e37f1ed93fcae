//! What must hold of the frames for any bytes; `make fuzz` looks for bytes of which it does not.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use bytes::Bytes;

use super::engine::{EndFrame, Link, OWN, Sink, StepFrame};
use super::frame::{BadFrame, DESCRIPTOR_BYTES, Descriptor, Kind, MAX_METADATA_BYTES, MAX_TENSORS, Reference};
use super::transport::{Gather, Message, OutCall, Signature};
use super::{proto, transport};
use crate::clock::NEVER;
use crate::config::TransportKind;
use crate::request::Piece;
use crate::tensor::{
    Datatype, MAX_RANK, MAX_TENSOR_BYTES, Tensor, TensorSpec, byte_size, count_bytes_elements, elements,
};

/// Calls that are open when the hostile worker begins to speak; more than a ring has slots would wait.
const OPEN_CALLS: u64 = 2;

/// The first byte picks the transport; the rest is a frame, and all that a worker says on its socket.
pub fn frame(input: &[u8]) {
    let Some((transport, said)) = input.split_first() else { return };
    if let Some((fixed, metadata)) = said.split_first_chunk() {
        check_descriptor(fixed);
        check_metadata(metadata);
    }
    let kind = if transport % 2 == 0 { TransportKind::Inline } else { TransportKind::Shm };
    check_engine(kind, said);
}

/// A descriptor that is accepted is within the limits and is these bytes exactly.
fn check_descriptor(fixed: &[u8; DESCRIPTOR_BYTES]) {
    let Ok(descriptor) = Descriptor::decode(fixed) else { return };
    assert_eq!(&descriptor.encode(), fixed);
    assert!(descriptor.metadata_length <= MAX_METADATA_BYTES);
    assert!(usize::from(descriptor.tensor_count) <= MAX_TENSORS);
}

/// References in any message are refused or can be used.
fn check_metadata(bytes: &[u8]) {
    let references = |tensors: &[proto::TensorRef]| {
        for reference in tensors.iter().filter_map(|tensor| Reference::check(tensor).ok()) {
            assert!(reference.shape.len() <= MAX_RANK && reference.length <= MAX_TENSOR_BYTES);
            if reference.datatype != Datatype::Bytes {
                assert_eq!(byte_size(reference.datatype, &reference.shape), Some(reference.length));
            }
            if reference.check_content(bytes).is_ok() && reference.datatype == Datatype::Bytes {
                assert_eq!(count_bytes_elements(bytes), elements(&reference.shape));
            }
        }
    };
    for kind in [Kind::Call, Kind::Part, Kind::End] {
        if let Ok(message) = Message::decode(kind, bytes)
            && transport::check_size(&message).is_ok()
        {
            references(message.tensors());
        }
    }
}

/// An engine with open calls hears `said`, and then the end: it refuses, or what it takes is whole.
fn check_engine(kind: TransportKind, said: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
    let (link, inbound) = Link::new(ours, kind).expect("a link");
    link.attach(OWN, Arc::new(Whole), signature());
    for call in 1..=OPEN_CALLS {
        link.call(one_row(call)).expect("the ring has room");
    }
    theirs.write_all(said).expect("libFuzzer's inputs fit into the socket's buffer");
    theirs.shutdown(Shutdown::Write).expect("an open socket");
    let _ = runtime.block_on(link.run(inbound, std::future::pending()));
}

fn signature() -> Signature {
    let tensor = |name: &str| TensorSpec { name: name.into(), datatype: Some(Datatype::Fp32), dims: Some(vec![2]) };
    Signature { inputs: vec![tensor("x")], outputs: vec![tensor("y")], batch_axis: true }
}

fn one_row(call: u64) -> OutCall {
    let input = Gather { datatype: Datatype::Fp32, shape: vec![1, 2], pieces: vec![Bytes::from_static(&[0; 8])] };
    OutCall {
        call,
        instance: 0,
        deadline: NEVER,
        rows: 1,
        items: vec![proto::Item { rows: 1, ..proto::Item::default() }],
        inputs: vec![input],
        is_fast: true,
        method: String::new(),
        http: None,
        is_open: false,
    }
}

/// Checks that outputs hold what their shapes say.
#[derive(Debug)]
struct Whole;

impl Whole {
    fn check(tensors: &[Tensor]) -> Result<(), BadFrame> {
        for Tensor { datatype, shape, data } in tensors {
            match datatype {
                Datatype::Bytes => assert_eq!(count_bytes_elements(data), elements(shape)),
                _ => assert_eq!(byte_size(*datatype, shape), Some(data.len() as u64)),
            }
        }
        Ok(())
    }
}

impl Sink for Whole {
    fn holds(&self, call: u64) -> bool {
        (1..=OPEN_CALLS).contains(&call)
    }

    fn part(&self, _call: u64, piece: Piece) -> Result<(), BadFrame> {
        Self::check(&piece.tensors)
    }

    fn ended(&self, end: EndFrame) -> Result<(), BadFrame> {
        Self::check(&end.result.unwrap_or_default().tensors)
    }

    fn credited(&self, _call: u64, _pieces: u32) -> Result<(), BadFrame> {
        Ok(())
    }

    fn called(&self, step: StepFrame) -> Result<(), BadFrame> {
        assert_eq!(step.target.names.len(), step.inputs.len());
        Self::check(&step.inputs)
    }

    fn dropped(&self, _step: u64) {}

    fn abandoned(&self, _call: u64) {}

    fn closed(&self) {}
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn what_fuzzing_kept_still_holds() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/frame");
        let kept: Vec<_> = fs::read_dir(corpus).unwrap().collect();
        assert!(kept.len() > 10);
        for entry in kept {
            super::frame(&fs::read(entry.unwrap().path()).unwrap());
        }
    }
}
