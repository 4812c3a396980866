//! A call that was written down and taken up again.

use super::super::header::first;
use super::*;

/// What the store held, read again by the next server, whose session offers [`OTHER`].
fn again(desk: &Desk, profile: Profile) -> Desk {
    let text = serde_json::to_string(&desk.ua.kept().expect("it stands")).unwrap();
    let kept = serde_json::from_str(&text).unwrap();
    Desk::new(desk.now, Ua::resume(desk.now, profile, kept, OTHER).unwrap(), desk.tag)
}

/// Ours, and one that came in; after a restart.
fn both() -> [Desk; 2] {
    [Desk::answered(profile()), Desk::accepted(profile())].map(|desk| again(&desk, profile()))
}

/// Both, and the far side has answered the offer.
fn agreed() -> [Desk; 2] {
    both().map(|mut desk| {
        desk.reply_last(200, CONTACT, ANSWER);
        assert_eq!((desk.told(), desk.acks.len()), (vec![Event::Described(ANSWER.into())], 1));
        desk
    })
}

#[test]
fn it_offers_anew_in_the_same_dialog() {
    for before in [Desk::answered(profile()), Desk::accepted(profile())] {
        let mut before = before;
        before.act(Command::Refer { to: "sip:x@y".into(), by: None }).unwrap();
        let old = before.last().headers.clone();
        let desk = again(&before, Profile { contact: "<sip:another@host>".into(), ..profile() });
        let (offer, after) = (desk.last(), &desk.last().headers);
        assert_eq!((offer.method.to_string().as_str(), sdp(&offer.body).as_str()), ("INVITE", OTHER));
        for name in ["From", "To", "Call-ID", "Contact"] {
            assert_eq!(of(after, name), of(&old, name), "{name}");
        }
        let routes = |headers: &_| super::super::header::list(headers, "Route");
        assert_eq!((routes(after), &offer.uri), (routes(&old), &before.last().uri));
        let number = |headers: &_| super::super::header::cseq(headers).unwrap().0;
        assert!(number(after) > number(&old), "RFC 3261 §12.2.1.1");
        assert_eq!(desk.ua.dialog(), before.ua.dialog());
    }
}

#[test]
fn either_side_offers_and_hangs_up_as_before() {
    for mut desk in agreed() {
        let id = desk.request("INVITE", 7, CONTACT, OFFER);
        assert_eq!(desk.told(), [Event::Offered(OFFER.into())]);
        desk.act(Command::Answer(ANSWER.into())).unwrap();
        assert_eq!((desk.code(id), sdp(&desk.response(id).body).as_str()), (Some(200), ANSWER));
        desk.request("ACK", 7, "", "");
        desk.act(Command::Offer(OFFER.into())).unwrap();
        assert_eq!(sdp(&desk.last().body), OFFER);
        desk.reply_last(200, CONTACT, ANSWER);
        let bye = desk.request("BYE", 8, "", "");
        assert_eq!((desk.code(bye), desk.ending().by), (Some(200), By::Far));
        assert!(desk.ua.is_over());
    }
    for mut desk in both() {
        // Before the offer is answered.
        desk.act(Command::End { reason: Some("Q.850;cause=16".into()) }).unwrap();
        let bye = desk.last();
        assert_eq!((bye.method.to_string().as_str(), of(&bye.headers, "Reason")), ("BYE", "Q.850;cause=16"));
        assert_eq!(desk.ending().by, By::Near);
        desk.reply_last(200, "", "");
    }
}

#[test]
fn a_far_side_that_is_gone_ends_it() {
    for code in [481, 408] {
        for mut desk in both() {
            desk.reply_last(code, "", "");
            assert_eq!(desk.last().method.to_string(), "BYE", "RFC 3261 §12.2.1.2");
            assert_eq!(desk.ending().by, By::Timer);
        }
    }
}

#[test]
fn a_far_side_that_can_t_be_reached_is_tried_for_a_while() {
    for mut desk in both() {
        desk.reply_last(503, "", "");
        assert_eq!(desk.told(), []);
        desk.pass(SECOND * 5);
        assert_eq!((desk.requests.len(), sdp(&desk.last().body).as_str()), (2, OTHER));
        desk.reply_last(200, CONTACT, ANSWER);
        assert_eq!(desk.told(), [Event::Described(ANSWER.into())]);
        // Once it is known to be there, a refusal is one.
        desk.act(Command::Offer(OFFER.into())).unwrap();
        desk.reply_last(503, "", "");
        assert_eq!(desk.told(), [Event::OfferRefused(503)]);
    }
    for mut desk in both() {
        for _ in 0..8 {
            desk.reply_last(503, "", "");
            assert_eq!(desk.told(), []);
            desk.pass(SECOND * 5);
        }
        desk.reply_last(503, "", "");
        assert_eq!(desk.ending().by, By::Timer);
    }
}

