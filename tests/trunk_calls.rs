//! What happens to a call that crosses from one server to another.

use std::time::Duration;

use ript::client::audio::{AudioCodec, CALLER};
use ript::client::{AudioCall, Call, CallEvent, CallEvents, Handler};
use ript::protocol::event::{Body, ClientBody, Outcome, Party, Scope, State};
use serde_json::json;

use crate::client_calls::{device, flows, says};
use crate::client_survives::bad_proxy;
use crate::common::link::{Dice, Link, Weather};
use crate::common::{World, soon, vouching};
use crate::trunk_customers::{ALICE, BOB, Two, across, trunks};

const CAROL: &str = "+12015550003";
const DAVE: &str = "+14085550004";

/// Waits for an event of the server's.
async fn told(events: &mut CallEvents, wanted: impl Fn(&Body) -> bool) -> Body {
    soon("an event", async {
        loop {
            if let CallEvent::Server(event) = events.next().await.expect("the event before the end").event
                && event.snapshot.is_none()
                && wanted(&event.body)
            {
                return event.body;
            }
        }
    })
    .await
}

/// Two servers, the customer's known to the provider, and a device at each.
async fn pair(codecs: &[AudioCodec]) -> (Two, Handler, Handler) {
    let two = Two::start().await;
    two.register().await;
    let (alice, bob) = two.devices(codecs).await;
    (two, alice, bob)
}

