//! What the network says of a registration, and what is done about it.

use proptest::prelude::*;
use rsipstack::sip::SipMessage;

use super::*;
use crate::adapter::sip::value::{Address, values};

/// A world that watches, its subscription answered.
fn watching() -> World {
    let mut world = World::registered_as(Profile { watch: true, ..profile() });
    assert_eq!(world.last().method.to_string(), "SUBSCRIBE");
    world.reply(
        200,
        &[
            ("Contact", "<sip:127.0.0.40:6060>"),
            ("Expires", "600000"),
            ("Record-Route", "<sip:a;lr>, <sip:b;lr>"),
        ],
    );
    world
}

/// A NOTIFY in the newest subscription's dialog.
fn notify(world: &World, cseq: u32, fields: &[(&str, &str)], body: &str) -> Input {
    let (_, subscribe) = world.sent.iter().rfind(|(_, it)| it.method.to_string() == "SUBSCRIBE").unwrap();
    let get = |name: &str| value(subscribe, name).unwrap().to_owned();
    let mut text = format!(
        "NOTIFY sip:ript@127.0.0.109:5070 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.40:6060;branch=z9hG4bK1\r\n\
         From: <sip:ript@ims.test>;tag=far\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} NOTIFY\r\n\
         Contact: <sip:127.0.0.40:6060>\r\nContent-Length: {}\r\n",
        get("From"),
        get("Call-ID"),
        body.len(),
    );
    for (name, value) in fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let text = format!("{text}\r\n{body}");
    let Ok(SipMessage::Request(request)) = SipMessage::try_from(text.as_str()) else { panic!("{text}") };
    Input::Request(7, request)
}

const REG: &[(&str, &str)] = &[
    ("Event", "reg"),
    ("Subscription-State", "active;expires=600000"),
    ("Content-Type", "application/reginfo+xml"),
];

fn reginfo(version: u32, aor: &str, state: &str, contact: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><reginfo xmlns=\"urn:ietf:params:xml:ns:reginfo\" version=\"{version}\" state=\"full\">\
         <registration aor=\"tel:+15550009\" id=\"b\" state=\"active\"/>\
         <registration aor=\"{aor}\" id=\"a\" state=\"{state}\">{contact}</registration></reginfo>"
    )
}

fn contact(state: &str, event: &str, more: &str) -> String {
    format!(
        "<contact id=\"c\" state=\"{state}\" event=\"{event}\" {more}><uri>sip:ript@127.0.0.109:5070</uri></contact>"
    )
}

#[test]
fn a_registration_is_watched_by_way_of_its_service_route() {
    let world = watching();
    let subscribe = world.last().to_string();
    for line in [
        "SUBSCRIBE sip:ript@ims.test SIP/2.0",
        "Event: reg",
        "Accept: application/reginfo+xml",
        "Expires: 600000",
        "Route: <sip:127.0.0.20:5060;lr>",
        "Route: <sip:orig@127.0.0.40:6060;lr>",
        "P-Preferred-Identity: <sip:ript@ims.test>",
        "To: <sip:ript@ims.test>",
    ] {
        assert!(subscribe.lines().any(|it| it == line), "{line}\n{subscribe}");
    }
    assert_ne!(world.get("Call-ID"), value(&world.sent[0].1, "Call-ID").unwrap());
    // A refresh of the registration keeps it; it is itself refreshed in its dialog.
    let mut world = world;
    let sent = world.sent.len();
    while world.last().method.to_string() == "SUBSCRIBE" && world.sent.len() == sent {
        world.wait();
    }
    world.reply(200, &[("Expires", "7200000")]);
    assert_eq!(world.last().method.to_string(), "REGISTER");
    while world.last().method.to_string() == "REGISTER" {
        world.wait();
        if world.last().method.to_string() == "REGISTER" {
            world.reply(200, &[("Expires", "7200000")]);
        }
    }
    assert_eq!(world.get("To"), "<sip:ript@ims.test>;tag=far");
    assert_eq!(world.last().uri.to_string(), "sip:127.0.0.40:6060");
    assert_eq!(values(world.last(), "Route"), ["<sip:b;lr>", "<sip:a;lr>"]);
    // The far side forgot it: a new one.
    world.reply(481, &[]);
    world.wait();
    assert_eq!(world.get("To"), "<sip:ript@ims.test>");
}

