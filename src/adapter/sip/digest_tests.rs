use proptest::prelude::*;

use super::super::value::{Param, find};
use super::*;

const SEED: [u8; 32] = [7; 32];

fn fields(value: &str) -> Vec<Param<'_>> {
    quoted_parts(value.strip_prefix("Digest ").unwrap(), ',').map(param).collect()
}

/// Recomputes a response from what the header says.
fn fits(hash: Hash, value: &str, password: &str, method: &str, body: Option<&[u8]>, session: bool) -> bool {
    let all = fields(value);
    let get = |name: &str| find(&all, name).unwrap();
    let mut key = hash.hex(&[format!("{}:{}:{password}", get("username"), get("realm")).as_bytes()]);
    if session {
        key = hash.hex(&[format!("{key}:{}:{}", get("nonce"), get("cnonce")).as_bytes()]);
    }
    let mut what = format!("{method}:{}", get("uri"));
    if let Some(body) = body {
        what = format!("{what}:{}", hash.hex(&[body]));
    }
    let middle = match find(&all, "qop") {
        Some(qop) => format!("{}:{}:{}:{qop}", get("nonce"), get("nc"), get("cnonce")),
        None => get("nonce").to_owned(),
    };
    let what = hash.hex(&[what.as_bytes()]);
    hash.hex(&[format!("{key}:{middle}:{what}").as_bytes()]) == get("response")
}

#[test]
fn the_examples_of_rfc_7616_and_rfc_2617_hold() {
    // RFC 7616 §3.9.1 and RFC 2617 §3.5 fix the client nonce; ours is derived, so the sum is checked.
    for (hash, nonce, cnonce, password, response) in [
        (
            Hash::Md5,
            "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            "Circle of Life",
            "8ca523f5e9506fed4657c9700eebdbec",
        ),
        (
            Hash::Sha256,
            "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            "Circle of Life",
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        ),
    ] {
        let value = format!(
            "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", nonce=\"{nonce}\", \
             uri=\"/dir/index.html\", response=\"{response}\", cnonce=\"{cnonce}\", qop=auth, nc=00000001"
        );
        assert!(fits(hash, &value, password, "GET", None, false), "{hash:?}");
    }
    // RFC 2617 §3.5, without qop as in RFC 2069 (its errata): no client nonce, so the whole answer is known.
    let challenge = Challenge::all([
        "Digest realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", \
         opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"",
    ]);
    let asked = Asked { method: "GET", uri: "/dir/index.html", body: b"", count: 1 };
    assert_eq!(
        answer(&challenge[0], "Mufasa", b"CircleOfLife", asked, &SEED),
        "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", \
         nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"/dir/index.html\", \
         response=\"1949323746fe6a43ef61f9606e7febea\", opaque=\"5ccc069c403ebaf9f0171e9517f40e41\""
    );
}

#[test]
fn each_algorithm_and_quality_is_answered_and_counted() {
    let user = Digest::new("al\"ice", "pa:ss\\w", SEED);
    for (algorithm, hash, session) in [
        ("", Hash::Md5, false),
        (", algorithm=MD5", Hash::Md5, false),
        (", algorithm=\"md5\"", Hash::Md5, false),
        (", algorithm=MD5-sess", Hash::Md5, true),
        (", algorithm=SHA-256", Hash::Sha256, false),
        (", algorithm=SHA-256-sess", Hash::Sha256, true),
        (", algorithm=SHA-512-256", Hash::Sha512_256, false),
    ] {
        for (qop, body) in [
            ("", None),
            (", qop=\"auth\"", None),
            (", qop=\"auth-int,auth\"", None),
            (", qop=\"auth-int\"", Some(&b"v=0\r\n"[..])),
        ] {
            let challenge = format!("Digest realm=\"a, b\", nonce=\"n=/+\"{algorithm}{qop}, opaque=\"\"");
            let one = user.authorize(&challenge, "INVITE", "sip:b@c", b"v=0\r\n", 1).unwrap();
            let second = user.authorize(&challenge, "INVITE", "sip:b@c", b"v=0\r\n", 10).unwrap();
            for value in [&one, &second] {
                assert!(fits(hash, value, "pa:ss\\w", "INVITE", body, session), "{challenge}\n{value}");
                assert!(!fits(hash, value, "pass", "INVITE", body, session));
            }
            assert_eq!(find(&fields(&one), "opaque"), Some(""));
            if !qop.is_empty() {
                assert_eq!(find(&fields(&second), "nc"), Some("0000000a"));
                assert_eq!(find(&fields(&one), "cnonce"), find(&fields(&second), "cnonce"));
            }
            assert_eq!(find(&fields(&one), "algorithm").is_some(), !algorithm.is_empty());
        }
    }
}

#[test]
fn of_several_challenges_the_strongest_that_can_be_answered_is_chosen() {
    let chosen = |values: &[&str]| {
        let all = Challenge::all(values.iter().copied());
        Challenge::strongest(&all).map(|challenge| challenge.nonce.clone())
    };
    let md5 = r#"Digest realm="r", nonce="1", algorithm=MD5, qop="auth""#;
    let sha = r#"Digest realm="r", nonce="2", algorithm=SHA-256, qop="auth""#;
    let other = r#"Digest realm="r", nonce="3", algorithm=WHIRL-512"#;
    let aka = r#"Digest realm="r", nonce="4", algorithm=AKAv1-MD5"#;
    assert_eq!(chosen(&[md5, sha]).as_deref(), Some("2"));
    assert_eq!(chosen(&[sha, md5]).as_deref(), Some("2"));
    assert_eq!(chosen(&[other, md5, aka]).as_deref(), Some("1"));
    assert_eq!(chosen(&[&format!("Basic realm=\"x\", {md5}, Bearer a=b,{sha}")]).as_deref(), Some("2"));
    assert_eq!(chosen(&[aka, other, "Basic realm=\"x\"", "", "Digest"]), None);
    let broken = r#"Digest realm="r", algorithm=MD5"#;
    assert_eq!(chosen(&[broken, r#"Digest realm="r", nonce="5", qop="token""#]), None);
    assert!(stale(r#"Digest realm="r", nonce="1", stale=TRUE"#));
    assert!(!stale(md5) && !stale(r#"Digest realm="r", nonce="1", stale=false"#));
}

#[test]
fn a_kamailio_challenge_is_read() {
    let value = "Digest realm=\"ims.test\", nonce=\"k3T2+4W/Zg==\", algorithm=MD5, qop=\"auth,auth-int\"";
    let all = Challenge::all([value]);
    assert_eq!((all.len(), all[0].qop, all[0].named.as_deref()), (1, Some(Qop::Auth), Some("MD5")));
    assert_eq!(format!("{:?}", Digest::new("u", "secret", SEED)), "Digest");
}

proptest! {
    #[test]
    fn any_challenge_is_answered_or_not_in_one_line(
        head in "(Digest |Basic |)",
        text in "([a-z]{0,9}=?\"?[ -~é\\r\\n]{0,12}\"?,? ?){0,12}",
        nonce in "[ -~]{0,20}",
    ) {
        let user = Digest::new("u", "p", SEED);
        let known = format!("{head}realm=\"r\", nonce={}, {text}", quoted(&nonce));
        for value in [format!("{head}{text}"), known] {
            if let Some(answer) = user.authorize(&value, "REGISTER", "sip:a", b"", u32::MAX) {
                prop_assert!(!answer.contains(['\r', '\n']));
                prop_assert!(answer.len() < 4 * MAX_TEXT);
            }
        }
    }
}
