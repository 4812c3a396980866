//! What `[sip]` means: telephone networks that calls leave for and come from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use rsipstack::sip::uri::ParamsExt as _;
use rsipstack::sip::{Host, Scheme, Transport};

use super::build::{certificates, destinations, secret};
use super::error::{ConfigError, Place};
use super::section::Section;
use super::sip_apart;
use crate::adapter::ims::{AccountSettings, Secret, Settings, TrunkSettings, WaySettings};
use crate::adapter::sip::rtp::{RtpSettings, Srtp};
use crate::adapter::sip::{TlsFiles, uri};
use crate::identity::passport::Attest;
use crate::media::audio::AudioCodec;
use crate::protocol::network::Network;
use crate::protocol::number::Number;
use crate::service::rate::Rate;

const SERVER: &str = "a SIP URI: \"sip:sbc.carrier.example;transport=tls\"";
const LISTEN: &str = "an address and a port of this machine: \"0.0.0.0:5060\"";
/// Requests a second of one peer that begin something.
const REQUESTS_PER_SECOND: u32 = 500;

/// RFC 5626 §4.4.1
const KEEPALIVE: Duration = Duration::from_secs(120);

/// Reads all of it.
pub(super) fn settings(mut section: Section) -> Result<Settings, ConfigError> {
    let rtp = rtp(&mut section)?;
    let servers = "DNS servers, perhaps with a port: \"192.0.2.53\", \"127.0.0.1:5353\"";
    let dns = section.many("dns", servers, |text, _| dns(text))?.unwrap_or_default();
    let accounts = section.sections("account")?;
    let trunks = section.sections("trunk")?;
    section.finish()?;
    let places: Vec<_> = accounts.iter().chain(&trunks).map(|table| table.place_of("listen")).collect();
    let accounts = accounts.into_iter().try_fold(Vec::new(), account)?;
    let trunks = trunks.into_iter().try_fold(Vec::new(), trunk)?;
    let settings = Settings { rtp, dns, accounts, trunks };
    sip_apart::check(&settings, &places)?;
    Ok(settings)
}

fn rtp(section: &mut Section) -> Result<RtpSettings, ConfigError> {
    let address = "an IP address of this machine: \"192.0.2.1\"";
    let listen = section.one("rtp-listen", address, str::parse::<IpAddr>)?;
    let public = section.one("rtp-public", "an IP address: \"203.0.113.1\"", str::parse::<IpAddr>)?;
    let range = section.one("rtp-ports", "two ports: \"20000-29999\"", ports)?;
    let most = section.size("max-calls", 1..=100_000)?;
    Ok(RtpSettings {
        listen: listen.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        public,
        range,
        most: most.unwrap_or(1_000),
        // Each way has its own.
        srtp: Srtp::Off,
        codecs: RtpSettings::all_codecs(),
    })
}

fn dns(text: &str) -> Result<SocketAddr, &'static str> {
    let bare = || text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
    text.parse().or_else(|_| bare()).map_err(|_| "it is no IP address")
}

fn ports(text: &str) -> Result<std::ops::RangeInclusive<u16>, &'static str> {
    let (first, last) = text.split_once('-').ok_or("two ports with - between them are expected")?;
    let port = |text: &str| text.trim().parse::<u16>().map_err(|_| "a port is a number up to 65535");
    let (first, last) = (port(first)?, port(last)?);
    // RFC 3550 §11: an even port, and the odd one after it.
    if first == 0 || last <= first { Err("a call takes two ports") } else { Ok(first..=last) }
}