#[test]
fn what_the_network_says_of_our_contact_is_done() {
    let active =
        reginfo(0, "sip:ript@ims.test", "active", &contact("active", "registered", "expires=\"540\""));
    for (event, more, reason, next) in [
        ("deactivated", "", Reason::Deactivated, Some(0)),
        ("expired", "", Reason::Expired, Some(0)),
        ("probation", "retry-after=\"70\"", Reason::Probation, Some(70)),
        ("unregistered", "", Reason::Unregistered, None),
        ("rejected", "", Reason::Rejected, None),
        ("what's this", "", Reason::Rejected, None),
    ] {
        let mut world = watching();
        world.feed(notify(&world, 1, REG, &active));
        assert_eq!(world.events.len(), 1, "an active contact is no news");
        let sent = world.sent.len();
        let text = reginfo(1, "sip:ript@ims.test", "terminated", &contact("terminated", event, more));
        world.feed(notify(&world, 2, REG, &text));
        assert!(world.answered.iter().all(|it| it.status_code.code() == 200));
        assert_eq!(world.events[1..], [Event::Deregistered { by: By::Network, reason }], "{event}");
        assert!(!world.it.is_registered());
        match next {
            Some(seconds) => {
                if seconds > 0 {
                    assert_eq!(world.wait().as_secs(), seconds);
                }
                assert_eq!(world.sent.len(), sent + 1);
                assert_eq!(world.last().method.to_string(), "REGISTER");
                world.reply(200, &[CONTACT, ROUTE]);
                assert_eq!(
                    world.last().method.to_string(),
                    "SUBSCRIBE",
                    "a new registration, a new subscription"
                );
            }
            None => {
                assert_eq!(world.it.next_timeout(), None);
                world.feed(Input::Again);
                assert_eq!(world.sent.len(), sent + 1);
            }
        }
    }
}

/// As Kamailio's S-CSCF does when the HSS takes a registration back (RTR): no contact, so no event that says why.
#[test]
fn a_network_that_ends_all_of_it_without_a_word_is_understood() {
    let mut world = watching();
    world.feed(notify(
        &world,
        1,
        &[("Event", "reg"), ("Subscription-State", "terminated;reason=noresource"), REG[2]],
        &reginfo(0, "sip:ript@ims.test", "terminated", ""),
    ));
    assert_eq!(world.events[1..], [Event::Deregistered { by: By::Network, reason: Reason::Rejected }]);
    assert_eq!(world.it.next_timeout(), None);
}

#[test]
fn a_shortened_registration_is_refreshed_in_time() {
    let mut world = watching();
    let text = reginfo(0, "sip:ript@ims.test", "active", &contact("active", "shortened", "expires=\"60\""));
    world.feed(notify(&world, 1, REG, &text));
    assert_eq!(world.wait(), Duration::from_secs(30));
    assert_eq!(world.last().method.to_string(), "REGISTER");
}

#[test]
fn others_contacts_old_versions_and_strangers_change_nothing() {
    let mut world = watching();
    let over =
        |version| reginfo(version, "sip:ript@ims.test", "active", &contact("terminated", "rejected", ""));
    let other = over(4).replace("127.0.0.109", "127.0.0.77");
    let codes = |world: &World| world.answered.iter().map(|it| it.status_code.code()).collect::<Vec<_>>();
    world.feed(notify(&world, 5, REG, &other));
    world.feed(notify(&world, 6, REG, &over(4)));
    world.feed(notify(&world, 7, REG, &over(3)));
    // Both at once: the binding that replaced the one that ended.
    let both = format!("{}{}", contact("terminated", "rejected", ""), contact("active", "created", ""));
    world.feed(notify(&world, 8, REG, &reginfo(5, "sip:ript@ims.test", "active", &both)));
    assert_eq!(codes(&world), [200; 4]);
    for (cseq, fields, body, code) in [
        (8, REG, over(9), 500),
        (2, REG, over(9), 500),
        (9, &[("Event", "presence"), REG[1], REG[2]][..], over(9), 489),
        (9, &[REG[0], REG[1], ("Content-Type", "text/plain")][..], over(9), 415),
        (9, REG, "<reginfo".to_owned(), 400),
    ] {
        world.answered.clear();
        world.feed(notify(&world, cseq, fields, &body));
        assert_eq!(codes(&world), [code]);
    }
    for (from, to) in [
        ("tag=far", "tag=near"),
        ("Call-ID: ", "Call-ID: x"),
        ("To: <sip:ript@ims.test>;tag=", "To: <sip:ript@ims.test>;tag=x"),
    ] {
        world.answered.clear();
        let Input::Request(_, request) = notify(&world, 9, REG, &over(9)) else { unreachable!() };
        let text = request.to_string().replace(from, to);
        world.feed(Input::Request(1, Request::try_from(text.as_str()).unwrap()));
        assert_eq!(codes(&world), [481], "{from}");
    }
    assert!(world.it.is_registered());
    assert_eq!(world.events.len(), 1);
}

