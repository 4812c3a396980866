//! Tokens of a real identity provider, and hostile ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ript::identity::jwk::{JwkSet, SigningKey};
use ript::identity::token::IssuerPolicy;
use ript::service::settings::{Credentials, Login, OAuth, Settings};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::common::idp::Provider;
use crate::common::user::{ALL_SCOPES, Answer, User, token};
use crate::common::{AUDIENCE, ISSUER, World};

const NUMBER: &str = "+14085551000";

pub fn trusting(provider: &Provider) -> impl FnOnce(&mut Settings) {
    let (issuer, fetch) = (provider.issuer.clone(), provider.fetch.clone());
    move |settings| {
        settings.tokens.leeway = Duration::ZERO;
        settings.tokens.issuers.push(IssuerPolicy::new(issuer.clone(), AUDIENCE, JwkSet::default()));
        let server = Credentials { id: "ript-server".into(), secret: "server-secret-for-tests".into() };
        settings.oauth = OAuth {
            fetch,
            introspection: vec![(issuer.clone(), server)],
            login: Some(Login { issuer, client_id: "ript-cli".into() }),
            pause: Duration::ZERO,
        };
    }
}

async fn ask(user: &User, token: &str) -> Answer {
    user.with_token(token.to_owned()).get("providertgs").await
}

