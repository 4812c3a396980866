//! What an INVITE says of who calls whom: identities (RFC 3325), privacy (RFC 3323), and by whom it was diverted before
//! (RFC 7044, RFC 5806). Nothing here is taken on faith: what only a trusted network may assert is read of trusted peers only.

use rsipstack::sip::{HasHeaders as _, Request};

use super::phone::{Home, Phone};
use crate::adapter::sip::value::{Address, Param, find, params, parts, uri_text, value, values};
use crate::protocol::number::Number;

/// The most diversions that are told of.
const MAX_DIVERSIONS: usize = 16;
/// The longest display name that is kept.
const MAX_NAME: usize = 128;

/// Who calls whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Who calls, as a network asserts that we trust.
    pub asserted: Option<Number>,
    /// Who calls, as the caller's own side says (From): proves nothing.
    pub claimed: Option<Number>,
    /// The name that goes with it.
    pub name: Option<String>,
    /// Whether the callee may not learn who calls.
    pub withheld: bool,
    /// Whom.
    pub to: Option<Number>,
    /// Whom the To header names: what a PASSporT was made for before the call was diverted.
    pub first_to: Option<Number>,
    /// Who diverted the call, the first one first.
    pub diversions: Vec<Diversion>,
    /// What History-Info says, as it says it.
    pub history: Vec<History>,
}

/// RFC 5806, or what History-Info says of the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diversion {
    /// Who; none where it is no number.
    pub by: Option<Number>,
    /// Why.
    pub reason: Why,
    /// Whether others may not learn who.
    pub withheld: bool,
}

/// Why a call was diverted (RFC 5806 §5, RFC 4458).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Always.
    Unconditional,
    /// Busy.
    Busy,
    /// No answer.
    NoAnswer,
    /// Not to be reached.
    Unavailable,
    /// While it rang, by hand.
    Deflection,
    /// Something else, or nothing that is said.
    Unknown,
}

/// An entry of History-Info.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Whom the call was for.
    pub to: Option<Number>,
    /// Its place: `1.1.2`.
    pub index: String,
    /// RFC 4458: why it came to this one.
    pub cause: Option<u16>,
    /// RFC 7044 §5: whether it may not be shown.
    pub withheld: bool,
}

impl Incoming {
    /// Reads an INVITE; `trusted`: it came from a peer in our trust domain (RFC 3325 §3).
    pub fn read(invite: &Request, trusted: bool, home: &Home) -> Self {
        let read = |uri: &str| Phone::read(uri, home);
        let from = value(invite, "From").and_then(Address::read);
        let from_phone = from.as_ref().and_then(|from| read(from.uri));
        let asserting: Vec<_> =
            if trusted { all(invite, "P-Asserted-Identity").collect() } else { Vec::new() };
        // Not an RFC, but what many PBXs and gateways send.
        let party: Vec<_> = if trusted { all(invite, "Remote-Party-ID").collect() } else { Vec::new() };
        let calling =
            party.iter().find(|it| it.param("party").is_none_or(|of| of.eq_ignore_ascii_case("calling")));
        let own = best(asserting.iter(), home).or_else(|| best(calling.into_iter(), home));
        let name = match (&own, &from) {
            (Some((_, name)), _) => name.clone(),
            (None, Some(from)) => from.display.clone(),
            _ => None,
        };
        let nameless = from_phone.as_ref().is_some_and(|it| it.nameless);
        let told =
            calling.and_then(|it| it.param("privacy")).is_some_and(|word| !word.eq_ignore_ascii_case("off"));
        // RFC 3325 §9.3, RFC 3323 §4.2.
        let withheld =
            privacy(invite).any(|word| ["id", "user", "header"].contains(&word.as_str())) || nameless || told;
        // RFC 7315 §4.2: of a registered user; its proxy has put our Contact into the Request-URI.
        let called = value(invite, "P-Called-Party-ID").filter(|_| trusted).and_then(Address::read);
        let whom = called.and_then(|it| read(it.uri)?.number);
        let history = history(invite, home);
        Self {
            asserted: own.map(|(number, _)| number),
            claimed: from_phone.and_then(|it| it.number),
            name: name.map(|name| name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect()),
            withheld,
            to: whom.or_else(|| read(&uri_text(&invite.uri))?.number),
            first_to: value(invite, "To").and_then(Address::read).and_then(|to| read(to.uri)?.number),
            diversions: diversions(invite, &history, home),
            history,
        }
    }
}

