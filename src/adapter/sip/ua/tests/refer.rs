//! Transfer (RFC 3515).

use super::*;

const NOTE: &str =
    "Event: refer\r\nSubscription-State: active;expires=60\r\nContent-Type: message/sipfrag\r\n";
const LAST: &str =
    "Event: refer\r\nSubscription-State: terminated;reason=noresource\r\nContent-Type: message/sipfrag\r\n";

#[test]
fn our_refer_is_followed_to_its_end() {
    let mut desk = Desk::answered(profile());
    let to = "sip:carol@z?Replaces=abc%3Bto-tag%3Dx%3Bfrom-tag%3Dy";
    desk.act(Command::Refer { to: to.into(), by: Some("sip:near@y".into()) }).unwrap();
    assert_eq!(of(&desk.last().headers, "Refer-To"), format!("<{to}>"));
    assert_eq!(of(&desk.last().headers, "Referred-By"), "<sip:near@y>");
    let again = desk.act(Command::Refer { to: to.into(), by: None });
    assert!(matches!(again, Err(Refused::State(_))));
    // NOTIFY may overtake the 202.
    let id = desk.request("NOTIFY", 1, NOTE, "SIP/2.0 100 Trying\r\n");
    assert_eq!(desk.code(id), Some(200));
    desk.reply_last(202, "", "");
    desk.request("NOTIFY", 2, NOTE, "SIP/2.0 180 Ringing\r\n");
    desk.request("NOTIFY", 3, LAST, "SIP/2.0 200 OK\r\n");
    assert_eq!(desk.told(), [Event::Referred(100), Event::Referred(180), Event::Referred(200)]);
    let id = desk.request("NOTIFY", 4, LAST, "SIP/2.0 200 OK\r\n");
    assert_eq!(desk.code(id), Some(481));
}

#[test]
fn our_refer_is_refused_or_never_heard_of_again() {
    for (code, lines, told) in
        [(603, "", Some(603)), (202, "Refer-Sub: false\r\n", Some(202)), (202, "", None)]
    {
        let mut desk = Desk::answered(profile());
        desk.act(Command::Refer { to: "sip:x@y".into(), by: None }).unwrap();
        desk.reply_last(code, lines, "");
        assert_eq!(desk.told().pop(), told.map(Event::Referred));
        desk.pass(SECOND * 181);
        assert_eq!(desk.told().pop(), if told.is_none() { Some(Event::Referred(408)) } else { None });
    }
}

#[test]
fn a_subscription_that_ends_without_a_result_is_a_failure() {
    for body in ["SIP/2.0 100 Trying\r\n", "", "garbage", "SIP/2.0 99999 X\r\n"] {
        let mut desk = Desk::answered(profile());
        desk.act(Command::Refer { to: "sip:x@y".into(), by: None }).unwrap();
        desk.request("NOTIFY", 1, LAST, body);
        assert_eq!(desk.told(), [Event::Referred(408)], "{body}");
    }
}

#[test]
fn their_refer_is_taken_told_and_reported_on() {
    let mut desk = Desk::answered(profile());
    let lines = "Refer-To: \"C\" <sip:carol@z;user=phone?Replaces=abc%40h%3Bto-tag%3D1%3Bfrom-tag%3D2&X=y>\r\nReferred-By: <sip:far@x>\r\n";
    let id = desk.request("REFER", 1, lines, "");
    assert_eq!(desk.code(id), Some(202));
    assert_eq!(
        desk.told(),
        [Event::Refer {
            to: "sip:carol@z;user=phone".into(),
            replaces: Some("abc@h;to-tag=1;from-tag=2".into()),
            by: Some("<sip:far@x>".into()),
        }]
    );
    let first = desk.last();
    assert_eq!((of(&first.headers, "Event"), sdp(&first.body).as_str()), ("refer", "SIP/2.0 100 Trying\r\n"));
    desk.reply_last(200, "", "");
    let second = desk.request("REFER", 2, lines, "");
    assert_eq!(desk.code(second), Some(491));
    desk.act(Command::ReferProgress(180)).unwrap();
    assert!(of(&desk.last().headers, "Subscription-State").starts_with("active"));
    desk.act(Command::ReferProgress(200)).unwrap();
    assert_eq!(of(&desk.last().headers, "Subscription-State"), "terminated;reason=noresource");
    assert_eq!(sdp(&desk.last().body), "SIP/2.0 200 OK\r\n");
    assert_eq!(of(&desk.last().headers, "Content-Type"), "message/sipfrag;version=2.0");
    assert!(matches!(desk.act(Command::ReferProgress(200)), Err(Refused::State(_))));
    // RFC 3515 §2.4.6
    desk.request("REFER", 3, lines, "");
    assert_eq!(of(&desk.last().headers, "Event"), "refer;id=3");
}

#[test]
fn a_refer_that_wants_no_reports_gets_none() {
    // RFC 4488
    let mut desk = Desk::answered(profile());
    let id =
        desk.request("REFER", 1, "Refer-To: <sip:c@z>\r\nRefer-Sub: false\r\nRequire: norefersub\r\n", "");
    assert_eq!(of(&desk.response(id).headers, "Refer-Sub"), "false");
    desk.act(Command::ReferProgress(200)).unwrap();
    assert!(desk.requests.is_empty());
}

#[test]
fn a_refer_that_cant_be_followed_is_refused() {
    for (lines, code) in [
        ("", 400),
        ("Refer-To: <sip:a@b>, <sip:c@d>\r\n", 400),
        ("Refer-To: <sip:a@b>\r\nRefer-To: <sip:c@d>\r\n", 400),
        ("Refer-To: nowhere\r\n", 400),
        ("Refer-To: <sip:a@b;method=BYE>\r\n", 501),
    ] {
        let mut desk = Desk::answered(profile());
        let id = desk.request("REFER", 1, lines, "");
        assert_eq!((desk.code(id), desk.told()), (Some(code), vec![]), "{lines}");
    }
    let mut early = Desk::callee(profile(), "", OFFER);
    let id = early.request("REFER", 2, "Refer-To: <sip:a@b>\r\n", "");
    assert_eq!(early.code(id), Some(403));
}
