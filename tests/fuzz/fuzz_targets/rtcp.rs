//! A packet on a leg's RTCP port.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ript::adapter::sip::fuzzing::rtcp(data));