async fn plain(user: &User, path: &str) -> Answer {
    user.send(user.bare("GET", path).body(Body::empty()).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_tokens_are_taken_before_and_after_a_rotation() {
    let mut provider = Provider::start(&[]);
    let world = World::with(trusting(&provider)).await;
    let old = provider.token("urn:ript").await;
    let user = User::connect(&world, old.clone(), NUMBER).await;
    for _ in 0..3 {
        let answer = user.get("providertgs").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["tgs"].as_array().unwrap().len(), 2);
    }
    assert_eq!(provider.seen("/jwks").await, 1, "keys are kept");
    provider.rotate();
    let new = provider.token("urn:ript").await;
    assert_eq!(ask(&user, &new).await.status, 200);
    assert_eq!(provider.seen("/jwks").await, 1);
    // The key that signed it is gone.
    assert_eq!(ask(&user, &old).await.problem(), (401, "unauthorized".into()));
    assert_eq!(ask(&user, &new).await.status, 200);
    // What is known goes on while the provider is away.
    drop(provider);
    assert_eq!(ask(&user, &new).await.status, 200);
    assert_eq!(ask(&user, &old).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opaque_token_is_introspected_once() {
    let provider = Provider::start(&[]);
    let world = World::with(trusting(&provider)).await;
    let opaque = provider.token("urn:ript:opaque").await;
    assert!(!opaque.contains('.'), "{opaque}");
    let user = User::connect(&world, opaque, NUMBER).await;
    for _ in 0..3 {
        let answer = user.get("providertgs").await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(provider.seen("/token/introspection").await, 1);
    for made_up in ["made-up", "a b", "x.y", &"x".repeat(3000), "\"", "client_id=x&token=y"] {
        let answer = ask(&user, made_up).await;
        assert_eq!(answer.status, 401, "{made_up}");
        assert!(answer.header("www-authenticate").contains(r#"error="invalid_token""#), "{made_up}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_has_ended_is_refused_by_name() {
    let provider = Provider::start(&[("ACCESS_TTL", "2")]);
    let world = World::with(trusting(&provider)).await;
    let (jwt, opaque) = (provider.token("urn:ript").await, provider.token("urn:ript:opaque").await);
    let user = User::connect(&world, jwt.clone(), NUMBER).await;
    let before = (ask(&user, &jwt).await.status, ask(&user, &opaque).await.status);
    assert_eq!(before, (http::StatusCode::OK, http::StatusCode::OK));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let answer = ask(&user, &jwt).await;
    assert_eq!(answer.problem(), (401, "unauthorized".into()));
    let challenge = answer.header("www-authenticate");
    let metadata = format!(r#"resource_metadata="{}/.well-known/oauth-protected-resource""#, user.base);
    let begins = r#"Bearer realm="ript", error="invalid_token", error_description="the token has expired""#;
    assert_eq!(challenge, format!("{begins}, {metadata}"));
    assert_eq!(ask(&user, &opaque).await.status, 401, "an answer lives no longer than its token");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_cannot_be_asked_is_no_fault_of_the_token() {
    let provider = Provider::start(&[]);
    let world = World::with(trusting(&provider)).await;
    let (jwt, opaque) = (provider.token("urn:ript").await, provider.token("urn:ript:opaque").await);
    let user = User::connect(&world, jwt.clone(), NUMBER).await;
    drop(provider);
    for token in [&jwt, &opaque] {
        let answer = ask(&user, token).await;
        assert_eq!(answer.problem(), (503, "issuer-unavailable".into()));
        assert_eq!(answer.header("retry-after"), "1");
    }
    assert_eq!(plain(&user, "/.well-known/ript-oauth").await.problem().0, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_told_where_to_log_in() {
    let provider = Provider::start(&[]);
    let world = World::with(trusting(&provider)).await;
    let user = User::connect(&world, "none".into(), NUMBER).await;
    let login = plain(&user, "/.well-known/ript-oauth").await;
    assert_eq!(login.status, 200, "{login:?}");
    let login = login.json();
    let at = |path: &str| Value::from(format!("{}{path}", provider.issuer));
    assert_eq!(login["issuer"], at(""));
    assert_eq!(login["authorization_endpoint"], at("/auth"));
    assert_eq!(login["token_endpoint"], at("/token"));
    assert_eq!(login["device_authorization_endpoint"], at("/device/auth"));
    assert_eq!(login["client_id"], "ript-cli");
    assert_eq!(login["scopes"].as_array().unwrap().len(), 4);
    let page = user.bare("GET", "/.well-known/ript-oauth").header("accept", "text/html,*/*;q=0.8");
    let page = user.send(page.body(Body::empty()).unwrap()).await;
    assert_eq!((page.status.as_u16(), at("/auth")), (302, page.header("location").into()));
    let resource = plain(&user, "/.well-known/oauth-protected-resource").await.json();
    assert_eq!(resource["resource"], user.base);
    assert_eq!(resource["authorization_servers"], json!([provider.issuer]));
    assert_eq!(resource["bearer_methods_supported"], json!(["header"]));
    assert_eq!(resource["scopes_supported"].as_array().unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_says_what_is_missing() {
    let world = World::start().await;
    let user = world.user("alice", NUMBER).await;
    assert_eq!(plain(&user, "/.well-known/ript-oauth").await.problem(), (404, "not-found".into()));
    let metadata = format!(r#"resource_metadata="{}/.well-known/oauth-protected-resource""#, user.base);
    let none = plain(&user, "providertgs").await;
    assert_eq!(none.header("www-authenticate"), format!(r#"Bearer realm="ript", {metadata}"#));
    let narrow = token(&world.issuer, "alice", &[NUMBER], &["test"], "ript:handlers");
    let narrow = user.with_token(narrow).get("providertgs/test/calls").await;
    assert_eq!(narrow.problem(), (403, "scope".into()));
    let challenge = narrow.header("www-authenticate");
    assert!(challenge.contains(r#"error="insufficient_scope""#), "{challenge}");
    assert!(challenge.contains(r#", scope="ript:calls""#), "{challenge}");
    assert!(challenge.ends_with(&metadata), "{challenge}");
}

/// Signed by `key` whatever the header says; `None` leaves the signature out.
fn forged(key: Option<&[u8]>, header: &Value, claims: &Value) -> String {
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let input = format!("{}.{}", b64(header.to_string().as_bytes()), b64(claims.to_string().as_bytes()));
    let signature = key.map(|key| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
        ring::hmac::sign(&key, input.as_bytes()).as_ref().to_vec()
    });
    format!("{input}.{}", b64(&signature.unwrap_or_default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_forged_token_is_taken_and_none_makes_us_fetch_anything() {
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bait = format!("https://127.0.0.1:{}/jwks", trap.local_addr().unwrap().port());
    let caught = Arc::new(AtomicUsize::new(0));
    let counter = caught.clone();
    let watching = tokio::spawn(async move {
        while trap.accept().await.is_ok() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    // Fetching from this machine is allowed: nothing but the server's own restraint keeps it from the bait.
    let provider = Provider::start(&[]);
    let world = World::with(|settings| {
        trusting(&provider)(settings);
        settings.oauth.pause = Duration::from_secs(600);
    })
    .await;
    let good = token(&world.issuer, "alice", &[NUMBER], &["test"], ALL_SCOPES);
    let user = User::connect(&world, good.clone(), NUMBER).await;
    assert_eq!(user.get("providertgs").await.status, 200);

    let now = ript::clock::now().as_secs();
    let claims = json!({
        "iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "iat": now, "exp": now + 3600,
        "scope": ALL_SCOPES, "numbers": [NUMBER], "tgs": ["test"],
    });
    let public = world.issuer.public().to_json();
    let stranger = SigningKey::generate().unwrap();
    let kid = world.issuer.kid();
    let mut tokens = vec![good[..good.len() - 1].to_owned(), good[..good.rfind('.').unwrap()].to_owned()];
    for alg in
        ["none", "None", "NONE", "nOnE", "", "HS256", "HS384", "RS256", "PS256", "ES384", "ES256K", "EdDSA"]
    {
        let header = json!({ "alg": alg, "typ": "at+jwt", "kid": kid });
        tokens.push(forged(None, &header, &claims));
        // The public key taken for a shared secret.
        tokens.push(forged(Some(public.to_string().as_bytes()), &header, &claims));
        tokens.push(forged(Some(public["x"].as_str().unwrap().as_bytes()), &header, &claims));
        tokens.push(forged(Some(b""), &header, &claims));
    }
    let long = "k".repeat(10_000);
    for kid in ["../../../dev/null", "/proc/self/environ", "' OR '1'='1", "\"", "\\", "\0", &bait, &long, ""]
    {
        tokens.push(forged(Some(b""), &json!({ "alg": "ES256", "kid": kid }), &claims));
        tokens.push(forged(Some(b""), &json!({ "alg": "HS256", "kid": kid }), &claims));
    }
    for extra in [
        json!({ "jwk": stranger.public().to_json() }),
        json!({ "jku": bait }),
        json!({ "x5u": bait }),
        json!({ "x5c": ["AAAA"] }),
        json!({ "crit": ["exp"], "exp": 1 }),
        json!({ "b64": false, "crit": ["b64"] }),
        json!({ "kid": 7 }),
        json!({ "typ": "passport" }),
        json!({ "alg": ["ES256"] }),
    ] {
        let mut header = json!({ "alg": "ES256", "typ": "at+jwt" });
        header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        tokens.push(forged(Some(b"x"), &header, &claims));
    }
    // The same in the name of the issuer whose keys are fetched: an unknown key has them fetched once, not more.
    let mut theirs = claims.clone();
    theirs["iss"] = provider.issuer.as_str().into();
    for extra in
        [json!({}), json!({ "kid": "new" }), json!({ "jku": bait, "x5u": bait }), json!({ "kid": bait })]
    {
        let mut header = json!({ "alg": "ES256", "typ": "at+jwt" });
        header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        tokens.push(forged(Some(b"x"), &header, &theirs));
    }
    tokens.push(signed(&stranger, &[("iss", provider.issuer.as_str().into())]));
    assert!(world.service.tokens.verify(&signed(&world.issuer, &[])).await.is_ok());
    // A stranger's key under our issuer's name, and issuers that would lead to the bait.
    tokens.push(token(&stranger, "alice", &[NUMBER], &["test"], ALL_SCOPES));
    for issuer in [bait.as_str(), "https://127.0.0.1", "", "urn:ript:test/", "urn:ript:TEST"] {
        let mut claims = claims.clone();
        claims["iss"] = issuer.into();
        tokens.push(forged(Some(b"x"), &json!({ "alg": "ES256" }), &claims));
        tokens.push(signed(&world.issuer, &[("iss", issuer.into())]));
    }
    for (name, value) in [
        ("exp", json!(now - 60)),
        ("exp", json!("never")),
        ("exp", json!(-1)),
        ("exp", Value::Null),
        ("nbf", json!(now + 3600)),
        ("iat", json!(now + 3600)),
        ("aud", json!("another")),
        ("aud", json!(["another"])),
        ("aud", json!({})),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("numbers", json!({})),
        ("scope", json!([7])),
    ] {
        tokens.push(signed(&world.issuer, &[(name, value)]));
    }
    for token in &tokens {
        let refused = world.service.tokens.verify(token).await;
        assert!(refused.is_err(), "{token}");
        if token.bytes().all(|b| (b' '..=b'~').contains(&b)) && token.len() < 8000 {
            let answer = ask(&user, token).await;
            assert_eq!(answer.problem(), (401, "unauthorized".into()), "{token}");
            assert!(answer.header("www-authenticate").contains(r#"error="invalid_token""#), "{token}");
        }
    }
    mutants(&world, &good).await;
    assert_eq!(provider.seen("/jwks").await, 1);
    assert_eq!(caught.load(Ordering::SeqCst), 0, "a token led to a fetch");
    watching.abort();
}

/// Signed as it should be, with other claims.
fn signed(key: &SigningKey, changes: &[(&str, Value)]) -> String {
    let now = ript::clock::now().as_secs();
    let mut claims = json!({
        "iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "iat": now - 120, "exp": now + 3600,
        "scope": ALL_SCOPES, "numbers": [NUMBER], "tgs": ["test"],
    });
    for (name, value) in changes {
        claims[*name] = value.clone();
    }
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": key.kid() });
    let input = format!("{}.{}", b64(header.to_string().as_bytes()), b64(claims.to_string().as_bytes()));
    let random = ring::rand::SystemRandom::new();
    let pem = key.to_pem();
    let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(der).unwrap();
    let algorithm = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let pair = ring::signature::EcdsaKeyPair::from_pkcs8(algorithm, &der, &random).unwrap();
    format!("{input}.{}", b64(pair.sign(&random, input.as_bytes()).unwrap().as_ref()))
}

async fn mutants(world: &World, good: &str) {
    let mut seed: u64 = 0x5eed_0a17;
    println!("seed {seed:#x}");
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ ";
    let mut tried = 0;
    while tried < 3000 {
        let mut bytes = good.as_bytes().to_vec();
        for _ in 0..=next(3) {
            let (at, letter) = (next(bytes.len()), letters[next(letters.len())]);
            match next(4) {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, letter),
                2 => bytes.truncate(at.max(1)),
                _ => bytes[at] = letter,
            }
        }
        let mutant = String::from_utf8(bytes).unwrap();
        if mutant == good {
            continue;
        }
        tried += 1;
        assert!(world.service.tokens.verify(&mutant).await.is_err(), "{mutant}");
    }
}
