//! Calls between two browsers, and how calls that come to nothing are told.

use std::time::Duration;

use ript::adapter::camara::{Settings, WebRtcSettings};
use ript::client::audio::{AudioCodec, CALLEE, CALLER};
use serde_json::json;
use str0m::media::Direction;

use crate::camara_calls::{Endpoint, sdp};
use crate::client_calls::{ALICE, BOB};
use crate::common::browser::Browser;
use crate::common::camara_calls::{CALLS, ask_as};
use crate::common::{World, soon};

/// Both ends of an answered call.
struct Pair {
    alice: Endpoint,
    bob: Endpoint,
    at_alice: Browser,
    at_bob: Browser,
    /// The session's names.
    alices: String,
    bobs: String,
}

async fn pair(world: &World) -> Pair {
    let (alice, bob) = (Endpoint::new(world, "alice", ALICE).await, Endpoint::new(world, "bob", BOB).await);
    let at_alice = Browser::new(&[AudioCodec::Opus], CALLER).await;
    let at_bob = Browser::new(&[AudioCodec::Opus], CALLEE).await;
    let alices = alice.call(BOB, &at_alice.offer().await).await;
    let invitation = bob.invited().await;
    let bobs = invitation["mediaSessionId"].as_str().unwrap().to_owned();
    bob.put(&bobs, json!({"status": "Ringing"})).await;
    let (_, ringing) = alice.told("Ringing").await;
    at_alice.take_answer(&sdp(&ringing, "answer")).await;
    let own = at_bob.answer(&sdp(&invitation, "offer")).await;
    bob.put(&bobs, json!({"status": "Connected", "answer": {"sdp": own}})).await;
    alice.told("Connected").await;
    Pair { alice, bob, at_alice, at_bob, alices, bobs }
}

