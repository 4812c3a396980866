//! 100rel, both ways (RFC 3262).

use super::super::header::first;
use super::*;

fn rel(rseq: u32) -> String {
    format!("{CONTACT}Require: 100rel\r\nRSeq: {rseq}\r\n")
}

fn pracks(desk: &Desk) -> Vec<String> {
    let own = desk.requests.iter().filter(|(_, r)| r.method.to_string() == "PRACK");
    own.map(|(_, r)| of(&r.headers, "RAck").to_owned()).collect()
}

#[test]
fn a_reliable_response_is_acknowledged_by_the_early_dialogs_route() {
    let mut desk = Desk::caller(profile(), Some(OFFER));
    let lines = format!("{}Record-Route: <sip:p2.test;lr>, <sip:p1.test;lr>\r\n", rel(7));
    desk.reply(0, 183, "far", &lines, ANSWER);
    let prack = desk.last();
    assert_eq!(prack.uri.to_string(), "sip:far@192.0.2.9:5070");
    let way = super::super::header::all(&prack.headers, "Route").collect::<Vec<_>>();
    assert_eq!(way, ["<sip:p1.test;lr>", "<sip:p2.test;lr>"]);
    assert_eq!(of(&prack.headers, "RAck"), "7 1 INVITE");
    assert_eq!(of(&prack.headers, "CSeq"), "2 PRACK");
    let told = desk.told();
    assert_eq!(told[0], Event::Described(ANSWER.into()));
    assert_eq!(told[1], Event::Provisional { code: 183, early_media: Some(true) });
}

#[test]
fn reliable_responses_are_taken_in_order_and_once() {
    let mut desk = Desk::caller(profile(), Some(OFFER));
    for (rseq, taken) in [(5, 1), (5, 1), (7, 1), (6, 2), (6, 2), (7, 3), (4, 3), (u32::MAX, 3), (8, 4)] {
        desk.reply(0, 180, "far", &rel(rseq), "");
        assert_eq!(pracks(&desk).len(), taken, "{rseq}");
    }
    assert_eq!(pracks(&desk), ["5 1 INVITE", "6 1 INVITE", "7 1 INVITE", "8 1 INVITE"]);
    let rings = desk.told().len();
    assert_eq!(rings, 4, "what is dropped isn't told");
}

#[test]
fn each_branch_has_its_own_rseq_and_cseq() {
    let mut desk = Desk::caller(profile(), Some(OFFER));
    for (tag, rseq) in [("a", 1), ("b", 100), ("a", 2), ("b", 101)] {
        desk.reply(0, 183, tag, &rel(rseq), "");
    }
    assert_eq!(pracks(&desk), ["1 1 INVITE", "100 1 INVITE", "2 1 INVITE", "101 1 INVITE"]);
    let seqs = desk.requests[1..].iter().map(|(_, r)| of(&r.headers, "CSeq")).collect::<Vec<_>>();
    assert_eq!(seqs, ["2 PRACK", "2 PRACK", "3 PRACK", "3 PRACK"]);
}

#[test]
fn an_offer_in_a_reliable_response_is_answered_in_prack() {
    let mut desk = Desk::caller(profile(), None);
    desk.reply(0, 183, "far", &rel(1), OTHER);
    assert_eq!(desk.told()[0], Event::Offered(OTHER.into()));
    assert!(pracks(&desk).is_empty());
    desk.reply(0, 183, "far", &rel(1), OTHER);
    desk.act(Command::Answer(ANSWER.into())).unwrap();
    assert_eq!(pracks(&desk), ["1 1 INVITE"]);
    assert_eq!(sdp(&desk.last().body), ANSWER);
    desk.told();
    desk.reply(0, 200, "far", CONTACT, "");
    assert_eq!(desk.told(), [Event::Answered]);
    assert!(desk.acks[0].body.is_empty());
}

#[test]
fn what_follows_an_offer_waits_for_its_prack() {
    let mut desk = Desk::caller(profile(), None);
    desk.reply(0, 183, "far", &rel(1), OTHER);
    desk.reply(0, 180, "far", &rel(2), "");
    assert!(pracks(&desk).is_empty());
    desk.act(Command::Answer(ANSWER.into())).unwrap();
    desk.reply(0, 180, "far", &rel(2), "");
    assert_eq!(pracks(&desk), ["1 1 INVITE", "2 1 INVITE"]);
}

#[test]
fn a_reliable_offer_that_we_refuse_cancels_the_call() {
    let mut desk = Desk::caller(profile(), None);
    desk.reply(0, 183, "far", &rel(1), OTHER);
    desk.act(Command::RefuseOffer).unwrap();
    assert_eq!(desk.cancels.len(), 1);
    assert_eq!(desk.ending().code, Some(488));
    desk.reply(0, 487, "far", "", "");
    assert!(desk.ua.is_over());
}

