//! CAMARA: every answer that the three files document is given, or there is a reason why it can't be.
//! `interop/camara/operations.txt` is what they document.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use serde_json::json;

use crate::common::World;
use crate::common::camara::{CORRELATOR, DEVICE, NOWHERE, OTHER, SCOPES, after, create, failure, request};
use crate::common::camara_calls::{call, scopes};
use crate::common::events::{
    ENDS, EVENT_SCOPES, HOOK, INVITATION, STATUS, credential, scope, settings, wanted, with,
};
use crate::common::user::{Answer, User, token};

const DOCUMENTED: &str = include_str!("../interop/camara/operations.txt");

const LIST: &str = "getRegistrationsByDeviceId";
const CREATE: &str = "createRegistration";
const GET: &str = "getRegistrationById";
const UPDATE: &str = "updateRegistrationById";
const DELETE: &str = "deleteRegistrationById";
const CALL: &str = "createSession";
const LOOK: &str = "getSessionDetailsById";
const HANG_UP: &str = "deleteSessionById";
const CHANGE: &str = "updateSessionStatus";
const SUBSCRIBE: &str = "createNotificationChannelSubscription";
const SUBSCRIPTIONS: &str = "retrieveNotificationChannelSubscriptionList";
const SUBSCRIPTION: &str = "retrieveNotificationChannelSubscription";
const RENEW: &str = "updateNotificationChannelSubscription";
const UNSUBSCRIBE: &str = "deleteNotificationChannelSubscription";

/// What cannot arise: operations, status, code, why.
const NEVER: &[(&[&str], u16, &str, &str)] = &[
    (
        &[LIST, GET, DELETE, LOOK, HANG_UP],
        400,
        "OUT_OF_RANGE",
        "all that it takes is a name, which has no range",
    ),
    (
        &[CREATE],
        400,
        "EMERGENCY_ADDRESS_MISSING",
        "no emergency address is asked for, nor is there a member for it",
    ),
    (
        &[GET, UPDATE, DELETE, LOOK, HANG_UP, CHANGE],
        404,
        "IDENTIFIER_NOT_FOUND",
        "what is looked up is the resource in the path: NOT_FOUND",
    ),
    (&[SUBSCRIBE], 202, "-", "a subscription is there when its request is answered"),
    (
        &[SUBSCRIBE],
        409,
        "ABORTED",
        "requests of one user take turns, so the second finds the first: ALREADY_EXISTS",
    ),
    (&[SUBSCRIBE], 422, "MISSING_IDENTIFIER", "without deviceId the schema is broken: INVALID_ARGUMENT"),
    (&[SUBSCRIBE], 422, "UNSUPPORTED_IDENTIFIER", "deviceId is the one identifier, and supported"),
    (
        &[SUBSCRIBE],
        422,
        "UNNECESSARY_IDENTIFIER",
        "a token names no device, so deviceId is never unnecessary",
    ),
    (
        &[SUBSCRIBE],
        422,
        "MULTIEVENT_COMBINATION_TEMPORARILY_NOT_SUPPORTED",
        "no combination is supported ever: MULTIEVENT_SUBSCRIPTION_NOT_SUPPORTED",
    ),
    (&[SUBSCRIBE, RENEW], 429, "TOO_MANY_REQUESTS", "requests of these APIs are not counted over time"),
    (&[RENEW], 400, "INVALID_PROTOCOL", "protocol is no property of an update: INVALID_ARGUMENT"),
    (&[RENEW], 400, "INVALID_SINK", "sink is no property of an update: INVALID_ARGUMENT"),
    (&[RENEW], 403, "SUBSCRIPTION_MISMATCH", "one scope is for all types, and others' are not found"),
    (&[RENEW], 422, "SERVICE_NOT_APPLICABLE", "an update names no device"),
    (&[RENEW], 422, "MISSING_IDENTIFIER", "an update names no device"),
    (&[RENEW], 422, "UNSUPPORTED_IDENTIFIER", "an update names no device"),
    (&[RENEW], 422, "UNNECESSARY_IDENTIFIER", "a device is no property of an update: INVALID_ARGUMENT"),
    (&[RENEW], 422, "MULTIEVENT_SUBSCRIPTION_NOT_SUPPORTED", "an update names no types"),
    (&[RENEW], 422, "MULTIEVENT_COMBINATION_TEMPORARILY_NOT_SUPPORTED", "an update names no types"),
    (&[RENEW], 429, "QUOTA_EXCEEDED", "an update needs no more room"),
    (&[UNSUBSCRIBE], 202, "-", "the subscription has ended when its deletion is answered"),
];

