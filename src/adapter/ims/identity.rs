//! STIR: PASSporTs in SIP's Identity header (RFC 8224), out and in.
//!
//! The PASSporT itself is checked by [`crate::identity::passport::Passport::check`] as every other is; what is found here is
//! that it belongs to this INVITE.

use rsipstack::sip::Request;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use time::macros::format_description;

use super::caller::identities;
use super::phone::{Home, Phone};
use crate::adapter::sip::value::{Address, find, params, uri_text, value, values};
use crate::identity::canonical::Identity;
use crate::identity::jws::Compact;
use crate::identity::passport::{Passport, Ppt, WINDOW};
use crate::protocol::time::Timestamp;

/// The longest URL of a certificate.
const MAX_INFO: usize = 2048;
/// The most PASSporTs of one INVITE that are looked at; a chain of diversions is no longer.
const MAX_PASSPORTS: usize = 8;

/// Why no Identity header can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is no PASSporT.
    #[error("it is no PASSporT")]
    Form,
    /// RFC 8224 §4.1 wants to be told where the certificate lies.
    #[error(
        "neither does the PASSporT say where its certificate lies (x5u), nor does the configuration (`x5u`)"
    )]
    NoInfo,
}

/// The value of Identity for a PASSporT, in full form: only so its claims stay as they were signed.
///
/// `info` is the PASSporT's own `x5u`. Where it carries its chain itself (`x5c`), it is `x5u`: a URL at which that same chain
/// can be fetched. Without either no header can be written.
pub fn write(passport: &str, x5u: Option<&str>) -> Result<String, Unfit> {
    let parsed = Passport::parse(passport).map_err(|_| Unfit::Form)?;
    let compact = Compact::parse(passport).map_err(|_| Unfit::Form)?;
    let info = compact.header().x5u.as_deref().or(x5u).filter(|info| is_url(info)).ok_or(Unfit::NoInfo)?;
    let ppt = match parsed.ppt() {
        Ppt::Base => "",
        Ppt::Shaken { .. } => ";ppt=\"shaken\"",
        Ppt::Div { .. } => ";ppt=\"div\"",
    };
    Ok(format!("{passport};info=<{info}>;alg=ES256{ppt}"))
}

fn is_url(text: &str) -> bool {
    let scheme = text.split_once(':').is_some_and(|(scheme, rest)| {
        !rest.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    });
    scheme && text.len() <= MAX_INFO && text.bytes().all(|b| b.is_ascii_graphic() && !b"<>\"\\".contains(&b))
}

/// The value of Date, which an INVITE with Identity has to carry (RFC 8224 §4.1).
pub fn date(now: Timestamp) -> String {
    let format = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let seconds = i64::try_from(now.as_secs()).unwrap_or_default();
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(&format).unwrap_or_default()
}

fn read_date(text: &str) -> Option<u64> {
    let at = OffsetDateTime::parse(text.trim(), &Rfc2822).ok()?;
    u64::try_from(at.unix_timestamp()).ok()
}

/// Why an INVITE's Identity is refused (RFC 8224 §6.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// None is there that can be checked.
    #[error("the call carries no PASSporT that can be checked")]
    Missing,
    /// `info` is missing, or names another place than the PASSporT.
    #[error("the Identity header's `info` is missing or not the PASSporT's x5u")]
    Info,
    /// It can't be read.
    #[error("the Identity header can't be read")]
    Form,
    /// It is about another caller or callee.
    #[error("the PASSporT is about another call than its From and To")]
    Other,
    /// Its time, or Date, is too far from now.
    #[error("the PASSporT or the Date header is too old")]
    Stale,
}

impl Refused {
    /// The response.
    pub const fn code(self) -> u16 {
        match self {
            Self::Missing => 428,
            Self::Info => 436,
            Self::Form | Self::Other => 438,
            Self::Stale => 403,
        }
    }
}

/// The PASSporTs of an INVITE, found to be about it; their signatures and certificates are still to be checked.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// The caller's own.
    pub passport: String,
    /// Whom it was made for: for [`crate::identity::passport::Passport::check`].
    pub dest: Identity,
    /// `div` PASSporTs (RFC 8946) that lead from there to us, in their order: for
    /// [`crate::identity::passport::Passport::check_div`].
    pub div: Vec<String>,
}

