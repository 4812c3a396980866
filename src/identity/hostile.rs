//! Bytes that nobody sane would send, and tokens that somebody clever would.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use ring::hmac;
use serde_json::{Value, json};

use super::canonical::Identity;
use super::der::Der;
use super::devca::DevCa;
use super::jwk::{Jwk, JwkSet, SigningKey};
use super::jws::{Compact, JwsError, MAX_TOKEN, sign};
use super::passport::{Passport, PassportTrust, Ppt};
use super::token::{self, TokenError};
use super::vectors::{NOW, RSA, alice, policy};

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ {\0\xc3";

/// Changes a text in up to three places: replaces, inserts, removes, doubles or cuts.
fn mutate(text: &str, edits: &[(u8, prop::sample::Index, prop::sample::Index)]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for (kind, place, letter) in edits {
        let at = place.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
        let letter = ALPHABET[letter.index(ALPHABET.len())];
        match kind % 6 {
            0 | 1 if !bytes.is_empty() => bytes[at] = letter,
            2 => bytes.insert(at, letter),
            3 if !bytes.is_empty() => drop(bytes.remove(at)),
            4 => bytes.truncate(at),
            _ => bytes.extend_from_within(at..),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn edits() -> impl Strategy<Value = Vec<(u8, prop::sample::Index, prop::sample::Index)>> {
    prop::collection::vec(any::<(u8, prop::sample::Index, prop::sample::Index)>(), 1..4)
}

#[test]
fn ten_thousand_mutants_of_a_good_token_verify_nowhere() {
    let key = SigningKey::generate().unwrap();
    let policy = policy(&key);
    let good = token::issue(&key, &alice(), NOW).unwrap();
    policy.verify(&good, NOW).unwrap();
    let mut runner =
        TestRunner::new(Config { cases: 10_000, failure_persistence: None, ..Config::default() });
    runner
        .run(&edits(), |edits| {
            let mutant = mutate(&good, &edits);
            prop_assert!(mutant == good || policy.verify(&mutant, NOW).is_err(), "{mutant}");
            Ok(())
        })
        .unwrap();
}

#[test]
fn ten_thousand_mutants_of_a_good_passport_pass_nowhere() {
    let key = SigningKey::generate().unwrap();
    let trust = PassportTrust::any_number(JwkSet::new(vec![key.public().clone()]));
    let (orig, dest) = (Identity::from_number("a@b.c").unwrap(), Identity::from_number("+1").unwrap());
    let good = Passport::sign(&key, &orig, &dest, &Ppt::Base, NOW).unwrap();
    let passes = |text: &str| Passport::parse(text).is_ok_and(|it| it.check(&trust, &dest, NOW).is_ok());
    assert!(passes(&good));
    let mut runner =
        TestRunner::new(Config { cases: 10_000, failure_persistence: None, ..Config::default() });
    runner
        .run(&edits(), |edits| {
            let mutant = mutate(&good, &edits);
            prop_assert!(mutant == good || !passes(&mutant), "{mutant}");
            Ok(())
        })
        .unwrap();
}

proptest! {
    #![proptest_config(Config { cases: 2_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn no_parser_panics_on_any_text(text in ".{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Compact::parse(&text);
        let _ = Passport::parse(&text);
        let _ = JwkSet::from_text(&text);
        let _ = JwkSet::from_jwks(&text);
        let _ = JwkSet::from_pem(&text);
        let _ = SigningKey::from_pem(&text);
        let _ = Identity::from_number(&text);
        let _ = Identity::from_uri(&text);
        let _ = Identity::from_tn(&text);
        let _ = Jwk::from_spki(&bytes);
        let _ = DevCa::from_pem(&text, &text);
        let mut der = Der::new(&bytes);
        while der.element().is_some() {}
    }

    #[test]
    fn no_claims_panic_under_a_good_signature(header in json_value(), claims in json_value()) {
        let key = SigningKey::generate().unwrap();
        let token = sign(&key, &header, &claims).unwrap();
        let _ = policy(&key).verify(&token, NOW);
        let _ = Passport::parse(&token);
        let _ = Jwk::from_json(&claims);
    }

    #[test]
    fn an_identity_reads_back_as_itself(text in "[a-zA-Z0-9.+%@:;=-]{1,40}|[a-z!#$%&'*+/=?^_`{|}~-]{1,20}@[a-z]{1,9}") {
        for identity in [Identity::from_number(&text), Identity::from_uri(&text)].into_iter().flatten() {
            let number = identity.to_number();
            prop_assert!(number.is_none_or(|number| Identity::from_number(&number).as_ref() == Some(&identity)));
            let uri = identity.uri();
            prop_assert!(uri.is_none_or(|uri| Identity::from_uri(&uri).as_ref() == Some(&identity)));
        }
    }
}

/// JSON with the member names that the parsers look for.
fn json_value() -> impl Strategy<Value = Value> {
    let names = "alg|typ|kid|ppt|x5c|crit|iss|sub|aud|exp|nbf|iat|scope|numbers|orig|dest|div|tn|uri|attest|kty|crv|x|y|n|e";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![
            "ES256",
            "passport",
            "shaken",
            "div",
            "https://id.example.com",
            "ript",
            "A",
            "EC",
            "P-256",
            "RSA",
            "1",
            ""
        ])
        .prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(names, inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    value.prop_map(|mut value| {
        // Most values would stop at the header; half of the objects get a good one.
        if let Some(object) = value.as_object_mut().filter(|object| object.len() % 2 == 0) {
            object.insert("alg".into(), "ES256".into());
            object.insert("iss".into(), "https://id.example.com".into());
            object.remove("crit");
        }
        value
    })
}

fn b64(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[test]
fn algorithms_can_not_be_confused() {
    let key = SigningKey::generate().unwrap();
    let good = token::issue(&key, &alice(), NOW).unwrap();
    let body = good.split('.').nth(1).unwrap();
    let signature = good.rsplit('.').next().unwrap();
    let refused = |token: &str| policy(&key).verify(token, NOW).unwrap_err();
    for alg in ["none", "None", "NONE", "nOnE", "", "HS256", "HS512", "ES384", "ES256K", "es256", "RSA1_5"] {
        let head = b64(&json!({ "alg": alg, "kid": key.kid() }));
        for tail in ["", signature] {
            assert_eq!(refused(&format!("{head}.{body}.{tail}")), TokenError::Malformed, "{alg}");
        }
    }
    // The signature is real, the algorithm another that is taken in principle.
    for alg in ["RS256", "PS256", "EdDSA"] {
        let head = b64(&json!({ "alg": alg }));
        assert_eq!(refused(&format!("{head}.{body}.{signature}")), TokenError::UnknownKey, "{alg}");
    }
    // HMAC with what everybody knows: the public key, in every form that a careless verifier might feed to it.
    let jwk = key.public().to_json().to_string();
    let pem = rcgen::KeyPair::from_pem(&key.to_pem()).unwrap().public_key_pem();
    for secret in [jwk.as_bytes(), pem.as_bytes(), pem.trim_end().as_bytes(), RSA.as_bytes(), b""] {
        let input = format!("{}.{body}", b64(&json!({ "alg": "HS256", "kid": key.kid() })));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), input.as_bytes());
        let token = format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag));
        assert_eq!(refused(&token), TokenError::Malformed);
    }
    // An all-zero signature, and one in DER.
    let input = good.rsplit_once('.').unwrap().0;
    for forged in [vec![0; 64], vec![0x30, 6, 2, 1, 1, 2, 1, 1], vec![], vec![0xff; 64]] {
        assert_eq!(refused(&format!("{input}.{}", URL_SAFE_NO_PAD.encode(forged))), TokenError::BadSignature);
    }
}

