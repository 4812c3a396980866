//! Enrolment, and callers who are known by their certificates alone.

use std::sync::Arc;
use std::time::Duration;

use http::header;
use ript::client::{Client, HandlerSpec};
use ript::identity::canonical::Identity;
use ript::identity::certificate::Anchors;
use ript::identity::devca::DevCa;
use ript::identity::enrol::{Enroller, request};
use ript::identity::jwk::SigningKey;
use ript::identity::passport::{Passport, PassportTrust, Ppt};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::common::user::{ALL_SCOPES, Answer, BOTH, User, token};
use crate::common::{World, soon};

const CERTS: &str = "providertgs/test/certs";
const ALICE: &str = "+14085550001";
const BOB: &str = "+14085550002";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A world that enrols, and believes nobody but whom its CA has enrolled.
async fn world() -> (World, Enroller) {
    let ca = DevCa::generate(ript::clock::now()).unwrap();
    let enroller = || Enroller::new(ca.cert_pem(), &ca.key_pem(), DAY).unwrap();
    let anchors = Anchors::from_pem(ca.cert_pem()).unwrap();
    let world = World::with(|settings| {
        settings.enroller = Some(Arc::new(enroller()));
        settings.passports = PassportTrust { anchors, ..PassportTrust::default() };
    });
    (world.await, enroller())
}

/// So many seconds before.
fn before(now: ript::protocol::time::Timestamp, seconds: u64) -> ript::protocol::time::Timestamp {
    ript::protocol::time::Timestamp::from_millis(now.as_millis() - seconds * 1000)
}

fn number(text: &str) -> Identity {
    Identity::from_number(text).unwrap()
}

async fn enrol(user: &User, path: &str, kind: &str, body: Vec<u8>) -> Answer {
    let request = user.builder("POST", path).header(header::CONTENT_LENGTH, body.len());
    user.send(request.header(header::CONTENT_TYPE, kind).body(body.into()).unwrap()).await
}

