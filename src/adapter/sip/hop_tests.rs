use std::collections::HashMap;
use std::sync::Mutex;

use super::*;

/// A zone; what it was asked is written down. A name with no entry has no records, `lost` nobody knows.
#[derive(Default)]
struct Zone {
    naptr: HashMap<&'static str, Vec<Naptr>>,
    srv: HashMap<&'static str, Vec<Srv>>,
    hosts: HashMap<&'static str, Vec<&'static str>>,
    asked: Mutex<Vec<String>>,
}

impl Zone {
    fn ask<T>(&self, kind: &str, name: &str, found: Option<Vec<T>>) -> Found<T> {
        self.asked.lock().unwrap().push(format!("{kind} {name}"));
        if name.contains("lost") { Err("no answer".to_owned()) } else { Ok(found.unwrap_or_default()) }
    }
}

impl Records for Zone {
    async fn naptr(&self, domain: &str) -> Found<Naptr> {
        self.ask("NAPTR", domain, self.naptr.get(domain).cloned())
    }

    async fn srv(&self, name: &str) -> Found<Srv> {
        self.ask("SRV", name, self.srv.get(name).cloned())
    }

    async fn addresses(&self, host: &str) -> Found<IpAddr> {
        let found = self.hosts.get(host).map(|all| all.iter().map(|a| a.parse().unwrap()).collect());
        self.ask("A", host, found)
    }
}

