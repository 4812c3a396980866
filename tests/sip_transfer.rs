//! Calls that are handed on to a telephone, which only a gateway reaches.

use ript::adapter::sip::ua::{Command, Event};
use ript::client::audio::{AudioCodec, CALLEE, CALLER, correlate, read_audio, speech};
use ript::client::{AudioCall, AudioOptions, Call, CallEvent, CallEvents, Handler};
use ript::protocol::event::{Body, State};
use ript::protocol::number::Destinations;
use rsipstack::sip::{HasHeaders as _, Request};

use crate::client_calls::{connect, device, flows, says};
use crate::common::soon;
use crate::common::telephone::{Telephone, hear_each_other};
use crate::operator::until;
use crate::sip_phone::{BOB, CAROL, Lab, PHONE, said};

const ALICE: &str = "+14085550001";
const OTHER: &str = "+442071838751";

/// The values of a header, one a line.
pub fn headers_of<'a>(request: &'a Request, name: &str) -> Vec<&'a str> {
    let named = |header: &&rsipstack::sip::Header| header.name().eq_ignore_ascii_case(name);
    request.headers().iter().filter(named).map(|header| header.value()).collect()
}

/// Waits for an error that answers a transfer: its code.
async fn failed(events: &mut CallEvents) -> String {
    soon("an error", async {
        loop {
            let event = events.next().await.expect("the call goes on").event;
            if let CallEvent::Server(event) = event
                && let Body::Error { code, .. } = event.body
            {
                return code;
            }
        }
    })
    .await
}

/// The call ended because the other side was handed on.
async fn let_go(call: &Call) {
    assert_eq!(soon("the end", call.ended()).await.reason, "transferred");
}

/// Joins the far sides of two calls. They may be over before what was said is acknowledged.
async fn joins(one: &Call, other: &Call) {
    if let Err(error) = soon("the transfer", one.transfer_to(other)).await {
        assert!(error.is_ended(), "{error}");
    }
}

/// A telephone calls bob.
pub async fn calls_bob(lab: &Lab, bob: &Handler, codec: AudioCodec) -> (Telephone, Call) {
    let mut listener = bob.listen();
    let sound = Telephone::sound(codec, CALLER).await;
    let mut phone = Telephone::of(lab.dial_with(BOB, &[], sound.sdp("sendrecv")), &sound);
    let incoming = soon("the call", listener.next()).await.unwrap();
    let answered = soon("the answer", incoming.answer()).await.unwrap();
    phone.saw(|event| *event == Event::Answered).await;
    (phone, answered)
}

