//! Which protocol a connection speaks: HTTP/2 begins with words that HTTP/1 never does.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// RFC 9113, 3.4: what a client with prior knowledge sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Room for a small request, so that the sniff is its only read.
const BUFFER: usize = 4 << 10;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Read until the protocol is known; it and what was read. `None` if the connection ends before.
pub(super) async fn sniff(stream: &mut (impl AsyncRead + Unpin)) -> Option<(Protocol, Bytes)> {
    let mut start = BytesMut::with_capacity(BUFFER);
    while stream.read_buf(&mut start).await.ok()? > 0 {
        if let Some(protocol) = tell(&start) {
            return Some((protocol, start.freeze()));
        }
    }
    None
}

/// The protocol of a connection that starts like this, as soon as it can be told.
fn tell(start: &[u8]) -> Option<Protocol> {
    if start.starts_with(PREFACE) {
        return Some(Protocol::Http2);
    }
    (!PREFACE.starts_with(start)).then_some(Protocol::Http1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_http2_and_all_else_is_not() {
        for end in 0..PREFACE.len() {
            assert_eq!(tell(&PREFACE[..end]), None);
            let other = [&PREFACE[..end], b"x"].concat();
            assert_eq!(tell(&other), Some(Protocol::Http1));
        }
        assert_eq!(tell(PREFACE), Some(Protocol::Http2));
        assert_eq!(tell(&[PREFACE, b"\0\0\0"].concat()), Some(Protocol::Http2));
        for start in [&b"G"[..], b"PO", b"PUT / HTTP/1.1\r\n", b"\0", b"pri"] {
            assert_eq!(tell(start), Some(Protocol::Http1));
        }
    }

    #[tokio::test]
    async fn what_was_read_is_given_back_whatever_its_parts() {
        for whole in [&b"POST / HTTP/1.1"[..], PREFACE] {
            let mut parts = byte_by_byte(whole);
            let (protocol, start) = sniff(&mut parts).await.unwrap();
            assert_eq!(protocol == Protocol::Http2, whole == PREFACE);
            assert!(whole.starts_with(&start));
        }
        assert_eq!(sniff(&mut byte_by_byte(b"PRI")).await, None);
        assert_eq!(sniff(&mut byte_by_byte(b"")).await, None);
    }

    /// `bytes`, one at a time.
    fn byte_by_byte(bytes: &[u8]) -> impl AsyncRead + Unpin + use<> {
        let (mut near, far) = tokio::io::duplex(1);
        let bytes = bytes.to_vec();
        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut near, &bytes).await });
        far
    }
}
