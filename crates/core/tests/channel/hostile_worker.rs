//! A worker that sends anything at all: its link ends with a bad frame or takes no notice, and nobody else is hurt.

use std::sync::LazyLock;

use proptest::prelude::*;
use prost::Message;
use samovar_core::channel::frame::{Descriptor, Kind, STEP, shm_reference};
use samovar_core::channel::proto;
use samovar_core::channel::transport::Signature;
use samovar_core::config::TransportKind;
use samovar_core::tensor::{Datatype, Tensor, byte_size, count_bytes_elements, elements};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use crate::acts::{Act, act, perform};
use crate::harness::*;
use crate::raw::RawWorker;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// An honest worker on the same runtime, and the number of its next call.
static NEIGHBOUR: LazyLock<Mutex<(Engine, u64)>> = LazyLock::new(|| {
    let (engine, worker) = RUNTIME.block_on(pair(TransportKind::Shm, byte_signature()));
    worker.echo_all();
    Mutex::new((engine, 0))
});

/// Look at every byte.
fn check(tensor: &Tensor) {
    match tensor.datatype.size() {
        Some(_) => assert_eq!(byte_size(tensor.datatype, &tensor.shape), Some(tensor.data.len() as u64)),
        None => assert_eq!(count_bytes_elements(&tensor.data), elements(&tensor.shape)),
    }
    let _ = tensor.data.iter().map(|byte| u64::from(*byte)).sum::<u64>();
}

async fn attack(kind: TransportKind, signature: Signature, acts: Vec<Act>) {
    let (mut engine, socket) = Engine::new(kind, signature);
    let connecting = move || {
        let mut worker = RawWorker::connect(socket);
        if worker.page.is_some() {
            worker.receive_memory();
        }
        worker
    };
    let worker = tokio::task::spawn_blocking(connecting).await.unwrap();
    let acting = tokio::task::spawn_blocking(move || {
        acts.iter().for_each(|act| perform(&worker, act));
        worker
    });
    // Calls at the same time: their way down may be broken too.
    for call in 0..3 {
        let _ = engine.link.call(bytes_call(call, pattern(call, 100)));
    }
    let worker = acting.await.unwrap();
    for call in 0..4 {
        let _ = (engine.link.revoke(call), engine.link.has_started(call));
        engine.link.credit(call);
        engine.link.cancel(call);
        let _ = engine.link.call(bytes_call(call + 10, "more"));
    }
    drop(worker);
    let outcome = engine.outcome().await;
    while let Some(end) = engine.try_end() {
        end.result.iter().flat_map(|piece| &piece.tensors).for_each(check);
    }
    while let Some(heard) = engine.try_heard() {
        match heard {
            Heard::Part(_, piece) => piece.tensors.iter().for_each(check),
            Heard::Called(step) => {
                assert!(step.number & STEP != 0 && step.target.names.len() == step.inputs.len());
                step.inputs.iter().for_each(check);
            }
            Heard::Dropped(step) => assert!(step & STEP != 0),
            Heard::Credit(..) => {}
        }
    }
    if let Err(fault) = outcome {
        assert!(fault.0.len() < 2_000, "a short reason");
    }
}

async fn call_neighbour() {
    let mut neighbour = NEIGHBOUR.lock().await;
    neighbour.1 += 1;
    let call = neighbour.1;
    neighbour.0.link.call(bytes_call(call, pattern(call, 500))).unwrap();
    assert!(neighbour.0.outputs_of(call).await[0].data == pattern(call, 500));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_hostile_worker_hurts_nobody(
        acts in prop::collection::vec(act(), 1..20), is_fast in any::<bool>(), is_inline in prop::bool::weighted(0.2)
    ) {
        LazyLock::force(&NEIGHBOUR);
        let kind = if is_inline { TransportKind::Inline } else { TransportKind::Shm };
        let signature = match is_fast {
            true => echoing(&[(Datatype::Fp32, &[])]),
            false => echoing(&[(Datatype::Fp32, &[-1]), (Datatype::Bytes, &[1])]),
        };
        RUNTIME.block_on(async {
            attack(kind, signature, acts).await;
            call_neighbour().await;
        });
    }
}

