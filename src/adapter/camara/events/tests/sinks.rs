//! Sinks that lead, or seem to lead, into our own network.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::TcpListener;

use super::super::line::Step;
use super::super::{Subscriptions, sink};
use super::webhook::Webhook;
use super::*;
use crate::adapter::camara::SinkSettings;
use crate::adapter::camara::error::Code;
use crate::clock;
use crate::identity::devca::DevCa;
use crate::service::fetch::{FetchError, Fetcher, Lookup, Settings};
use crate::service::{StoreHandle, lock};
use crate::store::memory::MemoryStore;

/// URLs; `{p}` is the port of the traps.
const URLS: &[&str] = &[
    "https://127.0.0.1:{p}/",
    "https://127.0.0.1:{p}",
    "https://127.1:{p}/",
    "https://127.0.1:{p}/",
    "https://127.255.255.254:{p}/",
    "https://2130706433:{p}/",
    "https://0x7f000001:{p}/",
    "https://0X7F.0.0.1:{p}/",
    "https://0x7f.1:{p}/",
    "https://0177.0.0.1:{p}/",
    "https://017700000001:{p}/",
    "https://127.0.0.1.:{p}/",
    "https://1%32%37.0.0.1:{p}/",
    "https://①②⑦.⓪.⓪.①:{p}/",
    "https://127。0。0。1:{p}/",
    "https://0:{p}/",
    "https://0.0.0.0:{p}/",
    "https://134744072:{p}/",
    "https://0x08080808:{p}/",
    "https://8.8.2056:{p}/",
    "https://010.8.8.8:{p}/",
    "https://8.8.8.0x8:{p}/",
    "https://[::1]:{p}/",
    "https://[::]:{p}/",
    "https://[0:0:0:0:0:0:0:1]:{p}/",
    "https://[::ffff:127.0.0.1]:{p}/",
    "https://[::ffff:7f00:1]:{p}/",
    "https://[::ffff:8.8.8.8]:{p}/",
    "https://[::127.0.0.1]:{p}/",
    "https://[64:ff9b::7f00:1]:{p}/",
    "https://[64:ff9b:1::7f00:1]:{p}/",
    "https://[2002:7f00:1::]:{p}/",
    "https://[2001::1]:{p}/",
    "https://[2001:db8::1]:{p}/",
    "https://[fc00::1]:{p}/",
    "https://[fd12:3456::1]:{p}/",
    "https://[fe80::1]:{p}/",
    "https://[fe80::1%25lo]:{p}/",
    "https://[fec0::1]:{p}/",
    "https://[ff02::1]:{p}/",
    "https://10.0.0.1:{p}/",
    "https://172.16.0.1:{p}/",
    "https://172.31.255.255:{p}/",
    "https://192.168.1.1:{p}/",
    "https://169.254.169.254/latest/meta-data",
    "https://100.64.0.1:{p}/",
    "https://192.0.0.1:{p}/",
    "https://192.0.2.1:{p}/",
    "https://198.18.0.1:{p}/",
    "https://198.51.100.1:{p}/",
    "https://203.0.113.1:{p}/",
    "https://224.0.0.1:{p}/",
    "https://255.255.255.255:{p}/",
    "https://240.0.0.1:{p}/",
    "https://localhost:{p}/",
    "https://LOCALHOST:{p}/",
    "https://localhost.:{p}/",
    "https://a.localhost:{p}/",
    "https://user@127.0.0.1:{p}/",
    "https://user:password@hook.example/",
    "https://hook.example@127.0.0.1:{p}/",
    "https://hook.example:443@127.0.0.1:{p}/",
    "https://hook.example\\@127.0.0.1:{p}/",
    "https://hook.example\t/",
    "https://hook.example/\r\nx-a: b",
    "https://hook.example/#127.0.0.1",
    "https://hook.example:99999/",
    "https://hook.example:x/",
    "https:///127.0.0.1:{p}/",
    "https://",
    "https://?",
    "https://:{p}/",
    "http://hook.example/",
    "HTTPS://hook.example/",
    " https://hook.example/",
    "https:hook.example",
    "//hook.example/",
    "ftp://hook.example/",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "gopher://127.0.0.1:{p}/",
    "",
];

