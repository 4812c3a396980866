//! A call that is led on to somebody else: who was called first, told in Diversion (RFC 5806) and History-Info (RFC 7044), of which
//! networks read one or the other.

use super::phone::sip_uri;
use crate::protocol::number::Number;

/// Why it is led on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Moved at once: all calls are.
    Moved,
    /// Moved while it rang.
    Deflected,
    /// Handed on in the call, for which there is no word.
    Unknown,
}

impl Cause {
    /// RFC 5806 §5
    const fn diversion(self) -> &'static str {
        match self {
            Self::Moved => "unconditional",
            Self::Deflected => "deflection",
            Self::Unknown => "unknown",
        }
    }

    /// RFC 4458 §2
    const fn code(self) -> Option<u16> {
        match self {
            Self::Moved => Some(302),
            Self::Deflected => Some(487),
            Self::Unknown => None,
        }
    }
}

/// A call that is led on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Led<'a> {
    /// Who was called first, or hands on.
    pub(super) by: &'a Number,
    /// Who is called now.
    pub(super) to: &'a Number,
    /// Why.
    pub(super) why: Cause,
}

impl Led<'_> {
    /// The headers that say so. `domain`: the far side's.
    pub(super) fn headers(&self, domain: &str) -> Vec<(String, String)> {
        let (by, to) = (sip_uri(self.by, domain), sip_uri(self.to, domain));
        let cause = self.why.code().map(|code| format!(";cause={code}")).unwrap_or_default();
        let diversion = format!("<{by}>;reason={}", self.why.diversion());
        // RFC 7044 §10.1: mp: another user than the one of that index.
        let history = format!("<{by}>;index=1, <{to}{cause}>;index=1.1;mp=1");
        vec![("Diversion".to_owned(), diversion), ("History-Info".to_owned(), history)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::caller::{Incoming, Why};
    use super::super::phone::Home;
    use super::*;

    #[test]
    fn who_was_called_first_is_read_again_from_either_header() {
        let (by, to): (Number, Number) = ("+15550002".parse().unwrap(), "+15550003".parse().unwrap());
        for (why, read) in [
            (Cause::Moved, Why::Unconditional),
            (Cause::Deflected, Why::Deflection),
            (Cause::Unknown, Why::Unknown),
        ] {
            let headers = Led { by: &by, to: &to, why }.headers("ims.test");
            assert_eq!(headers.len(), 2);
            for (name, value) in &headers {
                let text = format!(
                    "INVITE tel:+15550003 SIP/2.0\r\nFrom: <tel:+15550001>;tag=1\r\nTo: <tel:+15550002>\r\n{name}: {value}\r\n\r\n"
                );
                let request = rsipstack::sip::Request::try_from(text.as_str()).unwrap();
                let home = Home { domain: "ims.test".into(), ..Home::default() };
                let told = Incoming::read(&request, false, &home);
                // Without a cause History-Info says no more than the way.
                if name == "History-Info" && why == Cause::Unknown {
                    let way: Vec<_> = told.history.iter().map(|entry| entry.to.clone()).collect();
                    assert_eq!(way, [Some(by.clone()), Some(to.clone())]);
                    continue;
                }
                let [diversion] = &told.diversions[..] else { panic!("one diversion: {told:?}") };
                assert_eq!((diversion.by.as_ref(), diversion.reason), (Some(&by), read), "{name}");
            }
        }
    }
}