/// Each of these ends the link.
#[test]
fn frames_that_no_worker_may_send_end_its_link() {
    let end = |change: fn(&mut Descriptor)| {
        let mut descriptor = Descriptor::new(Kind::End, 1);
        (descriptor.segment, descriptor.metadata_length) = (1, 10);
        change(&mut descriptor);
        Act::Push(descriptor)
    };
    let huge = Descriptor { metadata_length: (1 << 20) + 1, ..Descriptor::new(Kind::End, 1) };
    let elsewhere = shm_reference((1, 0, 0), 4, Datatype::Fp32, &[1]);
    let answer = Descriptor { segment: 1, generation: 1, tensor_count: 1, ..Descriptor::new(Kind::End, 1) };
    let target = proto::Target { names: vec!["x".into()], ..proto::Target::default() };
    let call = proto::Call { target: Some(target), ..proto::Call::default() }.encode_to_vec();
    let misnamed = Descriptor { metadata_length: call.len() as u32, ..Descriptor::new(Kind::Call, STEP | 1) };
    let cases: Vec<(&str, Act)> = vec![
        ("outside of the range", Act::Answer(answer, vec![elsewhere])),
        ("none of 1 to 10", Act::PushBytes(vec![0; 64])),
        ("was not granted", end(|descriptor| descriptor.segment = 7)),
        ("outside", end(|descriptor| descriptor.offset = u32::MAX)),
        ("outside", end(|descriptor| (descriptor.offset, descriptor.metadata_length) = (65_535, 65))),
        (
            "outside",
            end(|d| {
                (d.flags, d.tensor_count, d.tensor_offset, d.tensor_length, d.rows, d.datatype, d.metadata_length) =
                    (1, 1, 65_535, 68, 17, 11, 0)
            }),
        ),
        (
            "do not hold",
            end(|d| {
                (d.flags, d.tensor_count, d.tensor_length, d.rows, d.datatype, d.metadata_length) = (1, 1, 8, 3, 11, 0)
            }),
        ),
        ("disagree", end(|descriptor| (descriptor.flags, descriptor.segment, descriptor.metadata_length) = (4, 0, 0))),
        ("a number of its own", Act::Push(Descriptor::new(Kind::Call, 1))),
        ("a number of its own", Act::Push(Descriptor::new(Kind::Call, STEP | 1))),
        ("1 names for 0 inputs", Act::Frame(misnamed, call)),
        ("from a worker", Act::Push(Descriptor::new(Kind::Cancel, 1))),
        ("from a worker", Act::Push(Descriptor::new(Kind::Tell, 1))),
        ("holds nothing", Act::Push(Descriptor::new(Kind::Release, 1))),
        ("a number of its own", Act::Frame(Descriptor::new(Kind::Call, 1), Vec::new())),
        ("a number of its own", Act::Frame(Descriptor::new(Kind::Call, STEP | 1), Vec::new())),
        ("from a worker", Act::Frame(Descriptor::new(Kind::Ask, 1), Vec::new())),
        ("metadata of", Act::Bytes(huge.encode().to_vec())),
        ("unread entries", Act::Word(crate::raw::UP, 257)),
    ];
    for (reason, act) in cases {
        let outcome = RUNTIME.block_on(async {
            let (mut engine, socket) = Engine::new(TransportKind::Shm, echoing(&[(Datatype::Fp32, &[])]));
            tokio::task::spawn_blocking(move || {
                let mut worker = RawWorker::connect(socket);
                worker.receive_memory();
                perform(&worker, &act);
                if let Some(page) = &worker.page {
                    page.wake_peer();
                }
                // Stay until the engine has had enough.
                while samovar_core::channel::socket::receive(&worker.socket).is_ok() {}
            });
            engine.outcome().await
        });
        let fault = outcome.expect_err(reason);
        assert!(fault.0.contains(reason), "{fault}, wanted {reason:?}");
    }
}

/// Counters of the ring that only the engine's writing end reads.
#[test]
fn a_worker_that_breaks_the_ring_to_it_is_ended() {
    RUNTIME.block_on(async {
        let (mut engine, socket) = Engine::new(TransportKind::Shm, byte_signature());
        let worker = tokio::task::spawn_blocking(move || RawWorker::connect(socket)).await.unwrap();
        worker.page.as_ref().unwrap().set(crate::raw::TAKEN, 5);
        engine.link.call(bytes_call(1, "a")).unwrap();
        assert!(engine.outcome().await.unwrap_err().0.contains("unread entries"));
        assert!(engine.link.has_started(1), "nobody can tell, so it counts as begun");
    });
}
