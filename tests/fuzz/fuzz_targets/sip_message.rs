//! A datagram on the SIP port.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ript::adapter::sip::fuzzing::sip_message(data));
