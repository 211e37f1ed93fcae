#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| samovar_server::fuzzing::json_request(input));
