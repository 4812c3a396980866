//! What a session description has to have before it is looked at closely.

/// What a description may hold at most.
const MAX_SDP: usize = 65_536;
const MAX_LINES: usize = 2_000;
const MAX_MEDIA: usize = 8;
const MAX_CANDIDATES: usize = 100;
/// Candidates that a full agent asks: as many as the port hears a session from.
const MAX_ASKED: usize = 8;

/// Which part of ICE a session plays (RFC 8445 §2.5, §6.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It can be reached, and answers checks.
    Lite,
    /// It sends checks to where the other side can be reached.
    Full,
}

/// Why a description can't be used; it says what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSdp(pub(super) String);

fn bad(why: impl Into<String>) -> BadSdp {
    BadSdp(why.into())
}

/// A description with those of its candidates that are used. An ICE-lite agent sends no checks (RFC 8445 §2.5), so where
/// the other side says that it can be reached is nothing to it, private addresses and names in `.local` least of all; a full
/// agent asks a few addresses. What can't be used for WebRTC is refused.
pub(super) fn checked(text: &str, role: Role) -> Result<String, BadSdp> {
    if text.len() > MAX_SDP {
        return Err(bad(format!("a session description has at most {MAX_SDP} bytes")));
    }
    if !text.starts_with("v=0") {
        return Err(bad("a session description begins with v=0 (RFC 8866 §5.1)"));
    }
    let mut out = String::with_capacity(text.len());
    let (mut media, mut candidates, mut asked, mut lines) = (0, 0, 0, 0);
    let (mut ufrag, mut password, mut fingerprint) = (false, false, false);
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        lines += 1;
        media += usize::from(line.starts_with("m="));
        if line.starts_with("a=candidate:") {
            candidates += 1;
            if role == Role::Lite || asked == MAX_ASKED || !can_be_asked(line) {
                continue;
            }
            asked += 1;
        }
        if line == "a=end-of-candidates" {
            continue;
        }
        ufrag |= line.starts_with("a=ice-ufrag:");
        password |= line.starts_with("a=ice-pwd:");
        fingerprint |= line.starts_with("a=fingerprint:");
        if line == "a=ice-lite" && role == Role::Lite {
            return Err(bad("this server is ICE-lite itself; the other side has to be a full ICE agent"));
        }
        out.push_str(line);
        out.push_str("\r\n");
    }
    if lines > MAX_LINES || media > MAX_MEDIA {
        return Err(bad(format!("at most {MAX_LINES} lines and {MAX_MEDIA} m= sections are taken")));
    }
    if media == 0 {
        return Err(bad("it has no m= section; m=audio is expected"));
    }
    if candidates > MAX_CANDIDATES {
        return Err(bad(format!("it has {candidates} candidates; at most {MAX_CANDIDATES} are taken")));
    }
    if !ufrag || !password {
        return Err(bad("a=ice-ufrag and a=ice-pwd are expected (RFC 8839 §5.4): media needs ICE"));
    }
    if !fingerprint {
        return Err(bad(
            "a=fingerprint is expected (RFC 8122 §5): media is DTLS-SRTP; SDES (a=crypto) is not taken",
        ));
    }
    Ok(out)
}

/// RFC 3264 §6: an answer has the m= sections of its offer in their order; RFC 9143 §7.3: with their names.
pub(super) fn same_media(offer: &str, answer: &str) -> Result<(), BadSdp> {
    let named = |text| sections(text).skip(1).map(|lines| (kind(&lines), value(&lines, "a=mid:"))).collect();
    let (offered, answered): (Vec<_>, Vec<_>) = (named(offer), named(answer));
    if offered == answered {
        return Ok(());
    }
    let list = |all: &[(&str, Option<&str>)]| {
        let all = all.iter().map(|(kind, mid)| format!("m={kind} a=mid:{}", mid.unwrap_or("(none)")));
        all.collect::<Vec<_>>().join(", ")
    };
    Err(bad(format!("the answer to [{}] has [{}]: the same are expected", list(&offered), list(&answered))))
}

/// The ICE credentials: of the session, or of the first m= section that has both (RFC 8839 §5.4).
pub(super) fn credentials(text: &str) -> Option<(String, String)> {
    sections(text).find_map(|lines| {
        let both = value(&lines, "a=ice-ufrag:").zip(value(&lines, "a=ice-pwd:"));
        both.map(|(name, password)| (name.to_owned(), password.to_owned()))
    })
}

/// The lines of the session, and those of each of its media.
fn sections(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let mut all = vec![Vec::new()];
    for line in text.lines().map(str::trim_end) {
        if line.starts_with("m=") {
            all.push(Vec::new());
        }
        all.last_mut().expect("there is a first one").push(line);
    }
    all.into_iter()
}

