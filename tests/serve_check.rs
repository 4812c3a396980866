//! `ript serve --check`: the README's configuration is good, and what a server would lack is said.

use std::process::Command;

use ript::identity::devca::DevCa;
use ript::identity::jwk::{JwkSet, SigningKey};

/// The README's configuration.
fn sample() -> String {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

/// What `--check` prints for a configuration beside which the files of the README's are: out, and err.
fn check(toml: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let ca = DevCa::generate(ript::clock::now()).unwrap();
    let server = ca.issue_server(&[], ript::clock::now()).unwrap();
    let keys = JwkSet::new(vec![SigningKey::generate().unwrap().public().clone()]).to_json().to_string();
    for (name, text) in [
        ("ript.toml", toml),
        ("fullchain.pem", &server.cert_pem),
        ("key.pem", &server.key_pem),
        ("jwks.json", &keys),
        ("secret", "s"),
        ("company-ca.pem", ca.cert_pem()),
        ("sti-roots.pem", ca.cert_pem()),
        ("passport-jwks.json", &keys),
        ("sti-ca.pem", ca.cert_pem()),
        ("sti-ca-key.pem", &ca.key_pem()),
        ("partners.pem", ca.cert_pem()),
        ("operator-ca.pem", ca.cert_pem()),
        ("operator-secret", "s"),
        ("sip-password", "s"),
        ("carrier-ca.pem", ca.cert_pem()),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_ript"));
    let output =
        command.args(["serve", "--check", "--config"]).arg(folder.path().join("ript.toml")).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{out}{err}");
    (out, err)
}

#[test]
fn the_readmes_configuration_is_good() {
    let (out, err) = check(&sample());
    assert!(out.starts_with("the configuration is good: 0.0.0.0:443; TGs: 1; issuers: 1"), "{out}");
    assert_eq!(err, "");
}

#[test]
fn a_server_that_could_not_vouch_for_callers_is_told_of() {
    let sample = sample();
    let (before, rest) = sample.split_once("[certs]").unwrap();
    let (_, after) = rest.split_once("\n[[tg]]").unwrap();
    let (out, err) = check(&format!("{before}[[tg]]{after}"));
    assert!(out.starts_with("the configuration is good"), "{out}");
    assert!(err.starts_with("warning: without [certs]") && err.lines().count() == 1, "{err}");
}

#[test]
fn ways_to_telephone_networks_that_can_not_be_told_apart_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let trunk = |name: &str| {
        format!(
            "[[sip.trunk]]\nname = \"{name}\"\nserver = \"sip:192.0.2.1\"\nnumbers = \"+1*\"\n\
             destinations = \"+44*\"\nlisten = \"127.0.0.1:5060\"\n"
        )
    };
    let file = folder.path().join("ript.toml");
    std::fs::write(&file, format!("data = \"data\"\n{}{}", trunk("one"), trunk("two"))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ript"));
    let output = command.args(["serve", "--check", "--dev", "--config"]).arg(&file).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{said}");
    for part in ["ript.toml:13: sip.trunk.listen: the trunk one shares 127.0.0.1:5060", "right are numbers"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn development_mode_brings_what_it_needs() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ript"));
    let data = tempfile::tempdir().unwrap();
    let output = command.args(["serve", "--check", "--dev", "--data"]).arg(data.path()).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
