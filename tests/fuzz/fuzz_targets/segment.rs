#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| quorate_laws::segment(input));
