//! Codecs in descriptions: RFC 3551, RFC 4733, RFC 7587, RFC 4867, RFC 3389.

use std::fmt::Write as _;

use super::sdp::{BadSdp, Media, bad};
use crate::media::audio::AudioCodec;
use crate::media::audio::amr::Modes;
use crate::media::rtp::lane::{Agreed, Format, Rider};

/// What a payload type means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Codec(Format),
    Event(u32),
    Noise(u32),
}

/// The payload types of a section that are known here, in its order.
fn read(media: &Media<'_>) -> Vec<(u8, Kind)> {
    let one = |format: &&str| {
        let number = format.parse::<u8>().ok().filter(|number| *number < 128)?;
        let own = |name: &str| media.own(name).find_map(|value| of(value, number));
        let (map, parameters) = (own("rtpmap"), own("fmtp"));
        let fixed = match number {
            0 => "PCMU/8000",
            8 => "PCMA/8000",
            // RFC 3551 §4.5.2: its clock is 8000 by mistake.
            9 => "G722/8000",
            13 => "CN/8000",
            _ => "",
        };
        let kind = kind(number, map.unwrap_or(fixed), parameters.unwrap_or_default())?;
        Some((number, kind))
    };
    media.formats.iter().filter_map(one).collect()
}

/// What an attribute says of a payload type.
fn of(value: &str, number: u8) -> Option<&str> {
    let (of, rest) = value.split_once(' ')?;
    (of.parse::<u8>() == Ok(number)).then_some(rest.trim())
}

fn kind(number: u8, map: &str, parameters: &str) -> Option<Kind> {
    let mut parts = map.split('/');
    let (name, rate) = (parts.next()?, parts.next()?.trim().parse::<u32>().ok()?);
    let channels = parts.next().map_or(Ok(1), |channels| channels.trim().parse::<u32>()).ok()?;
    if name.eq_ignore_ascii_case("telephone-event") {
        return matches!(rate, 8_000 | 16_000 | 48_000).then_some(Kind::Event(rate));
    }
    if name.eq_ignore_ascii_case("CN") {
        return (rate == 8_000).then_some(Kind::Noise(rate));
    }
    let codec = AudioCodec::from_name(name).filter(|codec| codec.clock_rate() == rate)?;
    // RFC 7587 §7: opus has two channels in all descriptions.
    if channels != if codec == AudioCodec::Opus { 2 } else { 1 } {
        return None;
    }
    let mut format = Format::new(codec, number);
    if codec == AudioCodec::AmrWb {
        format.aligned = false;
        for parameter in parameters.split(';') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, "1"));
            match (name.trim().to_ascii_lowercase().as_str(), value.trim()) {
                ("octet-align", value) => format.aligned = value == "1",
                ("mode-set", value) => {
                    let modes: Option<Vec<u8>> =
                        value.split(',').map(|mode| mode.trim().parse().ok()).collect();
                    format.modes = Modes::new(modes?)?;
                }
                // RFC 4867 §8.1: what changes the payload in ways that chunks have no place for.
                ("crc" | "robust-sorting", "1") | ("interleaving", _) => return None,
                _ => {}
            }
        }
    }
    Some(Kind::Codec(format))
}

/// Payload types of our own offers.
pub(super) fn offered(codecs: &[AudioCodec]) -> Agreed {
    let mut all = Agreed::default();
    for codec in codecs {
        match codec {
            AudioCodec::Pcmu => all.codecs.push(Format::new(*codec, 0)),
            AudioCodec::Pcma => all.codecs.push(Format::new(*codec, 8)),
            AudioCodec::G722 => all.codecs.push(Format::new(*codec, 9)),
            AudioCodec::Opus => all.codecs.push(Format::new(*codec, 96)),
            AudioCodec::AmrWb => {
                all.codecs.push(Format::new(*codec, 97));
                all.codecs.push(Format { aligned: false, ..Format::new(*codec, 98) });
            }
        }
    }
    for (rate, number) in [(8_000, 101), (16_000, 102), (48_000, 103)] {
        // RFC 4733 §2.1: with the clock of the audio beside it.
        if all.codecs.iter().any(|format| format.codec.clock_rate() == rate) {
            all.events.push(Rider { rate, send: number, receive: number });
        }
    }
    let narrow = |format: &Format| matches!(format.codec, AudioCodec::Pcmu | AudioCodec::Pcma);
    all.noise = all.codecs.iter().any(narrow).then_some(Rider { rate: 8_000, send: 13, receive: 13 });
    all
}

