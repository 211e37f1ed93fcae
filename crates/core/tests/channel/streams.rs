//! Answers that come in pieces: their order, their end, and the credit that bounds them.

use std::time::Duration;

use samovar_core::channel::frame::{Descriptor, Kind};
use samovar_core::channel::proto::{self, failure};
use samovar_core::config::TransportKind;

use crate::harness::*;
use crate::raw::RawWorker;

on_both_transports!(
    pieces_come_in_order_and_before_the_end,
    an_end_waits_for_the_pieces_before_it,
    a_piece_beyond_the_credit_is_a_bad_frame,
    what_contradicts_itself_is_a_bad_frame,
    credit_lets_exactly_one_more_go,
    a_failure_keeps_the_pieces_before_it,
    a_cancellation_wakes_a_worker_that_waits_for_credit,
    credit_after_the_end_is_not_sent,
);

/// The next thing that the worker says, which must be a piece of `call`.
async fn piece_of(engine: &mut Engine, call: u64) -> Vec<u8> {
    match engine.heard().await {
        Heard::Part(from, piece) if from == call => piece.tensors[0].data.to_vec(),
        other => panic!("wanted a piece of call {call}, got {other:?}"),
    }
}

/// A worker by hand with one call, and what it says of it.
async fn answering(kind: TransportKind, frames: Vec<Descriptor>) -> (Engine, tokio::task::JoinHandle<()>) {
    let (engine, socket) = Engine::new(kind, byte_signature());
    engine.link.call(bytes_call(1, "abc")).unwrap();
    let saying = tokio::task::spawn_blocking(move || {
        let worker = RawWorker::connect(socket);
        frames.iter().for_each(|frame| worker.say(frame));
        // Stay until the engine has had enough.
        while samovar_core::channel::socket::receive(&worker.socket).is_ok() {}
    });
    (engine, saying)
}

fn part(sequence: u32) -> Descriptor {
    Descriptor { sequence, ..Descriptor::new(Kind::Part, 1) }
}

fn end_after(parts: u32) -> Descriptor {
    Descriptor { sequence: parts, ..Descriptor::new(Kind::End, 1) }
}

async fn pieces_come_in_order_and_before_the_end(kind: TransportKind) {
    let (mut engine, worker) = relayed(kind, byte_signature()).await;
    for call in 0..50_u64 {
        engine.link.call(bytes_call(call, "abc")).unwrap();
        let mut frame = worker.next_call();
        for index in 0..4 {
            assert!(worker.end.part(&mut frame, &[output(&pattern(call + index, 300))]).unwrap());
        }
        worker.end.finish(frame, &[output(b"last")]);
        for index in 0..4 {
            assert!(piece_of(&mut engine, call).await == pattern(call + index, 300));
        }
        assert_eq!(engine.outputs_of(call).await[0].data.as_ref(), b"last");
    }
    until_answers_are_free(&engine.link, &worker).await;
    assert_eq!(engine.link.request_bytes(), 0);
    engine.close();
}

async fn an_end_waits_for_the_pieces_before_it(kind: TransportKind) {
    let (mut engine, _saying) = answering(kind, vec![end_after(3), part(2), part(0)]).await;
    assert!(matches!(engine.heard().await, Heard::Part(1, _)));
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(engine.try_heard().is_none() && engine.try_end().is_none());
    engine.close();

    let (mut engine, _saying) = answering(kind, vec![end_after(3), part(2), part(0), part(1)]).await;
    engine.outputs_of(1).await;
    assert!((0..3).all(|_| matches!(engine.try_heard(), Some(Heard::Part(1, _)))));
    engine.close();
}

async fn a_piece_beyond_the_credit_is_a_bad_frame(kind: TransportKind) {
    let (mut engine, _saying) = answering(kind, (0..5).map(part).collect()).await;
    let fault = engine.outcome().await.unwrap_err();
    assert!(fault.0.contains("beyond its credit"), "{fault}");
    assert!((0..4).all(|_| matches!(engine.try_heard(), Some(Heard::Part(1, _)))) && engine.try_heard().is_none());
}

async fn what_contradicts_itself_is_a_bad_frame(kind: TransportKind) {
    let cases = [
        vec![part(0), part(0)],
        vec![part(2), part(2)],
        vec![part(0), end_after(0)],
        vec![part(u32::MAX), end_after(3)],
        vec![end_after(2), part(2)],
        vec![end_after(2), end_after(2)],
    ];
    for frames in cases {
        let (mut engine, _saying) = answering(kind, frames.clone()).await;
        let fault = engine.outcome().await.expect_err(&format!("{frames:?}"));
        assert!(fault.0.contains("stream"), "{frames:?}: {fault}");
        assert!(engine.try_end().is_none());
    }
}

