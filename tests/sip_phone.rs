//! A telephone at the end of a trunk: what it may do to a call that its server must bear, seen at RIPT's clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ript::adapter::camara;
use ript::adapter::ims::TrunkSettings;
use ript::adapter::sip::ua::{Command, Event, Profile, Reliable};
use ript::adapter::sip::{Agent, Beginning, Hop, Listen, Stack, TlsFiles};
use ript::client::audio::AudioCodec;
use ript::protocol::event::{Outcome, State};
use ript::service::rate::Rate;
use rsipstack::sip::{HeadersExt as _, Transport};
use tokio::sync::mpsc;

use crate::client_calls::device;
use crate::common::{World, soon, vouching};
use crate::operator::until;
use crate::sip_trunk::{free, trunk, world_of};

pub const BOB: &str = "+14085550002";
pub const CAROL: &str = "+14085550003";
pub const PHONE: &str = "+442071838750";
pub const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0 8\r\n";

/// A telephone network with one telephone, and a server that has a trunk to it.
pub struct Lab {
    pub world: World,
    pub stack: Arc<Stack>,
    pub calls: mpsc::Receiver<Beginning>,
    /// Where the server is.
    pub at: SocketAddr,
    _telephony: Arc<ript::adapter::ims::Telephony>,
    _folder: tempfile::TempDir,
}

impl Lab {
    pub async fn start(emergency: Option<&str>) -> Self {
        let emergency = emergency.map(|number| number.parse().unwrap());
        Self::with(|trunk| trunk.way.emergency = emergency).await
    }

    /// `change`: of the trunk's settings.
    pub async fn with(change: impl FnOnce(&mut TrunkSettings)) -> Self {
        Self::whole(change, vouching, camara::Settings::default()).await
    }

    /// The same with other settings of the server.
    pub async fn whole(
        change: impl FnOnce(&mut TrunkSettings),
        settings: impl FnOnce(&mut ript::service::Settings),
        apis: camara::Settings,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listen = Listen {
            address: "127.0.0.1:0".parse().unwrap(),
            public: None,
            tls: None,
            files: TlsFiles::default(),
            peers: vec!["127.0.0.1".parse().unwrap()],
            rate: Rate::per_second(100),
        };
        let (stack, calls) = Stack::bind(&listen).await.unwrap();
        let own = free();
        let server = format!("sip:{}", stack.address(Transport::Udp));
        let mut trunk = trunk(own, &[server], "+1*", "+44*");
        change(&mut trunk);
        let (world, telephony) = world_of(folder.path(), vec![], vec![trunk], settings, apis).await;
        let at = ([127, 0, 0, 1], own).into();
        Self { world, stack, calls, at, _telephony: telephony, _folder: folder }
    }

    pub fn profile(&self, to: &str, headers: &[(&str, &str)]) -> Profile {
        let own = self.stack.address(Transport::Udp);
        let target = format!("sip:{to}@{};user=phone", self.at);
        Profile {
            from: format!("<sip:{PHONE}@{own};user=phone>"),
            to: format!("<{target}>"),
            target,
            contact: format!("<{}>", self.stack.contact("phone", Transport::Udp)),
            route: vec![],
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            reliable: Reliable::Supported,
            session_expires: None,
            min_se: Duration::from_secs(90),
            credentials: None,
            product: "phone".to_owned(),
            seed: uuid::Uuid::new_v4().as_u128(),
        }
    }

    /// The telephone calls.
    pub fn dial(&self, to: &str, headers: &[(&str, &str)]) -> Agent {
        self.dial_with(to, headers, SDP.to_owned())
    }

    /// The same with this offer.
    pub fn dial_with(&self, to: &str, headers: &[(&str, &str)], offer: String) -> Agent {
        let profile = self.profile(to, headers);
        let (via, hop) = (
            format!("sip:{}", self.at),
            Hop { address: self.at, transport: Transport::Udp, name: "127.0.0.1".to_owned() },
        );
        Agent::place(&self.stack, profile, Some(offer), (&via, hop), None)
    }

