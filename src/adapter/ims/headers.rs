//! What the first request of a call that leaves carries: who calls, in the form that the far side believes, and what an IMS
//! wants to know (TS 24.229 §5.1.3.1, §7.2A; RFC 3323, RFC 3325, RFC 7315, RFC 5009).

use super::phone::{ANONYMOUS, Home, Phone, sip_uri, tel_uri};
pub use super::registration::MMTEL;
use crate::adapter::sip::value::quoted;
use crate::protocol::number::Number;

/// TS 24.229 §7.2A.4: the access that this server itself has to the core, which is all that it may say: a client's is another's.
pub const ACCESS: &str = "IEEE-802.3";

/// What a call leaves by.
#[derive(Clone, Debug)]
pub enum Way {
    /// A registered account: the core checks and asserts who calls.
    Account {
        /// P-Associated-URI, the default one first.
        associated: Vec<String>,
        /// P-Access-Network-Info, where told.
        access: Option<String>,
        /// Whether it is an IMS, and not just a registrar.
        ims: bool,
    },
    /// A trunk into a network that takes our word for who calls (RFC 3325 §3).
    Trusting {
        /// RFC 7315 §5.6: names our network in charging; none: no charging vector.
        network: Option<String>,
    },
    /// A trunk into one that does not: it learns only what From says.
    Plain,
}

/// How numbers are written in Request-URI and To.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `sip:+…@domain;user=phone`.
    #[default]
    Sip,
    /// `tel:+…`.
    Tel,
}

/// A call that leaves.
#[derive(Clone, Debug)]
pub struct Outgoing<'a> {
    /// Who calls.
    pub from: &'a Number,
    /// The name that goes with it.
    pub name: Option<&'a str>,
    /// Whether the callee may not learn who.
    pub withheld: bool,
    /// Whom.
    pub to: &'a Number,
    /// The far side's domain.
    pub domain: &'a str,
    /// How numbers are written.
    pub form: Form,
    /// Our address: a URI.
    pub contact: &'a str,
    /// RFC 5626's and TS 24.229 §5.1.3's instance: none where it is not to be told.
    pub instance: Option<&'a str>,
    /// Unlike any other call's, for charging.
    pub icid: &'a str,
}

/// The parts of the first request, as [`crate::adapter::sip::ua::Profile`] takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct First {
    /// The Request-URI.
    pub target: String,
    /// From, without a tag.
    pub from: String,
    /// To.
    pub to: String,
    /// Contact.
    pub contact: String,
    /// More headers.
    pub headers: Vec<(String, String)>,
}

impl Outgoing<'_> {
    /// What the first request says.
    pub fn first(&self, way: &Way) -> First {
        let target = match self.form {
            Form::Tel => tel_uri(self.to).unwrap_or_else(|| sip_uri(self.to, self.domain)),
            Form::Sip => sip_uri(self.to, self.domain),
        };
        let ims = matches!(way, Way::Account { ims: true, .. });
        let mut contact = format!("<{}>", self.contact);
        // The Contact's user part would betray a caller who stays unknown: RFC 3323 §4.1.1.3 leaves that to who writes it.
        if let Some(instance) = self.instance.filter(|_| !self.withheld) {
            contact.push_str(&format!(";+sip.instance=\"<{instance}>\""));
        }
        if ims {
            contact.push_str(&format!(";{MMTEL}"));
        }
        let mut headers = Vec::new();
        let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
        match way {
            Way::Account { associated, access, ims } => {
                if let Some(own) = preferred(associated, self.from, self.domain) {
                    add("P-Preferred-Identity", format!("<{own}>"));
                }
                if let Some(access) = access {
                    add("P-Access-Network-Info", access.clone());
                }
                if *ims {
                    add("P-Preferred-Service", "urn:urn-7:3gpp-service.ims.icsi.mmtel".to_owned());
                    add("Accept-Contact", format!("*;{MMTEL}"));
                }
            }
            // Nobody is asserted of who is not known at all.
            Way::Trusting { .. } if sip_uri(self.from, self.domain) == ANONYMOUS => {}
            Way::Trusting { network } => {
                let name = self.name.map(|name| format!("{} ", quoted(name))).unwrap_or_default();
                let mut own = format!("{name}<{}>", sip_uri(self.from, self.domain));
                if let Some(tel) = tel_uri(self.from) {
                    own.push_str(&format!(", <{tel}>"));
                }
                add("P-Asserted-Identity", own);
                if let Some(network) = network {
                    // RFC 7315 §4.6
                    let vector = format!("icid-value={};orig-ioi={}", quoted(self.icid), quoted(network));
                    add("P-Charging-Vector", vector);
                }
            }
            Way::Plain => {}
        }
        if self.withheld {
            // RFC 3325 §9.3; towards who does not keep it a secret, there is nothing that it could hide.
            if !matches!(way, Way::Plain) {
                add("Privacy", "id".to_owned());
            }
        }
        // RFC 5009 §8
        add("P-Early-Media", "supported".to_owned());
        First { target: target.clone(), from: self.caller(), to: format!("<{target}>"), contact, headers }
    }

    fn caller(&self) -> String {
        if self.withheld {
            return format!("\"Anonymous\" <{ANONYMOUS}>");
        }
        let name = self.name.map(|name| format!("{} ", quoted(name))).unwrap_or_default();
        format!("{name}<{}>", sip_uri(self.from, self.domain))
    }
}

/// The one of our identities that is the caller's number, else the default one. None where the network named none.
fn preferred<'a>(associated: &'a [String], from: &Number, domain: &str) -> Option<&'a str> {
    let home = Home { domain: domain.to_owned(), ..Home::default() };
    let is = |uri: &&String| Phone::read(uri, &home).is_some_and(|it| it.number.as_ref() == Some(from));
    associated.iter().find(is).or(associated.first()).map(String::as_str)
}

