//! The page of metrics: the engine's own, and those of user code.

use std::sync::Arc;

use samovar_core::exposition::{Loss, Merged, Told, merge};
use samovar_core::workers::output::Owner;
use samovar_core::workers::scrape::Scrape;

use super::DataPlane;

/// A worker's metrics, with what it told.
type Heard = (Arc<Scrape>, Arc<str>);

impl DataPlane {
    /// The metrics in Prometheus text format. Every live worker is asked for those of its user code; what a busy one told
    /// at an earlier scrape stands for what it would tell now.
    pub async fn metrics_text(&self) -> String {
        let scrapes = self.registry.scrapes();
        scrapes.iter().for_each(|scrape| scrape.ask(&self.metrics));
        let mut heard: Vec<Heard> = Vec::new();
        for scrape in scrapes {
            let text = scrape.text().await; // all were asked at once, so all waits end together
            if !text.is_empty() {
                heard.push((scrape, text));
            }
        }
        let own = self.metrics.encode(&self.registry.gauges());
        if heard.is_empty() { own } else { self.merged(own, heard).await }
    }

    async fn merged(&self, own: String, heard: Vec<Heard>) -> String {
        let heard = Arc::new(heard);
        let own = Arc::new(own);
        // Megabytes of many workers would hold up a thread that serves requests.
        let merging = {
            let (own, heard) = (Arc::clone(&own), Arc::clone(&heard));
            tokio::task::spawn_blocking(move || merge_heard(&own, &heard))
        };
        let Ok(page) = merging.await else { return own.to_string() }; // the engine ends
        page.losses.iter().for_each(|loss| self.lost(&heard[loss.worker].0, loss));
        page.text
    }

    fn lost(&self, scrape: &Scrape, loss: &Loss) {
        let labels = &[&*scrape.owner.model, &*scrape.owner.version, loss.reason.name()];
        self.metrics.user_samples_dropped.with_label_values(labels).inc_by(loss.samples);
        scrape.report(loss);
    }
}

fn merge_heard(own: &str, heard: &[Heard]) -> Merged {
    let mut workers = Vec::with_capacity(heard.len());
    for (scrape, text) in heard {
        let Owner { model, version, instance } = &scrape.owner;
        workers.push(Told { model, version, instance: *instance, text });
    }
    merge(own, &workers)
}
