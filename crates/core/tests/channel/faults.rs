//! Calls that never begin, ends of either side, and limits.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use samovar_core::channel::HEARTBEAT;
use samovar_core::channel::engine::{EndFrame, Link, OWN, Sink, StepFrame, WorkerGone};
use samovar_core::channel::frame::{BadFrame, Descriptor, Kind, MAX_METADATA_BYTES};
use samovar_core::channel::proto::{self, failure};
use samovar_core::channel::socket::{self, Outgoing};
use samovar_core::clock::now;
use samovar_core::config::TransportKind;
use samovar_core::panics::{catch, text};
use samovar_core::request::Piece;

use crate::harness::*;

on_both_transports!(
    nothing_begins_after_its_deadline,
    a_running_call_hears_that_it_was_cancelled,
    a_cancellation_before_the_worker_looks_is_not_lost,
    the_last_end_is_delivered_after_the_workers_end,
    the_last_end_is_delivered_when_a_child_holds_the_socket,
    the_worker_hears_that_the_engine_is_gone,
    questions_to_a_dead_worker_end,
    a_worker_lives_when_its_interpreter_does_and_hears_the_engine_meanwhile,
    a_worker_of_another_format_is_refused,
    a_worker_that_reads_nothing_is_ended,
    a_call_that_no_frame_can_carry_is_refused_and_costs_nobody,
    a_failure_with_an_endless_text_is_shortened,
    a_panic_over_a_frame_ends_its_link_and_its_questions,
);

async fn nothing_begins_after_its_deadline(kind: TransportKind) {
    let (mut engine, worker) = pair(kind, byte_signature()).await;
    let mut late = bytes_call(1, "late");
    late.deadline = now() + 20_000_000;
    let deadline = late.deadline;
    engine.link.call(late).unwrap();
    while now() < deadline {
        std::thread::yield_now();
    }
    engine.link.call(bytes_call(2, "in time")).unwrap();
    let call = worker.next_call();
    assert_eq!(call.call, 2);
    worker.echo(call);
    let (first, second) = (engine.end().await, engine.end().await);
    let (late, other) = if first.call == 1 { (first, second) } else { (second, first) };
    assert_eq!(late.result.unwrap_err().kind(), failure::Kind::NotStarted);
    assert!(other.result.is_ok());
    assert_eq!(engine.link.request_bytes(), 0);
    engine.close();
}

async fn a_running_call_hears_that_it_was_cancelled(kind: TransportKind) {
    let (mut engine, worker) = pair(kind, byte_signature()).await;
    engine.link.call(bytes_call(1, "a")).unwrap();
    engine.link.call(bytes_call(2, "b")).unwrap();
    let (first, second) = (worker.next_call(), worker.next_call());
    engine.link.cancel(2);
    read_all(&engine.link, &worker).await;
    let flags = [&first, &second].map(|call| call.state.is_cancelled());
    assert_eq!((flags, worker.end.take_news()), ([false, true], vec![2]));
    worker.echo(second);
    worker.echo(first);
    assert_eq!((engine.end().await.call, engine.end().await.call), (2, 1));
    engine.close();
}

/// May the interpreter run, per transport?
static IS_FREE: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];

fn pulse<const TRANSPORT: usize>() {
    until(|| IS_FREE[TRANSPORT].load(Ordering::Acquire));
}

async fn a_worker_lives_when_its_interpreter_does_and_hears_the_engine_meanwhile(kind: TransportKind) {
    let (engine, worker) = pair(kind, byte_signature()).await;
    assert!(engine.link.ask(HEARTBEAT, "{}".into()).await.unwrap().ok, "nothing holds it up");
    let (pulse, transport): (fn(), _) = if kind == TransportKind::Shm { (pulse::<0>, 0) } else { (pulse::<1>, 1) };
    worker.end.watch_pulse(pulse);
    engine.link.call(bytes_call(1, "a")).unwrap();
    let call = worker.next_call();
    let asking = Arc::clone(&engine.link);
    let mut sign = tokio::spawn(async move { asking.ask(HEARTBEAT, "{}".into()).await });
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut sign).await.is_err(), "it does not run");
    engine.link.cancel(1);
    until(|| call.state.is_cancelled());
    IS_FREE[transport].store(true, Ordering::Release);
    assert!(tokio::time::timeout(LIMIT, sign).await.expect("a sign of life").unwrap().unwrap().ok);
    engine.close();
}

