//! The server's origin, and the URIs that it hands out: relative or absolute, but never somebody else's.

use http::Uri;

use super::ClientError;

/// Where the server is: `https://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// As it stands in URIs.
    authority: String,
}

impl Origin {
    /// Reads a server's URL; a path behind the authority is ignored.
    pub(super) fn parse(text: &str) -> Result<Self, ClientError> {
        let wrong = |reason: &str| ClientError::input(format!("server URL {text:?}"), reason);
        let full = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let uri: Uri = full.parse().map_err(|_| wrong("https://host:port is expected"))?;
        // wire §1: TLS everywhere on QUIC.
        if uri.scheme_str() != Some("https") {
            return Err(wrong("RIPT is spoken over https only: https://host:port"));
        }
        let authority = uri.authority().filter(|a| !a.host().is_empty() && !a.as_str().contains('@'));
        let authority = authority.ok_or_else(|| wrong("https://host:port is expected, without a user"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let port = authority.port_u16().unwrap_or(443);
        let authority = authority.as_str().to_ascii_lowercase();
        Ok(Self { host, port, authority })
    }

    /// The host's name or address.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Host and port as they stand in URIs.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// The absolute URI of a reference; one to another authority is refused, so that no token goes there.
    // wire §6: the bearer never goes anywhere else.
    pub(super) fn resolve(&self, reference: &str) -> Result<String, ClientError> {
        let wrong = |why: &str| ClientError::Protocol(format!("the URI {reference:?} {why}"));
        let absolute = if let Some(path) = reference.strip_prefix("//") {
            format!("https://{path}")
        } else if reference.starts_with('/') {
            format!("https://{}{reference}", self.authority)
        } else {
            reference.to_owned()
        };
        let uri: Uri = absolute.parse().map_err(|_| wrong("can't be read"))?;
        let Some(authority) = uri.authority() else { return Err(wrong("names no resource")) };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let ours = uri.scheme_str() == Some("https")
            && host.eq_ignore_ascii_case(&self.host)
            && authority.port_u16().unwrap_or(443) == self.port
            && !authority.as_str().contains('@');
        if !ours {
            return Err(wrong("leads away from the server"));
        }
        Ok(format!("https://{}{}", self.authority, uri.path_and_query().map_or("/", |path| path.as_str())))
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "https://{}", self.authority)
    }
}

/// Adds a parameter to a URI's query; one of that name that is there already stays.
pub(super) fn with_query(uri: &str, name: &str, value: &str) -> String {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    if query.split('&').any(|part| part.split('=').next() == Some(name)) {
        return uri.to_owned();
    }
    let joint = if query.is_empty() { "" } else { "&" };
    let mut out = format!("{path}?{query}{joint}{name}=");
    for byte in value.bytes() {
        // RFC 3986 §2.3: everything that isn't unreserved.
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A URI with `tail` behind its path, before its query.
pub(super) fn below(uri: &str, tail: &str) -> String {
    match uri.split_once('?') {
        Some((path, query)) => format!("{path}{tail}?{query}"),
        None => format!("{uri}{tail}"),
    }
}

/// A URI's path: what stays the same whichever name the server was called by.
pub(super) fn path_of(uri: &str) -> &str {
    let path = match uri.split_once("://") {
        Some((_, rest)) => &rest[rest.find('/').unwrap_or(rest.len())..],
        None => uri,
    };
    path.split('?').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_https_with_443_as_the_port_that_is_not_said() {
        let origin = Origin::parse("https://Ript.Example/x").unwrap();
        assert_eq!((origin.host(), origin.port()), ("ript.example", 443));
        let six = Origin::parse("https://[::1]:4433").unwrap();
        assert_eq!((six.host(), six.port(), six.to_string().as_str()), ("::1", 4433, "https://[::1]:4433"));
        assert_eq!(Origin::parse("127.0.0.1:4433").unwrap().port(), 4433);
        for bad in ["", "http://a", "https://", "https://u@a/", "https://a b"] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn references_resolve_and_none_leads_away() {
        let origin = Origin::parse("https://a.example:8443").unwrap();
        assert_eq!(origin.resolve("/x?y=1").unwrap(), "https://a.example:8443/x?y=1");
        assert_eq!(origin.resolve("https://A.example:8443/x").unwrap(), "https://a.example:8443/x");
        for bad in [
            "https://b.example:8443/x",
            "https://a.example/x",
            "//b/x",
            "http://a.example:8443/x",
            "x",
            "",
            "/ ",
        ] {
            assert!(origin.resolve(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_parameter_is_encoded_and_never_doubled() {
        let with = with_query("https://a/m", "handler", "https://a/h?x");
        assert_eq!(with, "https://a/m?handler=https%3A%2F%2Fa%2Fh%3Fx");
        assert_eq!(with_query(&with, "n", "3"), format!("{with}&n=3"));
        assert_eq!(with_query(&with, "handler", "other"), with);
        assert_eq!(below("https://a/c?t=1", "/events"), "https://a/c/events?t=1");
        assert_eq!(path_of("https://a:1/c/d?t=1"), "/c/d");
        assert_eq!(path_of("/c"), "/c");
    }
}
