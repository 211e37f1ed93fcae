//! One hot path, so many times: `samovar-guard PATH ROUNDS`, under callgrind; `samovar-guard` alone lists the paths.
//!
//! Counted twice, with ROUNDS and with twice as many, the difference is what ROUNDS cost: what is made ready before
//! drops out. So nothing in a round may depend on chance, on time, or on what another thread does meanwhile.

mod chance;
mod codecs;
mod data;
mod frames;
mod scheduling;
mod whole;

use std::error::Error;

/// What a path does `rounds` times.
type Run = fn(rounds: u64) -> Result<(), Box<dyn Error>>;

/// Something whose instructions are counted.
struct Path {
    name: &'static str,
    /// Enough for a count that does not move, few enough for a second or two.
    rounds: u64,
    /// What one round is.
    round: &'static str,
    run: Run,
}

const PATHS: [Path; 7] = [
    Path { name: "json-decode-echo", rounds: 2_000, round: "body of FP32[1,16]", run: codecs::decode_echo },
    Path { name: "json-decode-image", rounds: 4, round: "body of FP32[1,3,224,224]", run: codecs::decode_image },
    Path { name: "json-encode-echo", rounds: 2_000, round: "FP32[1,16] to a body", run: codecs::encode_echo },
    Path { name: "grpc-decode-echo", rounds: 2_000, round: "message of FP32[1,16]", run: codecs::decode_grpc },
    Path { name: "schedule-batch", rounds: 500, round: "32 items queued, taken, finished", run: scheduling::batch },
    Path { name: "frame-call-end", rounds: 2_000, round: "CALL down and END up a ring", run: frames::call_and_end },
    Path { name: "request-echo", rounds: 1_000, round: "HTTP in, door, worker, HTTP out", run: whole::request },
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, rounds] = arguments.as_slice() else {
        PATHS.iter().for_each(|path| println!("{}\t{}\t{}", path.name, path.rounds, path.round));
        return Ok(());
    };
    let path = PATHS.iter().find(|path| path.name == name).ok_or("there is no such path")?;
    (path.run)(rounds.parse()?)
}
