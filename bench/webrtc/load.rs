//! The load: sets all calls up, lets their ends send, and reads the relay's CPU time meanwhile. One thread, but for
//! QUIC's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderMap;
use ript::identity::jwk::SigningKey;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::common::camara::{DEVICE, V03, create};
use crate::common::camara_calls::{CALLS, ask_as, scopes};
use crate::common::soon;
use crate::common::user::{ALL_SCOPES, BOTH, User, token};
use crate::drops::overflown;
use crate::ends::{Browser, Go, Ript, Rtp, Tally};
use crate::process::cpu_ns;
use crate::rtpengine::Control;
use crate::{Figure, Job, Place};

/// Before the window, and after it.
const AROUND: Duration = Duration::from_secs(2);
/// How long packets may be under way.
const DRAIN: Duration = Duration::from_secs(5);

pub fn run() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a job");
    let job: Job = serde_json::from_str(&line).expect("a job");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let figure = runtime.block_on(Load::new(&job).run(&job));
    println!("{}", serde_json::to_string(&figure).expect("a figure"));
}

struct Load {
    tallies: Vec<Arc<Tally>>,
    connected: Arc<AtomicU64>,
    tasks: JoinSet<()>,
    start: watch::Sender<Option<std::time::Instant>>,
    go: Go,
    users: Vec<User>,
}

impl Load {
    fn new(job: &Job) -> Self {
        let total = (job.seconds + 2 * AROUND.as_secs()) as u32 * 50;
        let ends = 2 * job.calls;
        // The ends are evenly spread over the 20 ms.
        let phase = |n: u32| Duration::from_millis(20) * n / ends;
        let tallies = (0..ends).map(|n| Tally::new(n / 2, (n % 2) as u8, total, phase(n))).collect();
        let (start, go) = watch::channel(None);
        Self { tallies, connected: Arc::default(), tasks: JoinSet::new(), start, go, users: Vec::new() }
    }

