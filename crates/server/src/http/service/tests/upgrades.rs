//! Connections that leave HTTP.

use super::*;

const UPGRADE: &str = "GET /plates/live HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-key: x\r\n";

#[tokio::test]
async fn a_websocket_carries_bytes_both_ways() {
    let mut door = start(50);
    let mut stream = door.send(&format!("{UPGRADE}\r\nearly")).await;
    let (request, mut worker) = door.request().await;
    assert!(request.head.is_upgrade && !request.is_whole);
    worker.begin(101, &[("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", "y")]);
    let head = head(&mut stream).await;
    assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: websocket"), "{head}");
    assert!(head.contains("sec-websocket-accept: y") && !head.contains("content-length"), "{head}");
    assert_eq!(worker.receive().await.unwrap(), "early");
    tokio::time::sleep(Duration::from_millis(150)).await; // longer than an idle connection lives
    for word in ["hello", "again"] {
        stream.write_all(word.as_bytes()).await.unwrap();
        let received = worker.receive().await.unwrap();
        assert!(worker.send(received).await);
        until(&mut stream, word).await;
    }
    worker.end();
    assert_eq!(rest(&mut stream).await, "");
    eventually(async || door.counted("ok").await).await;
}

#[tokio::test]
async fn the_end_of_a_websocket_reaches_the_service() {
    let mut door = start(LONG);
    let mut stream = door.send(&format!("{UPGRADE}\r\n")).await;
    let (_, mut worker) = door.request().await;
    worker.begin(101, &[]);
    head(&mut stream).await;
    stream.shutdown().await.unwrap();
    assert_eq!(worker.receive().await, None);
    assert!(worker.send("last").await); // it may say so, for a moment
    worker.end();
    assert_eq!(rest(&mut stream).await, "last");
    let mut stream = door.send(&format!("{UPGRADE}\r\n")).await;
    let (_, mut worker) = door.request().await;
    worker.begin(101, &[]);
    head(&mut stream).await;
    worker.break_off(Error::new(Code::WorkerLost, "gone")).await;
    assert_eq!(rest(&mut stream).await, "");
    eventually(async || door.counted("worker_lost").await).await;
}

#[tokio::test]
async fn a_websocket_of_a_foreign_page_or_of_no_interest_is_refused() {
    let mut door = start(LONG);
    let mut stream = door.send(&format!("{UPGRADE}origin: http://evil.example\r\n\r\n")).await;
    assert!(head(&mut stream).await.starts_with("http/1.1 403"));
    let mut stream = door.send(&format!("{UPGRADE}\r\n")).await;
    door.request().await.1.end_with(404, &[], &["no"]);
    let head = head(&mut stream).await;
    assert!(head.starts_with("http/1.1 404") && head.contains("content-length: 2"), "{head}");
    until(&mut stream, "no").await;
}

#[tokio::test]
async fn a_stop_cuts_streams_and_tunnels_at_its_deadline() {
    let mut door = start(LONG);
    let mut tunnel = door.send(&format!("{UPGRADE}\r\n")).await;
    let (_, mut upgraded) = door.request().await;
    upgraded.begin(101, &[]);
    head(&mut tunnel).await;
    let mut stream = door.send(GET).await;
    let (_, mut streaming) = door.request().await;
    streaming.begin(200, &[]);
    head(&mut stream).await;
    door.stop.send(Some(Stop::by(Instant::now() + Duration::from_millis(50)))).unwrap();
    door.served.await.unwrap().unwrap();
    upgraded.gone().await;
    streaming.gone().await;
}
