//! PASSporTs as they are made, checked, refused and used up.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::canonical::Identity;
use super::jwk::SigningKey;
use super::jws::{Compact, sign};
use super::passport::{Attest, Passport, PassportError, PassportSigner, PassportTrust, Ppt};
use super::replay::ReplayGuard;
use super::vectors::{NOW, SECOND, keys_of};
use crate::protocol::time::Timestamp;

fn number(text: &str) -> Identity {
    Identity::from_number(text).unwrap()
}

#[test]
fn rfc_8225_appendix_a_has_the_form() {
    let token = "eyJhbGciOiJFUzI1NiIsInR5cCI6InBhc3Nwb3J0IiwieDV1IjoiaHR0cHM6Ly9jZXJ0LmV4YW1wbGUub3JnL3Bhc3Nwb3J0LmNlciJ9.eyJkZXN0Ijp7InVyaSI6WyJzaXA6YWxpY2VAZXhhbXBsZS5jb20iXX0sImlhdCI6MTQ3MTM3NTQxOCwib3JpZyI6eyJ0biI6IjEyMTU1NTUxMjEyIn19.VLBCIVDCaeK6M4hLJb6SHQvacAQVvoiiEOWQ_iUkqk79UD81fHQ0E1b3_GluIkba7UWYRM47ZbNFdOJquE35cw";
    let passport = Passport::parse(token).unwrap();
    assert_eq!((passport.orig().tn(), passport.iat()), (Some("12155551212"), 1_471_375_418));
    let alice = Identity::from_uri("sip:alice@example.com").unwrap();
    assert_eq!(passport.dest(), [alice]);
    assert_eq!(passport.ppt(), &Ppt::Base);
    // The key that the drafts of the RFC print did not make this signature (OpenSSL agrees): only the form is
    // looked at.
}