fn way(section: &mut Section) -> Result<WaySettings, ConfigError> {
    let listen = section.one("listen", LISTEN, str::parse::<SocketAddr>)?;
    let tls_listen = section.one("tls-listen", LISTEN, str::parse::<SocketAddr>)?;
    let public = section.one("public", "an IP address: \"203.0.113.1\"", str::parse::<IpAddr>)?;
    let (certificate, key) = (section.file("certificate")?, section.file("key")?);
    let roots = section.many("ca", "paths of PEM files with certificates: \"ca.pem\"", certificates)?;
    let networks = "addresses or networks: \"192.0.2.1\", \"10.0.0.0/8\"";
    let peers = section.many("peers", networks, |text, _| text.parse::<Network>())?;
    let names = "domains of certificates: \"sbc.carrier.example\"";
    let names_place = section.place_of("peer-names");
    let peer_names = section.many("peer-names", names, |text, _| domain(text))?.unwrap_or_default();
    let keepalive = section.ms("keepalive-ms", 1_000)?.unwrap_or(KEEPALIVE);
    let rate = section.whole("requests-per-second", 1..=1_000_000)?.unwrap_or(REQUESTS_PER_SECOND);
    let called = destinations(section, "destinations")?;
    let codecs = section.many("codecs", "codecs, best first: \"opus\", \"PCMA\"", codec)?;
    let srtp = section.one("srtp", "\"off\", \"offered\" or \"required\"", srtp)?.unwrap_or_default();
    let srtp_in_clear = section.flag("srtp-in-clear")?.unwrap_or(false);
    let session_expires = section.ms("session-expires-ms", 90_000)?;
    let number = "a number or an address: \"sos@emergency.example\"";
    let emergency = section.one("emergency", number, str::parse::<Number>)?;
    let access = section.text("access-network-info")?;
    if tls_listen.is_some() && (certificate.is_none() || key.is_none()) {
        let place = section.place_of("tls-listen");
        return Err(section.bad("tls-listen", &place, "TLS needs certificate and key: two PEM files"));
    }
    if !peer_names.is_empty() && roots.is_none() {
        let why = "certificates with these names need a ca that has issued them: ca = \"carrier-ca.pem\"";
        return Err(section.bad("peer-names", &names_place, why));
    }
    // What may be called costs money: nothing is allowed by default.
    let why = "the numbers that are called by it: destinations = [\"+49*\", \"!+49900*\"]";
    Ok(WaySettings {
        listen: section.need("listen", listen, LISTEN)?,
        tls_listen,
        public,
        files: TlsFiles { certificate, key, roots: roots.unwrap_or_default().concat() },
        peers: peers.unwrap_or_default(),
        peer_names,
        rate: Rate::per_second(rate),
        keepalive,
        destinations: section.need("destinations", called, why)?,
        codecs: codecs.unwrap_or_else(RtpSettings::all_codecs),
        srtp,
        srtp_in_clear,
        session_expires,
        emergency,
        access,
    })
}

fn domain(text: &str) -> Result<String, &'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.:".contains(&b);
    let named = !text.is_empty() && text.bytes().all(plain);
    if named { Ok(text.to_ascii_lowercase()) } else { Err("it is no domain") }
}

/// Whether SIP goes there by TLS: none where DNS decides.
fn is_private(server: &str) -> Option<bool> {
    let uri = uri(server).ok()?;
    if uri.scheme == Some(Scheme::Sips) {
        return Some(true);
    }
    let decided = uri.transport().map(|transport| *transport == Transport::Tls);
    let open = matches!(uri.host_with_port.host, Host::Domain(_)) && uri.host_with_port.port.is_none();
    if open { decided } else { Some(decided.unwrap_or(false)) }
}

/// RFC 4568 §8.3: whoever reads the keys hears the calls.
fn keys_are_private(
    section: &Section,
    place: &Place,
    way: &WaySettings,
    servers: &[String],
) -> Result<(), ConfigError> {
    let open = servers.iter().find(|server| is_private(server) == Some(false));
    match open.filter(|_| way.srtp != Srtp::Off && !way.srtp_in_clear) {
        None => Ok(()),
        Some(server) => Err(section.bad(
            "srtp",
            place,
            format!(
                "its keys would go to {server} where others can read them; right is ;transport=tls there, or \
                 srtp-in-clear = true"
            ),
        )),
    }
}

fn codec(text: &str, _: &Place) -> Result<AudioCodec, String> {
    let list = || AudioCodec::KNOWN.map(AudioCodec::name).join(", ") + " are known";
    AudioCodec::from_name(text).ok_or_else(list)
}

fn srtp(text: &str) -> Result<Srtp, &'static str> {
    match text {
        "off" => Ok(Srtp::Off),
        "offered" => Ok(Srtp::Offered),
        "required" => Ok(Srtp::Required),
        _ => Err("it is none of the three"),
    }
}

