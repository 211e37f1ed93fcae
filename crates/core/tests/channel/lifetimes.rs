//! Who may use which bytes, and until when.

use samovar_core::channel::proto::{self, failure};
use samovar_core::channel::worker::Incoming;
use samovar_core::config::TransportKind;

use crate::harness::*;

on_both_transports!(
    a_kept_input_keeps_its_bytes_while_later_calls_run,
    a_failed_call_may_keep_its_input_for_a_moment,
    an_answer_outlives_its_link,
);

async fn a_kept_input_keeps_its_bytes_while_later_calls_run(kind: TransportKind) {
    let (mut engine, worker) = pair(kind, byte_signature()).await;
    let mut kept = Vec::new();
    for call in 0..500_u64 {
        let length = 1_000 + call as usize % 3_000;
        engine.link.call(bytes_call(call, pattern(call, length))).unwrap();
        let frame = worker.next_call();
        if call.is_multiple_of(3) {
            kept.push((call, frame.inputs[0].data.clone()));
        }
        worker.echo(frame);
        assert!(engine.outputs_of(call).await[0].data == pattern(call, length));
        if kept.len() > 20 {
            let (call, data) = kept.swap_remove(call as usize % 20);
            assert!(data == pattern(call, data.len()), "the input of call {call} has changed");
        }
    }
    assert_eq!(engine.link.request_bytes() > 0, kind == TransportKind::Shm);
    for (call, data) in kept {
        assert!(data == pattern(call, data.len()), "the input of call {call} has changed");
    }
    // The engine reads the news of small ranges with the next frame.
    engine.link.call(bytes_call(900, "x")).unwrap();
    worker.echo(worker.next_call());
    engine.outputs_of(900).await;
    assert_eq!(engine.link.request_bytes(), 0);
    engine.close();
}

async fn a_failed_call_may_keep_its_input_for_a_moment(kind: TransportKind) {
    let (mut engine, worker) = pair(kind, byte_signature()).await;
    for call in 0..300_u64 {
        // Both the size whose release is told at once and one whose release waits.
        let length = if call % 2 == 0 { 2 << 20 } else { 100 };
        engine.link.call(bytes_call(call, vec![1; length])).unwrap();
        let frame = worker.next_call();
        let kept = frame.inputs[0].data.clone();
        let failure = proto::Failure { message: "no".into(), ..proto::Failure::default() };
        worker.end.fail(frame, failure);
        drop(kept);
        let failure = engine.end().await.result.unwrap_err();
        assert_eq!((failure.kind(), failure.message.as_str()), (failure::Kind::Exception, "no"));
    }
    engine.link.call(bytes_call(900, vec![1; 2 << 20])).unwrap();
    worker.echo(worker.next_call());
    engine.outputs_of(900).await;
    until_all_is_free(&engine.link).await;
    engine.close();
}

async fn an_answer_outlives_its_link(kind: TransportKind) {
    let (mut engine, worker) = pair(kind, byte_signature()).await;
    engine.link.call(bytes_call(1, pattern(1, 10_000))).unwrap();
    worker.echo(worker.next_call());
    let outputs = engine.outputs_of(1).await;
    engine.close();
    drop(worker);
    assert!(outputs[0].data == pattern(1, 10_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_kept_input_is_given_back_at_once() {
    let (mut engine, worker) = pair(TransportKind::Shm, byte_signature()).await;
    engine.link.call(bytes_call(1, vec![7; 3 << 20])).unwrap();
    let frame = worker.next_call();
    let kept = frame.inputs[0].data.clone();
    worker.echo(frame);
    drop(engine.outputs_of(1).await);
    assert!(engine.link.request_bytes() > 0);
    drop(kept);
    until_all_is_free(&engine.link).await;
    engine.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_keeps_everything_gets_copies_in_the_end() {
    const LENGTH: usize = 33 << 20;
    let (mut engine, worker) = pair(TransportKind::Shm, byte_signature()).await;
    let mut kept = Vec::new();
    let data = bytes::Bytes::from(vec![9; LENGTH]);
    for call in 0..10_u64 {
        engine.link.call(bytes_call(call, data.clone())).unwrap();
        let frame = worker.next_call();
        kept.push(frame.inputs[0].data.clone());
        worker.end.finish(frame, &[]);
        engine.outputs_of(call).await;
    }
    assert!(worker.end.holds_too_much());
    assert!(engine.link.request_bytes() < 9 * LENGTH as u64, "inputs beyond the limit are copies");
    assert!(kept.iter().all(|bytes| bytes == &data));
    drop(kept);
    assert!(!worker.end.holds_too_much());
    until_all_is_free(&engine.link).await;
    engine.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn releases_and_ends_may_take_different_ways() {
    // More ENDs and RELEASEs than the ring holds: while the engine is held up, the rest goes through the socket.
    let (mut engine, worker) = pair(TransportKind::Shm, byte_signature()).await;
    for round in 0..5_u64 {
        let numbers: Vec<_> = (0..400).map(|index| round * 400 + index).collect();
        for call in &numbers {
            engine.link.call(bytes_call(*call, pattern(*call, 50))).unwrap();
        }
        let mut frames = Vec::new();
        while frames.len() < numbers.len() {
            let Some(Incoming::Call(call)) = worker.next() else { panic!("the engine sends calls only") };
            frames.push(call);
        }
        for frame in frames {
            let kept = frame.inputs[0].data.clone();
            worker.echo(frame);
            drop(kept);
        }
        for _ in &numbers {
            assert!(engine.end().await.result.is_ok());
        }
    }
    engine.link.call(bytes_call(9_000, vec![1; 2 << 20])).unwrap();
    worker.echo(worker.next_call());
    engine.outputs_of(9_000).await;
    until_all_is_free(&engine.link).await;
    engine.close();
}
