//! Calls and questions that go well.

use std::collections::HashMap;

use samovar_core::channel::proto;
use samovar_core::channel::transport::{Gather, Signature};
use samovar_core::config::TransportKind;
use samovar_core::tensor::{Datatype, Tensor};

use crate::harness::*;

on_both_transports!(
    every_datatype_comes_back_as_it_went,
    several_tensors_keep_their_order_and_shapes,
    pieces_are_stacked_in_order,
    the_item_table_arrives_whole,
    empty_tensors_are_tensors,
    a_model_may_have_no_outputs,
    a_large_tensor_passes_both_ways,
    thousands_of_calls_keep_their_bytes_apart,
    ends_come_in_any_order,
    answers_of_odd_sizes_stay_as_they_were_while_somebody_looks,
    questions_are_answered_under_their_numbers,
);

/// Two rows of two elements.
fn sample(datatype: Datatype) -> Vec<u8> {
    match datatype.size() {
        Some(size) => (1..=4 * size as u8).collect(),
        None => [&b"\x02\0\0\0ab"[..], b"\0\0\0\0", b"\x01\0\0\0\xff", b"\x03\0\0\0xyz"].concat(),
    }
}

fn check(tensor: &Tensor, datatype: Datatype, shape: &[u64], data: &[u8]) {
    assert_eq!((tensor.datatype, tensor.shape.as_slice()), (datatype, shape));
    assert!(tensor.data == data, "the bytes of {} {shape:?} differ", datatype.name());
}

async fn every_datatype_comes_back_as_it_went(kind: TransportKind) {
    for datatype in Datatype::ALL {
        for dims in [[2_i64], [-1]] {
            let signature = echoing(&[(datatype, &dims)]);
            let (mut engine, worker) = pair(kind, signature.clone()).await;
            let echo = worker.echo_all();
            let input = gather(datatype, &[2, 2], sample(datatype));
            engine.link.call(out_call(1, &signature, vec![input])).unwrap();
            check(&engine.outputs_of(1).await[0], datatype, &[2, 2], &sample(datatype));
            engine.link.end_worker();
            echo.join().unwrap();
        }
    }
}

async fn several_tensors_keep_their_order_and_shapes(kind: TransportKind) {
    let signature = echoing(&[(Datatype::Fp64, &[3]), (Datatype::Bytes, &[1]), (Datatype::Bool, &[2, -1])]);
    let (mut engine, worker) = pair(kind, signature.clone()).await;
    let echo = worker.echo_all();
    let text = b"\x01\0\0\0a\x02\0\0\0bc".to_vec();
    let inputs = vec![
        gather(Datatype::Fp64, &[2, 3], pattern(1, 48)),
        gather(Datatype::Bytes, &[2, 1], text.clone()),
        gather(Datatype::Bool, &[2, 2, 5], pattern(2, 20)),
    ];
    engine.link.call(out_call(9, &signature, inputs)).unwrap();
    let outputs = engine.outputs_of(9).await;
    check(&outputs[0], Datatype::Fp64, &[2, 3], &pattern(1, 48));
    check(&outputs[1], Datatype::Bytes, &[2, 1], &text);
    check(&outputs[2], Datatype::Bool, &[2, 2, 5], &pattern(2, 20));
    engine.link.end_worker();
    echo.join().unwrap();
}

async fn pieces_are_stacked_in_order(kind: TransportKind) {
    let signature = echoing(&[(Datatype::Uint8, &[3])]);
    let (mut engine, worker) = pair(kind, signature.clone()).await;
    let echo = worker.echo_all();
    let pieces = ["abc", "defghi", "", "jkl"].map(|piece| bytes::Bytes::from_static(piece.as_bytes()));
    let input = Gather { datatype: Datatype::Uint8, shape: vec![4, 3], pieces: pieces.into() };
    engine.link.call(out_call(1, &signature, vec![input])).unwrap();
    check(&engine.outputs_of(1).await[0], Datatype::Uint8, &[4, 3], b"abcdefghijkl");
    engine.link.end_worker();
    echo.join().unwrap();
}

async fn the_item_table_arrives_whole(kind: TransportKind) {
    let (engine, worker) = pair(kind, byte_signature()).await;
    let value = proto::Parameter { value: Some(proto::parameter::Value::StringValue("x".repeat(100_000))) };
    let items: Vec<_> = (0..40)
        .map(|index| proto::Item {
            id: format!("request-{index}"),
            rows: index,
            deadline_ns: u64::MAX - u64::from(index),
            sequence_flags: 0,
            parameters: HashMap::from([(format!("p{index}"), value.clone())]),
            outputs: vec!["t0".into()],
            trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
        })
        .collect();
    let mut call = bytes_call(5, "abc");
    (call.items, call.instance) = (items.clone(), 3);
    engine.link.call(call).unwrap();
    let call = worker.next_call();
    assert_eq!((call.call, call.instance, call.rows, call.items.as_slice()), (5, 3, 1, items.as_slice()));
    engine.close();
}

