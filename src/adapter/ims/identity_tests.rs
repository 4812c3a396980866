use proptest::prelude::*;

use super::*;
use crate::identity::jwk::{JwkSet, SigningKey};
use crate::identity::passport::{Attest, PassportError, PassportSigner, PassportTrust};

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
const X5U: &str = "https://cert.example.org/passport.cer";
/// RFC 8225 appendix A, about 12155551212 and sip:alice@example.com.
const RFC_8225: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6InBhc3Nwb3J0IiwieDV1IjoiaHR0cHM6Ly9jZXJ0LmV4YW1wbGUub3JnL3Bhc3Nwb3J0LmNlciJ9.eyJkZXN0Ijp7InVyaSI6WyJzaXA6YWxpY2VAZXhhbXBsZS5jb20iXX0sImlhdCI6MTQ3MTM3NTQxOCwib3JpZyI6eyJ0biI6IjEyMTU1NTUxMjEyIn19.VLBCIVDCaeK6M4hLJb6SHQvacAQVvoiiEOWQ_iUkqk79UD81fHQ0E1b3_GluIkba7UWYRM47ZbNFdOJquE35cw";

fn home() -> Home {
    Home { domain: "ims.test".into(), ..Home::default() }
}

fn id(number: &str) -> Identity {
    Identity::from_number(number).unwrap()
}

fn signed(key: &SigningKey, from: &str, to: &str, ppt: &Ppt, at: Timestamp) -> String {
    Passport::sign(key, &id(from), &id(to), ppt, at).unwrap()
}

fn shaken() -> Ppt {
    Ppt::Shaken { attest: Attest::A, origid: "o".into() }
}

fn invite(target: &str, from: &str, to: &str, fields: &[String]) -> Request {
    let mut text = format!(
        "INVITE {target} SIP/2.0\r\nFrom: <{from}>;tag=1\r\nTo: <{to}>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n"
    );
    fields.iter().for_each(|field| text.push_str(&format!("{field}\r\n")));
    Request::try_from(format!("{text}\r\n").as_str()).unwrap()
}

fn identity(passport: &str) -> String {
    format!("Identity: {}", write(passport, Some(X5U)).unwrap())
}

fn call(fields: &[String]) -> Result<Option<Arrived>, Refused> {
    let request = invite(
        "tel:+15550002",
        "sip:+15550001@ims.test;user=phone",
        "sip:+15550002@ims.test;user=phone",
        fields,
    );
    read(&request, false, &home(), NOW)
}

#[test]
fn a_passport_goes_out_in_full_form_with_the_place_of_its_certificate() {
    let key = SigningKey::generate().unwrap();
    let passport = signed(&key, "+15550001", "+15550002", &shaken(), NOW);
    assert_eq!(
        write(&passport, Some(X5U)).unwrap(),
        format!("{passport};info=<{X5U}>;alg=ES256;ppt=\"shaken\"")
    );
    // Its own place counts.
    assert_eq!(
        write(RFC_8225, Some("https://x.example/")).unwrap(),
        format!("{RFC_8225};info=<{X5U}>;alg=ES256")
    );
    assert_eq!(write(RFC_8225, None).unwrap(), format!("{RFC_8225};info=<{X5U}>;alg=ES256"));
    assert_eq!(write(&passport, None), Err(Unfit::NoInfo));
    for bad in ["", "x", "https:", "https://a b", "https://a>;x=<b", "https://a\r\nb"] {
        assert_eq!(write(&passport, Some(bad)), Err(Unfit::NoInfo), "{bad}");
    }
    assert_eq!(write("a.b.c", Some(X5U)), Err(Unfit::Form));
    assert_eq!(date(NOW), "Mon, 21 Sep 2026 14:13:20 GMT");
    assert_eq!(read_date(&date(NOW)), Some(NOW.as_secs()));
}