/// What names lead to: none of it is asked.
const ANSWERS: &[(&str, &[&str])] = &[
    ("loop.example", &["127.0.0.1"]),
    ("six.example", &["::1"]),
    ("any.example", &["0.0.0.0"]),
    ("any6.example", &["::"]),
    ("mapped.example", &["::ffff:127.0.0.1"]),
    ("compatible.example", &["::127.0.0.1"]),
    ("nat64.example", &["64:ff9b::7f00:1"]),
    ("sixtofour.example", &["2002:7f00:1::"]),
    ("private.example", &["10.0.0.1", "172.16.0.1", "192.168.0.1"]),
    ("metadata.example", &["169.254.169.254"]),
    ("shared.example", &["100.64.0.1"]),
    ("unique.example", &["fd00::1"]),
    ("link.example", &["fe80::1"]),
    ("multicast.example", &["224.0.0.1", "ff02::1"]),
    ("documentation.example", &["192.0.2.1", "2001:db8::1"]),
    ("both.example", &["127.0.0.1", "::1"]),
    ("nothing.example", &[]),
    ("localtest.example", &["127.0.0.53"]),
];

fn names() -> Lookup {
    Arc::new(|name| {
        let found = ANSWERS.iter().find(|(known, _)| *known == name).map(|(_, found)| *found);
        let found = found.unwrap_or_default().iter().map(|ip| ip.parse::<IpAddr>().unwrap()).collect();
        Box::pin(std::future::ready(Ok(found)))
    })
}

