#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| samovar_core::channel::fuzzing::frame(input));