#[test]
fn a_token_can_not_bring_its_own_key() {
    let (key, evil) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let claims =
        json!({ "iss": "https://id.example.com", "sub": "a", "aud": "ript", "exp": NOW.as_secs() + 9 });
    let with = |name: &str, value: Value| {
        let mut header = json!({ "alg": "ES256" });
        header[name] = value;
        policy(&key).verify(&sign(&evil, &header, &claims).unwrap(), NOW).unwrap_err()
    };
    let jwk = evil.public().to_json();
    assert_eq!(with("jwk", jwk), TokenError::BadSignature);
    assert_eq!(with("jku", json!("https://evil.example/jwks")), TokenError::BadSignature);
    assert_eq!(with("x5u", json!("https://evil.example/cert")), TokenError::BadSignature);
    assert_eq!(with("x5c", json!(["MAA="])), TokenError::BadSignature);
    for kid in ["../../../../dev/null", "/etc/passwd", "' OR 1=1 --", "", "\0", "http://169.254.169.254/"] {
        assert_eq!(with("kid", json!(kid)), TokenError::UnknownKey, "{kid:?}");
    }
    assert_eq!(with("kid", json!("k".repeat(10_000))), TokenError::Malformed);
    assert_eq!(with("kid", json!(["k"])), TokenError::Malformed);
    for crit in [json!(["exp"]), json!([]), Value::Null, json!(["b64"])] {
        assert_eq!(with("crit", crit), TokenError::Malformed);
    }
}

#[test]
fn only_the_strict_form_is_read() {
    let key = SigningKey::generate().unwrap();
    let good = token::issue(&key, &alice(), NOW).unwrap();
    let parts: Vec<_> = good.split('.').collect();
    let (head, body, tail) = (parts[0], parts[1], parts[2]);
    // 64 bytes leave four unused bits in the last letter: of the sixteen spellings only one is right.
    let last = tail.chars().last().unwrap();
    let loose = ('A'..='Z').find(|other| *other != last && !"AQgw".contains(*other)).unwrap();
    for token in [
        format!("{good}="),
        format!("{good}."),
        format!(".{good}"),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{head}.{body}"),
        format!("{head}.{body}.{tail}.{tail}.{tail}"),
        format!("{head}=.{body}.{tail}"),
        format!("{head}.{body}.{}{loose}", &tail[..tail.len() - 1]),
        b64(&json!(["ES256"])) + "." + body + "." + tail,
        URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","alg":"ES256"}"#) + "." + body + "." + tail,
        URL_SAFE_NO_PAD.encode("[".repeat(3000)) + "." + body + "." + tail,
    ] {
        assert_eq!(Compact::parse(&token).unwrap_err(), JwsError::Malformed, "{token}");
    }
    let long = format!("{head}.{}.{tail}", "A".repeat(MAX_TOKEN));
    assert_eq!(Compact::parse(&long).unwrap_err(), JwsError::TooLong);
    let long = format!("{}.{body}.{tail}", "A".repeat(8193));
    assert_eq!(Compact::parse(&long).unwrap_err(), JwsError::TooLong);
}