/// Whose answers are the webhook's, not this server's: what each status means is tested beside what sends
/// (`adapter::camara::events`, `retry` and `tests::delivery`).
const CALLBACK: &str = "webrtc-events/callback";

type Given = BTreeSet<(String, u16, String)>;

/// The list: each operation's file, method and path, and the answers.
struct Documented {
    operations: BTreeMap<&'static str, [&'static str; 3]>,
    answers: Given,
}

fn documented() -> Documented {
    let (mut operations, mut answers) = (BTreeMap::new(), Given::new());
    for line in DOCUMENTED.lines() {
        let parts: Vec<_> = line.split(' ').collect();
        let [file, operation, third, fourth] = parts[..] else { panic!("{line}") };
        match third.parse() {
            _ if file == CALLBACK => {}
            Ok(status) => drop(answers.insert((operation.to_owned(), status, fourth.to_owned()))),
            Err(_) => drop(operations.insert(operation, [file, third, fourth])),
        }
    }
    Documented { operations, answers }
}

/// Asks at one version's paths, as the files write them, and keeps what came.
struct Provoking {
    documented: Documented,
    version: &'static str,
    given: Given,
}

impl Provoking {
    /// `at` is the path's parameter, or the query where it has none.
    async fn with(
        &mut self,
        operation: &str,
        who: &User,
        at: &str,
        body: impl AsRef<str>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let [file, method, path] = self.documented.operations[operation];
        let path = match path.split_once('{') {
            Some((before, rest)) => format!("{before}{at}{}", rest.split_once('}').unwrap().1),
            None => format!("{path}{at}"),
        };
        let (path, body) = (format!("/{file}/{}{path}", self.version), body.as_ref());
        let mut request = who.builder(method, &path).header("content-length", body.len());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = who.send(request.body(Body::from(body.to_owned())).unwrap()).await;
        let status = answer.status.as_u16();
        let code = if status < 400 { "-".to_owned() } else { failure(&answer).1 };
        self.given.insert((operation.to_owned(), status, code));
        answer
    }

    async fn ask(&mut self, operation: &str, who: &User, at: &str, body: impl AsRef<str>) -> Answer {
        self.with(operation, who, at, body, &[("x-correlator", CORRELATOR)]).await
    }
}

/// Alice with several tokens.
struct Tokens<'a> {
    world: &'a World,
    alice: User,
    nobody: User,
    denied: User,
    numberless: User,
}

const ALICE: &str = "+14085550001";

impl Tokens<'_> {
    async fn new(world: &World) -> Tokens<'_> {
        let user = world.user("alice", ALICE).await;
        let all = format!("{} {EVENT_SCOPES}", scopes());
        let with = |numbers: &[&str], scopes: &str| {
            user.with_token(token(&world.issuer, "alice", numbers, &["test"], scopes))
        };
        Tokens {
            world,
            alice: with(&[ALICE], &all),
            nobody: user.with_token("x".into()),
            denied: with(&[ALICE], "ript:calls"),
            numberless: with(&[], &all),
        }
    }

    fn number(&self, number: &str) -> User {
        self.alice.with_token(token(&self.world.issuer, "alice", &[number], &["test"], SCOPES))
    }
}

