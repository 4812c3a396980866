//! Offers after the first (RFC 3261 §14, RFC 3311), and glare.

use super::*;

const UPDATES: &str = "Contact: <sip:new@192.0.2.50>\r\nSupported: timer\r\n";

fn methods(desk: &Desk) -> Vec<String> {
    desk.requests.iter().map(|(_, r)| r.method.to_string()).collect()
}

#[test]
fn our_offer_is_a_reinvite_and_its_answer_is_acknowledged() {
    let mut desk = Desk::answered(profile());
    desk.act(Command::Offer(OTHER.into())).unwrap();
    assert_eq!(of(&desk.last().headers, "CSeq"), "2 INVITE");
    assert_eq!(sdp(&desk.last().body), OTHER);
    assert_eq!(desk.act(Command::Offer(OTHER.into())), Err(Refused::OfferOut));
    desk.reply_last(100, "", "");
    desk.reply_last(200, "Contact: <sip:moved@192.0.2.77>\r\n", ANSWER);
    assert_eq!(desk.told(), [Event::Described(ANSWER.into())], "told, though it is as before");
    let ack = desk.acks.last().unwrap();
    assert_eq!(of(&ack.headers, "CSeq"), "2 ACK");
    assert_eq!(ack.uri.to_string(), "sip:moved@192.0.2.77", "the target is refreshed");
    // Its 2xx again: the same ACK.
    desk.reply_last(200, "", ANSWER);
    assert_eq!(desk.acks.len(), 2);
    assert_eq!(desk.told(), []);
}

#[test]
fn a_refused_offer_leaves_the_call_as_it_was() {
    let mut desk = Desk::answered(profile());
    desk.act(Command::Offer(OTHER.into())).unwrap();
    desk.reply_last(488, "", "");
    assert_eq!(desk.told(), [Event::OfferRefused(488)]);
    // What stands is what an offerless re-INVITE is offered.
    let id = desk.request("INVITE", 1, CONTACT, "");
    assert_eq!(sdp(&desk.response(id).body), OFFER);
    desk.request("ACK", 1, "", ANSWER);
    assert_eq!(desk.told(), [Event::Described(ANSWER.into())]);
}

#[test]
fn a_2xx_without_the_answer_agrees_to_nothing() {
    let mut desk = Desk::answered(profile());
    desk.act(Command::Offer(OTHER.into())).unwrap();
    desk.reply_last(200, "", "");
    assert_eq!((desk.told(), desk.acks.len()), (vec![Event::OfferRefused(488)], 1));
}

#[test]
fn after_glare_the_owner_of_the_call_id_waits_longer() {
    // RFC 3261 §14.1
    for seed in 0..40 {
        for ours in [true, false] {
            let own = Profile { seed, ..profile() };
            let mut desk = if ours { Desk::answered(own) } else { Desk::accepted(own) };
            desk.act(Command::Offer(OTHER.into())).unwrap();
            let start = desk.now;
            desk.reply_last(491, "", "");
            assert_eq!(desk.told(), [], "it isn't refused yet");
            let at = desk.ua.next_timeout().unwrap() - start;
            let range = if ours { 2100..=4000 } else { 0..=2000 };
            assert!(range.contains(&at.as_millis()), "seed {seed}, ours {ours}: {at:?}");
            desk.pass(SECOND * 4);
            assert_eq!(methods(&desk), ["INVITE", "INVITE"]);
            desk.reply_last(200, "", ANSWER);
            assert_eq!(desk.told(), [Event::Described(ANSWER.into())]);
        }
    }
}

#[test]
fn glare_without_end_is_a_refusal() {
    let mut desk = Desk::answered(profile());
    desk.act(Command::Offer(OTHER.into())).unwrap();
    for _ in 0..20 {
        if !desk.events.is_empty() {
            break;
        }
        desk.reply_last(491, "", "");
        desk.pass(SECOND * 5);
    }
    assert_eq!(desk.told(), [Event::OfferRefused(491)]);
}

