//! What fuzz targets call (`tests/fuzz`): all that is done with bytes of others, without sockets. Each panics where something
//! that must hold doesn't.

use std::net::SocketAddr;
use std::time::Duration;

use rsipstack::sip::{Method, Request, Response, SipMessage};

use super::frame::Frames;
use super::strict::{self, Read};
use super::ua::{Input, Profile, Reliable, Ua};
use super::{reply, rtp};
use crate::clock;

/// A datagram on the SIP port: checked, parsed, and answered or given to a user agent.
pub fn sip_message(datagram: &[u8]) {
    let from = SocketAddr::from(([192, 0, 2, 1], 5_062));
    let message = match strict::read(datagram, from) {
        Read::Message(message, plain) => {
            if let Some(plain) = plain {
                let again = strict::read(&plain, from);
                assert!(matches!(again, Read::Message(_, None)), "what was made plain is plain");
            }
            *message
        }
        Read::Blank | Read::Drop(_) => return,
        Read::Refuse(refusal) => {
            let text = refusal.message.as_slice();
            let response = Response::try_from(text).expect("a refusal is a response");
            assert!(text.len() <= datagram.len() * 3 + 1_024, "a refusal is no amplifier");
            assert_eq!((u16::from(response.status_code), refusal.to.ip()), (refusal.code, from.ip()));
            return;
        }
    };
    match message {
        SipMessage::Request(request) => take(request),
        SipMessage::Response(response) => hear(response),
    }
}

/// Bytes of a stream, in pieces: what stands in it doesn't depend on how it comes.
pub fn sip_stream(bytes: &[u8]) {
    let read = |size: usize| {
        let (mut frames, mut all) = (Frames::default(), Vec::new());
        for piece in bytes.chunks(size.max(1)) {
            frames.buffer.extend_from_slice(piece);
            while let Some(frame) = frames.next(false).unwrap_or(None) {
                all.push(frame);
            }
        }
        all
    };
    let whole = read(bytes.len());
    for size in [1, 7] {
        // After what is no message nothing is found any more, or something else.
        let pieces = read(size);
        assert!(whole.iter().zip(&pieces).take(1).all(|(one, other)| one == other), "pieces change nothing");
    }
}

fn take(request: Request) {
    strict::check(&request).err();
    let answer = SipMessage::from(reply::response(&request, 200, vec![])).to_bytes();
    Response::try_from(answer.as_slice()).expect("our answer can be read");
    let call = Request { method: Method::Invite, ..request.clone() };
    for arriving in [call, request] {
        if let Ok(mut ua) = Ua::arrive(clock::instant(), profile(), 1, arriving.clone()) {
            let _ = ua.handle(clock::instant(), Input::Request(2, arriving));
            while ua.poll().is_some() {}
        }
    }
}

fn hear(response: Response) {
    let mut ua = Ua::place(clock::instant(), profile(), Some("v=0\r\n".to_owned()));
    while ua.poll().is_some() {}
    let _ = ua.handle(clock::instant(), Input::Response(0, response));
    while ua.poll().is_some() {}
}

fn profile() -> Profile {
    Profile {
        target: "sip:b@192.0.2.1".to_owned(),
        from: "<sip:a@192.0.2.2>".to_owned(),
        to: "<sip:b@192.0.2.1>".to_owned(),
        contact: "<sip:a@192.0.2.2>".to_owned(),
        route: vec![],
        headers: vec![],
        reliable: Reliable::Supported,
        session_expires: Some(Duration::from_secs(1_800)),
        min_se: Duration::from_secs(90),
        credentials: None,
        product: "fuzz".to_owned(),
        seed: 7,
    }
}

/// A description: as an offer, and as the answer to ours.
pub fn sdp(text: &[u8]) {
    rtp::fuzzing::sdp(&String::from_utf8_lossy(text));
}

/// A packet on the RTP port of a leg.
pub fn rtp(packet: &[u8]) {
    rtp::fuzzing::packet(packet, false);
}

/// A packet on the RTCP port of a leg.
pub fn rtcp(packet: &[u8]) {
    rtp::fuzzing::packet(packet, true);
}