async fn registration(all: &mut Provoking, tokens: &Tokens<'_>) {
    let Tokens { alice, nobody, denied, numberless, .. } = tokens;
    let made = all.ask(CREATE, alice, "", request(DEVICE)).await.json();
    let id = made["registrationId"].as_str().unwrap().to_owned();
    let (device, past) =
        (format!("?deviceId={DEVICE}"), json!({"registrationExpireTime": "2020-01-01T00:00:00Z"}));
    let mut soon = past.clone();
    soon["deviceId"] = OTHER.into();
    for body in [request(DEVICE), "{}".into(), soon.to_string()] {
        all.ask(CREATE, alice, "", body).await;
    }
    // Alice has as many devices as she may.
    all.ask(CREATE, &tokens.number("+14085551099"), "", request(OTHER)).await;
    // The number's only registration is alice's.
    let bob = alice.with_token(token(&tokens.world.issuer, "bob", &[ALICE], &["test"], SCOPES));
    all.ask(CREATE, &bob, "", request(OTHER)).await;
    // The device has ten registrations, for as many numbers.
    for last in 10..20 {
        all.ask(CREATE, &tokens.number(&format!("+140855510{last}")), "", request(DEVICE)).await;
    }
    all.ask(LIST, alice, "?deviceId=x", "").await;
    all.ask(UPDATE, alice, &id, past.to_string()).await;
    all.ask(UPDATE, alice, &id, "[]").await;
    all.with(UPDATE, alice, &id, "{}", &[("prefer", "return=minimal")]).await;
    for operation in [GET, DELETE] {
        all.ask(operation, alice, &"a".repeat(257), "").await;
    }
    for (operation, at, body) in [
        (LIST, device.as_str(), ""),
        (CREATE, "", "{}"),
        (GET, &id, ""),
        (UPDATE, &id, "{}"),
        (DELETE, &id, ""),
    ] {
        for who in [nobody, denied, numberless] {
            all.ask(operation, who, at, body).await;
        }
        if operation != CREATE {
            all.ask(operation, alice, at, body).await;
        }
        if ![LIST, CREATE].contains(&operation) {
            all.ask(operation, alice, NOWHERE, body).await;
        }
    }
}

async fn call_handling(all: &mut Provoking, tokens: &Tokens<'_>, base: &str) {
    let Tokens { world, alice, nobody, denied, numberless } = tokens;
    let registration = create(alice, base, DEVICE).await;
    let own = [("registrationId", registration.as_str())];
    let bob = world.user("bob", "+14085550002").await;
    let bob = bob.with_token(token(&world.issuer, "bob", &["+14085550002"], &["test"], SCOPES));
    create(&bob, base, DEVICE).await;
    let body = call(ALICE, "+14085550002");
    let (mut far, mut urgent) = (body.clone(), body.clone());
    far["locationDetails"] = json!({"coordinates": {"latitude": 91, "longitude": 0, "radius": 1}});
    urgent["callType"] = "EMERGENCY".into();
    let body = body.to_string();
    for (who, body) in [
        (alice, "{}"),
        (alice, &far.to_string()),
        (alice, &urgent.to_string()),
        (nobody, &body),
        (denied, &body),
        (numberless, &body),
    ] {
        all.with(CALL, who, "", body, &own).await;
    }
    let made = all.with(CALL, alice, "", &body, &own).await.json();
    let id = made["mediaSessionId"].as_str().unwrap().to_owned();
    let mut change = json!({"status": "InProgress"});
    let asked = change.to_string();
    all.with(CHANGE, alice, &id, &asked, &[("prefer", "return=minimal")]).await;
    change["locationDetails"] = far["locationDetails"].clone();
    all.ask(CHANGE, alice, &id, change.to_string()).await;
    for (operation, body) in [(LOOK, ""), (CHANGE, &asked), (HANG_UP, "")] {
        for who in [nobody, denied, numberless, alice] {
            all.ask(operation, who, &id, body).await;
        }
        all.ask(operation, alice, &"a".repeat(257), body).await;
        all.ask(operation, alice, NOWHERE, body).await;
    }
}

