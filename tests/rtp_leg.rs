//! Calls that leave as RTP: a RIPT client and a phone hear each other, and nobody else is heard.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ript::adapter::sip::rtp::{self, Leg, LegEvent, RtpPorts, RtpSettings, Srtp};
use ript::call::{ByWay, Input};
use ript::client::audio::{AudioCodec, CALLEE, CALLER, correlate, read_audio, speech};
use ript::client::{AudioCall, AudioOptions, Call, CallEvent};
use ript::media::engine::{Engine, OutFrame};
use ript::protocol::advertisement::Advertisement;
use ript::protocol::directive::Directives;
use ript::protocol::event::{Body, ClientBody};
use ript::protocol::number::Number;
use ript::protocol::problem::{Code, Problem};
use ript::protocol::resource::Intent;
use ript::service::gateway::{Departed, Departure, Gateway, Line, OurEnd, Pending, Target};
use serde_json::Value;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::client_calls::{ALICE, device, says};
use crate::common::phone::{Phone, Set};
use crate::common::{World, soon, vouching};

const CALLED: &str = "+14085550099";

fn settings(srtp: Srtp) -> RtpSettings {
    RtpSettings {
        listen: [127, 0, 0, 1].into(),
        public: None,
        range: None,
        most: 100,
        srtp,
        codecs: RtpSettings::all_codecs(),
    }
}

/// Answers a leg's offer.
type Answerer = Box<dyn Fn(&Leg, &str) -> String + Send + Sync>;

/// What a call's line tells the test.
struct Carried {
    leg: Arc<Leg>,
    events: mpsc::UnboundedReceiver<LegEvent>,
}

/// Where calls leave to: what a SIP gateway does, without SIP.
struct Way {
    ports: RtpPorts,
    answerer: Answerer,
    carried: Mutex<Option<Carried>>,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Way")
    }
}

struct Carrier {
    leg: Arc<Leg>,
    events: mpsc::Receiver<LegEvent>,
    tell: mpsc::UnboundedSender<LegEvent>,
}

impl Gateway for Way {
    fn route(&self, to: &Number) -> Option<Target> {
        (to.to_string() == CALLED).then_some(Target::Operator)
    }

    fn leads_to(&self, _: &Target) -> bool {
        true
    }

    fn place(self: Arc<Self>, _: Target, call: Departure) -> Pending<Result<Departed, Problem>> {
        Box::pin(async move {
            let failed = |why: String| Problem::new(Code::Unreachable, why);
            let (leg, events) = self.ports.session().map_err(|error| failed(error.to_string()))?;
            let answer = (self.answerer)(&leg, &leg.offer());
            let native = leg.answered(&answer).map_err(|error| failed(error.to_string()))?;
            let shared = native.has_audio_with(&call.advertisement);
            let advertisement = if shared { native } else { rtp::transcoded(&native) };
            let (tell, told) = mpsc::unbounded_channel();
            let leg = Arc::new(leg);
            *self.carried.lock().unwrap() = Some(Carried { leg: leg.clone(), events: told });
            let line = Box::new(Carrier { leg, events, tell });
            Ok(Departed { advertisement, record: Value::Null, line })
        })
    }

    fn resume(self: Arc<Self>, _: Value) -> Pending<Option<Box<dyn Line>>> {
        Box::pin(std::future::ready(None))
    }
}

fn read(directives: &Value) -> Directives {
    Directives::from_value(directives).unwrap().0
}

impl Line for Carrier {
    fn carry(mut self: Box<Self>, end: OurEnd) -> Pending<()> {
        Box::pin(async move {
            let (leg, handler) = (end.leg, end.handler());
            let claim = Input::Claim {
                leg,
                device: end.device.clone(),
                intent: Some(Intent::Answer),
                if_match: None,
            };
            end.calls.input(claim).await.unwrap();
            let say = async |body| {
                let input = Input::Event { leg, handler, seq: None, body };
                let _ = end.calls.input(input).await;
            };
            let entrance = end.ports.open(&end.ports.get(leg).unwrap(), handler, self.leg.path());
            self.leg.attach(entrance, end.calls.id);
            say(ClientBody::Answered).await;
            let mut byway = end.calls.open(leg, ByWay::Reverse(Some(handler)), None).await.unwrap();
            loop {
                tokio::select! {
                    event = byway.events.recv() => {
                        let Some(event) = event else { return };
                        if let Some(snapshot) = &event.snapshot {
                            self.leg.direct(read(&snapshot.client_directives), read(&snapshot.server_directives));
                        }
                        match &event.body {
                            Body::Directives { client_directives, server_directives } => {
                                self.leg.direct(read(client_directives), read(server_directives));
                            }
                            Body::Ended { .. } => return,
                            _ => {}
                        }
                    }
                    Some(event) = self.events.recv() => {
                        if let LegEvent::Digit(digit, duration) = event {
                            say(ClientBody::Dtmf { digit, duration }).await;
                        }
                        let _ = self.tell.send(event);
                    }
                }
            }
        })
    }

