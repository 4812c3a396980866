//! Bytes of a TCP or TLS connection of SIP.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ript::adapter::sip::fuzzing::sip_stream(data));