fn server(text: &str) -> Result<String, String> {
    uri(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn account(
    mut known: Vec<AccountSettings>,
    mut section: Section,
) -> Result<Vec<AccountSettings>, ConfigError> {
    let place = section.place_of("number");
    let number = section.one("number", "the account's number: \"+14085551000\"", str::parse::<Number>)?;
    let identity = section.one("identity", "a public identity: \"sip:alice@ims.example\"", server)?;
    let user = section.text("user")?;
    let secret = self::secret_of(&mut section)?;
    let registrar = section.one("registrar", "the home domain: \"sip:ims.example\"", server)?;
    let proxy = section.one("proxy", SERVER, server)?;
    let expires = section.ms("expires-ms", 60_000)?.unwrap_or(Duration::from_secs(3_600));
    let always = section.flag("always")?.unwrap_or(false);
    let srtp_place = section.place_of("srtp");
    let ims = section.flag("ims")?.unwrap_or(true);
    let way = way(&mut section)?;
    section.finish()?;
    let number = section.need("number", number, "the account's number; each account has its own table")?;
    if known.iter().any(|other| other.number == number) {
        return Err(section.bad("number", &place, "there is an account with this number already"));
    }
    let why = "the home domain, that REGISTER is for: \"sip:ims.example\"";
    let registrar = section.need("registrar", registrar, why)?;
    keys_are_private(
        &section,
        &srtp_place,
        &way,
        std::slice::from_ref(proxy.as_ref().unwrap_or(&registrar)),
    )?;
    let why = "the public identity: \"sip:alice@ims.example\"";
    let identity = section.need("identity", identity, why)?;
    let user = match user {
        Some(user) => user,
        None => identity.trim_start_matches("sip:").trim_start_matches("sips:").to_owned(),
    };
    let why = "password, password-file, or k and opc of a SIM";
    let secret = section.need("password", secret, why)?;
    known.push(AccountSettings {
        number,
        identity,
        user,
        secret,
        registrar,
        proxy,
        expires,
        ims,
        always,
        way,
    });
    Ok(known)
}

fn secret_of(section: &mut Section) -> Result<Option<Secret>, ConfigError> {
    let place = section.place_of("password-file");
    let k_place = section.place_of("k");
    let given = section.text("password")?;
    let kept = section.one("password-file", "a path", |text| secret(&place, text))?;
    let hex = "32 hexadecimal digits";
    let (k, opc) = (section.one("k", hex, key)?, section.one("opc", hex, key)?);
    match (given, kept, k, opc) {
        (None, None, None, None) => Ok(None),
        (Some(password), None, None, None) | (None, Some(password), None, None) => {
            Ok(Some(Secret::Password(password)))
        }
        (None, None, Some(k), Some(opc)) => Ok(Some(Secret::Aka { k, opc })),
        _ => Err(section.bad("k", &k_place, "one of password, password-file, or k together with opc")),
    }
}

fn key(text: &str) -> Result<[u8; 16], &'static str> {
    let mut key = [0; 16];
    if text.len() != 32 || !text.is_ascii() {
        return Err("it has to be 16 bytes");
    }
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| "it has other characters")?;
    }
    Ok(key)
}

fn trunk(mut known: Vec<TrunkSettings>, mut section: Section) -> Result<Vec<TrunkSettings>, ConfigError> {
    let place = section.place_of("name");
    let name = section.text("name")?;
    let servers = section.many("server", SERVER, |text, _| server(text))?;
    let numbers = destinations(&mut section, "numbers")?;
    let attest = section.one("attest", "\"A\", \"B\" or \"C\" (RFC 8588)", attest)?;
    let trusted = section.flag("trusted")?.unwrap_or(true);
    let x5u = section.one("x5u", "an https URL", |text| match text.starts_with("https://") {
        true => Ok(text.to_owned()),
        false => Err("it has to begin with https://"),
    })?;
    let ping = section.ms("ping-ms", 1_000)?;
    let secret_place = section.place_of("password-file");
    let user = section.text("user")?;
    let given = section.text("password")?;
    let kept = section.one("password-file", "a path", |text| secret(&secret_place, text))?;
    let srtp_place = section.place_of("srtp");
    let way = way(&mut section)?;
    section.finish()?;
    let name = section.need("name", name, "a name for logs: name = \"carrier\"")?;
    if known.iter().any(|other| other.name == name) {
        return Err(section.bad("name", &place, "there is a trunk with this name already"));
    }
    let login = match (user, given.or(kept)) {
        (None, None) => None,
        (user, password) => {
            let why = "a login needs both user and password (or password-file)";
            Some((section.need("user", user, why)?, section.need("password", password, why)?))
        }
    };
    let servers = section.need("server", servers.filter(|all| !all.is_empty()), SERVER)?;
    keys_are_private(&section, &srtp_place, &way, &servers)?;
    let why = "our numbers that it calls: numbers = [\"+1408555*\"]";
    known.push(TrunkSettings {
        name,
        servers,
        numbers: section.need("numbers", numbers, why)?,
        attest: attest.unwrap_or(Attest::C),
        trusted,
        x5u,
        ping,
        login,
        way,
    });
    Ok(known)
}

fn attest(text: &str) -> Result<Attest, &'static str> {
    match text {
        "A" => Ok(Attest::A),
        "B" => Ok(Attest::B),
        "C" => Ok(Attest::C),
        _ => Err("A is full, B partial, C gateway attestation"),
    }
}
