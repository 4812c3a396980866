//! An INVITE of ours.

use super::super::header::{all, first};
use super::*;

#[test]
fn an_invite_has_what_the_standard_asks_for_and_no_via() {
    let desk = Desk::caller(profile(), Some(OFFER));
    let [(0, invite)] = desk.requests.as_slice() else { panic!("{:?}", desk.requests) };
    assert_eq!(invite.uri.to_string(), "sip:+15550002@ims.test;user=phone");
    for (name, value) in [
        ("Route", "<sip:pcscf.test;lr>"),
        ("Max-Forwards", "70"),
        ("To", "<sip:+15550002@ims.test>"),
        ("CSeq", "1 INVITE"),
        ("Contact", "<sip:gw@192.0.2.1:5060>"),
        ("Supported", "100rel, timer, replaces, norefersub"),
        ("User-Agent", "ript"),
        ("Content-Type", "application/sdp"),
        ("P-Preferred-Identity", "<sip:+15550001@ims.test>"),
    ] {
        assert_eq!(of(&invite.headers, name), value, "{name}");
    }
    assert_eq!(first(&invite.headers, "Via"), None);
    let from = format!("<sip:+15550001@ims.test>;tag={}", desk.ua.local_tag());
    assert_eq!(of(&invite.headers, "From"), from);
    assert_eq!(of(&invite.headers, "Call-ID"), desk.ua.call_id());
    assert_eq!(sdp(&invite.body), OFFER);
}

#[test]
fn an_answer_is_acknowledged_by_the_reversed_route_to_the_contact() {
    let mut desk = Desk::caller(profile(), Some(OFFER));
    desk.reply(0, 100, "", "", "");
    desk.reply(0, 180, "far", CONTACT, "");
    let routes = "Record-Route: <sip:p3.test;lr>, <sip:p2.test;lr>\r\nRecord-Route: <sip:p1.test;lr>\r\n";
    desk.reply(0, 200, "far", &format!("{CONTACT}{routes}"), ANSWER);
    assert_eq!(
        desk.told(),
        [
            Event::Provisional { code: 180, early_media: None },
            Event::Described(ANSWER.into()),
            Event::Answered
        ]
    );
    let ack = &desk.acks[0];
    assert_eq!(ack.uri.to_string(), "sip:far@192.0.2.9:5070");
    let way = all(&ack.headers, "Route").collect::<Vec<_>>();
    assert_eq!(way, ["<sip:p1.test;lr>", "<sip:p2.test;lr>", "<sip:p3.test;lr>"]);
    assert_eq!(of(&ack.headers, "CSeq"), "1 ACK");
    assert_eq!(of(&ack.headers, "To"), "<sip:+15550002@ims.test>;tag=far");
    let dialog = desk.ua.dialog().unwrap();
    assert_eq!((dialog.remote_tag.as_str(), dialog.early), ("far", false));
    let replaces = format!("{};to-tag=far;from-tag={}", desk.ua.call_id(), desk.ua.local_tag());
    assert_eq!(dialog.replaces(), replaces);
}

#[test]
fn a_2xx_that_comes_again_is_acknowledged_again() {
    let mut desk = Desk::caller(profile(), Some(OFFER));
    for n in 1..=3 {
        desk.reply(0, 200, "far", CONTACT, ANSWER);
        assert_eq!(desk.acks.len(), n);
    }
    assert_eq!(desk.acks[0], desk.acks[2]);
    assert_eq!(desk.told().len(), 2, "described and answered, once");
}

#[test]
fn a_strict_router_gets_the_request_as_its_own() {
    // RFC 3261 §12.2.1.1
    let mut desk = Desk::caller(profile(), Some(OFFER));
    let routes = "Record-Route: <sip:loose.test;lr>, <sip:strict.test>\r\n";
    desk.reply(0, 200, "far", &format!("{CONTACT}{routes}"), ANSWER);
    let ack = &desk.acks[0];
    assert_eq!(ack.uri.to_string(), "sip:strict.test");
    let way = all(&ack.headers, "Route").collect::<Vec<_>>();
    assert_eq!(way, ["<sip:loose.test;lr>", "<sip:far@192.0.2.9:5070>"]);
}