#[test]
fn offers_of_two_branches_are_told_one_after_the_other() {
    let mut desk = Desk::caller(profile(), None);
    desk.reply(0, 183, "a", &rel(1), OTHER);
    desk.reply(0, 183, "b", &rel(1), ANSWER);
    let offers = |desk: &mut Desk| {
        desk.told().into_iter().filter(|e| matches!(e, Event::Offered(_))).collect::<Vec<_>>()
    };
    assert_eq!(offers(&mut desk), [Event::Offered(OTHER.into())]);
    desk.act(Command::Answer(OFFER.into())).unwrap();
    assert_eq!(offers(&mut desk), [Event::Offered(ANSWER.into())]);
    desk.act(Command::Answer(OFFER.into())).unwrap();
    let tags = desk.requests[1..].iter().map(|(_, r)| of(&r.headers, "To").rsplit('=').next().unwrap());
    assert_eq!(tags.collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_reliable_answer_stands_whatever_the_2xx_says() {
    let mut desk = Desk::caller(profile(), Some(OFFER));
    desk.reply(0, 183, "far", &rel(1), ANSWER);
    desk.told();
    desk.reply(0, 200, "far", CONTACT, OTHER);
    assert_eq!(desk.told(), [Event::Answered]);
}

#[test]
fn required_reliability_is_asked_for() {
    let desk = Desk::caller(Profile { reliable: Reliable::Required, ..profile() }, Some(OFFER));
    assert_eq!(of(&desk.last().headers, "Require"), "100rel");
    let desk = Desk::caller(Profile { reliable: Reliable::No, ..profile() }, Some(OFFER));
    assert!(!of(&desk.last().headers, "Supported").contains("100rel"));
}

fn ringing(lines: &str, offer: &str) -> Desk {
    let mut desk = Desk::callee(profile(), lines, offer);
    desk.told();
    desk
}

fn rack(desk: &Desk) -> String {
    format!("RAck: {} 1 INVITE\r\n", of(&desk.response(1).headers, "RSeq"))
}

#[test]
fn our_reliable_ringing_is_sent_again_at_doubled_waits_until_prack() {
    let mut desk = ringing("Supported: 100rel\r\n", OFFER);
    desk.act(Command::Ring { answer: None }).unwrap();
    assert_eq!(of(&desk.response(1).headers, "Require"), "100rel");
    let start = desk.now;
    let mut at = vec![];
    while desk.responses.len() < 6 {
        let before = desk.responses.len();
        desk.pass(Duration::from_millis(100));
        if desk.responses.len() > before {
            at.push((desk.now - start).as_millis());
        }
    }
    assert_eq!(at, [500, 1500, 3500, 7500, 15500], "T1, then twice the wait before");
    let rack = rack(&desk);
    let id = desk.request("PRACK", 2, &rack, "");
    assert_eq!(desk.code(id), Some(200));
    let sent = desk.responses.len();
    desk.pass(SECOND * 40);
    assert_eq!(desk.responses.len(), sent);
}

#[test]
fn reliable_ringing_that_nobody_acknowledges_is_504_after_32_s() {
    let mut desk = ringing("Supported: 100rel\r\n", OFFER);
    desk.act(Command::Ring { answer: None }).unwrap();
    desk.pass(SECOND * 32);
    assert_eq!(desk.code(1), Some(504));
    let ending = desk.ending();
    assert_eq!((ending.by, ending.code), (By::Timer, Some(504)));
    assert!(desk.ua.is_over());
}

#[test]
fn a_prack_of_nothing_is_481() {
    let mut desk = ringing("Supported: 100rel\r\n", OFFER);
    let id = desk.request("PRACK", 2, "RAck: 1 1 INVITE\r\n", "");
    assert_eq!(desk.code(id), Some(481));
    desk.act(Command::Ring { answer: None }).unwrap();
    let rseq = of(&desk.response(1).headers, "RSeq").parse::<u32>().unwrap();
    for (seq, rack) in [
        (3, format!("{} 1 INVITE", rseq + 1)),
        (4, format!("{rseq} 2 INVITE")),
        (5, format!("{rseq} 1 BYE")),
        (6, "x".into()),
        (7, String::new()),
    ] {
        let id = desk.request("PRACK", seq, &format!("RAck: {rack}\r\n"), "");
        assert_eq!(desk.code(id), Some(481), "{rack}");
    }
    let right = format!("RAck: {rseq} 1 INVITE\r\n");
    let id = desk.request("PRACK", 8, &right, "");
    assert_eq!(desk.code(id), Some(200));
    let id = desk.request("PRACK", 9, &right, "");
    assert_eq!(desk.code(id), Some(481), "it was acknowledged before");
}

#[test]
fn the_next_reliable_response_waits_for_the_prack_of_the_first() {
    let mut desk = ringing("Supported: 100rel\r\n", OFFER);
    desk.act(Command::Progress { answer: Some(ANSWER.into()) }).unwrap();
    desk.act(Command::Ring { answer: None }).unwrap();
    assert_eq!(desk.responses.len(), 1);
    let first_rseq = of(&desk.response(1).headers, "RSeq").parse::<u32>().unwrap();
    let rack = rack(&desk);
    desk.request("PRACK", 2, &rack, "");
    assert_eq!(desk.code(1), Some(180));
    assert_eq!(of(&desk.response(1).headers, "RSeq"), (first_rseq + 1).to_string());
    for _ in 0..super::super::reliable::WAITING {
        desk.act(Command::Ring { answer: None }).unwrap();
    }
    assert!(matches!(desk.act(Command::Ring { answer: None }), Err(Refused::State(_))));
}

#[test]
fn the_200_waits_for_the_prack_of_a_description_only() {
    // RFC 3262 §3
    let mut desk = ringing("Supported: 100rel\r\n", OFFER);
    desk.act(Command::Progress { answer: Some(ANSWER.into()) }).unwrap();
    desk.act(Command::Accept { sdp: ANSWER.into() }).unwrap();
    assert_eq!(desk.code(1), Some(183));
    let rack = rack(&desk);
    let id = desk.request("PRACK", 2, &rack, "");
    assert_eq!((desk.code(id), desk.code(1)), (Some(200), Some(200)));
    assert!(desk.response(1).body.is_empty(), "the answer was in the 183");

    let mut plain = ringing("Supported: 100rel\r\n", OFFER);
    plain.act(Command::Ring { answer: None }).unwrap();
    plain.act(Command::Accept { sdp: ANSWER.into() }).unwrap();
    assert_eq!(plain.code(1), Some(200));
    let sent = plain.responses.len();
    plain.pass(SECOND * 5);
    assert_eq!(plain.responses.len(), sent, "the 180 isn't sent again after the 200");
    let rseq = plain.responses.iter().find_map(|(_, r)| first(&r.headers, "RSeq")).unwrap().to_owned();
    let id = plain.request("PRACK", 2, &format!("RAck: {rseq} 1 INVITE\r\n"), "");
    assert_eq!(plain.code(id), Some(200), "but its PRACK has an answer");
    assert_eq!(plain.responses.iter().filter(|(_, r)| r.status_code.code() == 200).count(), 2);
}

#[test]
fn our_offer_in_a_reliable_response_is_answered_by_prack() {
    let mut desk = ringing("Require: 100rel\r\n", "");
    desk.act(Command::Progress { answer: Some(OTHER.into()) }).unwrap();
    assert_eq!(sdp(&desk.response(1).body), OTHER);
    let rack = rack(&desk);
    let id = desk.request("PRACK", 2, &rack, "");
    assert_eq!(desk.code(id), Some(400), "it lacks the answer");
    let id = desk.request("PRACK", 3, &rack, ANSWER);
    assert_eq!(desk.code(id), Some(200));
    assert_eq!(desk.told(), [Event::Described(ANSWER.into())]);
    desk.act(Command::Accept { sdp: OTHER.into() }).unwrap();
    assert!(desk.response(1).body.is_empty());
}

#[test]
fn an_offer_in_prack_is_answered_in_its_200_or_refused() {
    for taken in [true, false] {
        let mut desk = ringing("Supported: 100rel\r\n", OFFER);
        desk.act(Command::Progress { answer: Some(ANSWER.into()) }).unwrap();
        let rack = rack(&desk);
        let id = desk.request("PRACK", 2, &rack, OTHER);
        assert_eq!((desk.code(id), desk.told()), (None, vec![Event::Offered(OTHER.into())]));
        desk.act(if taken { Command::Answer(ANSWER.into()) } else { Command::RefuseOffer }).unwrap();
        assert_eq!(desk.code(id), Some(if taken { 200 } else { 488 }));
        assert_eq!(sdp(&desk.response(id).body).is_empty(), !taken);
        let sent = desk.responses.len();
        desk.pass(SECOND * 3);
        assert_eq!(desk.responses.len(), sent);
    }
}

#[test]
fn ringing_without_an_offer_to_an_invite_without_one_is_not_reliable_unless_it_must_be() {
    // RFC 3261 §13.2.1
    for (lines, used) in [("Supported: 100rel\r\n", false), ("Require: 100rel\r\n", true)] {
        let mut desk = ringing(lines, "");
        desk.act(Command::Ring { answer: None }).unwrap();
        assert_eq!(first(&desk.response(1).headers, "RSeq").is_some(), used);
        desk.act(Command::Accept { sdp: OTHER.into() }).unwrap();
        assert_eq!(sdp(&desk.response(1).body), OTHER);
    }
}

#[test]
fn reliability_is_used_where_both_sides_have_it() {
    for (own, lines, used) in [
        (Reliable::No, "Supported: 100rel\r\n", false),
        (Reliable::No, "Require: 100rel\r\n", true),
        (Reliable::Supported, "Supported: 100rel\r\n", true),
        (Reliable::Supported, "", false),
        (Reliable::Required, "Supported: timer, 100rel\r\n", true),
    ] {
        let mut desk = Desk::callee(Profile { reliable: own, ..profile() }, lines, OFFER);
        desk.act(Command::Ring { answer: None }).unwrap();
        assert_eq!(first(&desk.response(1).headers, "RSeq").is_some(), used, "{own:?} {lines}");
    }
}
