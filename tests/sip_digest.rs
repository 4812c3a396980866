//! A trunk whose far side asks for a password: a small SIP peer on a UDP socket, which checks each answer by itself.

use std::net::SocketAddr;

use md5::Digest as _;
use ript::client::audio::AudioCodec;
use ript::protocol::event::{Outcome, State};
use rsipstack::sip::{Method, Request, SipMessage};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::client_calls::device;
use crate::common::soon;
use crate::operator::until;
use crate::sip_trunk::{free, trunk, world};

const ALICE: &str = "+442071838750";
const BOB: &str = "+14085550002";
const SDP: &str =
    "v=0\r\no=- 2 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9002 RTP/AVP 0\r\n";

/// What the peer does with a request.
enum Does {
    /// 407 with these challenges.
    Challenge(&'static [&'static str]),
    /// Takes it, if its answer to this challenge is right.
    Take { algorithm: &'static str, nonce: &'static str, count: u32 },
}

/// A request's CSeq, and whether its answer was as it had to be.
type Came = (String, Result<(), String>);

struct Peer {
    socket: UdpSocket,
    address: SocketAddr,
}

fn hex(algorithm: &str, text: &str) -> String {
    let bytes = match algorithm {
        "MD5" => md5::Md5::digest(text).to_vec(),
        "SHA-256" => ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref().to_vec(),
        other => panic!("{other}"),
    };
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn header(request: &Request, name: &str) -> Option<String> {
    let found = request.headers.iter().find(|header| header.name().eq_ignore_ascii_case(name));
    found.map(|header| header.value().to_owned())
}

/// Whether the request answers the challenge, by RFC 7616 §3.4.1 and the password that the peer knows.
fn check(request: &Request, algorithm: &str, nonce: &str, count: u32) -> Result<(), String> {
    let value = header(request, "Proxy-Authorization").ok_or("no answer")?;
    let field = |name: &str| {
        let found = value.trim_start_matches("Digest ").split(", ").find_map(|part| {
            part.split_once('=')
                .filter(|(at, _)| *at == name)
                .map(|(_, text)| text.trim_matches('"').to_owned())
        });
        found.unwrap_or_default()
    };
    let (method, uri) = (request.method.to_string(), field("uri"));
    if uri != request.uri.to_string() {
        return Err(format!("{uri} is not the Request-URI"));
    }
    let said = [field("algorithm"), field("nonce"), field("nc"), field("qop"), field("username")];
    let wanted = [algorithm, nonce, &format!("{count:08x}"), "auth", "ript"];
    if said != wanted {
        return Err(format!("{said:?} instead of {wanted:?}"));
    }
    let key = hex(algorithm, "ript:carrier.test:secret");
    let what = hex(algorithm, &format!("{method}:{uri}"));
    let (nc, cnonce) = (field("nc"), field("cnonce"));
    let right = hex(algorithm, &format!("{key}:{nonce}:{nc}:{cnonce}:auth:{what}"));
    if field("response") == right { Ok(()) } else { Err("the response is wrong".to_owned()) }
}

impl Peer {
    async fn bind() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        Self { socket, address }
    }

    async fn respond(&self, request: &Request, status: &str, more: &str, body: &str, to: SocketAddr) {
        let mut out = format!("SIP/2.0 {status}\r\n");
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            let tag = if name == "To" && !header(request, "To").unwrap().contains("tag=") {
                ";tag=peer"
            } else {
                ""
            };
            out += &format!("{name}: {}{tag}\r\n", header(request, name).unwrap());
        }
        out += &format!(
            "Contact: <sip:peer@{}>\r\n{more}Content-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        self.socket.send_to(out.as_bytes(), to).await.unwrap();
    }

    /// Does this with each request but ACK in turn, and the last of it with all that follow; tells what came.
    async fn serve(self, does: Vec<Does>, tell: mpsc::UnboundedSender<Came>) {
        let mut buffer = vec![0; 65_536];
        let (mut turn, mut seen) = (0, Vec::new());
        loop {
            let (len, from) = self.socket.recv_from(&mut buffer).await.unwrap();
            let Ok(SipMessage::Request(request)) = SipMessage::try_from(&buffer[..len]) else { continue };
            if request.method == Method::Ack {
                continue;
            }
            let cseq = header(&request, "CSeq").unwrap();
            if !seen.contains(&cseq) {
                seen.push(cseq.clone());
                turn += 1;
            }
            // A retransmission is answered as it was before.
            let verdict = match &does[(turn - 1).min(does.len() - 1)] {
                Does::Challenge(challenges) => {
                    let lines = challenges.iter().map(|text| format!("Proxy-Authenticate: {text}\r\n"));
                    let lines: String = lines.collect();
                    self.respond(&request, "407 Proxy Authentication Required", &lines, "", from).await;
                    Ok(())
                }
                Does::Take { algorithm, nonce, count } => {
                    let verdict = check(&request, algorithm, nonce, *count);
                    let (kind, body) = match request.method {
                        Method::Invite => ("Content-Type: application/sdp\r\n", SDP),
                        _ => ("", ""),
                    };
                    self.respond(&request, "200 OK", kind, body, from).await;
                    verdict
                }
            };
            let _ = tell.send((cseq, verdict));
        }
    }
}

