//! Offer and answer (RFC 3264): what we say, and what is agreed on.

mod kept;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

pub use self::kept::Kept;
use super::crypto::{Key, Suite};
use super::formats;
use super::sdp::{BadSdp, Direction, Media, Session, bad};
use super::{RtpSettings, Srtp, names, possible};
use crate::media::audio::AudioCodec;
use crate::media::rtp::lane::Agreed;
use crate::protocol::advertisement::Advertisement;

/// RFC 6464 §5
const LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";

/// What is agreed on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Remote {
    pub(super) agreed: Agreed,
    /// Where RTP goes; none: the far side wants none.
    pub(super) to: Option<SocketAddr>,
    pub(super) rtcp: Option<SocketAddr>,
    pub(super) mux: bool,
    /// Ours.
    pub(super) direction: Direction,
    /// The far side holds the call.
    pub(super) held: bool,
    /// RFC 6464: the extension's id.
    pub(super) level: Option<u8>,
    /// Ours, and theirs.
    pub(super) keys: Option<(Key, Key)>,
}

/// An m= line as it has to be said again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    kind: String,
    protocol: String,
    formats: String,
}

impl Line {
    fn new(media: &Media<'_>) -> Self {
        let (kind, protocol) = (media.kind.to_owned(), media.protocol.to_owned());
        Self { kind, protocol, formats: media.formats.join(" ") }
    }

    fn refusal(&self) -> String {
        format!("m={} 0 {} {}\r\n", self.kind, self.protocol, self.formats)
    }
}

/// The m= lines of a session, and which one is ours.
#[derive(Clone, Debug, PartialEq)]
struct Shape {
    lines: Vec<Line>,
    audio: usize,
}

#[derive(Clone, Debug)]
struct Pending {
    agreed: Agreed,
    keys: Vec<Key>,
    direction: Direction,
    held: bool,
    shape: Shape,
}

/// A session's descriptions.
#[derive(Debug)]
pub(super) struct Negotiation {
    codecs: Vec<AudioCodec>,
    srtp: Srtp,
    /// Others could read the descriptions on their way: no keys go into them.
    exposed: bool,
    address: IpAddr,
    /// Whether IPv4 and IPv6 can be reached.
    reaches: (bool, bool),
    port: u16,
    id: u64,
    version: u64,
    /// What was said last, without o=.
    said: String,
    keys: Vec<Key>,
    /// The suite and tag of the keys that a restart lost.
    lost: Option<(Suite, u32)>,
    held: bool,
    shape: Option<Shape>,
    remote: Option<Remote>,
    pending: Option<Pending>,
}

impl Negotiation {
    pub(super) fn new(settings: &RtpSettings, address: IpAddr, port: u16, id: u64) -> Self {
        let listen = settings.listen;
        let both = listen.is_unspecified();
        Self {
            codecs: settings.codecs.clone(),
            srtp: settings.srtp,
            exposed: false,
            address,
            reaches: (listen.is_ipv4() || both, listen.is_ipv6()),
            port,
            id,
            version: 0,
            said: String::new(),
            keys: Vec::new(),
            lost: None,
            held: false,
            shape: None,
            remote: None,
            pending: None,
        }
    }

    pub(super) fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// What the far side sends and renders itself.
    pub(super) fn native(&self) -> Advertisement {
        let Some(remote) = &self.remote else { return possible(&self.codecs) };
        let names: Vec<_> = remote.agreed.codecs.iter().map(|format| format.codec.name()).collect();
        let mut riders = Vec::new();
        if !remote.agreed.events.is_empty() {
            riders.push("telephone-event");
        }
        riders.extend(remote.agreed.noise.map(|_| "CN"));
        super::advertised(&names, &riders)
    }

    /// Puts what the other side of the call knows first in our offers.
    pub(super) fn prefer(&mut self, advertisement: &Advertisement) {
        let known = names(advertisement);
        self.codecs.sort_by_key(|codec| known.iter().position(|n| *n == codec.name()).unwrap_or(usize::MAX));
    }

    /// Whether others could read the descriptions on their way (RFC 4568 §8.3).
    pub(super) fn expose(&mut self, exposed: bool) {
        self.exposed = exposed;
    }

