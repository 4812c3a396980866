//! Media byways: one `PUT` or `GET` a chunk, on HTTP/3 and HTTP/1.1, alone and beside sessions.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use ript::protocol::ack::{Ack, NeedWhole, Nonce};
use ript::protocol::chunk::{Chunk, ControlType, Kind, frames, put_frame};
use ript::resource;
use ript::transport::{Limits, tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::common::media::{Pair, audio, made, read};
use crate::common::user::{Answer, BOTH, User, encode};
use crate::common::{World, soon};

const CHUNKS: &str = "application/vnd.ript.chunks";

/// A device that uses byways.
#[derive(Clone)]
struct Byways {
    client: ript::transport::client::H3Client,
    /// Over TCP instead.
    tcp: Option<(std::net::SocketAddr, Arc<rustls::ClientConfig>)>,
    uri: String,
    headers: HeaderMap,
}

impl Byways {
    fn h3(user: &User, call: &str, handler: &str) -> Self {
        let uri = format!("{call}/media?handler={}", encode(handler));
        Self { client: user.client.clone(), tcp: None, uri, headers: user.bearer() }
    }

    fn h1(world: &World, user: &User, call: &str, handler: &str) -> Self {
        let tls = tls::tcp_client(tls::roots(Some(&world.ca)).unwrap(), &["http/1.1"]).unwrap();
        Self { tcp: Some((world.address, Arc::new(tls))), ..Self::h3(user, call, handler) }
    }

    fn both(world: &World, user: &User, call: &str, handler: &str) -> [Self; 2] {
        [Self::h3(user, call, handler), Self::h1(world, user, call, handler)]
    }

    async fn request(&self, method: &str, query: &str, body: Bytes) -> Answer {
        let uri = format!("{}{query}", self.uri);
        if self.tcp.is_some() {
            return soon("an answer", self.http1(method, &uri, &body)).await;
        }
        let mut request = Request::builder().method(method).uri(uri);
        if method == "PUT" {
            request = request.header("content-length", body.len()).header("content-type", CHUNKS);
        }
        let mut request = request.body(Body::from(body)).unwrap();
        request.headers_mut().extend(self.headers.clone());
        let (parts, body) = soon("an answer", self.client.request(request)).await.unwrap().into_parts();
        let body = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn http1(&self, method: &str, uri: &str, body: &[u8]) -> Answer {
        let (address, tls) = self.tcp.as_ref().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = "127.0.0.1".try_into().unwrap();
        let mut stream = TlsConnector::from(tls.clone()).connect(name, stream).await.unwrap();
        let path = uri.split_once("://").unwrap().1;
        let (host, path) = path.split_at(path.find('/').unwrap());
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        let mut all = Vec::new();
        // What is not TLS's own farewell is of no interest here.
        let _ = stream.read_to_end(&mut all).await;
        let end = all.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
        let head = std::str::from_utf8(&all[..end]).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse::<StatusCode>().unwrap();
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        };
        let headers = lines.map(field).collect();
        Answer { status, headers, body: Bytes::copy_from_slice(&all[end + 4..]) }
    }

    async fn put(&self, chunks: &[&[u8]]) -> Answer {
        let mut body = BytesMut::new();
        chunks.iter().for_each(|chunk| put_frame(chunk, &mut body));
        self.request("PUT", "", body.freeze()).await
    }

    async fn get(&self, n: usize) -> Answer {
        self.request("GET", &format!("&n={n}"), Bytes::new()).await
    }

    /// The same without a bearer, with a cookie.
    fn with_cookie(&self, cookie: &str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", format!("other=1; {cookie}").parse().unwrap());
        Self { headers, ..self.clone() }
    }
}

fn chunks(answer: &Answer) -> Vec<Bytes> {
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, CHUNKS), "{answer:?}");
    frames(&answer.body).map(|frame| Bytes::copy_from_slice(frame.unwrap())).collect()
}