/// A call over a trunk to such a peer: what came there, and how the call ended.
async fn call(does: Vec<Does>, answered: bool) -> (Vec<Came>, Outcome, String) {
    let peer = Peer::bind().await;
    let folder = tempfile::tempdir().unwrap();
    let mut way = trunk(free(), &[format!("sip:{}", peer.address)], "+44*", "+1*");
    way.login = Some(("ript".to_owned(), "secret".to_owned()));
    let (tell, mut came) = mpsc::unbounded_channel();
    let serving = tokio::spawn(peer.serve(does, tell));
    let (ours, _telephony) = world(folder.path(), vec![way]).await;
    let alice = device(&ours, "alice", ALICE, &AudioCodec::ALL).await;
    let placed = soon("the placing", alice.place(BOB, None)).await.unwrap();
    let mut all = Vec::new();
    if answered {
        until(&placed, State::Answered).await;
        soon("the end", placed.end()).await.unwrap();
        soon("BYE", async {
            while all.last().is_none_or(|(cseq, _): &Came| !cseq.ends_with("BYE")) {
                all.push(came.recv().await.unwrap());
            }
        })
        .await;
    }
    let end = soon("the end", placed.ended()).await;
    serving.abort();
    while let Ok(one) = came.try_recv() {
        all.push(one);
    }
    // What UDP repeated came once.
    all.dedup();
    (all, end.outcome, end.reason)
}

fn right(all: &[&str]) -> Vec<Came> {
    all.iter().map(|cseq| ((*cseq).to_owned(), Ok(()))).collect()
}

const TWO: &[&str] = &[
    "Digest realm=\"carrier.test\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"",
    "Digest realm=\"carrier.test\", nonce=\"n1\", algorithm=SHA-256, qop=\"auth,auth-int\"",
];
const MD5: &[&str] = &["Digest realm=\"carrier.test\", nonce=\"n1\", algorithm=MD5, qop=\"auth\""];
const STALE: &[&str] =
    &["Digest realm=\"carrier.test\", nonce=\"n2\", algorithm=MD5, qop=\"auth\", stale=true"];
const ANEW: &[&str] = &["Digest realm=\"carrier.test\", nonce=\"n2\", algorithm=MD5, qop=\"auth\""];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_strongest_challenge_is_answered_and_each_further_request_counts() {
    for (challenges, algorithm) in [(TWO, "SHA-256"), (MD5, "MD5")] {
        let take = |count| Does::Take { algorithm, nonce: "n1", count };
        let (came, outcome, _) = call(vec![Does::Challenge(challenges), take(1), take(2)], true).await;
        // The INVITE, its answer, and BYE, which answers unasked.
        assert_eq!(came, right(&["1 INVITE", "2 INVITE", "3 BYE"]));
        assert_eq!(outcome, Outcome::Completed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nonce_that_is_only_too_old_is_followed_by_one_more_answer() {
    let take = |count| Does::Take { algorithm: "MD5", nonce: "n2", count };
    let does = vec![Does::Challenge(MD5), Does::Challenge(STALE), take(1), take(2)];
    let (came, outcome, _) = call(does, true).await;
    assert_eq!(came, right(&["1 INVITE", "2 INVITE", "3 INVITE", "4 BYE"]));
    assert_eq!(outcome, Outcome::Completed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_password_is_not_tried_again_and_the_caller_is_told() {
    let does = vec![Does::Challenge(MD5), Does::Challenge(ANEW), Does::Challenge(ANEW)];
    let (came, outcome, reason) = call(does, false).await;
    assert_eq!(came, right(&["1 INVITE", "2 INVITE"]));
    assert_eq!((outcome, reason.as_str()), (Outcome::Failed, "unauthorized"));
}
