//! PASSporTs that come with calls from a telephone network (RFC 8224), seen at RIPT's callees.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use ript::adapter::camara;
use ript::adapter::sip::ua::{Command, Event};
use ript::client::audio::AudioCodec;
use ript::identity::canonical::Identity;
use ript::identity::certificate::Anchors;
use ript::identity::devca::DevCa;
use ript::identity::enrol::Enroller;
use ript::identity::passport::{Attest, Passport, Ppt};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::client_calls::device;
use crate::common::soon;
use crate::common::user::{BOTH, encode};
use crate::sip_phone::{BOB, Lab, PHONE, said};

const FIRST: &str = "+14085550009";
const URL: &str = "https://certs.example/chain.pem";

/// A network whose PASSporTs are signed below a CA that the server knows.
struct Signed {
    lab: Lab,
    enroller: Arc<Enroller>,
}

fn named(number: &str) -> Identity {
    Identity::from_number(number).unwrap()
}

impl Signed {
    async fn start() -> Self {
        let ca = DevCa::generate(ript::clock::now()).unwrap();
        let day = Duration::from_secs(24 * 3600);
        let enroller = Arc::new(Enroller::new(ca.cert_pem(), &ca.key_pem(), day).unwrap());
        let (anchors, own) = (Anchors::from_pem(ca.cert_pem()).unwrap(), enroller.clone());
        let change = |settings: &mut ript::service::Settings| {
            (settings.passports.anchors, settings.enroller) = (anchors, Some(own));
        };
        Self { lab: Lab::whole(|_| {}, change, camara::Settings::default()).await, enroller }
    }

    /// A PASSporT by who may speak for `signer`.
    fn signs(&self, signer: &str, orig: &str, dest: &str, ppt: &Ppt) -> String {
        let now = ript::clock::now();
        let (key, chain) = self.enroller.credential(&named(signer), now).unwrap();
        Passport::sign_with(&key, &chain, &named(orig), &named(dest), ppt, now).unwrap()
    }
}

fn header(passport: &str, ppt: &str) -> String {
    format!("{passport};info=<{URL}>;alg=ES256;ppt=\"{ppt}\"")
}