#[test]
fn a_signed_passport_is_canonical_and_passes() {
    let key = SigningKey::generate().unwrap();
    let trust = PassportTrust::any_number(keys_of(&key));
    for (orig, dest, ppt, claims) in [
        (
            "+14085551000",
            "+12155551212",
            Ppt::Base,
            r#"{"dest":{"tn":["12155551212"]},"iat":1790000000,"orig":{"tn":"14085551000"}}"#,
        ),
        (
            "a@Example.com",
            "4711@example.com",
            Ppt::Div { div: number("b@c.d") },
            r#"{"dest":{"uri":["tel:4711;phone-context=example.com"]},"div":{"uri":"mailto:b@c.d"},"iat":1790000000,"orig":{"uri":"mailto:a@example.com"}}"#,
        ),
        (
            "+14085551000",
            "a@b.c",
            Ppt::Shaken { attest: Attest::A, origid: "o".into() },
            r#"{"attest":"A","dest":{"uri":["mailto:a@b.c"]},"iat":1790000000,"orig":{"tn":"14085551000"},"origid":"o"}"#,
        ),
    ] {
        let token = Passport::sign(&key, &number(orig), &number(dest), &ppt, NOW).unwrap();
        assert_eq!(Compact::parse(&token).unwrap().payload(), claims.as_bytes());
        let passport = Passport::parse(&token).unwrap();
        assert_eq!((passport.orig(), passport.ppt()), (&number(orig), &ppt));
        if let Ppt::Div { .. } = ppt {
            let checked = passport.check(&trust, &number(dest), NOW);
            assert_eq!(checked.unwrap_err().code(), "passport-form", "alone it names no caller");
            continue;
        }
        let verdict = passport.check(&trust, &number(dest), NOW).unwrap();
        let json = serde_json::to_string(&verdict).unwrap();
        match ppt {
            Ppt::Shaken { .. } => assert_eq!(json, r#"{"status":"verified","attest":"A","origid":"o"}"#),
            _ => assert_eq!(json, r#"{"status":"verified"}"#),
        }
        assert_eq!(serde_json::from_str::<super::passport::Verification>(&json).unwrap(), verdict);
    }
}

#[test]
fn a_passport_is_checked_in_the_order_of_the_profile() {
    let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let sign = |key, at| {
        let text =
            Passport::sign(key, &number("+14085551000"), &number("+12155551212"), &Ppt::Base, at).unwrap();
        Passport::parse(&text).unwrap()
    };
    let only = |numbers: &str| PassportTrust {
        signers: vec![PassportSigner { keys: keys_of(&key), numbers: vec![numbers.into()] }],
        ..PassportTrust::default()
    };
    let code = |passport: &Passport, trust: &PassportTrust, dest: &str| match passport.check(
        trust,
        &number(dest),
        NOW,
    ) {
        Ok(_) => "ok",
        Err(error) => error.code(),
    };
    let before = |ms| Timestamp::from_millis(NOW.as_millis() - ms);
    let (fresh, stale) = (sign(&key, NOW), sign(&key, NOW + SECOND * 61));
    assert_eq!(code(&sign(&other, NOW + SECOND * 99), &only("+1*"), "a@b.c"), "passport-signature");
    assert_eq!(code(&stale, &only("+44*"), "a@b.c"), "passport-orig");
    assert_eq!(code(&stale, &only("+1*"), "a@b.c"), "passport-dest");
    assert_eq!(code(&stale, &only("+1*"), "+12155551212"), "passport-stale");
    assert_eq!(code(&fresh, &only("+1*"), "+12155551212"), "ok");
    assert_eq!(code(&sign(&key, NOW + SECOND * 60), &only("+1*"), "+12155551212"), "ok");
    assert_eq!(code(&sign(&key, before(60_000)), &only("+1*"), "+12155551212"), "ok");
    assert_eq!(code(&sign(&key, before(61_000)), &only("+1*"), "+12155551212"), "passport-stale");
    assert_eq!(code(&fresh, &PassportTrust::default(), "+12155551212"), "passport-signature");
}

#[test]
fn a_passport_of_another_form_is_refused() {
    let key = SigningKey::generate().unwrap();
    let (tn, tns) = (json!({ "tn": "14085551000" }), json!({ "tn": ["12155551212"] }));
    let form = |header: Value, change: &dyn Fn(&mut Value)| {
        let mut claims = json!({ "orig": tn, "dest": tns, "iat": 1, "attest": "A", "origid": "x" });
        change(&mut claims);
        match Passport::parse(&sign(&key, &header, &claims).unwrap()) {
            Ok(_) => "ok",
            Err(error) => error.code(),
        }
    };
    let head = json!({ "alg": "ES256", "typ": "passport" });
    let with = |name: &str, value: Value| {
        let mut header = head.clone();
        header[name] = value;
        header
    };
    assert_eq!(form(head.clone(), &|_| ()), "ok");
    assert_eq!(form(with("ppt", json!("shaken")), &|_| ()), "ok");
    for (name, value) in [("typ", "JWT"), ("alg", "EdDSA"), ("alg", "none"), ("ppt", "rph"), ("ppt", "div")] {
        assert_eq!(form(with(name, json!(value)), &|_| ()), "passport-form", "{name} {value}");
    }
    for name in ["attest", "origid"] {
        let cut = |claims: &mut Value| drop(claims.as_object_mut().unwrap().remove(name));
        assert_eq!(form(with("ppt", json!("shaken")), &cut), "passport-form");
    }
    for (name, value) in [
        ("orig", json!({ "tn": ["14085551000"] })),
        ("orig", json!({ "tn": "+14085551000" })),
        ("orig", json!({ "tn": "1", "uri": "mailto:a@b.c" })),
        ("orig", json!({})),
        ("orig", json!("14085551000")),
        ("dest", json!({ "tn": "12155551212" })),
        ("dest", json!({ "tn": [] })),
        ("dest", json!({ "tn": ["1", 2] })),
        ("dest", json!({ "tn": vec!["1"; 33] })),
        ("iat", json!("1")),
        ("iat", Value::Null),
    ] {
        assert_eq!(
            form(head.clone(), &|claims| claims[name] = value.clone()),
            "passport-form",
            "{name} {value}"
        );
    }
}

#[test]
fn a_passport_is_good_for_one_call() {
    let key = SigningKey::generate().unwrap();
    let make = |at| {
        let text = Passport::sign(&key, &number("+1"), &number("+2"), &Ppt::Base, at).unwrap();
        Passport::parse(&text).unwrap()
    };
    let mut guard = ReplayGuard::new(2);
    let (one, two) = (make(NOW), make(NOW));
    assert_eq!(guard.spend(&one, NOW), Ok(()));
    assert_eq!(guard.spend(&one, NOW + SECOND * 60), Err(PassportError::Replay));
    // Made anew, even with the same claims, it is another one.
    assert_eq!(guard.spend(&two, NOW), Ok(()));
    assert_eq!(guard.spend(&make(NOW), NOW), Err(PassportError::Full));
    assert_eq!(guard.len(), 2);
    // A use that came to nothing makes room, and may be made again.
    guard.unspend(&two);
    assert_eq!((guard.len(), guard.spend(&two, NOW)), (1, Ok(())));
    assert_eq!(guard.spend(&one, NOW), Err(PassportError::Replay));
    // By now the first two are stale, so forgetting them opens nothing.
    let later = NOW + SECOND * 61;
    assert_eq!(
        one.check(&PassportTrust::any_number(keys_of(&key)), &number("+2"), later),
        Err(PassportError::Stale)
    );
    assert_eq!(guard.spend(&make(later), later), Ok(()));
    assert_eq!(guard.len(), 1);
}

#[test]
fn a_passport_that_says_two_things_is_refused() {
    let key = SigningKey::generate().unwrap();
    let text = |claims: &str| {
        let head = format!(r#"{{"alg":"ES256","kid":"{}","typ":"passport"}}"#, key.kid());
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(key.sign(input.as_bytes()).unwrap());
        Passport::parse(&format!("{input}.{signature}")).map(|_| ()).map_err(PassportError::code)
    };
    assert_eq!(text(r#"{"dest":{"tn":["1"]},"iat":1,"orig":{"tn":"2"}}"#), Ok(()));
    assert_eq!(
        text(r#"{"dest":{"tn":["1"]},"iat":1,"orig":{"tn":"3"},"orig":{"tn":"2"}}"#),
        Err("passport-form")
    );
    assert_eq!(text(r#"{"dest":{"tn":["1"]},"iat":1,"orig":{"tn":"3","tn":"2"}}"#), Err("passport-form"));
}

#[test]
fn the_other_signature_that_follows_from_one_is_still_a_replay() {
    // The order of P-256: with (r, s) also (r, n - s) verifies, and anybody can compute it.
    const N: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
        0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let key = SigningKey::generate().unwrap();
    let text = Passport::sign(&key, &number("+1"), &number("+2"), &Ppt::Base, NOW).unwrap();
    let (input, signature) = text.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut borrow = 0;
    for at in (0..32).rev() {
        let digit = i16::from(N[at]) - i16::from(signature[32 + at]) - borrow;
        borrow = i16::from(digit < 0);
        signature[32 + at] = u8::try_from(digit.rem_euclid(256)).unwrap();
    }
    let twin = Passport::parse(&format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))).unwrap();
    twin.check(&PassportTrust::any_number(keys_of(&key)), &number("+2"), NOW).unwrap();
    let mut guard = ReplayGuard::new(9);
    assert_eq!(guard.spend(&Passport::parse(&text).unwrap(), NOW), Ok(()));
    assert_eq!(guard.spend(&twin, NOW), Err(PassportError::Replay));
}
