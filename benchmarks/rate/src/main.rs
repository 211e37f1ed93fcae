//! Requests at a set rate: `samovar-rate plan.json` prints one line of JSON.
//!
//! Arrivals are a Poisson process drawn before the run, the same for everybody. A latency runs from the moment at which
//! the request was due: while every connection waits for an answer, those that are due wait as well, and count. A
//! generator that sends the next request when the last one is answered leaves out just these (coordinated omission).

mod exchange;
mod schedule;

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::exchange::Connection;

/// What is sent, how often, and for how long.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    address: String,
    /// File with the bytes of one whole request, head included.
    request: String,
    per_second: f64,
    seconds: f64,
    /// Arrivals of the first seconds are not counted.
    warm_up_s: f64,
    connections: usize,
}

/// What came back; latencies in microseconds.
#[derive(Serialize)]
struct Found {
    requests: usize,
    errors: usize,
    /// From the first counted arrival to the last answer.
    seconds: f64,
    p50_us: u64,
    p90_us: u64,
    p99_us: u64,
    p999_us: u64,
    /// The latest start after its due time: the generator's own fault, unless every connection was busy.
    late_us: u64,
}

/// One request that was due.
struct Outcome {
    latency: Duration,
    late: Duration,
    is_success: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: samovar-rate plan.json")?;
    let plan: Plan = serde_json::from_slice(&std::fs::read(path)?)?;
    let request = std::fs::read(&plan.request)?;
    let due = schedule::arrivals(plan.per_second, plan.warm_up_s + plan.seconds);
    let next = AtomicUsize::new(0);
    let began = Instant::now() + Duration::from_millis(100);
    let outcomes = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..plan.connections)
            .map(|_| scope.spawn(|| client(&plan.address, &request, &due, &next, began)))
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap_or_default()).collect::<Vec<_>>()
    });
    let warm_up = Duration::from_secs_f64(plan.warm_up_s);
    println!("{}", serde_json::to_string(&summary(outcomes, &due, warm_up))?);
    Ok(())
}

/// One connection: take the next arrival, wait until it is due, send it, read the answer.
fn client(
    address: &str,
    request: &[u8],
    due: &[Duration],
    next: &AtomicUsize,
    began: Instant,
) -> Vec<(usize, Outcome)> {
    let mut outcomes = Vec::new();
    let mut connection = None;
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(due) = due.get(index).map(|due| began + *due) else { return outcomes };
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let late = due.elapsed();
        let is_success = exchange(&mut connection, address, request);
        outcomes.push((index, Outcome { latency: due.elapsed(), late, is_success }));
    }
}

/// Send on the open connection, or on a new one; whether a success came back.
fn exchange(connection: &mut Option<Connection>, address: &str, request: &[u8]) -> bool {
    let status =
        connection.take().map_or_else(|| Connection::open(address), Ok).and_then(|open| open.exchange(request)).map(
            |(status, open)| {
                *connection = open;
                status
            },
        );
    matches!(status, Ok(200))
}

fn summary(mut outcomes: Vec<(usize, Outcome)>, due: &[Duration], warm_up: Duration) -> Found {
    outcomes.retain(|(index, _)| due[*index] >= warm_up);
    let end = outcomes.iter().map(|(index, outcome)| due[*index] + outcome.latency).max().unwrap_or_default();
    let mut latencies: Vec<u64> = outcomes.iter().map(|(_, outcome)| outcome.latency.as_micros() as u64).collect();
    latencies.sort_unstable();
    let percentile = |share: f64| {
        let rank = (share * latencies.len() as f64).ceil() as usize;
        latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    };
    Found {
        requests: outcomes.len(),
        errors: outcomes.iter().filter(|(_, outcome)| !outcome.is_success).count(),
        seconds: (end.saturating_sub(warm_up)).as_secs_f64(),
        p50_us: percentile(0.5),
        p90_us: percentile(0.9),
        p99_us: percentile(0.99),
        p999_us: percentile(0.999),
        late_us: outcomes.iter().map(|(_, outcome)| outcome.late.as_micros() as u64).max().unwrap_or_default(),
    }
}
