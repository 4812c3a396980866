//! Challenges (RFC 3261 §22).

use std::sync::{Arc, Mutex};

use super::super::header::{all, first};
use super::*;

/// Answers every challenge of the realm `r`, and writes down what it was asked.
#[derive(Debug, Default)]
struct Answers(Mutex<Vec<(String, String, u32)>>);

impl Credentials for Answers {
    fn authorize(&self, challenge: &str, method: &str, uri: &str, body: &[u8], count: u32) -> Option<String> {
        self.0.lock().unwrap().push((challenge.into(), method.into(), count));
        let known = challenge.contains("realm=\"r\"") || challenge.contains("realm=\"p\"");
        known.then(|| format!("Digest for={method},uri={uri},nc={count},length={}", body.len()))
    }
}

fn with_answers() -> (Profile, Arc<Answers>) {
    let answers = Arc::new(Answers::default());
    (Profile { credentials: Some(answers.clone()), ..profile() }, answers)
}

fn www(nonce: &str, more: &str) -> String {
    format!("WWW-Authenticate: Digest realm=\"r\", nonce=\"{nonce}\"{more}\r\n")
}

#[test]
fn a_challenged_invite_goes_again_with_the_answer() {
    let (profile, answers) = with_answers();
    let mut desk = Desk::caller(profile, Some(OFFER));
    let call_id = desk.ua.call_id().to_owned();
    desk.reply(0, 401, "x", &www("n1", ""), "");
    let again = desk.last().clone();
    assert_eq!(of(&again.headers, "CSeq"), "2 INVITE");
    assert_eq!(of(&again.headers, "Call-ID"), call_id);
    assert!(!of(&again.headers, "To").contains("tag="));
    let answer = of(&again.headers, "Authorization");
    assert!(answer.starts_with("Digest for=INVITE,uri=sip:+15550002@ims.test;user=phone,nc=1"), "{answer}");
    assert_eq!(sdp(&again.body), OFFER);
    assert_eq!(answers.0.lock().unwrap().len(), 1, "a challenge is put to the account once");
    desk.reply_last(200, CONTACT, ANSWER);
    assert_eq!(of(&desk.acks[0].headers, "CSeq"), "2 ACK");
    // RFC 3261 §22.1
    assert_eq!(of(&desk.acks[0].headers, "Authorization"), answer);
    // RFC 3261 §22.3: what follows answers unasked.
    desk.act(Command::End { reason: None }).unwrap();
    assert!(of(&desk.last().headers, "Authorization").contains("for=BYE"));
    assert!(of(&desk.last().headers, "Authorization").contains("nc=2"));
}

#[test]
fn a_nonce_is_answered_once_unless_it_is_only_stale() {
    let (profile, _) = with_answers();
    let mut desk = Desk::caller(profile, Some(OFFER));
    desk.reply(0, 401, "x", &www("n1", ""), "");
    desk.reply_last(401, &www("n1", ", stale=TRUE"), "");
    assert_eq!(desk.requests.len(), 3);
    desk.reply_last(401, &www("n2", ", stale=true"), "");
    assert_eq!(desk.requests.len(), 4);
    // Another nonce, and not for the old one's age: the password is refused.
    desk.reply_last(401, &www("n3", ""), "");
    assert_eq!(desk.requests.len(), 4);
    assert_eq!(desk.ending().code, Some(401));
}

#[test]
fn new_nonces_without_end_are_given_up() {
    let (profile, _) = with_answers();
    let mut desk = Desk::caller(profile, Some(OFFER));
    for n in 0..20 {
        if desk.ua.is_over() {
            break;
        }
        let challenge = format!("Proxy-Authenticate: Digest realm=\"p\", nonce=\"n{n}\", stale=true\r\n");
        desk.reply_last(407, &challenge, "");
    }
    assert!(desk.ua.is_over());
    assert_eq!(desk.requests.len(), 5);
}

#[test]
fn a_proxy_and_the_far_side_are_both_answered() {
    let (profile, _) = with_answers();
    let mut desk = Desk::caller(profile, Some(OFFER));
    desk.reply(0, 407, "x", "Proxy-Authenticate: Digest realm=\"p\", nonce=\"1\"\r\n", "");
    desk.reply_last(401, &www("2", ""), "");
    let again = desk.last();
    assert!(first(&again.headers, "Authorization").is_some());
    assert!(first(&again.headers, "Proxy-Authorization").is_some());
    assert_eq!(all(&again.headers, "Proxy-Authorization").count(), 1);
}

#[test]
fn of_several_challenges_the_first_that_can_be_answered_is() {
    let (profile, _) = with_answers();
    let mut desk = Desk::caller(profile, Some(OFFER));
    let lines =
        format!("WWW-Authenticate: Digest realm=\"q\", nonce=\"0\"\r\n{}{}", www("1", ""), www("2", ""));
    desk.reply(0, 401, "x", &lines, "");
    assert_eq!(all(&desk.last().headers, "Authorization").count(), 1);
}

