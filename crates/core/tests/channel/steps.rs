//! Calls that a worker makes: what arrives, what comes back, and what is left when nobody waits any more.

use std::sync::Arc;

use samovar_core::channel::engine::{OutPiece, StepFrame};
use samovar_core::channel::frame::{Descriptor, Kind, STEP};
use samovar_core::channel::proto;
use samovar_core::channel::transport::Gather;
use samovar_core::channel::worker::{Output, Step, StepNews};
use samovar_core::config::TransportKind;
use samovar_core::tensor::Datatype;

use crate::harness::*;

on_both_transports!(
    a_step_arrives_with_its_target_and_inputs,
    an_answer_comes_back_in_pieces_and_ends,
    a_failure_comes_back_behind_the_pieces,
    a_worker_lets_more_of_an_answer_come,
    a_step_given_up_before_the_engine_has_seen_it_leaves_nothing,
    a_step_given_up_while_it_runs_leaves_nothing,
    a_step_given_up_after_its_end_is_not_spoken_of,
    an_answer_that_is_kept_keeps_its_bytes,
    steps_are_counted_apart_from_calls,
);

fn target(parent: u64) -> proto::Target {
    proto::Target { model: "other".into(), version: "2".into(), names: vec!["x".into()], parent }
}

/// Call another model with these bytes.
pub(crate) fn begin(worker: &Worker, data: &[u8]) -> Arc<Step> {
    worker.end.begin(target(0), proto::Item::default(), &[output(data)]).expect("memory is granted")
}

/// The step that the engine hears of next.
pub(crate) async fn called(engine: &mut Engine) -> StepFrame {
    match engine.heard().await {
        Heard::Called(step) => step,
        other => panic!("wanted a step, got {other:?}"),
    }
}

pub(crate) fn bytes(data: impl Into<bytes::Bytes>) -> Gather {
    let data = data.into();
    gather(Datatype::Uint8, &[1, data.len() as u64], data)
}

/// Send a piece of a step's answer.
pub(crate) fn answer(engine: &Engine, call: u64, sequence: u32, data: impl Into<bytes::Bytes>) {
    let piece = OutPiece { call, sequence, names: &["y".to_owned()], tensors: &[bytes(data)] };
    engine.link.part(piece, false).unwrap();
}

/// Send the last piece of a step's answer.
pub(crate) fn finish(engine: &Engine, call: u64, sequence: u32, data: impl Into<bytes::Bytes>) {
    engine.link.finish(OutPiece { call, sequence, names: &["y".to_owned()], tensors: &[bytes(data)] }).unwrap();
}

/// What a step's news carries under the name `y`.
fn bytes_of(news: StepNews) -> Vec<u8> {
    match news {
        StepNews::Part(mut outputs) | StepNews::End(Ok(mut outputs)) => {
            let (name, input) = outputs.remove(0);
            assert_eq!(name, "y");
            input.data.to_vec()
        }
        StepNews::End(Err(failure)) => panic!("the step failed: {failure:?}"),
    }
}

/// Neither side holds memory, and the worker has no news of anything that it gave up.
async fn nothing_is_left(engine: &Engine, worker: &Worker) {
    until_answers_are_free(&engine.link, worker).await;
    // The engine reads the news of small ranges with the next frame.
    worker.end.credit(STEP);
    until_all_is_free(&engine.link).await;
}

async fn a_step_arrives_with_its_target_and_inputs(kind: TransportKind) {
    let (mut engine, worker) = relayed(kind, byte_signature()).await;
    let names = ["a", "b", "c"].map(str::to_owned).to_vec();
    let target = proto::Target { names, ..target(77) };
    let text = b"\x02\0\0\0ab";
    let inputs = [
        Output { datatype: Datatype::Fp32, shape: vec![1, 2], data: &[7; 8] },
        Output { datatype: Datatype::Bytes, shape: vec![1], data: text },
        Output { datatype: Datatype::Uint8, shape: vec![0], data: b"" },
    ];
    let step = worker.end.begin(target.clone(), proto::Item::default(), &inputs).unwrap();
    let frame = called(&mut engine).await;
    assert_eq!((frame.number, &frame.target), (step.number, &target));
    let came: Vec<_> = frame.inputs.iter().map(|input| (input.datatype, &*input.shape, input.data.as_ref())).collect();
    let sent: Vec<_> = inputs.iter().map(|input| (input.datatype, &*input.shape, input.data)).collect();
    assert_eq!(came, sent);
    drop(frame);
    nothing_is_left(&engine, &worker).await;
    engine.close();
}

async fn an_answer_comes_back_in_pieces_and_ends(kind: TransportKind) {
    let (mut engine, worker) = relayed(kind, byte_signature()).await;
    let step = begin(&worker, b"abc");
    let number = called(&mut engine).await.number;
    for sequence in 0..4 {
        answer(&engine, number, sequence, pattern(sequence.into(), 70_000));
    }
    finish(&engine, number, 4, "last");
    for sequence in 0..4 {
        let StepNews::Part(outputs) = step.wait() else { panic!("piece {sequence} comes before the end") };
        assert!(outputs[0].1.data == pattern(sequence, 70_000));
    }
    assert_eq!(bytes_of(step.wait()), b"last");
    assert!(step.take().is_none());
    let mut news = Vec::new();
    until(|| {
        news.extend(worker.end.take_news()); // said to an event loop a moment later
        news.len() == 5
    });
    assert_eq!(news, [number; 5]);
    nothing_is_left(&engine, &worker).await;
    engine.close();
}

