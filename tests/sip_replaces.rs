//! A telephone takes over another one's call by Replaces (RFC 3891): the far end of a transfer between telephones, and of a pick-up.

use ript::adapter::sip::ua::{Command, Event};
use ript::client::AudioCall;
use ript::client::audio::{AudioCodec, CALLEE, CALLER};
use ript::protocol::event::{Outcome, State};
use serde_json::json;

use crate::client_calls::{device, says};
use crate::common::soon;
use crate::common::telephone::{Telephone, hear_each_other};
use crate::operator::until;
use crate::sip_phone::{BOB, Lab, PHONE, SDP, said};
use crate::sip_transfer::{calls_bob, rings};

const OTHER: &str = "+442071838751";

/// Another telephone calls, to take the place of a dialog.
async fn takes_over(lab: &Lab, replaces: &str, codec: AudioCodec) -> Telephone {
    let sound = Telephone::sound(codec, CALLEE).await;
    let from = format!("<tel:{OTHER}>");
    let headers = [("Replaces", replaces), ("Require", "replaces"), ("P-Asserted-Identity", &from)];
    Telephone::of(lab.dial_with(BOB, &headers, sound.sdp("sendrecv")), &sound)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_telephone_takes_the_place_of_another_in_a_call_that_stands() {
    let lab = Lab::start(None).await;
    let bob = device(&lab.world, "bob", BOB, &AudioCodec::ALL).await;
    let (mut first, answered) = calls_bob(&lab, &bob, AudioCodec::Pcmu).await;
    let mut second = takes_over(&lab, &first.replaces(), AudioCodec::G722).await;
    second.saw(|event| *event == Event::Answered).await;
    assert_eq!(first.ended().await, None, "BYE");
    // Bob is told to whom he talks now, and what speaks for it.
    let now = soon("the call anew", bob.open(answered.uri())).await.unwrap();
    assert_eq!(
        (now.from().to_string(), now.verification().unwrap()["attest"].clone()),
        (OTHER.to_owned(), json!("B"))
    );
    let audio = AudioCall::start(&answered, says(CALLER)).unwrap();
    second.sound.hears(20).await;
    soon("the hold", answered.hold()).await.unwrap();
    second.saw(|event| matches!(event, Event::Offered(sdp) if sdp.contains("a=sendonly"))).await;
    soon("the end", answered.end()).await.unwrap();
    assert_eq!(second.ended().await, None);
    drop(audio);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_telephones_talk_once_one_took_the_place_of_bobs_callee_and_bob_left() {
    let mut lab = Lab::start(None).await;
    let bob = device(&lab.world, "bob", BOB, &AudioCodec::ALL).await;
    let placed = soon("the placing", bob.place(PHONE, None)).await.unwrap();
    let (_, mut first) = rings(&mut lab, AudioCodec::Pcmu).await;
    first.answer();
    soon("answered", placed.answered()).await.unwrap();
    first.saw(|event| *event == Event::Answered).await;
    let mut second = takes_over(&lab, &first.replaces(), AudioCodec::Pcma).await;
    second.saw(|event| *event == Event::Answered).await;
    assert_eq!(first.ended().await, None);
    let now = soon("the call anew", bob.open(placed.uri())).await.unwrap();
    assert_eq!(now.to().to_string(), OTHER);
    // Who took over can be handed on as any other.
    soon("the transfer", placed.transfer(PHONE)).await.unwrap();
    let (invite, third) = rings(&mut lab, AudioCodec::Pcmu).await;
    assert!(crate::sip_transfer::headers_of(&invite, "From")[0].contains(OTHER), "{invite}");
    third.answer();
    assert_eq!(soon("bob's end", placed.ended()).await.reason, "transferred");
    hear_each_other(&second, &third).await;
    third.hang_up();
    assert_eq!(second.ended().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_rings_at_a_telephone_is_picked_up_at_another() {
    let mut lab = Lab::start(None).await;
    let bob = device(&lab.world, "bob", BOB, &AudioCodec::ALL).await;
    let placed = soon("the placing", bob.place(PHONE, None)).await.unwrap();
    let (_, mut first) = rings(&mut lab, AudioCodec::Pcmu).await;
    first.saw(|event| matches!(event, Event::Offered(_))).await;
    until(&placed, State::Alerting).await;
    // It may still ring, or not ring any more: nothing but early dialogs is wanted.
    let replaces = format!("{};early-only", first.replaces());
    let mut second = takes_over(&lab, &replaces, AudioCodec::Pcma).await;
    second.saw(|event| *event == Event::Answered).await;
    assert_eq!(first.ended().await, Some(487), "CANCEL");
    soon("answered", placed.answered()).await.unwrap();
    let audio = AudioCall::start(&placed, says(CALLER)).unwrap();
    second.sound.hears(20).await;
    second.hang_up();
    let end = soon("the end", placed.ended()).await;
    assert_eq!(end.outcome, Outcome::Completed);
    drop(audio);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_takes_over_a_call_that_is_not_theirs_to_take() {
    let lab = Lab::start(None).await;
    let bob = device(&lab.world, "bob", BOB, &AudioCodec::ALL).await;
    let (mut first, answered) = calls_bob(&lab, &bob, AudioCodec::Pcmu).await;
    let own = first.replaces();
    let refused = async |replaces: &[&str]| {
        let headers: Vec<_> = replaces.iter().map(|replaces| ("Replaces", *replaces)).collect();
        let mut phone = lab.dial_with(BOB, &headers, SDP.to_owned());
        let Event::Ended(ended) = said(&mut phone, |event| matches!(event, Event::Ended(_))).await else {
            unreachable!()
        };
        ended.code
    };
    for (replaces, code) in [
        (&["nothing;to-tag=1;from-tag=2"][..], 481),
        (&[&format!("{own};early-only")], 486),
        (&["no-tags"], 400),
        (&[&own, &own], 400),
    ] {
        assert_eq!(refused(replaces).await, Some(code), "{replaces:?}");
    }
    assert_eq!(answered.state(), State::Answered);
    // Nothing of it is left in the call.
    soon("the end", answered.end()).await.unwrap();
    assert_eq!(first.ended().await, None);
    soon("the dialog's end", async {
        // The server forgets a dialog as its task ends.
        while refused(&[&own]).await != Some(603) {}
    })
    .await;
    // Of a call that rings here, only who placed it could have it replaced: nobody.
    let mut bobs = bob.listen();
    let mut calling = lab.dial(BOB, &[]);
    let incoming = soon("the call", bobs.next()).await.unwrap();
    soon("ringing", incoming.alerting()).await.unwrap();
    said(&mut calling, |event| matches!(event, Event::Provisional { code: 180, .. })).await;
    let early = calling.dialog().unwrap().replaces();
    assert_eq!(refused(&[&early]).await, Some(481));
    calling.end(Command::End { reason: None });
    soon("the end", incoming.call().ended()).await;
}