#[test]
fn a_newer_offer_of_ours_takes_the_place_of_the_one_that_waits() {
    let mut desk = Desk::answered(profile());
    desk.act(Command::Offer(OTHER.into())).unwrap();
    desk.reply_last(491, "", "");
    desk.act(Command::Offer(ANSWER.into())).unwrap();
    desk.pass(SECOND * 4);
    assert_eq!(sdp(&desk.last().body), ANSWER);
}

#[test]
fn their_offer_is_told_and_answered() {
    for (method, ack) in [("INVITE", true), ("UPDATE", false)] {
        let mut desk = Desk::answered(profile());
        let id = desk.request(method, 5, UPDATES, OTHER);
        assert_eq!((desk.told(), desk.code(id)), (vec![Event::Offered(OTHER.into())], None));
        assert_eq!(desk.act(Command::Offer(OFFER.into())), Err(Refused::OfferOut));
        desk.act(Command::Answer(ANSWER.into())).unwrap();
        assert_eq!((desk.code(id), sdp(&desk.response(id).body).as_str()), (Some(200), ANSWER), "{method}");
        assert_eq!(desk.ua.dialog().unwrap().remote_target, "sip:new@192.0.2.50");
        if ack {
            desk.act(Command::Offer(OFFER.into())).unwrap();
            assert!(desk.requests.is_empty(), "ours waits for the ACK");
            desk.request("ACK", 5, "", "");
            assert_eq!(methods(&desk), ["INVITE"]);
        }
        assert_eq!(desk.told(), [], "a later exchange isn't an answered call");
    }
}

#[test]
fn their_offer_is_refused_and_what_was_agreed_stands() {
    for method in ["INVITE", "UPDATE"] {
        let mut desk = Desk::answered(profile());
        let id = desk.request(method, 5, UPDATES, OTHER);
        desk.act(Command::RefuseOffer).unwrap();
        assert_eq!(desk.code(id), Some(488));
        assert_eq!(desk.ua.dialogs[0].talk.remote(), Some(ANSWER));
        assert_eq!(desk.ua.dialog().unwrap().remote_target, "sip:far@192.0.2.9:5070");
        assert_eq!(desk.act(Command::RefuseOffer), Err(Refused::NoOffer));
    }
}

#[test]
fn an_offer_that_our_side_doesnt_answer_is_refused_in_time() {
    let mut desk = Desk::answered(profile());
    let id = desk.request("UPDATE", 5, UPDATES, OTHER);
    desk.pass(SECOND * 20);
    assert_eq!(desk.code(id), Some(488));
}

#[test]
fn glare_and_second_offers_are_told_apart() {
    // Row by row: what is open, what comes, what it gets, whether it says when to come again.
    for (open, comes, code, again) in [
        ("our re-INVITE", "INVITE", 491, false),
        ("our re-INVITE", "UPDATE", 491, false),
        ("their re-INVITE", "INVITE", 500, true),
        ("their re-INVITE", "UPDATE", 500, true),
        ("their UPDATE", "UPDATE", 500, true),
        ("their UPDATE", "INVITE", 500, true),
    ] {
        let mut desk = Desk::answered(profile());
        match open {
            "our re-INVITE" => desk.act(Command::Offer(OTHER.into())).unwrap(),
            "their re-INVITE" => assert_eq!(desk.request("INVITE", 5, UPDATES, OTHER), 101),
            _ => assert_eq!(desk.request("UPDATE", 5, UPDATES, OTHER), 101),
        }
        desk.told();
        let id = desk.request(comes, 6, UPDATES, ANSWER);
        assert_eq!(desk.code(id), Some(code), "{open}, {comes}");
        let wait = super::super::header::number(&desk.response(id).headers, "Retry-After");
        assert_eq!(wait.is_some_and(|s| s <= 10), again, "{open}, {comes}");
        assert_eq!(desk.told(), []);
    }
}