fn date() -> String {
    ript::adapter::ims::identity::date(ript::clock::now())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callers_own_passport_in_full_or_compact_form_is_verified_for_who_is_called() {
    let net = Signed::start().await;
    let bob = device(&net.lab.world, "bob", BOB, &AudioCodec::ALL).await;
    let mut bobs = bob.listen();
    let shaken = Ppt::Shaken { attest: Attest::A, origid: "o-1".to_owned() };
    let full = header(&net.signs(PHONE, PHONE, BOB, &shaken), "shaken");
    // RFC 8224 §6.1: the compact form leaves out what the INVITE says, and is signed by a key that the server knows.
    let pem = net.lab.world.passports.to_pem();
    let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_pkcs8_der(), &random);
    let compact = |dest: &str| {
        let iat = ript::clock::now().as_secs();
        let [orig, dest] = [PHONE, dest].map(|number| number.trim_start_matches('+'));
        let head = format!("{{\"alg\":\"ES256\",\"typ\":\"passport\",\"x5u\":\"{URL}\"}}");
        let claims =
            format!("{{\"dest\":{{\"tn\":[\"{dest}\"]}},\"iat\":{iat},\"orig\":{{\"tn\":\"{orig}\"}}}}");
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
        let signature = key.as_ref().unwrap().sign(&random, input.as_bytes()).unwrap();
        let signature = URL_SAFE_NO_PAD.encode(signature.as_ref());
        let date =
            ript::adapter::ims::identity::date(ript::protocol::time::Timestamp::from_millis(iat * 1000));
        (format!("..{signature};info=<{URL}>;alg=ES256"), date)
    };
    for ((identity, date), verdict) in [
        ((full, date()), json!({"status": "verified", "attest": "A", "origid": "o-1"})),
        (compact(BOB), json!({"status": "verified"})),
    ] {
        let phone = net.lab.dial(BOB, &[("Identity", &identity), ("Date", &date)]);
        let incoming = soon("the call", bobs.next()).await.unwrap();
        assert_eq!(incoming.call().from().to_string(), PHONE);
        assert_eq!(incoming.call().verification(), Some(&verdict), "{identity}");
        phone.end(Command::End { reason: None });
        soon("the end", incoming.call().ended()).await;
    }
    // Of another caller's, another callee's, or by who may not speak for the caller, none is believed.
    let (other, date_of_other) = compact(FIRST);
    for (identity, date, code) in [
        (header(&net.signs(FIRST, FIRST, BOB, &shaken), "shaken"), date(), 438),
        (header(&net.signs(PHONE, PHONE, FIRST, &shaken), "shaken"), date(), 438),
        (header(&net.signs(FIRST, PHONE, BOB, &shaken), "shaken"), date(), 438),
        // Made again for bob it is signed by nobody who is known, nor may the server fetch who else it might be.
        (other, date_of_other, 436),
    ] {
        let mut phone = net.lab.dial(BOB, &[("Identity", &identity), ("Date", &date)]);
        let Event::Ended(ended) = said(&mut phone, |event| matches!(event, Event::Ended(_))).await else {
            unreachable!()
        };
        assert_eq!(ended.code, Some(code), "{identity}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_led_a_call_here_is_handed_on_with_the_callers_own_passport() {
    let net = Signed::start().await;
    let bob = net.lab.world.user("bob", BOB).await;
    let handler = bob.register("bob", BOTH).await;
    let shaken = || Ppt::Shaken { attest: Attest::B, origid: uuid::Uuid::new_v4().to_string() };
    let second = "+14085550008";
    let div = |by: &str| Ppt::Div { div: named(by) };
    let chain = || {
        let own = net.signs(PHONE, PHONE, FIRST, &shaken());
        let one = net.signs(FIRST, PHONE, second, &div(FIRST));
        (own, one, net.signs(second, PHONE, BOB, &div(second)))
    };
    let (own, one, two) = chain();
    // One header for each, in no order.
    let headers = [header(&two, "div"), header(&own, "shaken"), header(&one, "div")];
    let headers: Vec<(&str, &str)> = headers.iter().map(|value| ("Identity", value.as_str())).collect();
    let phone = net.lab.dial(BOB, &headers);
    let uri = soon("a call", async {
        loop {
            let list = bob.get("providertgs/test/calls").await.json();
            if let Some(uri) = list["calls"][0]["uri"].as_str() {
                return uri.to_owned();
            }
        }
    })
    .await;
    let seen: Value = bob.get(&format!("{uri}?handler={}", encode(&handler))).await.json();
    assert_eq!((&seen["from"], &seen["passport"]), (&json!(PHONE), &json!(own)));
    assert_eq!(seen["div"], json!([one, two]));
    let verdict = &seen["verification"];
    assert_eq!(
        (&verdict["attest"], &verdict["dest"], &verdict["div"]),
        (&json!("B"), &json!(FIRST), &json!(true))
    );
    phone.end(Command::End { reason: None });

    // A link that is missing, or by who may not speak for it, leads nowhere.
    for broken in [0, 1, 2] {
        let (own, one, two) = chain();
        let forged = net.signs(PHONE, PHONE, BOB, &div(second));
        let passports = match broken {
            0 => vec![header(&own, "shaken"), header(&two, "div")],
            1 => vec![header(&own, "shaken"), header(&one, "div")],
            _ => vec![header(&own, "shaken"), header(&one, "div"), header(&forged, "div")],
        };
        let headers: Vec<(&str, &str)> = passports.iter().map(|value| ("Identity", value.as_str())).collect();
        let mut phone = net.lab.dial(BOB, &headers);
        let Event::Ended(ended) = said(&mut phone, |event| matches!(event, Event::Ended(_))).await else {
            unreachable!()
        };
        assert_eq!(ended.code, Some(438), "{broken}");
    }
}
