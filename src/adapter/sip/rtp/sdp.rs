//! Reading a session description (RFC 8866): what matters to audio on RTP.

use std::net::IpAddr;

/// What a description may hold at most.
const MAX_SDP: usize = 65_536;
const MAX_LINES: usize = 2_000;
const MAX_MEDIA: usize = 32;
const MAX_FORMATS: usize = 64;

/// Why a description can't be used; it says what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSdp(pub(super) String);

pub(super) fn bad(why: impl Into<String>) -> BadSdp {
    BadSdp(why.into())
}

/// A description.
#[derive(Clone, Debug, Default)]
pub(super) struct Session<'a> {
    connection: Option<&'a str>,
    attributes: Vec<&'a str>,
    pub(super) media: Vec<Media<'a>>,
}

/// One m= section.
#[derive(Clone, Debug, Default)]
pub(super) struct Media<'a> {
    pub(super) kind: &'a str,
    pub(super) port: u16,
    pub(super) protocol: &'a str,
    pub(super) formats: Vec<&'a str>,
    connection: Option<&'a str>,
    pub(super) attributes: Vec<&'a str>,
}

/// Which way media goes, as its writer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Direction {
    pub(super) sends: bool,
    pub(super) receives: bool,
}

impl Direction {
    pub(super) const BOTH: Self = Self { sends: true, receives: true };

    pub(super) fn name(self) -> &'static str {
        match (self.sends, self.receives) {
            (true, true) => "sendrecv",
            (true, false) => "sendonly",
            (false, true) => "recvonly",
            (false, false) => "inactive",
        }
    }

    /// The same, as the other side sees it.
    pub(super) fn mirrored(self) -> Self {
        Self { sends: self.receives, receives: self.sends }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { sends: self.sends && other.sends, receives: self.receives && other.receives }
    }

    fn parse(attribute: &str) -> Option<Self> {
        let all = [(true, true), (true, false), (false, true), (false, false)];
        all.map(|(sends, receives)| Self { sends, receives }).into_iter().find(|d| d.name() == attribute)
    }
}

impl<'a> Session<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, BadSdp> {
        if text.len() > MAX_SDP {
            return Err(bad(format!("a session description has at most {MAX_SDP} bytes")));
        }
        let lines = text.split('\n').map(|line| line.trim_end_matches('\r')).filter(|line| !line.is_empty());
        let mut session = Self::default();
        for (n, line) in lines.enumerate() {
            if n == 0 && line != "v=0" {
                return Err(bad("a session description begins with v=0 (RFC 8866 §5.1)"));
            }
            if n >= MAX_LINES {
                return Err(bad(format!("a session description has at most {MAX_LINES} lines")));
            }
            let Some((kind, value)) = line.split_once('=').filter(|(kind, _)| kind.len() == 1) else {
                return Err(bad(format!("line {} is no `letter=value` (RFC 8866 §5)", n + 1)));
            };
            let (connection, attributes) = match session.media.last_mut() {
                Some(media) => (&mut media.connection, &mut media.attributes),
                None => (&mut session.connection, &mut session.attributes),
            };
            match kind {
                "c" => *connection = Some(value),
                "a" => attributes.push(value),
                "m" if session.media.len() >= MAX_MEDIA => {
                    return Err(bad(format!("at most {MAX_MEDIA} m= sections are taken")));
                }
                "m" => session.media.push(Media::parse(value)?),
                _ => {}
            }
        }
        if session.media.is_empty() {
            return Err(bad("it has no m= section; m=audio is expected"));
        }
        Ok(session)
    }

    /// Which way a section's media goes (RFC 8866 §6.7).
    pub(super) fn direction(&self, media: &Media<'_>) -> Direction {
        let find = |all: &[&str]| all.iter().rev().find_map(|attribute| Direction::parse(attribute));
        find(&media.attributes).or_else(|| find(&self.attributes)).unwrap_or(Direction::BOTH)
    }

    /// Where a section's media is wanted; none: nowhere, as in a hold by `c=0.0.0.0` (RFC 3264 §8.4).
    pub(super) fn address(&self, media: &Media<'_>) -> Result<Option<IpAddr>, BadSdp> {
        let Some(line) = media.connection.or(self.connection) else {
            return Err(bad("no c= line says where audio goes (RFC 8866 §5.7)"));
        };
        let mut fields = line.split_ascii_whitespace();
        let (net, kind, address) = (fields.next(), fields.next(), fields.next().unwrap_or_default());
        let right = net == Some("IN") && matches!(kind, Some("IP4" | "IP6"));
        // A multicast address has a TTL behind it.
        let parsed = address.split('/').next().unwrap_or_default().parse::<IpAddr>();
        let Some(ip) = parsed.ok().filter(|_| right) else {
            return Err(bad("c= has to be `IN IP4` or `IN IP6` and an IP address, not a name"));
        };
        let ip = ip.to_canonical();
        if ip.is_multicast() || ip == IpAddr::V4([255; 4].into()) {
            return Err(bad("c= names a multicast or broadcast address; calls are unicast"));
        }
        Ok((!ip.is_unspecified()).then_some(ip))
    }
}

