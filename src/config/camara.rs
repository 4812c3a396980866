//! What `[camara]` means.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::build::outbound;
use super::error::ConfigError;
use super::section::Section;
use crate::adapter::camara::{Settings, SinkSettings, WebRtcSettings, registration};
use crate::protocol::id::TgId;
use crate::protocol::number::Number;

/// The WebRTC port, beside the server's own.
const WEBRTC_PORT: u16 = 4434;
/// A device that registers for less than a second does nothing else.
const SHORTEST_REGISTRATION: u32 = 1_000;

/// What the rest of the configuration says, as far as it matters here.
pub(super) struct Rest<'a> {
    /// The largest body.
    pub(super) max_body: usize,
    /// Where the server listens.
    pub(super) listen: &'a [SocketAddr],
    /// Development mode.
    pub(super) dev: bool,
    /// Its TGs.
    pub(super) tgs: &'a [&'a TgId],
}

pub(super) fn settings(mut section: Section, rest: &Rest<'_>) -> Result<Settings, ConfigError> {
    let webrtc = webrtc(section.section("webrtc")?, rest)?;
    let sinks = sinks(section.section("sinks")?)?;
    let registrations = registrations(&mut section)?;
    let location = section.flag("location")?.unwrap_or(false);
    let place = section.place_of("tg");
    let tg = section.one("tg", "the id of a TG: \"main\"", |text| text.parse::<TgId>())?;
    let expected = "a number or an address: \"+14085551911\", \"emergency@example.com\"";
    let emergency = section.one("emergency-number", expected, |text| text.parse::<Number>())?;
    section.finish()?;
    if let Some(tg) = tg.as_ref().filter(|tg| !rest.tgs.contains(tg)) {
        return Err(section.bad("tg", &place, format!("there is no [[tg]] with the id {tg}")));
    }
    Ok(Settings { max_body: rest.max_body, registrations, tg, emergency, location, webrtc, sinks })
}

fn webrtc(mut section: Section, rest: &Rest<'_>) -> Result<WebRtcSettings, ConfigError> {
    let socket = "an address with a port: \"0.0.0.0:4434\", \"[::]:4434\"";
    let listen = section.one("listen", socket, |text| text.parse::<SocketAddr>())?;
    let addresses = "IP addresses: \"192.0.2.1\", \"2001:db8::1\"";
    let public = section.many("public", addresses, |text, _| told(text))?;
    let sessions = section.size("sessions", 1..=100_000)?;
    let offerless = section.flag("offerless-invitations")?.unwrap_or(false);
    section.finish()?;
    Ok(WebRtcSettings {
        any_port: listen.is_none(),
        listen: listen.unwrap_or_else(|| beside(rest)),
        public: public.unwrap_or_default(),
        sessions: sessions.unwrap_or(WebRtcSettings::default().sessions),
        offerless,
    })
}

/// A subscription that ends sooner brings no event.
const SHORTEST_SUBSCRIPTION: u32 = 1_000;

fn sinks(mut section: Section) -> Result<SinkSettings, ConfigError> {
    let usual = SinkSettings::default();
    let fetch = outbound(&mut section)?;
    // webrtc-events.yaml, retrieveNotificationChannelSubscriptionList: maxItems 100
    let per_user = section.size("per-user", 1..=100)?;
    let longest = section.ms("max-subscription-ms", SHORTEST_SUBSCRIPTION)?;
    section.finish()?;
    Ok(SinkSettings {
        fetch,
        per_user: per_user.unwrap_or(usual.per_user),
        longest: longest.unwrap_or(usual.longest),
    })
}

/// Where the server itself listens, at the port for WebRTC; behind a proxy everywhere, for media takes no proxy.
fn beside(rest: &Rest<'_>) -> SocketAddr {
    match rest.listen.first() {
        Some(address) if address.port() == 0 => *address,
        Some(address) => SocketAddr::new(address.ip(), WEBRTC_PORT),
        None if rest.dev => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), WEBRTC_PORT),
        None => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), WEBRTC_PORT),
    }
}

/// An address that a device can send to.
fn told(text: &str) -> Result<IpAddr, String> {
    let address = text.parse::<IpAddr>().map_err(|error| error.to_string())?;
    if address.is_unspecified() || address.is_multicast() {
        return Err("nobody can send to it".to_owned());
    }
    Ok(address)
}

fn registrations(section: &mut Section) -> Result<registration::Limits, ConfigError> {
    let usual = registration::Limits::default();
    let (longest_place, usual_place) =
        (section.place_of("max-registration-ms"), section.place_of("default-registration-ms"));
    let shortest = section.ms("min-registration-ms", SHORTEST_REGISTRATION)?;
    let longest = section.ms("max-registration-ms", SHORTEST_REGISTRATION)?;
    let given = section.ms("default-registration-ms", SHORTEST_REGISTRATION)?;
    let per_number = section.size("registrations-per-number", 1..=1_000)?;
    let devices_per_user = section.size("devices-per-user", 1..=1_000)?;
    // Where only one bound is said, the other gives way to it.
    let shortest = shortest.unwrap_or(usual.shortest.min(longest.unwrap_or(usual.shortest)));
    let longest = longest.unwrap_or(usual.longest.max(shortest));
    if longest < shortest {
        let why = "it is below camara.min-registration-ms";
        return Err(section.bad("max-registration-ms", &longest_place, why));
    }
    let bounds = shortest..=longest;
    if given.is_some_and(|given| !bounds.contains(&given)) {
        let why = "it is not between camara.min-registration-ms and camara.max-registration-ms";
        return Err(section.bad("default-registration-ms", &usual_place, why));
    }
    Ok(registration::Limits {
        shortest,
        longest,
        usual: given.unwrap_or(usual.usual.clamp(shortest, longest)),
        per_number: per_number.unwrap_or(usual.per_number),
        devices_per_user: devices_per_user.unwrap_or(usual.devices_per_user),
    })
}