    /// Offers audio, or offers it again.
    pub(super) fn offer(&mut self, held: bool) -> String {
        let agreed = match &self.remote {
            // RFC 3264 §8.3.2: what a number means stays.
            Some(remote) => remote.agreed.clone(),
            None => formats::offered(&self.codecs),
        };
        let direction = match (held, self.remote.as_ref().is_some_and(|remote| remote.held)) {
            (true, true) => Direction { sends: false, receives: false },
            (true, false) => Direction { sends: true, receives: false },
            (false, _) => Direction::BOTH,
        };
        let keys = self.offered_keys();
        let protocol = if self.srtp == Srtp::Required { "RTP/SAVP" } else { "RTP/AVP" };
        let (formats, mut lines) = formats::write(&agreed);
        keys.iter().for_each(|key| lines += &key.line());
        let fresh = Line { kind: "audio".into(), protocol: protocol.into(), formats: String::new() };
        let shape = self.shape.clone().unwrap_or(Shape { lines: vec![fresh], audio: 0 });
        let mux = self.remote.as_ref().is_some_and(|remote| remote.mux);
        if mux {
            lines += "a=rtcp-mux\r\n";
        }
        let body = self.body(&shape, &formats, &lines, direction);
        self.pending = Some(Pending { agreed, keys, direction, held, shape });
        self.say(body)
    }

    fn offered_keys(&mut self) -> Vec<Key> {
        if let Some((suite, tag)) = self.lost {
            return self.key(suite, tag).into_iter().collect();
        }
        if self.srtp == Srtp::Off || self.exposed {
            return Vec::new();
        }
        // RFC 4568 §7.1.4: a session that has keys goes on with their suite.
        match self.remote.as_ref().map(|remote| remote.keys.as_ref()) {
            Some(Some((ours, _))) => vec![ours.clone()],
            Some(None) if self.srtp == Srtp::Offered => Vec::new(),
            _ => (1..).zip(Suite::ALL).filter_map(|(tag, suite)| self.key(suite, tag)).collect(),
        }
    }

    /// Our key of a suite; always the same, so that what it encrypts is numbered on.
    fn key(&mut self, suite: Suite, tag: u32) -> Option<Key> {
        if let Some(own) = self.keys.iter().find(|own| own.suite == suite) {
            return Some(Key { tag, ..own.clone() });
        }
        let fresh = Key::random(suite, tag)?;
        self.keys.push(fresh.clone());
        Some(fresh)
    }

    /// Answers an offer. Nothing changes where it can't be taken.
    pub(super) fn answer(&mut self, text: &str) -> Result<String, BadSdp> {
        let session = Session::parse(text)?;
        let (index, theirs) = self.choose(&session)?;
        let media = &session.media[index];
        let agreed = formats::answer(media, &self.codecs)?;
        let keys = match theirs {
            Some(theirs) => {
                let ours = self.key(theirs.suite, theirs.tag);
                Some((ours.ok_or_else(|| bad("no key can be made for SRTP now"))?, theirs))
            }
            None => None,
        };
        let mut remote = self.read(&session, media, agreed)?;
        let ours = Direction { sends: true, receives: !self.held };
        remote.direction = session.direction(media).mirrored().and(ours);
        remote.mux = media.has("rtcp-mux");
        if remote.mux {
            remote.rtcp = remote.to;
        }
        remote.level = media.own("extmap").find_map(level);
        remote.keys = keys;
        let (formats, mut lines) = formats::write(&remote.agreed);
        if let Some((ours, _)) = &remote.keys {
            lines += &ours.line();
        }
        if remote.mux {
            lines += "a=rtcp-mux\r\n";
        }
        if let Some(id) = remote.level {
            let _ = write!(lines, "a=extmap:{id} {LEVEL}\r\n");
        }
        if let Some(mid) = media.own("mid").next() {
            let _ = write!(lines, "a=mid:{mid}\r\n");
        }
        preconditions(media, &mut lines);
        let shape = Shape { lines: session.media.iter().map(Line::new).collect(), audio: index };
        let body = self.body(&shape, &formats, &lines, remote.direction);
        // An offer of ours that met theirs is made again as it was: it still waits for its answer.
        (self.remote, self.shape, self.lost) = (Some(remote), Some(shape), None);
        Ok(self.say(body))
    }