fn all<'m>(invite: &'m Request, name: &str) -> impl Iterator<Item = Address<'m>> + use<'m> {
    values(invite, name).into_iter().flat_map(Address::all).take(MAX_DIVERSIONS)
}

/// RFC 3323 §4.2: words separated by semicolons.
fn privacy(invite: &Request) -> impl Iterator<Item = String> {
    let words = values(invite, "Privacy").into_iter().flat_map(|text| text.split([';', ',']));
    words.map(|word| word.trim().to_ascii_lowercase()).take(16)
}

/// An E.164 number rather than a name (RFC 3325 §9.1: there may be one of each).
fn best<'a>(all: impl Iterator<Item = &'a Address<'a>>, home: &Home) -> Option<(Number, Option<String>)> {
    let mut found: Option<(Number, Option<String>)> = None;
    for address in all {
        let Some(number) = Phone::read(address.uri, home).and_then(|it| it.number) else { continue };
        let better = match &found {
            None => true,
            Some((Number::E164(_), _)) => false,
            Some(_) => matches!(number, Number::E164(_)),
        };
        let name = address.display.clone().or_else(|| found.as_ref().and_then(|(_, name)| name.clone()));
        match (&mut found, better) {
            (_, true) => found = Some((number, name)),
            (Some((_, had)), false) => *had = name.or_else(|| had.take()),
            (None, false) => {}
        }
    }
    found
}

fn history(invite: &Request, home: &Home) -> Vec<History> {
    let entry = |entry: Address<'_>| {
        let (uri, headers) = entry.uri.split_once('?').unwrap_or((entry.uri, ""));
        let params = uri_params(uri);
        let hidden = headers.split('&').any(|header| {
            let (name, word) = header.split_once('=').unwrap_or((header, ""));
            name.eq_ignore_ascii_case("privacy") && !word.eq_ignore_ascii_case("none")
        });
        History {
            to: Phone::read(uri, home).and_then(|it| it.number),
            index: entry.param("index").unwrap_or_default().chars().take(32).collect(),
            cause: find(&params, "cause").and_then(|text| text.parse().ok()),
            withheld: hidden,
        }
    };
    all(invite, "History-Info").map(entry).collect()
}

/// The parameters of a URI itself.
fn uri_params(uri: &str) -> Vec<Param<'_>> {
    let after = uri.rsplit_once('@').map_or(uri, |(_, host)| host);
    params(after.split_once(';').map_or("", |(_, rest)| rest))
}

fn diversions(invite: &Request, history: &[History], home: &Home) -> Vec<Diversion> {
    let mut found: Vec<_> = all(invite, "Diversion")
        .map(|entry| Diversion {
            by: Phone::read(entry.uri, home).and_then(|it| it.number),
            reason: why(entry.param("reason").unwrap_or_default()),
            withheld: entry.param("privacy").is_some_and(|word| !word.eq_ignore_ascii_case("off")),
        })
        .collect();
    if !found.is_empty() {
        // RFC 5806 §3: the newest stands on top.
        found.reverse();
        return found;
    }
    // RFC 4458 §2: a cause at an entry says why the one before it did not keep the call.
    let pairs = history.iter().zip(history.iter().skip(1));
    let moved = pairs.filter_map(|(before, after)| {
        let reason = match after.cause? {
            302 => Why::Unconditional,
            486 => Why::Busy,
            408 => Why::NoAnswer,
            404 | 503 => Why::Unavailable,
            480 | 487 => Why::Deflection,
            _ => Why::Unknown,
        };
        Some(Diversion { by: before.to.clone(), reason, withheld: before.withheld })
    });
    moved.collect()
}

