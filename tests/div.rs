//! A caller who is handed on: their own PASSporT, and those that lead on to the target (RFC 8946), read as another
//! implementation would: JSON, ring and webpki, nothing of this crate.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use ript::identity::canonical::Identity;
use ript::identity::certificate::Anchors;
use ript::identity::devca::DevCa;
use ript::identity::enrol::Enroller;
use ript::identity::passport::{Passport, PassportTrust, Ppt};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use serde_json::{Value, json};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::common::user::{BOTH, User, encode};
use crate::common::{World, soon};

const ALICE: &str = "+14085550001";
const BOB: &str = "+14085550002";
const CAROL: &str = "+14085550003";
const DAVE: &str = "+14085550004";

fn enroller(ca: &DevCa) -> Enroller {
    Enroller::new(ca.cert_pem(), &ca.key_pem(), Duration::from_secs(3600)).unwrap()
}

/// A user and their device.
struct Phone {
    user: User,
    handler: String,
}

impl Phone {
    async fn of(world: &World, name: &str, number: &str) -> Self {
        let user = world.user(name, number).await;
        let handler = user.register(name, BOTH).await;
        Self { user, handler }
    }

    /// The URI of the call that rings, once it does.
    async fn rings(&self) -> String {
        soon("a call", async {
            loop {
                let list = self.user.get("providertgs/test/calls").await.json();
                if let Some(uri) = list["calls"][0]["uri"].as_str() {
                    return uri.to_owned();
                }
            }
        })
        .await
    }

    async fn answers(&self) -> String {
        let uri = self.rings().await;
        assert_eq!(self.user.claim(&uri, &self.handler, Some("answer")).await.status, 200);
        assert_eq!(self.user.event(&uri, &self.handler, json!({"event": "answered"})).await.status, 200);
        uri
    }

    async fn reads(&self, uri: &str) -> Value {
        self.user.get(&format!("{uri}?handler={}", encode(&self.handler))).await.json()
    }

    async fn hands_on(&self, uri: &str, target: &str) {
        let event = json!({"event": "transfer", "target": target});
        assert_eq!(self.user.event(uri, &self.handler, event).await.status, 200);
    }
}

/// Header and claims of a PASSporT whose signature is by its leaf, whose leaf is by the root and for exactly one number.
fn verified(text: &str, root: &DevCa) -> (Value, Value, String) {
    let parts: Vec<&str> = text.split('.').collect();
    let [head, body, tail] = parts[..] else { panic!("three parts: {text}") };
    let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let json = |part: &str| serde_json::from_slice::<Value>(&bytes(part)).unwrap();
    let header = json(head);
    let chain = header["x5c"].as_array().unwrap().iter();
    let chain: Vec<CertificateDer<'_>> =
        chain.map(|der| CertificateDer::from(STANDARD.decode(der.as_str().unwrap()).unwrap())).collect();
    let leaf = EndEntityCert::try_from(&chain[0]).unwrap();
    let root = CertificateDer::from_pem_slice(root.cert_pem().as_bytes()).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(ript::clock::now().as_secs()));
    let usage = KeyUsage::required_if_present(&[0x55, 0x1d, 0x25, 0x00]);
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let anchors = [anchor_from_trusted_cert(&root).unwrap()];
    leaf.verify_for_usage(algorithms.all, &anchors, &chain[1..], now, usage, None, None).unwrap();
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let key =
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &leaf.public_key().subject_public_key.data[..]);
    key.verify(format!("{head}.{body}").as_bytes(), &bytes(tail)).unwrap();
    // RFC 8226 §9: SEQUENCE { [2] { IA5String } } with the digits at its end.
    let list = leaf.extensions().iter().find(|e| e.oid.to_id_string() == "1.3.6.1.5.5.7.1.26").unwrap();
    let (lead, digits) = list.value.split_at(6);
    let length = u8::try_from(digits.len()).unwrap();
    assert_eq!(lead, [0x30, length + 4, 0xa2, length + 2, 0x16, length]);
    (header.clone(), json(body), String::from_utf8(digits.to_vec()).unwrap())
}