    /// The telephone is called.
    pub async fn rung(&mut self) -> (rsipstack::sip::Request, Agent) {
        let call = soon("a call", self.calls.recv()).await.unwrap();
        let invite = call.request.clone();
        let agent = Agent::arrive(&self.stack, call, self.profile(PHONE, &[])).unwrap();
        (invite, agent)
    }
}

pub async fn said(agent: &mut Agent, wanted: impl Fn(&Event) -> bool) -> Event {
    soon("an event", async {
        loop {
            let event = agent.events.recv().await.expect("the call goes on");
            if wanted(&event) {
                return event;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_telephone_hands_its_partner_on_by_refer() {
    let lab = Lab::start(None).await;
    let bob = device(&lab.world, "bob", BOB, &AudioCodec::ALL).await;
    let carol = device(&lab.world, "carol", CAROL, &AudioCodec::ALL).await;
    let (mut bobs, mut carols) = (bob.listen(), carol.listen());
    let mut phone = lab.dial(BOB, &[]);
    let incoming = soon("the call", bobs.next()).await.unwrap();
    assert_eq!(incoming.call().from().to_string(), PHONE);
    let bob = soon("the answer", incoming.answer()).await.unwrap();
    said(&mut phone, |event| *event == Event::Answered).await;
    phone.say(Command::Refer { to: format!("sip:{CAROL}@{};user=phone", lab.at), by: None });
    let incoming = soon("carol's call", carols.next()).await.unwrap();
    assert_eq!(incoming.call().from().to_string(), BOB);
    let carol = soon("carol's answer", incoming.answer()).await.unwrap();
    said(&mut phone, |event| matches!(event, Event::Referred(200))).await;
    until(&carol, State::Answered).await;
    assert_eq!(bob.state(), State::Answered);
    soon("the end", carol.end()).await.unwrap();
    assert_eq!(soon("bob's end", bob.ended()).await.outcome, Outcome::Completed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_calls_is_whom_the_peer_asserts_and_a_withheld_number_is_told_to_nobody() {
    let lab = Lab::start(None).await;
    let bob = device(&lab.world, "bob", BOB, &AudioCodec::ALL).await;
    let mut bobs = bob.listen();
    for (headers, from, attest) in [
        (
            &[("P-Asserted-Identity", "<sip:+493012345@carrier.example;user=phone>")][..],
            "+493012345",
            Some("B"),
        ),
        (&[], PHONE, Some("C")),
        (
            &[("P-Asserted-Identity", "<tel:+493012345>"), ("Privacy", "id")],
            "anonymous@anonymous.invalid",
            None,
        ),
    ] {
        let phone = lab.dial(BOB, headers);
        let incoming = soon("the call", bobs.next()).await.unwrap();
        assert_eq!(incoming.call().from().to_string(), from);
        let said =
            incoming.call().verification().and_then(|verdict| verdict["attest"].as_str().map(str::to_owned));
        assert_eq!(said.as_deref(), attest, "{headers:?}");
        phone.end(Command::End { reason: None });
        soon("the end", incoming.call().ended()).await;
    }
    // A PASSporT that proves nothing is refused, and rings nowhere.
    let mut phone = lab.dial(BOB, &[("Identity", "a.b.c;info=<https://x.example/a>;alg=ES256;ppt=shaken")]);
    let Event::Ended(ended) = said(&mut phone, |event| matches!(event, Event::Ended(_))).await else {
        unreachable!()
    };
    assert_eq!(ended.code, Some(438));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_for_help_leaves_as_the_urn_of_the_service() {
    let mut lab = Lab::start(Some("sos@emergency.example")).await;
    let alice = device(&lab.world, "alice", "+14085550001", &AudioCodec::ALL).await;
    let placed = soon("the placing", alice.place("sos@emergency.example", None)).await.unwrap();
    let (invite, mut phone) = lab.rung().await;
    assert_eq!(invite.uri.to_string(), "urn:service:sos");
    assert!(invite.to_header().unwrap().value().contains("urn:service:sos"));
    said(&mut phone, |event| matches!(event, Event::Offered(_))).await;
    phone.say(Command::Accept { sdp: SDP.to_owned() });
    soon("answered", placed.answered()).await.unwrap();
    phone.say(Command::End { reason: None });
    soon("the end", placed.ended()).await;
}
