//! Calls between a browser at CAMARA's APIs and a RIPT client: both are one call, and each hears the other.

use std::time::Duration;

use ript::adapter::camara::Settings;
use ript::client::audio::{AudioCodec, CALLEE, CALLER, correlate, read_audio, speech};
use ript::client::{AudioCall, AudioOptions, Call, CallEvent};
use ript::protocol::event::Outcome;
use serde_json::{Value, json};
use str0m::media::Direction;
use tokio::sync::Mutex;

use crate::client_calls::{ALICE, BOB, device, says};
use crate::common::browser::Browser;
use crate::common::camara::{DEVICE, V03, create};
use crate::common::camara_calls::{CALLS, ask_as, scopes};
use crate::common::socket::{Socket, open};
use crate::common::user::{User, token};
use crate::common::{World, soon};

const EVENTS: &str = "webrtc-events:org.camaraproject.webrtc-events.v0.session-invitation:create \
                      webrtc-events:org.camaraproject.webrtc-events.v0.session-status:create \
                      webrtc-events:org.camaraproject.webrtc-events.v0.registration-ends:create";

/// A browser's user: what they ask of the API.
pub struct Endpoint {
    pub user: User,
    pub registration: String,
    socket: Mutex<Socket>,
}

impl Endpoint {
    pub async fn new(world: &World, name: &str, number: &str) -> Self {
        let user = signed_in(world, name, number).await;
        let registration = create(&user, V03, DEVICE).await;
        Self::listening(world, user, registration).await
    }

    /// The same at a server that was started again.
    pub async fn again(world: &World, name: &str, before: &Self) -> Self {
        let user = signed_in(world, name, &before.user.number).await;
        Self::listening(world, user, before.registration.clone()).await
    }

    async fn listening(world: &World, user: User, registration: String) -> Self {
        let path = format!("/webrtc-events/v0.3/channels/{DEVICE}");
        let bearer = format!("Bearer {}", user.token);
        let socket = open(world, &path, &[("authorization", &bearer)]).await;
        let socket = Mutex::new(socket.unwrap_or_else(|answer| panic!("{answer:?}")));
        Self { user, registration, socket }
    }

    /// The next event: its type's last part, and its data.
    pub async fn event(&self) -> (String, Value) {
        let event = self.socket.lock().await.event().await;
        assert_eq!(
            (&event["specversion"], &event["datacontenttype"]),
            (&"1.0".into(), &"application/json".into())
        );
        let kind = event["type"].as_str().unwrap().rsplit('.').next().unwrap().to_owned();
        (kind, event["data"].clone())
    }

    /// The invitation that comes next.
    pub async fn invited(&self) -> Value {
        let (kind, data) = self.event().await;
        assert_eq!(kind, "session-invitation", "{data}");
        data
    }

    /// The statuses that are told until this one is, with the last event.
    pub async fn told(&self, last: &str) -> (Vec<String>, Value) {
        let mut all = Vec::new();
        loop {
            let (kind, data) = self.event().await;
            assert_eq!(kind, "session-status", "{data}");
            all.push(data["status"].as_str().unwrap().to_owned());
            if data["status"] == last {
                return (all, data);
            }
        }
    }

