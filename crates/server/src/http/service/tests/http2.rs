//! The same over HTTP/2, in frames written by hand.

use super::*;

#[tokio::test]
async fn streams_of_http2_end_or_are_reset() {
    let mut door = start(LONG);
    let mut stream = door.connect().await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    frame(&mut stream, SETTINGS, 0, 0, b"").await;
    let fields = b"\x82\x86\x04\x07/plates\x01\x09localhost"; // GET, http, :path, :authority (RFC 7541, 6.2.2)
    for number in [1, 3] {
        frame(&mut stream, HEADERS, END_STREAM | END_HEADERS, number, fields).await;
        let (request, mut worker) = door.request().await;
        assert_eq!((request.head.version, &request.head.headers[0].1[..]), ("2", &b"localhost"[..]));
        worker.begin(200, &[]);
        assert!(worker.send("one").await);
        assert_eq!(next(&mut stream, number, DATA).await.1, b"one");
        if number == 1 {
            worker.end();
            assert_eq!(next(&mut stream, number, DATA).await, (END_STREAM, vec![]));
        } else {
            worker.break_off(Error::new(Code::WorkerLost, "gone")).await;
            next(&mut stream, number, RST_STREAM).await;
        }
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

async fn frame(stream: &mut TcpStream, kind: u8, flags: u8, number: u32, payload: &[u8]) {
    let mut frame = vec![0, 0, payload.len() as u8, kind, flags];
    frame.extend(number.to_be_bytes());
    frame.extend(payload);
    stream.write_all(&frame).await.unwrap();
}

/// Flags and payload of the next frame of this kind on this stream.
async fn next(stream: &mut TcpStream, number: u32, kind: u8) -> (u8, Vec<u8>) {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == kind && head[5..] == number.to_be_bytes() {
            return (head[4], payload);
        }
    }
}
