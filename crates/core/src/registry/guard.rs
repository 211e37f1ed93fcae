//! A version whose one worker lives in the engine's own process, for `make bench-guard`: nothing is counted twice the
//! same when two processes wake each other.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::{Deployed, Registry};
use crate::channel::engine::{Link, OWN, WorkerGone};
use crate::config::VersionSpec;
use crate::life::State;
use crate::version::steps::Directory;
use crate::version::{InstanceSink, Seat};

impl Registry {
    /// Load `spec` into the worker at the other end of `link`, and serve it. Must run inside the tokio runtime.
    #[doc(hidden)]
    pub async fn deploy_into(self: &Arc<Self>, spec: VersionSpec, link: Arc<Link>) -> Result<(), WorkerGone> {
        let version = self.version(self.next_serial.fetch_add(1, Ordering::Relaxed), spec);
        let directory = Arc::clone(self) as Arc<dyn Directory>;
        let sink = Arc::new(InstanceSink::new(Arc::clone(&version), 0, &link, directory));
        link.attach(OWN, sink, version.signature().clone());
        link.ask("load", serde_json::to_string(&*version.spec).unwrap_or_default()).await?;
        version.instance_up(0, Seat::own(link, std::process::id(), version.owner(0)));
        version.open();
        version.enter(State::Ready, "the worker of this process has loaded it", None);
        let _changes = self.incoming.lock();
        self.install(Arc::new(Deployed::new(version, watch::channel(false).0)));
        Ok(())
    }
}
