//! What a configuration may say, and what is said about mistakes.

use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::adapter::operator::{Access, Secret};
use crate::identity::jwk::{JwkSet, SigningKey};
use crate::service::rate::Rate;

/// A folder with a configuration file and a key that it can name.
pub(super) struct Folder(tempfile::TempDir);

impl Folder {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = JwkSet::new(vec![SigningKey::generate().unwrap().public().clone()]);
        std::fs::write(dir.path().join("keys.json"), key.to_json().to_string()).unwrap();
        std::fs::write(dir.path().join("secret"), "s3cret\n").unwrap();
        Self(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("ript.toml")
    }

    fn sources(&self, text: &str) -> Sources {
        std::fs::write(self.path(), text).unwrap();
        Sources { file: Some(self.path()), ..Sources::default() }
    }

    /// In development mode, which needs the least.
    pub(super) fn load(&self, text: &str) -> Result<Config, String> {
        let sources = Sources { dev: true, ..self.sources(text) };
        Config::load(&sources).map_err(|error| self.shorten(error))
    }

    pub(super) fn error(&self, text: &str) -> String {
        self.load(text).expect_err(text)
    }

    fn shorten(&self, error: ConfigError) -> String {
        error.to_string().replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

const WHOLE: &str = r#"
listen = ["192.0.2.1:443", "[2001:db8::1]:443"]
clear-listen = ["127.0.0.1:8080"]
data = "state"
trusted-proxies = ["127.0.0.1", "10.0.0.0/8"]
origins = ["https://Phone.example.com:8443"]
log = "ript=debug,info"
[tls]
certificate = "server.pem"
key = "/etc/ript/key.pem"
[[issuer]]
issuer = "https://login.example.com"
audience = "calls"
keys = "keys.json"
numbers-claim = "tel"
tgs-claim = "groups"
[passport]
keys = ["keys.json"]
x5u-hosts = ["Certs.example.com", "certs.example.org:8443"]
[[passport.signer]]
keys = "keys.json"
numbers = ["+1408555*", "*@example.com", "4711@Example.com"]
[[tg]]
id = "main"
name = "Main"
description = "for all"
destinations = ["*", "!+1900*"]
inbound = "+1408*"
retry-backoff-ms = 1
media-timeout-ms = 2
calls = 16
calls-per-second = 17
[[tg]]
id = "second"
destinations = "*"
[timing]
answer-timeout-ms = 3
no-signalling-ms = 4
claim-ms = 5
keep-ended-ms = 6
keepalive-ms = 7
drain-ms = 8
[limits]
body-bytes = 2000
header-bytes = 9000
chunk-bytes = 3000
calls-per-user = 9
calls = 10
handlers-per-user = 11
byways-per-leg = 12
connections = 13
sessions-per-connection = 14
requests-per-connection = 15
calls-per-second = 18

[audit]
numbers = true
[camara]
min-registration-ms = 1001
max-registration-ms = 1003
default-registration-ms = 1002
registrations-per-number = 21
devices-per-user = 22
tg = "second"
emergency-number = "+14085551911"
location = true
[camara.sinks]
allow = "10.1.0.0/16"
per-user = 24
max-subscription-ms = 1004
[camara.webrtc]
listen = "192.0.2.1:4435"
public = ["198.51.100.1", "2001:db8::1"]
sessions = 23
offerless-invitations = true
[[operator]]
url = "https://api.operator.example/"
number = "+14085550009"
token-url = "https://login.operator.example/token"
client-id = "ript"
client-secret-file = "secret"
destinations = ["+49*", "!+49900*"]
device-id = "123e4567-e89b-42d3-a456-426614174000"
[[operator]]
url = "https://api.other.example/camara"
number = "+14085550008"
token-file = "token"
destinations = "*"
"#;

#[test]
fn every_key_arrives_where_it_belongs() {
    let folder = Folder::new();
    let Config { service, resource, transport, .. } = Config::load(&folder.sources(WHOLE)).unwrap();
    let config = Config::load(&folder.sources(WHOLE)).unwrap();
    assert_eq!(config.listen, ["192.0.2.1:443".parse().unwrap(), "[2001:db8::1]:443".parse().unwrap()]);
    assert!(!config.listen_by_default && !config.dev);
    assert_eq!(config.clear_listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(config.data, folder.0.path().join("state"));
    let tls = config.tls.unwrap();
    assert_eq!(tls.certificate, folder.0.path().join("server.pem"));
    assert_eq!(tls.key, PathBuf::from("/etc/ript/key.pem"));
    assert_eq!(config.log.as_deref(), Some("ript=debug,info"));
    assert_eq!(resource.origins, ["https://phone.example.com:8443"]);
    assert!(resource.trusted_proxies[1].contains("10.9.9.9".parse().unwrap()));
    assert_eq!((resource.max_body, resource.max_chunk), (2000, 3000));

    let issuer = &service.tokens.issuers[0];
    assert_eq!((issuer.issuer.as_str(), issuer.audience.as_str()), ("https://login.example.com", "calls"));
    assert_eq!((issuer.numbers_claim.as_str(), issuer.tgs_claim.as_str()), ("tel", "groups"));
    assert_eq!(issuer.keys.keys().len(), 1);
    let hosts = ["certs.example.com", "certs.example.org:8443"].map(|host| host.parse().unwrap());
    assert_eq!(service.passports.x5u_hosts, hosts);
    let signers = &service.passports.signers;
    assert_eq!(signers[0].numbers, ["*"]);
    assert_eq!(signers[1].numbers, ["+1408555*", "*@example.com", "4711@example.com"]);

    let tg = service.tg("main").unwrap();
    assert_eq!((tg.name.as_str(), tg.description.as_str()), ("Main", "for all"));
    assert!(!tg.destinations.allow(&"+19005551000".parse().unwrap()));
    assert!(tg.inbound.as_ref().unwrap().allow(&"+14085551000".parse().unwrap()));
    let ms = Duration::from_millis;
    assert_eq!((tg.retry_backoff, tg.media_timeout), (ms(1), ms(2)));
    let second = service.tg("second").unwrap();
    assert_eq!((second.name.as_str(), second.inbound.is_none()), ("second", true));
    assert_eq!((second.retry_backoff, second.media_timeout), (ms(2000), ms(1000)));

    assert_eq!((tg.calls, tg.call_rate), (Some(16), Some(Rate::per_second(17))));
    assert_eq!((second.calls, second.call_rate), (None, None));
    assert_eq!((service.call_rate, service.audit_numbers), (Some(Rate { per_second: 18, burst: 72 }), true));

    let timing = service.timing;
    assert_eq!([timing.answer, timing.signalling, timing.claim, timing.keep], [ms(3), ms(4), ms(5), ms(6)]);
    assert_eq!((service.keepalive, transport.drain), (ms(7), ms(8)));
    assert_eq!([service.calls_per_user, service.calls], [9, 10]);
    assert_eq!([service.handlers_per_user, service.byways_per_leg], [11, 12]);
    assert_eq!((transport.max_header_bytes, transport.max_stream_body), (9000, 3000));
    assert_eq!((transport.max_connections, transport.max_sessions), (13, 14));
    assert_eq!(config.requests_per_connection, 15);
    let registrations = config.camara.registrations;
    let times = [registrations.shortest, registrations.usual, registrations.longest];
    assert_eq!(times, [ms(1001), ms(1002), ms(1003)]);
    assert_eq!((registrations.per_number, registrations.devices_per_user), (21, 22));
    assert_eq!((config.camara.max_body, config.camara.location), (2000, true));
    assert_eq!(config.camara.tg.unwrap().as_str(), "second");
    assert_eq!(config.camara.emergency, Some("+14085551911".parse().unwrap()));
    let sinks = config.camara.sinks;
    assert_eq!(sinks.fetch.allow, ["10.1.0.0/16".parse().unwrap()]);
    assert_eq!((sinks.per_user, sinks.longest), (24, ms(1004)));
    let webrtc = config.camara.webrtc;
    assert_eq!(webrtc.listen, "192.0.2.1:4435".parse().unwrap());
    assert_eq!(webrtc.public, ["198.51.100.1", "2001:db8::1"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    assert_eq!((webrtc.sessions, webrtc.offerless), (23, true));
    let [one, other] = &config.operators[..] else { panic!("{:?}", config.operators) };
    assert_eq!(
        (one.url.as_str(), one.number.to_string()),
        ("https://api.operator.example", "+14085550009".into())
    );
    let Access::Client { token_url, id, secret } = &one.access else { panic!("{one:?}") };
    assert_eq!((token_url.as_str(), id.as_str()), ("https://login.operator.example/token", "ript"));
    assert_eq!(*secret, Secret::new("s3cret"));
    assert!(!format!("{one:?}").contains("s3cret"));
    assert!(one.destinations.allow(&"+4930123456".parse().unwrap()));
    assert!(!one.destinations.allow(&"+499001234".parse().unwrap()));
    assert_eq!(one.device.unwrap().to_string(), "123e4567-e89b-42d3-a456-426614174000");
    assert!(one.roots.is_empty() && other.device.is_none());
    assert!(matches!(&other.access, Access::File(path) if *path == folder.0.path().join("token")));
}

#[test]
fn an_operators_account_is_whole_and_its_secrets_go_to_https_only() {
    let folder = Folder::new();
    let good = "[[operator]]\nurl = \"https://a.example\"\nnumber = \"+14085550009\"\ndestinations = \"*\"\n\
                token-url = \"https://l.example\"\nclient-id = \"x\"\nclient-secret = \"y\"\n";
    assert_eq!(folder.load(good).unwrap().operators.len(), 1);
    for (from, to, said) in [
        ("https://a", "http://a", "operator.url"),
        ("https://a", "https://u:p@a", "operator.url"),
        ("https://l", "http://l", "operator.token-url"),
        ("+14085550009", "bob@example.com", "operator.number"),
        ("destinations = \"*\"\n", "", "operator.destinations"),
        ("client-secret = \"y\"\n", "", "operator.client-secret"),
        ("client-id", "token-file = \"t\"\nclient-id", "operator.token-file"),
        ("client-id", "device-id = \"x\"\nclient-id", "operator.device-id"),
        ("client-id", "client-secret-file = \"secret\"\nclient-id", "operator.client-secret-file"),
        ("client-id", "client_id", "operator.client-id"),
    ] {
        let error = folder.error(&good.replacen(from, to, 1));
        assert!(error.contains(said), "{from}: {error}");
    }
    let error = folder.error(&format!("{good}{good}"));
    assert!(error.contains("operator.number") && error.contains("already"), "{error}");
}

#[test]
fn the_sample_in_the_readme_is_a_configuration() {
    let folder = Folder::new();
    let ca = crate::identity::devca::DevCa::generate(crate::clock::now()).unwrap();
    let keys = std::fs::read_to_string(folder.0.path().join("keys.json")).unwrap();
    for (names, text) in [
        (&["jwks.json", "passport-jwks.json"][..], keys.as_str()),
        (
            &[
                "company-ca.pem",
                "sti-roots.pem",
                "sti-ca.pem",
                "partners.pem",
                "operator-ca.pem",
                "carrier-ca.pem",
            ],
            ca.cert_pem(),
        ),
        (&["sti-ca-key.pem"], &ca.key_pem()),
        (&["secret", "operator-secret", "sip-password"], "s3cret"),
    ] {
        names.iter().for_each(|name| std::fs::write(folder.0.path().join(name), text).unwrap());
    }
    let readme = include_str!("../../README.md");
    let sample = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let config = Config::load(&folder.sources(sample)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((config.operators.len(), config.service.tgs.len()), (1, 1));
}

#[test]
fn what_is_not_said_has_a_default() {
    let config = Config::load(&Sources { dev: true, ..Sources::default() }).unwrap();
    assert_eq!(config.listen, ["127.0.0.1:4433".parse().unwrap(), "[::1]:4433".parse().unwrap()]);
    assert!(config.listen_by_default && config.clear_listen.is_empty() && config.tls.is_none());
    assert_eq!(config.data, PathBuf::from(".ript"));
    assert_eq!((config.resource.max_body, config.resource.max_chunk), (65_536, 65_536));
    assert_eq!((config.transport.max_header_bytes, config.transport.max_sessions), (16_384, 1_000));
    assert_eq!((config.service.calls_per_user, config.service.calls), (1_000, 20_000));
    assert_eq!((config.service.handlers_per_user, config.service.byways_per_leg), (64, 64));
    assert_eq!(config.service.timing, crate::call::Timing::default());
    assert_eq!(config.service.tgs[0].id.as_str(), "dev");
    let camara = config.camara;
    assert_eq!((camara.tg, camara.emergency, camara.location), (None, None, false));
    assert_eq!((camara.webrtc.public.len(), camara.webrtc.sessions), (0, 1_000));
    assert!(camara.sinks.fetch.allow.is_empty() && camara.sinks.fetch.roots.is_empty());
    assert_eq!((camara.sinks.per_user, camara.sinks.longest), (30, Duration::from_secs(604_800)));
}

#[test]
fn webrtc_is_beside_the_server_and_behind_a_proxy_everywhere() {
    let folder = Folder::new();
    let rest = "[[issuer]]\nissuer = 'x'\naudience = 'y'\nkeys = 'keys.json'\n\
                [[tg]]\nid = 'main'\ndestinations = '*'\n[tls]\ncertificate = 'c'\nkey = 'k'";
    for (top, dev, address) in [
        ("", true, "127.0.0.1:4434"),
        ("listen = '127.0.0.1:0'", true, "127.0.0.1:0"),
        ("listen = []\nclear-listen = '127.0.0.1:8080'", true, "127.0.0.1:4434"),
        ("listen = ['192.0.2.1:443', '[::1]:443']", false, "192.0.2.1:4434"),
        ("listen = '[::]:443'", false, "[::]:4434"),
        ("listen = []\nclear-listen = '127.0.0.1:8080'", false, "[::]:4434"),
    ] {
        let sources = Sources { dev, ..folder.sources(&format!("{top}\n{rest}")) };
        let config = Config::load(&sources).map_err(|error| folder.shorten(error)).unwrap();
        assert_eq!(config.camara.webrtc.listen, address.parse().unwrap(), "{top}");
    }
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_defaults() {
    let folder = Folder::new();
    let mut sources = folder.sources("listen = []\n[limits]\ncalls = 1\nconnections = 2");
    sources.dev = true;
    let calls = |sources: &Sources| Config::load(sources).unwrap().service.calls;
    assert_eq!(calls(&sources), 1);
    sources.environment = variables(&[
        ("RIPT_LIMITS_CALLS", "3"),
        ("RIPT_LISTEN", "127.0.0.1:1, [::1]:2"),
        ("RIPT_TIMING_CLAIM_MS", "9"),
        ("RIPT_DATA", "here"),
    ]);
    assert_eq!(calls(&sources), 3);
    sources.flag("limits.calls", "--set", ["4".to_owned()]);
    sources.flag("listen", "--listen", []);
    let config = Config::load(&sources).unwrap();
    assert_eq!((config.service.calls, config.transport.max_connections), (4, 2));
    assert_eq!(config.listen, ["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
    assert_eq!(config.service.timing.claim, Duration::from_millis(9));
    // What the environment says is relative to where we are, not to the file.
    assert_eq!(config.data, PathBuf::from("here"));
    sources.flag("listen", "--listen", ["127.0.0.1:3".to_owned(), "127.0.0.1:4".to_owned()]);
    assert_eq!(Config::load(&sources).unwrap().listen.len(), 2);
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_one() {
    let folder = Folder::new();
    for (text, error) in [
        ("\nlisten = []\nlisetn = []", "ript.toml:3: there is no key lisetn; the nearest is listen"),
        ("[limits]\n\ncals = 1", "ript.toml:3: there is no key limits.cals; the nearest is limits.calls"),
        ("[limit]\ncalls = 1", "ript.toml:1: there is no key limit; the nearest is limits"),
        ("calls = 1", "ript.toml:1: there is no key calls; the nearest is limits.calls"),
        ("[[issuers]]\nissuer = 'x'", "ript.toml:1: there is no key issuers; the nearest is issuer"),
        (
            "[[tg]]\nid = 'x'\ndestination = '*'",
            "ript.toml:3: there is no key tg.destination; the nearest is tg.destinations",
        ),
        (
            "[[passport.signer]]\nnumber = '*'",
            "ript.toml:2: there is no key passport.signer.number; the nearest is passport.signer.numbers",
        ),
    ] {
        assert_eq!(folder.error(text), error);
    }
}

#[test]
fn a_variable_that_looks_like_ours_and_is_not_is_an_error() {
    let mut sources = Sources { dev: true, ..Sources::default() };
    sources.environment = variables(&[("RIPT_LIMITS_CALL", "1")]);
    assert_eq!(
        Config::load(&sources).unwrap_err().to_string(),
        "environment variable RIPT_LIMITS_CALL: there is no key RIPT_LIMITS_CALL; \
         the nearest is RIPT_LIMITS_CALLS"
    );
    let ours = ["SERVER", "TOKEN", "CA", "PASSPORT_KEY", "DEV", "CONFIG", "LOG"];
    let names: Vec<_> = ours.iter().map(|name| (format!("RIPT_{name}"), "x".to_owned())).collect();
    sources.environment = names;
    sources.environment.push(("RIPTIDE".into(), "x".into()));
    Config::load(&sources).unwrap();
}

#[test]
fn every_key_of_the_wrong_type_is_named_with_what_is_right() {
    let folder = Folder::new();
    for key in keys::KEYS.iter().chain(keys::TABLE_KEYS) {
        for (value, found) in [("1.5", "a number with a fraction"), ("{}", "a table"), ("true", "true or")] {
            let flags = [
                "audit.numbers",
                "camara.location",
                "camara.webrtc.offerless-invitations",
                "sip.account.always",
                "sip.account.ims",
                "sip.account.srtp-in-clear",
                "sip.trunk.srtp-in-clear",
                "sip.trunk.trusted",
            ];
            if value == "true" && flags.contains(key) {
                continue;
            }
            let text = match key.rsplit_once('.') {
                None => format!("{key} = {value}"),
                Some((
                    table @ ("issuer" | "tg" | "passport.signer" | "operator" | "sip.account" | "sip.trunk"),
                    name,
                )) => {
                    format!("[[{table}]]\n{name} = {value}")
                }
                Some((table, name)) => format!("[{table}]\n{name} = {value}"),
            };
            let line = text.lines().count();
            let error = folder.error(&text);
            assert!(error.starts_with(&format!("ript.toml:{line}: {key} is {found}")), "{error}");
            assert!(error.contains("; right is "), "{error}");
        }
        // RIPT_LOG belongs to the flag --log, of every command.
        if keys::KEYS.contains(key) && *key != "log" {
            let mut sources = Sources { dev: true, ..Sources::default() };
            sources.environment = variables(&[(&keys::variable(key), "\u{0}=/=")]);
            // A path can be anything.
            let paths = ["data", "tls.certificate", "tls.key", "certs.certificate", "certs.key"];
            let anything = paths.contains(key);
            let result = Config::load(&sources).map_err(|error| error.to_string());
            assert!(anything || result.is_err_and(|error| error.contains(key)), "{key}");
        }
    }
    for (text, error) in [
        ("tls = 1", "ript.toml:1: tls is a number; right is a table, [tls]"),
        ("[issuer]\nissuer = 'x'", "ript.toml:1: issuer is a table; right is an array of tables, [[issuer]]"),
        ("listen = ['127.0.0.1:1',\n 2]", "ript.toml:2: listen is a number; right is a list of addresses"),
        ("[limits]\ncalls = '1'", "ript.toml:2: limits.calls is text; right is a whole number from 1 to"),
    ] {
        assert!(folder.error(text).starts_with(error), "{}", folder.error(text));
    }
    let mut sources = folder.sources("limits = 1");
    sources.environment = variables(&[("RIPT_LIMITS_CALLS", "1")]);
    let error = Config::load(&sources).map_err(|error| folder.shorten(error)).unwrap_err();
    assert_eq!(error, "ript.toml:1: limits is a number; right is a table, [limits]");
}

#[test]
fn a_value_that_is_no_good_is_named_with_what_is_right() {
    let folder = Folder::new();
    std::fs::write(folder.0.path().join("empty.json"), "{\"keys\":[]}").unwrap();
    for (text, part) in [
        ("listen = ['localhost:1']", "listen: \"localhost:1\": invalid socket address"),
        ("listen = ['127.0.0.1']", "\"[::1]:4433\""),
        ("trusted-proxies = ['10.0.0.0/33']", "trusted-proxies: \"10.0.0.0/33\": the prefix"),
        ("origins = ['https://a.example/']", "origins: \"https://a.example/\": an origin is"),
        ("origins = ['*']", "origins: \"*\": the scheme is missing"),
        ("log = 'ript=loud'", "log: \"ript=loud\": "),
        ("data = ''", "data: \"\": it is empty"),
        ("[tls]\nkey = 'x'", "tls.certificate is missing"),
        ("[tls]\ncertificate = 'x'", "tls.key is missing"),
        ("[[tg]]\nid = 'a/b'", "tg.id: \"a/b\": a TG's name is"),
        ("[[tg]]\ndestinations = '*'", "tg.id is missing"),
        ("[[tg]]\nid = 'a'", "tg.destinations is missing"),
        ("[[tg]]\nid = 'a'\ndestinations = ['**']", "tg.destinations: \"**\": a destination is"),
        ("[[tg]]\nid='a'\ndestinations='*'\n[[tg]]\nid='a'\ndestinations='*'", "5: tg.id: a is there twice"),
        ("[[issuer]]\nissuer = 'x'\nkeys = 'keys.json'", "issuer.audience is missing"),
        ("[[issuer]]\nissuer = 'x'\naudience = 'y'", "issuer.keys is missing"),
        (
            "[[issuer]]\nissuer = 'x'\naudience = 'y'\nkeys = 'keys.json'\nlogin-client-id = 'z'",
            "only an https:// issuer can be asked",
        ),
        (
            "[[issuer]]\nissuer = 'https://x'\naudience = 'y'\nintrospection-client-id = 'z'",
            "issuer.introspection-client-secret-file is missing",
        ),
        ("[fetch]\nca = 'keys.json'", "no certificate in it"),
        ("[fetch]\nallow = '10.0.0.0/99'", "the prefix is a number"),
        ("[[issuer]]\nkeys = 'none.json'", "issuer.keys: \"none.json\": No such file"),
        ("[[issuer]]\nkeys = 'ript.toml'", "neither a JSON Web Key"),
        ("[[issuer]]\nkeys = 'empty.json'", "no key that is of use"),
        ("[[issuer]]\nissuer = 'urn:ript:dev'", "this name belongs to --dev"),
        ("[passport]\nx5u-hosts = ['https://a.example']", "passport.x5u-hosts: \"https://a.example\""),
        ("[[passport.signer]]\nkeys = 'keys.json'", "passport.signer.numbers is missing"),
        ("[[passport.signer]]\nkeys='keys.json'\nnumbers='1408*'", "passport.signer.numbers: \"1408*\""),
        ("[timing]\nclaim-ms = 0", "timing.claim-ms: 0 is out of bounds; right is a whole number from 1"),
        ("[camara]\nmin-registration-ms = 2000\nmax-registration-ms = 1999", "it is below camara.min-"),
        ("[camara]\ndefault-registration-ms = 59999", "camara.default-registration-ms: it is not between"),
        ("[camara]\ndevices-per-user = 0", "camara.devices-per-user: 0 is out of bounds"),
        ("[camara]\ntg = 'main'", "camara.tg: there is no [[tg]] with the id main"),
        ("[camara]\nemergency-number = '112'", "camara.emergency-number: \"112\": +14085551000, "),
        ("[camara.sinks]\nper-user = 101", "camara.sinks.per-user: 101 is out of bounds"),
        ("[camara.sinks]\nca = 'keys.json'", "no certificate in it"),
        ("[camara.webrtc]\nlisten = '4434'", "camara.webrtc.listen: \"4434\": invalid socket address"),
        ("[camara.webrtc]\npublic = ['::']", "camara.webrtc.public: \"::\": nobody can send to it"),
        ("[camara.webrtc]\nlisten = ''\nlisetn = ''", "camara.webrtc.listen: \"\": invalid socket"),
        ("[camara.webrtc]\nlisetn = ''", "no key camara.webrtc.lisetn; the nearest is camara.webrtc.listen"),
        ("[limits]\ncalls = -1", "limits.calls: -1 is out of bounds"),
        ("[limits]\nheader-bytes = 8191", "limits.header-bytes: 8191 is out of bounds"),
        ("[limits]\ncalls = 99999999999", "limits.calls: 99999999999 is out of bounds"),
        ("listen = [", "ript.toml:1: "),
        ("data = 'a'\ndata = 'b'", "ript.toml:2: duplicate key"),
    ] {
        let error = folder.error(text);
        assert!(error.starts_with("ript.toml:") && error.contains(part), "{text}: {error}");
    }
    let twice = "[[issuer]]\nissuer = 'x'\naudience = 'y'\nkeys = 'keys.json'\n".repeat(2);
    assert!(folder.error(&twice).starts_with("ript.toml:6: issuer.issuer: x is there twice"));
    let gone = Sources { file: Some("no/such.toml".into()), ..Sources::default() };
    assert!(Config::load(&gone).unwrap_err().to_string().starts_with("no/such.toml: "));
}

#[test]
fn without_dev_it_says_what_to_add() {
    let folder = Folder::new();
    let error = |text: &str| Config::load(&folder.sources(text)).unwrap_err().to_string();
    assert!(error("").contains("[[issuer]]") && error("").contains("--dev"));
    let issuer = "[[issuer]]\nissuer = 'x'\naudience = 'y'\nkeys = 'keys.json'\n";
    assert!(error(issuer).contains("[[tg]]"));
    let tg = format!("{issuer}[[tg]]\nid = 'main'\ndestinations = '*'\n");
    assert!(error(&tg).contains("[tls]"));
    Config::load(&folder.sources(&format!("listen = []\n{tg}"))).unwrap();
}

#[test]
fn development_mode_refuses_the_network_unless_told_otherwise() {
    for key in ["listen", "clear-listen", "camara.webrtc.listen"] {
        for address in ["0.0.0.0:4433", "[::]:4433", "192.0.2.1:4433"] {
            let mut sources = Sources { dev: true, ..Sources::default() };
            sources.flag(key, "--listen", [address.to_owned()]);
            let error = Config::load(&sources).unwrap_err();
            assert!(matches!(error, ConfigError::DevelopmentInTheOpen(_)), "{error}");
            assert!(error.to_string().contains("--dev-anywhere"));
            sources.dev_anywhere = true;
            Config::load(&sources).unwrap();
        }
    }
}

#[test]
fn any_text_is_taken_or_refused_without_panic() {
    use proptest::prelude::*;
    let folder = Folder::new();
    proptest!(|(text in "[a-z\\[\\]=\"' \n.{}0-9*-]{0,80}")| {
        let _ = folder.load(&text);
    });
}

#[test]
fn an_https_issuer_without_keys_is_discovered() {
    let folder = Folder::new();
    let text = "[[issuer]]\nissuer = 'https://login.example.com'\naudience = 'ript'\nlogin-client-id = 'cli'\n\
                introspection-client-id = 'ript'\nintrospection-client-secret-file = 'ript.toml'\n\
                [fetch]\nallow = ['10.0.0.0/8']";
    let config = Config::load(&Sources { dev: true, ..folder.sources(text) }).unwrap();
    assert!(config.service.tokens.issuers[0].keys.keys().is_empty());
    let oauth = config.service.oauth;
    assert_eq!((oauth.introspection.len(), oauth.fetch.allow.len()), (1, 1));
    assert_eq!(oauth.login.unwrap().client_id, "cli");
    assert!(!format!("{:?}", oauth.introspection).contains("audience"), "a secret is never printed");
}
