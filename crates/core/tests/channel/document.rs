//! The worked example of `docs/channel.md` is what the code sends.

use std::fmt::Write;

use prost::Message;
use samovar_core::channel::exports::MIN_BYTES;
use samovar_core::channel::frame::{Descriptor, FLAG_LAST, INITIAL_CREDIT, Kind, STEP};
use samovar_core::channel::transport::Gather;
use samovar_core::channel::worker::{Incoming, Output};
use samovar_core::channel::{ALIGNMENT, proto};
use samovar_core::config::TransportKind;
use samovar_core::tensor::Datatype;

use crate::harness::*;
use crate::raw::{CONTROL, DESCRIPTORS, ENTRIES, RawEngine, RawWorker, STATES, TAKEN, UP, WAITING};

const DOCUMENT: &str = include_str!("../../../../docs/channel.md");

/// Sixteen bytes a line, the way `xxd` groups them by four.
fn dump(title: &str, bytes: &[u8]) -> String {
    let mut text = format!("{title}\n");
    for (line, chunk) in bytes.chunks(16).enumerate() {
        let words: Vec<_> = chunk
            .chunks(4)
            .map(|word| {
                word.iter().fold(String::new(), |mut hex, byte| {
                    let _ = write!(hex, "{byte:02x}");
                    hex
                })
            })
            .collect();
        let _ = writeln!(text, "  {:02x}  {}", line * 16, words.join(" "));
    }
    text
}

/// The document must hold this; else the message is what it should hold.
fn assert_documented(text: &str) {
    assert!(DOCUMENT.contains(text), "docs/channel.md lacks:\n{text}");
}

fn floats(values: [f32; 3]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_call_is_documented() {
    let signature = echoing(&[(Datatype::Fp32, &[3])]);
    let (engine, socket) = Engine::new(TransportKind::Shm, signature.clone());
    let mut worker = tokio::task::spawn_blocking(move || RawWorker::connect(socket)).await.unwrap();
    let input = Gather { datatype: Datatype::Fp32, shape: vec![1, 3], pieces: vec![floats([1.0, 2.0, 3.0]).into()] };
    let mut call = out_call(7, &signature, vec![input]);
    call.deadline = 90_000_000_000;
    call.items[0].deadline_ns = 90_000_000_000;
    engine.link.call(call).unwrap();
    let descriptor = worker.page.as_ref().unwrap().pushed_by_peer(0);
    let worker = tokio::task::spawn_blocking(move || {
        worker.receive_memory();
        worker
    });
    let worker = worker.await.unwrap();
    let fields = Descriptor::decode(&descriptor).unwrap();
    let range = worker.segments[&fields.segment].read(0, 64 + 12).unwrap();
    assert_documented(&dump("CALL, descriptor", &descriptor));
    assert_documented(&dump("CALL, metadata", &range[..fields.metadata_length as usize]));
    assert_documented(&dump("CALL, tensor", &range[64..]));
    engine.close();
}

#[test]
fn the_example_end_is_documented() {
    let (engine, socket) = RawEngine::new(TransportKind::Shm);
    let worker = Worker::connect(socket);
    let page = engine.page.as_ref().unwrap();
    let spec = r#"{"name": "x", "datatype": "FP32", "dims": [3]}"#;
    let body = format!(r#"{{"inputs": [{spec}], "outputs": [{spec}], "batch_axis": true}}"#);
    let call = proto::Call::default().encode_to_vec();
    engine.grant(1, false, &call);
    let answers = engine.grant(2, true, b"");
    engine.send(Kind::Ask, 1, &proto::Ask { verb: "load".into(), body });
    assert_eq!(worker.next_ask().1, "load");
    page.push(&Descriptor { segment: 1, generation: 1, ..Descriptor::new(Kind::Call, 7) }.encode(), 1);
    let Some(Incoming::Call(frame)) = worker.next() else { panic!("a call was sent") };
    let data = floats([2.0, 4.0, 6.0]);
    worker.end.finish(frame, &[Output { datatype: Datatype::Fp32, shape: vec![1, 3], data: &data }]);
    let mut descriptor = page.pushed_by_peer(0);
    assert_ne!(descriptor[24..32], [0; 8], "when it began");
    descriptor[24..32].fill(0);
    assert_documented(&dump("END, descriptor", &descriptor));
    assert_documented(&dump("END, tensor", answers.read(0, 12).unwrap()));
}

#[test]
fn the_example_failure_is_documented() {
    let failure = proto::Failure { class_name: "ValueError".into(), message: "no plate".into(), ..Default::default() };
    let end = proto::End { failure: Some(failure), ..proto::End::default() };
    assert_documented(&dump("END, metadata of a failure", &end.encode_to_vec()));
}

/// The offsets that the raw ends of these tests use, and so proved, are those of the document.
#[test]
fn the_control_page_is_documented() {
    let words = [("taken", TAKEN), ("waiting", WAITING), ("entries", ENTRIES), ("states", STATES)];
    for (name, at) in words.into_iter().chain([("descriptors", DESCRIPTORS)]) {
        assert_documented(&format!("| {at} | {name} |"));
    }
    assert_documented(&format!("at {UP}"));
    assert_documented(&format!("{CONTROL} bytes"));
}

#[test]
fn every_kind_is_documented_under_its_number() {
    for kind in Kind::ALL {
        assert_documented(&format!("| {} | {} |", kind as u8, format!("{kind:?}").to_uppercase()));
    }
}

#[test]
fn the_numbers_of_streams_steps_and_loans_are_documented() {
    assert_documented(&format!("**{INITIAL_CREDIT}** pieces"));
    assert_documented(&format!("{} KiB, starts at a\nmultiple of {ALIGNMENT}", MIN_BYTES >> 10));
    assert_documented(&format!("bit {} LAST", FLAG_LAST.trailing_zeros()));
    assert!(STEP.trailing_zeros() == 63 && DOCUMENT.contains("top bit (2⁶³)"));
}
