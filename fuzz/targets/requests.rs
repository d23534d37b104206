//! Requests and changes of the host that are made to be accepted, or nearly.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sgagent_fuzz::requests(data));