    async fn run(mut self, job: &Job) -> Figure {
        match &job.place {
            Place::Ript { address, ca, issuer, passports } => {
                let issuer = SigningKey::from_pem(issuer).expect("a key");
                let user = async |name: &str, number: &str, scopes: &str| {
                    let token = token(&issuer, name, &[number], &["test"], scopes);
                    User::at(ca, *address, passports.clone(), token, number).await
                };
                // What browsers ask of the API goes over one connection; RIPT's devices have one each.
                let api = user("api", "+14085559999", ALL_SCOPES).await;
                for call in 0..job.calls {
                    let number = format!("+1408555{:04}", 2 * call);
                    let mut alice =
                        api.with_token(token(&issuer, &format!("a{call}"), &[&number], &["test"], &scopes()));
                    alice.number = number;
                    let number = format!("+1408555{:04}", 2 * call + 1);
                    let bob = user(&format!("b{call}"), &number, ALL_SCOPES).await;
                    self.camara(call, &alice, bob).await;
                }
            }
            Place::Rtpengine(address) => {
                for call in 0..job.calls {
                    self.rtpengine(call, *address).await;
                }
            }
        }
        soon("DTLS at all", async {
            while self.connected.load(Ordering::Relaxed) < u64::from(job.calls) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let begin = ript::clock::instant() + Duration::from_millis(100);
        self.start.send_replace(Some(begin));
        tokio::time::sleep_until((begin + AROUND).into()).await;
        let (cpu, came) = (cpu_ns(job.pid), self.sum(|t| &t.received));
        tokio::time::sleep(Duration::from_secs(job.seconds)).await;
        let (cpu_ns, relayed) = (cpu_ns(job.pid) - cpu, self.sum(|t| &t.received) - came);
        let total = self.tallies.len() as u64 * (job.seconds + 2 * AROUND.as_secs()) * 50;
        let rest = async {
            while self.sum(|t| &t.sent) < total || self.sum(|t| &t.received) < total {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        // What has not come by then is lost.
        let _ = tokio::time::timeout(AROUND + DRAIN, rest).await;
        Figure {
            cpu_ns,
            relayed,
            sent: self.sum(|t| &t.sent),
            received: self.sum(|t| &t.received),
            doubled: self.sum(|t| &t.doubled),
            misrouted: self.sum(|t| &t.misrouted),
            unheard: total / 2
                - self.tallies.iter().step_by(2).map(|t| t.received.load(Ordering::Relaxed)).sum::<u64>(),
            late: self.sum(|t| &t.late),
            relay_full: overflown(job.pid),
            load_full: overflown(std::process::id()),
        }
    }

    fn sum(&self, of: fn(&Tally) -> &AtomicU64) -> u64 {
        self.tallies.iter().map(|tally| of(tally).load(Ordering::Relaxed)).sum()
    }

    async fn browser(&self, call: u32) -> (Browser, String) {
        Browser::new(self.tallies[2 * call as usize].clone(), self.connected.clone()).await
    }

    fn other(&self, call: u32) -> Arc<Tally> {
        self.tallies[2 * call as usize + 1].clone()
    }

    /// A browser's call to a RIPT device, answered there.
    async fn camara(&mut self, call: u32, alice: &User, bob: User) {
        let handler = bob.register("phone", BOTH).await;
        let mut taps = bob.stream(&format!("push?handler={}", crate::common::user::encode(&handler))).await;
        let (mut browser, offer) = self.browser(call).await;
        let registration = create(alice, V03, DEVICE).await;
        let wanted = json!({
            "originatorAddress": format!("tel:{}", alice.number),
            "receiverAddress": format!("tel:{}", bob.number),
            "offer": {"sdp": offer},
        });
        let sessions = format!("{CALLS}/sessions");
        let made = ask_as(alice, &registration, "POST", &sessions, &wanted.to_string()).await;
        assert_eq!(made.status, 201, "{made:?}");
        let made = made.json();
        let id = made["mediaSessionId"].as_str().expect("an id");
        let tap = taps.next().await.expect("a tap");
        let leg = tap["call"].as_str().expect("a call").to_owned();
        let claimed = bob.claim(&leg, &handler, Some("answer")).await;
        assert_eq!(claimed.status, 200, "{claimed:?}");
        let mut events = bob.events(&leg, &handler, None).await;
        self.tasks.spawn(async move { while events.next_ever().await.is_some() {} });
        let answered = bob.event(&leg, &handler, json!({"event": "answered"})).await;
        assert_eq!(answered.status, 200, "{answered:?}");
        let session = soon("the answer", async {
            loop {
                let session = alice.get(&format!("{CALLS}/sessions/{id}")).await.json();
                if session["status"] == "Connected" {
                    return session;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        browser.take_answer(session["answer"]["sdp"].as_str().expect("an answer"));
        self.tasks.spawn(browser.run(self.go.clone()));
        let end = Ript::new(self.other(call));
        let ticket = bob.ticket(&leg, &handler).await.parse().expect("a URI");
        let opening = bob.client.open_session(ticket, HeaderMap::new(), end.clone());
        let session = soon("a session", opening).await.expect("a session");
        self.tasks.spawn(end.run(session, self.go.clone()));
        self.tasks.spawn(async move { while taps.next_ever().await.is_some() {} });
        self.users.push(bob);
    }

    /// A browser's call to a plain RTP device.
    async fn rtpengine(&mut self, call: u32, control: SocketAddr) {
        let control = Control::new(control);
        let name = format!("call{call}");
        let (mut browser, offer) = self.browser(call).await;
        let rtp = Rtp::new(self.other(call)).await;
        // The default candidate where browsers write it: rtpengine takes 0.0.0.0 for a call on hold.
        let audio = format!("m=audio {} ", browser.address.port());
        let offer = offer.replace("IN IP4 0.0.0.0", "IN IP4 127.0.0.1").replace("m=audio 9 ", &audio);
        let there = rtp_address(&control.offer(&name, &offer));
        rtp.socket.connect(there).await.expect("a way");
        let own = rtp.socket.local_addr().expect("an address").port();
        // RFC 5576 §4.1: plain RTP names no mid in its packets, and str0m, other than browsers, goes by no payload type.
        let answer = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {own} RTP/AVP 111\r\n\
             a=rtpmap:111 opus/48000/2\r\na=ptime:20\r\na=sendrecv\r\na=ssrc:{} cname:device\r\n",
            rtp.ssrc()
        );
        // RFC 8843 §7.3: str0m takes no answer that leaves the bundle of its offer, though it holds one line.
        let bundle = offer.lines().find(|line| line.starts_with("a=group:BUNDLE")).expect("a bundle");
        let answer = control.answer(&name, &answer).replace("t=0 0\r\n", &format!("t=0 0\r\n{bundle}\r\n"));
        browser.take_answer(&answer);
        self.tasks.spawn(browser.run(self.go.clone()));
        self.tasks.spawn(rtp.run(self.go.clone()));
    }
}

fn rtp_address(sdp: &str) -> SocketAddr {
    let port = sdp.lines().find_map(|line| line.strip_prefix("m=audio ")?.split(' ').next());
    SocketAddr::from(([127, 0, 0, 1], port.expect("audio").parse().expect("a port")))
}