#[test]
fn a_refusal_leaves_the_call_and_glare_is_got_over() {
    for mut desk in both() {
        desk.reply_last(488, "", "");
        assert_eq!(desk.told(), [Event::OfferRefused(488)]);
        // RFC 3261 §14.2: what would be offered now is what we just did.
        let id = desk.request("INVITE", 7, CONTACT, "");
        assert_eq!(sdp(&desk.response(id).body), OTHER);
    }
    for mut desk in both() {
        let id = desk.request("INVITE", 7, CONTACT, OFFER);
        assert_eq!(desk.code(id), Some(491));
        desk.reply_last(491, "", "");
        desk.pass(SECOND * 5);
        assert_eq!((desk.requests.len(), sdp(&desk.last().body).as_str()), (2, OTHER));
        desk.reply_last(200, CONTACT, ANSWER);
        assert_eq!(desk.told(), [Event::Described(ANSWER.into())]);
    }
}

#[test]
fn what_the_far_side_has_numbered_is_not_taken_twice() {
    let mut before = Desk::accepted(profile());
    before.request("OPTIONS", 9, "", "");
    for (seq, code) in [(9, 500), (3, 500), (10, 200)] {
        let mut desk = again(&before, profile());
        let id = desk.request("OPTIONS", seq, "", "");
        assert_eq!(desk.code(id), Some(code), "{seq}");
    }
}

#[test]
fn the_session_is_refreshed_on_time_or_ends() {
    for (agreed, refreshes) in [("uac", true), ("uas", false)] {
        let timed = Profile { session_expires: Some(SECOND * 600), ..profile() };
        let mut before = Desk::caller(timed.clone(), Some(OFFER));
        let line = format!("Session-Expires: 600;refresher={agreed}\r\n");
        before.reply(0, 200, "far", &format!("{CONTACT}{line}"), ANSWER);
        let mut desk = again(&before, timed.clone());
        let asked = format!("600;refresher={agreed}");
        assert_eq!(of(&desk.last().headers, "Session-Expires"), asked);
        desk.reply_last(200, &format!("{CONTACT}{line}"), ANSWER);
        desk.told();
        desk.pass(SECOND * 300);
        assert_eq!(desk.requests.len(), if refreshes { 2 } else { 1 });
        if refreshes {
            assert_eq!(desk.last().method.to_string(), "UPDATE");
            desk.reply_last(200, &line, "");
        }
        desk.pass(SECOND * (600 - 32));
        assert_eq!((desk.last().method.to_string().as_str(), desk.ending().by), ("BYE", By::Timer));
        // Nobody answers the offer, and nobody refreshes.
        let mut desk = again(&before, timed);
        desk.pass(SECOND * (600 - 32));
        assert_eq!(desk.ending().by, By::Timer);
    }
}

#[test]
fn it_is_written_down_while_it_stands_and_anew_when_that_matters() {
    let mut desk = Desk::caller(profile(), Some(OFFER));
    assert_eq!(desk.ua.kept(), None);
    desk.reply(0, 183, "far", CONTACT, ANSWER);
    assert_eq!(desk.ua.kept(), None, "an early dialog");
    desk.reply(0, 200, "far", CONTACT, ANSWER);
    let first = desk.ua.kept().unwrap();
    for seq in 1..20 {
        desk.request("INFO", seq, "", "");
    }
    desk.act(Command::Offer(OTHER.into())).unwrap();
    desk.reply_last(200, CONTACT, ANSWER);
    assert!(first.serves(&desk.ua.kept().unwrap()), "numbers come in blocks");
    for _ in 0..20 {
        desk.act(Command::Offer(OTHER.into())).unwrap();
        desk.reply_last(200, CONTACT, ANSWER);
    }
    let number = super::super::header::cseq(&desk.last().headers).unwrap().0;
    let later = desk.ua.kept().unwrap();
    assert!(!first.serves(&later));
    let resumed = again(&desk, profile());
    assert!(super::super::header::cseq(&resumed.last().headers).unwrap().0 > number);
    desk.request("UPDATE", 30, "Contact: <sip:moved@192.0.2.50>\r\n", "");
    assert!(!later.serves(&desk.ua.kept().unwrap()), "the remote target");
    desk.act(Command::End { reason: None }).unwrap();
    assert_eq!(desk.ua.kept(), None);
}

#[test]
fn a_second_transfer_is_named_after_a_restart() {
    for mut desk in agreed() {
        desk.request("REFER", 7, "Refer-To: <sip:carol@z>\r\n", "");
        let notify = desk.requests.iter().map(|(_, r)| r).find(|r| r.method.to_string() == "NOTIFY").unwrap();
        assert_eq!(first(&notify.headers, "Event"), Some("refer;id=7"));
    }
}
