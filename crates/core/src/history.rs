//! What became of all versions, in order and numbered, for whoever watches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::life::LifeEvent;

/// Transitions that are remembered: a reload of a hundred models makes 400.
const TRANSITIONS: usize = 1_024;

/// Something that happened to a version.
#[derive(Clone, Debug, Serialize)]
pub struct Transition {
    /// Its number, from 1.
    pub seq: u64,
    /// Model name.
    pub model: Arc<str>,
    /// Version name.
    pub version: Arc<str>,
    /// When, which state, and why.
    #[serde(flatten)]
    pub event: LifeEvent,
}

/// A look at the history.
#[derive(Clone, Debug, Default, Serialize)]
pub struct News {
    /// What was asked for, oldest first.
    pub events: Vec<Transition>,
    /// Number of the last transition of any version.
    pub last: u64,
}

/// The last transitions of all versions.
#[derive(Debug, Default)]
pub struct History {
    ring: Mutex<Ring>,
    /// Changes with the ring, to wake who waits.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Ring {
    transitions: VecDeque<Transition>,
    last: u64,
    is_closed: bool,
}

impl History {
    /// Remember what happened to a version.
    pub fn push(&self, model: &Arc<str>, version: &Arc<str>, event: LifeEvent) {
        let mut ring = self.ring.lock();
        if ring.transitions.len() == TRANSITIONS {
            ring.transitions.pop_front();
        }
        ring.last += 1;
        let seq = ring.last;
        ring.transitions.push_back(Transition { seq, model: Arc::clone(model), version: Arc::clone(version), event });
        drop(ring);
        self.changed.send_replace(());
    }

    /// What happened after number `after`, to `model` or to any; waits up to `limit` until there is something.
    pub async fn after(&self, after: u64, model: Option<&str>, limit: Duration) -> News {
        let until = Instant::now() + limit;
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let (news, is_closed) = self.look(after, model);
            if is_closed || !news.events.is_empty() || tokio::time::timeout_at(until, changed.changed()).await.is_err()
            {
                return news;
            }
        }
    }

    /// Nothing more will happen: nobody waits any longer.
    pub fn close(&self) {
        self.ring.lock().is_closed = true;
        self.changed.send_replace(());
    }

    fn look(&self, after: u64, model: Option<&str>) -> (News, bool) {
        let ring = self.ring.lock();
        let is_wanted =
            |transition: &&Transition| transition.seq > after && model.is_none_or(|model| *transition.model == *model);
        let events = ring.transitions.iter().filter(is_wanted).cloned().collect();
        (News { events, last: ring.last }, ring.is_closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::life::State;

    fn push(history: &History, model: &str, message: &str) {
        let event = LifeEvent { time: 1.5, state: State::Ready, message: message.into() };
        history.push(&model.into(), &"1".into(), event);
    }

    async fn messages(history: &History, after: u64, model: Option<&str>) -> Vec<String> {
        let news = history.after(after, model, Duration::ZERO).await;
        news.events.into_iter().map(|transition| transition.event.message).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn numbers_and_names_select() {
        let history = History::default();
        for (model, message) in [("a", "one"), ("b", "two"), ("a", "three")] {
            push(&history, model, message);
        }
        assert_eq!(messages(&history, 0, None).await, ["one", "two", "three"]);
        assert_eq!(messages(&history, 1, Some("a")).await, ["three"]);
        assert!(messages(&history, 3, None).await.is_empty());
        let news = serde_json::to_value(history.after(2, None, Duration::ZERO).await).unwrap();
        let wanted = serde_json::json!({"events": [{"seq": 3, "model": "a", "version": "1", "time": 1.5,
            "state": "ready", "message": "three"}], "last": 3});
        assert_eq!(news, wanted);
    }

    #[tokio::test(start_paused = true)]
    async fn old_transitions_go_first() {
        let history = History::default();
        (0..TRANSITIONS + 2).for_each(|number| push(&history, "a", &number.to_string()));
        let news = history.after(0, None, Duration::ZERO).await;
        assert_eq!((news.events.len(), news.events[0].seq, news.last), (TRANSITIONS, 3, TRANSITIONS as u64 + 2));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_with_news_of_the_model_with_time_and_with_the_engine() {
        let history = Arc::new(History::default());
        let began = Instant::now();
        let waiting = |limit_s| {
            let history = Arc::clone(&history);
            tokio::spawn(async move { history.after(0, Some("a"), Duration::from_secs(limit_s)).await.events.len() })
        };
        assert_eq!(waiting(5).await.unwrap(), 0);
        assert_eq!(began.elapsed().as_secs(), 5);
        let waits = waiting(60);
        push(&history, "b", "no matter");
        tokio::task::yield_now().await;
        push(&history, "a", "at last");
        assert_eq!(waits.await.unwrap(), 1);
        let waits = tokio::spawn({
            let history = Arc::clone(&history);
            async move { history.after(9, None, Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        history.close();
        assert!(waits.await.unwrap().events.is_empty());
        assert_eq!(began.elapsed().as_secs(), 5);
    }
}
