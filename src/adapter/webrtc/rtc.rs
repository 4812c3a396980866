//! One str0m session: how it is set up, and what its descriptions have agreed on.

use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::format::Codec;
use str0m::media::{Direction, Frequency, MediaKind, Mid, Pt};
use str0m::{Candidate, IceCreds, Rtc, RtcConfig};

use super::port::Port;
use super::sdp::{self, BadSdp, Role};
use super::video::VideoCodec;
use crate::clock;
use crate::media::audio::AudioCodec;
use crate::protocol::advertisement::Advertisement;

/// Payload types of telephone-event in our own offers, beside opus and beside G.711.
const EVENT_48: u8 = 110;
const EVENT_8: u8 = 126;

/// What a description agreed on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Agreed {
    pub(super) audio: Option<Audio>,
    pub(super) video: Option<Video>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Audio {
    pub(super) mid: Mid,
    /// The preferred one first.
    pub(super) codecs: Vec<(AudioCodec, Pt)>,
    /// telephone-event, by clock rate.
    pub(super) events: Vec<(u32, Pt)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Video {
    pub(super) mid: Mid,
    pub(super) codecs: Vec<(VideoCodec, Pt)>,
}

impl Agreed {
    /// What the browser sends and renders itself, as RIPT says it: source and sink 1 are audio, 2 video.
    pub(super) fn advertisement(&self) -> Advertisement {
        let mut audio: Vec<_> =
            self.audio.iter().flat_map(|a| &a.codecs).map(|(codec, _)| codec.name()).collect();
        audio.extend(self.audio.iter().filter(|a| !a.events.is_empty()).map(|_| "telephone-event"));
        let video = self.video.iter().flat_map(|v| &v.codecs).map(|(codec, _)| codec.name()).collect();
        advertisement(&audio, &dedup(video))
    }
}

fn dedup(mut names: Vec<&'static str>) -> Vec<&'static str> {
    let mut seen = Vec::new();
    names.retain(|name| {
        !seen.contains(name) && {
            seen.push(*name);
            true
        }
    });
    names
}

/// The same codecs both ways.
pub(super) fn advertisement(audio: &[&str], video: &[&str]) -> Advertisement {
    let line = |id: u8, codecs: &[&str]| {
        let codecs: String = codecs.iter().map(|codec| format!(" {codec};")).collect();
        ["in", "out"].map(|way| format!("{id} {way}:{codecs}\n")).concat()
    };
    let mut text = String::new();
    if !audio.is_empty() {
        text += &line(1, audio);
    }
    if !video.is_empty() {
        text += &line(2, video);
    }
    Advertisement::parse(&text).expect("names of the registry make an advertisement")
}

impl VideoCodec {
    fn name(self) -> &'static str {
        match self {
            Self::Vp8 => "VP8",
            Self::H264 => "H264",
        }
    }
}

/// A session's negotiation.
pub(super) struct Negotiation {
    pub(super) rtc: Rtc,
    role: Role,
    /// What such a session is made with.
    config: RtcConfig,
    /// Our offer that waits for its answer, and how it reads.
    pending: Option<(SdpPendingOffer, String)>,
    mids: Vec<(Mid, MediaKind)>,
    /// The fingerprint of the other side's certificate, as it was written.
    fingerprint: Option<String>,
    /// The other side's ICE credentials.
    credentials: Option<(String, String)>,
}

impl Negotiation {
    pub(super) fn new(port: &Port) -> Self {
        let mut config = RtcConfig::new()
            .set_crypto_provider(port.provider.clone())
            .set_dtls_cert(port.certificate.clone())
            // RFC 8445 §2.5: who can be reached leaves the checks to the other side.
            .set_ice_lite(port.role == Role::Lite)
            .set_rtp_mode(true)
            .set_local_ice_credentials(credentials())
            .set_stats_interval(Some(std::time::Duration::from_secs(5)))
            .clear_codecs()
            .enable_opus(true, false)
            .enable_pcmu(true, false)
            .enable_pcma(true, false)
            .enable_vp8(true)
            .enable_h264(true);
        let codecs = config.codec_config();
        for (pt, rate) in [(EVENT_48, Frequency::FORTY_EIGHT_KHZ), (EVENT_8, Frequency::EIGHT_KHZ)] {
            codecs.add_config(pt.into(), None, Codec::Tele, rate, None, Default::default());
        }
        let mut rtc = config.clone().build(clock::instant());
        for address in &port.candidates {
            match Candidate::host(*address, "udp") {
                Ok(candidate) => drop(rtc.add_local_candidate(candidate).is_some()),
                Err(error) => tracing::warn!(%address, %error, "this address can't be a candidate"),
            }
        }
        Self {
            rtc,
            role: port.role,
            config,
            pending: None,
            mids: Vec::new(),
            fingerprint: None,
            credentials: None,
        }
    }

    /// Under which name checks ask for this session.
    pub(super) fn user_fragment(&mut self) -> String {
        self.rtc.direct_api().local_ice_credentials().ufrag
    }

    /// Whether an offer comes from another session than the one that goes on here.
    pub(super) fn is_foreign(&self, offer: &str) -> bool {
        self.fingerprint.is_some() && self.fingerprint != fingerprint(offer)
    }

    /// Answers an offer.
    pub(super) fn answer(&mut self, offer: &str) -> Result<String, BadSdp> {
        let text = sdp::checked(offer, self.role)?;
        let parsed = SdpOffer::from_sdp_string(&text).map_err(unreadable)?;
        self.pending = None;
        let answer = self.rtc.sdp_api().accept_offer(parsed).map_err(unreadable)?;
        self.fingerprint = fingerprint(offer);
        self.credentials = sdp::credentials(offer);
        let answer = answer.to_sdp_string();
        self.mids = media(&answer);
        Ok(answer)
    }

    /// Offers audio, and video if asked for, or offers again what is there.
    pub(super) fn offer(&mut self, video: bool) -> Result<String, BadSdp> {
        let has = |mids: &[(Mid, MediaKind)], kind| mids.iter().any(|(_, k)| *k == kind);
        let mut changes = self.rtc.sdp_api();
        for kind in [MediaKind::Audio, MediaKind::Video] {
            if !has(&self.mids, kind) && (kind == MediaKind::Audio || video) {
                changes.add_media(kind, Direction::SendRecv, None, None, None);
            }
        }
        let Some((offer, pending)) = changes.apply() else {
            return Err(BadSdp("there is nothing to offer anew".to_owned()));
        };
        let offer = offer.to_sdp_string();
        self.pending = Some((pending, offer.clone()));
        Ok(offer)
    }

    /// Takes the answer to our offer. One that is refused leaves all as it was, and the offer waits on.
    pub(super) fn answered(&mut self, answer: &str) -> Result<(), BadSdp> {
        let text = sdp::checked(answer, self.role)?;
        let parsed = SdpAnswer::from_sdp_string(&text).map_err(unreadable)?;
        let Some((_, offer)) = &self.pending else {
            return Err(BadSdp("no offer of this server waits for an answer".to_owned()));
        };
        self.fits(&text, offer)?;
        let Some((pending, _)) = self.pending.take() else { return Ok(()) };
        self.rtc.sdp_api().accept_answer(pending, parsed).map_err(unreadable)?;
        self.fingerprint = fingerprint(answer);
        self.credentials = sdp::credentials(answer);
        self.mids = media(answer);
        Ok(())
    }

    /// Whether str0m takes that answer: it uses the offer up, and changes itself, before it refuses one.
    fn fits(&self, answer: &str, offer: &str) -> Result<(), BadSdp> {
        sdp::same_media(offer, answer)?;
        // RFC 8839 §4.4.1.1.1: who offers restarts ICE, and our offers don't.
        let theirs = sdp::credentials(answer);
        if self.credentials.is_some() && self.credentials != theirs {
            return Err(BadSdp(
                "a=ice-ufrag and a=ice-pwd are to stay: the offer restarts no ICE".to_owned(),
            ));
        }
        // What is wrong in itself is so as an offer too, and that a session finds out which is thrown away.
        let mut rehearsal = self.config.clone().build(clock::instant());
        let offer = SdpOffer::from_sdp_string(answer).map_err(unreadable)?;
        rehearsal.sdp_api().accept_offer(offer).map(drop).map_err(unreadable)
    }

    /// What is agreed on now.
    pub(super) fn agreed(&self) -> Agreed {
        let mut agreed = Agreed::default();
        for (mid, kind) in &self.mids {
            let Some(media) = self.rtc.media(*mid).filter(|media| !media.disabled() && !media.stopped())
            else {
                continue;
            };
            let params = self.rtc.codec_config().params();
            let specs: Vec<_> = media
                .remote_pts()
                .iter()
                .filter_map(|pt| params.iter().find(|p| p.pt() == *pt).map(|p| (p.spec(), *pt)))
                .collect();
            let codec = |kind: Codec| match kind {
                Codec::Opus => Some(AudioCodec::Opus),
                Codec::PCMU => Some(AudioCodec::Pcmu),
                Codec::PCMA => Some(AudioCodec::Pcma),
                _ => None,
            };
            match kind {
                MediaKind::Audio if agreed.audio.is_none() => {
                    let codecs: Vec<_> =
                        specs.iter().filter_map(|(s, pt)| codec(s.codec).map(|c| (c, *pt))).collect();
                    let events = specs.iter().filter(|(s, _)| s.codec.is_tele());
                    let events = events.map(|(s, pt)| (s.clock_rate.get(), *pt)).collect();
                    if !codecs.is_empty() {
                        agreed.audio = Some(Audio { mid: *mid, codecs, events });
                    }
                }
                MediaKind::Video if agreed.video.is_none() => {
                    let codec = |s: &str0m::format::CodecSpec| match s.codec {
                        Codec::Vp8 => Some(VideoCodec::Vp8),
                        // RFC 6184 §6.3: fragments need the non-interleaved mode.
                        Codec::H264 if s.format.packetization_mode == Some(1) => Some(VideoCodec::H264),
                        _ => None,
                    };
                    let codecs: Vec<_> =
                        specs.iter().filter_map(|(s, pt)| codec(s).map(|c| (c, *pt))).collect();
                    if !codecs.is_empty() {
                        agreed.video = Some(Video { mid: *mid, codecs });
                    }
                }
                _ => {}
            }
        }
        agreed
    }
}

fn unreadable(error: impl std::fmt::Display) -> BadSdp {
    BadSdp(format!("the session description can't be used: {error}"))
}

/// The audio and video of a description, by what names them.
fn media(sdp: &str) -> Vec<(Mid, MediaKind)> {
    let mut all = Vec::new();
    let mut kind = None;
    for line in sdp.lines().map(str::trim_end) {
        if let Some(media) = line.strip_prefix("m=") {
            kind = match media.split(' ').next() {
                Some("audio") => Some(MediaKind::Audio),
                Some("video") => Some(MediaKind::Video),
                _ => None,
            };
        }
        if let (Some(mid), Some(kind)) = (line.strip_prefix("a=mid:"), kind) {
            all.push((Mid::from(mid), kind));
        }
    }
    all
}

fn fingerprint(sdp: &str) -> Option<String> {
    sdp.lines().find_map(|line| line.trim_end().strip_prefix("a=fingerprint:")).map(str::to_ascii_lowercase)
}

/// RFC 8445 §5.3: at least 24 bits in the fragment and 128 in the password, from a good source.
fn credentials() -> IceCreds {
    let [ufrag, pass] = [(); 2].map(|()| uuid::Uuid::new_v4().simple().to_string());
    IceCreds { ufrag: ufrag[..12].to_owned(), pass }
}