#[test]
fn a_gap_in_the_versions_asks_for_all_of_it() {
    let mut world = watching();
    world.feed(notify(&world, 1, REG, &reginfo(0, "sip:ript@ims.test", "active", "")));
    let sent = world.sent.len();
    let partial = |version| reginfo(version, "sip:ript@ims.test", "active", "").replace("full", "partial");
    world.feed(notify(&world, 2, REG, &partial(1)));
    assert_eq!(world.sent.len(), sent);
    world.feed(notify(&world, 3, REG, &partial(3)));
    assert_eq!((world.sent.len(), world.last().method.to_string().as_str()), (sent + 1, "SUBSCRIBE"));
}

#[test]
fn a_registrar_without_the_package_is_told_of_and_the_registration_stands() {
    let mut world = World::registered_as(Profile { watch: true, ..profile() });
    world.reply(489, &[]);
    assert_eq!(world.events[1..], [Event::NotWatched(489)]);
    assert!(world.it.is_registered());
    let mut world = World::registered_as(Profile { watch: true, ..profile() });
    world.reply(407, &[("Proxy-Authenticate", CHALLENGE.1)]);
    assert!(world.get("Proxy-Authorization").contains("nonce=\"n1\""));
    world.reply(407, &[("Proxy-Authenticate", CHALLENGE.1)]);
    assert_eq!(world.events[1..], [Event::NotWatched(407)]);
}

#[test]
fn a_notify_may_come_before_the_200_and_a_subscription_that_ends_is_made_anew() {
    let mut world = World::registered_as(Profile { watch: true, ..profile() });
    world.feed(notify(
        &world,
        1,
        REG,
        &reginfo(0, "sip:ript@ims.test", "active", &contact("active", "created", "")),
    ));
    assert_eq!(world.answered[0].status_code.code(), 200);
    world.reply(200, &[("Contact", "<sip:127.0.0.40:6060>"), ("Expires", "3600")]);
    let old = world.get("Call-ID");
    world.feed(notify(&world, 2, &[REG[0], ("Subscription-State", "terminated;reason=timeout")], ""));
    assert!(world.wait() <= Duration::from_secs(30));
    assert_eq!(world.last().method.to_string(), "SUBSCRIBE");
    assert_ne!(world.get("Call-ID"), old);
    assert!(Address::read(&world.get("To")).unwrap().param("tag").is_none());
}

proptest! {
    #[test]
    fn whatever_is_answered_and_notified_nothing_piles_up(
        steps in prop::collection::vec((0..8_u8, 100..700_u16, "[ -~]{0,60}", any::<u32>()), 0..60),
    ) {
        let mut world = watching();
        for (what, code, text, number) in steps {
            let before = world.sent.len();
            let seconds = number.to_string();
            let contact = format!("<sip:ript@127.0.0.109:5070>;expires={number}");
            let fields = [
                ("WWW-Authenticate", text.as_str()),
                ("Contact", if what == 1 { &contact } else { &text }),
                ("Min-Expires", &seconds),
                ("Retry-After", if what == 2 { &seconds } else { &text }),
                ("Authentication-Info", &text),
                ("Service-Route", &text),
                ("Record-Route", &text),
                ("P-Associated-URI", &text),
                ("Expires", &seconds),
            ];
            match what {
                0..=3 => world.reply(code, &fields),
                4 => world.reply([200, 401, 407, 423][usize::from(code % 4)], &fields),
                5 => { if world.it.next_timeout().is_some() { world.wait(); } }
                6 => world.feed(notify(&world, number, REG, &text)),
                _ => world.feed(if number % 8 == 0 { Input::Stop } else { Input::Again }),
            }
            prop_assert!(world.sent.len() - before <= 3);
            prop_assert!(world.it.next_timeout().is_none_or(|at| at > world.now));
        }
    }
}
