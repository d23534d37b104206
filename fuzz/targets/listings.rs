//! What nft prints as JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sgagent_fuzz::listings(data));
