//! One HTTP/1.1 connection: a request out, its answer in.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

const HEADERS: usize = 64;

/// An open connection without an answer under way.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream, buffer: Vec::with_capacity(8 << 10) })
    }

    /// Send these bytes and read one whole answer; its status, and the connection unless its end was announced.
    pub(crate) fn exchange(mut self, request: &[u8]) -> Result<(u16, Option<Self>)> {
        self.buffer.clear();
        self.stream.write_all(request)?;
        let head = loop {
            self.read_more()?;
            if let Some(head) = Head::parse(&self.buffer)? {
                break head;
            }
        };
        while !head.is_whole(&self.buffer) {
            self.read_more()?;
        }
        Ok((head.status, (!head.closes).then_some(self)))
    }

    fn read_more(&mut self) -> Result<()> {
        let mut chunk = [0; 16 << 10];
        let count = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..count]);
        if count == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

/// What the head of an answer says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    size: usize,
    /// Bytes of the body; None: chunked.
    body: Option<usize>,
    closes: bool,
}

impl Head {
    /// None while it is not whole.
    fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(bytes).map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
        let httparse::Status::Complete(size) = parsed else { return Ok(None) };
        let value = |name: &str| {
            let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(header.value).ok()
        };
        Ok(Some(Self {
            status: response.code.unwrap_or_default(),
            size,
            body: value("content-length").and_then(|length| length.trim().parse().ok()),
            closes: value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
        }))
    }

    /// Whether these bytes end with the answer. A chunked body ends with an empty chunk.
    fn is_whole(&self, bytes: &[u8]) -> bool {
        match self.body {
            Some(length) => bytes.len() >= self.size + length,
            None => bytes[self.size..].ends_with(b"0\r\n\r\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let head = Head::parse(bytes).expect("valid").expect("whole");
        assert_eq!((head.status, head.body, head.closes), (200, Some(5), false));
        assert!(head.is_whole(bytes) && !head.is_whole(&bytes[..bytes.len() - 1]));
        assert_eq!(Head::parse(&bytes[..20]).expect("valid"), None);
    }

    #[test]
    fn a_chunked_answer_ends_with_an_empty_chunk() {
        let bytes = b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
        let head = Head::parse(bytes).expect("valid").expect("whole");
        assert_eq!((head.status, head.body, head.closes), (503, None, true));
        assert!(head.is_whole(bytes) && !head.is_whole(&bytes[..bytes.len() - 5]));
    }
}