#[test]
fn what_went_out_comes_in_and_passes_the_check() {
    let key = SigningKey::generate().unwrap();
    let trust = PassportTrust::any_number(JwkSet::new(vec![key.public().clone()]));
    for ppt in [Ppt::Base, shaken()] {
        let passport = signed(&key, "+15550001", "+15550002", &ppt, NOW);
        let arrived = call(&[identity(&passport), format!("Date: {}", date(NOW))]).unwrap().unwrap();
        assert_eq!((arrived.passport.as_str(), &arrived.dest), (passport.as_str(), &id("+15550002")));
        Passport::parse(&arrived.passport).unwrap().check(&trust, &arrived.dest, NOW).unwrap();
    }
    assert!(call(&[]).unwrap().is_none());
    // Several: the one that says more; what isn't known here is for others.
    let base = signed(&key, "+15550001", "+15550002", &Ppt::Base, NOW);
    let more = signed(&key, "+15550001", "+15550002", &shaken(), NOW);
    let fields = [
        "Identity: a.b.c;info=<https://x>;alg=ES256;ppt=rph".to_owned(),
        format!("Identity: {}, {}", write(&base, Some(X5U)).unwrap(), write(&more, Some(X5U)).unwrap()),
    ];
    assert_eq!(call(&fields).unwrap().unwrap().passport, more);
    // Without quotes, too.
    let plain = identity(&more).replace('"', "");
    assert_eq!(call(&[plain]).unwrap().unwrap().passport, more);
}

#[test]
fn a_passport_about_another_call_is_refused_with_the_right_code() {
    let key = SigningKey::generate().unwrap();
    let make = |from, to, at| identity(&signed(&key, from, to, &shaken(), at));
    let late = Timestamp::from_millis(NOW.as_millis() - 61_000);
    let good = make("+15550001", "+15550002", NOW);
    for (fields, refused, code) in [
        (vec![make("+15550003", "+15550002", NOW)], Refused::Other, 438),
        (vec![make("+15550001", "+15550003", NOW)], Refused::Other, 438),
        (vec![make("+15550001", "+15550002", late)], Refused::Stale, 403),
        (vec![good.clone(), format!("Date: {}", date(late))], Refused::Stale, 403),
        (vec![good.clone(), "Date: yesterday".into()], Refused::Stale, 403),
        (vec![good.replace("ppt=\"shaken\"", "ppt=div")], Refused::Form, 438),
        (vec![good.replace("info", "inof")], Refused::Info, 436),
        (vec!["Identity: nonsense;info=<https://x>".into()], Refused::Form, 438),
        (vec!["Identity: a.b.c;info=<https://x>;alg=RS256".into()], Refused::Missing, 428),
        (vec![format!("Identity: {RFC_8225};info=<https://evil.example/>")], Refused::Info, 436),
    ] {
        let why = call(&fields).unwrap_err();
        assert_eq!((why, why.code()), (refused, code), "{fields:?}");
    }
    assert!(call(&[good]).is_ok());
}

#[test]
fn an_asserted_caller_counts_only_of_a_trusted_peer() {
    let key = SigningKey::generate().unwrap();
    let fields = [
        identity(&signed(&key, "+15550001", "+15550002", &shaken(), NOW)),
        "P-Asserted-Identity: <tel:+15550001>".to_owned(),
    ];
    let request = invite("tel:+15550002", "sip:anonymous@anonymous.invalid", "tel:+15550002", &fields);
    assert!(read(&request, true, &home(), NOW).unwrap().is_some());
    assert_eq!(read(&request, false, &home(), NOW).unwrap_err(), Refused::Other);
}

