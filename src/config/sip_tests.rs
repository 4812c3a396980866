//! What `[sip]` may say, and what is said about mistakes.

use std::time::Duration;

use super::tests::Folder;
use crate::adapter::ims::Secret;
use crate::adapter::sip::rtp::Srtp;
use crate::identity::passport::Attest;
use crate::media::audio::AudioCodec;

const ACCOUNT: &str = "[[sip.account]]\nnumber = \"+14085550009\"\nidentity = \"sip:a@ims.test\"\n\
                       password = \"pw\"\nregistrar = \"sip:ims.test\"\nlisten = \"127.0.0.1:5060\"\n\
                       destinations = \"+49*\"\n";
const TRUNK: &str = "[[sip.trunk]]\nname = \"carrier\"\nserver = \"sip:sbc.test;transport=tls\"\n\
                     numbers = \"+1408*\"\nlisten = \"127.0.0.1:5061\"\ndestinations = \"+44*\"\n";

#[test]
fn accounts_and_trunks_say_what_is_theirs_and_the_rest_is_usual() {
    let folder = Folder::new();
    let rtp = "[sip]\nrtp-listen = \"127.0.0.1\"\nrtp-ports = \"20000-20999\"\nmax-calls = 5\n\
               dns = [\"127.0.0.1:5353\", \"2001:db8::53\"]\n";
    let sip = folder.load(&format!("{rtp}{ACCOUNT}{TRUNK}")).unwrap().sip;
    assert_eq!((sip.rtp.range, sip.rtp.most), (Some(20_000..=20_999), 5));
    assert_eq!(sip.dns, ["127.0.0.1:5353".parse().unwrap(), "[2001:db8::53]:53".parse().unwrap()]);
    let (account, trunk) = (&sip.accounts[0], &sip.trunks[0]);
    assert_eq!((account.user.as_str(), account.ims, account.always), ("a@ims.test", true, false));
    assert_eq!(account.secret, Secret::Password("pw".to_owned()));
    assert_eq!(account.expires, Duration::from_secs(3_600));
    assert_eq!((trunk.attest, trunk.trusted, trunk.way.srtp), (Attest::C, true, Srtp::Off));
    assert_eq!(trunk.way.codecs[0], AudioCodec::Opus);
    assert!(!format!("{account:?}").contains("pw"), "secrets are not printed");
    let more = "attest = \"A\"\ntrusted = false\nsrtp = \"required\"\ncodecs = [\"pcma\", \"OPUS\"]\n\
                session-expires-ms = 1800000\nuser = \"u\"\npassword = \"p\"\npeers = \"192.0.2.0/24\"\n";
    let trunk = folder.load(&format!("{TRUNK}{more}")).unwrap().sip.trunks.remove(0);
    assert_eq!((trunk.attest, trunk.trusted, trunk.way.srtp), (Attest::A, false, Srtp::Required));
    assert_eq!(trunk.way.codecs, [AudioCodec::Pcma, AudioCodec::Opus]);
    assert_eq!(trunk.login, Some(("u".to_owned(), "p".to_owned())));
    for fine in ["sips:sbc.test", "sip:sbc.test", "sip:192.0.2.1\"\nsrtp-in-clear = true\nx5u = \"https://a"]
    {
        let toml = format!("{}srtp = \"offered\"\n", TRUNK.replace("sip:sbc.test;transport=tls", fine));
        assert_eq!(folder.load(&toml).unwrap().sip.trunks[0].way.srtp, Srtp::Offered, "{fine}");
    }
    let sim = ACCOUNT.replace(
        "password = \"pw\"",
        "k = \"465b5ce8b199b49faa5f0a2ee238a6bc\"\nopc = \"cd63cb71954a9f4e48a5994e37a02baf\"",
    );
    let account = folder.load(&sim).unwrap().sip.accounts.remove(0);
    assert!(matches!(account.secret, Secret::Aka { k, .. } if k[0] == 0x46));
}