fn tn(number: &str) -> Value {
    number.trim_start_matches('+').into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_target_can_follow_a_caller_from_whom_they_called_to_itself() {
    let ca = DevCa::generate(ript::clock::now()).unwrap();
    let anchors = Anchors::from_pem(ca.cert_pem()).unwrap();
    let world = World::with(|settings| {
        settings.enroller = Some(Arc::new(enroller(&ca)));
        settings.passports = PassportTrust { anchors, ..PassportTrust::default() };
    })
    .await;
    let [alice, bob, carol, dave] = [("alice", ALICE), ("bob", BOB), ("carol", CAROL), ("dave", DAVE)];
    let (alice, bob) = (Phone::of(&world, alice.0, alice.1).await, Phone::of(&world, bob.0, bob.1).await);
    let (carol, dave) = (Phone::of(&world, carol.0, carol.1).await, Phone::of(&world, dave.0, dave.1).await);
    let number = |text: &str| Identity::from_number(text).unwrap();
    let now = ript::clock::now();
    let (key, chain) = enroller(&ca).credential(&number(ALICE), now).unwrap();
    let own = Passport::sign_with(&key, &chain, &number(ALICE), &number(BOB), &Ppt::Base, now).unwrap();
    let body = json!({"handler": alice.handler, "destination": BOB, "passport": own});
    assert_eq!(alice.user.post("providertgs/test/calls", &body).await.status, 201);
    let at_bob = bob.answers().await;
    let seen = bob.reads(&at_bob).await;
    assert_eq!((&seen["verification"], seen.get("div")), (&json!({"status": "verified"}), None));

    bob.hands_on(&at_bob, CAROL).await;
    let at_carol = carol.answers().await;
    carol.hands_on(&at_carol, DAVE).await;
    let (at_dave, told) = (dave.rings().await, json!({"status": "verified", "dest": BOB, "div": true}));
    for (phone, uri, links) in
        [(&carol, &at_carol, &[(BOB, CAROL)][..]), (&dave, &at_dave, &[(BOB, CAROL), (CAROL, DAVE)])]
    {
        let seen = phone.reads(uri).await;
        assert_eq!(
            (&seen["from"], &seen["passport"], &seen["verification"]),
            (&json!(ALICE), &json!(own), &told)
        );
        let div = seen["div"].as_array().unwrap();
        assert_eq!(div.len(), links.len());
        for (passport, (by, to)) in div.iter().zip(links) {
            let (header, claims, covered) = verified(passport.as_str().unwrap(), &ca);
            assert_eq!(
                (&header["alg"], &header["typ"], &header["ppt"]),
                (&json!("ES256"), &json!("passport"), &json!("div"))
            );
            let iat = claims["iat"].as_u64().unwrap();
            assert!((now.as_secs()..=ript::clock::now().as_secs()).contains(&iat));
            let right = json!({
                "orig": {"tn": tn(ALICE)}, "dest": {"tn": [tn(to)]}, "div": {"tn": tn(by)}, "iat": iat
            });
            assert_eq!((claims, json!(covered)), (right, tn(by)));
        }
    }
    // Alice reads what she always read.
    let list = alice.user.calls().await;
    let seen = alice.reads(&list[0]).await;
    assert_eq!(
        (&seen["passport"], &seen["verification"], seen.get("div")),
        (&json!(own), &json!({"status": "verified"}), None)
    );
    // A diversion is no way to call in somebody else's name.
    let seen = dave.reads(&at_dave).await;
    let body = json!({"handler": bob.handler, "destination": CAROL, "passport": seen["div"][0]});
    let refused = bob.user.post("providertgs/test/calls", &body).await;
    assert_eq!(refused.problem(), (403, "passport-form".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_ca_the_target_is_told_whom_the_passport_was_for() {
    let world = World::start().await;
    let (alice, bob) = (Phone::of(&world, "alice", ALICE).await, Phone::of(&world, "bob", BOB).await);
    let carol = Phone::of(&world, "carol", CAROL).await;
    alice.user.call(&alice.handler, BOB).await;
    let at_bob = bob.answers().await;
    bob.hands_on(&at_bob, CAROL).await;
    let seen = carol.reads(&carol.rings().await).await;
    assert_eq!(seen["verification"], json!({"status": "verified", "dest": BOB}));
    assert_eq!((&seen["from"], seen.get("div")), (&json!(ALICE), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attended_transfer_replaces_what_the_target_was_told() {
    let world = World::start().await;
    let (alice, bob) = (Phone::of(&world, "alice", ALICE).await, Phone::of(&world, "bob", BOB).await);
    let carol = Phone::of(&world, "carol", CAROL).await;
    let placed = alice.user.call(&alice.handler, BOB).await;
    let at_bob = bob.answers().await;
    let consult = bob.user.call(&bob.handler, CAROL).await["uri"].as_str().unwrap().to_owned();
    let at_carol = carol.answers().await;
    assert_eq!(carol.reads(&at_carol).await["verification"], json!({"status": "verified"}));
    let mut events = carol.user.events(&at_carol, &carol.handler, None).await;
    let event = json!({"event": "transfer", "target": CAROL, "replaces": consult});
    assert_eq!(bob.user.event(&at_bob, &bob.handler, event).await.status, 200);
    while carol.reads(&at_carol).await["from"] != ALICE {
        events.until("directives").await;
    }
    let seen = carol.reads(&at_carol).await;
    assert_eq!(seen["passport"], placed["passport"]);
    assert_eq!(seen["verification"], json!({"status": "verified", "dest": BOB}));
}
