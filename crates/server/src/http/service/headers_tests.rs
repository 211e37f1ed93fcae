use hyper::Request;

use super::*;

fn parts(version: Version, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().version(version).uri("http://localhost:8000/plates/recognize?x=1");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn names(passed: &[(Bytes, Bytes)]) -> Vec<&str> {
    passed.iter().map(|(name, _)| std::str::from_utf8(name).unwrap()).collect()
}

#[test]
fn headers_of_the_connection_stay_at_the_door() {
    let headers = [
        ("Host", "a"),
        ("connection", "keep-alive"),
        ("keep-alive", "5"),
        ("te", "trailers"),
        ("trailer", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("proxy-authorization", "x"),
        ("x-a", "1"),
        ("x-a", "2"),
        ("content-encoding", "gzip"),
        ("content-length", "5"),
    ];
    let parts = parts(Version::HTTP_11, &headers);
    let all = passed(&parts, false, false);
    assert_eq!(names(&all), ["host", "x-a", "x-a", "content-encoding", "content-length"]);
    assert_eq!((&all[1].1, &all[2].1), (&Bytes::from("1"), &Bytes::from("2")));
    assert_eq!(names(&passed(&parts, false, true)), ["host", "x-a", "x-a"]);
}

#[test]
fn an_upgrade_carries_what_it_needs() {
    let headers =
        [("host", "a"), ("Connection", "keep-alive, Upgrade"), ("Upgrade", "WebSocket"), ("sec-websocket-key", "x")];
    let websocket = parts(Version::HTTP_11, &headers);
    assert!(wants_websocket(&websocket));
    assert_eq!(names(&passed(&websocket, true, false)), ["host", "connection", "upgrade", "sec-websocket-key"]);
    for (version, headers) in [
        (Version::HTTP_10, &headers[..]),
        (Version::HTTP_11, &headers[..2]),
        (Version::HTTP_11, &headers[2..]),
        (Version::HTTP_11, &[("connection", "upgrade"), ("upgrade", "h2c")]),
    ] {
        assert!(!wants_websocket(&parts(version, headers)), "{version:?} {headers:?}");
    }
}

#[test]
fn what_http2_says_otherwise_reads_like_http1() {
    let passed = passed(&parts(Version::HTTP_2, &[("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2")]), false, false);
    assert_eq!(names(&passed), ["host", "x-a", "cookie"]);
    assert_eq!(passed[0].1, "localhost:8000");
    assert_eq!(passed[2].1, "a=1; b=2");
}

fn answer(status: u16, headers: &[(&'static str, &'static [u8])]) -> Result<Response<()>, Error> {
    let headers = headers.iter().map(|(name, value)| (Bytes::from(*name), Bytes::from_static(value)));
    response(ResponseHead { status, headers: headers.collect() }, false)
}

#[test]
fn answers_keep_what_is_about_them() {
    let answer = answer(
        207,
        &[
            ("Set-Cookie", b"a"),
            ("set-cookie", b"b"),
            ("Connection", b"x"),
            ("transfer-encoding", b"chunked"),
            ("x", b"\xff"),
        ],
    )
    .unwrap();
    assert_eq!(answer.status(), 207);
    assert_eq!(answer.headers().get_all("set-cookie").iter().count(), 2);
    assert_eq!(answer.headers().len(), 3);
    let head = ResponseHead { status: 101, headers: vec![("Upgrade".into(), "websocket".into())] };
    assert!(response(head.clone(), true).unwrap().headers().contains_key("upgrade"));
    assert!(response(head, false).is_err());
}

#[test]
fn what_is_no_answer_is_a_fault_of_the_service() {
    for (status, headers, text) in [
        (0, &[][..], "status 0"),
        (99, &[], "status 99"),
        (100, &[], "status 100"),
        (101, &[], "want 200 to 999"),
        (1_000, &[], "status 1000"),
        (200, &[("", &b"x"[..])], "a name that HTTP"),
        (200, &[("a b", b"x")], "\"a b\""),
        (200, &[("a", b"x\r\ny: z")], "value of header that HTTP does not have: \"a\""),
        (200, &[("a", b"\0")], "value of header"),
    ] {
        let error = answer(status, headers).unwrap_err();
        assert_eq!(error.code, Code::BadModelOutput);
        assert!(error.message.contains(text), "{error}");
    }
    let too_many = vec![("a", &b"x"[..]); MAX_HEADERS + 1];
    assert!(answer(200, &too_many).unwrap_err().message.contains("257 headers"));
    assert!(answer(200, &too_many[1..]).is_ok());
}

#[test]
fn announced_lengths_must_hold() {
    let check = |status, lengths: &[&'static [u8]], has_body, known| {
        let headers: Vec<_> = lengths.iter().map(|length| ("content-length", *length)).collect();
        let mut answer = answer(status, &headers).unwrap();
        check_length(&mut answer, has_body, known).map(|()| content_length(answer.headers()))
    };
    assert_eq!(check(200, &[], true, Some(5)), Ok(None));
    assert_eq!(check(200, &[b"5"], true, Some(5)), Ok(Some(5)));
    assert_eq!(check(200, &[b"5"], true, None), Ok(Some(5)));
    assert_eq!(check(200, &[b"5"], false, Some(0)), Ok(Some(5)));
    assert_eq!(check(204, &[b"5"], false, Some(0)), Ok(None));
    for lengths in [&[&b"4"[..]][..], &[b"-5"], &[b"+5"], &[b"5", b"5"], &[b""], &[b"x"]] {
        assert!(check(200, lengths, true, Some(5)).is_err(), "{lengths:?}");
    }
}

#[test]
fn bytes_that_are_spoken_for_are_not_compressed() {
    for (name, value) in [("content-encoding", "br"), ("etag", "\"x\""), ("cache-control", "public, no-transform")] {
        let headers = HeaderMap::from_iter([(HeaderName::try_from(name).unwrap(), HeaderValue::from_static(value))]);
        assert!(!may_be_compressed(&headers), "{name}");
    }
    assert!(may_be_compressed(&HeaderMap::new()));
}
