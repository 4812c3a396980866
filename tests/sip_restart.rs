//! A server dies under telephone calls and comes back: they go on, whichever way they went. RIPT clients at both ends of a SIP trunk.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ript::adapter::ims::{AccountSettings, Secret, Settings, Telephony, TrunkSettings};
use ript::adapter::sip::rtp::Srtp;
use ript::adapter::sip::ua::{By, Command, Event};
use ript::adapter::sip::{Agent, Beginning, Listen, Stack, answer};
use ript::client::audio::{AtEnd, AudioCodec, CALLEE, CALLER, FrameSource, correlate, read_audio, speech};
use ript::client::{AudioCall, AudioOptions, AudioSource, Call, CallEvent, CallEvents, Handler};
use ript::protocol::event::{Body, Outcome, Party, State};
use ript::service::gateways::Gateways;
use ript::store::Store;
use ript::store::memory::MemoryStore;
use rsipstack::sip::{HeadersExt as _, Method, Transport};
use tokio::sync::mpsc;

use crate::client_calls::{device, flows};
use crate::client_survives::{Server, user};
use crate::common::{World, soon, vouching};
use crate::operator::{across, until};
use crate::sip_agents::{end, listen, place, profile, take};
use crate::sip_trunk::{free, rtp, trunk};

const ALICE: &str = "+442071838750";
const BOB: &str = "+14085550002";
const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0 8\r\n";

/// A server with ways to telephone networks.
struct Side {
    sip: Settings,
    folder: tempfile::TempDir,
    world: World,
    telephony: Arc<Telephony>,
}

impl Side {
    async fn start(trunk: TrunkSettings) -> Self {
        Self::with(Settings { rtp: rtp(), dns: Vec::new(), accounts: Vec::new(), trunks: vec![trunk] }).await
    }

    async fn with(sip: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let telephony = Telephony::bind(&sip, folder.path()).await.unwrap();
        let gateways = Gateways::new(vec![telephony.clone()]);
        let world = World::with(|settings| {
            vouching(settings);
            settings.gateway = Some(gateways);
        })
        .await;
        telephony.start(&world.service);
        Self { sip, folder, world, telephony }
    }

    /// It dies, and comes back at the same places. `forgets`: with an empty store.
    async fn restart(self, forgets: bool) -> Self {
        let Self { sip, folder, world, telephony } = self;
        let (mut settings, mut store, issuer, passports, address) = world.crash().await;
        settings.gateway = None;
        drop(telephony);
        if forgets {
            store = Arc::new(MemoryStore::new()) as Arc<dyn Store>;
        }
        for way in sip.trunks.iter().map(|trunk| &trunk.way).chain(sip.accounts.iter().map(|one| &one.way)) {
            left(way.listen).await;
        }
        let telephony = Telephony::bind(&sip, folder.path()).await.unwrap();
        settings.gateway = Some(Gateways::new(vec![telephony.clone()]));
        let world = World::on(settings, store, issuer, passports, Some(address)).await;
        telephony.start(&world.service);
        Self { sip, folder, world, telephony }
    }
}

