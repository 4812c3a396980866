//! Where a domain's users log in: `GET https://DOMAIN/.well-known/ript-oauth`.

use oauth2::url::{Host, Url};
use serde::{Deserialize, Deserializer, Serialize};

use super::LoginError;

/// Where to log in, by the names of RFC 8414.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovery {
    /// The identity provider.
    pub issuer: String,
    /// Where a browser goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_endpoint: Option<Url>,
    /// Where codes and refresh tokens become access tokens.
    pub token_endpoint: Url,
    /// Where a device without a browser starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_authorization_endpoint: Option<Url>,
    /// Who we are to the identity provider: a public client.
    pub client_id: String,
    /// What to ask for.
    #[serde(default, deserialize_with = "words")]
    pub scopes: Vec<String>,
    /// RFC 8707: for whom the token is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

impl Discovery {
    /// Reads a domain's document.
    pub fn parse(domain: &str, body: &[u8]) -> Result<Self, LoginError> {
        let what = || format!("https://{domain}/.well-known/ript-oauth");
        let read: Self = serde_json::from_slice(body).map_err(|error| LoginError::protocol(what(), error))?;
        read.check().map_err(|reason| LoginError::protocol(what(), reason))?;
        Ok(read)
    }

    /// Whether tokens may be sent where this leads.
    pub(super) fn check(&self) -> Result<(), String> {
        let issuer = Url::parse(&self.issuer).map_err(|error| format!("issuer: {error}"))?;
        let named = [
            ("issuer", Some(&issuer)),
            ("authorization_endpoint", self.authorization_endpoint.as_ref()),
            ("token_endpoint", Some(&self.token_endpoint)),
            ("device_authorization_endpoint", self.device_authorization_endpoint.as_ref()),
        ];
        for (name, url) in named {
            if url.is_some_and(|url| !is_safe(url)) {
                return Err(format!("{name} must be an https URL without a user and a fragment"));
            }
        }
        if self.client_id.is_empty() { Err("client_id is empty".into()) } else { Ok(()) }
    }
}

/// RFC 8414 §2: `https` everywhere; what stays on this machine may do without, for development.
fn is_safe(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(_)) | None => false,
    };
    let encrypted = url.scheme() == "https" || (url.scheme() == "http" && loopback);
    encrypted && url.username().is_empty() && url.password().is_none() && url.fragment().is_none()
}

/// A list, or words with spaces between them.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        List(Vec<String>),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Text(text) => text.split_whitespace().map(str::to_owned).collect(),
        Either::List(list) => list,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(in super::super) fn document() -> Value {
        json!({
            "issuer": "https://id.example",
            "authorization_endpoint": "https://id.example/auth",
            "token_endpoint": "https://id.example/token",
            "device_authorization_endpoint": "https://id.example/device/auth",
            "client_id": "ript",
            "scopes": "openid ript:calls",
            "resource": "https://ript.example",
            "registration_endpoint": "https://id.example/reg",
        })
    }

    fn parse(document: &Value) -> Result<Discovery, LoginError> {
        Discovery::parse("ript.example", document.to_string().as_bytes())
    }

    #[test]
    fn scopes_are_a_list_or_words() {
        let mut document = document();
        assert_eq!(parse(&document).unwrap().scopes, ["openid", "ript:calls"]);
        document["scopes"] = json!(["a", "b"]);
        let read = parse(&document).unwrap();
        assert_eq!(read.scopes, ["a", "b"]);
        let again: Discovery = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
        assert_eq!(again, read);
    }

    #[test]
    fn no_token_is_sent_in_the_clear() {
        for url in
            ["http://id.example/x", "http://localhost/x", "ftp://127.0.0.1/x", "https://u@id.example/x"]
        {
            for name in ["token_endpoint", "authorization_endpoint", "device_authorization_endpoint"] {
                let mut document = document();
                document[name] = json!(url);
                let error = parse(&document).unwrap_err().to_string();
                assert!(error.contains(name) && error.contains("https"), "{error}");
            }
        }
        let mut document = document();
        document["token_endpoint"] = json!("http://127.0.0.1:4000/token");
        parse(&document).unwrap();
    }

    #[test]
    fn a_document_that_lacks_something_is_named() {
        for name in ["issuer", "token_endpoint", "client_id"] {
            let mut document = document();
            document.as_object_mut().unwrap().remove(name);
            let error = parse(&document).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("/.well-known/ript-oauth"), "{error}");
        }
        for hostile in [&b""[..], b"[]", b"\xff", b"<html>"] {
            assert!(matches!(Discovery::parse("a", hostile), Err(LoginError::Protocol { .. })));
        }
    }
}
