#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| samovar_server::fuzzing::grpc_request(input));