async fn credit_lets_exactly_one_more_go(kind: TransportKind) {
    let (mut engine, worker) = relayed(kind, byte_signature()).await;
    engine.link.call(bytes_call(1, "abc")).unwrap();
    let mut frame = worker.next_call();
    for _ in 0..4 {
        assert!(frame.state.has_credit() && worker.end.part(&mut frame, &[output(b"x")]).unwrap());
    }
    for round in 4..50 {
        assert!(!worker.end.part(&mut frame, &[output(b"too much")]).unwrap());
        piece_of(&mut engine, 1).await;
        engine.link.credit(1);
        assert!(frame.state.wait_for_credit(), "round {round}");
        until(|| worker.end.take_news().contains(&1)); // said to an event loop a moment later
        assert!(worker.end.part(&mut frame, &[output(b"x")]).unwrap());
    }
    worker.end.finish(frame, &[]);
    assert!(engine.outputs_of(1).await.is_empty());
    assert!((0..4).all(|_| engine.try_heard().is_some()) && engine.try_heard().is_none());
    until_answers_are_free(&engine.link, &worker).await;
    engine.close();
}

async fn a_failure_keeps_the_pieces_before_it(kind: TransportKind) {
    let (mut engine, worker) = relayed(kind, byte_signature()).await;
    engine.link.call(bytes_call(1, "abc")).unwrap();
    let mut frame = worker.next_call();
    for data in [b"a", b"b"] {
        assert!(worker.end.part(&mut frame, &[output(data)]).unwrap());
    }
    worker.end.fail(frame, proto::Failure { message: "no more".into(), ..proto::Failure::default() });
    let end = engine.end().await;
    assert_eq!(end.result.unwrap_err().kind(), failure::Kind::Exception);
    let pieces = [piece_of(&mut engine, 1).await, piece_of(&mut engine, 1).await];
    assert_eq!(pieces, [b"a".to_vec(), b"b".to_vec()]);
    assert_eq!(engine.link.request_bytes(), 0);
    engine.close();
}

async fn a_cancellation_wakes_a_worker_that_waits_for_credit(kind: TransportKind) {
    for _ in 0..20 {
        let (mut engine, worker) = relayed(kind, byte_signature()).await;
        engine.link.call(bytes_call(1, "abc")).unwrap();
        let mut frame = worker.next_call();
        while worker.end.part(&mut frame, &[output(b"x")]).unwrap() {}
        let state = std::sync::Arc::clone(&frame.state);
        let waiting = std::thread::spawn(move || state.wait_for_credit());
        engine.link.cancel(1);
        assert!(!waiting.join().unwrap());
        engine.link.credit(1);
        worker.end.finish(frame, &[]);
        assert!(engine.end().await.result.is_ok());
        assert_eq!(engine.link.request_bytes(), 0);
        engine.close();
    }
}

async fn credit_after_the_end_is_not_sent(kind: TransportKind) {
    let (mut engine, worker) = relayed(kind, byte_signature()).await;
    engine.link.call(bytes_call(1, "abc")).unwrap();
    let mut frame = worker.next_call();
    assert!(worker.end.part(&mut frame, &[output(b"x")]).unwrap());
    worker.end.finish(frame, &[]);
    engine.outputs_of(1).await;
    engine.link.credit(1);
    engine.link.credit(99);
    read_all(&engine.link, &worker).await;
    assert!(worker.end.take_news().is_empty());
    engine.close();
}

/// One thread runs engine and test, so that the engine reads nothing before the test waits: what the ring has no room for
/// goes through the socket.
#[tokio::test]
async fn pieces_come_in_order_whatever_way_they_take() {
    const CALLS: u64 = 80;
    let (mut engine, worker) = relayed(TransportKind::Shm, byte_signature()).await;
    engine.link.call(bytes_call(0, "grant memory")).unwrap();
    let first = worker.clone();
    tokio::task::spawn_blocking(move || first.echo(first.next_call())).await.unwrap();
    engine.outputs_of(0).await;
    for round in 0..5_u64 {
        (0..CALLS).for_each(|index| engine.link.call(bytes_call(1 + round * CALLS + index, "abc")).unwrap());
        let mut frames: Vec<_> = (0..CALLS).map(|_| worker.next_call()).collect();
        for index in 0..4 {
            for frame in &mut frames {
                let data = pattern(frame.call + index, 40);
                assert!(worker.end.part(frame, &[output(&data)]).unwrap());
            }
        }
        frames.into_iter().for_each(|frame| worker.end.finish(frame, &[output(b"last")]));
        for _ in 0..CALLS {
            assert!(engine.end().await.result.is_ok());
        }
        let mut came = std::collections::HashMap::<u64, u64>::new();
        while let Some(Heard::Part(call, piece)) = engine.try_heard() {
            let index = came.entry(call).or_default();
            assert!(piece.tensors[0].data == pattern(call + *index, 40), "piece {index} of call {call}");
            *index += 1;
        }
        assert!(came.len() as u64 == CALLS && came.values().all(|pieces| *pieces == 4));
        until_answers_are_free(&engine.link, &worker).await;
    }
    engine.close();
}