/// What an offer and we have in common, in the offer's order of preference.
pub(super) fn answer(media: &Media<'_>, codecs: &[AudioCodec]) -> Result<Agreed, BadSdp> {
    let mut all = Agreed::default();
    let mut events = Vec::new();
    for (number, kind) in read(media) {
        let rider = |rate| Rider { rate, send: number, receive: number };
        match kind {
            Kind::Codec(format) if codecs.contains(&format.codec) => {
                // One way to send each is enough.
                if all.codecs.iter().all(|other| other.codec != format.codec) {
                    all.codecs.push(format);
                }
            }
            Kind::Codec(_) => {}
            Kind::Event(rate) => events.push(rider(rate)),
            Kind::Noise(rate) => all.noise = all.noise.or(Some(rider(rate))),
        }
    }
    finish(all, events, codecs)
}

/// What an answer takes of our offer.
pub(super) fn answered(media: &Media<'_>, offer: &Agreed) -> Result<Agreed, BadSdp> {
    let mut all = Agreed::default();
    let mut events = Vec::new();
    for (number, kind) in read(media) {
        match kind {
            Kind::Codec(theirs) => {
                let same = |ours: &&Format| ours.codec == theirs.codec && ours.aligned == theirs.aligned;
                let fits = |ours: &&Format| theirs.codec != AudioCodec::AmrWb || same(ours);
                let ours = offer.codecs.iter().filter(|ours| ours.codec == theirs.codec).find(fits);
                let Some(ours) = ours else { continue };
                let Some(modes) = ours.modes.meet(theirs.modes) else { continue };
                if all.codecs.iter().all(|other| other.codec != theirs.codec) {
                    all.codecs.push(Format { send: number, receive: ours.receive, modes, ..theirs });
                }
            }
            Kind::Event(rate) => {
                let ours = offer.events.iter().find(|event| event.rate == rate);
                events.extend(ours.map(|ours| Rider { send: number, ..*ours }));
            }
            Kind::Noise(rate) => {
                let ours = offer.noise.filter(|noise| noise.rate == rate);
                all.noise = all.noise.or(ours.map(|ours| Rider { send: number, ..ours }));
            }
        }
    }
    let codecs: Vec<_> = offer.codecs.iter().map(|format| format.codec).collect();
    finish(all, events, &codecs)
}

fn finish(mut all: Agreed, events: Vec<Rider>, codecs: &[AudioCodec]) -> Result<Agreed, BadSdp> {
    if all.codecs.is_empty() {
        let names: Vec<_> = codecs.iter().map(|codec| codec.name()).collect();
        return Err(bad(format!("no audio codec in common; one of {} would be right", names.join(", "))));
    }
    let rates: Vec<_> = all.codecs.iter().map(|format| format.codec.clock_rate()).collect();
    let fitting: Vec<_> = events.iter().filter(|event| rates.contains(&event.rate)).copied().collect();
    all.events = if fitting.is_empty() { events.into_iter().take(1).collect() } else { fitting };
    // RFC 3389 §4: at 8000 Hz it goes with codecs that have that clock.
    all.noise = all.noise.filter(|noise| rates.contains(&noise.rate));
    Ok(all)
}

/// The formats of an m= line of ours, and the attributes that explain them.
pub(super) fn write(agreed: &Agreed) -> (String, String) {
    let (mut numbers, mut lines) = (String::new(), String::new());
    let mut add = |number: u8, map: std::fmt::Arguments<'_>, parameters: &str| {
        let _ = write!(numbers, " {number}");
        let _ = write!(lines, "a=rtpmap:{number} {map}\r\n");
        if !parameters.is_empty() {
            let _ = write!(lines, "a=fmtp:{number} {parameters}\r\n");
        }
    };
    for format in &agreed.codecs {
        let (codec, rate) = (format.codec, format.codec.clock_rate());
        let channels = if codec == AudioCodec::Opus { "/2" } else { "" };
        let parameters = match codec {
            AudioCodec::Opus => "useinbandfec=1".to_owned(),
            AudioCodec::AmrWb => amr(format),
            _ => String::new(),
        };
        add(format.receive, format_args!("{}/{rate}{channels}", codec.name()), &parameters);
    }
    if let Some(noise) = agreed.noise {
        add(noise.receive, format_args!("CN/{}", noise.rate), "");
    }
    for event in &agreed.events {
        add(event.receive, format_args!("telephone-event/{}", event.rate), "0-15");
    }
    (numbers, lines)
}

fn amr(format: &Format) -> String {
    let mut text = "mode-change-capability=2".to_owned();
    if format.aligned {
        text += "; octet-align=1";
    }
    if format.modes != Modes::ALL {
        let modes: Vec<_> = format.modes.iter().map(|mode| mode.to_string()).collect();
        let _ = write!(text, "; mode-set={}", modes.join(","));
    }
    text
}
