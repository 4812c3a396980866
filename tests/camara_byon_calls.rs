//! CAMARA's generation of 2023: a call between two devices that learn of it by their channels.

use std::time::Instant;

use ript::adapter::camara::Settings;
use serde_json::{Value, json};
use str0m::media::{Direction, MediaKind};
use str0m::{Candidate, RtcConfig};

use crate::common::camara::{DEVICE, OTHER, failure, refused};
use crate::common::camara_byon::{CALLS, CHANNELS, alice, ask, channel_url, holder, register, wanted};
use crate::common::socket::{Socket, open};
use crate::common::user::User;
use crate::common::{World, soon};

const EVENT_SCOPES: &str = "webrtc-events:org.camaraproject.webrtc-events.v0.session-invitation:create \
                            webrtc-events:org.camaraproject.webrtc-events.v0.session-status:create";

/// A browser's offer of audio.
fn offer() -> String {
    let mut rtc = RtcConfig::new().clear_codecs().enable_opus(true, false).build(Instant::now());
    rtc.add_local_candidate(Candidate::host(([127, 0, 0, 1], 9).into(), "udp").unwrap());
    let mut changes = rtc.sdp_api();
    changes.add_media(MediaKind::Audio, Direction::SendRecv, None, None, None);
    changes.apply().unwrap().0.to_sdp_string()
}

struct Device {
    user: User,
    client: String,
    channel: String,
}