/// A listener that no request may reach.
async fn trap(address: &str, caught: &Arc<AtomicUsize>) -> Option<u16> {
    let listener = TcpListener::bind(address).await.ok()?;
    let port = listener.local_addr().ok()?.port();
    let caught = caught.clone();
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            caught.fetch_add(1, Ordering::SeqCst);
        }
    });
    Some(port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sink_leads_into_our_own_network() {
    let caught = Arc::new(AtomicUsize::new(0));
    let port = trap("0.0.0.0:0", &caught).await.unwrap();
    trap(&format!("[::1]:{port}"), &caught).await;
    let fetcher = Fetcher::resolving(&Settings::default(), names()).unwrap();
    assert!(URLS.len() + ANSWERS.len() >= 50);
    for url in URLS {
        let url = url.replace("{p}", &port.to_string());
        let refused = sink::checked(&url, &fetcher).expect_err(&url);
        assert_eq!(refused.code(), Code::InvalidSink, "{url}");
        // Were it let through all the same, the request would go nowhere but to the public addresses among them.
        if url.contains(&format!(":{port}"))
            && !url.contains("8.8")
            && !url.contains("0808")
            && !url.contains("134744072")
        {
            let sent = fetcher.post(&url, Default::default(), "{}".into(), SECOND * 5).await;
            assert!(sent.is_err(), "{url}: {sent:?}");
        }
    }
    let store = StoreHandle(Arc::new(MemoryStore::new()));
    let settings = SinkSettings { per_user: 100, ..SinkSettings::default() };
    let all = Subscriptions::loaded(store, &settings, fetcher.clone()).await.unwrap();
    let now = clock::now();
    for (name, _) in ANSWERS {
        let url = format!("https://{name}:{port}/");
        assert_eq!(sink::checked(&url, &fetcher).unwrap(), url, "a name is looked at when it is used");
        let mut book = lock(&all.inner.book);
        all.inner.insert(&mut book, record(Kind::Invitation, &url, now));
    }
    all.hear(&alice(), DEVICE, &invitation(1));
    // Each was tried, and failed: it waits for its next try.
    let held: Vec<_> = lock(&all.inner.book).all.values().map(|(held, _)| held.clone()).collect();
    assert_eq!(held.len(), ANSWERS.len());
    let tried = async {
        for held in held {
            while !lock(&held.line).has_failed() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(!matches!(lock(&held.line).step(now), Step::Over));
        }
    };
    tokio::time::timeout(SECOND * 60, tried).await.unwrap();
    assert_eq!(caught.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_looked_up_once_for_a_request_and_stays_the_name_that_is_asked_for() {
    let ca = DevCa::generate(clock::now()).unwrap();
    let server = ca.issue_server(&["hook.example"], clock::now()).unwrap();
    let mut hook = Webhook::start(&server.cert_pem, &server.key_pem).await;
    let root = CertificateDer::from_pem_slice(ca.cert_pem().as_bytes()).unwrap();
    let settings = Settings { allow: vec!["127.0.0.1".parse().unwrap()], roots: vec![root] };
    // Whoever asks again is led astray; of several addresses only those are tried that may be.
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let lookup: Lookup = Arc::new(move |_| {
        let found: &[&str] = match count.fetch_add(1, Ordering::SeqCst) {
            0 => &["127.0.0.2", "10.0.0.1", "::1", "127.0.0.1"],
            _ => &["127.0.0.2"],
        };
        let found = found.iter().map(|ip| ip.parse().unwrap()).collect();
        Box::pin(std::future::ready(Ok(found)))
    });
    let fetcher = Fetcher::resolving(&settings, lookup).unwrap();
    let url = format!("https://hook.example:{}/", hook.address.port());
    let post = || fetcher.post(&url, Default::default(), "{}".into(), SECOND * 30);
    assert_eq!(post().await.unwrap().status, 204);
    assert_eq!(hook.next().await.header("host"), format!("hook.example:{}", hook.address.port()));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert!(matches!(post().await, Err(FetchError::Address(_))), "another request, another look");
    assert_eq!(hook.connections(), 1);
}

#[tokio::test]
async fn sinks_that_are_written_plainly_are_taken() {
    let fetcher = Fetcher::resolving(&Settings::default(), names()).unwrap();
    for url in [
        "https://hook.example",
        "https://hook.example/",
        "https://hook.example:8443/a/b?c=d%20e&f=[]",
        "https://8.8.8.8/x",
        "https://[2606:4700::1111]:8443/",
        "https://xn--bcher-kva.example/",
        "https://1.hook.example/",
    ] {
        assert_eq!(sink::checked(url, &fetcher).unwrap(), url);
    }
    let (longest, longer) = (1024 - "https://a.b/".len(), 1025 - "https://a.b/".len());
    assert!(sink::checked(&format!("https://a.b/{}", "x".repeat(longest)), &fetcher).is_ok());
    assert!(sink::checked(&format!("https://a.b/{}", "x".repeat(longer)), &fetcher).is_err());
    let loopback = Settings { allow: vec!["127.0.0.0/8".parse().unwrap()], ..Settings::default() };
    let allowed = Fetcher::resolving(&loopback, names()).unwrap();
    for url in ["https://127.0.0.1:1/", "https://localhost/"] {
        assert!(sink::checked(url, &allowed).is_ok(), "{url}");
    }
    assert!(sink::checked("https://10.0.0.1/", &allowed).is_err());
}

proptest::proptest! {
    #[test]
    fn any_sink_is_taken_or_refused_without_panic(text in ".{0,60}", host in "[0-9a-fx.:%\\[\\]@-]{0,40}") {
        static FETCHER: std::sync::OnceLock<Fetcher> = std::sync::OnceLock::new();
        let fetcher = FETCHER.get_or_init(|| Fetcher::resolving(&Settings::default(), names()).unwrap());
        let _ = sink::checked(&text, fetcher);
        let _ = sink::checked(&format!("https://{host}/"), fetcher);
    }
}