/// What a dead end had may be its own for a moment longer.
async fn left(address: SocketAddr) {
    soon("the SIP port", async {
        while UdpSocket::bind(address).is_err() || TcpListener::bind(address).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Alice's server, and bob's, each the other's telephone network.
async fn two(transport: &str, srtp: Srtp) -> [Side; 2] {
    let ports = [free(), free()];
    let side = |own: usize, ours: &str, theirs: &str| {
        let server = format!("sip:127.0.0.1:{}{transport}", ports[1 - own]);
        let mut trunk = trunk(ports[own], &[server], ours, theirs);
        // By TCP its keys can be read by others, which is no matter here.
        (trunk.way.srtp, trunk.way.srtp_in_clear) = (srtp, true);
        Side::start(trunk)
    };
    [side(0, "+44*", "+1*").await, side(1, "+1*", "+44*").await]
}

async fn devices([ours, theirs]: &[Side; 2]) -> (Handler, Handler) {
    let alice = device(&ours.world, "alice", ALICE, &AudioCodec::ALL).await;
    (alice, device(&theirs.world, "bob", BOB, &AudioCodec::ALL).await)
}

fn says(file: &'static [u8], record: Option<&Path>) -> AudioOptions {
    AudioOptions {
        source: AudioSource::Frames(FrameSource::new(speech(file), AtEnd::Loop)),
        record: record.map(Path::to_owned),
        ..AudioOptions::default()
    }
}

/// Waits for what the other one did.
async fn saw(events: &mut CallEvents, wanted: Body) {
    let is = |event: &CallEvent| matches!(event, CallEvent::Server(event) if event.snapshot.is_none() && event.body == wanted);
    soon("an event", async { while !is(&events.next().await.expect("the call goes on").event) {} }).await;
}

/// Holds and digits cross both ways.
async fn is_whole(placed: &Call, answered: &Call) {
    for (one, other, by) in [(placed, answered, Party::Caller), (answered, placed, Party::Callee)] {
        let mut events = other.events();
        soon("the hold", one.hold()).await.unwrap();
        saw(&mut events, Body::Hold { by }).await;
        soon("the resumption", one.resume()).await.unwrap();
        saw(&mut events, Body::Resume { by }).await;
    }
    flows(placed, answered, 20).await;
}

/// Speech crosses; then one of the servers dies, and speech, holds and the end cross as before. `dies`: alice's, or bob's.
async fn survives(dies: usize, transport: &str, srtp: Srtp) {
    let mut both = two(transport, srtp).await;
    let (alice, bob) = devices(&both).await;
    let (placed, answered) = across(&alice, &bob).await;
    let audio = [(&placed, CALLER), (&answered, CALLEE)]
        .map(|(call, file)| AudioCall::start(call, says(file, None)).unwrap());
    flows(&placed, &answered, 60).await;

    let [ours, theirs] = both;
    both = match dies {
        0 => [ours.restart(false).await, theirs],
        _ => [ours, theirs.restart(false).await],
    };
    flows(&placed, &answered, 60).await;
    is_whole(&placed, &answered).await;
    drop(audio);

    // What is heard is speech, not only packets.
    let folder = tempfile::tempdir().unwrap();
    let (at_alice, at_bob) = (folder.path().join("alice.wav"), folder.path().join("bob.wav"));
    let a = AudioCall::start(&placed, says(CALLER, Some(&at_alice))).unwrap();
    let b = AudioCall::start(&answered, says(CALLEE, Some(&at_bob))).unwrap();
    flows(&placed, &answered, 280).await;
    let (ends, ended, party) = match dies {
        0 => (&placed, &answered, Party::Caller),
        _ => (&answered, &placed, Party::Callee),
    };
    soon("the end", ends.end()).await.unwrap();
    let end = soon("the end over there", ended.ended()).await;
    assert_eq!((end.outcome, end.by), (Outcome::Completed, party));
    a.finish().await.unwrap();
    b.finish().await.unwrap();
    for (said, heard) in [(CALLER, &at_bob), (CALLEE, &at_alice)] {
        let correlation = correlate(&speech(said), &read_audio(heard).unwrap(), 48_000);
        assert!(correlation.holds_speech(), "{correlation:?}");
    }
    drop(both);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_goes_on_when_the_callers_server_dies_and_comes_back() {
    survives(0, "", Srtp::Off).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_goes_on_when_the_called_sides_server_dies_and_comes_back() {
    survives(1, "", Srtp::Off).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_call_over_tcp_gets_new_keys_and_goes_on() {
    survives(0, ";transport=tcp", Srtp::Required).await;
    survives(1, ";transport=tcp", Srtp::Required).await;
}

/// The server is a process with the embedded store. `how` it ends.
async fn outlives_the_process(how: fn(Server)) {
    let data = tempfile::tempdir().unwrap();
    let (port, ports) = (free(), [free(), free()]);
    let config = data.path().join("ript.toml");
    let text = format!(
        "[sip]\nrtp-listen = \"127.0.0.1\"\n[timing]\ndrain-ms = 300\n[[sip.trunk]]\nname = \"trunk\"\nserver = [\"sip:127.0.0.1:{}\"]\n\
         numbers = [\"+44*\"]\ndestinations = [\"+1*\"]\nlisten = \"127.0.0.1:{}\"\ntrusted = true\n",
        ports[1], ports[0]
    );
    std::fs::write(&config, text).unwrap();
    let start = || Server::with(data.path(), port, &["--config", config.to_str().unwrap()]);
    let server = start();
    let theirs = trunk(ports[1], &[format!("sip:127.0.0.1:{}", ports[0])], "+1*", "+44*");
    let theirs = Side::start(theirs).await;
    let alice = user(data.path(), port, "alice", ALICE).await;
    let bob = device(&theirs.world, "bob", BOB, &AudioCodec::ALL).await;
    let (placed, answered) = across(&alice, &bob).await;
    let audio = [(&placed, CALLER), (&answered, CALLEE)]
        .map(|(call, file)| AudioCall::start(call, says(file, None)).unwrap());
    flows(&placed, &answered, 60).await;
    tokio::task::spawn_blocking(move || how(server)).await.unwrap();
    let server = start();
    soon("media", async {
        while placed.media_gaps().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    println!("{:?}", placed.media_gaps());
    flows(&placed, &answered, 60).await;
    is_whole(&placed, &answered).await;
    soon("the end", answered.end()).await.unwrap();
    assert_eq!(soon("the end over here", placed.ended()).await.by, Party::Callee);
    drop((audio, server));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_outlives_the_server_s_process_when_it_is_killed() {
    outlives_the_process(Server::kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_outlives_the_server_s_process_when_it_is_stopped_for_a_deploy() {
    outlives_the_process(Server::stop).await;
}

/// Registers whoever comes; calls go on.
async fn registrar(
    mut come: mpsc::Receiver<Beginning>,
    registered: mpsc::UnboundedSender<String>,
    calls: mpsc::UnboundedSender<Beginning>,
) {
    while let Some(beginning) = come.recv().await {
        let request = &beginning.request;
        if request.method == Method::Invite {
            calls.send(beginning).ok();
            continue;
        }
        let contact = request.contact_header().map(|contact| contact.value().to_owned()).unwrap_or_default();
        let headers = vec![("Contact", format!("{contact};expires=3600"))];
        beginning.responder.respond(answer(request, 200, headers));
        if request.method == Method::Register {
            registered.send(contact).ok();
        }
    }
}

fn line<'a>(sdp: &'a str, start: &str) -> &'a str {
    sdp.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start} in {sdp}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_an_account_the_contact_the_session_and_the_port_are_the_same_afterwards() {
    let (network, come) = end(&["127.0.0.1"]).await;
    let (registered, mut contacts) = mpsc::unbounded_channel();
    let (rings, mut calls) = mpsc::unbounded_channel();
    let serving = tokio::spawn(registrar(come, registered, rings));
    let at = network.address(Transport::Udp);
    let account = AccountSettings {
        number: ALICE.parse().unwrap(),
        identity: format!("sip:{ALICE}@{at}"),
        user: "alice".to_owned(),
        secret: Secret::Password("x".to_owned()),
        registrar: format!("sip:{at}"),
        proxy: None,
        expires: Duration::from_secs(3_600),
        ims: false,
        always: true,
        way: trunk(free(), &[], "+44*", "+1*").way,
    };
    let side =
        Side::with(Settings { rtp: rtp(), dns: Vec::new(), accounts: vec![account], trunks: Vec::new() })
            .await;
    let contact = soon("the registration", contacts.recv()).await.unwrap();
    let alice = device(&side.world, "alice", ALICE, &AudioCodec::ALL).await;
    let placed = soon("the placing", alice.place(BOB, None)).await.unwrap();
    let call = soon("the call", calls.recv()).await.unwrap();
    let invite = call.request.clone();
    let mut phone = Agent::arrive(&network, call, profile(at, String::new(), "")).unwrap();
    let Some(Event::Offered(offer)) = soon("an event", phone.events.recv()).await else { panic!() };
    assert!(phone.say(Command::Accept { sdp: SDP.to_owned() }));
    soon("answered", placed.answered()).await.unwrap();
    assert_eq!(soon("an event", phone.events.recv()).await, Some(Event::Answered));
    let target = phone.dialog().unwrap().remote_target;

    let side = side.restart(false).await;
    assert_eq!(soon("the registration", contacts.recv()).await.unwrap(), contact, "instance included");
    let Some(Event::Offered(anew)) = soon("an event", phone.events.recv()).await else { panic!() };
    let port = |sdp: &str| line(sdp, "m=audio").split(' ').nth(1).unwrap().to_owned();
    let session = |sdp: &str| line(sdp, "o=").split(' ').nth(1).unwrap().to_owned();
    assert_eq!((port(&anew), session(&anew)), (port(&offer), session(&offer)));
    assert!(phone.say(Command::Answer(SDP.to_owned())));
    assert_eq!(phone.dialog().unwrap().remote_target, target);
    assert!(invite.contact_header().unwrap().value().contains(&target));
    phone.end(Command::End { reason: None });
    let end = soon("the end", placed.ended()).await;
    assert_eq!((end.outcome, end.by), (Outcome::Completed, Party::Callee));
    drop(side);
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_on_hold_when_its_server_dies_is_on_hold_afterwards() {
    let [ours, theirs] = two("", Srtp::Off).await;
    let both = [ours, theirs];
    let (alice, bob) = devices(&both).await;
    let (placed, answered) = across(&alice, &bob).await;
    let audio = [(&placed, CALLER), (&answered, CALLEE)]
        .map(|(call, file)| AudioCall::start(call, says(file, None)).unwrap());
    flows(&placed, &answered, 20).await;
    let mut bobs = answered.events();
    soon("the hold", placed.hold()).await.unwrap();
    saw(&mut bobs, Body::Hold { by: Party::Caller }).await;
    let [ours, theirs] = both;
    let both = [ours.restart(false).await, theirs];
    let mut bobs = answered.events();
    soon("the resumption", placed.resume()).await.unwrap();
    saw(&mut bobs, Body::Resume { by: Party::Caller }).await;
    flows(&placed, &answered, 20).await;
    drop((audio, both));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_servers_may_die_at_once() {
    let both = two("", Srtp::Off).await;
    let (alice, bob) = devices(&both).await;
    let (placed, answered) = across(&alice, &bob).await;
    let audio = [(&placed, CALLER), (&answered, CALLEE)]
        .map(|(call, file)| AudioCall::start(call, says(file, None)).unwrap());
    flows(&placed, &answered, 20).await;
    let [ours, theirs] = both;
    let (ours, theirs) = tokio::join!(ours.restart(false), theirs.restart(false));
    flows(&placed, &answered, 60).await;
    is_whole(&placed, &answered).await;
    drop((audio, ours, theirs));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_far_side_that_has_forgotten_the_call_ends_it_here() {
    let [ours, theirs] = two("", Srtp::Off).await;
    let both = [ours, theirs];
    let (alice, bob) = devices(&both).await;
    let (placed, _answered) = across(&alice, &bob).await;
    let [ours, theirs] = both;
    // Nobody there knows the dialog any more, and answers 481.
    let theirs = theirs.restart(true).await;
    let ours = ours.restart(false).await;
    let end = soon("the end", placed.ended()).await;
    assert_eq!((end.outcome, end.reason.as_str()), (Outcome::Completed, "lost"));
    drop((ours, theirs));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_rings_when_a_server_dies_ends_at_that_server() {
    for dies in [0, 1] {
        let both = two("", Srtp::Off).await;
        let (alice, bob) = devices(&both).await;
        let mut listener = bob.listen();
        let placed = soon("the placing", alice.place(BOB, None)).await.unwrap();
        let incoming = soon("the call", listener.next()).await.unwrap();
        soon("ringing", incoming.alerting()).await.unwrap();
        until(&placed, State::Alerting).await;
        let [ours, theirs] = both;
        let (both, leg) = match dies {
            0 => ([ours.restart(false).await, theirs], placed.clone()),
            _ => ([ours, theirs.restart(false).await], incoming.call().clone()),
        };
        assert_eq!(soon("the end", leg.ended()).await.reason, "lost");
        drop(both);
    }
}

/// An end that died comes back at its place, and takes its calls up.
async fn reborn(address: SocketAddr) -> (Arc<Stack>, mpsc::Receiver<Beginning>) {
    left(address).await;
    let (stack, calls) = Stack::bind(&Listen { address, ..listen(&["127.0.0.1"]) }).await.unwrap();
    stack.hold(true);
    (stack, calls)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_comes_before_its_call_is_taken_up_again_waits_for_that() {
    for known in [true, false] {
        let ((ours, none), (theirs, mut calls)) = (end(&["127.0.0.1"]).await, end(&["127.0.0.1"]).await);
        let mut alice = place(&ours, &theirs, Transport::Udp);
        let mut bob = take(&theirs, &mut calls).await;
        assert!(bob.say(Command::Accept { sdp: SDP.to_owned() }));
        for agent in [&mut alice, &mut bob] {
            while soon("an event", agent.events.recv()).await.unwrap() != Event::Answered {}
        }
        let (kept, at) = (alice.kept.now().expect("it stands"), ours.address(Transport::Udp));
        drop((alice, ours, none));
        let (ours, _none) = reborn(at).await;
        assert!(bob.say(Command::Offer(SDP.to_owned())));
        // It has come here, and is neither answered nor forgotten.
        soon("the offer", async {
            while ours.held() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        if !known {
            ours.hold(false);
            let Event::Ended(ending) = soon("an event", bob.events.recv()).await.unwrap() else { panic!() };
            assert_eq!(ending.by, By::Timer, "481");
            continue;
        }
        let mut alice = Agent::resume(&ours, profile(at, String::new(), ""), kept, SDP).unwrap();
        ours.hold(false);
        // Two offers met: each is answered in the end.
        let (mut described, mut offered) = (0, 0);
        soon("both answers", async {
            while described < 2 || offered < 2 {
                let (event, agent) = tokio::select! {
                    event = alice.events.recv() => (event, &alice),
                    event = bob.events.recv() => (event, &bob),
                };
                match event.unwrap() {
                    Event::Offered(_) => {
                        offered += 1;
                        assert!(agent.say(Command::Answer(SDP.to_owned())));
                    }
                    Event::Described(_) => described += 1,
                    other => panic!("{other:?}"),
                }
            }
        })
        .await;
        alice.end(Command::End { reason: None });
        let Event::Ended(ending) = soon("the end", bob.events.recv()).await.unwrap() else { panic!() };
        assert_eq!(ending.by, By::Far);
    }
}
