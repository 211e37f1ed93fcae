//! A worker's end against an engine of another make: wrong frames are refused, never followed.

use std::io::Write;

use prost::Message;
use samovar_core::channel::frame::{Descriptor, FLAG_TENSOR, Kind, shm_reference};
use samovar_core::channel::proto;
use samovar_core::channel::socket;
use samovar_core::channel::worker::{Incoming, WorkerEnd};
use samovar_core::config::TransportKind;
use samovar_core::tensor::Datatype;

use crate::harness::*;
use crate::raw::{PUSHED, RawEngine};

/// A worker whose engine has granted one request segment that begins with `content`.
fn worker(content: &[u8]) -> (RawEngine, Worker) {
    let (engine, socket) = RawEngine::new(TransportKind::Shm);
    let worker = Worker::connect(socket);
    engine.grant(1, false, content);
    let load = r#"{"inputs": [{"name": "x", "datatype": "FP32", "dims": []}], "outputs": [], "batch_axis": true}"#;
    engine.send(Kind::Ask, 1, &proto::Ask { verb: "load".into(), body: load.into() });
    assert_eq!(worker.next_ask().1, "load");
    (engine, worker)
}

fn call(change: impl FnOnce(&mut Descriptor)) -> Descriptor {
    let mut descriptor = Descriptor::new(Kind::Call, 1);
    (descriptor.segment, descriptor.generation) = (1, 1);
    change(&mut descriptor);
    descriptor
}

#[test]
fn calls_that_point_anywhere_else_are_refused() {
    let place = (1, 1, 4 << 20);
    let tensors = vec![shm_reference(place, 4, Datatype::Fp32, &[1])];
    let outside = proto::Call { tensors, ..proto::Call::default() }.encode_to_vec();
    let length = outside.len() as u32;
    let cases = [
        call(|d| d.metadata_length = length),
        call(|d| (d.offset, d.metadata_length) = (u32::MAX, 1)),
        call(|d| (d.offset, d.metadata_length) = (65_535, 65)),
        call(|d| (d.flags, d.tensor_count, d.rows, d.tensor_length, d.datatype) = (FLAG_TENSOR, 1, 1, 5, 11)),
        call(|d| (d.flags, d.tensor_count, d.rows, d.tensor_length, d.datatype) = (FLAG_TENSOR, 1, 2, 4, 11)),
        call(|d| {
            (d.flags, d.tensor_count, d.rows, d.tensor_length, d.datatype) = (FLAG_TENSOR, 1, 1, 4, 11);
            d.tensor_offset = 65_536;
        }),
        Descriptor::new(Kind::Hello, 1),
        Descriptor::new(Kind::Ask, 1),
    ];
    for descriptor in cases {
        let (engine, worker) = worker(&outside);
        engine.page.as_ref().unwrap().push(&descriptor.encode(), 1);
        assert!(worker.end.take().is_err(), "{descriptor:?}");
    }
}

#[test]
fn counters_and_entries_that_cannot_be_are_refused() {
    for (at, value) in [(PUSHED, 257), (PUSHED, u32::MAX)] {
        let (engine, worker) = worker(b"");
        engine.page.as_ref().unwrap().set(at, value);
        assert!(worker.end.take().is_err());
    }
    let (engine, worker) = worker(b"");
    let page = engine.page.as_ref().unwrap();
    page.push(&Descriptor::new(Kind::Call, 1).encode(), 1);
    page.set(crate::raw::ENTRIES, 256);
    assert!(worker.end.take().is_err());
}

#[test]
fn a_call_taken_back_in_the_ring_never_begins() {
    let (engine, worker) = worker(b"");
    let page = engine.page.as_ref().unwrap();
    let mut descriptor = call(|_| {});
    page.push(&descriptor.encode(), 3);
    descriptor.call = 2;
    page.push(&descriptor.encode(), 1);
    let Some(Incoming::Call(taken)) = worker.next() else { panic!("one call is left") };
    assert_eq!((taken.call, page.get(crate::raw::STATES), page.get(crate::raw::STATES + 4)), (2, 3, 2));
}

#[test]
fn a_connection_that_does_not_begin_with_hello_is_refused() {
    for bytes in [vec![0; 64], Descriptor::new(Kind::Ask, 0).encode().to_vec(), Vec::new()] {
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.write_all(&bytes).unwrap();
        drop(ours);
        assert!(WorkerEnd::connect(theirs.into(), || ()).is_err());
    }
}

#[test]
fn garbage_on_the_socket_ends_the_connection() {
    for kind in [TransportKind::Shm, TransportKind::Inline] {
        for bytes in [vec![0xff; 64], Descriptor::new(Kind::Tell, 1).encode().to_vec()] {
            let (mut engine, theirs) = RawEngine::new(kind);
            let worker = Worker::connect(theirs);
            engine.socket.write_all(&bytes).unwrap();
            assert!(worker.next().is_none() && worker.is_engine_gone());
        }
    }
}

#[test]
fn memory_is_granted_when_asked_for_or_refused_in_so_many_words() {
    let (engine, worker) = worker(b"");
    let page = engine.page.as_ref().unwrap();
    let answer = |call: u64, granted: Option<u32>| {
        page.push(&Descriptor { call, ..call_of_nothing() }.encode(), 1);
        let frame = worker.next_call();
        let asking = worker.clone();
        let finishing = std::thread::spawn(move || {
            let output =
                samovar_core::channel::worker::Output { datatype: Datatype::Uint8, shape: vec![3], data: b"abc" };
            asking.end.finish(frame, &[output]);
        });
        let wish = receive(&engine, Kind::Segment);
        assert!(proto::Segment::decode(wish.1.as_slice()).unwrap().size >= 3);
        match granted {
            Some(segment) => drop(engine.grant(segment, true, b"")),
            None => engine.send(Kind::Segment, 0, &proto::Segment { segment: 0, size: 0, writable: true }),
        }
        finishing.join().unwrap();
    };
    answer(1, None);
    let (descriptor, metadata) = receive(&engine, Kind::End);
    let failure = proto::End::decode(metadata.as_slice()).unwrap().failure.unwrap();
    assert_eq!((descriptor.call, failure.kind()), (1, proto::failure::Kind::Output));
    answer(2, Some(9));
    assert_eq!(Descriptor::decode(&page.pushed_by_peer(0)).unwrap().segment, 9);
}

fn call_of_nothing() -> Descriptor {
    call(|_| {})
}

/// The next frame of this kind on the socket.
fn receive(engine: &RawEngine, kind: Kind) -> (Descriptor, Vec<u8>) {
    loop {
        let (descriptor, metadata, _) = socket::receive(&engine.socket).unwrap();
        if descriptor.kind == kind {
            return (descriptor, metadata);
        }
    }
}