async fn a_failure_comes_back_behind_the_pieces(kind: TransportKind) {
    let (mut engine, worker) = relayed(kind, byte_signature()).await;
    let step = begin(&worker, b"abc");
    let number = called(&mut engine).await.number;
    answer(&engine, number, 0, "piece");
    let failure = proto::Failure { message: "no more".into(), code: "worker_lost".into(), ..proto::Failure::default() };
    engine.link.fail(number, 1, failure.clone()).unwrap();
    assert_eq!(bytes_of(step.wait()), b"piece");
    let StepNews::End(Err(told)) = step.wait() else { panic!("it failed") };
    assert_eq!(told, failure);
    nothing_is_left(&engine, &worker).await;
    engine.close();
}

async fn a_worker_lets_more_of_an_answer_come(kind: TransportKind) {
    let (mut engine, worker) = relayed(kind, byte_signature()).await;
    let step = begin(&worker, b"abc");
    let number = called(&mut engine).await.number;
    for sequence in 0..20 {
        answer(&engine, number, sequence, pattern(sequence.into(), 100));
        assert!(bytes_of(step.wait()) == pattern(sequence.into(), 100));
        worker.end.credit(number);
        assert!(matches!(engine.heard().await, Heard::Credit(of, 1) if of == number));
    }
    engine.close();
}

async fn a_step_given_up_before_the_engine_has_seen_it_leaves_nothing(kind: TransportKind) {
    let (mut engine, worker) = relayed(kind, byte_signature()).await;
    for round in 0..50 {
        let step = begin(&worker, &pattern(round, 5_000));
        worker.end.drop_step(&step);
        let frame = called(&mut engine).await;
        assert!(frame.inputs[0].data == pattern(round, 5_000));
        assert!(matches!(engine.heard().await, Heard::Dropped(number) if number == step.number));
        worker.end.drop_step(&step);
        let failure = proto::Failure { code: "cancelled".into(), ..proto::Failure::default() };
        engine.link.fail(frame.number, 0, failure).unwrap();
    }
    nothing_is_left(&engine, &worker).await;
    assert!(worker.end.take_news().is_empty());
    engine.close();
}

async fn a_step_given_up_while_it_runs_leaves_nothing(kind: TransportKind) {
    let (mut engine, worker) = relayed(kind, byte_signature()).await;
    for round in 0..50 {
        let step = begin(&worker, b"abc");
        let number = called(&mut engine).await.number;
        answer(&engine, number, 0, pattern(round, 3_000));
        if round % 2 == 0 {
            let _ = step.wait();
        }
        worker.end.drop_step(&step);
        // They are on their way when the engine hears of it.
        answer(&engine, number, 1, pattern(round, 3_000));
        finish(&engine, number, 2, pattern(round, 3_000));
        assert!(matches!(engine.heard().await, Heard::Dropped(of) if of == number));
    }
    nothing_is_left(&engine, &worker).await;
    engine.close();
}

async fn a_step_given_up_after_its_end_is_not_spoken_of(kind: TransportKind) {
    let (mut engine, worker) = relayed(kind, byte_signature()).await;
    let step = begin(&worker, b"abc");
    let number = called(&mut engine).await.number;
    finish(&engine, number, 0, "done");
    until(|| worker.end.take_news() == [number]);
    worker.end.drop_step(&step);
    assert_eq!(bytes_of(step.wait()), b"done", "what has come stays");
    begin(&worker, b"the next thing that is said");
    called(&mut engine).await;
    nothing_is_left(&engine, &worker).await;
    engine.close();
}

async fn an_answer_that_is_kept_keeps_its_bytes(kind: TransportKind) {
    let (mut engine, worker) = relayed(kind, byte_signature()).await;
    let mut kept = Vec::new();
    for round in 0..200_u64 {
        let step = begin(&worker, b"abc");
        let number = called(&mut engine).await.number;
        finish(&engine, number, 0, pattern(round, 4_000));
        let StepNews::End(Ok(outputs)) = step.wait() else { panic!("it ends well") };
        kept.push((round, outputs));
        if kept.len() > 20 {
            let (round, outputs) = kept.swap_remove(round as usize % 20);
            assert!(outputs[0].1.data == pattern(round, 4_000));
        }
    }
    assert_eq!(engine.link.request_bytes() > 0, kind == TransportKind::Shm);
    kept.iter().for_each(|(round, outputs)| assert!(outputs[0].1.data == pattern(*round, 4_000)));
    drop(kept);
    nothing_is_left(&engine, &worker).await;
    engine.close();
}

/// Call 1 of the engine and the first step of the worker are two things.
async fn steps_are_counted_apart_from_calls(kind: TransportKind) {
    let (mut engine, worker) = relayed(kind, byte_signature()).await;
    engine.link.call(bytes_call(1, "call")).unwrap();
    let call = worker.next_call();
    let step = worker.end.begin(target(call.call), proto::Item::default(), &[output(b"step")]).unwrap();
    let frame = called(&mut engine).await;
    assert_eq!((step.number, frame.target.parent), (STEP | 1, 1));
    engine.link.cancel(1);
    finish(&engine, frame.number, 0, "of the step");
    assert_eq!(bytes_of(step.wait()), b"of the step");
    until(|| call.state.is_cancelled());
    worker.echo(call);
    assert_eq!(engine.outputs_of(1).await[0].data.as_ref(), b"call");
    drop(frame);
    nothing_is_left(&engine, &worker).await;
    engine.close();
}

/// Only what is its own can a worker give up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_gives_up_a_call_of_the_engine_is_ended() {
    let (mut engine, socket) = Engine::new(TransportKind::Shm, byte_signature());
    let worker = tokio::task::spawn_blocking(|| crate::raw::RawWorker::connect(socket)).await.unwrap();
    worker.say(&Descriptor::new(Kind::Cancel, 1));
    assert!(engine.outcome().await.unwrap_err().0.contains("from a worker"));
}
