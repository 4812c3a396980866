//! A description, as an offer and as an answer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ript::adapter::sip::fuzzing::sdp(data));