/// What an attribute of this name says.
fn value<'a>(attribute: &'a str, name: &str) -> Option<&'a str> {
    attribute.strip_prefix(name)?.strip_prefix(':').map(str::trim)
}

impl<'a> Media<'a> {
    fn parse(line: &'a str) -> Result<Self, BadSdp> {
        let mut fields = line.split_ascii_whitespace();
        let (kind, port, protocol) = (fields.next(), fields.next(), fields.next());
        let port = port.map(|port| port.split('/').next().unwrap_or_default());
        let (Some(kind), Some(Ok(port)), Some(protocol)) = (kind, port.map(str::parse::<u16>), protocol)
        else {
            return Err(bad("an m= line is `media port protocol formats` (RFC 8866 §5.14)"));
        };
        let formats: Vec<_> = fields.take(MAX_FORMATS).collect();
        if formats.is_empty() {
            return Err(bad(format!("m={kind} names no format (RFC 8866 §5.14)")));
        }
        Ok(Self { kind, port, protocol, formats, ..Self::default() })
    }

    /// The values of one of its own attributes.
    pub(super) fn own<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a str> + 's {
        self.attributes.iter().filter_map(move |attribute| value(attribute, name))
    }

    /// Whether it has an attribute without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.attributes.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "v=0\r\no=a 1 2 IN IP4 h\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\na=sendonly\r\n\
                        m=audio 4000 RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\na=rtcp-mux\r\n\
                        m=video 0 RTP/AVP 31\r\nc=IN IP6 2001:db8::1\r\na=inactive\r\n";

    #[test]
    fn sections_have_what_the_session_has_unless_they_say_otherwise() {
        for text in [TEXT.to_owned(), TEXT.replace("\r\n", "\n")] {
            let session = Session::parse(&text).unwrap();
            let [audio, video] = &session.media[..] else { panic!() };
            assert_eq!((audio.kind, audio.port, &audio.formats[..]), ("audio", 4_000, &["0", "8"][..]));
            assert_eq!(session.direction(audio).name(), "sendonly");
            assert_eq!(session.direction(video).name(), "inactive");
            assert_eq!(session.address(audio).unwrap(), Some([192, 0, 2, 1].into()));
            assert!(session.address(video).unwrap().unwrap().is_ipv6());
            assert!(audio.has("rtcp-mux") && audio.own("rtpmap").eq(["0 PCMU/8000"]));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (from, to, said) in [
            ("v=0", "v=1", "v=0"),
            ("m=audio 4000", "m=audio 70000", "m= line"),
            ("s=-", "nonsense", "line 3"),
            (" 0 8", "", "no format"),
        ] {
            let why = Session::parse(&TEXT.replace(from, to)).unwrap_err().to_string();
            assert!(why.contains(said), "{why}");
        }
        for address in ["224.0.0.1/127", "255.255.255.255", "example.com", "", "::ffff:224.0.0.1"] {
            let text = TEXT.replace("192.0.2.1", address);
            let session = Session::parse(&text).unwrap();
            assert!(session.address(&session.media[0]).is_err(), "{address}");
        }
        let text = TEXT.replace("192.0.2.1", "0.0.0.0");
        let session = Session::parse(&text).unwrap();
        assert_eq!(session.address(&session.media[0]), Ok(None));
        assert!(Session::parse(&format!("{TEXT}{}", "a=x\n".repeat(20_000))).is_err());
        assert!(Session::parse(&format!("{TEXT}{}", "a=x\n".repeat(2_100))).is_err());
        assert!(Session::parse(&format!("{TEXT}{}", "m=audio 1 RTP/AVP 0\n".repeat(40))).is_err());
    }
}
