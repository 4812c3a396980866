//! The RFCs' own examples, keys, and tokens as they come and go.

use std::time::Duration;

use serde_json::{Value, json};

use super::jwk::{Jwk, JwkSet, KeyError, SigningKey};
use super::jws::{Compact, JwsError, sign};
use super::principal::Principal;
use super::token::{self, Claims, IssuerPolicy, TokenError, TokenPolicy};
use crate::protocol::time::Timestamp;

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
pub(super) const SECOND: Duration = Duration::from_secs(1);

const JOE: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
pub(super) const RSA: &str = r#"{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}"#;
const RSA_PEM: &str = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAofgWCuLjybRlzo0tZWJj\nNiuSfb4p4fAkd/wWJcyQoTbji9k0l8W26mPddxHmfHQp+Vaw+4qPCJrcS2mJPMEz\nP1Pt0Bm4d4QlL+yRT+SFd2lZS+pCgNMsD1W/YpRPEwOWvG6b32690r2jZ47soMZo\n9wGzjb/7OMg0LOL+bSf63kpaSHSXndS5z5rexMdbBYUsLA9e+KXBdQOS+UTo7WTB\nEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6/I5IhlJH7aGhyxX\nFvUK+DWNmoudF8NAco9/h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXp\noQIDAQAB\n-----END PUBLIC KEY-----\n";
const RSA_SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
const EC: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const EC_SIGNATURE: &str =
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const ED: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const ED_TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

fn set(jwk: &str) -> JwkSet {
    JwkSet::from_text(jwk).unwrap()
}

pub(super) fn keys_of(key: &SigningKey) -> JwkSet {
    JwkSet::new(vec![key.public().clone()])
}