    /// Takes the answer to our newest offer; another branch's may follow and replace it.
    pub(super) fn answered(&mut self, text: &str) -> Result<(), BadSdp> {
        let session = Session::parse(text)?;
        let Some(pending) = &self.pending else {
            return Err(bad("no offer of this server waits for an answer"));
        };
        let (ours, theirs) = (pending.shape.lines.len(), session.media.len());
        if ours != theirs {
            return Err(bad(format!("the answer has {theirs} m= lines, the offer {ours} (RFC 3264 §6)")));
        }
        let media = &session.media[pending.shape.audio];
        if media.kind != "audio" {
            return Err(bad("the answer has no m=audio where the offer has it (RFC 3264 §6)"));
        }
        if media.port == 0 {
            return Err(bad("the answer refuses audio (port 0)"));
        }
        let secure = profile(media.protocol).ok_or_else(|| unknown(media))?;
        let agreed = formats::answered(media, &pending.agreed)?;
        let mut theirs = Key::read(media);
        theirs.retain(|key| pending.keys.iter().any(|own| own.tag == key.tag && own.suite == key.suite));
        let keys = theirs.into_iter().next().and_then(|theirs| {
            let ours = pending.keys.iter().find(|own| own.tag == theirs.tag)?;
            Some((ours.clone(), theirs))
        });
        if keys.is_none() && (secure || self.srtp == Srtp::Required) {
            return Err(bad("the answer has no a=crypto that takes one of the offer's (RFC 4568 §5.1.2)"));
        }
        let mut remote = self.read(&session, media, agreed)?;
        remote.direction = session.direction(media).mirrored().and(pending.direction);
        remote.mux = media.has("rtcp-mux") && self.remote.as_ref().is_some_and(|before| before.mux);
        if remote.mux {
            remote.rtcp = remote.to;
        }
        remote.level = self.remote.as_ref().and_then(|before| before.level);
        remote.keys = keys;
        (self.held, self.lost) = (pending.held, None);
        self.shape = Some(pending.shape.clone());
        self.remote = Some(remote);
        Ok(())
    }

    /// Our newest offer was refused: what was agreed before stands.
    pub(super) fn refused(&mut self) {
        self.pending = None;
    }

