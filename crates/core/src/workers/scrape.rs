//! What user code in a worker measures: asked at each scrape, remembered while the worker lives.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::instance::parse_failure;
use super::output::Owner;
use crate::channel::engine::Link;
use crate::error::{ECHO_BYTES, excerpt};
use crate::exposition::{Loss, MAX_TEXT_BYTES, Reason};
use crate::metrics::Metrics;

/// How long after its question a scrape waits for a worker: one that is busy in a call answers after the call.
const PATIENCE: Duration = Duration::from_millis(200);

/// The metrics of one worker.
#[derive(Debug)]
pub struct Scrape {
    /// Whose they are.
    pub owner: Owner,
    link: Arc<Link>,
    heard: watch::Sender<Heard>,
    /// What was logged; each once, a scrape comes every few seconds.
    warned: Mutex<HashSet<Warning>>,
}

#[derive(Debug, Default)]
struct Heard {
    /// What the worker told last.
    text: Arc<str>,
    /// When the open question was asked. There is never another beside it: a busy worker finds one, not hundreds.
    asked: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Warning {
    Refused,
    Lost(Reason),
}

/// An answer to the verb `metrics`.
#[derive(serde::Deserialize)]
struct Told {
    text: String,
}

impl Scrape {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(owner: Owner, link: Arc<Link>) -> Arc<Self> {
        Arc::new(Self { owner, link, heard: watch::Sender::default(), warned: Mutex::default() })
    }

    /// Ask the worker, if no question is open. Must run inside the tokio runtime.
    pub fn ask(self: &Arc<Self>, metrics: &Arc<Metrics>) {
        let is_asked = self.heard.send_if_modified(|heard| {
            let is_free = heard.asked.is_none();
            heard.asked.get_or_insert_with(Instant::now);
            is_free
        });
        if is_asked {
            let (scrape, metrics) = (Arc::clone(self), Arc::clone(metrics));
            tokio::spawn(async move {
                // A question that stayed open would be the last one.
                let text = metrics.watch("a worker's metrics are left out", scrape.listen()).await.unwrap_or_default();
                scrape.heard.send_replace(Heard { text: text.into(), asked: None });
            });
        }
    }

    /// The answer to the open question; what was told before where it does not come in time.
    pub async fn text(&self) -> Arc<str> {
        let mut heard = self.heard.subscribe();
        let asked = heard.borrow().asked;
        if let Some(asked) = asked {
            let _ = timeout_at(asked + PATIENCE, heard.wait_for(|heard| heard.asked.is_none())).await;
        }
        Arc::clone(&heard.borrow().text)
    }

    async fn listen(&self) -> String {
        // A worker that has died needs no text: its place forgets it.
        let Ok(tell) = self.link.ask("metrics", "{}".into()).await else { return String::new() };
        let told = serde_json::from_str(&tell.body).ok().filter(|_| tell.ok);
        let Some(Told { mut text }) = told else {
            self.warn(Warning::Refused, || {
                format!("metrics of user code could not be collected: {}", parse_failure(&tell.body).message)
            });
            return String::new();
        };
        // One byte more than is taken, so that it shows that there was more.
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES + 1));
        text
    }

    /// Log what was left out, once per reason.
    pub fn report(&self, loss: &Loss) {
        self.warn(Warning::Lost(loss.reason), || {
            let first = excerpt(&loss.first, ECHO_BYTES);
            format!("samples of user code were left out of /metrics: {}, first {first:?}", loss.reason.explanation())
        });
    }

    fn warn(&self, warning: Warning, text: impl FnOnce() -> String) {
        if self.warned.lock().insert(warning) {
            let Owner { model, version, instance } = &self.owner;
            tracing::warn!(%model, %version, instance, "{}", text());
        }
    }
}
