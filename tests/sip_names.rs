//! Servers of telephone networks by their domains: a small DNS server on loopback says where they are.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, OpCode};
use hickory_resolver::proto::rr::rdata::{A, NAPTR, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use ript::adapter::ims::{AccountSettings, Secret, Settings};
use ript::adapter::sip::{Beginning, Habits, Listen, Stack, TlsFiles, answer};
use ript::client::audio::AudioCodec;
use ript::protocol::event::Outcome;
use ript::service::rate::Rate;
use rsipstack::sip::{Method, Transport};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::client_calls::device;
use crate::common::soon;
use crate::sip_trunk::{free, rtp, trunk, world_with};

const ALICE: &str = "+442071838750";
const BOB: &str = "+14085550002";

/// A name's records, and how long they are good.
type Zone = HashMap<(&'static str, RecordType), (u32, Vec<RData>)>;

/// A DNS server of these records.
struct Dns {
    address: SocketAddr,
    /// What it was asked.
    asked: Arc<Mutex<Vec<(String, RecordType)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Dns {
    async fn start(zone: Zone) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<_>>> = Arc::default();
        let told = asked.clone();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 4_096];
            loop {
                let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
                let query = Message::from_vec(&buffer[..len]).unwrap();
                let question = query.queries[0].clone();
                let name = question.name().to_utf8().trim_end_matches('.').to_ascii_lowercase();
                told.lock().unwrap().push((name.clone(), question.query_type()));
                let mut answer = Message::response(query.metadata.id, OpCode::Query);
                answer.add_query(question.clone());
                let found = zone.iter().find(|((at, kind), _)| *at == name && *kind == question.query_type());
                if let Some((_, (ttl, records))) = found {
                    for data in records {
                        answer.add_answer(Record::from_rdata(question.name().clone(), *ttl, data.clone()));
                    }
                }
                socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        });
        Self { address, asked, task }
    }

    fn count(&self, name: &str, kind: RecordType) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == &(name.to_owned(), kind)).count()
    }
}

fn name(text: &str) -> Name {
    Name::from_utf8(format!("{text}.")).unwrap()
}

fn naptr(order: u16, service: &str, replacement: &str) -> RData {
    let word = |text: &str| text.as_bytes().to_vec().into_boxed_slice();
    RData::NAPTR(NAPTR::new(order, 10, word("S"), word(service), word(""), name(replacement)))
}

fn srv(priority: u16, port: u16, target: &str) -> RData {
    RData::SRV(SRV::new(priority, 10, port, name(target)))
}

fn host() -> Vec<RData> {
    vec![RData::A(A(Ipv4Addr::LOCALHOST))]
}

async fn somebody() -> (Arc<Stack>, mpsc::Receiver<Beginning>, u16) {
    let (stack, calls) = Stack::bind(&listen()).await.unwrap();
    let port = stack.address(Transport::Udp).port();
    (stack, calls, port)
}

