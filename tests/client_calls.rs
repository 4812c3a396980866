//! The thick client against a server on loopback sockets: what a person would do, and what is heard of it.

use std::time::Duration;

use ript::client::audio::{AtEnd, AudioCodec, CALLEE, CALLER, FrameSource, correlate, read_audio, speech};
use ript::client::{
    AudioCall, AudioOptions, AudioSource, Call, CallEvent, Client, Handler, HandlerSpec, MediaPath,
};
use ript::protocol::event::{Outcome, Party, Scope, State};

use crate::common::user::{ALL_SCOPES, token};
use crate::common::{World, soon};

pub const ALICE: &str = "+14085550001";
pub const BOB: &str = "+14085550002";

async fn client(world: &World, url: &str, name: &str, number: &str) -> Client {
    let token = token(&world.issuer, name, &[number], &["test"], ALL_SCOPES);
    let roots = std::fs::read(&world.ca).unwrap();
    let builder = Client::builder(url).token(token).roots(roots);
    builder.passport_key(world.passports.to_pem()).connect().await.unwrap()
}

pub async fn device(world: &World, name: &str, number: &str, codecs: &[AudioCodec]) -> Handler {
    device_at(world, &world.url(), name, number, codecs).await
}

/// A device that reaches the server under another address.
pub async fn device_at(world: &World, url: &str, name: &str, number: &str, codecs: &[AudioCodec]) -> Handler {
    let client = client(world, url, name, number).await;
    let tg = client.tgs().await.unwrap().remove(0);
    client.register(&tg.uri, HandlerSpec::codecs(codecs)).await.unwrap()
}

pub fn says(file: &'static [u8]) -> AudioOptions {
    AudioOptions {
        source: AudioSource::Frames(FrameSource::new(speech(file), AtEnd::Loop)),
        ..AudioOptions::default()
    }
}

/// A call from alice to bob that bob answered.
pub async fn connect(alice: &Handler, bob: &Handler) -> (Call, Call) {
    let mut listener = bob.listen();
    let placed = alice.place(BOB, None).await.unwrap();
    let incoming = soon("the call", listener.next()).await.unwrap();
    assert_eq!(incoming.call().from().to_string(), ALICE);
    soon("ringing", incoming.alerting()).await.unwrap();
    let answered = soon("the answer", incoming.answer()).await.unwrap();
    soon("answered", placed.answered()).await.unwrap();
    (placed, answered)
}

