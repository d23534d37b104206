//! What the kernel says of the host's interfaces.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sgagent_fuzz::interfaces(data));
