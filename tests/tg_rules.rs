//! The thick client goes by its TG's description: which calls it places, how often it pings, when media moves.

use std::time::Duration;

use ript::client::{AudioCall, CallEvent, Client, Handler, HandlerSpec};
use ript::protocol::number::Destinations;
use serde_json::json;

use crate::client_calls::{ALICE, BOB, connect, device, device_at, says};
use crate::common::link::{Dice, Link, Weather};
use crate::common::user::{ALL_SCOPES, BOTH, User, token};
use crate::common::{World, soon};
use ript::client::audio::{AudioCodec, CALLEE, CALLER};

/// Those that the description tells beforehand.
const RULES: [&str; 3] = ["bad-number", "number-not-allowed", "destination-not-allowed"];

/// Stream frames that a client has sent: no request goes without one.
async fn sent(handler: &Handler) -> u64 {
    handler.client().quic_stats().await.unwrap().frame_tx.stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_verdict_is_the_servers_and_what_is_refused_is_not_sent() {
    let lists = [
        &["*", "!+1900*", "!*@example.org", "!4711@example.com"][..],
        &["+1*", "+442071838750", "*@Example.com", "!+1900*", "!+19*5", "!bob@example.com"],
        &["!*"],
        &[],
    ];
    let mut refused = 0;
    for list in lists {
        let world = World::with(|settings| settings.tgs[0].destinations = Destinations::new(list).unwrap());
        let world = world.await;
        let user = world.user("alice", ALICE).await;
        let raw = user.register("raw", BOTH).await;
        let alice = device(&world, "alice", ALICE, &AudioCodec::ALL).await;
        for to in [
            "+14085559999",
            "+19005550000",
            "+19145550005",
            "+442071838750",
            "+442071838751",
            "4711@example.com",
            "4711@EXAMPLE.com",
            "4712@example.com",
            "Bob@example.com",
            "carol@example.com",
            "carol@example.org",
            "carol@example.net",
            "14085559999",
            "+0123456",
            "+1234567890123456",
            "nobody",
            "a@",
            "",
            "*",
        ] {
            for from in [ALICE, "+14085550009", "alice@example.com"] {
                let named = if to.parse::<ript::protocol::number::Number>().is_ok() { to } else { BOB };
                let passport = user.passport_as(from, named);
                let body = json!({"handler": raw, "destination": to, "passport": passport});
                let answer = user.post("providertgs/test/calls", &body).await;
                let problem = answer.json();
                let before = sent(&alice).await;
                let error = alice.place(to, Some(from)).await.unwrap_err();
                let refusal = error.refusal().unwrap();
                let what = format!("{from} calls {to} where {list:?} are allowed");
                assert_eq!(json!(refusal.code), problem["code"], "{what}");
                assert_eq!(json!(refusal.field), problem["field"], "{what}");
                assert_eq!(json!(refusal.detail), problem["detail"], "{what}");
                assert_eq!(refusal.status, answer.status.as_u16(), "{what}");
                let told = RULES.contains(&refusal.code.as_str());
                assert_eq!((refusal.local, sent(&alice).await == before), (told, told), "{what}");
                refused += usize::from(told);
            }
        }
    }
    assert!(refused > 150, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_token_is_asked_about_before_it_is_refused() {
    let world = World::start().await;
    let (bob, other) = (device(&world, "bob", BOB, &AudioCodec::ALL).await, "+14085550009");
    let with = |numbers: &[&str]| token(&world.issuer, "alice", numbers, &["test"], ALL_SCOPES);
    let client = Client::builder(world.url())
        .token(with(&[ALICE]))
        .roots(std::fs::read(&world.ca).unwrap())
        .passport_key(world.passports.to_pem())
        .connect()
        .await
        .unwrap();
    let tg = client.tgs().await.unwrap().remove(0);
    let alice = client.register(&tg.uri, HandlerSpec::audio()).await.unwrap();
    let refused = alice.place(BOB, Some(other)).await.unwrap_err();
    assert!(refused.refusal().unwrap().local, "{refused}");
    client.set_token(with(&[ALICE, other]));
    let placed = alice.place(BOB, Some(other)).await.unwrap();
    assert_eq!(placed.from().to_string(), other);
    assert_eq!(alice.tg().numbers, [ALICE, other]);
    client.set_token(with(&[other]));
    let refused = alice.place(BOB, Some(ALICE)).await.unwrap_err();
    assert!(refused.refusal().unwrap().local && refused.code() == "number-not-allowed", "{refused}");
    assert_eq!(alice.place(BOB, None).await.unwrap().from().to_string(), other);
    drop(bob);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_pings_as_often_as_its_tg_says() {
    let world = World::with(|settings| settings.keepalive = Duration::from_millis(200)).await;
    let alice = device(&world, "alice", ALICE, &AudioCodec::ALL).await;
    let bob = device(&world, "bob", BOB, &AudioCodec::ALL).await;
    let (placed, _answered) = connect(&alice, &bob).await;
    let beside =
        User::connect(&world, token(&world.issuer, "alice", &[ALICE], &["test"], ALL_SCOPES), ALICE).await;
    let mut events = beside.events(placed.uri(), alice.uri(), None).await;
    // By the usual keepalive not even one would come in the time that a test waits.
    for _ in 0..3 {
        events.until("pong").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_is_given_up_no_sooner_than_its_tg_says() {
    const TIMEOUT: u64 = 2_500;
    let world = World::with(|settings| settings.tgs[0].media_timeout = Duration::from_millis(TIMEOUT)).await;
    let link = Link::to(world.address, Weather::default(), Dice::new(1)).await;
    let url = format!("https://127.0.0.1:{}", link.address.port());
    let alice = device_at(&world, &url, "alice", ALICE, &AudioCodec::ALL).await;
    let bob = device(&world, "bob", BOB, &AudioCodec::ALL).await;
    let (placed, answered) = connect(&alice, &bob).await;
    let mut events = placed.events();
    let _a = AudioCall::start(&placed, says(CALLER)).unwrap();
    let _b = AudioCall::start(&answered, says(CALLEE)).unwrap();
    soon("an ack", async {
        while placed.stats().media.acknowledged == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    link.set(Weather { loss: 1.0, ..Weather::default() });
    let why = soon("the loss", async {
        loop {
            if let CallEvent::MediaLost { why } = events.next().await.unwrap().event {
                return why;
            }
        }
    })
    .await;
    let silence = why.strip_prefix("nothing was acknowledged for ").and_then(|rest| rest.strip_suffix(" ms"));
    let silence: u64 = silence.unwrap_or_else(|| panic!("{why}")).parse().unwrap();
    assert!(silence >= TIMEOUT, "{why}");
}