impl Device {
    async fn new(user: User, device: &str) -> Self {
        let (client, _) = register(&user, device).await;
        let made = ask(&user, "POST", &CHANNELS.replace(DEVICE, device), &client, &wanted()).await.json();
        let channel = channel_url(&made, &user, device);
        Self { user, client, channel }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> crate::common::user::Answer {
        ask(&self.user, method, path, &self.client, body).await
    }

    async fn listen(&self, world: &World) -> Socket {
        open(world, &self.channel, &[]).await.unwrap_or_else(|answer| panic!("{answer:?}"))
    }
}

async fn pair(world: &World) -> (Device, Device) {
    let alice = Device::new(alice(world).await, DEVICE).await;
    let bob = world.user("bob", "+14085550002").await;
    let bob = Device::new(holder(world, &bob, "bob", "read write"), OTHER).await;
    (alice, bob)
}

fn call(correlator: &str) -> Value {
    json!({
        "originatorAddress": "tel:+14085550001",
        "originatorName": "Alice",
        "receiverAddress": "tel:+14085550002",
        "offer": {"sdp": offer()},
        "clientCorrelator": correlator,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_told_to_both_sides_and_a_socket_that_is_cut_off_misses_none_of_it() {
    let world = World::with_camara(Settings::default()).await;
    let (alice, bob) = pair(&world).await;
    let body = call("c1");
    let made = alice.ask("POST", CALLS, &body.to_string()).await;
    assert_eq!(made.status, 201, "{made:?}");
    let session = made.json();
    let url = session["resourceUrl"].as_str().unwrap().to_owned();
    assert_eq!(made.header("location"), url);
    let mut expected = body.clone();
    (expected["status"], expected["resourceUrl"]) = ("Initial".into(), url.as_str().into());
    assert_eq!(session, expected);

    // Bob comes after the call has: it was kept for him.
    let mut ears = bob.listen(&world).await;
    let invitation = ears.event().await;
    assert_eq!(invitation["originatorAddress"], "tel:+14085550001", "{invitation}");
    assert_eq!(
        (&invitation["receiverAddress"], invitation.get("status")),
        (&"tel:+14085550002".into(), None)
    );
    assert!(invitation["offer"]["sdp"].as_str().unwrap().starts_with("v=0"));
    let incoming = invitation["resourceUrl"].as_str().unwrap().to_owned();
    assert!(
        incoming.starts_with(&format!("{}/vvoip/v1/tel:+14085550002/sessions/", world.url())),
        "{incoming}"
    );
    assert_eq!(invitation["callObjectRef"], invitation["resourceUrl"]);
    // Both read their own, and nobody another's.
    let read = bob.ask("GET", &incoming, "").await;
    assert_eq!((read.status.as_u16(), &read.json()["status"]), (200, &"Initial".into()));
    let id = incoming.rsplit_once('/').unwrap().1;
    let theirs = alice.ask("GET", &format!("{CALLS}/{id}"), "").await;
    assert_eq!(failure(&theirs), refused(404, "NOT_FOUND"));

    // The current generation hears of the same call on the same device.
    let now = holder(&world, &alice.user, "alice", EVENT_SCOPES);
    let bearer = format!("Bearer {}", now.token);
    let path = format!("/webrtc-events/v0.3/channels/{DEVICE}");
    let current = open(&world, &path, &[("authorization", &bearer)]).await;
    let mut current = current.unwrap_or_else(|answer| panic!("{answer:?}"));

    // As the file's example writes it.
    drop(ears);
    let ringing = json!({"receiverSessionStatus": {"status": "Ringing", "responseCode": "180"}});
    let updated = bob.ask("PUT", &format!("{incoming}/status"), &ringing.to_string()).await;
    assert_eq!((updated.status.as_u16(), updated.body.len()), (200, 0), "{updated:?}");
    let mut sequence = 0;
    let id = url.rsplit_once('/').unwrap().1;
    loop {
        let event = current.event().await;
        assert_eq!(
            (&event["specversion"], &event["source"]),
            (&"1.0".into(), &world.url().into()),
            "{event}"
        );
        assert_eq!(event["type"], "org.camaraproject.webrtc-events.v0.session-status");
        let data = &event["data"];
        assert!(
            data["mediaSessionId"] == id && data["sequenceNumber"].as_u64().unwrap() > sequence,
            "{event}"
        );
        sequence = data["sequenceNumber"].as_u64().unwrap();
        if data["status"] == "Ringing" {
            break;
        }
    }

    // Alice gives up while Bob's socket is away.
    let gone = alice.ask("DELETE", &url, "").await;
    assert_eq!((gone.status.as_u16(), gone.body.len()), (204, 0));
    assert_eq!(failure(&alice.ask("DELETE", &url, "").await), refused(404, "NOT_FOUND"));
    let mut ears = bob.listen(&world).await;
    let mut seen: Vec<Value> = Vec::new();
    let end = loop {
        let event = ears.event().await;
        if event["status"] == "SessionCancelled" {
            break event;
        }
        seen.push(event);
    };
    assert_eq!(
        (&end["resourceUrl"], &end["responseCode"]),
        (&incoming.as_str().into(), &487.into()),
        "{end}"
    );
    assert!(end["sequenceNumber"].as_str().unwrap().parse::<u32>().unwrap() > 1, "{end}");
    // What came before was an event that no pong had confirmed, in its place and under its name.
    assert!(seen.first().is_none_or(|first| first["id"] == invitation["id"] || first["status"] == "Ringing"));
    let late = bob.ask("PUT", &format!("{incoming}/status"), &ringing.to_string()).await;
    assert_eq!(failure(&late), refused(400, "INVALID_ARGUMENT"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_correlator_and_body_are_the_same_session() {
    let world = World::with_camara(Settings::default()).await;
    let (alice, bob) = pair(&world).await;
    let body = call("c1").to_string();
    // At the same time, too.
    let (first, second) = tokio::join!(alice.ask("POST", CALLS, &body), alice.ask("POST", CALLS, &body));
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (201, 201), "{first:?} {second:?}");
    assert_eq!(first.json()["resourceUrl"], second.json()["resourceUrl"]);
    let other = call("c1").to_string();
    assert_ne!(other, body);
    assert_eq!(failure(&alice.ask("POST", CALLS, &other).await), refused(400, "INVALID_ARGUMENT"));
    let mut ears = bob.listen(&world).await;
    let invitation = ears.event().await;
    // Another correlator, and another's, are other sessions.
    let third = alice.ask("POST", CALLS, &call("c2").to_string()).await;
    assert_eq!(third.status, 201);
    assert_ne!(third.json()["resourceUrl"], first.json()["resourceUrl"]);
    // One call for the first two, and one for the third.
    let next = soon("the second invitation", async {
        loop {
            let event = ears.event().await;
            if event.get("status").is_none() {
                break event;
            }
        }
    })
    .await;
    assert_ne!(next["resourceUrl"], invitation["resourceUrl"]);
    let refused_call = alice.ask("POST", CALLS, &call("c3").to_string().replace("v=0", "v=x")).await;
    assert_eq!(failure(&refused_call), refused(400, "INVALID_ARGUMENT"));
    // What was refused leaves its correlator free.
    let again = alice.ask("POST", CALLS, &call("c3").to_string()).await;
    assert_eq!(again.status, 201, "{again:?}");
}