fn chain(pem: &[u8]) -> Vec<Vec<u8>> {
    CertificateDer::pem_slice_iter(pem).map(|der| der.unwrap().to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_a_token_alone_enrols_and_calls_under_its_own_name() {
    let (world, _) = world().await;
    let bob = world.user("bob", BOB).await;
    let b1 = bob.register("b1", BOTH).await;
    let client = Client::builder(world.url())
        .token(token(&world.issuer, "alice", &[ALICE], &["test"], ALL_SCOPES))
        .roots(std::fs::read(&world.ca).unwrap())
        .connect()
        .await
        .unwrap();
    let tg = client.tgs().await.unwrap().remove(0);
    let alice = client.register(&tg.uri, HandlerSpec::audio()).await.unwrap();
    for calls in 1..=2 {
        let _call = soon("the call", alice.place(BOB, None)).await.unwrap();
        let list = bob.get("providertgs/test/calls").await.json();
        assert_eq!(list["calls"].as_array().unwrap().len(), calls);
        let uri = list["calls"][calls - 1]["uri"].as_str().unwrap().to_owned();
        let seen = bob.get(&format!("{uri}?handler={}", crate::common::user::encode(&b1))).await.json();
        assert_eq!((&seen["from"], &seen["verification"]), (&json!(ALICE), &json!({"status": "verified"})));
        // What the callee is given is the caller's own, with all that is needed to verify it.
        let own = Passport::parse(seen["passport"].as_str().unwrap()).unwrap();
        let trust = &world.settings.passports;
        own.check(trust, &number(BOB), ript::clock::now()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_given_for_ones_own_number_in_either_form() {
    let (world, _) = world().await;
    let alice = world.user("alice", ALICE).await;
    let csr = request(&SigningKey::generate().unwrap(), &number(ALICE)).unwrap();
    let pem = {
        use base64::Engine as _;
        let body = base64::engine::general_purpose::STANDARD.encode(&csr);
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
    };
    for (path, kind, body) in [
        (CERTS, "application/pkcs10", csr.clone()),
        ("providertgs/test/cert", "application/x-pem-file; charset=us-ascii", pem.into_bytes()),
    ] {
        let answer = enrol(&alice, path, kind, body).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (http::StatusCode::OK, "application/pem-certificate-chain")
        );
        assert_eq!(chain(&answer.body).len(), 1, "the root is left out");
    }
    for (what, kind, body, status, code, field) in [
        ("garbage", "application/pkcs10", b"x".to_vec(), 422, "bad-csr", "csr"),
        ("nothing", "application/pkcs10", vec![], 422, "bad-csr", "csr"),
        ("no PEM", "application/x-pem-file", b"x".to_vec(), 422, "bad-csr", "csr"),
        ("another type", "application/json", csr.clone(), 422, "bad-csr", "Content-Type"),
        (
            "Bob's number",
            "application/pkcs10",
            request(&SigningKey::generate().unwrap(), &number(BOB)).unwrap(),
            403,
            "number-not-allowed",
            "csr",
        ),
    ] {
        let answer = enrol(&alice, CERTS, kind, body).await;
        let problem = answer.json();
        let said = (answer.status.as_u16(), problem["code"].clone(), problem["field"].clone());
        assert_eq!(said, (status, json!(code), json!(field)), "{what}");
    }
    let scopes = "ript:calls ript:handlers";
    let limited =
        User::connect(&world, token(&world.issuer, "alice", &[ALICE], &["test"], scopes), ALICE).await;
    let answer = enrol(&limited, CERTS, "application/pkcs10", csr.clone()).await;
    assert_eq!((answer.status.as_u16(), answer.json()["code"].clone()), (403, json!("scope")));
    let elsewhere = World::start().await;
    let alice = elsewhere.user("alice", ALICE).await;
    assert_eq!(enrol(&alice, CERTS, "application/pkcs10", csr).await.status, 404, "it enrols nobody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_without_proof_rings_nobody() {
    let (world, enroller) = world().await;
    let alice = world.user("alice", ALICE).await;
    let bob = world.user("bob", BOB).await;
    let a1 = alice.register("a1", BOTH).await;
    bob.register("b1", BOTH).await;
    let now = ript::clock::now();
    let key = SigningKey::generate().unwrap();
    let certified = |by: &Enroller, own: &str| {
        let csr = request(&key, &number(own)).unwrap();
        chain(by.enrol(&csr, |_| true, now).unwrap().as_bytes())
    };
    let other = {
        let ca = DevCa::generate(now).unwrap();
        Enroller::new(ca.cert_pem(), &ca.key_pem(), DAY).unwrap()
    };
    let own = certified(&enroller, ALICE);
    let sign = |key: &SigningKey, chain: &[Vec<u8>], to: &str, at| {
        json!(Passport::sign_with(key, chain, &number(ALICE), &number(to), &Ppt::Base, at).unwrap())
    };
    let stranger = SigningKey::generate().unwrap();
    let by_x5u = {
        // RFC 8225 appendix A: a good form whose certificate lies elsewhere.
        "eyJhbGciOiJFUzI1NiIsInR5cCI6InBhc3Nwb3J0IiwieDV1IjoiaHR0cHM6Ly9jZXJ0LmV4YW1wbGUub3JnL3Bhc3Nwb3J0LmNlciJ9.eyJkZXN0Ijp7InVyaSI6WyJzaXA6YWxpY2VAZXhhbXBsZS5jb20iXX0sImlhdCI6MTQ3MTM3NTQxOCwib3JpZyI6eyJ0biI6IjEyMTU1NTUxMjEyIn19.VLBCIVDCaeK6M4hLJb6SHQvacAQVvoiiEOWQ_iUkqk79UD81fHQ0E1b3_GluIkba7UWYRM47ZbNFdOJquE35cw"
    };
    let seconds = |seconds| Duration::from_secs(seconds);
    let past = before(now, 62);
    // Issued two days ago, for one.
    let expired = {
        let then = before(now, 2 * 24 * 3600);
        let csr = request(&key, &number(ALICE)).unwrap();
        chain(enroller.enrol(&csr, |_| true, then).unwrap().as_bytes())
    };
    let table: [(&str, Value, &str); 10] = [
        ("an expired certificate", sign(&key, &expired, BOB, now), "passport-chain"),
        ("none", Value::Null, "passport-form"),
        ("no certificate", sign(&key, &[], BOB, now), "passport-signature"),
        ("somebody else's certificate", sign(&stranger, &own, BOB, now), "passport-signature"),
        ("another root", sign(&key, &certified(&other, ALICE), BOB, now), "passport-chain"),
        ("another number", sign(&key, &certified(&enroller, "+14085550009"), BOB, now), "passport-orig"),
        ("another destination", sign(&key, &own, "+14085550003", now), "passport-dest"),
        ("too old", sign(&key, &own, BOB, past), "passport-stale"),
        ("too new", sign(&key, &own, BOB, now + seconds(75)), "passport-stale"),
        ("x5u", json!(by_x5u), "passport-x5u"),
    ];
    for (what, passport, code) in table {
        let body = json!({"handler": a1, "destination": BOB, "passport": passport});
        let answer = alice.post("providertgs/test/calls", &body).await;
        assert_eq!((answer.status.as_u16(), answer.json()["code"].clone()), (403, json!(code)), "{what}");
        assert_eq!(bob.get("providertgs/test/calls").await.json(), json!({"calls": []}), "{what}");
    }
    let good = json!({"handler": a1, "destination": BOB, "passport": sign(&key, &own, BOB, now)});
    assert_eq!(alice.post("providertgs/test/calls", &good).await.status, 201);
    let again = alice.post("providertgs/test/calls", &good).await;
    assert_eq!(again.json()["code"], "passport-replay");
    // On another connection, and by another user who may use the number too.
    for name in ["alice", "eve"] {
        let other = world.user(name, ALICE).await;
        let o1 = other.register(name, BOTH).await;
        let again = json!({"handler": o1, "destination": BOB, "passport": good["passport"]});
        let again = other.post("providertgs/test/calls", &again).await;
        assert_eq!(
            (again.status.as_u16(), again.json()["code"].clone()),
            (403, json!("passport-replay")),
            "{name}"
        );
    }
    assert_eq!(bob.get("providertgs/test/calls").await.json()["calls"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_called_and_is_handed_on_has_the_servers_word() {
    let (world, enroller) = world().await;
    let ca = world.settings.passports.clone();
    let now = ript::clock::now();
    let mut pair = Vec::new();
    for (name, own) in [("alice", ALICE), ("bob", BOB), ("carol", "+14085550003")] {
        let user = world.user(name, own).await;
        let handler = user.register(name, BOTH).await;
        pair.push((user, handler));
    }
    let [(alice, a1), (bob, b1), (carol, c1)] = <[_; 3]>::try_from(pair).ok().unwrap();
    let (key, chain) = enroller.credential(&number(ALICE), now).unwrap();
    let passport = Passport::sign_with(&key, &chain, &number(ALICE), &number(BOB), &Ppt::Base, now).unwrap();
    let body = json!({"handler": a1, "destination": BOB, "passport": passport});
    let placed = alice.post("providertgs/test/calls", &body).await.json();
    let call = placed["uri"].as_str().unwrap();
    let list = bob.get("providertgs/test/calls").await.json();
    let theirs = list["calls"][0]["uri"].as_str().unwrap().to_owned();
    assert_eq!(bob.claim(&theirs, &b1, Some("answer")).await.status, 200);
    assert_eq!(bob.event(&theirs, &b1, json!({"event": "answered"})).await.status, 200);
    let transfer = json!({"event": "transfer", "target": "+14085550003"});
    assert_eq!(alice.event(call, &a1, transfer).await.status, 200);
    let rings = async {
        loop {
            let list = carol.get("providertgs/test/calls").await.json();
            if let Some(uri) = list["calls"][0]["uri"].as_str() {
                return uri.to_owned();
            }
        }
    };
    let uri = soon("Carol's call", rings).await;
    let seen = carol.get(&format!("{uri}?handler={}", crate::common::user::encode(&c1))).await.json();
    assert_eq!((&seen["from"], &seen["verification"]["attest"]), (&json!(BOB), &json!("A")));
    let word = Passport::parse(seen["passport"].as_str().unwrap()).unwrap();
    assert_eq!(word.orig(), &number(BOB));
    let verdict = word.check(&ca, &number("+14085550003"), now).unwrap();
    assert_eq!(serde_json::to_value(verdict).unwrap(), seen["verification"]);
    // Once she answered it is she whom Bob reads of.
    let read =
        async || bob.get(&format!("{theirs}?handler={}", crate::common::user::encode(&b1))).await.json();
    assert_eq!(read().await["passport"], placed["passport"]);
    assert_eq!(carol.claim(&uri, &c1, Some("answer")).await.status, 200);
    assert_eq!(carol.event(&uri, &c1, json!({"event": "answered"})).await.status, 200);
    let seen = read().await;
    assert_eq!((&seen["from"], &seen["verification"]["attest"]), (&json!("+14085550003"), &json!("A")));
    let word = Passport::parse(seen["passport"].as_str().unwrap()).unwrap();
    assert_eq!(word.orig(), &number("+14085550003"));
    word.check(&ca, &number(BOB), ript::clock::now()).unwrap();
}