fn kind<'a>(section: &[&'a str]) -> &'a str {
    let media = section.first().and_then(|line| line.strip_prefix("m="));
    media.and_then(|media| media.split(' ').next()).unwrap_or_default()
}

fn value<'a>(section: &[&'a str], name: &str) -> Option<&'a str> {
    section.iter().find_map(|line| line.strip_prefix(name))
}

/// RFC 8839 §5.1: foundation, component, transport, priority, address, port. UDP to an address is what our ports speak.
fn can_be_asked(line: &str) -> bool {
    let mut fields = line.split(' ').skip(2);
    let udp = fields.next().is_some_and(|transport| transport.eq_ignore_ascii_case("udp"));
    udp && fields.nth(1).is_some_and(|address| address.parse::<std::net::IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<String, BadSdp> {
        super::checked(text, Role::Lite)
    }

    const GOOD: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
                        a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 AA\r\n";

    #[test]
    fn candidates_are_left_out_and_counted() {
        let with =
            |n: usize| format!("{GOOD}{}", "a=candidate:1 1 udp 1 192.168.0.1 5 typ host\r\n".repeat(n));
        assert_eq!(checked(&with(100)).unwrap(), GOOD);
        assert!(checked(&with(500)).unwrap_err().to_string().contains("500 candidates"));
        assert_eq!(checked(&GOOD.replace("\r\n", "\n")).unwrap(), GOOD);
    }

    #[test]
    fn what_webrtc_needs_is_asked_for_by_name() {
        for (line, said) in [
            ("a=ice-ufrag:abcd\r\n", "ice-ufrag"),
            ("a=ice-pwd:0123456789012345678901\r\n", "ice-pwd"),
            ("a=fingerprint:sha-256 AA\r\n", "fingerprint"),
            ("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n", "m=audio"),
            ("v=0\r\n", "v=0"),
        ] {
            let why = checked(&GOOD.replace(line, "")).unwrap_err().to_string();
            assert!(why.contains(said), "{line}: {why}");
        }
        assert!(checked(&format!("{GOOD}a=ice-lite\r\n")).is_err());
        assert!(checked(&format!("{GOOD}{}", "a=x\r\n".repeat(30_000))).is_err());
        assert!(checked(&format!("{GOOD}{}", "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n".repeat(9))).is_err());
    }

    #[test]
    fn an_answer_has_the_media_of_its_offer() {
        let text = |media: &[(&str, &str)]| {
            let lines = media.iter().map(|(kind, mid)| format!("m={kind} 9 x 0\r\na=mid:{mid}\r\n"));
            format!("v=0\r\n{}", lines.collect::<String>())
        };
        let offer = text(&[("audio", "a"), ("video", "v")]);
        assert_eq!(same_media(&offer, &offer.replace("\r\n", "\n")), Ok(()));
        for media in [
            &[("audio", "a")][..],
            &[("video", "v"), ("audio", "a")],
            &[("audio", "a"), ("audio", "v")],
            &[("audio", "a"), ("video", "w")],
        ] {
            let why = same_media(&offer, &text(media)).unwrap_err().to_string();
            assert!(why.contains("m=video a=mid:v"), "{why}");
        }
        assert!(same_media(&offer, &offer.replace("a=mid:v\r\n", "")).is_err());
        let whole = format!("{offer}a=ice-ufrag:u\r\na=ice-pwd:p\r\n");
        assert_eq!(credentials(&whole), Some(("u".to_owned(), "p".to_owned())));
        let apart = offer.replace("a=mid:a\r\n", "a=ice-ufrag:u\r\n") + "a=ice-pwd:p\r\n";
        assert_eq!(credentials(&apart), None);
    }

    #[test]
    fn a_full_agent_asks_a_few_addresses_and_takes_a_lite_one() {
        let candidate = "a=candidate:1 1 udp 1 192.0.2.1 5 typ host\r\n";
        let others = "a=candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active\r\n\
                      a=candidate:1 1 udp 1 4b8e.local 5 typ host\r\na=candidate:1 1 udp\r\na=candidate:\r\n";
        let full = |more: &str| super::checked(&format!("{GOOD}{more}"), Role::Full);
        assert_eq!(full(&format!("{others}{candidate}")).unwrap(), format!("{GOOD}{candidate}"));
        assert_eq!(full(&candidate.repeat(50)).unwrap(), format!("{GOOD}{}", candidate.repeat(MAX_ASKED)));
        assert!(full(&candidate.repeat(101)).is_err());
        assert!(full("a=ice-lite\r\n").unwrap().ends_with("a=ice-lite\r\n"));
    }
}
