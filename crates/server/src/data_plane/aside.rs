//! Work that would hold up everybody whose connection the same thread serves.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use samovar_core::clock::{Nanos, now};
use samovar_core::error::{Code, Error};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::shutting_down;

/// Threads beside those that serve connections.
#[derive(Debug)]
pub(super) struct Aside {
    /// A permit for each processor: more threads would only make each piece of work late.
    turns: Arc<Semaphore>,
}

impl Aside {
    pub(super) fn new() -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        Self { turns: Arc::new(Semaphore::new(processors)) }
    }

    /// Run `work` when it is its turn; it panics as the work does. What is dropped or late before its turn never runs.
    ///
    /// Errors with `shutting_down` and `deadline_exceeded`.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        deadline: Nanos,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let left = Duration::from_nanos(deadline.saturating_sub(now()));
        if left.is_zero() {
            return Err(late());
        }
        timeout(left, self.run_at_last(work)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn run_at_last<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let working = spawn_blocking(move || {
            let _turn = turn; // until the work has ended, whether or not somebody waits for it
            work()
        });
        working.await.map_err(|fault| match fault.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => shutting_down(),
        })
    }
}

fn late() -> Error {
    Error::new(Code::DeadlineExceeded, "the deadline passed while long JSON waited to be read; allow more time")
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::Poll;

    use samovar_core::clock::NEVER;

    use super::*;
    use crate::door::panic::catch;

    #[tokio::test]
    async fn others_go_on_while_work_is_done() {
        let (send, receive) = mpsc::channel();
        let aside = Aside::new();
        let working = aside.run(NEVER, move || receive.recv());
        // On this one thread: were the work done here, nobody would ever send.
        let (done, ()) = tokio::join!(working, async { send.send(7).unwrap() });
        assert_eq!(done, Ok(Ok(7)));
    }

    #[tokio::test]
    async fn work_waits_for_its_turn_and_is_dropped_with_who_waits() {
        let aside = Aside { turns: Arc::new(Semaphore::new(1)) };
        let (release, released) = mpsc::channel::<()>();
        let (ran, runs) = mpsc::channel();
        let mut first = pin!(aside.run(NEVER, move || released.recv()));
        let mut late = Box::pin(aside.run(NEVER, move || ran.send(())));
        poll_fn(|cx| {
            assert!(first.as_mut().poll(cx).is_pending() && late.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        drop(late);
        release.send(()).unwrap();
        assert_eq!(first.await, Ok(Ok(())));
        assert!(aside.run(NEVER, move || runs.recv()).await.unwrap().is_err());
    }

    #[tokio::test]
    async fn what_is_late_before_its_turn_never_runs() {
        let aside = Aside { turns: Arc::new(Semaphore::new(1)) };
        let (release, released) = mpsc::channel::<()>();
        let mut first = pin!(aside.run(NEVER, move || released.recv()));
        poll_fn(|cx| {
            assert!(first.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        for deadline in [now() + 20_000_000, now()] {
            let late = aside.run(deadline, || unreachable!("it is too late")).await;
            assert_eq!(late.map(|()| 7).unwrap_err().code, Code::DeadlineExceeded);
            assert!(now() >= deadline);
        }
        release.send(()).unwrap();
        assert_eq!(first.await, Ok(Ok(())));
        assert_eq!(aside.run(now() + 60_000_000_000, || 7).await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_is_that_of_who_waits_and_frees_its_turn() {
        let aside = Aside { turns: Arc::new(Semaphore::new(1)) };
        assert!(catch(aside.run(NEVER, || panic!("at work"))).await.is_err());
        assert_eq!(aside.run(NEVER, || 7).await, Ok(7));
    }
}