async fn ring(alice: &Handler, bob: &Handler) -> (Call, Call) {
    let mut listener = bob.listen();
    let placed = soon("the placing", alice.place(BOB, None)).await.unwrap();
    let incoming = soon("the call", listener.next()).await.unwrap();
    (placed, incoming.call().clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_not_answered_ends_alike_on_both_sides() {
    let (_two, alice, bob) = pair(&AudioCodec::ALL).await;
    let (placed, rings) = ring(&alice, &bob).await;
    soon("the decline", rings.decline("busy", Scope::All)).await.unwrap();
    let end = soon("the end", placed.ended()).await;
    assert_eq!((end.outcome, end.reason.as_str()), (Outcome::Declined, "busy"));

    let (placed, rings) = ring(&alice, &bob).await;
    soon("giving up", placed.end()).await.unwrap();
    let end = soon("the end", rings.ended()).await;
    assert_eq!((end.outcome, end.by), (Outcome::Cancelled, Party::Caller));

    let (placed, rings) = ring(&alice, &bob).await;
    soon("failing", rings.tell(ClientBody::Failed { reason: "no-common-codec".into() })).await.unwrap();
    let end = soon("the end", placed.ended()).await;
    assert_eq!((end.outcome, end.reason.as_str()), (Outcome::Failed, "no-common-codec"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_pass_both_ways_one_for_one() {
    // Without telephone-event a digit is an event.
    let two = Two::start().await;
    two.register().await;
    let mut spec = ript::client::HandlerSpec::codecs(&[AudioCodec::Opus]);
    spec.advertisement = "1 in: opus; 1 out: opus;".into();
    let alice = device(&two.provider, "alice", ALICE, &[AudioCodec::Opus]).await;
    let alice = alice.client().register(&alice.tg().uri, spec.clone()).await.unwrap();
    let bob = device(&two.enterprise, "bob", BOB, &[AudioCodec::Opus]).await;
    let bob = bob.client().register(&bob.tg().uri, spec.id("bob")).await.unwrap();
    let (placed, answered) = across(&alice, &bob).await;
    let (mut at_alice, mut at_bob) = (placed.events(), answered.events());
    for party in [Party::Caller, Party::Callee] {
        let (by, here, there) = match party {
            Party::Caller => (&placed, &mut at_alice, &mut at_bob),
            _ => (&answered, &mut at_bob, &mut at_alice),
        };
        soon("a key", by.dtmf('7')).await.unwrap();
        told(there, |body| matches!(body, Body::Dtmf { digit: '7', .. })).await;
        soon("hold", by.hold()).await.unwrap();
        for side in [&mut *here, &mut *there] {
            told(side, |body| *body == Body::Hold { by: party }).await;
            let body = told(side, |body| matches!(body, Body::Directives { .. })).await;
            assert_eq!(json!(body)["clientDirectives"], "");
        }
        soon("resume", by.resume()).await.unwrap();
        for side in [here, there] {
            told(side, |body| *body == Body::Resume { by: party }).await;
            let body = told(side, |body| matches!(body, Body::Directives { .. })).await;
            assert_eq!(json!(body)["clientDirectives"], "1 to 1: opus;");
        }
    }
    soon("the end", answered.end()).await.unwrap();
    let end = soon("ended", placed.ended()).await;
    assert_eq!((end.outcome, end.by), (Outcome::Completed, Party::Callee));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_servers_refusal_is_the_callers() {
    let (two, alice, _bob) = pair(&[AudioCodec::Opus]).await;
    let refused = soon("the refusal", alice.place("+14085550007", None)).await.unwrap_err();
    assert_eq!(refused.code(), "unreachable", "{refused}");
    let deaf = two.enterprise.user("deaf", "+14085550008").await;
    deaf.register("x", "1 in: PCMA; 1 out: PCMA;").await;
    let refused = soon("the refusal", alice.place("+14085550008", None)).await.unwrap_err();
    assert_eq!(refused.code(), "no-common-codec", "{refused}");
    // Nothing is left of either.
    assert!(alice.client().calls(&alice.tg().uri).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_handed_on_to_a_customers_number_is_vouched_for_there() {
    let two = Two::with(vouching).await;
    two.register().await;
    let (alice, bob) = two.devices(&AudioCodec::ALL).await;
    let carol = device(&two.provider, "carol", CAROL, &AudioCodec::ALL).await;
    let (mut carols, mut bobs) = (carol.listen(), bob.listen());
    let placed = soon("the placing", alice.place(CAROL, None)).await.unwrap();
    let at_carol = soon("the call", carols.next()).await.unwrap();
    let at_carol = soon("carol's answer", at_carol.answer()).await.unwrap();
    soon("the transfer", at_carol.transfer(BOB)).await.unwrap();
    let incoming = soon("bob's call", bobs.next()).await.unwrap();
    let seen =
        (incoming.call().from().to_string(), incoming.call().verification().unwrap()["attest"].clone());
    assert_eq!(seen, (ALICE.to_owned(), json!("A")));
    let answered = soon("bob's answer", incoming.answer()).await.unwrap();
    assert_eq!(soon("carol's end", at_carol.ended()).await.reason, "transferred");
    let audio = [&placed, &answered].map(|call| AudioCall::start(call, says(CALLER)).unwrap());
    flows(&placed, &answered, 20).await;
    soon("the end", placed.end()).await.unwrap();
    soon("the end over there", answered.ended()).await;
    drop(audio);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_between_two_legs_that_leave_by_trunks_survives_the_crash_of_the_server_between() {
    let two = Two::with(vouching).await;
    two.register().await;
    let carol = device(&two.provider, "carol", CAROL, &AudioCodec::ALL).await;
    let bob = device(&two.enterprise, "bob", BOB, &AudioCodec::ALL).await;
    let dave = device(&two.enterprise, "dave", DAVE, &AudioCodec::ALL).await;
    let (mut bobs, mut daves) = (bob.listen(), dave.listen());
    let placed = soon("the placing", carol.place(BOB, None)).await.unwrap();
    let at_bob = soon("bob's call", bobs.next()).await.unwrap();
    let at_bob = soon("bob's answer", at_bob.answer()).await.unwrap();
    soon("answered", placed.answered()).await.unwrap();
    soon("the transfer", placed.transfer(DAVE)).await.unwrap();
    let incoming = soon("dave's call", daves.next()).await.unwrap();
    // Bob is no user of the server that says so.
    let seen =
        (incoming.call().from().to_string(), incoming.call().verification().unwrap()["attest"].clone());
    assert_eq!(seen, (BOB.to_owned(), json!("C")));
    let at_dave = soon("dave's answer", incoming.answer()).await.unwrap();
    assert_eq!(soon("carol's end", placed.ended()).await.reason, "transferred");
    let audio = [&at_bob, &at_dave].map(|call| AudioCall::start(call, says(CALLER)).unwrap());
    flows(&at_bob, &at_dave, 20).await;

    let folder = tempfile::tempdir().unwrap();
    let Two { provider, enterprise: _enterprise, .. } = two;
    let (mut settings, store, issuer, passports, address) = provider.crash().await;
    settings.gateway = Some(trunks(folder.path()));
    let _provider = World::on(settings, store, issuer, passports, Some(address)).await;
    flows(&at_bob, &at_dave, 100).await;
    soon("the end", at_bob.end()).await.unwrap();
    soon("the end", at_dave.ended()).await;
    drop(audio);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_calls_of_a_trunk_share_one_connection_and_outlive_the_registration() {
    let two = Two::start().await;
    let link = Link::to(two.enterprise.address, Weather::default(), Dice::new(1)).await;
    let mut wanted = two.wanted();
    wanted["target-uri"] = two.target_at(link.address.port()).into();
    let answer = two.customer.post("consumertgs", &wanted).await;
    assert_eq!(answer.status, 201, "{}", answer.json());
    let registration = answer.header("location").to_owned();
    let (alice, bob) = two.devices(&[AudioCodec::Opus]).await;
    let first = across(&alice, &bob).await;
    let connections = link.connections();
    let second = across(&alice, &bob).await;
    let third = across(&alice, &bob).await;
    assert_eq!(link.connections(), connections, "the later calls took the first one's connection");

    assert_eq!(two.customer.delete(&registration).await.status, 204);
    let refused = soon("the refusal", alice.place(BOB, None)).await.unwrap_err();
    assert_eq!(refused.code(), "unreachable");
    for (placed, answered) in [&first, &second, &third] {
        soon("hold", placed.hold()).await.unwrap();
        soon("hold over there", async {
            while answered.directives().0.audio().is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!((placed.state(), answered.state()), (State::Answered, State::Answered));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_on_a_trunk_survives_the_crash_of_either_server() {
    let (two, alice, bob) = pair(&[AudioCodec::Opus]).await;
    let (placed, answered) = across(&alice, &bob).await;
    let (_a, _b) = (
        AudioCall::start(&placed, says(ript::client::audio::CALLER)).unwrap(),
        AudioCall::start(&answered, says(ript::client::audio::CALLEE)).unwrap(),
    );
    let folder = tempfile::tempdir().unwrap();
    let Two { provider, enterprise, .. } = two;
    flows(&placed, &answered, 50).await;

    let (mut settings, store, issuer, passports, address) = provider.crash().await;
    settings.gateway = Some(trunks(folder.path()));
    let _provider = World::on(settings, store, issuer, passports, Some(address)).await;
    flows(&placed, &answered, 100).await;

    let (settings, store, issuer, passports, address) = enterprise.crash().await;
    let _enterprise = World::on(settings, store, issuer, passports, Some(address)).await;
    flows(&placed, &answered, 100).await;

    soon("the end", answered.end()).await.unwrap();
    let end = soon("ended", placed.ended()).await;
    assert_eq!((end.outcome, end.by), (Outcome::Completed, Party::Callee));
    // The registration is still known.
    across(&alice, &bob).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_placed_without_a_device_leaves_once_one_takes_it() {
    let two = Two::start().await;
    two.register().await;
    let bob = device(&two.enterprise, "bob", BOB, &AudioCodec::ALL).await;
    let mut listener = bob.listen();
    let alice = two.provider.user("alice", ALICE).await;
    let desk = alice.register("desk", crate::common::user::BOTH).await;
    let wanted = json!({"destination": BOB, "passport": alice.passport(BOB)});
    let answer = alice.post("providertgs/test/calls", &wanted).await;
    assert_eq!(answer.status, 201, "{}", answer.json());
    let call = answer.json()["uri"].as_str().unwrap().to_owned();
    assert_eq!(alice.claim(&call, &desk, None).await.status, 200);
    let incoming = soon("the call", listener.next()).await.unwrap();
    let answered = soon("the answer", incoming.answer()).await.unwrap();
    let mut events = alice.events(&call, &desk, None).await;
    if alice.get(&call).await.json()["state"] != "answered" {
        events.until("answered").await;
    }
    assert_eq!(alice.event(&call, &desk, json!({"event": "end"})).await.status, 200);
    assert_eq!(soon("the end", answered.ended()).await.by, Party::Caller);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_proxy_that_loses_datagrams_a_trunks_media_takes_byways() {
    let two = Two::start().await;
    let (port, _proxy) = bad_proxy(&two.enterprise).await;
    let mut wanted = two.wanted();
    wanted["target-uri"] = two.target_at(port).into();
    let answer = two.customer.post("consumertgs", &wanted).await;
    assert_eq!(answer.status, 201, "{}", answer.json());
    let (alice, bob) = two.devices(&[AudioCodec::Opus]).await;
    let (placed, answered) = across(&alice, &bob).await;
    let _a = AudioCall::start(&placed, says(ript::client::audio::CALLER)).unwrap();
    let _b = AudioCall::start(&answered, says(ript::client::audio::CALLEE)).unwrap();
    flows(&placed, &answered, 100).await;
    soon("hold", placed.hold()).await.unwrap();
    soon("the end", answered.end()).await.unwrap();
    assert_eq!(soon("ended", placed.ended()).await.by, Party::Callee);
}