/// Two calls, of which the second waits behind the first in the worker; only a ring lets the engine take it back.
async fn a_cancellation_before_the_worker_looks_is_not_lost(kind: TransportKind) {
    let (mut engine, worker) = pair(kind, byte_signature()).await;
    engine.link.call(bytes_call(1, "a")).unwrap();
    engine.link.call(bytes_call(2, "b")).unwrap();
    let first = worker.next_call();
    assert_eq!(first.call, 1);
    if engine.link.revoke(2) {
        assert_eq!(kind, TransportKind::Shm);
        assert!(!engine.link.revoke(2));
    } else {
        assert_eq!(kind, TransportKind::Inline);
        engine.link.cancel(2);
    }
    engine.link.call(bytes_call(3, "c")).unwrap();
    let began = Instant::now();
    while kind == TransportKind::Inline && worker.end.take_news().is_empty() {
        assert!(began.elapsed() < LIMIT);
        std::thread::yield_now();
    }
    let third = worker.next_call();
    assert_eq!(third.call, 3);
    worker.echo(first);
    worker.echo(third);
    let mut ended: Vec<_> = vec![engine.end().await, engine.end().await];
    if kind == TransportKind::Inline {
        ended.push(engine.end().await);
    }
    ended.sort_by_key(|end| end.call);
    let not_started: Vec<_> = ended.iter().filter(|end| end.result.is_err()).map(|end| end.call).collect();
    assert_eq!(not_started, if kind == TransportKind::Inline { vec![2] } else { Vec::new() });
    assert_eq!(engine.link.request_bytes(), 0);
    engine.close();
}

async fn the_last_end_is_delivered_after_the_workers_end(kind: TransportKind) {
    for _ in 0..20 {
        let (mut engine, worker) = pair(kind, byte_signature()).await;
        engine.link.call(bytes_call(1, "last")).unwrap();
        worker.echo(worker.next_call());
        worker.close_socket();
        assert_eq!(engine.outcome().await, Ok(()));
        assert!(engine.try_end().expect("the END is not lost").result.is_ok());
    }
}

async fn the_last_end_is_delivered_when_a_child_holds_the_socket(kind: TransportKind) {
    let (mut engine, worker) = pair(kind, byte_signature()).await;
    engine.link.call(bytes_call(1, "last")).unwrap();
    worker.echo(worker.next_call());
    engine.announce_death();
    assert_eq!(engine.outcome().await, Ok(()));
    assert!(engine.try_end().expect("the END is not lost").result.is_ok());
}

async fn the_worker_hears_that_the_engine_is_gone(kind: TransportKind) {
    let (engine, worker) = pair(kind, byte_signature()).await;
    engine.close();
    assert!(tokio::task::spawn_blocking(move || worker.next()).await.unwrap().is_none());
}

async fn questions_to_a_dead_worker_end(kind: TransportKind) {
    let (mut engine, worker) = pair(kind, byte_signature()).await;
    let link = Arc::clone(&engine.link);
    let open = tokio::spawn(async move { link.ask("ping", String::new()).await });
    let asked = worker.clone();
    tokio::task::spawn_blocking(move || asked.next_ask()).await.unwrap();
    worker.close_socket();
    assert_eq!(engine.outcome().await, Ok(()));
    assert_eq!(open.await.unwrap(), Err(WorkerGone));
    let later = tokio::time::timeout(LIMIT, engine.link.ask("ping", String::new())).await;
    assert_eq!(later.expect("a question after the end is answered at once"), Err(WorkerGone));
}

async fn a_worker_of_another_format_is_refused(kind: TransportKind) {
    let (mut engine, socket) = Engine::new(kind, byte_signature());
    let hello = proto::Hello { version: 999, ..proto::Hello::default() };
    socket::send(&socket, &Outgoing::new(Descriptor::new(Kind::Hello, 0), &hello)).unwrap();
    let refusal = engine.outcome().await.unwrap_err().to_string();
    assert!(refusal.contains("999") && refusal.contains("install"), "{refusal}");
}

async fn a_worker_that_reads_nothing_is_ended(kind: TransportKind) {
    let (mut engine, _socket) = Engine::new(kind, byte_signature());
    for call in 0..40_000 {
        engine.link.cancel(call);
    }
    assert!(engine.outcome().await.is_err());
}

async fn a_call_that_no_frame_can_carry_is_refused_and_costs_nobody(kind: TransportKind) {
    let (mut engine, worker) = pair(kind, byte_signature()).await;
    let mut call = bytes_call(1, "a");
    call.items[0].id = "x".repeat(MAX_METADATA_BYTES as usize);
    assert!(engine.link.call(call).is_err());
    assert_eq!(engine.link.request_bytes(), 0);
    engine.link.call(bytes_call(2, "b")).unwrap();
    worker.echo(worker.next_call());
    engine.outputs_of(2).await;
    engine.close();
}

