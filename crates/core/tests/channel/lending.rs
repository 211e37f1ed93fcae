//! Large tensors that one worker wrote reach another one where they are.

use std::sync::Arc;

use prost::Message;
use samovar_core::channel::engine::OutPiece;
use samovar_core::channel::frame::{Descriptor, FLAG_RELEASED, Kind, shm_reference};
use samovar_core::channel::segments::open;
use samovar_core::channel::transport::Gather;
use samovar_core::channel::worker::{Output, StepNews};
use samovar_core::channel::{proto, socket};
use samovar_core::config::TransportKind;
use samovar_core::tensor::{Datatype, Tensor};

use crate::harness::*;
use crate::raw::RawWorker;
use crate::steps::{begin, called};

const LARGE: usize = 1 << 20;
/// Metadata of one call.
const LITTLE: u64 = 1_000;

async fn shm() -> (Engine, Worker) {
    pair(TransportKind::Shm, byte_signature()).await
}

/// What the worker answers to a call, as it lies in its memory.
async fn written(engine: &mut Engine, worker: &Worker, data: &[u8]) -> Tensor {
    engine.link.call(bytes_call(1, "write")).unwrap();
    worker.end.finish(worker.next_call(), &[output(data)]);
    engine.outputs_of(1).await.remove(0)
}

