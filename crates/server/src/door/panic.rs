//! A panic in the door or the data plane is one failed request.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use samovar_core::error::{Code, Error};

use crate::data_plane::DataPlane;

/// `future`, but a panic is its result.
pub(crate) async fn catch<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// Count `panic` and log it under `id`; what the client reads of it.
pub(crate) fn report(plane: &DataPlane, id: &str, panic: &(dyn Any + Send)) -> Error {
    plane.panicked();
    tracing::error!(request_id = id, panic = text(panic), "a request failed in the engine");
    Error::new(Code::Internal, "the engine failed on this request; its log has more under the request id")
}

fn text(panic: &(dyn Any + Send)) -> &str {
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
        let panic = catch(async { panic!("plain") }).await.unwrap_err();
        assert_eq!(text(&*panic), "plain");
    }
}