    /// The section that is taken, and its key; the first of those that can be.
    fn choose(&self, session: &Session<'_>) -> Result<(usize, Option<Key>), BadSdp> {
        let audio = |(_, media): &(usize, &Media<'_>)| media.kind == "audio" && media.port != 0;
        let all: Vec<_> = session.media.iter().enumerate().filter(audio).collect();
        if all.is_empty() {
            return Err(bad("it has no m=audio with a port; audio is what is taken here"));
        }
        let usable = |media: &Media<'_>| formats::answer(media, &self.codecs).is_ok();
        if self.srtp != Srtp::Off && !self.exposed {
            for (index, media) in &all {
                let key = Key::read(media).into_iter().next().filter(|_| profile(media.protocol).is_some());
                if let Some(key) = key.filter(|_| usable(media)) {
                    return Ok((*index, Some(key)));
                }
            }
        }
        let plain = |media: &Media<'_>| profile(media.protocol) == Some(false);
        let found = all.iter().find(|(_, media)| plain(media) && usable(media));
        if let Some((index, _)) = found.filter(|_| self.srtp != Srtp::Required) {
            return Ok((*index, None));
        }
        let first = all[0].1;
        // Why: the codecs, or the way.
        formats::answer(first, &self.codecs)?;
        Err(match (profile(first.protocol), self.srtp) {
            (None, _) => unknown(first),
            (Some(true), Srtp::Off) => bad("RTP/SAVP is not taken here; RTP/AVP would be right"),
            (_, Srtp::Offered | Srtp::Required) if self.exposed => {
                bad("keys for SRTP are taken by TLS only: the call has to come by TLS")
            }
            _ => bad("SRTP is expected: RTP/SAVP with a=crypto of AES_CM_128_HMAC_SHA1_80 or _32"),
        })
    }

    fn read(&self, session: &Session<'_>, media: &Media<'_>, agreed: Agreed) -> Result<Remote, BadSdp> {
        let address = session.address(media)?;
        let reached = |ip: &IpAddr| if ip.is_ipv4() { self.reaches.0 } else { self.reaches.1 };
        if let Some(ip) = address.filter(|ip| !reached(ip)) {
            let (own, other) = if ip.is_ipv4() { ("IPv6", "IPv4") } else { ("IPv4", "IPv6") };
            return Err(bad(format!("c= names an {other} address; this end of the call has {own} only")));
        }
        let to = address.map(|ip| SocketAddr::new(ip, media.port));
        let rtcp = to.and_then(|to| {
            // RFC 3605: another port, and perhaps another address; none: the next port.
            let said = media.own("rtcp").next();
            let port = said.and_then(|said| said.split(' ').next()?.parse().ok());
            let port = port.or_else(|| to.port().checked_add(1))?;
            Some(SocketAddr::new(to.ip(), port)).filter(|to| to.port() != 0)
        });
        let held = address.is_none() || !session.direction(media).receives;
        let (mux, direction, level, keys) = (false, Direction::BOTH, None, None);
        Ok(Remote { agreed, to, rtcp, mux, direction, held, level, keys })
    }

    /// A description without v= and o=.
    fn body(&self, shape: &Shape, formats: &str, lines: &str, direction: Direction) -> String {
        let mut body = format!("s=-\r\nc=IN {}\r\nt=0 0\r\n", address(self.address));
        for (n, line) in shape.lines.iter().enumerate() {
            if n == shape.audio {
                let (port, protocol) = (self.port, &line.protocol);
                let _ = write!(body, "m=audio {port} {protocol}{formats}\r\n{lines}");
                let _ = write!(body, "a=ptime:20\r\na={}\r\n", direction.name());
            } else {
                body += &line.refusal();
            }
        }
        body
    }

    fn say(&mut self, body: String) -> String {
        // RFC 3264 §8: one more where something changed.
        if body != self.said {
            self.version += 1;
            self.said = body;
        }
        let (id, version, address) = (self.id, self.version, address(self.address));
        format!("v=0\r\no=- {id} {version} IN {address}\r\n{}", self.said)
    }
}

fn address(ip: IpAddr) -> String {
    format!("{} {ip}", if ip.is_ipv4() { "IP4" } else { "IP6" })
}

/// Whether a profile encrypts; none: it is not spoken here.
fn profile(protocol: &str) -> Option<bool> {
    match protocol.to_ascii_uppercase().as_str() {
        "RTP/AVP" | "RTP/AVPF" => Some(false),
        "RTP/SAVP" | "RTP/SAVPF" => Some(true),
        _ => None,
    }
}

fn unknown(media: &Media<'_>) -> BadSdp {
    let protocol: String = media.protocol.chars().take(30).collect();
    bad(format!("audio over {protocol} is not taken here; RTP/AVP or RTP/SAVP with a=crypto would be right"))
}

/// RFC 8285 §5: an id that fits one byte's head.
fn level(extension: &str) -> Option<u8> {
    let (id, uri) = extension.split_once(' ')?;
    uri.split(' ').next().filter(|uri| *uri == LEVEL)?;
    id.split('/').next()?.parse().ok().filter(|id| (1..=14).contains(id))
}

/// RFC 3312 §5: our resources need no reservation, and the far side says when it has its own.
fn preconditions(media: &Media<'_>, lines: &mut String) {
    let qos = |name| media.own(name).filter_map(|line| line.strip_prefix("qos ")).collect::<Vec<_>>();
    let (current, desired) = (qos("curr"), qos("des"));
    if desired.is_empty() {
        return;
    }
    let theirs = current.iter().find_map(|line| line.strip_prefix("local "));
    let known = |tag: &&str| matches!(*tag, "none" | "send" | "recv" | "sendrecv");
    let theirs = theirs.filter(known).unwrap_or("none");
    if desired.iter().any(|line| line.split(' ').nth(1) == Some("e2e")) {
        *lines += "a=curr:qos e2e sendrecv\r\n";
    } else {
        let _ = write!(lines, "a=curr:qos local sendrecv\r\na=curr:qos remote {theirs}\r\n");
    }
    for line in desired.iter().take(8) {
        let fields: Vec<_> = line.split(' ').collect();
        let &[strength, status, direction] = &fields[..] else { continue };
        let strength = match strength {
            "mandatory" | "optional" => strength,
            _ => "none",
        };
        let ours = match status {
            "local" => "remote",
            "remote" => "local",
            "e2e" => "e2e",
            _ => continue,
        };
        if !known(&direction) {
            continue;
        }
        let _ = write!(lines, "a=des:qos {strength} {ours} {direction}\r\n");
    }
    if theirs != "sendrecv" && !lines.contains("curr:qos e2e") {
        *lines += "a=conf:qos remote sendrecv\r\n";
    }
}

#[cfg(test)]
mod tests;
