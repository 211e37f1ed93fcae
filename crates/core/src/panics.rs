//! A panic is a fault of the engine: contained where it happens, it costs one request or one worker, and is counted.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// What a panic carries.
pub type Panic = Box<dyn Any + Send>;

/// What `work` returns, or the panic that ended it. What it borrows has to be right after a panic, too.
pub fn contain<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    catch_unwind(AssertUnwindSafe(work))
}

/// `future`, but a panic is its result.
pub async fn catch<F: Future>(future: F) -> Result<F::Output, Panic> {
    let mut future = pin!(future);
    poll_fn(move |cx| match contain(|| future.as_mut().poll(cx)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// What a panic says.
#[must_use]
pub fn text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_result() {
        assert_eq!(catch(async { 7 }).await.ok(), Some(7));
        let panic = catch(async { panic!("at {}", 7) }).await.unwrap_err();
        assert_eq!(text(&*panic), "at 7");
        let panic = contain(|| panic!("plain")).unwrap_err();
        assert_eq!(text(&*panic), "plain");
    }
}
