//! How a call ends.

use super::*;

fn end() -> Command {
    Command::End { reason: Some("Q.850;cause=16".into()) }
}

#[test]
fn cancel_waits_for_the_first_provisional_response_and_goes_once() {
    let mut desk = Desk::caller(profile(), Some(OFFER));
    desk.act(end()).unwrap();
    let ending = desk.ending();
    assert_eq!((ending.by, ending.code), (By::Near, Some(487)));
    assert!(desk.cancels.is_empty());
    for _ in 0..3 {
        desk.reply(0, 100, "", "", "");
        desk.reply(0, 180, "far", CONTACT, "");
    }
    assert_eq!(desk.cancels, [(0, Some("Q.850;cause=16".to_owned()))]);
    assert!(!desk.ua.is_over());
    desk.reply(0, 487, "far", "", "");
    assert!(desk.ua.is_over());
    assert_eq!(desk.told(), []);
}

#[test]
fn a_200_that_crosses_the_cancel_is_acknowledged_and_ended() {
    for offer in [Some(OFFER), None] {
        let mut desk = Desk::caller(profile(), offer);
        desk.reply(0, 180, "far", CONTACT, "");
        desk.act(end()).unwrap();
        desk.told();
        desk.reply(0, 200, "far", CONTACT, ANSWER);
        assert_eq!((desk.acks.len(), desk.told()), (1, vec![]));
        let bye = desk.last();
        assert_eq!((bye.method.to_string().as_str(), of(&bye.headers, "CSeq")), ("BYE", "2 BYE"));
        if offer.is_none() {
            assert!(sdp(&desk.acks[0].body).contains("m=audio 0 "));
        }
        desk.reply(0, 200, "far", CONTACT, ANSWER);
        assert_eq!((desk.acks.len(), desk.requests.len()), (2, 2));
        desk.reply_last(200, "", "");
        desk.pass(SECOND * 32);
        assert!(desk.ua.is_over());
    }
}

#[test]
fn a_cancelled_call_that_nobody_ends_is_forgotten() {
    for heard in [true, false] {
        let mut desk = Desk::caller(profile(), Some(OFFER));
        if heard {
            desk.reply(0, 180, "far", CONTACT, "");
        }
        desk.act(end()).unwrap();
        desk.pass(SECOND * 31);
        assert!(!desk.ua.is_over());
        desk.pass(SECOND * 10);
        assert!(desk.ua.is_over());
    }
}

#[test]
fn bye_crosses_bye() {
    let mut desk = Desk::answered(profile());
    desk.act(end()).unwrap();
    assert_eq!(of(&desk.last().headers, "Reason"), "Q.850;cause=16");
    let ending = desk.ending();
    assert_eq!((ending.by, ending.code, ending.reason.as_deref()), (By::Near, None, Some("Q.850;cause=16")));
    let id = desk.request("BYE", 1, "", "");
    assert_eq!((desk.code(id), desk.told()), (Some(200), vec![]));
    let id = desk.request("INFO", 2, "", "");
    assert_eq!(desk.code(id), Some(481));
    desk.reply_last(481, "", "");
    desk.pass(SECOND * 32);
    assert!(desk.ua.is_over());
}

#[test]
fn their_bye_ends_it_with_its_reason() {
    let mut desk = Desk::accepted(profile());
    let id = desk.request("BYE", 2, "Reason: Q.850;cause=31;text=\"x, y\"\r\n", "");
    assert_eq!(desk.code(id), Some(200));
    let ending = desk.ending();
    assert_eq!((ending.by, ending.code), (By::Far, None));
    assert_eq!(ending.reason.as_deref(), Some("Q.850;cause=31;text=\"x, y\""));
    assert!(desk.ua.is_over());
}

#[test]
fn what_is_pending_at_their_bye_is_answered() {
    // RFC 3261 §15.1.2
    let mut desk = Desk::answered(profile());
    let id = desk.request("INVITE", 1, CONTACT, OTHER);
    desk.request("BYE", 2, "", "");
    assert_eq!(desk.code(id), Some(487));
}

#[test]
fn a_caller_may_end_an_early_dialog_by_bye() {
    // RFC 3261 §15
    let mut desk = Desk::callee(profile(), "", OFFER);
    let id = desk.request("BYE", 2, "", "");
    assert_eq!((desk.code(id), desk.code(1)), (Some(200), Some(487)));
    assert_eq!(desk.ending().by, By::Far);
}

#[test]
fn a_bye_that_overtakes_the_200_ends_the_call_and_the_200_is_acknowledged() {
    let mut desk = Desk::caller(profile(), Some(OFFER));
    desk.reply(0, 180, "far", CONTACT, "");
    let id = desk.request("BYE", 1, "", "");
    assert_eq!((desk.code(id), desk.ending().by), (Some(200), By::Far));
    desk.reply(0, 200, "far", CONTACT, ANSWER);
    assert_eq!((desk.acks.len(), desk.told()), (1, vec![]));
}

#[test]
fn a_bye_of_one_branch_leaves_the_others() {
    let mut desk = Desk::caller(profile(), Some(OFFER));
    desk.reply(0, 180, "far", CONTACT, "");
    desk.reply(0, 180, "b", CONTACT, "");
    desk.request("BYE", 1, "", "");
    desk.told();
    desk.reply(0, 200, "b", CONTACT, ANSWER);
    assert_eq!(desk.told().last(), Some(&Event::Answered));
}

#[test]
fn an_unanswered_call_that_came_in_is_refused_at_our_end() {
    let mut desk = Desk::callee(profile(), "", OFFER);
    desk.act(end()).unwrap();
    assert_eq!((desk.code(1), of(&desk.response(1).headers, "Reason")), (Some(480), "Q.850;cause=16"));
    assert_eq!((desk.ending().code, desk.ua.is_over()), (Some(480), true));
}

#[test]
fn a_2xx_of_a_reinvite_after_the_end_is_still_acknowledged() {
    let mut desk = Desk::answered(profile());
    desk.act(Command::Offer(OTHER.into())).unwrap();
    let (id, _) = *desk.requests.last().map(|(id, r)| (*id, r)).as_ref().unwrap();
    desk.act(end()).unwrap();
    desk.told();
    desk.reply(id, 200, "far", "", ANSWER);
    assert_eq!((desk.acks.len(), desk.told()), (1, vec![]));
}

#[test]
fn an_offer_that_waits_when_we_end_it_is_turned_down_in_the_ack() {
    let mut desk = Desk::caller(profile(), None);
    desk.reply(0, 200, "far", CONTACT, OTHER);
    desk.act(end()).unwrap();
    assert!(sdp(&desk.acks[0].body).contains("m=audio 0 "));
    assert_eq!(desk.last().method.to_string(), "BYE");
}

#[test]
fn a_branch_that_answers_after_a_short_call_is_ended_too() {
    let mut desk = Desk::caller(profile(), Some(OFFER));
    desk.reply(0, 200, "far", CONTACT, ANSWER);
    desk.act(end()).unwrap();
    desk.reply_last(200, "", "");
    assert!(!desk.ua.is_over(), "RFC 3261 §13.2.2.4: 64 × T1");
    desk.reply(0, 200, "late", "Contact: <sip:late@z>\r\n", ANSWER);
    assert_eq!(desk.last().uri.to_string(), "sip:late@z");
    desk.reply_last(200, "", "");
    desk.pass(SECOND * 32);
    assert!(desk.ua.is_over());
    assert_eq!(desk.ua.next_timeout(), None);
}
