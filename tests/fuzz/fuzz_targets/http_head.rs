#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| quorate_laws::http_head(input));