#[test]
fn early_media_is_told_unless_the_network_forbids_it() {
    // RFC 5009
    for (lines, body, heard) in [
        ("", ANSWER, Some(true)),
        ("P-Early-Media: sendrecv\r\n", ANSWER, Some(true)),
        ("P-Early-Media: inactive\r\n", ANSWER, Some(false)),
        ("P-Early-Media: recvonly, gated\r\n", ANSWER, Some(false)),
        ("P-Early-Media: sendonly\r\n", "", Some(false)),
        ("", "", None),
    ] {
        let mut desk = Desk::caller(profile(), Some(OFFER));
        desk.reply(0, 183, "far", &format!("{CONTACT}{lines}"), body);
        let told = desk.told();
        assert_eq!(told.last(), Some(&Event::Provisional { code: 183, early_media: heard }), "{lines}{body}");
        assert_eq!(told.len() == 2, !body.is_empty());
    }
}

#[test]
fn the_final_answer_of_a_branch_replaces_its_early_one() {
    let mut desk = Desk::caller(profile(), Some(OFFER));
    desk.reply(0, 183, "far", CONTACT, ANSWER);
    desk.reply(0, 183, "far", CONTACT, ANSWER);
    desk.reply(0, 200, "far", CONTACT, OTHER);
    let described = desk.told().into_iter().filter(|e| matches!(e, Event::Described(_))).collect::<Vec<_>>();
    assert_eq!(described, [Event::Described(ANSWER.into()), Event::Described(OTHER.into())]);
}

#[test]
fn two_branches_ring_and_one_is_the_call() {
    let mut desk = Desk::caller(profile(), Some(OFFER));
    desk.reply(0, 183, "a", CONTACT, ANSWER);
    desk.reply(0, 183, "b", CONTACT, OTHER);
    assert_eq!(
        desk.told().into_iter().filter(|e| matches!(e, Event::Described(_))).collect::<Vec<_>>(),
        [Event::Described(ANSWER.into()), Event::Described(OTHER.into())]
    );
    // The first branch answers without a description: its early one is told again, for the other's was the last.
    desk.reply(0, 200, "a", "Contact: <sip:a@192.0.2.10>\r\n", "");
    assert_eq!(desk.told(), [Event::Described(ANSWER.into()), Event::Answered]);
    assert_eq!(desk.ua.dialog().unwrap().remote_tag, "a");
    // RFC 3261 §13.2.2.4: the other one answers too: ACK and BYE, and nobody is told.
    desk.requests.retain(|(id, _)| *id == 0);
    desk.reply(0, 200, "b", "Contact: <sip:b@192.0.2.11>\r\n", OTHER);
    assert_eq!(desk.acks.last().unwrap().uri.to_string(), "sip:b@192.0.2.11");
    let bye = desk.last();
    assert_eq!((bye.method.to_string().as_str(), bye.uri.to_string().as_str()), ("BYE", "sip:b@192.0.2.11"));
    assert!(of(&bye.headers, "To").ends_with(";tag=b"));
    assert_eq!(of(&bye.headers, "CSeq"), "2 BYE");
    // And again, for its ACK was lost: ACK only.
    let (acks, requests) = (desk.acks.len(), desk.requests.len());
    desk.reply(0, 200, "b", "Contact: <sip:b@192.0.2.11>\r\n", OTHER);
    assert_eq!((desk.acks.len(), desk.requests.len()), (acks + 1, requests));
    assert_eq!(desk.told(), []);
    assert!(!desk.ua.is_over());
}

#[test]
fn branches_beyond_the_bound_ring_but_make_no_dialog_and_may_still_answer() {
    let mut desk = Desk::caller(profile(), Some(OFFER));
    for n in 0..40 {
        desk.reply(0, 183, &format!("t{n}"), CONTACT, ANSWER);
    }
    assert_eq!(desk.ua.dialogs.len(), super::super::uac::BRANCHES);
    desk.reply(0, 200, "t39", CONTACT, OTHER);
    assert_eq!(desk.ua.dialog().unwrap().remote_tag, "t39");
}

#[test]
fn a_branch_that_ended_early_is_forgotten() {
    // RFC 6228
    let mut desk = Desk::caller(profile(), Some(OFFER));
    desk.reply(0, 183, "a", CONTACT, ANSWER);
    desk.reply(0, 199, "a", CONTACT, "");
    assert_eq!(desk.ua.dialog(), None);
}

