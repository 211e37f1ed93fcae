use bytes::Bytes;

use super::*;
use crate::channel::proto::{Header, HttpRequest};
use crate::pending::HttpCall;
use crate::pending::tests::accepted;
use crate::tensor::{Datatype, Tensor};

fn request(data: &[u8]) -> Accepted {
    let tensor =
        Tensor { datatype: Datatype::Uint8, shape: vec![data.len() as u64], data: Bytes::copy_from_slice(data) };
    Accepted { inputs: vec![tensor], rows: 1, ..accepted() }
}

fn http(path: &str, headers: &[(&str, &str)]) -> Accepted {
    let header = |(name, value): &(&str, &str)| Header { name: name.as_bytes().into(), value: value.as_bytes().into() };
    let headers = headers.iter().map(header).collect();
    let head = HttpRequest { method: "POST".into(), path: path.into(), headers, ..HttpRequest::default() };
    Accepted { http: Some(Box::new(HttpCall { head, is_open: false })), ..request(b"body") }
}

#[test]
fn an_equal_request_is_known_for_a_minute_and_another_is_not() {
    let poison = Poison::default();
    assert!(!poison.holds_any());
    poison.remember(&request(b"bad"), 5);
    assert!(poison.holds_any() && poison.holds(&request(b"bad"), 5 + MEMORY - 1));
    let reshaped = |mut request: Accepted| {
        request.inputs[0].shape = vec![1, 3];
        request
    };
    let retyped = |mut request: Accepted| {
        request.inputs[0].datatype = Datatype::Int8;
        request
    };
    for other in [
        request(b"bed"),
        request(b"bad "),
        reshaped(request(b"bad")),
        retyped(request(b"bad")),
        Accepted { method: "f".into(), ..request(b"bad") },
        Accepted { parameters: vec![("a".into(), Parameter::Int(1))], ..request(b"bad") },
        Accepted { inputs: Vec::new(), ..request(b"bad") },
    ] {
        assert!(!poison.holds(&other, 5), "{other:?}");
    }
    assert!(!poison.holds(&request(b"bad"), 5 + MEMORY));
    assert!(!poison.holds_any(), "nothing is looked up any more");
}

#[test]
fn a_new_death_begins_a_new_minute() {
    let poison = Poison::default();
    poison.remember(&request(b"bad"), 0);
    poison.remember(&request(b"worse"), 1);
    poison.remember(&request(b"bad"), MEMORY - 1);
    assert!(poison.holds(&request(b"bad"), MEMORY + 1) && !poison.holds(&request(b"worse"), MEMORY + 1));
    assert_eq!(poison.known.lock().len(), 1);
}

#[test]
fn the_oldest_leave_where_there_are_too_many() {
    let poison = Poison::default();
    (0..=MOST).for_each(|number| poison.remember(&request(&number.to_le_bytes()), number as u64));
    assert_eq!(poison.known.lock().len(), MOST);
    assert!(!poison.holds(&request(&0_usize.to_le_bytes()), 0) && poison.holds(&request(&MOST.to_le_bytes()), 0));
}

#[test]
fn what_is_too_long_to_read_twice_is_forgotten() {
    let poison = Poison::default();
    let large = request(&vec![0; MAX_BYTES + 1]);
    poison.remember(&large, 0);
    assert!(!poison.holds_any() && !poison.holds(&large, 0));
}

#[test]
fn of_an_http_request_everything_counts_but_who_asked_and_for_how_long() {
    let poison = Poison::default();
    poison.remember(&http("/a", &[("accept", "x"), ("traceparent", "00-1")]), 0);
    assert!(poison.holds(&http("/a", &[("accept", "x"), ("x-request-id", "7"), ("request-timeout", "1")]), 0));
    for other in [http("/b", &[("accept", "x")]), http("/a", &[("accept", "y")]), http("/a", &[]), request(b"body")] {
        assert!(!poison.holds(&other, 0));
    }
}