async fn events(all: &mut Provoking, tokens: &Tokens<'_>) {
    let Tokens { world, alice, nobody, denied, .. } = tokens;
    let other = alice.with_token(token(&world.issuer, "alice", &[ALICE], &["test"], &scope(STATUS)));
    let made = all.ask(SUBSCRIBE, alice, "", wanted(INVITATION, HOOK).to_string()).await.json();
    let id = made["id"].as_str().unwrap();
    for (who, body) in [
        (alice, "{}".to_owned()),
        (alice, with(&["config", "subscriptionMaxEvents"], json!(0))),
        (alice, with(&["protocol"], json!("NATS"))),
        (alice, with(&["sinkCredential"], json!({}))),
        (alice, with(&["sinkCredential", "accessTokenType"], json!("mac"))),
        (alice, with(&["sink"], json!("https://10.0.0.1/"))),
        (nobody, "{}".to_owned()),
        (denied, "{}".to_owned()),
        (&other, wanted(INVITATION, HOOK).to_string()),
        (alice, wanted(INVITATION, HOOK).to_string()),
        (alice, with(&["types"], json!([INVITATION, STATUS]))),
        (alice, with(&["config", "subscriptionDetail"], json!({"deviceId": OTHER}))),
        (alice, wanted(ENDS, HOOK).to_string()),
        (alice, wanted(STATUS, HOOK).to_string()),
    ] {
        all.ask(SUBSCRIBE, who, "", body).await;
    }
    for body in [
        json!({"sinkCredential": {}}),
        json!({"sinkCredential": credential("a b", after(60))}),
        json!({"config": {"subscriptionExpireTime": "2020-01-01T00:00:00Z"}}),
    ] {
        all.ask(RENEW, alice, id, body.to_string()).await;
    }
    // A list has no parameter but the correlator.
    all.with(SUBSCRIPTIONS, alice, "", "", &[("x-correlator", "a b")]).await;
    for (operation, at, body) in
        [(SUBSCRIPTIONS, "", ""), (SUBSCRIPTION, id, ""), (RENEW, id, "{}"), (UNSUBSCRIBE, id, "")]
    {
        for who in [nobody, denied, alice] {
            all.ask(operation, who, at, body).await;
        }
        if operation != SUBSCRIPTIONS {
            all.ask(operation, alice, "", body).await;
            all.ask(operation, alice, NOWHERE, body).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_documented_answer_is_given_or_cannot_arise() {
    let Documented { answers, .. } = documented();
    let mut never = Given::new();
    for (operations, status, code, _) in NEVER {
        for operation in *operations {
            let fresh = never.insert(((*operation).to_owned(), *status, (*code).to_owned()));
            assert!(fresh, "{operation} {status} {code} is there twice");
        }
    }
    let unknown: Vec<_> = never.difference(&answers).collect();
    assert!(unknown.is_empty(), "no file documents {unknown:?}");
    for version in ["v0.3", "vwip"] {
        let mut camara = settings();
        (camara.registrations.per_number, camara.registrations.devices_per_user) = (1, 1);
        camara.sinks.per_user = 2;
        let world = World::with_camara(camara).await;
        let tokens = Tokens::new(&world).await;
        let mut all = Provoking { documented: documented(), version, given: Given::new() };
        registration(&mut all, &tokens).await;
        call_handling(&mut all, &tokens, &format!("/webrtc-registration/{version}")).await;
        events(&mut all, &tokens).await;
        let expected: Given = answers.difference(&never).cloned().collect();
        let lacking: Vec<_> = expected.difference(&all.given).collect();
        assert!(lacking.is_empty(), "{version}: not given: {lacking:?}");
        let surplus: Vec<_> = all.given.difference(&expected).collect();
        assert!(surplus.is_empty(), "{version}: given, and not expected: {surplus:?}");
    }
}

#[test]
fn the_list_has_all_operations_of_the_three_files() {
    let Documented { operations, answers } = documented();
    let of = |wanted: &str| operations.values().filter(|[file, ..]| *file == wanted).count();
    assert_eq!(["webrtc-registration", "webrtc-call-handling", "webrtc-events"].map(of), [5, 4, 5]);
    for operation in operations.keys() {
        let statuses = answers.iter().filter(|(of, ..)| of == operation).map(|(_, status, _)| *status);
        let statuses: BTreeSet<_> = statuses.collect();
        assert!(statuses.iter().any(|status| *status < 300) && statuses.contains(&401), "{operation}");
    }
}