/// Waits until both have heard so many chunks more.
pub async fn flows(a: &Call, b: &Call, more: u64) {
    let received = || (a.stats().media.received, b.stats().media.received);
    let before = received();
    soon("speech both ways", async {
        while received().0 < before.0 + more || received().1 < before.1 + more {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// What is heard at both ends, over this way and in this codec.
async fn both_ways(codecs: &[AudioCodec], byways: bool) {
    let world = World::start().await;
    let alice = device(&world, "alice", ALICE, codecs).await;
    let bob = device(&world, "bob", BOB, &AudioCodec::ALL).await;
    let (placed, answered) = connect(&alice, &bob).await;
    let folder = tempfile::tempdir().unwrap();
    let (at_alice, at_bob) = (folder.path().join("alice.wav"), folder.path().join("bob.wav"));
    let options = |file, record: &std::path::Path| AudioOptions {
        record: Some(record.to_owned()),
        byways_only: byways,
        ..says(file)
    };
    let a = AudioCall::start(&placed, options(CALLER, &at_alice)).unwrap();
    let b = AudioCall::start(&answered, options(CALLEE, &at_bob)).unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let stats = (placed.stats(), answered.stats());
    println!("{stats:#?}\n{:?}\n{:?}", a.stats(), b.stats());
    soon("the end", placed.end()).await.unwrap();
    let end = soon("ended", answered.ended()).await;
    assert_eq!((end.outcome, end.by), (Outcome::Completed, Party::Caller));
    let (heard_a, heard_b) = (a.finish().await.unwrap(), b.finish().await.unwrap());
    assert_eq!((heard_a.hears, heard_b.hears), (Some(codecs[0]), Some(codecs[0])));
    let way = if byways { MediaPath::Byways } else { MediaPath::WebTransport };
    for stats in [&stats.0, &stats.1] {
        assert_eq!(stats.path, Some(way));
        assert!(stats.media.received > 250 && stats.media.lost <= 2, "{:?}", stats.media);
        assert!(stats.media.acknowledged > 200 && stats.media.mos.unwrap() > 4.0, "{:?}", stats.media);
    }
    for (said, heard) in [(CALLER, &at_bob), (CALLEE, &at_alice)] {
        let correlation = correlate(&speech(said), &read_audio(heard).unwrap(), 48_000);
        assert!(correlation.holds_speech(), "{correlation:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn speech_goes_both_ways_in_opus_over_webtransport() {
    both_ways(&[AudioCodec::Opus], false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn speech_goes_both_ways_in_pcmu_over_byways() {
    both_ways(&[AudioCodec::Pcmu], true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_heard_as_chunks_where_the_directives_have_them() {
    let world = World::start().await;
    let alice = device(&world, "alice", ALICE, &AudioCodec::ALL).await;
    let bob = device(&world, "bob", BOB, &AudioCodec::ALL).await;
    let (placed, answered) = connect(&alice, &bob).await;
    let mut events = answered.events();
    let _a = AudioCall::start(&placed, says(CALLER)).unwrap();
    let _b = AudioCall::start(&answered, says(CALLEE)).unwrap();
    // Before there is media a key goes as an event.
    flows(&placed, &answered, 10).await;
    for key in ['1', '#'] {
        soon("a key", placed.dtmf(key)).await.unwrap();
        let heard = soon("the key", async {
            loop {
                if let CallEvent::Dtmf { digit, duration_ms } = events.next().await.unwrap().event {
                    return (digit, duration_ms);
                }
            }
        });
        assert_eq!(heard.await, (key, 160));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_hold_nothing_is_sent_and_after_it_speech_goes_on() {
    let world = World::start().await;
    let alice = device(&world, "alice", ALICE, &AudioCodec::ALL).await;
    let bob = device(&world, "bob", BOB, &AudioCodec::ALL).await;
    let (placed, answered) = connect(&alice, &bob).await;
    let _a = AudioCall::start(&placed, says(CALLER)).unwrap();
    let _b = AudioCall::start(&answered, says(CALLEE)).unwrap();
    flows(&placed, &answered, 40).await;
    soon("hold", placed.hold()).await.unwrap();
    // The directives without streams reach both ends.
    soon("silence", async {
        while placed.directives().0.audio().is_some() || answered.directives().0.audio().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(placed.stats().held && !answered.stats().held);
    let before = (placed.stats().media, answered.stats().media);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let during = (placed.stats(), answered.stats());
    // At most a frame that was under way.
    let more = |before: u64, during: u64| during - before;
    assert!(more(before.0.sent, during.0.media.sent) <= 1 && more(before.1.sent, during.1.media.sent) <= 1);
    assert_eq!(during.0.path, Some(MediaPath::WebTransport), "silence by order is no loss");
    soon("resume", placed.resume()).await.unwrap();
    flows(&placed, &answered, 30).await;
    assert!(placed.media_gaps().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_declined_or_given_up_ends_so_for_both() {
    let world = World::start().await;
    let alice = device(&world, "alice", ALICE, &AudioCodec::ALL).await;
    let bob = device(&world, "bob", BOB, &AudioCodec::ALL).await;
    let mut listener = bob.listen();
    let placed = alice.place(BOB, None).await.unwrap();
    let incoming = soon("the call", listener.next()).await.unwrap();
    soon("decline", incoming.decline("busy", Scope::All)).await.unwrap();
    let end = soon("the end", placed.ended()).await;
    assert_eq!(end.outcome, Outcome::Declined);

    let placed = alice.place(BOB, None).await.unwrap();
    let incoming = soon("the call", listener.next()).await.unwrap();
    soon("cancel", placed.end()).await.unwrap();
    let end = soon("the end", incoming.call().ended()).await;
    assert_eq!((end.outcome, incoming.call().state()), (Outcome::Cancelled, State::Ended));
    assert!(incoming.answer().await.unwrap_err().is_ended());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_carry_the_servers_code() {
    let world = World::start().await;
    let alice = device(&world, "alice", ALICE, &AudioCodec::ALL).await;
    for (to, from, code) in [
        ("+14085559999", None, "unreachable"),
        ("+19005550000", None, "destination-not-allowed"),
        (BOB, Some("+14085550009"), "number-not-allowed"),
    ] {
        let error = alice.place(to, from).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
    let anonymous =
        Client::builder(world.url()).roots(std::fs::read(&world.ca).unwrap()).connect().await.unwrap();
    assert_eq!(anonymous.tgs().await.unwrap_err().refusal().unwrap().status, 401);
    let stranger = Client::builder(world.url()).connect().await;
    assert!(matches!(stranger, Err(ript::client::ClientError::Untrusted { .. })), "{stranger:?}");
}
