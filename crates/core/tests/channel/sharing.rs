//! One worker with several instances: whose frames are whose, whose turn it is, and what ran at its end.

use std::sync::Arc;
use std::time::Duration;

use samovar_core::channel::engine::{EndFrame, Errand, Sink, StepFrame};
use samovar_core::channel::frame::BadFrame;
use samovar_core::channel::transport::{OutCall, Signature};
use samovar_core::config::TransportKind;
use samovar_core::request::Piece;
use samovar_core::tensor::Datatype;
use tokio::sync::mpsc;

use crate::harness::*;

const KINDS: [TransportKind; 2] = [TransportKind::Shm, TransportKind::Inline];

/// Hears the ends of one instance.
#[derive(Debug)]
struct Ends(u32, mpsc::UnboundedSender<(u32, u64, bool)>);

impl Sink for Ends {
    fn holds(&self, _call: u64) -> bool {
        true
    }

    fn part(&self, _call: u64, _piece: Piece) -> Result<(), BadFrame> {
        Ok(())
    }

    fn ended(&self, end: EndFrame) -> Result<(), BadFrame> {
        let _ = self.1.send((self.0, end.call, end.result.is_ok()));
        Ok(())
    }

    fn credited(&self, _call: u64, _pieces: u32) -> Result<(), BadFrame> {
        Ok(())
    }

    fn called(&self, _step: StepFrame) -> Result<(), BadFrame> {
        Ok(())
    }

    fn dropped(&self, _step: u64) {}

    fn abandoned(&self, _call: u64) {}

    fn closed(&self) {}
}

struct Shared {
    engine: Engine,
    worker: Worker,
    ends: mpsc::UnboundedReceiver<(u32, u64, bool)>,
}

fn signatures() -> [(u32, Signature); 2] {
    [(1, echoing(&[(Datatype::Fp32, &[1])])), (2, echoing(&[(Datatype::Uint8, &[2])]))]
}

impl Shared {
    /// Instance 1 takes one float per row, instance 2 two bytes.
    async fn new(kind: TransportKind) -> Self {
        let (engine, socket) = Engine::new(kind, byte_signature());
        let worker = tokio::task::spawn_blocking(|| Worker::connect(socket)).await.unwrap();
        let (sender, ends) = mpsc::unbounded_channel();
        engine.link.share();
        for (number, signature) in signatures() {
            let errand = engine.link.errand().await.unwrap();
            engine.link.attach(number, Arc::new(Ends(number, sender.clone())), signature.clone());
            let mut body: serde_json::Value = serde_json::from_str(&load_body(&signature, false)).unwrap();
            body["instance"] = number.into();
            let loader = worker.clone();
            let answer = tokio::task::spawn_blocking(move || {
                let (number, ..) = loader.next_ask();
                loader.end.tell(number, true, "{}".into());
            });
            assert!(engine.link.ask("load", body.to_string()).await.unwrap().ok);
            answer.await.unwrap();
            drop(errand);
        }
        Self { engine, worker, ends }
    }

    fn call(&self, number: u64, instance: u32) {
        let (_, signature) = &signatures()[instance as usize - 1];
        let input = match instance {
            1 => gather(Datatype::Fp32, &[1, 1], &[0; 4][..]),
            _ => gather(Datatype::Uint8, &[1, 2], &b"ab"[..]),
        };
        self.engine.link.call(OutCall { instance, ..out_call(number, signature, vec![input]) }).unwrap();
    }

    /// The worker answers the next call, which must be this one.
    async fn answer(&mut self, number: u64, instance: u32) {
        let worker = self.worker.clone();
        let call = tokio::task::spawn_blocking(move || worker.next_call()).await.unwrap();
        assert_eq!((call.call, call.instance), (number, instance));
        self.worker.echo(call);
        let end = tokio::time::timeout(Duration::from_secs(20), self.ends.recv()).await.unwrap();
        assert_eq!(end, Some((instance, number, true)));
    }

    fn begun(&self, numbers: impl IntoIterator<Item = u64>) -> Vec<u64> {
        numbers.into_iter().filter(|number| self.engine.link.has_started(*number)).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_take_turns_and_one_call_runs() {
    for kind in KINDS {
        let mut shared = Shared::new(kind).await;
        for (number, instance) in [(1, 1), (2, 2), (3, 1), (4, 2)] {
            shared.call(number, instance);
        }
        let worker = shared.worker.clone();
        let first = tokio::task::spawn_blocking(move || worker.next_call()).await.unwrap();
        assert_eq!((first.call, shared.begun(1..=4)), (1, vec![1]));
        assert!(shared.engine.link.revoke(3), "it waits in the engine");
        shared.worker.echo(first);
        assert_eq!(shared.ends.recv().await, Some((1, 1, true)));
        shared.answer(2, 2).await;
        shared.answer(4, 2).await;
        assert_eq!(shared.begun(1..=4), Vec::<u64>::new());
        shared.engine.close();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_or_unload_goes_alone() {
    for kind in KINDS {
        let mut shared = Shared::new(kind).await;
        shared.call(1, 1);
        let link = Arc::clone(&shared.engine.link);
        let waiting = tokio::spawn(async move { link.errand().await });
        shared.answer(1, 1).await;
        let errand: Option<Errand> = waiting.await.unwrap().unwrap();
        assert!(errand.is_some());
        shared.call(2, 2);
        read_all(&shared.engine.link, &shared.worker).await; // which fails where a call has come
        assert_eq!(shared.engine.link.last_seen(), (true, true));
        drop(errand);
        shared.answer(2, 2).await;
        assert_eq!(shared.engine.link.last_seen(), (false, true));
        shared.engine.close();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_at_the_end_is_known_and_nobody_waits_any_more() {
    for kind in KINDS {
        let mut shared = Shared::new(kind).await;
        shared.call(1, 1);
        shared.call(2, 2);
        let link = Arc::clone(&shared.engine.link);
        let waiting = tokio::spawn(async move { link.errand().await.map(|_| ()) });
        let worker = shared.worker.clone();
        let held = tokio::task::spawn_blocking(move || worker.next_call()).await.unwrap();
        shared.worker.close_socket();
        shared.engine.announce_death();
        shared.engine.outcome().await.unwrap();
        assert_eq!((held.call, shared.begun(1..=2)), (1, vec![1]));
        assert_eq!(shared.engine.link.last_seen(), (true, false));
        assert!(waiting.await.unwrap().is_err());
        assert!(shared.engine.link.errand().await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_left_is_heard_no_more() {
    for kind in KINDS {
        let mut shared = Shared::new(kind).await;
        shared.call(1, 2);
        shared.engine.link.detach(2);
        let worker = shared.worker.clone();
        tokio::task::spawn_blocking(move || worker.echo(worker.next_call())).await.unwrap();
        let BadFrame(fault) = shared.engine.outcome().await.unwrap_err();
        assert!(fault.contains("End of instance 2, which the worker does not hold"), "{fault}");
    }
}