#[test]
fn mistakes_in_ways_to_telephone_networks_are_named() {
    let folder = Folder::new();
    for (from, to, said) in [
        ("sip:ims.test", "ims.test", "sip.account.registrar"),
        ("+14085550009", "4085550009", "sip.account.number"),
        ("password = \"pw\"\n", "", "password"),
        ("password = \"pw\"\n", "k = \"00\"\n", "sip.account.k"),
        ("password = \"pw\"\n", "k = \"465b5ce8b199b49faa5f0a2ee238a6bc\"\n", "opc"),
        ("listen = \"127.0.0.1:5060\"\n", "", "sip.account.listen"),
        ("destinations = \"+49*\"\n", "", "sip.account.destinations"),
        ("listen", "listne", "sip.account.listen"),
    ] {
        let error = folder.error(&ACCOUNT.replacen(from, to, 1));
        assert!(error.contains(said), "{from}: {error}");
    }
    for (from, to, said) in [
        ("sip:sbc.test", "tel:1", "sip.trunk.server"),
        ("name", "srtp = \"yes\"\nname", "sip.trunk.srtp"),
        ("sip:sbc.test;transport=tls\"", "sip:192.0.2.1\"\nsrtp = \"offered\"", "srtp-in-clear"),
        ("sip:sbc.test;transport=tls\"", "sip:sbc.test;transport=tcp\"\nsrtp = \"required\"", "sbc.test"),
        ("name", "peer-names = \"sbc.test\"\nname", "ca = "),
        ("name", "codecs = \"G729\"\nname", "AMR-WB"),
        ("name", "attest = \"D\"\nname", "sip.trunk.attest"),
        ("name", "tls-listen = \"127.0.0.1:1\"\nname", "certificate"),
        ("name", "user = \"u\"\nname", "password"),
        ("name", "session-expires-ms = 1\nname", "90000"),
        ("name", "x5u = \"http://a\"\nname", "https://"),
    ] {
        let error = folder.error(&TRUNK.replacen(from, to, 1));
        assert!(error.contains(said), "{to}: {error}");
    }
    for (twice, said) in [(ACCOUNT, "already"), (TRUNK, "already")] {
        let error = folder.error(&format!("{twice}{twice}"));
        assert!(error.contains(said), "{error}");
    }
    assert!(folder.error("[sip]\ndns = \"dns.test\"\n").contains("sip.dns"));
    for ports in ["20000", "20001-20000", "0-9", "a-b"] {
        let error = folder.error(&format!("[sip]\nrtp-ports = \"{ports}\"\n"));
        assert!(error.contains("sip.rtp-ports"), "{error}");
    }
}

#[test]
fn ways_share_an_address_where_calls_can_be_told_apart() {
    let folder = Folder::new();
    let shared =
        |more: &str| TRUNK.replace("127.0.0.1:5061", "127.0.0.1:5060").replace("carrier", "other") + more;
    let one = TRUNK.replace("127.0.0.1:5061", "127.0.0.1:5060");
    // By the number called, by the sender, by the account's user.
    for other in [
        shared("").replace("+1408*", "+1650*"),
        shared("peers = \"192.0.2.9\"\n").replace("sbc.test", "sbc2.test"),
        ACCOUNT.replace("+14085550009", "+16505550009"),
        ACCOUNT.to_owned(),
    ] {
        folder.load(&format!("{one}{other}")).unwrap();
    }
    let second = ACCOUNT.replace("+14085550009", "+14085550008");
    folder.load(&format!("{ACCOUNT}{}", second.replace("sip:a@", "sip:b@"))).unwrap();
    let peers = "peers = \"192.0.2.0/24\"\n";
    for (toml, said) in [
        (
            format!("{one}{}", shared("")),
            "the trunk carrier shares 127.0.0.1:5060, and calls could be for either",
        ),
        (format!("{one}{peers}{}peers = \"192.0.2.7\"\n", shared("").replace("sbc.test", "x.test")), "peers"),
        (format!("{one}{}", shared("public = \"192.0.2.1\"\n").replace("+1408*", "+1*")), "public"),
        (format!("{ACCOUNT}{second}"), "identities with different users"),
        (
            format!("{ACCOUNT}{}", one.replace("sbc.test;transport=tls", "ims.test")),
            "the account a@ims.test shares",
        ),
        (format!("{TRUNK}{}", shared("").replace("127.0.0.1:5060", "0.0.0.0:5061")), "127.0.0.1:5061 too"),
    ] {
        let error = folder.error(&toml);
        assert!(error.contains(said) && error.contains("right "), "{said}: {error}");
        assert!(error.contains(".listen: "), "{error}");
    }
}