/// What the PASSporTs of an INVITE have to be about.
#[derive(Clone, Debug)]
pub struct Facts {
    /// From, and P-Asserted-Identity of a trusted peer (RFC 8224 §4.1, ATIS-1000074 §5.2.2).
    pub from: Vec<Identity>,
    /// The Request-URI and To.
    pub to: Vec<Identity>,
    /// To alone.
    pub called: Vec<Identity>,
    /// Date, in seconds; none: there is none.
    pub date: Option<u64>,
}

impl Facts {
    /// Reads them. None: Date can't be read.
    pub fn read(invite: &Request, trusted: bool, home: &Home) -> Option<Self> {
        let of = |name: &str| -> Vec<Identity> {
            let all = values(invite, name).into_iter().flat_map(Address::all);
            all.flat_map(|address| canonical(address.uri, home)).take(16).collect()
        };
        let mut from = of("From");
        if trusted {
            from.extend(of("P-Asserted-Identity"));
        }
        let mut to = canonical(&uri_text(&invite.uri), home);
        let called = of("To");
        to.extend(called.iter().cloned());
        let date = match value(invite, "Date") {
            None => None,
            Some(text) => Some(read_date(text)?),
        };
        Some(Self { from, to, called, date })
    }
}

/// RFC 8224 §8: a URI in the forms that a PASSporT may name it in.
fn canonical(uri: &str, home: &Home) -> Vec<Identity> {
    let mut all = Vec::new();
    if let Some(number) = Phone::read(uri, home).and_then(|it| it.number) {
        all.extend(Identity::from_number(&number.to_string()));
    }
    // RFC 8224 §8.5: of a name, the URI without parameters.
    let bare = uri.split('?').next().unwrap_or_default();
    if let Some((user, host)) = bare.split_once('@') {
        let host = host.split(';').next().unwrap_or_default().to_ascii_lowercase();
        all.extend(Identity::from_uri(&format!("{user}@{host}")));
    }
    all
}

/// Finds the PASSporTs in an INVITE. `Ok(None)`: it has no Identity header.
pub fn read(
    invite: &Request,
    trusted: bool,
    home: &Home,
    now: Timestamp,
) -> Result<Option<Arrived>, Refused> {
    let headers = identities(invite);
    if headers.is_empty() {
        return Ok(None);
    }
    let facts = Facts::read(invite, trusted, home).ok_or(Refused::Stale)?;
    if facts.date.is_some_and(|date| date.abs_diff(now.as_secs()) > WINDOW.as_secs()) {
        return Err(Refused::Stale);
    }
    let (mut own, mut div, mut refused) = (Vec::new(), Vec::new(), Refused::Missing);
    for header in headers.into_iter().take(MAX_PASSPORTS) {
        match one(header, &facts) {
            Ok(Some((text, passport))) => match passport.ppt() {
                Ppt::Div { .. } => div.push((text, passport)),
                _ => own.push((text, passport)),
            },
            // RFC 8224 §4.1: one that isn't known here is for others.
            Ok(None) => {}
            Err(why) => refused = why,
        }
    }
    // The one that says more comes first.
    own.sort_by_key(|(_, passport)| matches!(passport.ppt(), Ppt::Base));
    for (text, passport) in own {
        match belongs(&passport, &div, &facts, now) {
            Ok((dest, links)) => {
                let div = links.into_iter().map(|at| div[at].0.clone()).collect();
                return Ok(Some(Arrived { passport: text, dest, div }));
            }
            Err(why) => refused = why,
        }
    }
    Err(refused)
}

/// One header: none if it is of a kind that isn't known here.
fn one(header: &str, facts: &Facts) -> Result<Option<(String, Passport)>, Refused> {
    let (digest, rest) = header.split_once(';').unwrap_or((header, ""));
    let all = params(rest);
    if find(&all, "alg").is_some_and(|alg| !alg.eq_ignore_ascii_case("ES256")) {
        return Ok(None);
    }
    let ppt = find(&all, "ppt");
    if ppt.is_some_and(|ppt| !["shaken", "div"].contains(&ppt)) {
        return Ok(None);
    }
    let info = find(&all, "info").map(|info| info.trim_matches(['<', '>']));
    let token = match digest.trim().strip_prefix("..") {
        Some(signature) => compact(signature, info.ok_or(Refused::Info)?, ppt, facts)?,
        None => digest.trim().to_owned(),
    };
    let passport = Passport::parse(&token).map_err(|_| Refused::Form)?;
    let named = match passport.ppt() {
        Ppt::Base => None,
        Ppt::Shaken { .. } => Some("shaken"),
        Ppt::Div { .. } => Some("div"),
    };
    // RFC 8224 §6.1: the parameters repeat what the PASSporT says.
    if ppt != named && ppt.is_some() {
        return Err(Refused::Form);
    }
    let parsed = Compact::parse(&token).map_err(|_| Refused::Form)?;
    match (parsed.header().x5u.as_deref(), info) {
        (Some(x5u), Some(info)) if x5u == info => {}
        // It brings its chain itself, or was made with a key that we know.
        (None, Some(_)) => {}
        _ => return Err(Refused::Info),
    }
    Ok(Some((token, passport)))
}

