//! What the keys mean: types, defaults and bounds.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::error::{ConfigError, Place};
use super::section::{Section, resolve};
use super::tree::Table;
use super::{Config, DEFAULT_DATA, TlsFiles, camara, operator, sip};
use crate::call::Timing;
use crate::identity::certificate::Anchors;
use crate::identity::enrol::Enroller;
use crate::identity::jwk::{Jwk, JwkSet};
use crate::identity::passport::{PassportSigner, PassportTrust};
use crate::identity::token::{IssuerPolicy, TokenPolicy};
use crate::identity::x5u::X5uHost;
use crate::protocol::id::TgId;
use crate::protocol::network::Network;
use crate::protocol::number::{Destinations, Number};
use crate::service::rate::Rate;
use crate::service::settings::{Credentials, Login, OAuth};
use crate::service::{self, TgSettings, fetch};
use crate::{resource, telemetry, transport};

/// The port where nothing else is said.
const PORT: u16 = 4433;
/// How far an issuer's clock may be off.
const LEEWAY: Duration = Duration::from_secs(30);
/// The issuer of development tokens, which only `--dev` may trust.
pub(crate) const DEVELOPMENT_ISSUER: &str = "urn:ript:dev";
/// The draft's floor.
pub(super) const RETRY_BACKOFF: Duration = Duration::from_secs(2);
/// wire §6: 1 s without acks: move.
pub(super) const MEDIA_TIMEOUT: Duration = Duration::from_secs(1);

/// What one user may place in the long run; a trunk's server is one user.
const CALLS_PER_SECOND: u32 = 100;

const FILES: &str = "paths of files with a JWKS or PEM public keys: \"issuer.jwks\"";
const PATTERNS: &str = "numbers or patterns: \"+14085551000\", \"+1408*\", \"*@example.com\", \"*\"";
const NETWORKS: &str = "addresses or networks: \"192.0.2.1\", \"10.0.0.0/8\", \"2001:db8::/32\"";
const SOCKET: &str = "addresses with a port: \"127.0.0.1:4433\", \"[::1]:4433\"";

pub(super) fn development_tg_id() -> TgId {
    "dev".parse().expect("the name is three letters")
}