fn naptr(order: u16, preference: u16, service: &str, replacement: &str) -> Naptr {
    Naptr {
        order,
        preference,
        flags: "s".to_owned(),
        service: service.to_owned(),
        regexp: false,
        replacement: replacement.to_owned(),
    }
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Srv {
    Srv { priority, weight, port, target: target.to_owned() }
}

async fn places(zone: &Zone, text: &str) -> Vec<String> {
    match resolve(zone, &uri(text).unwrap(), |_| 0).await {
        Ok(hops) => hops.iter().map(|hop| format!("{} {}", hop.address, hop.transport)).collect(),
        Err(error) => vec![error.to_string()],
    }
}

#[tokio::test]
async fn an_address_is_its_own_hop_with_the_transports_port() {
    let zone = Zone::default();
    for (text, place) in [
        ("sip:192.0.2.1", "192.0.2.1:5060 UDP"),
        ("sip:x@192.0.2.1:5070;transport=tcp;lr", "192.0.2.1:5070 TCP"),
        ("sip:192.0.2.1;transport=tls", "192.0.2.1:5061 TLS"),
        ("sips:192.0.2.1", "192.0.2.1:5061 TLS"),
        ("sips:192.0.2.1;transport=tcp", "192.0.2.1:5061 TLS"),
        ("sip:[2001:db8::1]:5080", "[2001:db8::1]:5080 UDP"),
    ] {
        assert_eq!(places(&zone, text).await, [place], "{text}");
    }
    assert!(zone.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn naptr_says_which_services_come_first_and_srv_which_hosts() {
    let mut zone = Zone::default();
    zone.naptr.insert(
        "carrier.test",
        vec![
            naptr(20, 0, "SIP+D2U", "_sip._udp.carrier.test"),
            naptr(10, 20, "sip+d2t", "tcp.elsewhere.test"),
            naptr(10, 10, "SIPS+D2T", "_sips._tcp.carrier.test"),
            naptr(1, 1, "SIP+D2S", "_sip._sctp.carrier.test"),
            Naptr { regexp: true, ..naptr(1, 1, "SIP+D2U", "x") },
            Naptr { flags: "u".to_owned(), ..naptr(1, 1, "SIP+D2U", "x") },
        ],
    );
    zone.srv.insert("_sips._tcp.carrier.test", vec![srv(2, 0, 5091, "b.test"), srv(1, 0, 5061, "a.test")]);
    zone.srv.insert("tcp.elsewhere.test", vec![srv(1, 0, 5060, "b.test")]);
    zone.srv.insert("_sip._udp.carrier.test", vec![srv(1, 0, 5060, "a.test"), srv(0, 0, 0, "")]);
    zone.hosts.insert("a.test", vec!["192.0.2.1", "2001:db8::1"]);
    zone.hosts.insert("b.test", vec!["192.0.2.2"]);
    zone.hosts.insert("carrier.test", vec!["192.0.2.9"]);
    let all = [
        "192.0.2.1:5061 TLS",
        "[2001:db8::1]:5061 TLS",
        "192.0.2.2:5091 TLS",
        "192.0.2.2:5060 TCP",
        "192.0.2.1:5060 UDP",
        "[2001:db8::1]:5060 UDP",
    ];
    assert_eq!(places(&zone, "sip:carrier.test").await, all);
    // Whoever asks for TLS gets nothing else.
    assert_eq!(places(&zone, "sips:carrier.test").await, all[..3]);
    // RFC 3263 §4.1: a transport that is said needs no NAPTR; a port, no SRV either.
    zone.asked.lock().unwrap().clear();
    assert_eq!(places(&zone, "sip:carrier.test;transport=udp").await, all[4..]);
    assert_eq!(places(&zone, "sip:carrier.test:5070").await, ["192.0.2.9:5070 UDP"]);
    assert_eq!(places(&zone, "sips:carrier.test:5070").await, ["192.0.2.9:5070 TLS"]);
    assert!(!zone.asked.lock().unwrap().iter().any(|asked| asked.starts_with("NAPTR")));
    let hops = resolve(&zone, &uri("sips:Carrier.test").unwrap(), |_| 0).await.unwrap();
    assert!(hops.iter().all(|hop| hop.name == "carrier.test"), "the certificate is the domain's");
}

#[tokio::test]
async fn without_naptr_srv_is_asked_and_without_srv_the_host_itself() {
    let mut zone = Zone::default();
    zone.hosts.insert("a.test", vec!["192.0.2.1"]);
    zone.srv.insert("_sip._tcp.some.test", vec![srv(1, 0, 5080, "a.test")]);
    assert_eq!(places(&zone, "sip:some.test").await, ["192.0.2.1:5080 TCP"]);
    assert_eq!(places(&zone, "sip:a.test").await, ["192.0.2.1:5060 UDP"]);
    assert_eq!(places(&zone, "sips:a.test").await, ["192.0.2.1:5061 TLS"]);
    assert_eq!(places(&zone, "sip:a.test;transport=tcp").await, ["192.0.2.1:5060 TCP"]);
    // NAPTR that leads nowhere is no reason to talk openly.
    zone.naptr.insert("a.test", vec![naptr(1, 1, "SIPS+D2T", "_sips._tcp.gone.test")]);
    assert_eq!(places(&zone, "sip:a.test").await, ["192.0.2.1:5061 TLS"]);
    // A service that there isn't.
    zone.srv.insert("_sip._udp.none.test", vec![srv(0, 0, 0, "")]);
    zone.hosts.insert("none.test", vec!["192.0.2.9"]);
    assert!(places(&zone, "sip:none.test").await[0].contains("no record of it"));
}

#[tokio::test]
async fn what_is_no_place_for_sip_says_why() {
    for bad in ["tel:+15550001", "http://a", "", "sip:"] {
        assert!(matches!(uri(bad), Err(NoHop::Uri(_))), "{bad}");
    }
    let zone = Zone::default();
    assert!(places(&zone, "sip:192.0.2.1;transport=ws").await[0].contains("udp, tcp and tls"));
    assert!(places(&zone, "sip:nobody.test").await[0].contains("has no address"));
    assert!(places(&zone, "sip:lost.test").await[0].contains("can't be looked up: no answer"));
    assert_eq!(zone.asked.lock().unwrap().iter().filter(|asked| asked.contains("lost")).count(), 1);
    // What is known of it is tried, if somebody doesn't answer.
    let mut zone = Zone::default();
    zone.srv.insert("_sip._udp.half.test", vec![srv(1, 0, 5060, "lost.test"), srv(2, 0, 5060, "a.test")]);
    zone.hosts.insert("a.test", vec!["192.0.2.1"]);
    assert_eq!(places(&zone, "sip:half.test").await, ["192.0.2.1:5060 UDP"]);
}

#[tokio::test]
async fn a_zone_without_end_gives_so_many_places_and_no_more() {
    let mut zone = Zone::default();
    let many = (0..1_000).map(|n| srv(1, 1, n, "a.test")).collect();
    zone.srv.insert("_sip._udp.big.test", many);
    let all: Vec<&'static str> = (0..100).map(|n| &*format!("192.0.2.{n}").leak()).collect();
    zone.hosts.insert("a.test", all);
    assert_eq!(places(&zone, "sip:big.test").await.len(), MOST_HOPS);
    assert!(zone.asked.lock().unwrap().len() <= 3 + MOST_RECORDS);
}

#[test]
fn of_one_priority_each_host_comes_first_as_often_as_its_weight_says() {
    let records = vec![srv(1, 10, 1, "a"), srv(1, 30, 2, "b"), srv(1, 0, 3, "c"), srv(0, 0, 4, "d")];
    let mut first = HashMap::new();
    for seed in 0..=40 {
        let out = ordered(records.clone(), &|below| seed.min(below - 1));
        assert_eq!((out.len(), out[0].port), (4, 4), "the lower priority comes before");
        *first.entry(out[1].port).or_insert(0) += 1;
    }
    assert_eq!((first[&3], first[&1], first[&2]), (1, 10, 30));
}
