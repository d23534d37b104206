//! Requests as they come in, octet by octet.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sgagent_fuzz::raw_requests(data));