pub(super) fn build(table: Table, place: Place, dev: bool) -> Result<Config, ConfigError> {
    let mut top = Section::top(table, place);
    let given = top.many("listen", SOCKET, |text, _| text.parse::<SocketAddr>())?;
    let clear_listen = top.many("clear-listen", SOCKET, |text, _| text.parse::<SocketAddr>())?;
    let fetch = fetch(&mut top.section("fetch")?)?;
    let trusted_proxies = top.many("trusted-proxies", NETWORKS, |text, _| text.parse::<Network>())?;
    let origins =
        top.many("origins", "web origins: \"https://phone.example.com\"", |text, _| origin(text))?;
    let log = top.one("log", "a filter: \"info\", \"ript=debug,info\"", |text| {
        telemetry::check_filter(text).map(|()| text.to_owned())
    })?;
    let data = top.file("data")?.unwrap_or_else(|| PathBuf::from(DEFAULT_DATA));
    let tls = tls(top.section("tls")?)?;
    let passports = passports(top.section("passport")?)?;
    let enroller = enroller(top.section("certs")?)?;
    let mut timing = top.section("timing")?;
    let mut limits = top.section("limits")?;
    let mut audit = top.section("audit")?;
    let audit_numbers = audit.flag("numbers")?.unwrap_or(false);
    audit.finish()?;
    let camara = top.section("camara")?;
    let operators = top.sections("operator")?;
    let sip = top.section("sip")?;
    let issuers = top.sections("issuer")?;
    let tgs = top.sections("tg")?;
    // Before anything is missed: what is misspelt is not missing.
    top.finish()?;

    let oauth = OAuth { fetch, ..OAuth::default() };
    let (issuers, oauth) = issuers.into_iter().try_fold((Vec::new(), oauth), issuer)?;
    let usual = Timing::default();
    let transport = transport::Limits::default();
    let body = limits.size("body-bytes", 1_024..=16_777_216)?.unwrap_or(65_536);
    let chunk = limits.size("chunk-bytes", 1_200..=16_777_216)?.unwrap_or(65_536);
    let listen_by_default = given.is_none();
    let listen = given.unwrap_or_else(default_listen);
    let tgs = tgs.into_iter().try_fold(Vec::new(), tg)?;
    // A development server that configures none gets one of this name.
    let development = development_tg_id();
    let ids: Vec<_> = match &tgs[..] {
        [] if dev => vec![&development],
        tgs => tgs.iter().map(|tg| &tg.id).collect(),
    };
    let rest = camara::Rest { max_body: body, listen: &listen, dev, tgs: &ids };
    let camara = camara::settings(camara, &rest)?;
    let operators = operators.into_iter().try_fold(Vec::new(), operator::account)?;
    let sip = sip::settings(sip)?;
    let config = Config {
        listen_by_default,
        listen,
        clear_listen: clear_listen.unwrap_or_default(),
        data,
        tls,
        dev,
        log,
        service: service::Settings {
            tgs,
            tokens: TokenPolicy { issuers, leeway: LEEWAY },
            oauth,
            passports,
            enroller,
            gateway: None,
            timing: Timing {
                answer: timing.ms("answer-timeout-ms", 1)?.unwrap_or(usual.answer),
                signalling: timing.ms("no-signalling-ms", 1)?.unwrap_or(usual.signalling),
                claim: timing.ms("claim-ms", 1)?.unwrap_or(usual.claim),
                guard: usual.guard,
                keep: timing.ms("keep-ended-ms", 0)?.unwrap_or(usual.keep),
            },
            keepalive: timing.ms("keepalive-ms", 1)?.unwrap_or(Duration::from_secs(15)),
            call_rate: Some(Rate::per_second(
                limits.whole("calls-per-second", 1..=1_000_000)?.unwrap_or(CALLS_PER_SECOND),
            )),
            audit_numbers,
            calls_per_user: limits.size("calls-per-user", 1..=1_000_000)?.unwrap_or(1_000),
            calls: limits.size("calls", 1..=10_000_000)?.unwrap_or(20_000),
            handlers_per_user: limits.size("handlers-per-user", 1..=100_000)?.unwrap_or(64),
            byways_per_leg: limits.size("byways-per-leg", 1..=100_000)?.unwrap_or(64),
        },
        resource: resource::Settings {
            origins: origins.unwrap_or_default(),
            trusted_proxies: trusted_proxies.unwrap_or_default(),
            max_body: body,
            max_chunk: chunk,
            ..resource::Settings::default()
        },
        camara,
        operators,
        sip,
        transport: transport::Limits {
            // hyper takes no smaller buffer than 8192 bytes.
            max_header_bytes: limits
                .whole("header-bytes", 8_192..=1_048_576)?
                .unwrap_or(transport.max_header_bytes),
            drain: timing.ms("drain-ms", 0)?.unwrap_or(transport.drain),
            max_sessions: limits
                .size("sessions-per-connection", 1..=100_000)?
                .unwrap_or(transport.max_sessions),
            max_stream_body: chunk,
            max_connections: limits.size("connections", 1..=1_000_000)?.unwrap_or(transport.max_connections),
            ..transport
        },
        requests_per_connection: limits.whole("requests-per-connection", 1..=100_000)?.unwrap_or(1_500),
    };
    timing.finish()?;
    limits.finish()?;
    Ok(config)
}

fn default_listen() -> Vec<SocketAddr> {
    vec![(Ipv4Addr::LOCALHOST, PORT).into(), (Ipv6Addr::LOCALHOST, PORT).into()]
}

fn tls(mut section: Section) -> Result<Option<TlsFiles>, ConfigError> {
    let (certificate, key) = (section.file("certificate")?, section.file("key")?);
    section.finish()?;
    match (certificate, key) {
        (None, None) => Ok(None),
        (certificate, key) => {
            let why = "a certificate needs its key, and a key its certificate: two PEM files";
            let certificate = section.need("certificate", certificate, why)?;
            Ok(Some(TlsFiles { certificate, key: section.need("key", key, why)? }))
        }
    }
}

fn passports(mut section: Section) -> Result<PassportTrust, ConfigError> {
    let any = section.many("keys", FILES, keys)?.map(joined);
    let anchors = section.many("anchors", "PEM files with the roots of STIR certificates", anchors)?;
    let host = "hosts, perhaps with a port: \"certs.example.com\"";
    let x5u_hosts = section.many("x5u-hosts", host, |text, _| text.parse::<X5uHost>())?;
    let signers = section.sections("signer")?;
    section.finish()?;
    let mut trust = any.map(PassportTrust::any_number).unwrap_or_default();
    trust.x5u_hosts = x5u_hosts.unwrap_or_default();
    anchors.into_iter().flatten().for_each(|roots| trust.anchors.extend(roots));
    for mut signer in signers {
        let keys = signer.many("keys", FILES, keys)?.map(joined);
        let numbers = signer.many("numbers", PATTERNS, |text, _| pattern(text))?;
        signer.finish()?;
        trust.signers.push(PassportSigner {
            keys: signer.need("keys", keys, "the files with the signer's public keys")?,
            numbers: signer.need("numbers", numbers, "the numbers that it may speak for; \"*\" for all")?,
        });
    }
    Ok(trust)
}

