//! HTTP requests and responses of services: bodies that follow their calls in pieces, and heads.

use bytes::Bytes;
use prost::Message;
use samovar_core::channel::engine::{Link, OutPiece};
use samovar_core::channel::frame::{Descriptor, FLAG_LAST, Kind};
use samovar_core::channel::proto;
use samovar_core::channel::socket::receive;
use samovar_core::channel::transport::{OutCall, Signature};
use samovar_core::channel::worker::CallFrame;
use samovar_core::config::TransportKind;
use samovar_core::tensor::Datatype;

use crate::harness::*;
use crate::raw::{RawEngine, RawWorker, TAKEN};

on_both_transports!(
    the_head_of_a_request_arrives_with_the_first_bytes_of_its_body,
    a_body_follows_in_pieces_until_the_last_one,
    the_last_piece_may_be_empty,
    a_worker_lets_more_of_a_body_come,
    pieces_for_a_call_that_is_over_are_given_back,
    the_head_of_a_response_comes_with_its_first_piece,
    a_response_without_a_body_is_one_frame,
);

/// A request whose body has come as far as `body`.
fn request(call: u64, body: &'static str, is_open: bool) -> OutCall {
    let head = proto::HttpRequest {
        method: "POST".into(),
        path: "/plates/a%20b".into(),
        headers: vec![proto::Header { name: b"x-a".into(), value: b"\xff".into() }],
        ..proto::HttpRequest::default()
    };
    let mut sent = bytes_call(call, body);
    sent.inputs = vec![gather(Datatype::Uint8, &[body.len() as u64], body)];
    OutCall { http: Some(Box::new(head)), is_open, is_fast: false, ..sent }
}

fn send(link: &Link, call: u64, sequence: u32, body: impl Into<Bytes>, is_last: bool) {
    let body = body.into();
    let tensors = vec![gather(Datatype::Uint8, &[body.len() as u64], body.clone())];
    let tensors = if body.is_empty() { &[][..] } else { &tensors };
    link.part(OutPiece { call, sequence, names: &[], tensors }, is_last).unwrap();
}

/// What has come of a body, once all of it has.
fn whole_body(call: &CallFrame) -> Vec<u8> {
    let mut body = Vec::new();
    until(|| {
        body.extend(call.state.take_body().iter().flatten());
        call.state.is_body_over()
    });
    body
}

/// Any one tensor may answer.
fn signature() -> Signature {
    Signature { inputs: Vec::new(), batch_axis: false, ..byte_signature() }
}

async fn the_head_of_a_request_arrives_with_the_first_bytes_of_its_body(kind: TransportKind) {
    let (engine, worker) = relayed(kind, signature()).await;
    engine.link.call(request(1, "body", false)).unwrap();
    let call = worker.next_call();
    let head = call.http.as_ref().unwrap();
    assert_eq!((head.path.as_str(), head.headers[0].value.as_slice()), ("/plates/a%20b", b"\xff".as_slice()));
    assert_eq!(call.inputs[0].data.as_ref(), b"body");
    assert!(call.state.is_body_over() && call.state.take_body().is_none(), "it came whole");
    engine.close();
}

async fn a_body_follows_in_pieces_until_the_last_one(kind: TransportKind) {
    let (engine, worker) = relayed(kind, signature()).await;
    engine.link.call(request(1, "first", true)).unwrap();
    let call = worker.next_call();
    assert!(!call.state.is_body_over());
    send(&engine.link, 1, 0, pattern(1, 100_000), false);
    until(|| worker.end.take_news() == [1]);
    assert!(call.state.take_body().unwrap() == pattern(1, 100_000) && !call.state.is_body_over());
    send(&engine.link, 1, 1, "b", false);
    send(&engine.link, 1, 2, "c", true);
    assert_eq!(whole_body(&call), b"bc");
    worker.end.respond(call, None, b"");
    until_all_is_free(&engine.link).await;
    engine.close();
}

async fn the_last_piece_may_be_empty(kind: TransportKind) {
    let (engine, worker) = relayed(kind, signature()).await;
    engine.link.call(request(1, "", true)).unwrap();
    let call = worker.next_call();
    send(&engine.link, 1, 0, "a", false);
    send(&engine.link, 1, 1, "", true);
    assert_eq!(whole_body(&call), b"a");
    engine.close();
}

async fn a_worker_lets_more_of_a_body_come(kind: TransportKind) {
    let (mut engine, worker) = relayed(kind, signature()).await;
    engine.link.call(request(1, "", true)).unwrap();
    let call = worker.next_call();
    for sequence in 0..10 {
        send(&engine.link, 1, sequence, pattern(7, 50_000), sequence == 9);
        until(|| call.state.take_body().is_some());
        worker.end.credit(1);
        assert!(matches!(engine.heard().await, Heard::Credit(1, 1)));
    }
    assert!(call.state.is_body_over());
    engine.close();
}

