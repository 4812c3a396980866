//! Torture messages with bytes changed, cut out and put in: what the fuzz targets (`tests/fuzz`) are fed, in small.

use proptest::prelude::*;
use ript::adapter::sip::fuzzing;

use crate::torture;

/// What happens to a message: at a place, so many bytes become these.
type Cut = (prop::sample::Index, usize, Vec<u8>);

fn cuts() -> impl Strategy<Value = Vec<Cut>> {
    let pieces = prop::sample::select(vec![
        &b"\r\n"[..],
        b"\r\n ",
        b"\r\n\r\n",
        b"\n",
        b"\0",
        b"\"",
        b"<",
        b">",
        b";",
        b",",
        b":",
        b"%",
        b"%0",
        b"@",
        b"?",
        b"\\",
        b" ",
        b"=",
        b"/",
        b"SIP/2.0",
        b"99999999999999999999",
        b"-1",
        b"\xff",
        b"\xd1",
        b"Via: ",
        b"v:",
        b"tag=",
        b";rport",
        b"[::1]:",
        b"m=audio 0 RTP/AVP 0\r\n",
        b"a=rtpmap:0 PCMU/8000\r\n",
    ]);
    let piece = prop_oneof![pieces.prop_map(<[u8]>::to_vec), prop::collection::vec(any::<u8>(), 0..6)];
    prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, piece), 0..6)
}

fn apply(message: &[u8], cuts: &[Cut]) -> Vec<u8> {
    let mut message = message.to_vec();
    for (at, len, piece) in cuts {
        let at = at.index(message.len() + 1);
        let end = (at + len).min(message.len());
        message.splice(at..end, piece.iter().copied());
    }
    message
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let all = torture::all().into_iter().map(|torture| torture.message).collect::<Vec<_>>();
    prop::sample::select(all)
}

const SDP: &[u8] = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    m=audio 9000 RTP/SAVP 0 8 9 96 97 101\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\n\
    a=rtpmap:97 AMR-WB/16000\r\na=fmtp:97 octet-align=1\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n\
    a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4\r\n\
    a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=rtcp:9011 IN IP4 192.0.2.1\r\na=rtcp-mux\r\n\
    a=curr:qos local none\r\na=des:qos mandatory local sendrecv\r\na=ptime:20\r\na=sendonly\r\na=mid:0\r\n\
    m=video 9002 RTP/AVP 31\r\na=rtpmap:31 H261/90000\r\n";

const RTP: &[u8] =
    &[0xb1, 0x80, 0, 1, 0, 0, 0, 160, 1, 2, 3, 4, 9, 9, 9, 9, 0xbe, 0xde, 0, 1, 0x10, 0x85, 0, 0, 1, 2, 3, 1];

const RTCP: &[u8] = &[
    0x81, 200, 0, 12, 1, 2, 3, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 1, 1, 1, 1, 0,
    0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x81, 202, 0, 2, 1, 2, 3, 4, 1, 1, b'a', 0,
    0x81, 203, 0, 1, 1, 2, 3, 4,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn messages_that_were_tampered_with_do_no_harm(message in message(), cuts in cuts()) {
        let bytes = apply(&message, &cuts);
        fuzzing::sip_message(&bytes);
        fuzzing::sip_stream(&bytes);
    }

    #[test]
    fn descriptions_that_were_tampered_with_do_no_harm(cuts in cuts()) {
        fuzzing::sdp(&apply(SDP, &cuts));
    }

    #[test]
    fn packets_that_were_tampered_with_do_no_harm(cuts in cuts()) {
        fuzzing::rtp(&apply(RTP, &cuts));
        fuzzing::rtcp(&apply(RTCP, &cuts));
    }
}
