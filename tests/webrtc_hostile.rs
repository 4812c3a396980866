//! What nobody asked for at the WebRTC port: dropped, counted, and the call that goes on there does not notice.

use std::net::SocketAddr;
use std::time::Duration;

use ript::adapter::webrtc::{Drops, Leg, LegEvent, WebRtc};
use ript::client::audio::{AudioCodec, CALLER};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::common::browser::Browser;
use crate::common::soon;

struct Session {
    webrtc: WebRtc,
    at: SocketAddr,
    browser: Browser,
    answer: String,
    _leg: Leg,
    _events: mpsc::Receiver<LegEvent>,
}

async fn session() -> Session {
    let webrtc = WebRtc::bind("127.0.0.1:0".parse().unwrap(), &[], 4).unwrap();
    let at = webrtc.addresses()[0];
    let browser = Browser::new(&[AudioCodec::Opus], CALLER).await;
    let (leg, mut events) = webrtc.session().unwrap();
    let answer = leg.offered(browser.offer().await).await.unwrap().sdp;
    browser.take_answer(&answer).await;
    soon("a connection", async { while events.recv().await != Some(LegEvent::Connected) {} }).await;
    Session { webrtc, at, browser, answer, _leg: leg, _events: events }
}

impl Session {
    /// Waits until that was counted.
    async fn counted(&self, what: &str, enough: impl Fn(Drops) -> bool) {
        soon(what, async {
            while !enough(self.webrtc.drops()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// An SRTP packet of the browser's.
    async fn sent(&self) -> Vec<u8> {
        soon("a packet of the browser's", async {
            loop {
                let sent = self.browser.heard.lock().unwrap().sent.clone();
                if !sent.is_empty() {
                    return sent;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }

    async fn stranger(&self) -> UdpSocket {
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        stranger.connect(self.at).await.unwrap();
        stranger
    }
}

/// A Binding request for that user fragment; with a signature that is no use.
fn check(name: &str) -> Vec<u8> {
    let user = format!("{name}:abcd");
    let mut attributes = vec![0, 6];
    attributes.extend(u16::try_from(user.len()).unwrap().to_be_bytes());
    attributes.extend(user.as_bytes());
    attributes.resize(attributes.len().next_multiple_of(4), 0);
    attributes.extend([0, 8, 0, 20]);
    attributes.extend([7; 20]);
    let len = u16::try_from(attributes.len()).unwrap().to_be_bytes();
    [&[0, 1], &len[..], &[0x21, 0x12, 0xa4, 0x42], &[9; 12], &attributes].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_not_heard_and_get_no_answer() {
    let session = session().await;
    let stranger = session.stranger().await;
    let srtp = session.sent().await;
    let hello = [&[22, 254, 253][..], &[0; 40]].concat();
    for datagram in [check("nobody"), srtp, hello, vec![0x80; 60], vec![0; 20]] {
        stranger.send(&datagram).await.unwrap();
    }
    session.counted("strangers", |drops| drops.strangers >= 4).await;
    for garbage in [&[255; 30][..], &[64; 5], &[]] {
        stranger.send(garbage).await.unwrap();
    }
    session.counted("garbage", |drops| drops.garbage >= 2).await;
    let mut buffer = [0; 100];
    assert!(stranger.try_recv(&mut buffer).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_that_are_not_signed_open_no_way_in() {
    let session = session().await;
    let name = session.answer.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).unwrap();
    let stranger = session.stranger().await;
    for _ in 0..2_000 {
        stranger.send(&check(name.trim())).await.unwrap();
    }
    let srtp = session.sent().await;
    let before = session.webrtc.drops().strangers;
    soon("the packet after the checks", async {
        while session.webrtc.drops().strangers == before {
            stranger.send(&srtp).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    // And the session goes on as before.
    let offer = session.browser.offer_as(true, str0m::media::Direction::SendRecv).await;
    session._leg.offered(offer).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_packet_is_dropped_and_counted() {
    let session = session().await;
    let srtp = session.sent().await;
    let before = session.webrtc.drops().refused;
    for _ in 0..3 {
        session.browser.send_raw(session.at, srtp.clone());
    }
    session.counted("replays", |drops| drops.refused >= before + 3).await;
    for garbage in [[&[22, 254, 253][..], &[1; 60]].concat(), [&[0x80, 0x6f][..], &[3; 50]].concat()] {
        session.browser.send_raw(session.at, garbage);
    }
    session.counted("garbage from a known address", |drops| drops.refused >= before + 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_so_many_sessions_and_each_ends_with_its_owner() {
    let webrtc = WebRtc::bind("127.0.0.1:0".parse().unwrap(), &[], 2).unwrap();
    let (first, second) = (webrtc.session().unwrap(), webrtc.session().unwrap());
    assert!(webrtc.session().is_none());
    drop(first);
    soon("a free place", async {
        while webrtc.session().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    drop(second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptions_that_are_no_use_are_refused_and_change_nothing() {
    let session = session().await;
    let good = session.browser.offer_as(true, str0m::media::Direction::SendRecv).await;
    let without = |prefix: &str| {
        let lines = good.lines().filter(|line| !line.starts_with(prefix));
        lines.map(|line| format!("{line}\r\n")).collect::<String>()
    };
    let candidates = "a=candidate:1 1 udp 1 10.0.0.1 5 typ host\r\n".repeat(500);
    for bad in [
        String::new(),
        "v=0".to_owned(),
        "x".repeat(70_000),
        without("a=ice-ufrag"),
        without("a=ice-pwd"),
        without("a=fingerprint"),
        without("m="),
        format!("{good}{candidates}"),
        format!("{good}a=ice-lite\r\n"),
    ] {
        let why = session._leg.offered(bad.clone()).await.unwrap_err().to_string();
        assert!(why.len() > 20, "{why}");
    }
    assert!(session._leg.answered(good.clone()).await.is_err());
    session._leg.offered(good).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_refused_leaves_the_offer_waiting_for_a_good_one() {
    let webrtc = WebRtc::bind("127.0.0.1:0".parse().unwrap(), &[], 4).unwrap();
    let browser = Browser::new(&[AudioCodec::Opus], CALLER).await;
    let (leg, mut events) = webrtc.session().unwrap();
    // The first round opens the session, the second adds video to it.
    for video in [false, true] {
        let good = browser.answer(&leg.offer(video).await.unwrap()).await;
        let with = |from: &str, to: &str| {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from} is in\n{good}");
            bad
        };
        let media = good.find("m=").unwrap();
        let mut refused = vec![
            with("a=mid:", "a=mid:x"),
            with("a=sendrecv", "a=sendrecv\r\na=inactive"),
            with("a=rtpmap:", "a=x-rtpmap:"),
            with("a=setup:", "a=setup:active\r\na=setup:"),
            with("m=audio", "m=video"),
            good.replace("a=ice-pwd:", "a=x-pwd:"),
            good.replace("a=fingerprint:", "a=x-print:"),
            format!("{good}m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:more\r\na=sendrecv\r\n"),
            good[..media].to_owned(),
            good.replace("\r\n", " "),
        ];
        if video {
            // RFC 8839 §4.4.1.1.1: nobody asked for that.
            refused.push(good.replace("a=ice-ufrag:", "a=ice-ufrag:other"));
            refused.push(good[..good.find("m=video").unwrap()].to_owned());
        }
        for bad in refused {
            let why = leg.answered(bad.clone()).await.expect_err(&bad).to_string();
            assert!(why.len() > 20 && !why.contains("waits"), "{why}");
        }
        leg.answered(good.clone()).await.unwrap();
        // RFC 3264 §4: one answer an offer.
        assert!(leg.answered(good).await.unwrap_err().to_string().contains("waits"));
        if !video {
            soon("a connection", async { while events.recv().await != Some(LegEvent::Connected) {} }).await;
        }
    }
    // Audio and video are both agreed on.
    assert!(leg.offer(true).await.unwrap_err().to_string().contains("nothing to offer"));
}