/// The other telephone rings.
pub async fn rings(lab: &mut Lab, codec: AudioCodec) -> (Request, Telephone) {
    let (invite, agent) = lab.rung().await;
    let phone = Telephone::of(agent, &Telephone::sound(codec, CALLEE).await);
    phone.ring();
    (invite, phone)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_handed_on_to_a_telephone_hears_it_and_it_hears_who_calls_and_by_whom() {
    let mut lab = Lab::with(|trunk| trunk.x5u = Some("https://certs.example/chain.pem".to_owned())).await;
    let alice = device(&lab.world, "alice", ALICE, &AudioCodec::ALL).await;
    let bob = device(&lab.world, "bob", BOB, &AudioCodec::ALL).await;
    let (placed, answered) = connect(&alice, &bob).await;
    soon("the transfer", answered.transfer(PHONE)).await.unwrap();
    let (invite, mut phone) = rings(&mut lab, AudioCodec::Pcmu).await;
    assert!(invite.uri.to_string().contains(PHONE), "{invite}");
    let [from] = headers_of(&invite, "From")[..] else { panic!("one From: {invite}") };
    assert!(from.contains(ALICE), "{from}");
    // RFC 8946 §4.1: alice's own PASSporT for bob, and bob's, which leads on.
    let [own, div] = headers_of(&invite, "Identity")[..] else { panic!("two Identity headers: {invite}") };
    assert!(!own.contains("ppt=") && div.ends_with("ppt=\"div\""), "{own} {div}");
    let by = headers_of(&invite, "Diversion");
    assert!(by.len() == 1 && by[0].contains(BOB), "{by:?}");

    phone.answer();
    phone.saw(|event| *event == Event::Answered).await;
    let_go(&answered).await;
    until(&placed, State::Answered).await;
    let folder = tempfile::tempdir().unwrap();
    let recorded = folder.path().join("alice.wav");
    let audio =
        AudioCall::start(&placed, AudioOptions { record: Some(recorded.clone()), ..says(CALLER) }).unwrap();
    phone.sound.hears(280).await;
    soon("the end", placed.end()).await.unwrap();
    assert_eq!(phone.ended().await, None);
    audio.finish().await.unwrap();
    let at_alice = correlate(&speech(CALLEE), &read_audio(&recorded).unwrap(), 48_000);
    let at_phone = phone.sound.hears_of(CALLER);
    assert!(at_alice.holds_speech() && at_phone.holds_speech(), "{at_alice:?} {at_phone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_telephone_is_handed_on_to_another_and_both_are_transcoded_for() {
    let mut lab = Lab::start(None).await;
    let bob = device(&lab.world, "bob", BOB, &AudioCodec::ALL).await;
    let (mut first, answered) = calls_bob(&lab, &bob, AudioCodec::Pcmu).await;
    // Who hands on holds first, as people do; nobody takes the hold back.
    soon("the hold", answered.hold()).await.unwrap();
    first.saw(|event| matches!(event, Event::Offered(sdp) if sdp.contains("a=sendonly"))).await;
    soon("the transfer", answered.transfer(OTHER)).await.unwrap();
    let (invite, mut second) = rings(&mut lab, AudioCodec::G722).await;
    assert!(headers_of(&invite, "From")[0].contains(PHONE), "{invite}");
    second.answer();
    let_go(&answered).await;
    first.saw(|event| matches!(event, Event::Offered(sdp) if !sdp.contains("a=sendonly"))).await;
    hear_each_other(&first, &second).await;
    first.hang_up();
    assert_eq!(second.ended().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_telephone_that_is_busy_leaves_the_call_as_it_was() {
    // The TG lets nobody call +1900, though the trunk would.
    let numbers = |pattern: &[&str]| Destinations::new(pattern).unwrap();
    let mut lab = Lab::with(|trunk| {
        (trunk.numbers, trunk.way.destinations) = (numbers(&["+1408*"]), numbers(&["+44*", "+1900*"]));
    })
    .await;
    let alice = device(&lab.world, "alice", ALICE, &AudioCodec::ALL).await;
    let bob = device(&lab.world, "bob", BOB, &AudioCodec::ALL).await;
    let (placed, answered) = connect(&alice, &bob).await;
    let mut events = answered.events();
    soon("the transfer", answered.transfer(PHONE)).await.unwrap();
    let (_, mut phone) = rings(&mut lab, AudioCodec::Pcmu).await;
    phone.refuse(486);
    assert_eq!(failed(&mut events).await, "busy");
    assert_eq!(phone.ended().await, Some(486));
    let audio = [&placed, &answered].map(|call| AudioCall::start(call, says(CALLER)).unwrap());
    flows(&placed, &answered, 20).await;
    for (target, code) in [("+9995550001", "unreachable"), ("+19005550001", "destination-not-allowed")] {
        // The error may come before what was said is acknowledged.
        let mut events = answered.events();
        let told = match soon("the transfer", answered.transfer(target)).await {
            Ok(()) => failed(&mut events).await,
            Err(refused) => refused.code().to_owned(),
        };
        assert_eq!(told, code);
    }
    drop(audio);
    soon("the end", answered.end()).await.unwrap();
    soon("the end", placed.ended()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hands_on_to_a_telephone_may_leave_while_it_rings_and_the_other_may_give_up() {
    let mut lab = Lab::start(None).await;
    let alice = device(&lab.world, "alice", ALICE, &AudioCodec::ALL).await;
    let bob = device(&lab.world, "bob", BOB, &AudioCodec::ALL).await;
    let (placed, answered) = connect(&alice, &bob).await;
    soon("the transfer", answered.transfer(PHONE)).await.unwrap();
    soon("the end", answered.end()).await.unwrap();
    let (_, mut phone) = rings(&mut lab, AudioCodec::Pcmu).await;
    assert_eq!(placed.state(), State::Answered);
    soon("the end", placed.end()).await.unwrap();
    assert_eq!(phone.ended().await, Some(487));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_called_without_a_number_is_handed_on_without_one() {
    let mut lab = Lab::start(None).await;
    let bob = device(&lab.world, "bob", BOB, &AudioCodec::ALL).await;
    let carol = device(&lab.world, "carol", CAROL, &AudioCodec::ALL).await;
    for (headers, target) in [
        // Whose number the network knows, and who withholds it; whose number nobody knows.
        (
            &[("P-Asserted-Identity", "<sip:+493012345@carrier.example;user=phone>"), ("Privacy", "id")][..],
            OTHER,
        ),
        (&[("Privacy", "user"), ("P-Preferred-Identity", "<sip:x@y.example>")], CAROL),
    ] {
        let (mut bobs, mut carols) = (bob.listen(), carol.listen());
        let mut first = lab.dial(BOB, headers);
        let answered =
            soon("the answer", soon("the call", bobs.next()).await.unwrap().answer()).await.unwrap();
        said(&mut first, |event| *event == Event::Answered).await;
        soon("the transfer", answered.transfer(target)).await.unwrap();
        if target == CAROL {
            let incoming = soon("carol's call", carols.next()).await.unwrap();
            assert_eq!(incoming.call().from().to_string(), "anonymous@anonymous.invalid");
        } else {
            let (invite, _phone) = rings(&mut lab, AudioCodec::Pcmu).await;
            assert!(headers_of(&invite, "From")[0].contains("anonymous.invalid"), "{invite}");
            assert_eq!(headers_of(&invite, "Privacy"), ["id"]);
            assert!(headers_of(&invite, "Identity").is_empty(), "{invite}");
        }
        first.end(Command::End { reason: None });
        soon("the end", answered.ended()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_calls_are_joined_of_which_one_or_both_are_telephones() {
    let mut lab = Lab::start(None).await;
    let alice = device(&lab.world, "alice", ALICE, &AudioCodec::ALL).await;
    let bob = device(&lab.world, "bob", BOB, &AudioCodec::ALL).await;

    // A telephone called bob; bob asks another one, and joins them, asking the first call or the second.
    for asks_first in [true, false] {
        let (mut first, called) = calls_bob(&lab, &bob, AudioCodec::Pcmu).await;
        soon("the hold", called.hold()).await.unwrap();
        let consult = soon("the placing", bob.place(OTHER, None)).await.unwrap();
        let (_, mut second) = rings(&mut lab, AudioCodec::Pcma).await;
        second.answer();
        soon("answered", consult.answered()).await.unwrap();
        let (one, other) = if asks_first { (&called, &consult) } else { (&consult, &called) };
        joins(one, other).await;
        let_go(&called).await;
        let_go(&consult).await;
        hear_each_other(&first, &second).await;
        // What either says still reaches the other: their legs' gateways know in which call they are now.
        if asks_first {
            second.hang_up();
            assert_eq!(first.ended().await, None);
        } else {
            first.hang_up();
            assert_eq!(second.ended().await, None);
        }
    }

    // Alice called bob, who joins her with a telephone.
    let (placed, answered) = connect(&alice, &bob).await;
    let consult = soon("the placing", bob.place(OTHER, None)).await.unwrap();
    let (_, mut phone) = rings(&mut lab, AudioCodec::Pcma).await;
    phone.answer();
    soon("answered", consult.answered()).await.unwrap();
    joins(&answered, &consult).await;
    let_go(&answered).await;
    let_go(&consult).await;
    let audio = AudioCall::start(&placed, says(CALLER)).unwrap();
    phone.sound.hears(20).await;
    soon("the hold", placed.hold()).await.unwrap();
    phone.saw(|event| matches!(event, Event::Offered(sdp) if sdp.contains("a=sendonly"))).await;
    phone.hang_up();
    soon("the end", placed.ended()).await;
    drop(audio);
}