#[test]
fn of_one_realms_challenges_the_strongest_is_answered_wherever_it_stands() {
    use crate::adapter::sip::digest::Digest;
    let credentials: Arc<dyn Credentials> = Arc::new(Digest::new("u", "p", [7; 32]));
    for (algorithms, chosen) in [
        (["MD5", "SHA-256", "SHA-512-256"], "SHA-512-256"),
        (["SHA-256", "MD5", "SCRAM-9"], "SHA-256"),
        (["SCRAM-9", "MD5", "MD5"], "MD5"),
    ] {
        let mut desk =
            Desk::caller(Profile { credentials: Some(credentials.clone()), ..profile() }, Some(OFFER));
        let lines = algorithms.map(|name| www("n", &format!(", qop=\"auth\", algorithm={name}"))).concat();
        desk.reply(0, 401, "x", &lines, "");
        let again = desk.last().clone();
        assert_eq!(all(&again.headers, "Authorization").count(), 1);
        let answer = of(&again.headers, "Authorization");
        assert!(
            answer.contains(&format!("algorithm={chosen}")) && answer.contains("nc=00000001"),
            "{answer}"
        );
    }
}

#[test]
fn without_credentials_a_challenge_is_a_refusal() {
    let mut desk = Desk::caller(profile(), Some(OFFER));
    desk.reply(0, 407, "x", "Proxy-Authenticate: Digest realm=\"p\", nonce=\"1\"\r\n", "");
    assert_eq!(desk.ending().code, Some(407));
}

#[test]
fn each_request_in_the_dialog_is_answered_for() {
    type Act = fn(&mut Desk);
    let acts: [(&str, Act); 4] = [
        ("INVITE", |d| d.act(Command::Offer(OTHER.into())).unwrap()),
        ("BYE", |d| d.act(Command::End { reason: None }).unwrap()),
        ("REFER", |d| d.act(Command::Refer { to: "sip:x@y".into(), by: None }).unwrap()),
        ("UPDATE", |d| d.pass(SECOND * 300)),
    ];
    for (method, act) in acts {
        let (profile, _) = with_answers();
        let mut desk = Desk::caller(Profile { session_expires: Some(SECOND * 600), ..profile }, Some(OFFER));
        desk.reply(0, 200, "far", &format!("{CONTACT}Session-Expires: 600;refresher=uac\r\n"), ANSWER);
        act(&mut desk);
        assert_eq!(of(&desk.last().headers, "CSeq"), format!("2 {method}"));
        desk.reply_last(401, &www("n", ""), "");
        assert_eq!(of(&desk.last().headers, "CSeq"), format!("3 {method}"));
        assert!(of(&desk.last().headers, "Authorization").contains(&format!("for={method}")));
        desk.reply_last(if method == "REFER" { 202 } else { 200 }, "", ANSWER);
        let refused = desk.told().into_iter().find(|e| matches!(e, Event::OfferRefused(_)));
        assert_eq!(refused, None, "{method}");
    }
}

#[test]
fn the_ack_of_a_challenged_reinvite_has_its_credentials() {
    // RFC 3261 §22.1
    let (profile, _) = with_answers();
    let mut desk = Desk::accepted(profile);
    desk.act(Command::Offer(OTHER.into())).unwrap();
    desk.reply_last(401, &www("n", ""), "");
    let answer = of(&desk.last().headers, "Authorization").to_owned();
    desk.reply_last(200, CONTACT, OFFER);
    assert_eq!(of(&desk.acks[0].headers, "Authorization"), answer);
}

#[test]
fn a_next_nonce_is_used() {
    // RFC 7616 §3.5
    let (profile, answers) = with_answers();
    let mut desk = Desk::caller(profile, Some(OFFER));
    desk.reply(0, 401, "x", &www("n1", ""), "");
    desk.reply_last(200, &format!("{CONTACT}Authentication-Info: nextnonce=\"n9\"\r\n"), ANSWER);
    desk.act(Command::End { reason: None }).unwrap();
    let (challenge, method, count) = answers.0.lock().unwrap().last().unwrap().clone();
    assert_eq!((challenge.as_str(), method.as_str(), count), ("Digest realm=\"r\", nonce=\"n9\"", "BYE", 1));
}

#[test]
fn the_branches_of_a_challenged_invite_are_forgotten() {
    let (profile, _) = with_answers();
    let mut desk = Desk::caller(profile, Some(OFFER));
    desk.reply(0, 183, "far", &format!("{CONTACT}Require: 100rel\r\nRSeq: 5\r\n"), ANSWER);
    desk.reply(0, 401, "far", &www("n", ""), "");
    assert_eq!(desk.ua.dialog(), None);
    desk.reply_last(183, &format!("{CONTACT}Require: 100rel\r\nRSeq: 1\r\n"), OTHER);
    assert_eq!(of(&desk.last().headers, "RAck"), "1 2 INVITE");
    assert!(desk.told().contains(&Event::Described(OTHER.into())));
}

#[test]
fn a_challenged_prack_keeps_its_rack() {
    let (profile, _) = with_answers();
    let mut desk = Desk::caller(profile, Some(OFFER));
    desk.reply(0, 183, "far", &format!("{CONTACT}Require: 100rel\r\nRSeq: 9\r\n"), "");
    desk.reply_last(407, "Proxy-Authenticate: Digest realm=\"p\", nonce=\"1\"\r\n", "");
    assert_eq!(of(&desk.last().headers, "RAck"), "9 1 INVITE");
    assert_eq!(of(&desk.last().headers, "CSeq"), "3 PRACK");
}
