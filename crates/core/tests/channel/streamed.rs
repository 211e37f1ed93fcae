//! Streams of versions: joined for who wants one answer, and never begun twice.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use bytes::Bytes;
use samovar_core::channel::engine::Link;
use samovar_core::channel::proto;
use samovar_core::channel::worker::CallFrame;
use samovar_core::config::{TransportKind, VersionSpec};
use samovar_core::error::Code;
use samovar_core::request::{HttpHead, HttpRequest, InferResponse};
use samovar_core::version::Seat;

use crate::harness::until;
use crate::stage::*;

async fn alone(spec: VersionSpec) -> Stage {
    Stage::new(&Arc::default(), spec).await
}

fn part(stage: &Stage, call: &mut CallFrame, data: &[u8]) {
    assert!(call.state.wait_for_credit());
    assert!(stage.worker.end.part(call, &[flat(data)]).unwrap());
}

fn y(response: &InferResponse) -> (&[u64], &[u8]) {
    let tensor = &response.outputs[0].tensor;
    (&tensor.shape, &tensor.data)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_joined_for_who_wants_one_answer() {
    let stage = alone(streaming("m")).await;
    let client = stage.request("r");
    let mut call = stage.next_call().await;
    for index in 0..30_u8 {
        part(&stage, &mut call, &[index; 2]);
    }
    stage.worker.end.finish(call, &[flat(b"end")]);
    let response = client.await.unwrap().unwrap();
    let wanted: Vec<_> = (0..30).flat_map(|index| [index; 2]).chain(*b"end").collect();
    assert_eq!(y(&response), (&[63][..], &wanted[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_pieces_is_an_answer_without_elements() {
    for dims in [vec![-1], vec![3], vec![-1, 2]] {
        let mut spec = streaming("m");
        spec.outputs[0].dims = Some(dims.clone());
        let stage = alone(spec).await;
        let client = stage.request("r");
        let call = stage.next_call().await;
        stage.worker.end.finish(call, &[]);
        let response = client.await.unwrap().unwrap();
        assert_eq!((y(&response).0[0], y(&response).0.len(), y(&response).1), (0, dims.len(), &b""[..]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_numbers_that_yields_none_is_no_answer() {
    let mut spec = streaming("m");
    spec.outputs[0].dims = Some(Vec::new());
    let stage = alone(spec).await;
    let client = stage.request("r");
    let call = stage.next_call().await;
    stage.worker.end.finish(call, &[]);
    assert_eq!(client.await.unwrap().unwrap_err().code, Code::BadModelOutput);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_too_large_for_one_answer_is_cancelled() {
    let stage = alone(streaming("m")).await;
    let client = stage.request("r");
    let mut call = stage.next_call().await;
    let piece = vec![1; 33 << 20];
    for _ in 0..4 {
        part(&stage, &mut call, &piece);
    }
    assert_eq!(client.await.unwrap().unwrap_err().code, Code::BadModelOutput);
    until_async(|| call.state.is_cancelled()).await;
    assert!(!call.state.wait_for_credit());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_piece_that_does_not_fit_ends_the_stream() {
    let stage = alone(streaming("m")).await;
    let client = stage.request("r");
    let mut call = stage.next_call().await;
    assert!(stage.worker.end.part(&mut call, &[crate::harness::output(b"two axes")]).unwrap());
    let error = client.await.unwrap().unwrap_err();
    assert!(error.code == Code::BadModelOutput && error.message.contains("output \"y\""), "{error}");
    until_async(|| call.state.is_cancelled()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_before_the_first_piece_is_not_seen_and_one_after_it_is() {
    let mut stage = alone(streaming("m")).await;
    let client = stage.request("r");
    let _lost = stage.next_call().await;
    stage.die().await.unwrap();
    stage.revive().await;
    let mut call = stage.next_call().await;
    part(&stage, &mut call, b"a piece");
    stage.die().await.unwrap();
    assert_eq!(client.await.unwrap().unwrap_err().code, Code::WorkerLost);
    stage.revive().await;
    assert!(stage.version.is_idle() && stage.worker.end.poll().unwrap().is_none(), "it is not run again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_piece_of_a_call_that_is_not_its_own_ends_a_worker() {
    let mut stage = alone(streaming("m")).await;
    let _client = stage.request("r");
    let mut call = stage.next_call().await;
    call.call += 1;
    part(&stage, &mut call, b"x");
    assert!(stage.outcome().await.unwrap_err().0.contains("does not hold"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_after_pieces_of_a_call_that_is_not_its_own_ends_a_worker() {
    let mut stage = alone(streaming("m")).await;
    let _client = stage.request("r");
    let mut call = stage.next_call().await;
    part(&stage, &mut call, b"x");
    call.call += 1;
    stage.worker.end.finish(call, &[]);
    assert!(stage.outcome().await.unwrap_err().0.contains("does not hold"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_piece_of_a_model_that_does_not_stream_ends_its_worker() {
    let mut stage = alone(spec("m")).await;
    let _client = stage.request("r");
    let mut call = stage.next_call().await;
    assert!(stage.worker.end.part(&mut call, &[flat(b"x")]).unwrap());
    assert!(stage.outcome().await.unwrap_err().0.contains("does not stream"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_streams_is_slowed_by_who_takes_it() {
    let names = Arc::default();
    let (a, b) = (Stage::new(&names, spec("a")).await, Stage::new(&names, streaming("b")).await);
    let _client = a.request("r");
    let parent = a.next_call().await;
    let step = a.step("b", parent.call).await;
    let mut call = b.next_call().await;
    // Four are with the caller, one more waits in between for its credit, four with the engine.
    let mut sent = 0;
    while sent < 9 {
        sent += u32::from(b.worker.end.part(&mut call, &[flat(b"x")]).unwrap());
        tokio::task::yield_now().await;
    }
    assert!(!b.worker.end.part(&mut call, &[flat(b"too much")]).unwrap());
    until(|| step.take().is_some());
    a.worker.end.credit(step.number);
    assert!(call.state.wait_for_credit());
    b.worker.end.finish(call, &[]);
    (0..8).for_each(|_| {
        until(|| step.take().is_some());
        a.worker.end.credit(step.number);
    });
    assert!(ended(&step).await.is_ok());
}

fn upload(body: &'static str, is_whole: bool) -> HttpRequest {
    let head = HttpHead {
        method: "PUT".into(),
        path: "/s/x".into(),
        query: String::new(),
        headers: Vec::new(),
        version: "1.1",
        scheme: "http",
        client: String::new(),
        is_upgrade: false,
    };
    let arrived = samovar_core::clock::now();
    let body = Bytes::from_static(body.as_bytes());
    HttpRequest { id: "r".into(), head, body, is_whole, timeout: None, idempotent: true, trace: None, arrived }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_came_whole_is_run_again_after_a_death() {
    let mut stage = alone(service("s")).await;
    let mut exchange = stage.version.exchange(upload("body", true)).unwrap();
    let _lost = stage.next_call().await;
    stage.die().await.unwrap();
    stage.revive().await;
    let call = stage.next_call().await;
    assert_eq!(call.inputs[0].data.as_ref(), b"body");
    stage.worker.end.respond(call, Some(proto::HttpResponse { status: 200, headers: Vec::new() }), b"");
    assert_eq!(exchange.head().await.unwrap().status, 200);
}

/// No worker had begun it, but one was sent a piece of its body, which nobody else has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_body_went_with_a_worker_is_lost_with_it() {
    let mut stage = alone(service("s")).await;
    for is_sent in [true, false] {
        let (ours, _deaf) = UnixStream::pair().unwrap();
        let (link, _) = Link::new(ours, TransportKind::Shm).unwrap();
        stage.version.instance_down(0);
        stage.version.instance_up(0, Seat::own(link, 0, stage.version.owner(0)));
        let mut exchange = stage.version.exchange(upload("", false)).unwrap();
        if is_sent {
            exchange.upload().send(Bytes::from_static(b"a piece")).await.unwrap();
        }
        stage.version.instance_down(0);
        stage.revive().await;
        if is_sent {
            assert_eq!(exchange.head().await.unwrap_err().code, Code::WorkerLost);
        } else {
            let call = stage.next_call().await;
            exchange.upload().finish().await.unwrap();
            until(|| call.state.take_body().is_some());
            assert!(call.state.is_body_over());
        }
    }
}
