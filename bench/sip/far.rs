//! The telephone network behind the trunk: SIP phones that ring, answer at once, and say where their RTP is.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ript::adapter::sip::ua::{Command, Event, Profile, Reliable};
use ript::adapter::sip::{Agent, Beginning, Listen, PRODUCT, Stack, TlsFiles, answer};
use ript::service::rate::Rate;
use rsipstack::sip::{Method, Request, Transport};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What stands before a call's four digits in its number.
const PREFIX: &str = "+1408555";

pub fn number(call: u32) -> String {
    format!("{PREFIX}{call:04}")
}

/// Opus at this port. (A phone may send by its own payload types: RFC 3264 §5.1.)
pub fn description(port: u16) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 111\r\n\
         a=rtpmap:111 opus/48000/2\r\na=ptime:20\r\na=sendrecv\r\n"
    )
}

/// Where a description's RTP is.
pub fn rtp_address(sdp: &str) -> SocketAddr {
    let port = sdp.lines().find_map(|line| line.strip_prefix("m=audio ")?.split(' ').next());
    SocketAddr::from(([127, 0, 0, 1], port.expect("audio").parse().expect("a port")))
}

/// A SIP end of the load's.
pub async fn end(port: u16) -> (Arc<Stack>, mpsc::Receiver<Beginning>) {
    let listen = Listen {
        address: ([127, 0, 0, 1], port).into(),
        public: None,
        tls: None,
        files: TlsFiles::default(),
        peers: vec!["127.0.0.1".parse().expect("an address")],
        rate: Rate::per_second(10_000),
    };
    Stack::bind(&listen).await.expect("a SIP port")
}

pub fn profile(stack: &Stack, target: String) -> Profile {
    let contact = stack.contact("bench", Transport::Udp);
    Profile {
        from: format!("<{contact}>"),
        to: format!("<{target}>"),
        target,
        contact: format!("<{contact}>"),
        route: Vec::new(),
        headers: Vec::new(),
        reliable: Reliable::No,
        session_expires: None,
        min_se: Duration::from_secs(90),
        credentials: None,
        product: PRODUCT.to_owned(),
        seed: uuid::Uuid::new_v4().as_u128(),
    }
}

/// All phones.
pub struct Far {
    phones: Arc<Phones>,
    _task: JoinSet<()>,
}

struct Phones {
    stack: Arc<Stack>,
    /// Where each call's phone has its RTP.
    ports: Vec<u16>,
    /// Where each call's other side has it.
    offers: Mutex<HashMap<u32, SocketAddr>>,
    ended: AtomicU64,
}

impl Far {
    pub async fn start(port: u16, ports: Vec<u16>) -> Self {
        let (stack, begins) = end(port).await;
        let (offers, ended) = (Mutex::default(), AtomicU64::new(0));
        let phones = Arc::new(Phones { stack, ports, offers, ended });
        let mut task = JoinSet::new();
        task.spawn(phones.clone().listen(begins));
        Self { phones, _task: task }
    }

    /// Where the other side of a call that was answered has its RTP.
    pub fn other(&self, call: u32) -> SocketAddr {
        self.phones.offers.lock().expect("no panic")[&call]
    }

    /// Waits until so many calls are over.
    pub async fn have_ended(&self, calls: u64) {
        while self.phones.ended.load(Ordering::Relaxed) < calls {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Phones {
    async fn listen(self: Arc<Self>, mut begins: mpsc::Receiver<Beginning>) {
        let mut calls = JoinSet::new();
        while let Some(beginning) = begins.recv().await {
            while calls.try_join_next().is_some() {}
            match beginning.request.method {
                Method::Invite => {
                    calls.spawn(self.clone().take(beginning));
                }
                // The trunk asks whether we are there.
                _ => beginning.responder.respond(answer(&beginning.request, 200, vec![])),
            }
        }
    }

    async fn take(self: Arc<Self>, beginning: Beginning) {
        let call = called(&beginning.request).expect("one of our numbers");
        let profile = profile(&self.stack, String::new());
        let mut agent = Agent::arrive(&self.stack, beginning, profile).expect("an INVITE that can be taken");
        while let Some(event) = agent.events.recv().await {
            match event {
                Event::Offered(sdp) => {
                    self.offers.lock().expect("no panic").insert(call, rtp_address(&sdp));
                    agent.say(Command::Ring { answer: None });
                    agent.say(Command::Accept { sdp: description(self.ports[call as usize]) });
                }
                Event::Ended(ending) => {
                    assert_eq!(ending.code, None, "no BYE: {ending:?}");
                    self.ended.fetch_add(1, Ordering::Relaxed);
                }
                _ => {}
            }
        }
    }
}

fn called(invite: &Request) -> Option<u32> {
    let uri = invite.uri.to_string();
    let (_, rest) = uri.split_once(PREFIX)?;
    rest.get(..4)?.parse().ok()
}