/// RFC 8224 §6.1: what the compact form leaves out is made again from the INVITE.
fn compact(signature: &str, info: &str, ppt: Option<&str>, facts: &Facts) -> Result<String, Refused> {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    // RFC 8588 §4: shaken, and so div, have claims that nothing in an INVITE tells.
    if ppt.is_some() || signature.is_empty() || !is_url(info) {
        return Err(Refused::Form);
    }
    let iat = facts.date.ok_or(Refused::Stale)?;
    let object = |identity: &Identity, list: bool| {
        let (name, text) = match (identity.tn(), identity.uri()) {
            (Some(tn), _) => ("tn", tn.to_owned()),
            (None, uri) => ("uri", uri.unwrap_or_default()),
        };
        let text = serde_json::Value::from(text).to_string();
        if list { format!("{{\"{name}\":[{text}]}}") } else { format!("{{\"{name}\":{text}}}") }
    };
    // RFC 8224 §8.1: a telephone number is meant wherever one stands, or else the URI as it is.
    let named = |all: &[Identity]| {
        let number = all.iter().find(|identity| identity.tn().is_some());
        number.or(all.last()).cloned().ok_or(Refused::Other)
    };
    let (from, to) = (&named(&facts.from)?, &named(&facts.called)?);
    let header =
        format!("{{\"alg\":\"ES256\",\"typ\":\"passport\",\"x5u\":{}}}", serde_json::Value::from(info));
    let claims = format!("{{\"dest\":{},\"iat\":{iat},\"orig\":{}}}", object(to, true), object(from, false));
    Ok(format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims)))
}

/// Whether a caller's PASSporT is about this INVITE, and by which `div` links it leads here.
fn belongs(
    passport: &Passport,
    div: &[(String, Passport)],
    facts: &Facts,
    now: Timestamp,
) -> Result<(Identity, Vec<usize>), Refused> {
    if !facts.from.contains(passport.orig()) {
        return Err(Refused::Other);
    }
    let late = |time: u64| {
        let of_date = facts.date.is_some_and(|date| date.abs_diff(time) > WINDOW.as_secs());
        time.abs_diff(now.as_secs()) > WINDOW.as_secs() || of_date
    };
    if late(passport.iat()) {
        return Err(Refused::Stale);
    }
    if let Some(dest) = passport.dest().iter().find(|dest| facts.to.contains(dest)) {
        // RFC 8946 §5: To may still name the first destination, with the call already led on.
        let on = walk(dest, passport, div, facts);
        return Ok((dest.clone(), on.unwrap_or_default()));
    }
    let found =
        passport.dest().iter().find_map(|dest| Some((dest.clone(), walk(dest, passport, div, facts)?)));
    found.ok_or(Refused::Other)
}

/// RFC 8946 §5: each link's `div` is whom the one before it named.
fn walk(dest: &Identity, own: &Passport, div: &[(String, Passport)], facts: &Facts) -> Option<Vec<usize>> {
    let (mut links, mut here) = (Vec::new(), dest.clone());
    loop {
        let next = div.iter().enumerate().find(|(at, (_, passport))| {
            let from = matches!(passport.ppt(), Ppt::Div { div } if *div == here);
            from && passport.orig() == own.orig() && !links.contains(at)
        });
        let Some((at, (_, passport))) = next else { break };
        links.push(at);
        here =
            passport.dest().iter().find(|dest| facts.to.contains(dest)).or(passport.dest().first())?.clone();
    }
    (!links.is_empty() && facts.to.contains(&here)).then_some(links)
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
