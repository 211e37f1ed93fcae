//! Bodies of requests on their way to a service.

use super::*;

fn post(headers: &str, body: &str) -> String {
    format!("POST /plates HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n{body}")
}

#[tokio::test]
async fn short_bodies_are_whole_whatever_their_type() {
    let mut door = start(LONG);
    for (headers, body) in [
        ("content-type: image/png\r\ncontent-length: 4\r\n", "body"),
        ("transfer-encoding: chunked\r\n", "4\r\nbody\r\n0\r\n\r\n"),
    ] {
        let _stream = door.send(&post(headers, body)).await;
        let (request, _) = door.request().await;
        assert_eq!((&request.body[..], request.is_whole), (&b"body"[..], true), "{headers}");
    }
}

#[tokio::test]
async fn a_body_is_continued_when_it_is_wanted() {
    let mut door = start(LONG);
    let mut stream = door.send(&post("expect: 100-continue\r\ncontent-length: 4\r\n", "")).await;
    assert_eq!(head(&mut stream).await, "http/1.1 100 continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    assert_eq!(door.request().await.0.body, "body");
    let mut stream = door.send(&post("expect: 100-continue\r\ncontent-length: 9999\r\n", "")).await;
    assert!(head(&mut stream).await.starts_with("http/1.1 413"), "the limit comes first");
}

#[tokio::test]
async fn compressed_bodies_are_inflated() {
    let mut door = start(LONG);
    let zlib = b"\x78\x9c\xcb\x48\xcd\xc9\xc9\xcf\xc0\x42\x00\x00\x86\xc4\x0a\x65"; // `hello` five times
    let mut stream = door.send(&post("content-encoding: deflate\r\ncontent-length: 16\r\n", "")).await;
    stream.write_all(zlib).await.unwrap();
    let (request, _) = door.request().await;
    assert_eq!(request.body, "hello".repeat(5));
    let names: Vec<_> = request.head.headers.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["host"]);
    let mut stream = door.send(&post("content-encoding: br\r\ncontent-length: 0\r\n", "")).await;
    let head = head(&mut stream).await;
    assert!(head.starts_with("http/1.1 415") && head.contains("accept-encoding: gzip, deflate"), "{head}");
}

#[tokio::test]
async fn endless_bodies_stream_both_ways() {
    let mut door = start(LONG);
    let mut stream = door.send(&post("transfer-encoding: chunked\r\n", "3\r\none\r\n")).await;
    let (request, mut worker) = door.request().await;
    assert_eq!((&request.body[..], request.is_whole), (&b"one"[..], false));
    worker.begin(200, &[]);
    head(&mut stream).await;
    for piece in ["two", "six"] {
        stream.write_all(format!("3\r\n{piece}\r\n").as_bytes()).await.unwrap();
        let received = worker.receive().await.unwrap();
        assert_eq!(received, piece);
        assert!(worker.send(received).await);
        until(&mut stream, &format!("3\r\n{piece}\r\n")).await;
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(worker.receive().await, None);
    worker.end();
    until(&mut stream, "0\r\n\r\n").await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    door.request().await; // the connection is kept
}

#[tokio::test]
async fn a_body_beyond_the_limit_ends_the_exchange() {
    let chunk = format!("1f4\r\n{}\r\n", "x".repeat(500)); // the limit is 1,000
    let mut door = start(LONG);
    let mut stream = door.send(&post("transfer-encoding: chunked\r\n", &chunk)).await;
    let (_, mut worker) = door.request().await;
    stream.write_all(chunk.repeat(2).as_bytes()).await.unwrap();
    assert!(worker.receive().await.is_some());
    let head_of_refusal = head(&mut stream).await;
    assert!(head_of_refusal.starts_with("http/1.1 413") && head_of_refusal.contains("connection: close"));
    worker.gone().await;
    let mut stream = door.send(&post("transfer-encoding: chunked\r\n", &chunk)).await;
    let (_, mut worker) = door.request().await;
    worker.begin(200, &[]);
    head(&mut stream).await;
    stream.write_all(chunk.repeat(2).as_bytes()).await.unwrap();
    assert!(worker.receive().await.is_some());
    assert!(!rest(&mut stream).await.ends_with("0\r\n\r\n"));
    worker.gone().await;
}

#[tokio::test]
async fn an_answer_that_does_not_want_the_body_closes_the_connection() {
    let mut door = start(LONG);
    let mut stream = door.send(&post("transfer-encoding: chunked\r\n", "3\r\none\r\n")).await;
    door.request().await.1.end_with(400, &[], &["no"]);
    assert!(head(&mut stream).await.contains("connection: close"));
    assert_eq!(rest(&mut stream).await, "no");
}
