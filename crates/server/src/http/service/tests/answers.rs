//! What a service answers, as its client sees it.

use super::*;

#[tokio::test]
async fn a_request_goes_on_as_it_is_and_an_answer_comes_back_so() {
    let mut door = start(LONG);
    let mut stream = door.send(GET).await;
    for _ in 0..2 {
        let (request, mut worker) = door.request().await;
        assert_eq!((&*request.id, &*request.head.method), ("seven", "GET"));
        assert_eq!((&*request.head.path, &*request.head.query), ("/plates/x%20y", "z=%20"));
        assert_eq!((request.head.version, request.is_whole, request.body.len()), ("1.1", true, 0));
        assert!(request.head.client.starts_with("127.0.0.1:"));
        worker.end_with(201, &[("Content-Type", "text/x"), ("connection", "close"), ("x-request-id", "no")], &["body"]);
        let head = head(&mut stream).await;
        assert!(head.starts_with("http/1.1 201 "), "{head}");
        assert!(head.contains("content-type: text/x\r\n") && head.contains("content-length: 4\r\n"), "{head}");
        assert!(head.contains("x-request-id: seven\r\n") && !head.contains("connection"), "{head}");
        until(&mut stream, "body").await;
        stream.write_all(GET.as_bytes()).await.unwrap(); // the connection is kept
    }
    assert!(door.plane.metrics_text().await.contains("code=\"ok\",door=\"http\",model=\"plates\",version=\"1\"} 2"));
}

#[tokio::test]
async fn pieces_come_in_order_and_at_once() {
    let mut door = start(LONG);
    let mut stream = door.send(GET).await;
    let (_, mut worker) = door.request().await;
    worker.begin(200, &[("content-type", "text/event-stream")]);
    assert!(head(&mut stream).await.contains("transfer-encoding: chunked"));
    for piece in ["one", "two", "three"] {
        assert!(worker.send(piece).await);
        until(&mut stream, &format!("{:x}\r\n{piece}\r\n", piece.len())).await;
    }
    assert!(!door.counted("ok").await);
    worker.end();
    until(&mut stream, "0\r\n\r\n").await;
    eventually(async || door.counted("ok").await).await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    door.request().await;
}

#[tokio::test]
async fn an_answer_in_several_pieces_that_is_all_there_has_its_length() {
    let mut door = start(LONG);
    let mut stream = door.send(GET).await;
    door.request().await.1.end_with(200, &[], &["one", "two"]);
    assert!(head(&mut stream).await.contains("content-length: 6\r\n"));
    until(&mut stream, "onetwo").await;
}

#[tokio::test]
async fn a_broken_answer_can_be_told_from_a_whole_one() {
    for (headers, piece, break_off) in [
        (&[][..], "one", true),
        (&[("content-length", "4")], "one", false), // too short
        (&[("content-length", "2")], "one", false), // too long
    ] {
        let mut door = start(LONG);
        let mut stream = door.send(GET).await;
        let (_, mut worker) = door.request().await;
        worker.begin(200, headers);
        assert!(worker.send(piece).await);
        if break_off {
            until(&mut stream, "one\r\n").await; // what was sent before arrives
            worker.break_off(Error::new(Code::WorkerLost, "gone")).await;
            assert_eq!(rest(&mut stream).await, "");
        } else {
            worker.end();
            let head = head(&mut stream).await;
            let rest = rest(&mut stream).await;
            assert!(head.contains("content-length") && ["", "one"].contains(&rest.as_str()), "{rest}");
        }
        let code = if break_off { "worker_lost" } else { "bad_model_output" };
        eventually(async || door.counted(code).await).await;
    }
}

#[tokio::test]
async fn an_error_before_the_head_is_the_engines() {
    let mut door = start(LONG);
    let mut stream = door.send(GET).await;
    door.request().await.1.fail(Error::new(Code::QueueFull, "full").retry_after(2));
    let head = head(&mut stream).await;
    assert!(head.starts_with("http/1.1 429") && head.contains("retry-after: 2"), "{head}");
    assert!(head.contains("x-request-id: seven"));
    until(&mut stream, r#"{"error":"full","code":"queue_full","id":"seven"}"#).await;
    assert!(door.counted("queue_full").await);
    for status in [101, 0, 150] {
        stream.write_all(GET.as_bytes()).await.unwrap();
        door.request().await.1.end_with(status, &[], &[]);
        assert!(until(&mut stream, "\"id\":\"seven\"}").await.contains("bad_model_output"));
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_the_exchange() {
    let mut door = start(LONG);
    let stream = door.send(GET).await;
    let (_, worker) = door.request().await;
    drop(stream);
    worker.gone().await; // before the head
    eventually(async || door.counted("cancelled").await).await;
    let mut stream = door.send(GET).await;
    let (_, mut worker) = door.request().await;
    worker.begin(200, &[]);
    assert!(worker.send("one").await);
    until(&mut stream, "one\r\n").await;
    drop(stream);
    worker.gone().await; // although the worker has nothing to send
    eventually(async || {
        door.plane.metrics_text().await.contains("code=\"cancelled\",door=\"http\",model=\"plates\",version=\"1\"} 2")
    })
    .await;
}

#[tokio::test]
async fn a_stream_lives_while_its_worker_is_silent() {
    let mut door = start(50);
    let mut stream = door.send(GET).await;
    let (_, mut worker) = door.request().await;
    worker.begin(200, &[]);
    head(&mut stream).await;
    tokio::time::sleep(Duration::from_millis(150)).await; // longer than an idle connection lives
    assert!(worker.send("one").await);
    until(&mut stream, "one\r\n").await;
    worker.end();
    until(&mut stream, "0\r\n\r\n").await;
    assert_eq!(rest(&mut stream).await, "", "then the connection is idle");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_worker_and_is_cut() {
    let mut door = start(200);
    let _stream = door.send(GET).await;
    let (_, mut worker) = door.request().await;
    worker.begin(200, &[]);
    let piece = Bytes::from(vec![7; 64 << 10]);
    let mut taken = 0;
    while worker.send(piece.clone()).await {
        taken += piece.len();
        assert!(taken < 64 << 20, "buffers have an end");
    }
    eventually(async || door.counted("cancelled").await).await;
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let mut door = start(LONG);
    let mut stream = door.send(&GET.replace("GET", "HEAD")).await;
    let (request, mut worker) = door.request().await;
    assert_eq!(request.head.method, "HEAD");
    worker.end_with(200, &[("content-length", "4")], &["body"]);
    assert!(head(&mut stream).await.contains("content-length: 4\r\n"));
    for status in [204, 304] {
        stream.write_all(GET.as_bytes()).await.unwrap();
        let (_, mut worker) = door.request().await;
        worker.begin(status, &[]);
        let head = head(&mut stream).await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
        assert!(!head.contains("transfer-encoding") && !head.contains("content-length"), "{head}");
        worker.gone().await;
    }
}

#[tokio::test]
async fn http_1_0_ends_a_stream_with_the_connection() {
    let mut door = start(LONG);
    let mut stream = door.send("GET /plates HTTP/1.0\r\n\r\n").await;
    let (request, mut worker) = door.request().await;
    assert_eq!(request.head.version, "1.0");
    worker.begin(200, &[]);
    assert!(worker.send("one").await);
    worker.end();
    let answer = rest(&mut stream).await;
    assert!(answer.ends_with("\r\n\r\none") && !answer.contains("chunked"), "{answer}");
}