#[test]
fn an_update_offers_before_the_answer_as_caller() {
    let mut desk = Desk::caller(profile(), Some(OFFER));
    desk.reply(0, 183, "far", CONTACT, ANSWER);
    assert_eq!(desk.act(Command::Offer(OTHER.into())), Err(Refused::OfferOut), "not by an unreliable answer");
    desk.reply(0, 183, "far", &format!("{CONTACT}Require: 100rel\r\nRSeq: 1\r\n"), ANSWER);
    desk.told();
    desk.act(Command::Offer(OTHER.into())).unwrap();
    assert_eq!(desk.last().method.to_string(), "UPDATE");
    assert_eq!(of(&desk.last().headers, "CSeq"), "3 UPDATE", "after INVITE and PRACK");
    // RFC 3311 §5.2: theirs meanwhile.
    let id = desk.request("UPDATE", 1, UPDATES, ANSWER);
    assert_eq!(desk.code(id), Some(491));
    desk.reply_last(200, "", ANSWER);
    assert_eq!(desk.told(), [Event::Described(ANSWER.into())]);
    let id = desk.request("UPDATE", 2, UPDATES, OTHER);
    assert_eq!(desk.told(), [Event::Offered(OTHER.into())]);
    desk.act(Command::Answer(OFFER.into())).unwrap();
    assert_eq!(desk.code(id), Some(200));
    desk.reply(0, 200, "far", CONTACT, "");
    assert_eq!(desk.told().last(), Some(&Event::Answered));
}

#[test]
fn an_update_offers_before_the_answer_as_callee() {
    let mut desk = Desk::callee(profile(), "Supported: 100rel\r\n", OFFER);
    let id = desk.request("UPDATE", 2, UPDATES, OTHER);
    assert_eq!(desk.code(id), Some(500), "RFC 3311 §5.2: the INVITE's offer isn't answered");
    desk.act(Command::Progress { answer: Some(ANSWER.into()) }).unwrap();
    assert_eq!(desk.act(Command::Offer(OTHER.into())), Err(Refused::OfferOut), "not before PRACK");
    let rack = format!("RAck: {} 1 INVITE\r\n", of(&desk.response(1).headers, "RSeq"));
    desk.request("PRACK", 3, &rack, "");
    desk.told();
    desk.act(Command::Offer(OTHER.into())).unwrap();
    assert_eq!(desk.last().method.to_string(), "UPDATE");
    desk.reply_last(200, "", OFFER);
    assert_eq!(desk.told(), [Event::Described(OFFER.into())]);
    desk.act(Command::Accept { sdp: ANSWER.into() }).unwrap();
    assert!(desk.response(1).body.is_empty());
}

#[test]
fn without_update_the_far_side_gets_no_offer_before_its_answer() {
    let mut desk = Desk::caller(profile(), Some(OFFER));
    let lines = "Contact: <sip:far@x>\r\nAllow: INVITE\r\nRequire: 100rel\r\nRSeq: 1\r\n";
    desk.reply(0, 183, "far", lines, ANSWER);
    assert!(matches!(desk.act(Command::Offer(OTHER.into())), Err(Refused::State(_))));
}

#[test]
fn an_update_that_meets_an_offer_comes_again() {
    let mut desk = Desk::caller(profile(), Some(OFFER));
    desk.reply(0, 183, "far", &format!("{CONTACT}Require: 100rel\r\nRSeq: 1\r\n"), ANSWER);
    desk.act(Command::Offer(OTHER.into())).unwrap();
    desk.reply_last(500, "Retry-After: 3\r\n", "");
    desk.told();
    desk.pass(SECOND * 4);
    let updates = methods(&desk).iter().filter(|m| *m == "UPDATE").count();
    assert_eq!(updates, 2);
}

#[test]
fn a_cancelled_reinvite_is_487_and_its_offer_is_gone() {
    let mut desk = Desk::answered(profile());
    let id = desk.request("INVITE", 5, CONTACT, OTHER);
    desk.request("CANCEL", 5, "", "");
    assert_eq!(desk.code(id), Some(487));
    desk.told();
    assert_eq!(desk.act(Command::Answer(ANSWER.into())), Err(Refused::NoOffer));
    assert_eq!(desk.told(), []);
    desk.act(Command::Offer(OTHER.into())).unwrap();
}

