//! Panics where nobody would see them: of the timer, and between a request and the worker that gets it.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::admission::Admitted;
use crate::channel::engine::OWN;
use crate::channel::frame::{BadFrame, Descriptor, bad};
use crate::channel::outbox::Outbox;
use crate::channel::proto;
use crate::channel::transport::{Fetched, Gather, Message, OutCall, Transport};
use crate::config::TransportKind;
use crate::pending::Accepted;
use crate::tensor::{Datatype, Tensor};
use crate::workers::output::Owner;

fn version(max_queue_delay_ms: f64) -> (Arc<Version>, Arc<Metrics>) {
    let mut spec = VersionSpec::undescribed("m".into(), "1".into());
    spec.batch_axis = true;
    spec.options.max_batch_size = 2;
    spec.options.max_queue_delay_ms = Some(max_queue_delay_ms);
    spec.options.max_queue_items = 8;
    spec.options.max_queue_bytes = 1_000;
    let metrics = Arc::new(Metrics::default());
    let version = Version::new(1, spec, Arc::clone(&metrics), Arc::default(), ExposeErrors::Message);
    version.open();
    (version, metrics)
}

/// A request of one row.
fn admitted(version: &Version, limit: Duration) -> Admitted {
    let deadline = now() + nanos(limit);
    let data = Tensor { datatype: Datatype::Uint8, shape: vec![1], data: Bytes::from_static(b"x") };
    Admitted {
        batch_key: 0,
        bytes: 1,
        start_by: deadline,
        idempotent: true,
        is_admitted: false,
        accepted: Accepted {
            id: "r".into(),
            spec: Arc::clone(&version.spec),
            origin: None,
            method: String::new(),
            http: None,
            inputs: vec![data],
            rows: 1,
            parameters: Vec::new(),
            outputs: Vec::new(),
            trace: None,
            deadline,
            timeout: nanos(limit),
        },
    }
}

/// A way to a worker that fails in the engine.
#[derive(Debug)]
struct Broken;

impl Transport for Broken {
    fn send_call(&self, _outbox: &Outbox, call: OutCall) -> Result<(), BadFrame> {
        panic!("call {} has no place", call.call)
    }

    fn send(&self, _: &Outbox, _: Descriptor, _: Message, _: &[Gather]) -> Result<(), BadFrame> {
        Ok(())
    }

    fn send_bare(&self, _outbox: &Outbox, _descriptor: &Descriptor) {}

    fn revoke(&self, _call: u64) -> bool {
        false
    }

    fn has_started(&self, _call: u64) -> bool {
        true
    }

    fn request_bytes(&self) -> u64 {
        0
    }

    fn ended(&self, _outbox: &Outbox, _call: u64, _is_released: bool) {}

    fn released(&self, _outbox: &Outbox, _descriptor: &Descriptor) -> Result<(), BadFrame> {
        Ok(())
    }

    fn segment(&self, _outbox: &Outbox, _wish: &proto::Segment) -> Result<(), BadFrame> {
        Ok(())
    }

    fn fetch(self: Arc<Self>, _: &Outbox, _: &Descriptor, _: &Signature) -> Result<Fetched, BadFrame> {
        bad("nothing comes")
    }
}

async fn until(mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("it comes true");
}

#[tokio::test]
async fn a_timer_that_panics_is_counted_and_keeps_the_next_deadline() {
    let (version, metrics) = version(20.0);
    let _running = version.submit(admitted(&version, Duration::from_secs(60))).unwrap();
    let instances = {
        let mut core = version.core.lock();
        core.scheduler.instance_up(0);
        std::mem::take(&mut core.instances) // what the scheduler assigns now cannot be found
    };
    version.earlier.notify_one();
    until(|| metrics.panics.get() > 0).await;
    version.core.lock().instances = instances;
    let mut late = version.submit(admitted(&version, Duration::from_millis(20))).unwrap();
    let late = tokio::time::timeout(Duration::from_secs(30), late.whole()).await.expect("it is answered");
    assert_eq!(late.unwrap_err().code, Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_call_that_cannot_be_made_costs_its_request_and_gives_its_slot_back() {
    let (version, metrics) = version(0.0);
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let (mut link, _inbound) = Link::new(ours, TransportKind::Inline).unwrap();
    Arc::get_mut(&mut link).unwrap().set_transport(Arc::new(Broken));
    let owner = Owner { model: "m".into(), version: "1".into(), instance: 0 };
    version.instance_up(0, Seat::own(link, OWN, owner));
    for panics in 1..4 {
        let mut broken = version.submit(admitted(&version, Duration::from_secs(60))).unwrap();
        let broken = tokio::time::timeout(Duration::from_secs(30), broken.whole()).await.expect("it is answered");
        assert_eq!(broken.unwrap_err().code, Code::Internal);
        assert_eq!((version.core.lock().scheduler.running(), metrics.panics.get()), (0, panics));
    }
}