/// What each response that makes a dialog carries to an IMS (TS 24.229 §5.1.4.1): the access.
pub fn response(way: &Way) -> Vec<(String, String)> {
    match way {
        Way::Account { access: Some(access), .. } => {
            vec![("P-Access-Network-Info".to_owned(), access.clone())]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::caller::Incoming;
    use super::*;

    fn outgoing<'a>(from: &'a Number, to: &'a Number, withheld: bool) -> Outgoing<'a> {
        Outgoing {
            from,
            name: Some("Al \"Ice\""),
            withheld,
            to,
            domain: "ims.test",
            form: Form::Sip,
            contact: "sip:ript@127.0.0.109:5070",
            instance: Some("urn:uuid:1"),
            icid: "icid1",
        }
    }

    fn get<'a>(first: &'a First, name: &str) -> Option<&'a str> {
        first.headers.iter().find(|(at, _)| at == name).map(|(_, value)| value.as_str())
    }

    fn account() -> Way {
        let associated = ["sip:ript@ims.test", "sip:+15550009@ims.test", "tel:+15550009"];
        Way::Account {
            associated: associated.map(str::to_owned).to_vec(),
            access: Some(ACCESS.to_owned()),
            ims: true,
        }
    }

    #[test]
    fn a_registered_account_prefers_the_identity_of_who_calls() {
        let (from, to) = ("+15550009".parse().unwrap(), "+15550002".parse().unwrap());
        let first = outgoing(&from, &to, false).first(&account());
        assert_eq!(first.target, "sip:+15550002@ims.test;user=phone");
        assert_eq!(first.to, "<sip:+15550002@ims.test;user=phone>");
        assert_eq!(first.from, "\"Al \\\"Ice\\\"\" <sip:+15550009@ims.test;user=phone>");
        let icsi = "+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel\"";
        assert_eq!(
            first.contact,
            format!("<sip:ript@127.0.0.109:5070>;+sip.instance=\"<urn:uuid:1>\";{icsi}")
        );
        for (name, value) in [
            ("P-Preferred-Identity", Some("<sip:+15550009@ims.test>")),
            ("P-Access-Network-Info", Some("IEEE-802.3")),
            ("P-Preferred-Service", Some("urn:urn-7:3gpp-service.ims.icsi.mmtel")),
            ("Accept-Contact", Some(format!("*;{icsi}").as_str())),
            ("P-Early-Media", Some("supported")),
            ("P-Asserted-Identity", None),
            ("P-Charging-Vector", None),
            ("Privacy", None),
        ] {
            assert_eq!(get(&first, name), value, "{name}");
        }
        let other: Number = "+15550077".parse().unwrap();
        let first = outgoing(&other, &to, false).first(&account());
        assert_eq!(get(&first, "P-Preferred-Identity"), Some("<sip:ript@ims.test>"), "the default one");
        assert_eq!(response(&account()), [("P-Access-Network-Info".to_owned(), ACCESS.to_owned())]);
    }

    #[test]
    fn a_caller_who_stays_unknown_is_named_only_to_who_keeps_it() {
        let (from, to) = ("+15550009".parse().unwrap(), "+15550002".parse().unwrap());
        let trusting = Way::Trusting { network: Some("ript.example".to_owned()) };
        for (way, asserted) in [(account(), false), (trusting, true), (Way::Plain, false)] {
            let first = outgoing(&from, &to, true).first(&way);
            assert_eq!(first.from, "\"Anonymous\" <sip:anonymous@anonymous.invalid>");
            assert!(!first.contact.contains("instance"));
            assert_eq!(get(&first, "P-Asserted-Identity").is_some(), asserted);
            let plain = matches!(way, Way::Plain);
            assert_eq!(get(&first, "Privacy"), (!plain).then_some("id"));
            if plain {
                assert!(!format!("{first:?}").contains("15550009"));
            }
        }
    }

    #[test]
    fn a_trusting_trunk_is_told_who_calls_in_both_forms_and_reads_the_same() {
        let (from, to): (Number, Number) = ("+15550009".parse().unwrap(), "+15550002".parse().unwrap());
        let way = Way::Trusting { network: Some("ript.example".to_owned()) };
        let first = Outgoing { form: Form::Tel, ..outgoing(&from, &to, false) }.first(&way);
        assert_eq!(first.target, "tel:+15550002");
        assert_eq!(
            get(&first, "P-Asserted-Identity"),
            Some("\"Al \\\"Ice\\\"\" <sip:+15550009@ims.test;user=phone>, <tel:+15550009>")
        );
        assert_eq!(get(&first, "P-Charging-Vector"), Some("icid-value=\"icid1\";orig-ioi=\"ript.example\""));
        let mut text =
            format!("INVITE {} SIP/2.0\r\nFrom: {};tag=1\r\nTo: {}\r\n", first.target, first.from, first.to);
        first.headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
        let request = rsipstack::sip::Request::try_from(format!("{text}\r\n").as_str()).unwrap();
        let home = Home { domain: "ims.test".into(), ..Home::default() };
        let read = Incoming::read(&request, true, &home);
        assert_eq!((read.asserted.as_ref(), read.to.as_ref()), (Some(&from), Some(&to)));
        assert_eq!(read.name.as_deref(), Some("Al \"Ice\""));
        // A user of a name has no telephone's form.
        let name: Number = "a@ims.test".parse().unwrap();
        let first = Outgoing { form: Form::Tel, ..outgoing(&name, &name, false) }.first(&way);
        assert_eq!(first.target, "sip:a@ims.test");
        assert_eq!(get(&first, "P-Asserted-Identity"), Some("\"Al \\\"Ice\\\"\" <sip:a@ims.test>"));
    }
}
