//! A session that was written down and taken up again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::adapter::sip::rtp::Kept;

/// What the next server has of a session.
fn again(before: &mut Core, n: u8, srtp: Srtp) -> Core {
    let text = serde_json::to_string(&before.kept().expect("something is agreed on")).unwrap();
    for key in before.negotiation().remote().iter().filter_map(|remote| remote.keys.clone()) {
        for secret in [&key.0, &key.1] {
            assert!(
                !text.contains(&STANDARD.encode(secret.material))
                    && !text.contains(&format!("{:?}", secret.material))
            );
        }
    }
    let kept: Kept = serde_json::from_str(&text).unwrap();
    let (settings, heard) = (settings(n, srtp, &[AudioCodec::Pcma]), kept.heard);
    let negotiation = Negotiation::resume(&settings, settings.listen, kept.port, kept);
    let mut core =
        Core::new(negotiation, Arc::default(), 77 << 100 | 77 << 33 | u128::from(n) << 8).resumed(heard);
    let directives = Directives::parse(DIRECTIVES).unwrap();
    core.direct(directives.clone(), directives);
    core
}

const DIRECTIVES: &str = "1 to 1: PCMA;";

/// One frame from one to the other; whether it is heard there.
fn crosses(from: (&mut Core, u8), to: &mut Core, call: &mut Engine, n: u64) -> bool {
    let chunk = call.send(now(n).0, &frame(3, n, &[n as u8; 160])).unwrap();
    let packets = sent(from.0, now(n), &chunk);
    packets.iter().any(|(_, data)| !heard(to, now(n), at(from.1), data).is_empty())
}

/// They agree again, as the next server offers.
fn agree(again: &mut Core, other: &mut Core) -> (String, String) {
    let offer = again.negotiation().offer(false);
    let answer = other.answer(&offer).unwrap();
    again.answered(&answer).unwrap();
    (offer, answer)
}

#[test]
fn in_the_clear_it_goes_on_at_once() {
    let (mut a, mut b) = pair(Srtp::Off, &[AudioCodec::Pcma], DIRECTIVES);
    let (mut to_b, mut to_a) = (Engine::default(), Engine::default());
    assert!(crosses((&mut a, 1), &mut b, &mut to_b, 0) && crosses((&mut b, 2), &mut a, &mut to_a, 0));
    let before = offer_of(&mut b);
    let mut b = again(&mut b, 2, Srtp::Off);
    assert!(b.events.is_empty());
    assert!(crosses((&mut a, 1), &mut b, &mut to_b, 1));
    // Another SSRC: a hears it when the silence was long enough to be noticed, or when it is offered anew.
    assert!(!crosses((&mut b, 2), &mut a, &mut to_a, 1));
    let said = |sdp: &str| {
        let mut words = sdp.lines().nth(1).unwrap().split(' ').skip(1).map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap().parse::<u64>().unwrap())
    };
    let before = said(&before);
    let (offer, _) = agree(&mut b, &mut a);
    assert_eq!(said(&offer).0, before.0, "RFC 3264 §8: the same session");
    assert!(said(&offer).1 > before.1, "and a newer version of it");
    let heard = (2..6).filter(|n| crosses((&mut b, 2), &mut a, &mut to_a, *n)).count();
    assert!(heard >= 2, "{heard}");
}

#[test]
fn encrypted_it_is_deaf_and_dumb_until_there_are_new_keys() {
    for srtp in [Srtp::Offered, Srtp::Required] {
        let (mut a, mut b) = pair(srtp, &[AudioCodec::Pcma], DIRECTIVES);
        let (mut to_b, mut to_a) = (Engine::default(), Engine::default());
        assert!(crosses((&mut a, 1), &mut b, &mut to_b, 0) && crosses((&mut b, 2), &mut a, &mut to_a, 0));
        let old = a.negotiation().remote().unwrap().keys.clone().unwrap();
        let mut b = again(&mut b, 2, srtp);
        assert!(b.negotiation().is_sealed());
        assert!(!crosses((&mut a, 1), &mut b, &mut to_b, 1), "it has no key for that");
        assert!(heard(&mut b, now(1), at(1), &rtp(5, 9, 8)).is_empty(), "least of all in the clear");
        let chunk = to_a.send(now(1).0, &frame(3, 1, &[1; 160])).unwrap();
        assert!(sent(&mut b, now(1), &chunk).is_empty());
        b.report((MS * 60_000, 60_000), false, &mut |_, _, _| panic!("nor a report"));
        // Written down again before the offer is answered, it still is what it was.
        let mut b = again(&mut b, 2, srtp);
        agree(&mut b, &mut a);
        let new = a.negotiation().remote().unwrap().keys.clone().unwrap();
        assert!(new.1 != old.1 && new.1.suite == old.1.suite, "RFC 4568 §7.1.4");
        for n in 2..6 {
            assert!(crosses((&mut a, 1), &mut b, &mut to_b, n) && crosses((&mut b, 2), &mut a, &mut to_a, n));
        }
    }
}

#[test]
fn whoever_offers_first_after_that_brings_the_keys() {
    let (mut a, mut b) = pair(Srtp::Required, &[AudioCodec::Pcma], DIRECTIVES);
    let mut b = again(&mut b, 2, Srtp::Required);
    let offer = a.negotiation().offer(false);
    let answer = b.answer(&offer).unwrap();
    a.answered(&answer).unwrap();
    let (mut to_b, mut to_a) = (Engine::default(), Engine::default());
    assert!(crosses((&mut a, 1), &mut b, &mut to_b, 1) && crosses((&mut b, 2), &mut a, &mut to_a, 1));
}

#[test]
fn who_holds_and_where_a_translator_is_are_known_still() {
    let (mut a, mut b) = pair(Srtp::Off, &[AudioCodec::Pcma], DIRECTIVES);
    for n in 0..3 {
        heard(&mut b, now(1), at(9), &rtp(5, n, 8));
    }
    let held = a.negotiation().offer(true);
    let answer = b.answer(&held).unwrap();
    a.answered(&answer).unwrap();
    let (mut a, mut b) = (again(&mut a, 1, Srtp::Off), again(&mut b, 2, Srtp::Off));
    assert!(a.negotiation().answer(&offer_of(&mut b)).unwrap().contains("a=sendonly"));
    let answer = b.answer(&held.replace("a=sendonly", "a=sendrecv")).unwrap();
    assert!(answer.contains("a=sendrecv"));
    assert_eq!(b.events, [LegEvent::Held(false)]);
    let chunk = Engine::default().send(now(4).0, &frame(3, 4, &[1; 160])).unwrap();
    assert_eq!(sent(&mut b, now(4), &chunk)[0].0, at(9));
    assert_eq!(heard(&mut b, now(5), at(9), &rtp(6, 700, 8)).len(), 1);
}

fn offer_of(core: &mut Core) -> String {
    core.negotiation().offer(false)
}

#[test]
fn before_anything_is_agreed_on_there_is_nothing_to_write_down() {
    let mut a = core(1, Srtp::Off, &[AudioCodec::Pcma]);
    assert_eq!(a.kept(), None);
    a.negotiation().offer(false);
    assert_eq!(a.kept(), None);
}