/// Certificates of users live for a day where nothing else is said: they are renewed without anybody's doing.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(24 * 3600);

fn enroller(mut section: Section) -> Result<Option<Arc<Enroller>>, ConfigError> {
    let place = section.place_of("certificate");
    let (certificate, key) = (section.file("certificate")?, section.file("key")?);
    let lifetime = section.ms("lifetime-ms", 60_000)?.unwrap_or(CERTIFICATE_LIFETIME);
    section.finish()?;
    if certificate.is_none() && key.is_none() {
        return Ok(None);
    }
    let why = "the CA that issues certificates to users: two PEM files, its own certificate first";
    let certificate = section.need("certificate", certificate, why)?;
    let key = section.need("key", key, why)?;
    let read = |path: &PathBuf| {
        let failed = |error| section.bad("certificate", &place, format!("{}: {error}", path.display()));
        std::fs::read_to_string(path).map_err(failed)
    };
    Enroller::new(&read(&certificate)?, &read(&key)?, lifetime)
        .map(|enroller| Some(Arc::new(enroller)))
        .map_err(|error| section.bad("certificate", &place, error.to_string()))
}

fn fetch(section: &mut Section) -> Result<fetch::Settings, ConfigError> {
    let settings = outbound(section)?;
    section.finish()?;
    Ok(settings)
}

/// Where requests may go, and whom they trust: `allow` and `ca` of some table.
pub(super) fn outbound(section: &mut Section) -> Result<fetch::Settings, ConfigError> {
    let allow = section.many("allow", NETWORKS, |text, _| text.parse::<Network>())?;
    let roots = section.many("ca", "paths of PEM files with certificates: \"ca.pem\"", certificates)?;
    Ok(fetch::Settings { allow: allow.unwrap_or_default(), roots: roots.unwrap_or_default().concat() })
}

fn issuer(
    (mut known, mut oauth): (Vec<IssuerPolicy>, OAuth),
    mut section: Section,
) -> Result<(Vec<IssuerPolicy>, OAuth), ConfigError> {
    let place = section.place_of("issuer");
    let name = section.text("issuer")?;
    let audience = section.text("audience")?;
    let keys = section.many("keys", FILES, keys)?.map(joined);
    let (numbers_claim, tgs_claim) = (section.text("numbers-claim")?, section.text("tgs-claim")?);
    let id = section.text("introspection-client-id")?;
    let secret = section.one("introspection-client-secret-file", "a path", |text| secret(&place, text))?;
    let login = section.text("login-client-id")?;
    section.finish()?;
    let name = section.need("issuer", name, "the iss of its tokens, letter by letter")?;
    if name == DEVELOPMENT_ISSUER {
        return Err(section.bad("issuer", &place, "this name belongs to --dev"));
    }
    if known.iter().any(|other| other.issuer == name) {
        return Err(section.bad("issuer", &place, format!("{name} is there twice; put its keys together")));
    }
    let audience = section.need("audience", audience, "what its tokens' aud must contain")?;
    // OpenID Connect Discovery 1.0 §3: an issuer that can be asked is an https URL.
    let asked = name.starts_with("https://");
    let why = "a file with its public keys, JWKS or PEM; only an https:// issuer's are found by discovery";
    let keys = if asked { keys.unwrap_or_default() } else { section.need("keys", keys, why)? };
    if !asked && (id.is_some() || login.is_some()) {
        return Err(section.bad(
            "issuer",
            &place,
            "only an https:// issuer can be asked about tokens or logins",
        ));
    }
    if id.is_some() || secret.is_some() {
        let why = "introspection needs both introspection-client-id and introspection-client-secret-file";
        let id = section.need("introspection-client-id", id, why)?;
        let secret = section.need("introspection-client-secret-file", secret, why)?;
        oauth.introspection.push((name.clone(), Credentials { id, secret }));
    }
    if let Some(client_id) = login {
        if oauth.login.is_some() {
            return Err(section.bad("login-client-id", &place, "one issuer is the one to log in at"));
        }
        oauth.login = Some(Login { issuer: name.clone(), client_id });
    }
    let mut policy = IssuerPolicy::new(name, audience, keys);
    policy.numbers_claim = numbers_claim.unwrap_or(policy.numbers_claim);
    policy.tgs_claim = tgs_claim.unwrap_or(policy.tgs_claim);
    known.push(policy);
    Ok((known, oauth))
}

