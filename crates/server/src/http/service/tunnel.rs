//! A connection that has left HTTP: bytes both ways between a client and a service.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use samovar_core::error::{Code, Error};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::account::Account;
use super::inflow::PIECE;
use super::source::{Sink, Source};
use crate::connection::{StopSignal, stopped};

/// How long a service may take to end once its client has.
const FAREWELL: Duration = Duration::from_secs(5);
/// A read with less room than this gets a new buffer.
const MIN_READ: usize = 4 << 10;

/// Carry bytes until the service ends the exchange, or its client is gone. At a stop the service is told that nothing
/// more will come, and has as long as the stop takes to say its last words.
pub(super) async fn run<T, S>(stream: T, mut source: S, mut account: Account, mut stop: StopSignal)
where
    T: AsyncRead + AsyncWrite + Send,
    S: Source,
{
    let (reader, mut writer) = tokio::io::split(stream);
    let (sink, uploaded) = (source.upload(), account.uploaded());
    let ended = {
        let mut down = pin!(down(&mut source, &mut writer, &mut account));
        tokio::select! {
            ended = down.as_mut() => ended,
            () = up(reader, &sink, &uploaded) => {
                sink.finish().await.ok();
                tokio::time::timeout(FAREWELL, down).await.unwrap_or_else(|_| Err(client_gone()))
            }
            () = stopped(&mut stop) => {
                sink.finish().await.ok();
                down.await
            }
        }
    };
    match ended {
        Ok(()) => {
            account.ends(Ok(()));
            drop((account, source));
            // The last bytes must be read before the socket is gone.
            writer.shutdown().await.ok();
        }
        Err(error) if error.code == Code::Cancelled => account.ends(Err(Code::Cancelled)),
        Err(error) => account.breaks(&error),
    }
}

/// What the service sends, to its end.
async fn down<S: Source>(
    source: &mut S,
    writer: &mut (impl AsyncWrite + Unpin),
    account: &mut Account,
) -> Result<(), Error> {
    while let Some(piece) = poll_fn(|cx| source.poll_next(cx)).await {
        let piece = piece?;
        account.sent(piece.len());
        writer.write_all(&piece).await.map_err(|_| client_gone())?;
        writer.flush().await.map_err(|_| client_gone())?;
    }
    Ok(())
}

/// What the client sends; ready when it has ended.
async fn up(mut reader: impl AsyncRead + Unpin, sink: &impl Sink, uploaded: &AtomicU64) {
    let mut buffer = BytesMut::new();
    loop {
        if buffer.capacity() < MIN_READ {
            buffer.reserve(PIECE);
        }
        // An error is an end too: nothing more will come.
        let read = reader.read_buf(&mut (&mut buffer).limit(PIECE)).await.unwrap_or(0);
        if read == 0 {
            return;
        }
        uploaded.fetch_add(read as u64, Relaxed);
        if sink.send(buffer.split().freeze()).await.is_err() {
            return pending().await; // the service ends, as `down` will see
        }
    }
}

fn client_gone() -> Error {
    Error::new(Code::Cancelled, "the client is gone")
}