async fn a_failure_with_an_endless_text_is_shortened(kind: TransportKind) {
    let (mut engine, worker) = pair(kind, byte_signature()).await;
    engine.link.call(bytes_call(1, "a")).unwrap();
    let endless = "ü".repeat(3 << 20);
    let failure = proto::Failure {
        class_name: endless.clone(),
        message: endless.clone(),
        traceback: endless,
        ..proto::Failure::default()
    };
    worker.end.fail(worker.next_call(), failure);
    let failure = engine.end().await.result.unwrap_err();
    assert!(failure.message.len() > 100_000 && failure.message.chars().all(|letter| letter == 'ü'));
    engine.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_revoked_or_begun_never_both() {
    let (mut engine, worker) = pair(TransportKind::Shm, byte_signature()).await;
    let taker = worker.clone();
    let taking = std::thread::spawn(move || {
        let mut taken = Vec::new();
        while let Some(samovar_core::channel::worker::Incoming::Call(call)) = taker.next() {
            taken.push(call.call);
            taker.echo(call);
        }
        taken
    });
    let mut begun = Vec::new();
    for call in 0..2_000_u64 {
        engine.link.call(bytes_call(call, pattern(call, 64))).unwrap();
        (0..call % 50).for_each(|_| std::hint::spin_loop());
        if engine.link.revoke(call) {
            continue;
        }
        assert!(engine.link.has_started(call));
        assert!(engine.outputs_of(call).await[0].data == pattern(call, 64));
        begun.push(call);
    }
    engine.link.end_worker();
    assert_eq!(taking.join().unwrap(), begun);
    assert_eq!(engine.link.request_bytes(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_counts_as_begun_once_the_worker_has_claimed_it() {
    let (engine, worker) = pair(TransportKind::Shm, byte_signature()).await;
    engine.link.call(bytes_call(1, "a")).unwrap();
    assert!(!engine.link.has_started(1));
    let call = worker.next_call();
    assert!(engine.link.has_started(1) && !engine.link.revoke(1));
    worker.echo(call);
    engine.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_beyond_a_full_ring_go_through_the_socket() {
    let (mut engine, worker) = pair(TransportKind::Shm, byte_signature()).await;
    for call in 0..1_000 {
        let mut sent = bytes_call(call, pattern(call, 40));
        if call == 999 {
            sent.deadline = 1;
        }
        engine.link.call(sent).unwrap();
    }
    engine.link.cancel(998);
    let began = Instant::now();
    while worker.end.take_news() != [998] {
        assert!(began.elapsed() < LIMIT);
        std::thread::yield_now();
    }
    let echo = worker.echo_all();
    let mut ended = Vec::new();
    for _ in 0..1_000 {
        let end = engine.end().await;
        ended.push(end.call);
        match end.result {
            Ok(piece) => assert!(end.call < 998 && piece.tensors[0].data == pattern(end.call, 40)),
            Err(failure) => assert!(end.call >= 998 && failure.kind() == failure::Kind::NotStarted),
        }
    }
    ended.sort_unstable();
    assert!(ended.iter().copied().eq(0..1_000));
    engine.link.end_worker();
    echo.join().unwrap();
    assert_eq!(engine.link.request_bytes(), 0);
}

/// Cannot deal with any answer.
#[derive(Debug, Default)]
struct Failing(AtomicBool);

impl Sink for Failing {
    fn holds(&self, _call: u64) -> bool {
        true
    }

    fn part(&self, _call: u64, _piece: Piece) -> Result<(), BadFrame> {
        Ok(())
    }

    fn ended(&self, end: EndFrame) -> Result<(), BadFrame> {
        panic!("what is the end of call {}?", end.call)
    }

    fn credited(&self, _call: u64, _pieces: u32) -> Result<(), BadFrame> {
        Ok(())
    }

    fn called(&self, _step: StepFrame) -> Result<(), BadFrame> {
        Ok(())
    }

    fn dropped(&self, _step: u64) {}

    fn abandoned(&self, _call: u64) {}

    fn closed(&self) {
        self.0.store(true, Ordering::Release);
    }
}

async fn a_panic_over_a_frame_ends_its_link_and_its_questions(kind: TransportKind) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (link, inbound) = Link::new(ours, kind).unwrap();
    let sink = Arc::new(Failing::default());
    link.attach(OWN, Arc::clone(&sink) as Arc<dyn Sink>, byte_signature());
    let runner = Arc::clone(&link);
    let run = tokio::spawn(async move { catch(runner.run(inbound, std::future::pending())).await });
    let worker = tokio::task::spawn_blocking(|| Worker::connect(theirs)).await.unwrap();
    let asking = Arc::clone(&link);
    let asked = tokio::spawn(async move { asking.ask("load", load_body(&byte_signature(), false)).await });
    let reader = worker.clone();
    tokio::task::spawn_blocking(move || reader.next_ask()).await.unwrap();
    link.call(bytes_call(1, "a")).unwrap();
    let call = tokio::task::spawn_blocking({
        let worker = worker.clone();
        move || worker.next_call()
    });
    worker.echo(call.await.unwrap());
    let panic = tokio::time::timeout(LIMIT, run).await.expect("it ends").unwrap().unwrap_err();
    assert_eq!(text(&*panic), "what is the end of call 1?");
    assert_eq!(asked.await.unwrap().unwrap_err(), WorkerGone);
    assert!(sink.0.load(Ordering::Acquire));
}