#[test]
fn a_dialog_that_the_far_side_lost_is_ended() {
    for code in [408, 481] {
        let mut desk = Desk::answered(profile());
        desk.act(Command::Offer(OTHER.into())).unwrap();
        desk.reply_last(code, "", "");
        assert_eq!(desk.last().method.to_string(), "BYE");
        assert_eq!(desk.ending().by, By::Timer);
    }
}

#[test]
fn an_offerless_reinvite_without_an_ack_ends_the_call() {
    let mut desk = Desk::answered(profile());
    let id = desk.request("INVITE", 5, CONTACT, "");
    assert_eq!(desk.code(id), Some(200));
    desk.pass(SECOND * 32);
    assert_eq!(desk.last().method.to_string(), "BYE");
    assert_eq!(desk.ending().why, "no ACK came");
}

#[test]
fn a_reliable_response_to_our_reinvite_is_acknowledged() {
    let mut desk = Desk::caller(profile(), Some(OFFER));
    desk.reply(0, 183, "far", &format!("{CONTACT}Require: 100rel\r\nRSeq: 900\r\n"), ANSWER);
    desk.reply(0, 200, "far", CONTACT, "");
    desk.told();
    desk.act(Command::Offer(OTHER.into())).unwrap();
    desk.reply_last(183, "Require: 100rel\r\nRSeq: 3\r\n", ANSWER);
    assert_eq!(of(&desk.last().headers, "RAck"), "3 3 INVITE");
}

#[test]
fn a_request_of_a_branch_that_lost_is_answered() {
    let mut desk = Desk::caller(profile(), Some(OFFER));
    desk.reply(0, 183, "far", &format!("{CONTACT}Require: 100rel\r\nRSeq: 1\r\n"), ANSWER);
    let id = desk.request("UPDATE", 1, UPDATES, OTHER);
    assert_eq!(desk.code(id), None);
    desk.reply(0, 200, "b", CONTACT, ANSWER);
    assert_eq!(desk.code(id), Some(481));
    assert_eq!(desk.act(Command::Answer(ANSWER.into())), Err(Refused::NoOffer));
    assert!(desk.ua.servers.is_empty());
}

#[test]
fn an_answer_that_returns_to_what_was_is_told() {
    let mut desk = Desk::answered(profile());
    desk.request("UPDATE", 1, UPDATES, OTHER);
    desk.act(Command::Answer(OFFER.into())).unwrap();
    desk.request("INVITE", 2, CONTACT, "");
    desk.told();
    desk.request("ACK", 2, "", ANSWER);
    assert_eq!(desk.told(), [Event::Described(ANSWER.into())]);
}

#[test]
fn our_offer_that_waits_for_an_ack_also_waits_for_our_answer() {
    let mut desk = Desk::callee(profile(), "", OFFER);
    desk.act(Command::Accept { sdp: ANSWER.into() }).unwrap();
    desk.act(Command::Offer(OTHER.into())).unwrap();
    desk.request("UPDATE", 2, UPDATES, OFFER);
    desk.request("ACK", 1, "", "");
    assert!(desk.requests.is_empty());
    desk.act(Command::Answer(ANSWER.into())).unwrap();
    assert_eq!(methods(&desk), ["INVITE"]);
}

#[test]
fn a_reinvite_that_overtakes_the_ack_stands_for_it() {
    // RFC 5407 §3.1.4
    let mut desk = Desk::callee(profile(), "", OFFER);
    desk.act(Command::Accept { sdp: ANSWER.into() }).unwrap();
    desk.told();
    desk.request("INVITE", 2, CONTACT, OTHER);
    assert_eq!(desk.told(), [Event::Answered, Event::Offered(OTHER.into())]);
}

#[test]
fn our_offer_before_the_ack_waits_for_it() {
    let mut desk = Desk::callee(profile(), "", OFFER);
    desk.act(Command::Accept { sdp: ANSWER.into() }).unwrap();
    desk.act(Command::Offer(OTHER.into())).unwrap();
    assert!(desk.requests.is_empty());
    desk.request("ACK", 1, "", "");
    assert_eq!(methods(&desk), ["INVITE"]);
}