async fn empty_tensors_are_tensors(kind: TransportKind) {
    let shapes: [(Datatype, &[u64]); 3] =
        [(Datatype::Fp32, &[0, 3]), (Datatype::Int64, &[0, 0]), (Datatype::Bytes, &[0, 2])];
    for is_fixed in [true, false] {
        for (datatype, shape) in shapes {
            let dims = if is_fixed { [shape[1] as i64] } else { [-1] };
            let signature = echoing(&[(datatype, &dims)]);
            let (mut engine, worker) = pair(kind, signature.clone()).await;
            let echo = worker.echo_all();
            engine.link.call(out_call(1, &signature, vec![gather(datatype, shape, "")])).unwrap();
            check(&engine.outputs_of(1).await[0], datatype, shape, b"");
            engine.link.end_worker();
            echo.join().unwrap();
        }
    }
}

async fn a_model_may_have_no_outputs(kind: TransportKind) {
    let signature = Signature { outputs: Vec::new(), ..byte_signature() };
    let (mut engine, worker) = pair(kind, signature).await;
    engine.link.call(bytes_call(1, "abc")).unwrap();
    worker.end.finish(worker.next_call(), &[]);
    assert!(engine.outputs_of(1).await.is_empty());
    engine.close();
}

async fn a_large_tensor_passes_both_ways(kind: TransportKind) {
    const LENGTH: usize = 64 << 20;
    let (mut engine, worker) = pair(kind, byte_signature()).await;
    let echo = worker.echo_all();
    let data = bytes::Bytes::from(pattern(3, LENGTH));
    for call in 1..3 {
        engine.link.call(bytes_call(call, data.clone())).unwrap();
        check(&engine.outputs_of(call).await[0], Datatype::Uint8, &[1, LENGTH as u64], &data);
    }
    assert_eq!(engine.link.request_bytes(), 0);
    engine.link.end_worker();
    echo.join().unwrap();
}

async fn thousands_of_calls_keep_their_bytes_apart(kind: TransportKind) {
    let (mut engine, worker) = pair(kind, byte_signature()).await;
    let echo = worker.echo_all();
    for call in 0..3_000 {
        let length = (call * 7 % 501) as usize;
        engine.link.call(bytes_call(call, pattern(call, length))).unwrap();
        check(&engine.outputs_of(call).await[0], Datatype::Uint8, &[1, length as u64], &pattern(call, length));
    }
    assert_eq!(engine.link.request_bytes(), 0);
    engine.link.end_worker();
    echo.join().unwrap();
    assert_eq!(worker.end.answer_bytes(), 0);
}

async fn ends_come_in_any_order(kind: TransportKind) {
    let (mut engine, worker) = pair(kind, byte_signature()).await;
    for round in 0..20_u64 {
        let numbers: Vec<_> = (0..16).map(|index| round * 16 + index).collect();
        for call in &numbers {
            engine.link.call(bytes_call(*call, pattern(*call, 100))).unwrap();
        }
        let mut taken: Vec<_> = numbers.iter().map(|_| worker.next_call()).collect();
        while !taken.is_empty() {
            worker.echo(taken.swap_remove(round as usize % taken.len()));
        }
        let mut ended = Vec::new();
        for _ in &numbers {
            let end = engine.end().await;
            assert!(end.result.unwrap().tensors[0].data == pattern(end.call, 100));
            ended.push(end.call);
        }
        ended.sort_unstable();
        assert_eq!(ended, numbers);
    }
    assert_eq!(engine.link.request_bytes(), 0);
    engine.close();
}

async fn answers_of_odd_sizes_stay_as_they_were_while_somebody_looks(kind: TransportKind) {
    let (mut engine, worker) = pair(kind, byte_signature()).await;
    let echo = worker.echo_all();
    let mut kept = Vec::new();
    for call in 0..200_u64 {
        let length = [0, 1, 63, 64, 65, 4_097, 300_001, 5 << 20][call as usize % 8];
        engine.link.call(bytes_call(call, pattern(call, length))).unwrap();
        kept.push((call, length, engine.outputs_of(call).await.remove(0)));
        if kept.len() > 12 {
            let (call, length, tensor) = kept.swap_remove(call as usize * 5 % 12);
            check(&tensor, Datatype::Uint8, &[1, length as u64], &pattern(call, length));
        }
    }
    for (call, length, tensor) in kept {
        check(&tensor, Datatype::Uint8, &[1, length as u64], &pattern(call, length));
    }
    // A question wakes the worker, which then reads what the engine has given back.
    assert!(engine.link.ask("ping", String::new()).await.unwrap().ok);
    engine.link.end_worker();
    echo.join().unwrap();
    assert_eq!((worker.end.answer_bytes(), engine.link.request_bytes()), (0, 0));
}

async fn questions_are_answered_under_their_numbers(kind: TransportKind) {
    let (engine, worker) = pair(kind, byte_signature()).await;
    let reverse = tokio::task::spawn_blocking(move || {
        let asked: Vec<_> = (0..10).map(|_| worker.next_ask()).collect();
        for (number, verb, body) in asked.into_iter().rev() {
            worker.end.tell(number, verb == "yes", body);
        }
    });
    let link = &engine.link;
    let asks: Vec<_> =
        (0..10).map(|index| link.ask(if index % 2 == 0 { "yes" } else { "no" }, index.to_string())).collect();
    for (index, tell) in join_all(asks).await.into_iter().enumerate() {
        assert_eq!(tell.unwrap(), proto::Tell { ok: index % 2 == 0, body: index.to_string() });
    }
    reverse.await.unwrap();
    engine.close();
}

/// All futures at once, their results in order.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut pinned: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut results: Vec<_> = pinned.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, result) in pinned.iter_mut().zip(&mut results) {
            if result.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *result = Some(value);
            }
        }
        if results.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}
