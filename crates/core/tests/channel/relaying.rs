//! Workers whose thread reads everything, because whoever runs the model may wait for something else.

use std::os::fd::AsRawFd;

use samovar_core::channel::worker::Incoming;
use samovar_core::config::TransportKind;

use crate::harness::*;

on_both_transports!(
    everything_arrives_after_a_load_that_relays,
    a_load_loses_no_wake_up_of_the_one_who_waits,
    calls_arrive_while_one_waits_for_something_else,
);

async fn everything_arrives_after_a_load_that_relays(kind: TransportKind) {
    let (mut engine, socket) = Engine::new(kind, byte_signature());
    let worker = tokio::task::spawn_blocking(|| Worker::connect(socket)).await.unwrap();
    let before = worker.end.work_descriptor().as_raw_fd();
    let echo = worker.echo_all();
    for streams in [false, true] {
        assert!(engine.link.ask("load", load_body(&byte_signature(), streams)).await.unwrap().ok);
        let is_another = worker.end.work_descriptor().as_raw_fd() != before;
        assert_eq!(is_another, streams && kind == TransportKind::Shm);
        for call in 0..300 {
            engine.link.call(bytes_call(call, pattern(call, 200))).unwrap();
            assert!(engine.outputs_of(call).await[0].data == pattern(call, 200));
        }
        assert_eq!(engine.link.ask("ping", "x".into()).await.unwrap().body, "x");
    }
    engine.link.cancel(300);
    engine.link.end_worker();
    echo.join().unwrap();
    assert_eq!(engine.link.request_bytes(), 0);
}

async fn a_load_loses_no_wake_up_of_the_one_who_waits(kind: TransportKind) {
    for _ in 0..100 {
        let (mut engine, socket) = Engine::new(kind, byte_signature());
        let worker = tokio::task::spawn_blocking(|| Worker::connect(socket)).await.unwrap();
        let waiting = std::thread::spawn(move || {
            while let Some(incoming) = worker.end.wait().unwrap() {
                match incoming {
                    Incoming::Call(call) => worker.echo(call),
                    Incoming::Ask { number, body, .. } => worker.end.tell(number, true, body),
                }
            }
        });
        // The calls may come while the load is being looked at.
        let loading = engine.link.ask("load", load_body(&byte_signature(), true));
        let calling = async {
            for call in 0..3 {
                engine.link.call(bytes_call(call, "abc")).unwrap();
                tokio::task::yield_now().await;
            }
        };
        let loaded = tokio::time::timeout(LIMIT, async { tokio::join!(loading, calling).0 }).await;
        assert!(loaded.expect("the load is answered").unwrap().ok);
        for _ in 0..3 {
            assert!(engine.end().await.result.is_ok());
        }
        engine.link.end_worker();
        waiting.join().unwrap();
    }
}

async fn calls_arrive_while_one_waits_for_something_else(kind: TransportKind) {
    let (mut engine, worker) = relayed(kind, byte_signature()).await;
    engine.link.call(bytes_call(1, "abc")).unwrap();
    let mut first = worker.next_call();
    while worker.end.part(&mut first, &[output(b"x")]).unwrap() {}
    let answering = worker.clone();
    let waiting = std::thread::spawn(move || {
        assert!(first.state.wait_for_credit());
        assert!(answering.end.part(&mut first, &[output(b"x")]).unwrap());
        answering.end.finish(first, &[]);
    });
    engine.link.call(bytes_call(2, "meanwhile")).unwrap();
    worker.echo(worker.next_call());
    assert_eq!(engine.outputs_of(2).await[0].data.as_ref(), b"meanwhile");
    engine.link.credit(1);
    waiting.join().unwrap();
    engine.outputs_of(1).await;
    engine.close();
}