#[test]
fn a_diverted_call_is_followed_link_by_link() {
    let key = SigningKey::generate().unwrap();
    let own = signed(&key, "+15550001", "+15550007", &shaken(), NOW);
    let link = |from: &str, to: &str| signed(&key, "+15550001", to, &Ppt::Div { div: id(from) }, NOW);
    let (first, second) = (link("+15550007", "+15550008"), link("+15550008", "+15550002"));
    let arrived = call(&[identity(&second), identity(&own), identity(&first)]).unwrap().unwrap();
    assert_eq!(arrived.dest, id("+15550007"));
    assert_eq!(arrived.div, [first.clone(), second.clone()]);
    // Each link is signed for who forwarded, not for who calls.
    let may_speak_for = |number: &str| PassportTrust {
        signers: vec![PassportSigner {
            keys: JwkSet::new(vec![key.public().clone()]),
            numbers: vec![number.to_owned()],
        }],
        ..PassportTrust::default()
    };
    let link_of = |text: &str| Passport::parse(text).unwrap();
    assert_eq!(link_of(&first).check_div(&may_speak_for("+15550007"), NOW), Ok(()));
    assert_eq!(link_of(&first).check_div(&may_speak_for("+15550001"), NOW), Err(PassportError::Orig));
    let later = Timestamp::from_millis(NOW.as_millis() + 61_000);
    assert_eq!(link_of(&first).check_div(&may_speak_for("*"), later), Err(PassportError::Stale));
    assert!(link_of(&own).check_div(&may_speak_for("*"), NOW).is_err());
    // A gap, a ring, another caller's link.
    for fields in [
        vec![identity(&own), identity(&second)],
        vec![identity(&own), identity(&first), identity(&link("+15550008", "+15550007"))],
        vec![
            identity(&own),
            identity(&signed(&key, "+15550003", "+15550002", &Ppt::Div { div: id("+15550007") }, NOW)),
        ],
        vec![identity(&first)],
    ] {
        assert!(call(&fields).is_err());
    }
    // To still names the first destination.
    let request = invite(
        "tel:+15550002",
        "tel:+15550001",
        "tel:+15550007",
        &[identity(&own), identity(&link("+15550007", "+15550002"))],
    );
    let arrived = read(&request, false, &home(), NOW).unwrap().unwrap();
    assert_eq!((arrived.dest, arrived.div.len()), (id("+15550007"), 1));
}

#[test]
fn the_compact_form_is_made_whole_from_the_invite() {
    // RFC 8225's own, whose callee is a name: its three parts come back letter by letter.
    let at = Timestamp::from_millis(1_471_375_418_000);
    let signature = RFC_8225.rsplit_once('.').unwrap().1;
    let fields = [format!("Identity: ..{signature};info=<{X5U}>;alg=ES256"), format!("Date: {}", date(at))];
    let request =
        invite("sip:alice@example.com", "tel:+1-215-555-1212", "sip:alice@Example.com;x=y", &fields);
    let arrived = read(&request, false, &home(), at).unwrap().unwrap();
    assert_eq!(arrived.passport, RFC_8225);
    let undated = invite("sip:alice@example.com", "tel:+12155551212", "sip:alice@example.com", &fields[..1]);
    assert_eq!(read(&undated, false, &home(), at).unwrap_err(), Refused::Stale);
    for field in [
        format!("Identity: ..{signature};info=<{X5U}>;alg=ES256;ppt=shaken"),
        "Identity: ..;info=<https://x>".to_owned(),
        format!("Identity: ..{signature}.x;info=<{X5U}>"),
    ] {
        let request = invite(
            "sip:alice@example.com",
            "tel:+12155551212",
            "sip:alice@example.com",
            &[field, fields[1].clone()],
        );
        assert_eq!(read(&request, false, &home(), at).unwrap_err(), Refused::Form);
    }
}

proptest! {
    #[test]
    fn any_identity_is_refused_without_panic(
        text in "(\\.\\.)?[A-Za-z0-9_.-]{0,60}(;[a-z]{3,4}=[ -~]{0,20}){0,4}",
        at in 0..700_usize,
        with in "[ -~]",
    ) {
        let refused = call(&[format!("Identity: {text}")]).is_err();
        prop_assert!(refused || text.trim().is_empty());
        let mut header = format!("{RFC_8225};info=<{X5U}>;alg=ES256");
        if let Some(at) = header.char_indices().map(|(at, _)| at).nth(at) {
            header.replace_range(at..at + 1, &with);
        }
        let refused = call(&[format!("Identity: {header}")]).is_err();
        prop_assert!(refused);
    }
}