fn listen() -> Listen {
    Listen {
        address: "127.0.0.1:0".parse().unwrap(),
        public: None,
        tls: None,
        files: TlsFiles::default(),
        peers: vec!["127.0.0.1".parse().unwrap()],
        rate: Rate::per_second(100),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_goes_through_all_that_naptr_and_srv_say_until_somebody_takes_it() {
    let (_full, mut refused, full) = somebody().await;
    let (_live, mut calls, live) = somebody().await;
    let dns = Dns::start(HashMap::from([
        (
            ("carrier.test", RecordType::NAPTR),
            (
                60,
                vec![
                    naptr(20, "SIP+D2U", "_sip._udp.carrier.test"),
                    naptr(10, "SIP+D2T", "_sip._tcp.carrier.test"),
                ],
            ),
        ),
        // Nobody listens there.
        (("_sip._tcp.carrier.test", RecordType::SRV), (60, vec![srv(1, free(), "gone.carrier.test")])),
        (
            ("_sip._udp.carrier.test", RecordType::SRV),
            (60, vec![srv(2, live, "b.carrier.test"), srv(1, full, "a.carrier.test")]),
        ),
        (("gone.carrier.test", RecordType::A), (60, host())),
        (("a.carrier.test", RecordType::A), (60, host())),
        (("b.carrier.test", RecordType::A), (60, host())),
    ]))
    .await;
    let way = trunk(free(), &["sip:carrier.test".to_owned()], "+44*", "+1*");
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { rtp: rtp(), dns: vec![dns.address], accounts: vec![], trunks: vec![way] };
    let (ours, _telephony) = world_with(folder.path(), settings).await;
    let alice = device(&ours, "alice", ALICE, &AudioCodec::ALL).await;
    let placed = soon("the placing", alice.place(BOB, None)).await.unwrap();
    let first = soon("the call at the first", refused.recv()).await.unwrap();
    first.responder.respond(answer(&first.request, 503, vec![]));
    let second = soon("the call at the next", calls.recv()).await.unwrap();
    assert_eq!(second.request.method, Method::Invite);
    second.responder.respond(answer(&second.request, 486, vec![]));
    let end = soon("the end", placed.ended()).await;
    assert_eq!((end.outcome, end.reason.as_str()), (Outcome::Declined, "busy"));
    assert!(dns.count("gone.carrier.test", RecordType::A) >= 1, "TCP, which NAPTR prefers, was tried first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_registers_where_its_domain_says() {
    let (_registrar, mut registers, port) = somebody().await;
    let dns = Dns::start(HashMap::from([
        (("_sip._udp.home.test", RecordType::SRV), (60, vec![srv(1, port, "a.home.test")])),
        (("a.home.test", RecordType::A), (60, host())),
    ]))
    .await;
    let account = AccountSettings {
        number: BOB.parse().unwrap(),
        identity: "sip:bob@home.test".to_owned(),
        user: "bob@home.test".to_owned(),
        secret: Secret::Password("secret".to_owned()),
        registrar: "sip:home.test".to_owned(),
        proxy: None,
        expires: Duration::from_secs(600),
        ims: false,
        always: true,
        way: trunk(free(), &[], "+44*", "+1*").way,
    };
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { rtp: rtp(), dns: vec![dns.address], accounts: vec![account], trunks: vec![] };
    let (_ours, _telephony) = world_with(folder.path(), settings).await;
    let register = soon("REGISTER", registers.recv()).await.unwrap();
    assert_eq!(register.request.uri.to_string(), "sip:home.test");
    assert_eq!(register.request.method, Method::Register);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_kept_as_long_as_they_say_and_longer_only_while_dns_is_silent() {
    let dns = Dns::start(HashMap::from([
        (("long.test", RecordType::A), (3_600, host())),
        (("short.test", RecordType::A), (0, host())),
    ]))
    .await;
    let habits = Habits { dns: vec![dns.address], ..Habits::default() };
    let (stack, _none) = Stack::bind_with(&listen(), habits).await.unwrap();
    for name in ["long.test", "short.test"] {
        for _ in 0..3 {
            let hops = stack.resolve(&format!("sip:{name}:5070;transport=tcp")).await.unwrap();
            assert_eq!(hops.len(), 1);
            assert_eq!((hops[0].address, hops[0].transport), (([127, 0, 0, 1], 5070).into(), Transport::Tcp));
        }
    }
    assert_eq!(dns.count("long.test", RecordType::A), 1);
    assert_eq!(dns.count("short.test", RecordType::A), 3);
    dns.task.abort();
    let _ = dns.task.await;
    let hops = stack.resolve("sip:short.test:5070;transport=tcp").await.unwrap();
    assert_eq!(hops[0].address.port(), 5070, "who was there is asked while nobody knows better");
    let error = stack.resolve("sip:never.test:5070").await.unwrap_err().to_string();
    assert!(error.contains("can't be looked up"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_whose_server_nobody_knows_hold_no_others_up() {
    // It takes questions, and answers none.
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (_live, mut calls, live) = somebody().await;
    let mut lost = trunk(free(), &["sip:lost.test".to_owned()], "+44*", "+1*");
    lost.name = "lost".to_owned();
    let fine = trunk(free(), &[format!("sip:127.0.0.1:{live}")], "+44*", "+49*");
    let folder = tempfile::tempdir().unwrap();
    let dns = vec![silent.local_addr().unwrap()];
    let settings = Settings { rtp: rtp(), dns, accounts: vec![], trunks: vec![lost, fine] };
    let (ours, _telephony) = world_with(folder.path(), settings).await;
    let alice = device(&ours, "alice", ALICE, &AudioCodec::ALL).await;
    let nowhere = async {
        match alice.place(BOB, None).await {
            Ok(placed) => placed.ended().await.reason,
            Err(refused) => refused.code().to_owned(),
        }
    };
    let fine = async {
        let placed = alice.place("+493012345", None).await.unwrap();
        let call = calls.recv().await.unwrap();
        call.responder.respond(answer(&call.request, 486, vec![]));
        placed.ended().await.reason
    };
    let (lost, fine) = soon("both", async { tokio::join!(nowhere, fine) }).await;
    assert_eq!(fine, "busy");
    // A client that asks again, as on a machine that is busy, is told that it has asked.
    assert!(["bad-gateway", "passport-replay"].contains(&lost.as_str()), "{lost}");
}
