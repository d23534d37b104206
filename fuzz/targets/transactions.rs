//! What the kernel tells of transactions of nf_tables.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sgagent_fuzz::transactions(data));
