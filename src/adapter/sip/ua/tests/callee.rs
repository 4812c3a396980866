//! An INVITE that comes in.

use super::super::header::{all, first};
use super::*;

fn refused(profile: Profile, invite: Request) -> Response {
    match Ua::arrive(crate::clock::instant(), profile, 1, invite) {
        Ok(_) => panic!("taken"),
        Err(response) => *response,
    }
}

#[test]
fn a_call_is_rung_answered_and_acknowledged() {
    let mut desk = Desk::callee(Profile { reliable: Reliable::No, ..profile() }, "", OFFER);
    assert_eq!(desk.told(), [Event::Offered(OFFER.into())]);
    desk.act(Command::Ring { answer: None }).unwrap();
    let ringing = desk.response(1).clone();
    assert_eq!(ringing.status_code.code(), 180);
    for (name, value) in [
        ("Via", "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKi"),
        ("From", "\"Far\" <sip:far@x>;tag=far"),
        ("Call-ID", "c1"),
        ("CSeq", "1 INVITE"),
        ("Contact", "<sip:gw@192.0.2.1:5060>"),
        ("Server", "ript"),
        ("P-Preferred-Identity", "<sip:+15550001@ims.test>"),
    ] {
        assert_eq!(of(&ringing.headers, name), value);
    }
    assert_eq!(of(&ringing.headers, "To"), format!("<sip:near@y>;tag={}", desk.ua.local_tag()));
    let routes = all(&ringing.headers, "Record-Route").collect::<Vec<_>>();
    assert_eq!(routes, ["<sip:p2.test;lr>", "<sip:p1.test;lr>"]);
    assert_eq!(first(&ringing.headers, "RSeq"), None);
    desk.act(Command::Accept { sdp: ANSWER.into() }).unwrap();
    assert_eq!((desk.code(1), sdp(&desk.response(1).body).as_str()), (Some(200), ANSWER));
    assert_eq!(desk.told(), []);
    desk.request("ACK", 1, "", "");
    assert_eq!(desk.told(), [Event::Answered]);
    desk.act(Command::End { reason: Some("Q.850;cause=16".into()) }).unwrap();
    let bye = desk.last();
    assert_eq!(bye.uri.to_string(), "sip:far@192.0.2.9:5070");
    let way = all(&bye.headers, "Route").collect::<Vec<_>>();
    assert_eq!(way, ["<sip:p2.test;lr>", "<sip:p1.test;lr>"], "RFC 3261 §12.1.1: in their order");
    assert_eq!(of(&bye.headers, "To"), "\"Far\" <sip:far@x>;tag=far");
    assert_eq!(of(&bye.headers, "Reason"), "Q.850;cause=16");
    assert!(!desk.ua.is_over());
    desk.reply_last(200, "", "");
    assert!(desk.ua.is_over());
}

#[test]
fn early_media_of_an_unreliable_183_is_answered_once_more_in_the_200() {
    let mut desk = Desk::callee(Profile { reliable: Reliable::No, ..profile() }, "", OFFER);
    desk.act(Command::Progress { answer: Some(ANSWER.into()) }).unwrap();
    assert_eq!((desk.code(1), sdp(&desk.response(1).body).as_str()), (Some(183), ANSWER));
    desk.act(Command::Ring { answer: None }).unwrap();
    assert_eq!((desk.code(1), sdp(&desk.response(1).body).as_str()), (Some(180), ANSWER));
    desk.act(Command::Accept { sdp: ANSWER.into() }).unwrap();
    assert_eq!((desk.code(1), sdp(&desk.response(1).body).as_str()), (Some(200), ANSWER));
}

#[test]
fn an_invite_without_an_offer_gets_ours_in_the_200_and_its_answer_in_the_ack() {
    let mut desk = Desk::callee(Profile { reliable: Reliable::No, ..profile() }, "", "");
    assert_eq!(desk.told(), []);
    // RFC 3261 §13.2.1: no offer in an unreliable response.
    desk.act(Command::Progress { answer: Some(OTHER.into()) }).unwrap();
    assert!(desk.response(1).body.is_empty());
    desk.act(Command::Accept { sdp: OTHER.into() }).unwrap();
    assert_eq!(sdp(&desk.response(1).body), OTHER);
    desk.request("ACK", 1, "", ANSWER);
    assert_eq!(desk.told(), [Event::Described(ANSWER.into()), Event::Answered]);
}

