//! Whose turn it is to load: so many at once as the machine has processors for, in the order in which they came.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// A load that takes longer waits for something else than a processor, or for ever: others need not wait for it.
const LONG: Duration = Duration::from_secs(20);

/// The turns, and who waits for one.
#[derive(Debug)]
pub struct LoadQueue {
    /// Gives them in the order of the asking.
    turns: Arc<Semaphore>,
    /// The serials of the versions that wait, once for each instance, in that order.
    waiting: Mutex<Vec<u64>>,
}

/// Leave to load, until it is dropped or has lasted for [`LONG`].
#[derive(Debug)]
pub struct Turn {
    lapse: JoinHandle<()>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.lapse.abort();
    }
}

/// A place in the queue; it goes with whoever waits.
struct Place<'q> {
    queue: &'q LoadQueue,
    serial: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.queue.waiting.lock();
        if let Some(place) = waiting.iter().position(|serial| *serial == self.serial) {
            waiting.remove(place);
        }
    }
}

impl LoadQueue {
    /// A queue for so many loads at once.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(at_once.clamp(1, Semaphore::MAX_PERMITS))), waiting: Mutex::default() }
    }

    /// Wait for the turn of an instance of the version `serial`. Must run inside the tokio runtime.
    pub async fn turn(&self, serial: u64) -> Turn {
        let place = Place { queue: self, serial };
        self.waiting.lock().push(serial);
        // An error means that the semaphore is closed, which nobody does: it would let everybody load.
        let permit = Arc::clone(&self.turns).acquire_owned().await.ok();
        drop(place);
        Turn {
            lapse: tokio::spawn(async move {
                tokio::time::sleep(LONG).await;
                drop(permit);
            }),
        }
    }

    /// How many loads are to begin before the first that waits of this version; `None` if none of it waits.
    #[must_use]
    pub fn before(&self, serial: u64) -> Option<usize> {
        self.waiting.lock().iter().position(|waiting| *waiting == serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Let tasks that can go on do so.
    async fn settle() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn turns_come_in_order_and_the_places_are_known() {
        let queue = Arc::new(LoadQueue::new(2));
        let (first, _second) = (queue.turn(1).await, queue.turn(1).await);
        assert_eq!(queue.before(1), None);
        let waits: Vec<_> = [2, 3, 3]
            .map(|serial| {
                let queue = Arc::clone(&queue);
                tokio::spawn(async move { queue.turn(serial).await })
            })
            .into();
        settle().await;
        assert_eq!([1, 2, 3, 4].map(|serial| queue.before(serial)), [None, Some(0), Some(1), None]);
        drop(first);
        settle().await;
        assert!(waits[0].is_finished() && !waits[1].is_finished());
        assert_eq!([2, 3].map(|serial| queue.before(serial)), [None, Some(0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_no_longer_leaves_the_queue_and_takes_no_turn() {
        let queue = Arc::new(LoadQueue::new(1));
        let turn = queue.turn(1).await;
        let waiting = tokio::time::timeout(Duration::from_secs(1), queue.turn(2)).await;
        assert!(waiting.is_err());
        assert_eq!(queue.before(2), None);
        drop(turn);
        tokio::time::timeout(Duration::from_secs(1), queue.turn(3)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_without_end_gives_its_turn_up_once() {
        let queue = Arc::new(LoadQueue::new(1));
        let hanging = queue.turn(1).await;
        let began = tokio::time::Instant::now();
        let turn = queue.turn(2).await;
        assert!((LONG..LONG * 2).contains(&began.elapsed()));
        drop(hanging);
        assert!(tokio::time::timeout(LONG / 2, queue.turn(3)).await.is_err(), "the turn of 2 is its own");
        drop(turn);
    }
}
