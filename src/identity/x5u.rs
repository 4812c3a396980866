//! PASSporTs whose certificates lie elsewhere (RFC 7515 §4.1.5): where they may lie, and what is found there.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::canonical::Identity;
use super::certificate::{Chain, ChainError};
use super::passport::{Passport, PassportError, PassportTrust};
use crate::protocol::time::Timestamp;

/// The longest URL that is fetched.
const MAX_URL: usize = 2048;

/// A host, with its port where that is not 443, from which chains are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct X5uHost(String);

impl std::str::FromStr for X5uHost {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "a host as URLs spell it and perhaps a port, without https:// and without a path";
        let authority: http::uri::Authority = text.parse().map_err(|_| wrong)?;
        let host = authority.host();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.[]:".contains(&b);
        // Text after a colon that is no port would be taken for a part of the name.
        let whole = authority.port().map_or(host.len(), |port| host.len() + 1 + port.as_str().len());
        if host.is_empty() || whole != text.len() || !text.bytes().all(plain) {
            return Err(wrong);
        }
        let text = text.to_ascii_lowercase();
        Ok(Self(text.strip_suffix(":443").map_or(text.clone(), str::to_owned)))
    }
}

impl PassportTrust {
    /// The URL to fetch for an `x5u`; a reason if this server fetches none from there.
    fn allowed(&self, x5u: &str) -> Result<String, PassportError> {
        let no = PassportError::X5u;
        if self.x5u_hosts.is_empty() {
            return Err(no("this server fetches none: send the chain itself as x5c"));
        }
        // A fragment names a part of what is fetched, and there are no parts.
        let url = x5u.split('#').next().unwrap_or_default();
        // What URL parsers repair (spaces, line breaks, backslashes) could make another host of it.
        if url.len() > MAX_URL || !url.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
            return Err(no("it is no URL of at most 2048 characters"));
        }
        let (scheme, rest) = url.split_once("://").ok_or(no("it is no https URL"))?;
        if !scheme.eq_ignore_ascii_case("https") {
            return Err(no("only https URLs are fetched"));
        }
        // RFC 3986 §3.2: the authority ends at a slash or question mark. Compared whole, a user before an @ is no host.
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let host = authority.to_ascii_lowercase();
        let host = host.strip_suffix(":443").unwrap_or(&host);
        if !self.x5u_hosts.iter().any(|allowed| allowed.0 == host) {
            return Err(no("this server fetches none from that host: send the chain itself as x5c"));
        }
        Ok(format!("https://{host}{rest}"))
    }
}

impl Passport {
    /// The URL of the chain that is to be fetched and given to `with_chain` before `check` can tell. What can be refused
    /// without it is refused here, so that nobody is asked in vain.
    pub fn x5u(
        &self,
        trust: &PassportTrust,
        destination: &Identity,
        now: Timestamp,
    ) -> Result<Option<String>, PassportError> {
        let Some(x5u) = self.jws.header().x5u.as_deref() else { return Ok(None) };
        let known = |signer: &super::passport::PassportSigner| self.jws.verify(&signer.keys).is_ok();
        if self.chain.is_some() || trust.signers.iter().any(known) {
            return Ok(None);
        }
        let url = trust.allowed(x5u)?;
        self.check_use(destination, now)?;
        Ok(Some(url))
    }

    /// The same with the chain that its `x5u` led to.
    #[must_use]
    pub fn with_chain(mut self, chain: Chain) -> Self {
        self.chain = Some(chain);
        self
    }
}

/// Reads what an `x5u` led to: a chain in PEM, leaf first, or one certificate in DER.
pub fn read_chain(body: &[u8]) -> Result<Chain, PassportError> {
    let form = PassportError::X5u("there are no 1 to 6 certificates at it, PEM or DER, leaf first");
    // A SEQUENCE: no text begins like that.
    let certs = if body.first() == Some(&0x30) {
        vec![body.to_vec()]
    } else {
        let all = CertificateDer::pem_slice_iter(body).map(|der| der.map(|der| der.to_vec()));
        all.collect::<Result<_, _>>().map_err(|_| form)?
    };
    Chain::new(certs).map_err(|error| match error {
        ChainError::Key => PassportError::X5u("the key of the leaf at it is not on P-256"),
        ChainError::Form | ChainError::Untrusted => form,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust(hosts: &[&str]) -> PassportTrust {
        let x5u_hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        PassportTrust { x5u_hosts, ..PassportTrust::default() }
    }

    #[test]
    fn only_the_named_hosts_are_asked() {
        let trust = trust(&["Certs.example.com", "other.example:8443", "192.0.2.1", "[2001:db8::1]:444"]);
        for (x5u, url) in [
            ("https://certs.example.com/a.pem", "https://certs.example.com/a.pem"),
            ("HTTPS://CERTS.example.com:443/A.pem#x", "https://certs.example.com/A.pem"),
            ("https://certs.example.com", "https://certs.example.com"),
            ("https://certs.example.com?a=/@b", "https://certs.example.com?a=/@b"),
            ("https://other.example:8443/", "https://other.example:8443/"),
            ("https://192.0.2.1/", "https://192.0.2.1/"),
            ("https://[2001:DB8::1]:444/", "https://[2001:db8::1]:444/"),
        ] {
            assert_eq!(trust.allowed(x5u).as_deref(), Ok(url), "{x5u}");
        }
        for x5u in [
            "",
            "https:",
            "https://",
            "https:///certs.example.com/",
            "http://certs.example.com/",
            "ftp://certs.example.com/",
            "//certs.example.com/",
            "certs.example.com/a.pem",
            "https://certs.example.com:8443/",
            "https://certs.example.com./",
            "https://certs.example.com@evil.example/",
            "https://certs.example.com:443@evil.example/",
            "https://user@certs.example.com/",
            "https://:@certs.example.com/",
            "https://evil.example/@certs.example.com/",
            "https://evil.example#@certs.example.com/",
            "https://evil.example?@certs.example.com/",
            "https://evil.example\\@certs.example.com/",
            "https://certs.example.com\\@evil.example/",
            "https:\\\\certs.example.com/",
            "https://certs.example.com.evil.example/",
            "https://xcerts.example.com/",
            "https://certs.example%2ecom/",
            "https://certs.exa\tmple.com/",
            " https://certs.example.com/",
            "https://certs.example.com/\r\nHost: evil",
            "https://cérts.example.com/",
            "https://other.example/",
            "https://3221225985/",
            "https://[::ffff:192.0.2.1]/",
        ] {
            assert!(matches!(trust.allowed(x5u), Err(PassportError::X5u(_))), "{x5u}");
        }
        let long = format!("https://certs.example.com/{}", "x".repeat(MAX_URL));
        assert!(trust.allowed(&long).is_err());
    }

    #[test]
    fn without_hosts_nothing_is_fetched() {
        assert!(trust(&[]).allowed("https://certs.example.com/").is_err());
    }

    #[test]
    fn a_host_is_written_without_anything_around_it() {
        for wrong in [
            "",
            "https://a.example",
            "a.example/",
            "u@a.example",
            "a.example:",
            "a.example:x",
            "*.example",
            "a b",
            ":443",
        ] {
            assert!(wrong.parse::<X5uHost>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn garbage_is_no_chain() {
        for body in [&b""[..], b"\0", b"0", b"0\x82\xff\xff", b"<html>", b"-----BEGIN CERTIFICATE-----\n"] {
            assert!(matches!(read_chain(body), Err(PassportError::X5u(_))), "{body:?}");
        }
    }
}