#[test]
fn an_ack_without_the_answer_ends_the_call() {
    let mut desk = Desk::callee(Profile { reliable: Reliable::No, ..profile() }, "", "");
    desk.act(Command::Accept { sdp: OTHER.into() }).unwrap();
    desk.request("ACK", 1, "", "");
    assert_eq!(desk.last().method.to_string(), "BYE");
    assert_eq!(desk.ending().by, By::Timer);
}

#[test]
fn what_cant_be_taken_is_refused_with_what_would_be_right() {
    let required = Profile { reliable: Reliable::Required, ..profile() };
    let raw = |from: &str, to: &str| {
        let text = invite("", OFFER).to_string().replace(from, to);
        Request::try_from(text.as_str()).unwrap()
    };
    for (name, response, code, header) in [
        (
            "unknown extension",
            refused(profile(), invite("Require: 100rel, foo, bar\r\n", OFFER)),
            420,
            ("Unsupported", "foo, bar"),
        ),
        ("no 100rel", refused(required, invite("", OFFER)), 421, ("Require", "100rel")),
        (
            "short",
            refused(profile(), invite("Supported: timer\r\nSession-Expires: 30\r\n", OFFER)),
            422,
            ("Min-SE", "90"),
        ),
        (
            "body",
            refused(profile(), invite("Content-Type: text/html\r\n", "<p>")),
            415,
            ("Accept", "application/sdp, application/dtmf-relay, message/sipfrag"),
        ),
        (
            "in a dialog",
            refused(profile(), raw("<sip:near@y>", "<sip:near@y>;tag=x")),
            481,
            ("To", "<sip:near@y>;tag=x"),
        ),
        (
            "no contact",
            refused(profile(), raw("Contact: <sip:far@192.0.2.9:5070>", "X-Own: y")),
            400,
            ("CSeq", "1 INVITE"),
        ),
        (
            "bad cseq",
            refused(profile(), raw("CSeq: 1 INVITE", "CSeq: 99999999999 INVITE")),
            400,
            ("Call-ID", "c1"),
        ),
        ("another method", refused(profile(), raw("CSeq: 1 INVITE", "CSeq: 1 BYE")), 400, ("Call-ID", "c1")),
        ("no call-id", refused(profile(), raw("Call-ID: c1", "X-Own: y")), 400, ("CSeq", "1 INVITE")),
    ] {
        assert_eq!(response.status_code.code(), code, "{name}");
        assert_eq!(of(&response.headers, header.0), header.1, "{name}");
        assert!(of(&response.headers, "To").contains(";tag="), "{name}");
    }
}

#[test]
fn extensions_that_may_be_required_are_taken() {
    for tag in ["100rel", "timer", "replaces", "norefersub", "precondition", "100rel, Timer"] {
        let desk = Desk::callee(profile(), &format!("Require: {tag}\r\n"), OFFER);
        assert_eq!(desk.events.len(), 1, "{tag}");
    }
}

#[test]
fn a_refusal_says_why_and_when_to_come_again() {
    let mut desk = Desk::callee(profile(), "", OFFER);
    let refuse =
        |code| Command::Reject { code, retry_after: Some(30), reason: Some("Q.850;cause=41".into()) };
    assert_eq!(desk.act(refuse(200)), Err(Refused::Code(200)));
    desk.act(refuse(503)).unwrap();
    let response = desk.response(1);
    assert_eq!(response.status_code.code(), 503);
    assert_eq!(of(&response.headers, "Retry-After"), "30");
    assert_eq!(of(&response.headers, "Reason"), "Q.850;cause=41");
    assert_eq!((desk.ending().by, desk.ua.is_over()), (By::Near, true));
}

#[test]
fn cancel_is_487_to_the_invite_and_too_late_after_the_200() {
    let mut desk = Desk::callee(profile(), "", OFFER);
    desk.told();
    desk.request("CANCEL", 1, "Reason: SIP;cause=200;text=\"elsewhere\"\r\n", "");
    assert_eq!(desk.code(1), Some(487));
    let ending = desk.ending();
    assert_eq!((ending.by, ending.code), (By::Far, Some(487)));
    assert_eq!(ending.reason.as_deref(), Some("SIP;cause=200;text=\"elsewhere\""));
    assert!(desk.ua.is_over());

    let mut late = Desk::callee(profile(), "", OFFER);
    late.act(Command::Accept { sdp: ANSWER.into() }).unwrap();
    late.told();
    late.request("CANCEL", 1, "", "");
    assert_eq!((late.code(1), late.told()), (Some(200), vec![]));
    late.request("ACK", 1, "", "");
    assert_eq!(late.told(), [Event::Answered]);
}