/// The ack in an answer.
fn ack(answer: &Answer) -> Option<Ack> {
    let all = chunks(answer);
    let found = all.iter().map(|c| Chunk::parse(c).unwrap());
    found.filter(|c| c.kind == Kind::Control(ControlType::Ack)).map(|c| Ack::parse(c.package).unwrap()).last()
}

fn media(answer: &Answer) -> Bytes {
    let all = chunks(answer);
    let mut found = all.iter().filter(|c| Chunk::parse(c).unwrap().kind == Kind::Media);
    let one = found.next().expect("a media chunk").clone();
    assert!(found.next().is_none(), "at most one media chunk in a body");
    one
}

fn problem(answer: &Answer) -> (u16, String) {
    answer.problem()
}

/// Sends numbered chunks until all waiting requests have got one each.
async fn answer_all(waiting: &mut JoinSet<Answer>, mut send: impl AsyncFnMut(u64)) -> HashSet<u64> {
    let mut got = HashSet::new();
    let mut seq = 0;
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    soon("an answer to every GET", async {
        while !waiting.is_empty() {
            tokio::select! {
                biased;
                Some(answer) = waiting.join_next() => {
                    let (seq, ..) = read(&media(&answer.unwrap()));
                    assert!(got.insert(seq), "{seq} came twice");
                }
                _ = tick.tick() => {
                    send(seq).await;
                    seq += 1;
                }
            }
        }
    })
    .await;
    got
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_is_acknowledged_in_its_answer_and_its_chunk_arrives() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let mut bob = pair.bob.media(&pair.theirs, &pair.b1).await;
    let mut seq = 0;
    for byways in Byways::both(&world, &pair.alice, &pair.mine, &pair.a1) {
        for _ in 0..3 {
            let chunk = audio(seq, seq * 20, true, b"by way");
            let answer = byways.put(&[&chunk]).await;
            assert_eq!(answer.header("cache-control"), "no-store");
            let ack = ack(&answer).expect("an ack in the answer");
            assert_eq!((ack.newest, &ack.runs[..]), (seq, &[seq + 1][..]));
            assert_eq!(bob.media().await, chunk);
            seq += 1;
        }
        // A probe beside media, and control chunks alone.
        let mut probe = BytesMut::new();
        Nonce::new(b"nonce").unwrap().encode_probe(&mut probe);
        let answer = byways.put(&[&probe, &audio(seq, seq * 20, true, b"x")]).await;
        seq += 1;
        bob.media().await;
        let all = chunks(&answer);
        let back = all
            .iter()
            .map(|c| Chunk::parse(c).unwrap())
            .find(|c| c.kind == Kind::Control(ControlType::ProbeAnswer));
        assert_eq!(back.unwrap().package, b"nonce");
        assert!(chunks(&byways.put(&[]).await).is_empty());
        // A chunk that comes twice is acknowledged again: the first answer may have been lost.
        let again = byways.put(&[&audio(seq - 1, (seq - 1) * 20, true, b"x")]).await;
        assert_eq!(ack(&again).unwrap().newest, seq - 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_gets_wait_and_each_gets_one_chunk() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let alice = pair.alice.media(&pair.mine, &pair.a1).await;
    for (round, byways) in (0..).zip(Byways::both(&world, &pair.bob, &pair.theirs, &pair.b1)) {
        let mut waiting = JoinSet::new();
        for n in 0..20 {
            let byways = byways.clone();
            waiting.spawn(async move { byways.get(n).await });
        }
        let base = round * 10_000;
        // Offsets apart, so that no chunk of the first round is taken for one of the second.
        let sent = std::cell::Cell::new(base);
        let got = answer_all(&mut waiting, async |n| {
            sent.set(base + n);
            alice.send(&audio(base + n, (base + n) * 20, true, b"x"));
        })
        .await;
        assert!(got.len() == 20 && got.iter().all(|seq| (base..=sent.get()).contains(seq)), "{got:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_get_is_answered_204() {
    let resources =
        resource::Settings { media_idle: Duration::from_millis(200), ..resource::Settings::default() };
    let world = World::serving(resources, Limits::default()).await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    for byways in Byways::both(&world, &pair.alice, &pair.mine, &pair.a1) {
        let answer = byways.get(1).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cookie_spares_the_bearer_for_that_call_and_device_only() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let mut bob = pair.bob.media(&pair.theirs, &pair.b1).await;
    let byways = Byways::h3(&pair.alice, &pair.mine, &pair.a1);
    let answer = byways.put(&[&audio(0, 0, true, b"x")]).await;
    let cookie = answer.header("set-cookie").to_owned();
    let path = pair.mine.split_once("://").unwrap().1;
    let path = &path[path.find('/').unwrap()..];
    for part in ["ript-media=", &format!("Path={path}/media"), "HttpOnly", "Secure"] {
        assert!(cookie.contains(part), "{part} in {cookie}");
    }
    let cookie = cookie.split(';').next().unwrap();
    bob.media().await;

    let chunk = audio(1, 20, true, b"y");
    let answer = byways.with_cookie(cookie).put(&[&chunk]).await;
    assert_eq!((ack(&answer).unwrap().newest, answer.header("set-cookie")), (1, ""));
    assert_eq!(bob.media().await, chunk);
    // It names the device by itself.
    let mut nameless = byways.with_cookie(cookie);
    nameless.uri = format!("{}/media?x=1", pair.mine);
    let chunk = audio(2, 40, true, b"z");
    assert_eq!(ack(&nameless.put(&[&chunk]).await).unwrap().newest, 2);
    assert_eq!(bob.media().await, chunk);

    let a2 = pair.alice.register("a2", BOTH).await;
    let other_call = pair.alice.call(&pair.a1, &pair.bob.number).await["uri"].as_str().unwrap().to_owned();
    let unauthorized = (401, "unauthorized".to_owned());
    for (call, handler) in [(&other_call, &pair.a1), (&pair.mine, &a2), (&pair.theirs, &pair.b1)] {
        let other = Byways::h3(&pair.alice, call, handler).with_cookie(cookie);
        assert_eq!(problem(&other.put(&[]).await), unauthorized);
    }
    for forged in ["ript-media=", "ript-media=a.b.c.d", &cookie[..cookie.len() - 2]] {
        assert_eq!(problem(&byways.with_cookie(forged).get(1).await), unauthorized);
    }
    // 401 means: use the bearer again; a bad cookie beside a bearer does no harm.
    let mut both = byways.with_cookie("ript-media=a.b.c.d");
    both.headers.extend(pair.alice.bearer());
    assert_eq!(both.put(&[]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_bodies_are_refused_and_the_call_goes_on() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let mut bob = pair.bob.media(&pair.theirs, &pair.b1).await;
    let bad_chunk = (400, "bad-chunk".to_owned());
    let both = Byways::both(&world, &pair.alice, &pair.mine, &pair.a1);
    for (seq, byways) in (0u64..).zip(both) {
        let two = byways.put(&[&audio(900, 0, true, b"a"), &audio(901, 20, true, b"b")]).await;
        assert_eq!(problem(&two), bad_chunk);
        let mut cut = BytesMut::new();
        put_frame(&audio(902, 0, true, b"cut"), &mut cut);
        cut.truncate(cut.len() - 1);
        assert_eq!(problem(&byways.request("PUT", "", cut.freeze()).await), bad_chunk);
        assert_eq!(problem(&byways.request("PUT", "", Bytes::from_static(&[0x20, 1])).await), bad_chunk);
        assert_eq!(problem(&byways.put(&[&[0xff; 20]]).await), bad_chunk);
        let large = audio(903, 0, true, &[0; 66_000]);
        assert_eq!(problem(&byways.put(&[&large]).await), (413, "too-large".to_owned()));
        // HTTP/1.1 has no way to say so to a client that still writes.
        if byways.tcp.is_none() {
            let huge = byways.request("PUT", "", Bytes::from(vec![0; 200_000])).await;
            assert_eq!(problem(&huge), (413, "too-large".to_owned()));
        }
        // Nothing of all that went through; a stream that nobody named is a counted drop.
        let mut header = ript::protocol::chunk::MediaHeader { source: 9, ..Default::default() };
        header.seq = 5;
        assert!(ack(&byways.put(&[&made(&header, b"x")]).await).is_none());
        let good = audio(seq, seq * 20, true, &[9; 60_000]);
        assert_eq!(ack(&byways.put(&[&good]).await).unwrap().newest, seq);
        assert_eq!(bob.media().await, good);
    }
    assert_eq!(world.port(&pair.mine).drops().unnamed, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_of_an_ended_call_is_gone_for_those_who_wait_too() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let [over_h3, over_h1] = Byways::both(&world, &pair.alice, &pair.mine, &pair.a1);
    let mut waiting = JoinSet::new();
    for byways in [&over_h3, &over_h1] {
        // Its byways are open once this is answered.
        byways.put(&[]).await;
        let byways = byways.clone();
        waiting.spawn(async move { byways.get(1).await });
    }
    pair.by_bob("end").await;
    let gone = (410, "call-ended".to_owned());
    while let Some(answer) = waiting.join_next().await {
        assert_eq!(problem(&answer.unwrap()), gone);
    }
    for byways in [over_h3, over_h1] {
        assert_eq!(problem(&byways.put(&[&audio(0, 0, true, b"x")]).await), gone);
        assert_eq!(problem(&byways.get(1).await), gone);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_side_on_a_session_and_the_other_on_byways() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let mut alice = pair.alice.media(&pair.mine, &pair.a1).await;
    for (round, byways) in (0u64..).zip(Byways::both(&world, &pair.bob, &pair.theirs, &pair.b1)) {
        let mut waiting = JoinSet::new();
        let get = byways.clone();
        waiting.spawn(async move { get.get(1).await });
        let mut seq = round * 1000;
        answer_all(&mut waiting, async |_| {
            alice.send(&audio(seq, seq * 20, false, b"short"));
            alice.send(&audio(seq, seq * 20, true, b"whole"));
            seq += 1;
        })
        .await;
        let chunk = audio(round, round * 20, true, b"back");
        assert_eq!(ack(&byways.put(&[&chunk]).await).unwrap().newest, round);
        assert_eq!(alice.media().await, chunk);
    }
    // A need-whole reaches the one on byways in an answer.
    let b2 = pair.bob.register("b2", BOTH).await;
    let fresh = Byways::h3(&pair.bob, &pair.theirs, &b2);
    let answer = fresh.put(&[&audio(7, 140, false, b"?")]).await;
    let need = chunks(&answer);
    let need = Chunk::parse(&need[0]).unwrap();
    assert_eq!(need.kind, Kind::Control(ControlType::NeedWhole));
    assert_eq!(NeedWhole::parse(need.package), Ok(NeedWhole { source: 1, sink: 1 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_both_paths_open_what_came_on_one_is_dropped_on_the_other() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let (mut alice, mut bob) = pair.media().await;
    let byways = Byways::h3(&pair.alice, &pair.mine, &pair.a1);
    for seq in 0..5 {
        let chunk = audio(seq, seq * 20, true, b"x");
        alice.send(&chunk);
        alice.settle().await;
        byways.put(&[&chunk]).await;
        let next = audio(seq + 100, (seq + 100) * 20, true, b"y");
        byways.put(&[&next]).await;
        alice.send(&next);
        alice.settle().await;
        assert_eq!([bob.media().await, bob.media().await], [chunk, next]);
    }
    assert_eq!(world.port(&pair.mine).drops().repeated, 10);
    // The session answered just now, so it is used.
    bob.send(&audio(0, 0, true, b"back"));
    bob.settle().await;
    alice.media().await;
}