#[test]
fn an_offer_in_the_2xx_is_answered_in_the_ack() {
    let mut desk = Desk::caller(profile(), None);
    assert!(desk.requests[0].1.body.is_empty());
    desk.reply(0, 180, "far", CONTACT, "");
    desk.told();
    desk.reply(0, 200, "far", CONTACT, OTHER);
    assert_eq!(desk.told(), [Event::Offered(OTHER.into()), Event::Answered]);
    desk.reply(0, 200, "far", CONTACT, OTHER);
    assert_eq!(desk.acks.len(), 0, "our answer isn't there yet");
    desk.act(Command::Answer(ANSWER.into())).unwrap();
    assert_eq!(sdp(&desk.acks[0].body), ANSWER);
    desk.reply(0, 200, "far", CONTACT, OTHER);
    assert_eq!(desk.acks.len(), 2);
    assert_eq!(desk.act(Command::Answer(ANSWER.into())), Err(Refused::NoOffer));
}

#[test]
fn a_refused_offer_of_a_2xx_takes_no_stream_and_ends_the_call() {
    let mut desk = Desk::caller(profile(), None);
    desk.reply(0, 200, "far", CONTACT, OTHER);
    desk.act(Command::RefuseOffer).unwrap();
    assert!(sdp(&desk.acks[0].body).contains("m=audio 0 RTP/AVP 0"));
    assert_eq!(desk.last().method.to_string(), "BYE");
    assert_eq!((desk.ending().by, desk.acks.len()), (By::Near, 1));
}

#[test]
fn a_2xx_without_an_answer_or_an_offer_is_ended() {
    for offer in [Some(OFFER), None] {
        let mut desk = Desk::caller(profile(), offer);
        desk.reply(0, 200, "far", CONTACT, "");
        assert_eq!(desk.acks.len(), 1);
        assert_eq!(desk.last().method.to_string(), "BYE");
        let ending = desk.ending();
        assert_eq!((ending.by, ending.code), (By::Timer, None));
    }
}

#[test]
fn each_refusal_ends_the_call_with_what_it_says() {
    for (code, lines, retry_after, reason, moved) in [
        (486, "Reason: Q.850;cause=17\r\n", None, Some("Q.850;cause=17"), None),
        (503, "Retry-After: 120 (maintenance);duration=3\r\n", Some(120), None, None),
        (
            302,
            "Contact: <sip:b@c>;q=0.7, \"x\" <sip:else@z;user=phone>, <sip:d@e>\r\n",
            None,
            None,
            Some("sip:else@z;user=phone"),
        ),
        (413, "", None, None, None),
        (420, "Unsupported: 100rel\r\n", None, None, None),
        (
            603,
            "Reason: SIP;cause=603\r\nReason: Q.850;cause=21\r\n",
            None,
            Some("SIP;cause=603, Q.850;cause=21"),
            None,
        ),
        (401, "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n", None, None, None),
        (408, "", None, None, None),
    ] {
        let mut desk = Desk::caller(profile(), Some(OFFER));
        desk.reply(0, 180, "far", CONTACT, "");
        desk.reply(0, code, "far", lines, "");
        let ending = desk.ending();
        assert_eq!((ending.by, ending.code), (By::Far, Some(code)));
        assert_eq!((ending.retry_after, ending.reason.as_deref()), (retry_after, reason), "{code}");
        assert_eq!(ending.moved.first().map(String::as_str), moved);
        assert!(desk.ua.is_over(), "{code}");
        assert_eq!(desk.act(Command::End { reason: None }), Err(Refused::Over));
    }
}

#[test]
fn a_target_that_is_no_uri_is_over_at_once() {
    let mut desk = Desk::caller(Profile { target: "nobody at all".into(), ..profile() }, Some(OFFER));
    assert_eq!(desk.ending().code, Some(416));
    assert!(desk.ua.is_over() && desk.requests.is_empty());
}

#[test]
fn a_line_break_in_a_value_makes_no_header() {
    let bad = ("X-Own".to_owned(), "a\r\nEvil: yes".to_owned());
    let desk = Desk::caller(Profile { headers: vec![bad], ..profile() }, Some(OFFER));
    let read = Request::try_from(desk.last().to_bytes()).unwrap();
    assert_eq!(first(&read.headers, "Evil"), None);
    assert_eq!(of(&read.headers, "X-Own"), "a  Evil: yes");
}

#[test]
fn an_answer_without_contact_or_tag_is_still_one() {
    let mut desk = Desk::caller(profile(), Some(OFFER));
    desk.reply(0, 200, "", "Contact: <<<>>>;;\r\n", ANSWER);
    assert_eq!(desk.told().last(), Some(&Event::Answered));
    assert_eq!(desk.acks[0].uri.to_string(), "sip:+15550002@ims.test;user=phone");
}