#[test]
fn rfc_7515_and_8037_examples_verify_with_their_key_and_no_other() {
    let tokens = [
        (format!("eyJhbGciOiJSUzI1NiJ9.{JOE}.{RSA_SIGNATURE}"), RSA),
        (format!("eyJhbGciOiJFUzI1NiJ9.{JOE}.{EC_SIGNATURE}"), EC),
        (ED_TOKEN.to_owned(), ED),
    ];
    for (token, own) in &tokens {
        let jws = Compact::parse(token).unwrap();
        for key in [RSA, EC, ED] {
            let expected = if key == *own { Ok(()) } else { Err(JwsError::UnknownKey) };
            assert_eq!(jws.verify(&set(key)).map(|_| ()), expected);
        }
        let entries = [RSA, EC, ED].map(|key| serde_json::from_str::<Value>(key).unwrap());
        let all = json!({ "keys": entries });
        assert_eq!(jws.verify(&set(&all.to_string())).unwrap(), &set(own).keys()[0]);
        let (head, signature) = token.rsplit_once('.').unwrap();
        let forged = Compact::parse(
            &format!("{head}A.{signature}").replace("fQA.", "fQ.").replace("iJ9.ey", "iJ9.ez"),
        );
        assert!(forged.is_err() || forged.unwrap().verify(&set(own)).is_err());
    }
    // The same key, named for PSS only.
    let pss = RSA.replace(r#""e""#, r#""alg":"PS256","e""#);
    let jws = Compact::parse(&tokens[0].0).unwrap();
    assert_eq!(jws.verify(&set(&pss)).unwrap_err(), JwsError::UnknownKey);
}

#[test]
fn thumbprints_are_those_of_rfc_7638_and_8037() {
    let rsa = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;
    assert_eq!(set(rsa).keys()[0].thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    assert_eq!(set(ED).keys()[0].thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn keys_read_back_from_json_and_pem() {
    let key = SigningKey::generate().unwrap();
    let again = SigningKey::from_pem(&key.to_pem()).unwrap();
    assert_eq!(again.public(), key.public());
    assert_eq!(key.kid(), key.public().thumbprint());
    assert_eq!(set(&keys_of(&key).to_json().to_string()), keys_of(&key));
    for jwk in [RSA, EC, ED] {
        assert_eq!(set(&set(jwk).keys()[0].to_json().to_string()), set(jwk));
    }
    let own = rcgen::KeyPair::from_pem(&key.to_pem()).unwrap();
    let ed = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let pems = set(&(own.public_key_pem() + &ed.public_key_pem()));
    assert_eq!(pems.keys()[0].thumbprint(), key.kid());
    assert_eq!(pems.keys()[0].kid(), None);
    assert_eq!(pems.keys().len(), 2);
    // RFC 7515 A.2's key, as `openssl pkey -pubout` writes it.
    assert_eq!(set(RSA_PEM).keys(), set(RSA).keys());
    let sec1 = "-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n";
    assert_eq!(SigningKey::from_pem(sec1).unwrap_err(), KeyError::Sec1);
    assert_eq!(SigningKey::from_pem("").unwrap_err(), KeyError::Malformed);
    assert!(!format!("{key:?}").contains("pkcs8"));
}

#[test]
fn keys_that_are_of_no_use_are_skipped_in_a_set_and_refused_alone() {
    let ec: Value = serde_json::from_str(EC).unwrap();
    let with = |name: &str, value: Value| {
        let mut key = ec.clone();
        key[name] = value;
        key
    };
    let short_rsa = json!({ "kty": "RSA", "e": "AQAB", "n": "_".repeat(170) });
    let useless = [
        json!({ "kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ" }),
        json!({ "kty": "EC", "crv": "P-384", "x": "AA", "y": "AA" }),
        json!({ "kty": "AKP", "pub": "AA" }),
        json!({}),
        json!("text"),
        short_rsa,
        with("use", json!("enc")),
        with("key_ops", json!(["sign"])),
        with("alg", json!("ES384")),
        with("alg", json!("RS256")),
        with("alg", json!("HS256")),
        with("x", json!("AA")),
        with("y", json!("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0=")),
    ];
    for key in &useless {
        assert!(Jwk::from_json(key).is_err(), "{key}");
    }
    let mut keys = useless.to_vec();
    keys.push(ec);
    let set = set(&json!({ "keys": keys }).to_string());
    assert_eq!((set.keys().len(), set.skipped()), (1, useless.len()));
    let many = json!({ "keys": vec![json!({}); 101] }).to_string();
    assert_eq!(JwkSet::from_text(&many), Err(KeyError::TooMany));
    assert_eq!(JwkSet::from_text("{"), Err(KeyError::Malformed));
    assert_eq!(JwkSet::from_text("PEM?"), Err(KeyError::Malformed));
}

pub(super) fn policy(key: &SigningKey) -> TokenPolicy {
    let issuer = IssuerPolicy::new("https://id.example.com", "ript", keys_of(key));
    TokenPolicy { issuers: vec![issuer], leeway: SECOND * 5 }
}

pub(super) fn alice() -> Claims {
    Claims {
        issuer: "https://id.example.com".into(),
        subject: "alice".into(),
        audience: "ript".into(),
        client_id: "cli".into(),
        numbers: vec!["+14085551000".into()],
        tgs: vec!["lab".into()],
        scopes: vec!["ript".into(), "admin".into()],
        lifetime: SECOND * 600,
    }
}

fn custom(key: &SigningKey, header: Value, change: impl FnOnce(&mut Value)) -> String {
    let mut claims =
        json!({ "iss": "https://id.example.com", "sub": "alice", "aud": "ript", "exp": NOW.as_secs() + 60 });
    change(&mut claims);
    sign(key, &header, &claims).unwrap()
}

fn es256() -> Value {
    json!({ "alg": "ES256" })
}

#[test]
fn an_issued_token_tells_who_holds_it_and_what_they_may_do() {
    let key = SigningKey::generate().unwrap();
    let token = token::issue(&key, &alice(), NOW).unwrap();
    let expected = Principal {
        issuer: "https://id.example.com".into(),
        subject: "alice".into(),
        numbers: vec!["+14085551000".into()],
        tgs: vec!["lab".into()],
        scopes: ["admin".to_owned(), "ript".to_owned()].into(),
        expires: NOW + SECOND * 600,
    };
    assert_eq!(policy(&key).verify(&token, NOW), Ok(expected));
}

#[test]
fn claims_may_be_strings_or_arrays_under_configured_names() {
    let key = SigningKey::generate().unwrap();
    let token = custom(&key, es256(), |claims| {
        claims["aud"] = json!(["other", "ript"]);
        claims["scp"] = json!(["a", "b c"]);
        claims["scope"] = json!("d  e");
        claims["https://example.com/tel"] = json!("+1408* 4711@example.com");
        claims["tgs"] = json!("lab");
        claims["iat"] = json!(1.5);
    });
    let mut policy = policy(&key);
    policy.issuers[0].numbers_claim = "https://example.com/tel".into();
    let principal = policy.verify(&token, NOW).unwrap();
    assert_eq!(principal.numbers, ["+1408*", "4711@example.com"]);
    assert_eq!(principal.tgs, ["lab"]);
    assert_eq!(principal.scopes.into_iter().collect::<Vec<_>>(), ["a", "b", "c", "d", "e"]);
}

#[test]
fn a_token_lives_from_nbf_to_exp_give_or_take_the_leeway() {
    let key = SigningKey::generate().unwrap();
    let at = |second: u64| Timestamp::from_millis(second * 1000);
    let token = custom(&key, es256(), |claims| {
        claims["nbf"] = json!(1000);
        claims["iat"] = json!(990);
        claims["exp"] = json!(2000);
    });
    let verify = |second| policy(&key).verify(&token, at(second)).map(|_| ());
    assert_eq!(verify(994), Err(TokenError::NotYetValid));
    assert_eq!(verify(995), Ok(()));
    assert_eq!(verify(2004), Ok(()));
    assert_eq!(verify(2005), Err(TokenError::Expired));
}

#[test]
fn every_flaw_of_a_token_is_told_apart_without_echoing_it() {
    let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let claim = |name: &'static str, value: Value| custom(&key, es256(), move |claims| claims[name] = value);
    let without = |name: &'static str| {
        custom(&key, es256(), move |claims| drop(claims.as_object_mut().unwrap().remove(name)))
    };
    let cases = [
        (String::new(), TokenError::Malformed),
        ("a.b".into(), TokenError::Malformed),
        (claim("iss", json!("https://evil.example")), TokenError::UnknownIssuer),
        (claim("iss", json!(7)), TokenError::BadClaim("iss")),
        (without("iss"), TokenError::MissingClaim("iss")),
        (without("sub"), TokenError::MissingClaim("sub")),
        (without("aud"), TokenError::MissingClaim("aud")),
        (without("exp"), TokenError::MissingClaim("exp")),
        (claim("aud", json!("rip")), TokenError::WrongAudience),
        (claim("aud", json!([])), TokenError::WrongAudience),
        (claim("aud", json!({ "ript": 1 })), TokenError::BadClaim("aud")),
        (claim("exp", json!("9999999999")), TokenError::BadClaim("exp")),
        (claim("exp", json!(-1)), TokenError::BadClaim("exp")),
        (claim("exp", json!(1)), TokenError::Expired),
        (claim("nbf", json!(NOW.as_secs() + 30)), TokenError::NotYetValid),
        (claim("iat", json!(NOW.as_secs() + 30)), TokenError::NotYetValid),
        (claim("numbers", json!([14_085_551_000_u64])), TokenError::BadClaim("numbers")),
        (claim("scope", json!({})), TokenError::BadClaim("scope")),
        (custom(&other, es256(), |_| ()), TokenError::BadSignature),
        (custom(&other, json!({ "alg": "ES256", "kid": other.kid() }), |_| ()), TokenError::UnknownKey),
        (custom(&key, json!({ "alg": "ES256", "typ": "passport" }), |_| ()), TokenError::Malformed),
    ];
    for (token, expected) in cases {
        let error = policy(&key).verify(&token, NOW).unwrap_err();
        assert_eq!(error, expected);
        let told = error.error_description();
        assert!(told.starts_with("the token") && !told.contains("evil"), "{told}");
    }
    let far = policy(&key).verify(&claim("exp", json!(1e300)), NOW).unwrap();
    assert_eq!(far.expires.to_string(), "9999-12-31T23:59:59.000Z");
}