fn passed_on(tensor: &Tensor) -> Gather {
    gather(tensor.datatype, &tensor.shape, tensor.data.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_tensor_reaches_another_worker_without_a_copy() {
    let (mut first, writer) = shm().await;
    let (mut second, reader) = shm().await;
    for call in 0..50_u64 {
        let tensor = written(&mut first, &writer, &pattern(call, LARGE)).await;
        second.link.call(out_call(call, &byte_signature(), vec![passed_on(&tensor)])).unwrap();
        drop(tensor);
        assert!(second.link.request_bytes() < LITTLE);
        let frame = reader.next_call();
        assert!(frame.inputs[0].shape == [1, LARGE as u64] && frame.inputs[0].data == pattern(call, LARGE));
        reader.echo(frame);
        assert!(second.outputs_of(call).await[0].data == pattern(call, LARGE));
    }
    until_answers_are_free(&first.link, &writer).await;
    assert_eq!(second.link.request_bytes(), 0);
    first.close();
    second.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_workers_see_the_same_bytes() {
    let (mut first, socket) = Engine::new(TransportKind::Shm, byte_signature());
    let connecting = || {
        let mut writer = RawWorker::connect(socket);
        writer.receive_memory();
        writer
    };
    let writer = tokio::task::spawn_blocking(connecting).await.unwrap();
    let (segment, mapping) = writer.segments.iter().find(|(_, mapping)| mapping.write(64, &[1; LARGE])).unwrap();
    let tensors = vec![shm_reference((*segment, 1, 64), LARGE as u64, Datatype::Uint8, &[1, LARGE as u64])];
    let metadata = proto::End { tensors, ..proto::End::default() }.encode_to_vec();
    assert!(mapping.write(0, &metadata));
    let end = Descriptor { segment: *segment, generation: 1, tensor_count: 1, ..Descriptor::new(Kind::End, 1) };
    writer.say(&Descriptor { metadata_length: metadata.len() as u32, ..end });
    let tensor = first.outputs_of(1).await.remove(0);

    let (second, reader) = shm().await;
    second.link.call(out_call(1, &byte_signature(), vec![passed_on(&tensor)])).unwrap();
    let frame = reader.next_call();
    assert_eq!(frame.inputs[0].data[77], 1);
    assert!(mapping.write(64 + 77, &[2]));
    assert_eq!(frame.inputs[0].data[77], 2);
    first.close();
    second.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lent_goes_back_when_the_last_reader_has_let_go() {
    let (mut first, writer) = shm().await;
    let (mut second, reader) = shm().await;
    let tensor = written(&mut first, &writer, &pattern(3, LARGE)).await;
    second.link.call(out_call(2, &byte_signature(), vec![passed_on(&tensor)])).unwrap();
    drop(tensor);
    let frame = reader.next_call();
    let kept = frame.inputs[0].data.clone();
    reader.end.finish(frame, &[]);
    second.outputs_of(2).await;
    read_all(&first.link, &writer).await;
    assert!(writer.end.answer_bytes() >= LARGE as u64 && kept == pattern(3, LARGE));
    // It is large, so the engine is told at once, though the reader's own range is small.
    drop(kept);
    until_answers_are_free(&first.link, &writer).await;
    assert_eq!(second.link.request_bytes(), 0);
    first.close();
    second.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inputs_and_answers_of_steps_are_lent() {
    let (mut callee, model) = shm().await;
    let (mut caller, service) = relayed(TransportKind::Shm, byte_signature()).await;
    let sent = service.clone();
    let step = tokio::task::spawn_blocking(move || begin(&sent, &pattern(1, LARGE))).await.unwrap();
    let mut frame = called(&mut caller).await;
    callee.link.call(out_call(1, &byte_signature(), vec![passed_on(&frame.inputs.remove(0))])).unwrap();
    assert!(callee.link.request_bytes() < LITTLE);
    model.echo(model.next_call());
    let tensor = callee.outputs_of(1).await.remove(0);
    let tensors = vec![passed_on(&tensor)];
    caller.link.finish(OutPiece { call: frame.number, sequence: 0, names: &["y".into()], tensors: &tensors }).unwrap();
    drop((tensor, tensors));
    assert!(caller.link.request_bytes() < LITTLE);
    let StepNews::End(Ok(outputs)) = step.wait() else { panic!("it ends well") };
    assert!(outputs[0].1.data == pattern(1, LARGE));
    until_answers_are_free(&caller.link, &service).await;
    assert!(model.end.answer_bytes() >= LARGE as u64);
    drop(outputs);
    until_answers_are_free(&callee.link, &model).await;
    until_all_is_free(&caller.link).await;
    caller.close();
    callee.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_small_or_lies_askew_is_copied() {
    let (mut first, writer) = shm().await;
    let (mut second, reader) = shm().await;
    let small = written(&mut first, &writer, &pattern(1, (64 << 10) - 1)).await;
    let large = written(&mut first, &writer, &pattern(2, LARGE)).await;
    let askew = large.data.slice(1..);
    let heap = bytes::Bytes::from(pattern(3, LARGE));
    let joined = vec![large.data.slice(..LARGE / 2), large.data.slice(LARGE / 2..)];
    for pieces in [vec![small.data.clone()], vec![askew], vec![heap], joined] {
        let length: usize = pieces.iter().map(bytes::Bytes::len).sum();
        let input = Gather { datatype: Datatype::Uint8, shape: vec![1, length as u64], pieces: pieces.clone() };
        second.link.call(out_call(5, &byte_signature(), vec![input])).unwrap();
        assert!(second.link.request_bytes() >= length as u64);
        let frame = reader.next_call();
        assert!(frame.inputs[0].data == pieces.concat());
        reader.end.finish(frame, &[]);
        second.outputs_of(5).await;
    }
    first.close();
    second.close();
}

/// The engine checks the lengths inside of them in a copy of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_are_copied() {
    let signature = echoing(&[(Datatype::Bytes, &[1])]);
    let (mut first, writer) = pair(TransportKind::Shm, signature.clone()).await;
    let (second, reader) = pair(TransportKind::Shm, signature.clone()).await;
    let mut text = (LARGE as u32).to_le_bytes().to_vec();
    text.extend(pattern(1, LARGE));
    first.link.call(out_call(1, &signature, vec![gather(Datatype::Bytes, &[1, 1], &b"\0\0\0\0"[..])])).unwrap();
    writer.end.finish(writer.next_call(), &[Output { datatype: Datatype::Bytes, shape: vec![1, 1], data: &text }]);
    let tensor = first.outputs_of(1).await.remove(0);
    second.link.call(out_call(1, &signature, vec![passed_on(&tensor)])).unwrap();
    assert!(second.link.request_bytes() > LARGE as u64 && reader.next_call().inputs[0].data == text);
    until_answers_are_free(&first.link, &writer).await;
    first.close();
    second.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_outlives_the_writer() {
    let (mut first, writer) = shm().await;
    let (mut second, reader) = shm().await;
    let tensor = written(&mut first, &writer, &pattern(9, LARGE)).await;
    second.link.call(out_call(2, &byte_signature(), vec![passed_on(&tensor)])).unwrap();
    let frame = reader.next_call();
    writer.close_socket();
    assert_eq!(first.outcome().await, Ok(()));
    drop((first, writer, tensor));
    assert!(frame.inputs[0].data == pattern(9, LARGE));
    reader.echo(frame);
    assert!(second.outputs_of(2).await[0].data == pattern(9, LARGE));
    second.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_reader_had_goes_back() {
    let (mut first, writer) = shm().await;
    let (mut second, reader) = shm().await;
    let tensor = written(&mut first, &writer, &pattern(9, LARGE)).await;
    second.link.call(out_call(2, &byte_signature(), vec![passed_on(&tensor)])).unwrap();
    second.link.call(out_call(3, &byte_signature(), vec![passed_on(&tensor)])).unwrap();
    assert!(second.link.revoke(3), "its loan goes back with it");
    drop(tensor);
    let _running = reader.next_call();
    reader.close_socket();
    assert_eq!(second.outcome().await, Ok(()));
    read_all(&first.link, &writer).await;
    assert!(writer.end.answer_bytes() >= LARGE as u64, "the engine has not let go of the dead worker yet");
    drop(second);
    until_answers_are_free(&first.link, &writer).await;
    first.close();
}

/// The reader by hand: what it is granted can be read only, and is withdrawn once the writer is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_is_granted_no_writing_and_for_no_longer_than_there_is_a_writer() {
    let (mut first, writer) = shm().await;
    let (second, socket) = Engine::new(TransportKind::Shm, byte_signature());
    let reader = Arc::new(tokio::task::spawn_blocking(|| RawWorker::connect(socket)).await.unwrap());
    let tensor = written(&mut first, &writer, &pattern(9, LARGE)).await;
    second.link.call(out_call(1, &byte_signature(), vec![passed_on(&tensor)])).unwrap();
    let granted = [next_segment(&reader).await, next_segment(&reader).await];
    for (grant, descriptor) in &granted {
        let descriptor = descriptor.as_ref().unwrap();
        assert!(!grant.writable && open(descriptor, true).is_err() && open(descriptor, false).is_ok());
    }
    writer.close_socket();
    assert_eq!(first.outcome().await, Ok(()));
    drop((first, writer, tensor));
    reader.say(&Descriptor { flags: FLAG_RELEASED, ..Descriptor::new(Kind::End, 1) });
    until_all_is_free(&second.link).await;
    second.link.call(bytes_call(2, "nothing of the writer's")).unwrap();
    reader.say(&Descriptor { flags: FLAG_RELEASED, ..Descriptor::new(Kind::End, 2) });
    let (withdrawn, _) = next_segment(&reader).await;
    let lent = granted.iter().find(|(grant, _)| grant.segment == withdrawn.segment).unwrap();
    assert_eq!((withdrawn.size, lent.0.size > LARGE as u64), (0, true));
    second.close();
}

async fn next_segment(reader: &Arc<RawWorker>) -> (proto::Segment, Option<std::os::fd::OwnedFd>) {
    let reader = Arc::clone(reader);
    let receiving = move || {
        let (descriptor, metadata, mut descriptors) = socket::receive(&reader.socket).unwrap();
        assert_eq!(descriptor.kind, Kind::Segment);
        (proto::Segment::decode(metadata.as_slice()).unwrap(), descriptors.pop())
    };
    tokio::task::spawn_blocking(receiving).await.unwrap()
}