    pub async fn call(&self, to: &str, offer: &str) -> String {
        let body = json!({
            "originatorAddress": format!("tel:{}", self.user.number),
            "receiverAddress": format!("tel:{to}"),
            "offer": {"sdp": offer},
        });
        let answer =
            ask_as(&self.user, &self.registration, "POST", &format!("{CALLS}/sessions"), &body.to_string())
                .await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.json()["status"], "Initial");
        answer.json()["mediaSessionId"].as_str().unwrap().to_owned()
    }

    pub async fn session(&self, id: &str) -> Value {
        let answer = self.user.get(&format!("{CALLS}/sessions/{id}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Waits until the session has that status.
    pub async fn until(&self, id: &str, status: &str) -> Value {
        soon(status, async {
            loop {
                let session = self.session(id).await;
                if session["status"] == status {
                    return session;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    pub async fn put(&self, id: &str, body: Value) -> Value {
        let path = format!("{CALLS}/sessions/{id}/status");
        let answer = ask_as(&self.user, &self.registration, "PUT", &path, &body.to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }
}

async fn signed_in(world: &World, name: &str, number: &str) -> User {
    let scopes = format!("{} {EVENTS}", scopes());
    let token = token(&world.issuer, name, &[number], &["test"], &scopes);
    world.user(name, number).await.with_token(token)
}

pub fn sdp(session: &Value, member: &str) -> String {
    session[member]["sdp"].as_str().unwrap_or_else(|| panic!("no {member} in {session}")).to_owned()
}

/// A browser of alice's whose call bob, a RIPT client, answered.
async fn calling(
    world: &World,
    codecs: &[AudioCodec],
    bobs: &[AudioCodec],
) -> (Endpoint, Browser, String, Call) {
    let bob = device(world, "bob", BOB, bobs).await;
    let alice = Endpoint::new(world, "alice", ALICE).await;
    let browser = Browser::new(codecs, CALLER).await;
    let mut listener = bob.listen();
    let id = alice.call(BOB, &browser.offer().await).await;
    let incoming = soon("the call", listener.next()).await.unwrap();
    assert_eq!(incoming.call().from().to_string(), ALICE);
    soon("ringing", incoming.alerting()).await.unwrap();
    let session = alice.until(&id, "Ringing").await;
    browser.take_answer(&sdp(&session, "answer")).await;
    let answered = soon("the answer", incoming.answer()).await.unwrap();
    alice.until(&id, "Connected").await;
    (alice, browser, id, answered)
}

async fn heard_both_ways(codecs: &[AudioCodec], bobs: &[AudioCodec]) {
    let world = World::with_camara(Settings::default()).await;
    let (alice, browser, id, answered) = calling(&world, codecs, bobs).await;
    let folder = tempfile::tempdir().unwrap();
    let at_bob = folder.path().join("bob.wav");
    let options = AudioOptions { record: Some(at_bob.clone()), ..says(CALLEE) };
    let audio = AudioCall::start(&answered, options).unwrap();
    browser.hears(280).await;
    let stats = answered.stats().media;
    println!("{stats:?}");
    let path = format!("{CALLS}/sessions/{id}");
    assert_eq!(alice.user.delete(&path).await.status, 204);
    assert_eq!(alice.user.delete(&path).await.status, 404);
    let end = soon("the end", answered.ended()).await;
    assert_eq!(end.outcome, Outcome::Completed);
    audio.finish().await.unwrap();
    let at_browser = browser.hears_of(CALLEE);
    let at_bob = correlate(&speech(CALLER), &read_audio(&at_bob).unwrap(), 48_000);
    assert!(at_browser.holds_speech() && at_bob.holds_speech(), "{at_browser:?} {at_bob:?}");
    assert!(stats.received > 200 && stats.lost <= 2 && stats.mos.unwrap() > 4.0, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_calls_a_ript_client_in_opus() {
    heard_both_ways(&[AudioCodec::Opus], &AudioCodec::ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_calls_a_ript_client_in_pcmu() {
    heard_both_ways(&[AudioCodec::Pcmu, AudioCodec::Opus], &[AudioCodec::Pcmu]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_codec_is_shared_the_server_transcodes() {
    heard_both_ways(&[AudioCodec::Opus], &[AudioCodec::Pcma]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_pressed_in_the_browser_are_heard() {
    let world = World::with_camara(Settings::default()).await;
    let (_alice, browser, _id, answered) = calling(&world, &[AudioCodec::Opus], &AudioCodec::ALL).await;
    let mut events = answered.events();
    let _audio = AudioCall::start(&answered, says(CALLEE)).unwrap();
    browser.hears(20).await;
    browser.press(5);
    let digit = soon("the key", async {
        loop {
            if let CallEvent::Dtmf { digit, .. } = events.next().await.unwrap().event {
                return digit;
            }
        }
    });
    assert_eq!(digit.await, '5');
    soon("a key back", answered.dtmf('7')).await.unwrap();
    soon("the key at the browser", async {
        while browser.heard.lock().unwrap().digits != "7" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ript_client_calls_a_browser_that_holds_and_resumes() {
    let world = World::with_camara(Settings::default()).await;
    let bob = Endpoint::new(&world, "bob", BOB).await;
    let alice = device(&world, "alice", ALICE, &AudioCodec::ALL).await;
    let placed = alice.place(BOB, None).await.unwrap();
    let id = bob.invited().await["mediaSessionId"].as_str().unwrap().to_owned();
    let browser = Browser::new(&[AudioCodec::Opus], CALLEE).await;
    let session = bob.session(&id).await;
    assert_eq!(
        (&session["status"], &session["originatorAddress"]),
        (&"Initial".into(), &format!("tel:{ALICE}").into())
    );
    bob.put(&id, json!({"status": "Ringing"})).await;
    let own = browser.answer(&sdp(&session, "offer")).await;
    let session = bob.put(&id, json!({"status": "Connected", "answer": {"sdp": own}})).await;
    assert_eq!(session["status"], "Connected");
    soon("answered", placed.answered()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at_alice = folder.path().join("alice.wav");
    let options = AudioOptions { record: Some(at_alice.clone()), ..says(CALLER) };
    let audio = AudioCall::start(&placed, options).unwrap();
    // Longer than the speech, so that a whole rendition of it lies before the pause.
    browser.hears(450).await;
    let at_browser = browser.hears_of(CALLER);
    // Held by an offer that sends only, and taken up again by one that does both.
    let hold = browser.offer_as(false, Direction::SendOnly).await;
    let held = bob.put(&id, json!({"status": "Hold", "offer": {"sdp": hold}})).await;
    browser.take_answer(&sdp(&held, "answer")).await;
    assert!(sdp(&held, "answer").contains("a=recvonly"), "{held}");
    soon("nothing more", async {
        loop {
            let before = browser.packets();
            tokio::time::sleep(Duration::from_millis(300)).await;
            if browser.packets() == before {
                break;
            }
        }
    })
    .await;
    // Twice is refused with all that comes with it; what is only described anew stays held.
    let before = bob.session(&id).await;
    let path = format!("{CALLS}/sessions/{id}/status");
    let offer = Browser::new(&[AudioCodec::Opus], CALLEE).await.offer().await;
    let again = json!({"status": "Hold", "offer": {"sdp": offer}}).to_string();
    let answer = ask_as(&bob.user, &bob.registration, "PUT", &path, &again).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (400, &"INVALID_ARGUMENT".into()));
    assert_eq!(bob.session(&id).await, before);
    assert_eq!(bob.put(&id, json!({"status": "Connected"})).await["status"], "Hold");
    let resume = browser.offer_as(false, Direction::SendRecv).await;
    let going = bob.put(&id, json!({"status": "Resume", "offer": {"sdp": resume}})).await;
    browser.take_answer(&sdp(&going, "answer")).await;
    browser.hears(50).await;
    soon("the end", placed.end()).await.unwrap();
    bob.until(&id, "Terminated").await;
    let (told, last) = bob.told("Terminated").await;
    assert_eq!(told, ["Ringing", "Connected", "Hold", "Hold", "Resume", "Terminated"]);
    assert_eq!(last["sequenceNumber"], 7);
    audio.finish().await.unwrap();
    let at_alice = correlate(&speech(CALLEE), &read_audio(&at_alice).unwrap(), 48_000);
    assert!(at_browser.holds_speech() && at_alice.holds_speech(), "{at_browser:?} {at_alice:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browsers_call_survives_the_servers_crash() {
    let world = World::with_camara(Settings::default()).await;
    let (alice, browser, id, answered) = calling(&world, &[AudioCodec::Opus], &AudioCodec::ALL).await;
    let _audio = AudioCall::start(&answered, says(CALLEE)).unwrap();
    browser.hears(20).await;
    let (settings, store, issuer, passports, address) = world.crash().await;
    let world = World::on(settings, store, issuer, passports, Some(address)).await;
    let alice = Endpoint::again(&world, "alice", &alice).await;
    // The session is there, and the browser makes a new peer connection.
    let session = alice.session(&id).await;
    assert_eq!((&session["status"], &session["mediaSessionId"]), (&"Connected".into(), &id.as_str().into()));
    let browser = Browser::new(&[AudioCodec::Opus], CALLER).await;
    let session =
        alice.put(&id, json!({"status": "Connected", "offer": {"sdp": browser.offer().await}})).await;
    browser.take_answer(&sdp(&session, "answer")).await;
    browser.hears(250).await;
    assert!(browser.hears_of(CALLEE).holds_speech());
    soon("the end", answered.end()).await.unwrap();
    alice.until(&id, "Terminated").await;
}
