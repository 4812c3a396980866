//! A packet on a leg's RTP port.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ript::adapter::sip::fuzzing::rtp(data));