async fn pieces_for_a_call_that_is_over_are_given_back(kind: TransportKind) {
    let (mut engine, worker) = relayed(kind, signature()).await;
    engine.link.call(request(1, "", true)).unwrap();
    let call = worker.next_call();
    send(&engine.link, 1, 0, pattern(1, 2 << 20), false);
    worker.end.respond(call, Some(proto::HttpResponse { status: 413, headers: Vec::new() }), b"too large");
    assert_eq!(engine.end().await.result.unwrap().head.unwrap().status, 413);
    for sequence in 1..20 {
        send(&engine.link, 1, sequence, pattern(1, 100_000), false);
    }
    read_all(&engine.link, &worker).await;
    // The engine reads the news of small ranges with the next frame.
    send(&engine.link, 1, 20, pattern(1, 2 << 20), true);
    until_all_is_free(&engine.link).await;
    assert!(worker.end.take_news().is_empty() || kind == TransportKind::Shm);
    engine.close();
}

async fn the_head_of_a_response_comes_with_its_first_piece(kind: TransportKind) {
    let (mut engine, worker) = relayed(kind, signature()).await;
    engine.link.call(request(1, "", false)).unwrap();
    let mut call = worker.next_call();
    let headers = vec![proto::Header { name: b"content-type".into(), value: b"text/plain".into() }];
    let head = proto::HttpResponse { status: 207, headers };
    assert!(worker.end.respond_part(&mut call, Some(head), b"one").unwrap());
    assert!(worker.end.respond_part(&mut call, None, b"two").unwrap());
    worker.end.respond(call, None, b"three");
    let (Heard::Part(1, first), Heard::Part(1, second)) = (engine.heard().await, engine.heard().await) else {
        panic!("two pieces were sent");
    };
    assert_eq!((first.head.map(|head| head.status), second.head), (Some(207), None));
    let rest = engine.end().await.result.unwrap();
    let bodies = [first.tensors, second.tensors, rest.tensors].map(|tensors| tensors[0].data.to_vec());
    assert_eq!((bodies.concat().as_slice(), rest.head), (b"onetwothree".as_slice(), None));
    engine.close();
}

async fn a_response_without_a_body_is_one_frame(kind: TransportKind) {
    let (mut engine, worker) = relayed(kind, signature()).await;
    engine.link.call(request(1, "", false)).unwrap();
    worker.end.respond(worker.next_call(), Some(proto::HttpResponse { status: 204, headers: Vec::new() }), b"");
    let answer = engine.end().await.result.unwrap();
    assert!(answer.head.unwrap().status == 204 && answer.tensors.is_empty());
    until_answers_are_free(&engine.link, &worker).await;
    engine.close();
}

/// The ring had no room for the call and has some for the piece.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_piece_does_not_overtake_a_call_that_went_through_the_socket() {
    let (engine, socket) = Engine::new(TransportKind::Shm, signature());
    let worker = tokio::task::spawn_blocking(|| RawWorker::connect(socket)).await.unwrap();
    (1..=257).for_each(|call| engine.link.call(request(call, "", true)).unwrap());
    assert!((1..=256).all(|call| engine.link.revoke(call)), "they are in the ring");
    worker.page.as_ref().unwrap().set(TAKEN, 256);
    send(&engine.link, 257, 0, "a", true);
    let reading = tokio::task::spawn_blocking(move || {
        let mut next = || receive(&worker.socket).unwrap().0;
        std::iter::repeat_with(&mut next)
            .map(|frame| (frame.kind, frame.call))
            .find(|(kind, _)| *kind != Kind::Segment);
        next()
    });
    let piece = reading.await.unwrap();
    assert_eq!((piece.kind, piece.call), (Kind::Part, 257));
    engine.close();
}

/// The ring had room for the call and none for the piece; the socket wakes the worker before the ring does.
#[test]
fn a_piece_that_overtakes_its_call_is_not_lost() {
    for _ in 0..20 {
        let (engine, socket) = RawEngine::new(TransportKind::Shm);
        let worker = Worker::connect(socket);
        let page = engine.page.as_ref().unwrap();
        let call = proto::Call { is_open: true, ..proto::Call::default() }.encode_to_vec();
        engine.grant(1, false, &call);
        engine.send(Kind::Ask, 1, &proto::Ask { verb: "load".into(), body: load_body(&signature(), true) });
        assert_eq!(worker.next_ask().1, "load");
        let place = Descriptor { segment: 1, generation: 1, ..Descriptor::new(Kind::Call, 7) };
        page.push_quietly(&Descriptor { metadata_length: call.len() as u32, ..place }.encode(), 1);
        let last = Descriptor { flags: FLAG_LAST, ..Descriptor::new(Kind::Part, 7) };
        engine.send_bare(&last);
        let frame = worker.next_call();
        until(|| frame.state.take_body().is_some());
        assert!(frame.state.is_body_over());
    }
}