fn tg(mut known: Vec<TgSettings>, mut section: Section) -> Result<Vec<TgSettings>, ConfigError> {
    let place = section.place_of("id");
    let id = section.one("id", "a name for URIs: \"main\"", |text| text.parse::<TgId>())?;
    let (name, description) = (section.text("name")?, section.text("description")?);
    let destinations = destinations(&mut section, "destinations")?;
    let inbound = self::destinations(&mut section, "inbound")?;
    let retry_backoff = section.ms("retry-backoff-ms", 1)?;
    let media_timeout = section.ms("media-timeout-ms", 1)?;
    let calls = section.size("calls", 1..=10_000_000)?;
    let rate = section.whole("calls-per-second", 1..=1_000_000)?;
    section.finish()?;
    let id = section.need("id", id, "a name for URIs: id = \"main\"")?;
    if known.iter().any(|other| other.id == id) {
        return Err(section.bad("id", &place, format!("{id} is there twice")));
    }
    // What may be called costs money: nothing is allowed by default.
    let why = "whom its users may call: destinations = [\"*\", \"!+1900*\"]";
    known.push(TgSettings {
        name: name.unwrap_or_else(|| id.to_string()),
        id,
        description: description.unwrap_or_default(),
        destinations: section.need("destinations", destinations, why)?,
        inbound,
        call_rate: rate.map(Rate::per_second),
        calls,
        retry_backoff: retry_backoff.unwrap_or(RETRY_BACKOFF),
        media_timeout: media_timeout.unwrap_or(MEDIA_TIMEOUT),
    });
    Ok(known)
}

pub(super) fn destinations(section: &mut Section, name: &str) -> Result<Option<Destinations>, ConfigError> {
    let place = section.place_of(name);
    let expected = "numbers or patterns: \"*\", \"+1*\", \"!+1900*\"";
    let one = |text: &str, _: &Place| Destinations::new([text]).map(|_| text.to_owned());
    let Some(patterns) = section.many(name, expected, one)? else { return Ok(None) };
    Destinations::new(patterns).map(Some).map_err(|why| section.bad(name, &place, why.to_string()))
}

/// Reads the keys of a file.
fn keys(path: &str, place: &Place) -> Result<Vec<Jwk>, String> {
    let text = std::fs::read_to_string(resolve(place, path)).map_err(|error| error.to_string())?;
    let set = JwkSet::from_text(&text).map_err(|error| error.to_string())?;
    match set.keys() {
        [] => Err("no key that is of use here: ES256, RS256, PS256 or EdDSA".to_owned()),
        keys => Ok(keys.to_vec()),
    }
}

/// Reads the roots of a file.
fn anchors(path: &str, place: &Place) -> Result<Anchors, String> {
    let text = std::fs::read_to_string(resolve(place, path)).map_err(|error| error.to_string())?;
    Anchors::from_pem(&text).map_err(|_| "no certificates, or not only such".to_owned())
}

/// Reads the certificates of a file.
pub(super) fn certificates(path: &str, place: &Place) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_file_iter(resolve(place, path)).and_then(Iterator::collect);
    let found: Vec<_> = found.map_err(|error| error.to_string())?;
    if found.is_empty() { Err("no certificate in it".to_owned()) } else { Ok(found) }
}

/// Reads a secret; the line break at its end is the editor's.
pub(super) fn secret(place: &Place, path: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(resolve(place, path)).map_err(|error| error.to_string())?;
    match text.trim_end() {
        "" => Err("it is empty".to_owned()),
        secret => Ok(secret.to_owned()),
    }
}

fn joined(keys: Vec<Vec<Jwk>>) -> JwkSet {
    JwkSet::new(keys.concat())
}

/// As tokens write them: an exact number, `+1408*`, `*@example.com` or `*`.
pub(crate) fn pattern(text: &str) -> Result<String, String> {
    let e164 = text.strip_prefix('+').and_then(|rest| rest.strip_suffix('*'));
    let fits = text == "*"
        || e164.is_some_and(|digits| digits.len() <= 15 && digits.bytes().all(|b| b.is_ascii_digit()))
        || text.strip_prefix("*@").is_some_and(|domain| format!("a@{domain}").parse::<Number>().is_ok());
    if fits {
        return Ok(text.to_owned());
    }
    text.parse::<Number>().map(|number| number.to_string()).map_err(|error| error.to_string())
}

/// RFC 6454 §6.2: scheme, host and port, nothing after them.
fn origin(text: &str) -> Result<String, &'static str> {
    let (scheme, host) = text.split_once("://").ok_or("the scheme is missing")?;
    let named = matches!(scheme, "https" | "http") && !host.contains(['/', '?', '#', '@', '*']);
    let authority = host.parse::<http::uri::Authority>();
    if !named || authority.is_err() {
        return Err("an origin is https:// (or http://), a host and perhaps a port, nothing after them");
    }
    Ok(text.to_ascii_lowercase())
}