    fn abandon(self: Box<Self>) -> Pending<()> {
        Box::pin(std::future::ready(()))
    }
}

/// A call from alice, a RIPT client with these codecs, that left.
struct Outside {
    _world: World,
    way: Arc<Way>,
    call: Call,
    audio: AudioCall,
    record: PathBuf,
    _folder: tempfile::TempDir,
    leg: Arc<Leg>,
    events: mpsc::UnboundedReceiver<LegEvent>,
}

impl Outside {
    async fn new(settings: RtpSettings, codecs: &[AudioCodec], answerer: Answerer) -> Self {
        let way =
            Arc::new(Way { ports: RtpPorts::new(settings).unwrap(), answerer, carried: Mutex::default() });
        let gateway = way.clone();
        let world = World::with(|settings| {
            vouching(settings);
            settings.gateway = Some(gateway);
        })
        .await;
        let alice = device(&world, "alice", ALICE, codecs).await;
        let call = soon("the placing", alice.place(CALLED, None)).await.unwrap();
        soon("the answer", call.answered()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join("alice.wav");
        let options = AudioOptions { record: Some(record.clone()), ..says(CALLER) };
        let audio = AudioCall::start(&call, options).unwrap();
        let Carried { leg, events } = way.carried.lock().unwrap().take().unwrap();
        Self { _world: world, way, call, audio, record, _folder: folder, leg, events }
    }

    /// With a phone.
    async fn phone(set: Set, codecs: &[AudioCodec]) -> (Self, Arc<Phone>) {
        let phone = Arc::new(Phone::new(set, CALLEE).await);
        let own = phone.clone();
        let answerer = move |_: &Leg, offer: &str| {
            own.take(offer);
            own.sdp("sendrecv")
        };
        (Self::new(settings(Srtp::Off), codecs, Box::new(answerer)).await, phone)
    }

    fn received(&self) -> u64 {
        self.call.stats().media.received
    }

    /// Waits until alice has heard so many chunks more.
    async fn hears(&self, more: u64) {
        let before = self.received();
        soon("media at alice's", async {
            while self.received() < before + more {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    async fn event(&mut self, wanted: impl Fn(&LegEvent) -> bool) -> LegEvent {
        soon("an event of the leg", async {
            loop {
                let event = self.events.recv().await.unwrap();
                if wanted(&event) {
                    return event;
                }
            }
        })
        .await
    }

    /// Hangs up; in what codec alice heard, and whether it was speech.
    async fn finish(self) -> Option<AudioCodec> {
        soon("the end", self.call.end()).await.unwrap();
        let heard = self.audio.finish().await.unwrap();
        let correlation = correlate(&speech(CALLEE), &read_audio(&self.record).unwrap(), 48_000);
        assert!(correlation.holds_speech(), "at alice's: {correlation:?}");
        heard.hears
    }
}

/// What is heard at both ends: a phone with its codec, and a client that prefers the first of its own.
async fn both_ways(set: Set, codecs: &[AudioCodec], in_call: AudioCodec) {
    let (call, phone) = Outside::phone(set, codecs).await;
    phone.hears(250).await;
    call.hears(200).await;
    assert_eq!(call.finish().await, Some(in_call), "{set:?}");
    let correlation = phone.hears_of(CALLER);
    assert!(correlation.holds_speech(), "at the phone with {set:?}: {correlation:?}");
    assert_eq!(phone.heard.lock().unwrap().unknown, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_codecs_pass_as_they_are() {
    for codec in [AudioCodec::Pcmu, AudioCodec::Pcma, AudioCodec::G722, AudioCodec::Opus] {
        both_ways(Set::new(codec), &[codec, AudioCodec::Opus], codec).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_codecs_are_made_anew() {
    for codec in [AudioCodec::Pcma, AudioCodec::G722] {
        both_ways(Set::new(codec), &[AudioCodec::Opus], AudioCodec::Opus).await;
    }
    both_ways(Set::new(AudioCodec::Opus), &[AudioCodec::Pcmu], AudioCodec::Pcmu).await;
}

#[cfg(feature = "amr-wb")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amr_wb_passes_and_is_made_anew() {
    let set = Set::new(AudioCodec::AmrWb);
    both_ways(set, &[AudioCodec::AmrWb], AudioCodec::AmrWb).await;
    both_ways(set, &[AudioCodec::Opus], AudioCodec::Opus).await;
    let few = Set { fmtp: "octet-align=1; mode-set=0,1,2", ..set };
    both_ways(few, &[AudioCodec::Opus], AudioCodec::Opus).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_go_both_ways_at_either_clock() {
    for (codec, codecs) in [
        (AudioCodec::Pcma, AudioCodec::Pcma),
        (AudioCodec::Opus, AudioCodec::Opus),
        (AudioCodec::Opus, AudioCodec::Pcmu),
    ] {
        let (call, phone) = Outside::phone(Set::new(codec), &[codecs]).await;
        let mut events = call.call.events();
        phone.hears(10).await;
        call.hears(10).await;
        for key in [5, 11] {
            phone.press(key);
            let heard = soon("the key at alice's", async {
                loop {
                    if let CallEvent::Dtmf { digit, .. } = events.next().await.unwrap().event {
                        return digit;
                    }
                }
            });
            assert_eq!(heard.await, char::from(b"0123456789*#"[usize::from(key)]), "{codec:?} {codecs:?}");
        }
        for key in ['7', '*'] {
            soon("a key", call.call.dtmf(key)).await.unwrap();
            call.hears(20).await;
        }
        soon("the keys at the phone", async {
            while phone.heard.lock().unwrap().digits.len() < 2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        call.hears(20).await;
        assert_eq!(phone.heard.lock().unwrap().digits, "7*", "{codec:?} {codecs:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_foreign_sources_are_counted_and_not_heard() {
    let (call, phone) = Outside::phone(Set::new(AudioCodec::Pcma), &[AudioCodec::Pcma]).await;
    call.hears(10).await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let packet = |ssrc: &[u8; 4], n: u8| {
        let mut out = vec![0x80, 8, 0, n, 0, 0, 1, n];
        out.extend(ssrc);
        out.extend([n; 160]);
        out
    };
    let leg = ("127.0.0.1", call.leg.port());
    for n in 0..50 {
        stranger.send_to(&packet(b"fone", n), leg).await.unwrap();
        phone.send_raw(packet(b"evil", n));
        phone.send_raw(vec![n; usize::from(n)]);
    }
    soon("the counting", async {
        loop {
            let drops = call.way.ports.drops();
            if drops.strangers >= 50 && drops.foreign >= 50 && drops.garbage >= 49 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let before = phone.packets();
    call.hears(200).await;
    phone.hears(20).await;
    assert!(phone.packets() > before, "the call goes on to the phone, not to the stranger");
    let lost = call.call.stats().media.lost;
    assert!(lost <= 5, "{lost} lost");
    call.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_behind_a_translator_is_answered_where_it_speaks_from() {
    let set = Set { hidden: true, ..Set::new(AudioCodec::Pcmu) };
    let (mut call, phone) = Outside::phone(set, &[AudioCodec::Pcmu]).await;
    call.event(|event| *event == LegEvent::Heard).await;
    phone.hears(50).await;
    assert!(call.way.ports.drops().strangers <= 10, "{:?}", call.way.ports.drops());
    // RTCP follows too.
    soon("a report", async {
        while phone.heard.lock().unwrap().reports == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_are_told_and_silence_the_way_there() {
    let (mut call, phone) = Outside::phone(Set::new(AudioCodec::Pcma), &[AudioCodec::Pcma]).await;
    phone.hears(20).await;
    let described = call.leg.offered(&phone.sdp("sendonly")).unwrap();
    assert!(described.sdp.contains("a=recvonly"));
    call.event(|event| *event == LegEvent::Held(true)).await;
    // What was on its way arrives; then alice says a second in vain.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = phone.packets();
    call.hears(50).await;
    assert_eq!(phone.packets(), before);
    let described = call.leg.offered(&phone.sdp("sendrecv")).unwrap();
    assert!(described.sdp.contains("a=sendrecv"));
    call.event(|event| *event == LegEvent::Held(false)).await;
    phone.hears(20).await;
    // Ours is refused once, and taken then.
    assert!(call.leg.reoffer(true).contains("a=sendonly"));
    call.leg.refused();
    assert!(call.leg.answered(&phone.sdp("recvonly")).is_err());
    assert!(call.leg.reoffer(true).contains("a=sendonly"));
    call.leg.answered(&phone.sdp("recvonly")).unwrap();
    phone.hears(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leg_that_was_written_down_has_its_ports_again_where_they_are_free() {
    let ports = RtpPorts::new(settings(Srtp::Off)).unwrap();
    let (leg, _events) = ports.session().unwrap();
    assert_eq!(leg.kept(), None);
    let phone =
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 8\r\n";
    leg.offered(phone).unwrap();
    let (kept, port) = (leg.kept().unwrap(), leg.port());
    // Another has them: the offer that follows names others.
    let (elsewhere, _events) = ports.resume(kept.clone()).unwrap();
    assert_ne!(elsewhere.port(), port);
    assert!(elsewhere.reoffer(false).contains(&format!("m=audio {} RTP/AVP 8", elsewhere.port())));
    drop(leg);
    let again = soon("the ports", async {
        loop {
            let (leg, _events) = RtpPorts::new(settings(Srtp::Off)).unwrap().resume(kept.clone()).unwrap();
            if leg.port() == port {
                return leg;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(again.await.kept().map(|again| again == kept), Some(true));
}

/// A far side that is a leg too, spoken through without a call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypted_speech_is_heard_and_comes_back() {
    for (ours, theirs) in [(Srtp::Required, Srtp::Offered), (Srtp::Offered, Srtp::Required)] {
        let there =
            RtpPorts::new(RtpSettings { codecs: vec![AudioCodec::Pcmu], ..settings(theirs) }).unwrap();
        let (far, mut far_events) = there.session().unwrap();
        let far = Arc::new(far);
        let own = far.clone();
        let answerer = move |_: &Leg, offer: &str| own.offered(offer).unwrap().sdp;
        let call = Outside::new(settings(ours), &[AudioCodec::Pcmu], Box::new(answerer));
        let call = call.await;
        let directives = Directives::parse("1 to 1: PCMU;").unwrap();
        far.direct(directives.clone(), directives);
        let path = far.path();
        let speaking = tokio::spawn(async move {
            let mut encoder = ript::client::audio::Encoder::new(
                AudioCodec::Pcmu,
                ript::client::audio::EncoderConfig::default(),
            )
            .unwrap();
            let mut source =
                ript::client::audio::FrameSource::new(speech(CALLEE), ript::client::audio::AtEnd::Loop);
            let mut engine = Engine::default();
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            for n in 0u64.. {
                ticks.tick().await;
                let payload = encoder.encode(&source.next_frame()).unwrap();
                let (payload_type, timestamp_ms) = (2, 20 * n);
                let frame = OutFrame {
                    source: 1,
                    sink: 1,
                    payload_type,
                    payload,
                    timestamp_ms,
                    duration_ms: None,
                    level: None,
                };
                if !path.send(&engine.send(ript::clock::elapsed(), &frame).unwrap()) {
                    return;
                }
            }
        });
        assert_eq!(soon("alice at the far side", far_events.recv()).await, Some(LegEvent::Heard));
        call.hears(200).await;
        assert_eq!((call.way.ports.drops().refused, there.drops().refused), (0, 0));
        // The far side says how it hears alice.
        let mut call = call;
        let quality = call.event(|event| matches!(event, LegEvent::Quality(_))).await;
        let LegEvent::Quality(quality) = quality else { unreachable!() };
        assert!(
            quality["received"].as_u64().unwrap() > 50 && quality["mos"].as_f64().unwrap() > 4.0,
            "{quality}"
        );
        // Who has no key is not heard.
        let mut forged = vec![0x80, 0, 0, 1, 0, 0, 0, 1];
        forged.extend([9; 200]);
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        stranger.send_to(&forged, ("127.0.0.1", call.leg.port())).await.unwrap();
        soon("the counting", async {
            while call.way.ports.drops().strangers == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        call.finish().await;
        speaking.abort();
    }
}

#[tokio::test]
async fn ports_are_even_pairs_of_the_range_and_free_when_the_leg_is_dropped() {
    // A pair that is free now; somebody else's test may take it, so that a few are tried.
    let mut found = None;
    for _ in 0..20 {
        let (leg, _events) = RtpPorts::new(settings(Srtp::Off)).unwrap().session().unwrap();
        let port = leg.port();
        drop(leg);
        let range = RtpSettings { range: Some(port..=port + 1), ..settings(Srtp::Off) };
        let ports = RtpPorts::new(range).unwrap();
        let first = soon("the port", async {
            for _ in 0..50 {
                if let Ok(session) = ports.session() {
                    return Some(session);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            None
        });
        if let Some((leg, _)) = first.await {
            found = Some((ports, leg, port));
            break;
        }
    }
    let (ports, leg, port) = found.unwrap();
    assert_eq!((leg.port(), port % 2, ports.legs()), (port, 0, 1));
    let why = ports.session().unwrap_err().to_string();
    assert!(why.contains(&format!("all 1 port pairs of the RTP range {port}-{}", port + 1)), "{why}");
    let path = leg.path();
    drop(leg);
    soon("the port again", async {
        while ports.session().is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!path.send(b"late"), "the way is gone with the leg");
    for range in [7..=7, 8..=8, 9..=10] {
        let wrong = RtpPorts::new(RtpSettings { range: Some(range), ..settings(Srtp::Off) });
        assert!(wrong.unwrap_err().to_string().contains("range"));
    }
    let few = RtpPorts::new(RtpSettings { most: 1, ..settings(Srtp::Off) }).unwrap();
    let _one = few.session().unwrap();
    assert!(few.session().unwrap_err().to_string().contains("as many as may be"));
}

/// RIPT's chunks in at one leg come out of another as packets that are heard, whatever their addresses are.
#[tokio::test]
async fn legs_reach_each_other_by_either_version_of_ip() {
    if UdpSocket::bind("[::1]:0").await.is_err() {
        println!("this machine has no IPv6");
        return;
    }
    let at = |listen: &str, public: Option<&str>| {
        let (listen, public) = (listen.parse().unwrap(), public.map(|public| public.parse().unwrap()));
        RtpPorts::new(RtpSettings { listen, public, ..settings(Srtp::Off) }).unwrap().session().unwrap()
    };
    for ((a, mut heard_a), (b, mut heard_b)) in [
        (at("::1", None), at("::1", None)),
        (at("::", Some("127.0.0.1")), at("127.0.0.1", None)),
        (at("::", Some("::1")), at("::1", None)),
    ] {
        a.answered(&b.offered(&a.offer()).unwrap().sdp).unwrap();
        let directives = Directives::parse("1 to 1: PCMU;").unwrap();
        for (from, heard) in [(&a, &mut heard_b), (&b, &mut heard_a)] {
            from.direct(directives.clone(), directives.clone());
            let payload = bytes::Bytes::from_static(&[7; 160]);
            let (payload_type, timestamp_ms) = (2, 1);
            let frame = OutFrame {
                source: 1,
                sink: 1,
                payload_type,
                payload,
                timestamp_ms,
                duration_ms: None,
                level: None,
            };
            let chunk = Engine::default().send(ript::clock::elapsed(), &frame).unwrap();
            assert!(from.path().send(&chunk));
            assert_eq!(soon("a packet", heard.recv()).await, Some(LegEvent::Heard));
        }
    }
}

#[test]
fn transcoded_adds_what_is_made_anew_and_no_riders() {
    let native = Advertisement::parse("1 in: PCMA; telephone-event; 1 out: PCMA; telephone-event;").unwrap();
    let all = rtp::transcoded(&native).to_string();
    for codec in ["PCMA", "opus", "G722", "PCMU", "telephone-event"] {
        assert_eq!(all.matches(codec).count(), 2, "{all}");
    }
    assert!(!all.contains("CN") && all.contains("AMR-WB") == cfg!(feature = "amr-wb"));
    assert!(rtp::transcoded(&Advertisement::default()).to_string().is_empty());
}
