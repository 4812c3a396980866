//! What fuzz targets call: descriptions and packets of others, without sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::negotiation::Negotiation;
use super::{RtpSettings, Srtp};
use crate::media::rtp::lane::Outcome;
use crate::protocol::directive::Directives;

const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
    m=audio 9000 RTP/AVP 0 9 96 97 101\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:97 AMR-WB/16000\r\n\
    a=rtpmap:101 telephone-event/8000\r\na=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n";
const PLAYS: &str = "1 to 1: PCMU; telephone-event;";

fn core(srtp: Srtp) -> Core {
    let settings = RtpSettings {
        listen: [192, 0, 2, 2].into(),
        public: None,
        range: None,
        most: 1,
        srtp,
        codecs: RtpSettings::all_codecs(),
    };
    Core::new(Negotiation::new(&settings, settings.listen, 9_002, 1), Arc::default(), 1 << 100 | 7)
}

/// A description: as an offer, and as the answer to ours.
pub(in crate::adapter::sip) fn sdp(text: &str) {
    for srtp in [Srtp::Off, Srtp::Offered, Srtp::Required] {
        let mut answering = core(srtp);
        if let Ok(answer) = answering.answer(text) {
            assert_eq!(
                answering.answer(text).ok().map(|again| again.len()),
                Some(answer.len()),
                "it is taken again"
            );
            answering.negotiation().offer(true);
        }
        let mut offering = core(srtp);
        offering.negotiation().offer(false);
        let _ = offering.answered(text);
    }
}

/// A packet on one of a leg's ports.
pub(in crate::adapter::sip) fn packet(packet: &[u8], rtcp: bool) {
    let mut core = core(Srtp::Off);
    core.answer(OFFER).expect("an ordinary offer is taken");
    let plays = Directives::parse(PLAYS).expect("a directive");
    core.direct(plays.clone(), plays);
    let from = SocketAddr::from(([192, 0, 2, 1], 9_000));
    for n in 1..=2 {
        let now = (Duration::from_millis(20 * n), 20 * n);
        let mut data = packet.to_vec();
        if rtcp {
            core.on_rtcp(now, from, &mut data);
        } else {
            core.on_rtp(now, from, &mut data, &mut Outcome::default());
        }
        core.report(now, false, &mut |_, _, _| {});
    }
}
