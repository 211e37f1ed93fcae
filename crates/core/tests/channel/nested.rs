//! Steps of versions: whose time and name they bear, where they wait, and with whom they end.

use std::sync::Arc;

use samovar_core::channel::proto;
use samovar_core::channel::worker::{CallFrame, Step};
use samovar_core::error::Code;
use samovar_core::version::Version;

use crate::stage::*;

/// `a`, which calls, and `b`, which is called.
async fn pair() -> (Stage, Stage) {
    let names = Arc::default();
    (Stage::new(&names, spec("a")).await, Stage::new(&names, spec("b")).await)
}

/// A step of `a` on behalf of a request, which now runs in `b`.
async fn running(a: &Stage, b: &Stage) -> (CallFrame, Arc<Step>, CallFrame) {
    let parent = a.next_call().await;
    let step = a.step("b", parent.call).await;
    (parent, step, b.next_call().await)
}

async fn code_of(step: &Arc<Step>) -> String {
    ended(step).await.unwrap_err().code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_runs_as_a_request_of_its_caller() {
    let (a, b) = pair().await;
    let trace: Arc<str> = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into();
    let (version, mut sent) = (Arc::clone(&a.version), request("r7"));
    (sent.trace, sent.timeout) = (Some(Arc::clone(&trace)), Some(9_000_000_000));
    let limit = sent.arrived + 9_000_000_000;
    let client = tokio::spawn(async move { version.infer(sent).await });
    let (parent, step, frame) = running(&a, &b).await;
    let item = &frame.items[0];
    assert_eq!((item.id.as_str(), item.trace.as_str(), frame.inputs[0].data.as_ref()), ("r7", &*trace, &b"abc"[..]));
    assert!(item.deadline_ns <= limit + 1_000_000 && item.deadline_ns > limit - 9_000_000_000);
    b.worker.end.finish(frame, &[flat(b"from b")]);
    assert_eq!(ended(&step).await.unwrap(), b"from b");
    a.worker.end.finish(parent, &[flat(b"from a")]);
    assert_eq!(client.await.unwrap().unwrap().outputs[0].tensor.data.as_ref(), b"from a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_on_behalf_of_nobody_bears_its_callers_name() {
    let (a, b) = pair().await;
    let step = a.step("b", 0).await;
    let frame = b.next_call().await;
    assert_eq!((frame.items[0].id.as_str(), frame.items[0].trace.as_str()), ("a-own", ""));
    b.worker.end.finish(frame, &[flat(b"y")]);
    assert_eq!(ended(&step).await.unwrap(), b"y");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_of_a_step_keeps_its_code() {
    let (a, b) = pair().await;
    let client = a.request("r");
    let (parent, step, frame) = running(&a, &b).await;
    let failure = proto::Failure { class_name: "ValueError".into(), message: "no".into(), ..Default::default() };
    b.worker.end.fail(frame, failure);
    let failure = ended(&step).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.message.contains("ValueError: no")), ("model_error", true));
    a.worker.end.fail(parent, failure);
    let error = client.await.unwrap().unwrap_err();
    assert!(error.code == Code::ModelError && error.message.contains("\"a\"") && error.message.contains("\"b\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_called_is_said_so() {
    let names = Arc::default();
    let (a, _service) = (Stage::new(&names, spec("a")).await, Stage::new(&names, service("s")).await);
    assert_eq!(code_of(&a.step("nobody", 0).await).await, "unknown_model");
    let failure = ended(&a.step("s", 0).await).await.unwrap_err();
    assert!(failure.code == "invalid_input" && failure.message.contains("s.<method>"), "{failure:?}");
    assert_eq!(code_of(&a.step("a", 77).await).await, "cancelled", "no such call runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_comes_back_is_refused() {
    let (a, b) = pair().await;
    let _client = a.request("r");
    let (_parent, _step, frame) = running(&a, &b).await;
    let failure = ended(&b.step("a", frame.call).await).await.unwrap_err();
    assert_eq!(failure.code, "call_cycle");
    assert!(failure.message.contains("a -> b -> a"), "{}", failure.message);
    assert_eq!(code_of(&b.step("b", 0).await).await, "call_cycle", "nor on behalf of nobody");
}

/// Methods wait for the instances of their service: from one to another is a circle too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_calls_its_own_method_is_refused() {
    let names = Arc::default();
    let (s, other) = (Stage::new(&names, service("s")).await, Stage::new(&names, spec("s2")).await);
    let method = s.version.methods().remove(0);
    let _client = tokio::spawn(async move { Version::infer(&method, request("r")).await });
    let parent = s.next_call().await;
    assert_eq!((parent.method.as_str(), parent.inputs[0].data.as_ref()), ("f", &b"abc"[..]));
    assert_eq!(code_of(&s.step("s.f", parent.call).await).await, "call_cycle");
    let _step = s.step("s2", parent.call).await;
    let frame = other.next_call().await;
    assert_eq!(code_of(&other.step("s.f", frame.call).await).await, "call_cycle");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_over_a_step_is_the_steps_error_and_its_worker_serves_on() {
    let stage = Stage::new(&Arc::default(), spec("a")).await;
    assert_eq!(code_of(&stage.step(PANICS, 0).await).await, "internal");
    let request = stage.request("r");
    let call = stage.next_call().await;
    stage.worker.echo(call);
    assert!(request.await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_of_an_admitted_request_waits_where_others_are_refused() {
    let (a, b) = pair().await;
    let busy = b.request("runs");
    let first = b.next_call().await;
    let waiting = b.request("waits");
    until_async(|| b.version.gauges().queue_items == 1).await;
    assert_eq!(b.request("refused").await.unwrap().unwrap_err().code, Code::QueueFull);
    assert_eq!(code_of(&a.step("b", 0).await).await, "queue_full", "nobody admitted it");
    let _client = a.request("r");
    let parent = a.next_call().await;
    let step = a.step("b", parent.call).await;
    until_async(|| b.version.gauges().queue_items == 2).await;
    b.worker.echo(first);
    for _ in 0..2 {
        let next = b.next_call().await;
        b.worker.echo(next);
    }
    assert_eq!(ended(&step).await.unwrap(), b"abc");
    assert!(busy.await.unwrap().is_ok() && waiting.await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_drains_still_runs_steps_of_what_was_admitted() {
    let (a, b) = pair().await;
    let _client = a.request("r");
    let parent = a.next_call().await;
    b.version.close(samovar_core::version::not_ready(&b.version.spec, "drains"), false);
    assert_eq!(b.request("new").await.unwrap().unwrap_err().code, Code::NotReady);
    let step = a.step("b", parent.call).await;
    let frame = b.next_call().await;
    b.worker.echo(frame);
    assert_eq!(ended(&step).await.unwrap(), b"abc");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_goes_away_ends_the_steps_of_the_request() {
    let (a, b) = pair().await;
    let client = a.request("r");
    let (parent, step, frame) = running(&a, &b).await;
    client.abort();
    until_async(|| frame.state.is_cancelled() && parent.state.is_cancelled()).await;
    assert_eq!(code_of(&step).await, "cancelled");
    b.worker.echo(frame);
    a.worker.echo(parent);
    until_async(|| a.version.is_idle() && b.version.is_idle()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_ends_ends_the_steps_that_it_has_left() {
    let (a, b) = pair().await;
    let client = a.request("r");
    let (parent, step, frame) = running(&a, &b).await;
    a.worker.end.finish(parent, &[flat(b"early")]);
    assert!(client.await.unwrap().is_ok());
    until_async(|| frame.state.is_cancelled()).await;
    assert_eq!(code_of(&step).await, "cancelled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_is_given_up_ends_what_runs_for_it() {
    let (a, b) = pair().await;
    let client = a.request("r");
    let (parent, step, frame) = running(&a, &b).await;
    a.worker.end.drop_step(&step);
    until_async(|| frame.state.is_cancelled()).await;
    a.worker.end.finish(parent, &[flat(b"without it")]);
    assert!(client.await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_of_the_caller_ends_its_steps() {
    let (mut a, b) = pair().await;
    let client = a.request("r");
    let (_parent, _step, frame) = running(&a, &b).await;
    a.die().await.unwrap();
    until_async(|| frame.state.is_cancelled()).await;
    b.worker.echo(frame);
    a.revive().await;
    let (parent, step, frame) = running(&a, &b).await;
    b.worker.echo(frame);
    assert_eq!(ended(&step).await.unwrap(), b"abc");
    a.worker.echo(parent);
    assert!(client.await.unwrap().is_ok(), "it was run again");
}