fn why(word: &str) -> Why {
    match word.to_ascii_lowercase().as_str() {
        "unconditional" => Why::Unconditional,
        "user-busy" => Why::Busy,
        "no-answer" => Why::NoAnswer,
        "unavailable" | "out-of-service" => Why::Unavailable,
        "deflection" => Why::Deflection,
        _ => Why::Unknown,
    }
}

/// Whether headers that only a trusted network may send stand in a message: an untrusted peer that sends them is to be
/// relayed without (RFC 3325 §5).
pub fn asserts(invite: &Request) -> bool {
    const ASSERTED: &[&str] =
        &["P-Asserted-Identity", "Remote-Party-ID", "P-Called-Party-ID", "P-Charging-Vector"];
    invite.headers().iter().any(|header| ASSERTED.iter().any(|name| header.name().eq_ignore_ascii_case(name)))
}

/// The values of all Identity headers (RFC 8224): [`super::identity::read`] takes them.
pub fn identities(invite: &Request) -> Vec<&str> {
    // A PASSporT holds commas neither in base64url nor in `info`, so they separate.
    values(invite, "Identity").into_iter().flat_map(|text| parts(text, ',')).take(MAX_DIVERSIONS).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn home() -> Home {
        Home { domain: "ims.test".into(), ..Home::default() }
    }

    fn invite(target: &str, fields: &[&str]) -> Request {
        let mut text = format!(
            "INVITE {target} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.40:6060;branch=z9hG4bK1\r\n\
             Call-ID: c\r\nCSeq: 1 INVITE\r\nMax-Forwards: 60\r\n"
        );
        fields.iter().for_each(|field| text.push_str(&format!("{field}\r\n")));
        Request::try_from(format!("{text}Content-Length: 0\r\n\r\n").as_str()).unwrap()
    }

    fn number(text: &str) -> Option<Number> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn an_invite_of_the_ims_core_says_who_calls_whom() {
        let request = invite(
            "sip:ript@127.0.0.109:5070",
            &[
                "From: \"Mallory\" <sip:alice@ims.test>;tag=1",
                "To: <tel:+15550009>",
                "P-Asserted-Identity: \"Alice\" <sip:alice@ims.test>, <tel:+15550001>",
                "P-Called-Party-ID: <sip:+15550009@ims.test>",
            ],
        );
        let read = Incoming::read(&request, true, &home());
        assert_eq!((read.asserted, read.claimed), (number("+15550001"), number("alice@ims.test")));
        assert_eq!((read.name.as_deref(), read.withheld), (Some("Alice"), false));
        assert_eq!((read.to, read.first_to), (number("+15550009"), number("+15550009")));
        assert!(asserts(&request));
        // Of a stranger none of it is believed.
        let read = Incoming::read(&request, false, &home());
        assert_eq!((read.asserted, read.claimed), (None, number("alice@ims.test")));
        assert_eq!((read.name.as_deref(), read.to), (Some("Mallory"), number("ript@127.0.0.109")));
    }

    #[test]
    fn whoever_wants_to_stay_unknown_is_withheld() {
        const PAI: &str = "P-Asserted-Identity: <tel:+15550001>";
        const FROM: &str = "From: <sip:+15550001@ims.test>;tag=1";
        const NOBODY: &str = "From: \"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=1";
        for (fields, asserted, claimed, withheld) in [
            (&[PAI, FROM][..], true, true, false),
            (&[PAI, FROM, "Privacy: id"], true, true, true),
            (&[PAI, FROM, "Privacy: critical;ID"], true, true, true),
            (&[PAI, FROM, "Privacy: none"], true, true, false),
            (&[PAI, FROM, "Privacy: session;critical"], true, true, false),
            (&[PAI, NOBODY], true, false, true),
            (&[NOBODY], false, false, true),
            (
                &[FROM, "Remote-Party-ID: \"A\" <sip:+15550001@x>;party=calling;screen=yes;privacy=off"],
                true,
                true,
                false,
            ),
            (&[FROM, "Remote-Party-ID: <sip:+15550001@x>;privacy=full"], true, true, true),
            (&[FROM, "Remote-Party-ID: <sip:+15550001@x>;party=called"], false, true, false),
        ] {
            let read = Incoming::read(&invite("tel:+15550009", fields), true, &home());
            assert_eq!(
                (read.asserted.is_some(), read.claimed.is_some(), read.withheld),
                (asserted, claimed, withheld),
                "{fields:?}"
            );
            assert_eq!(read.to, number("+15550009"));
        }
    }

    #[test]
    fn diversions_are_listed_first_to_last() {
        let request = invite(
            "tel:+15550009",
            &[
                "Diversion: <tel:+15550003>;reason=no-answer;counter=1, \"B\" <sip:+15550002@ims.test>;reason=user-busy;privacy=full",
                "Diversion: <sip:x@y.test>;reason=\"whatever\"",
            ],
        );
        let read = Incoming::read(&request, false, &home()).diversions;
        let told: Vec<_> = read.iter().map(|it| (it.by.clone(), it.reason, it.withheld)).collect();
        assert_eq!(
            told,
            [
                (number("x@y.test"), Why::Unknown, false),
                (number("+15550002"), Why::Busy, true),
                (number("+15550003"), Why::NoAnswer, false),
            ]
        );
        let request = invite(
            "tel:+15550009",
            &[
                "History-Info: <sip:+15550002@ims.test?Privacy=history&Reason=SIP%3Bcause%3D302>;index=1",
                "History-Info: <sip:+15550003@ims.test;user=phone;cause=302>;index=1.1;mp=1, <tel:+15550009;cause=408>;index=1.1.1;mp=1.1",
            ],
        );
        let read = Incoming::read(&request, false, &home());
        let told: Vec<_> = read.diversions.iter().map(|it| (it.by.clone(), it.reason, it.withheld)).collect();
        assert_eq!(
            told,
            [(number("+15550002"), Why::Unconditional, true), (number("+15550003"), Why::NoAnswer, false)]
        );
        let indexes: Vec<_> = read.history.iter().map(|it| (it.index.as_str(), it.cause)).collect();
        assert_eq!(indexes, [("1", None), ("1.1", Some(302)), ("1.1.1", Some(408))]);
    }

    #[test]
    fn a_thousand_entries_are_not_kept() {
        let many = format!("Diversion: {}", "<tel:+15550003>;reason=no-answer, ".repeat(400));
        let fields: Vec<_> = std::iter::repeat_n(many.as_str(), 100).collect();
        let read = Incoming::read(&invite("tel:+15550009", &fields), true, &home());
        assert_eq!(read.diversions.len(), MAX_DIVERSIONS);
    }

    proptest! {
        #[test]
        fn any_headers_are_read_without_panic(
            texts in prop::collection::vec("(<sip:|\"|<tel:|)[ -~é]{0,60}>?(;[a-z]{1,8}=[ -~]{0,8})?", 8),
            trusted in any::<bool>(),
        ) {
            let names = ["From", "To", "P-Asserted-Identity", "Remote-Party-ID", "Privacy", "P-Called-Party-ID", "History-Info", "Diversion"];
            let fields: Vec<_> = names.iter().zip(&texts).map(|(name, text)| format!("{name}: {text}")).collect();
            let fields: Vec<_> = fields.iter().map(String::as_str).collect();
            let read = Incoming::read(&invite("tel:+15550009", &fields), trusted, &home());
            prop_assert!(trusted || read.asserted.is_none());
            prop_assert!(read.name.is_none_or(|name| !name.contains(['\r', '\n'])));
        }
    }
}