#[test]
fn a_200_that_nobody_acknowledges_is_ended_by_bye_after_32_s() {
    // RFC 3261 §13.3.1.4
    let mut desk = Desk::callee(profile(), "", OFFER);
    desk.act(Command::Accept { sdp: ANSWER.into() }).unwrap();
    desk.told();
    desk.pass(SECOND * 31);
    assert!(desk.requests.is_empty());
    desk.pass(SECOND);
    assert_eq!(desk.last().method.to_string(), "BYE");
    let ending = desk.ending();
    assert_eq!((ending.by, ending.why), (By::Timer, "no ACK came"));
    desk.reply_last(481, "", "");
    assert!(desk.ua.is_over());
}

#[test]
fn our_bye_waits_for_the_ack() {
    // RFC 3261 §15
    for acknowledged in [true, false] {
        let mut desk = Desk::callee(profile(), "", OFFER);
        desk.act(Command::Accept { sdp: ANSWER.into() }).unwrap();
        desk.act(Command::End { reason: None }).unwrap();
        assert_eq!((desk.ending().by, desk.requests.len()), (By::Near, 0));
        assert!(!desk.ua.is_over());
        if acknowledged {
            desk.request("ACK", 1, "", "");
        } else {
            desk.pass(SECOND * 32);
        }
        assert_eq!(desk.last().method.to_string(), "BYE");
        desk.reply_last(200, "", "");
        assert!(desk.ua.is_over());
    }
}

#[test]
fn proxies_hear_each_minute_that_it_rings() {
    // RFC 3261 §13.3.1.1
    let mut desk = Desk::callee(Profile { reliable: Reliable::No, ..profile() }, "", OFFER);
    desk.act(Command::Ring { answer: None }).unwrap();
    desk.pass(SECOND * 185);
    let rings = desk.responses.iter().filter(|(_, r)| r.status_code.code() == 180).count();
    assert_eq!(rings, 4);
}

#[test]
fn an_invite_expires() {
    let mut desk = Desk::callee(profile(), "Expires: 20\r\n", OFFER);
    desk.told();
    desk.pass(SECOND * 20);
    assert_eq!((desk.code(1), desk.ending().code), (Some(487), Some(487)));
}

#[test]
fn commands_that_dont_fit_are_refused_and_change_nothing() {
    let mut desk = Desk::callee(profile(), "", OFFER);
    assert!(matches!(desk.act(Command::Answer(ANSWER.into())), Err(Refused::State(_))));
    assert!(matches!(desk.act(Command::Offer(ANSWER.into())), Err(Refused::OfferOut)));
    assert!(matches!(desk.act(Command::Refer { to: "sip:x@y".into(), by: None }), Err(Refused::State(_))));
    assert!(matches!(desk.act(Command::ReferProgress(200)), Err(Refused::State(_))));
    assert!(desk.responses.is_empty() && desk.requests.is_empty());
    desk.act(Command::Accept { sdp: ANSWER.into() }).unwrap();
    assert!(matches!(desk.act(Command::Accept { sdp: ANSWER.into() }), Err(Refused::State(_))));
    assert!(matches!(desk.act(Command::Ring { answer: None }), Err(Refused::State(_))));
    let reject = Command::Reject { code: 486, retry_after: None, reason: None };
    assert!(matches!(desk.act(reject), Err(Refused::State(_))));
    let mut ours = Desk::caller(profile(), Some(OFFER));
    assert!(matches!(ours.act(Command::Ring { answer: None }), Err(Refused::State(_))));
    assert!(matches!(ours.act(Command::Offer(OTHER.into())), Err(Refused::State(_))));
}

#[test]
fn a_caller_without_a_tag_has_a_dialog() {
    // RFC 3261 §12.1.1
    let text = invite("", OFFER).to_string().replace(";tag=far", "");
    let now = crate::clock::instant();
    let ua = Ua::arrive(now, profile(), 1, Request::try_from(text.as_str()).unwrap()).unwrap();
    assert_eq!(ua.dialog().unwrap().remote_tag, "");
    assert_eq!(ua.invite().unwrap().method.to_string(), "INVITE");
}