/// A frame of VP8: the first byte says whether it stands alone.
fn frame(n: u8) -> Vec<u8> {
    let mut frame = vec![n; 3_000];
    // RFC 6386 §9.1: a key frame with its start code and size.
    frame[..10].copy_from_slice(&[0x10, 2, 0, 0x9d, 1, 0x2a, 64, 0, 64, 0]);
    frame
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_browsers_hear_each_other_and_add_video() {
    let world = World::with_camara(Settings::default()).await;
    let Pair { alice, bob, at_alice, at_bob, alices, bobs } = pair(&world).await;
    at_alice.hears(250).await;
    at_bob.hears(20).await;
    let offer = at_alice.offer_as(true, Direction::SendRecv).await;
    let session = alice.put(&alices, json!({"status": "Connected", "offer": {"sdp": offer}})).await;
    at_alice.take_answer(&sdp(&session, "answer")).await;
    // Bob, who has no video yet, is offered some.
    let (_, offered) = soon("video", async {
        loop {
            let told = bob.told("Connected").await;
            if told.1["answer"].is_null() {
                return told;
            }
        }
    })
    .await;
    let own = at_bob.answer(&sdp(&offered, "offer")).await;
    bob.put(&bobs, json!({"status": "Connected", "answer": {"sdp": own}})).await;
    soon("video at bob", async {
        let mut n = 0;
        while at_bob.heard.lock().unwrap().video.is_empty() {
            at_alice.show(frame(n));
            n = n.wrapping_add(1);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(at_bob.heard.lock().unwrap().video[0].len(), 3_000);
    // DELETE at one end is the end at the other.
    assert_eq!(bob.user.delete(&format!("{CALLS}/sessions/{bobs}")).await.status, 204);
    alice.told("Terminated").await;
    let (alice, bob) = (at_alice.hears_of(CALLEE), at_bob.hears_of(CALLER));
    assert!(alice.holds_speech() && bob.holds_speech(), "{alice:?} {bob:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_called_side_says_is_what_the_caller_is_told() {
    let world = World::with_camara(Settings::default()).await;
    let (alice, bob) = (Endpoint::new(&world, "alice", ALICE).await, Endpoint::new(&world, "bob", BOB).await);
    let offer = Browser::new(&[AudioCodec::Opus], CALLER).await.offer().await;
    for said in ["Busy", "Declined", "NoAnswer", "NotReachable", "Failed"] {
        let id = alice.call(BOB, &offer).await;
        let bobs = bob.invited().await["mediaSessionId"].as_str().unwrap().to_owned();
        bob.put(&bobs, json!({"status": said})).await;
        assert_eq!(bob.told(said).await.0, [said]);
        let (told, last) = alice.told(said).await;
        assert_eq!(last["mediaSessionId"], id.as_str(), "{told:?}");
        // What has ended can be read, and changed no more.
        assert_eq!(alice.session(&id).await["status"], said);
        let path = format!("{CALLS}/sessions/{id}/status");
        let answer = ask_as(&alice.user, &alice.registration, "PUT", &path, r#"{"status":"Hold"}"#).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (400, &"INVALID_ARGUMENT".into()));
    }
    // DELETE declines, and cancels.
    let id = alice.call(BOB, &offer).await;
    let bobs = bob.invited().await["mediaSessionId"].as_str().unwrap().to_owned();
    assert_eq!(bob.user.delete(&format!("{CALLS}/sessions/{bobs}")).await.status, 204);
    bob.told("Declined").await;
    alice.told("Declined").await;
    assert_eq!(alice.session(&id).await["status"], "Declined");
    let id = alice.call(BOB, &offer).await;
    bob.invited().await;
    assert_eq!(alice.user.delete(&format!("{CALLS}/sessions/{id}")).await.status, 204);
    alice.told("SessionCancelled").await;
    bob.told("SessionCancelled").await;
    // Nobody there.
    alice.call("+14085559999", &offer).await;
    alice.told("NotReachable").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_without_an_offer_is_answered_by_one() {
    let webrtc = WebRtcSettings { offerless: true, ..WebRtcSettings::default() };
    let world = World::with_camara(Settings { webrtc, ..Settings::default() }).await;
    let (alice, bob) = (Endpoint::new(&world, "alice", ALICE).await, Endpoint::new(&world, "bob", BOB).await);
    let at_alice = Browser::new(&[AudioCodec::Opus], CALLER).await;
    let at_bob = Browser::new(&[AudioCodec::Pcmu], CALLEE).await;
    alice.call(BOB, &at_alice.offer().await).await;
    let invitation = bob.invited().await;
    assert!(invitation["offer"].is_null(), "{invitation}");
    let bobs = invitation["mediaSessionId"].as_str().unwrap();
    let path = format!("{CALLS}/sessions/{bobs}/status");
    let answer = ask_as(&bob.user, &bob.registration, "PUT", &path, r#"{"status":"Connected"}"#).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    let session = bob.put(bobs, json!({"status": "Connected", "offer": {"sdp": at_bob.offer().await}})).await;
    at_bob.take_answer(&sdp(&session, "answer")).await;
    let (_, connected) = alice.told("Connected").await;
    at_alice.take_answer(&sdp(&connected, "answer")).await;
    // Opus at one end and PCMU at the other.
    at_alice.hears(250).await;
    at_bob.hears(20).await;
    let (alice, bob) = (at_alice.hears_of(CALLEE), at_bob.hears_of(CALLER));
    assert!(alice.holds_speech() && bob.holds_speech(), "{alice:?} {bob:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_withholds_their_number_is_anonymous_and_location_is_shown_where_it_may() {
    let place =
        json!({"shape": "Circle", "coordinates": {"latitude": 47.5, "longitude": -122.5, "radius": 20}});
    for shown in [false, true] {
        let world = World::with_camara(Settings { location: shown, ..Settings::default() }).await;
        let (alice, bob) =
            (Endpoint::new(&world, "alice", ALICE).await, Endpoint::new(&world, "bob", BOB).await);
        let browser = Browser::new(&[AudioCodec::Opus], CALLER).await;
        let body = json!({
            "originatorAddress": "sip:anonymous@anonymous.invalid",
            "receiverAddress": format!("tel:{BOB}"),
            "offer": {"sdp": browser.offer().await},
            "locationDetails": place,
        });
        let path = format!("{CALLS}/sessions");
        let answer = ask_as(&alice.user, &alice.registration, "POST", &path, &body.to_string()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let invitation = bob.invited().await;
        assert_eq!(invitation["originatorAddress"], "sip:anonymous@anonymous.invalid");
        assert!(!invitation.to_string().contains(ALICE), "{invitation}");
        let expected = if shown { place["coordinates"].clone() } else { serde_json::Value::Null };
        assert_eq!(invitation["locationDetails"]["coordinates"], expected);
    }
}
