//! What `[[operator]]` means: an account at somebody else's CAMARA APIs.

use uuid::Uuid;

use super::build::{certificates, destinations, secret};
use super::error::ConfigError;
use super::section::Section;
use crate::adapter::operator::{Access, AccountSettings, Secret};
use crate::protocol::number::Number;

const ROOT: &str = "the root of its APIs: \"https://api.operator.example\"";
const TOKEN_URL: &str = "its OAuth token endpoint: \"https://login.operator.example/token\"";

/// Adds one account.
pub(super) fn account(
    mut known: Vec<AccountSettings>,
    mut section: Section,
) -> Result<Vec<AccountSettings>, ConfigError> {
    let url = section.one("url", ROOT, https)?;
    let number_place = section.place_of("number");
    let number = section.one("number", "the account's number: \"+14085551000\"", e164)?;
    let destinations = destinations(&mut section, "destinations")?;
    let device = section.one("device-id", "a UUID of its own", Uuid::parse_str)?;
    let roots = section.many("ca", "paths of PEM files with certificates: \"ca.pem\"", certificates)?;
    let access = access(&mut section)?;
    section.finish()?;
    let number = section.need("number", number, "the account's number; each account has its own table")?;
    if known.iter().any(|other| other.number == number) {
        return Err(section.bad("number", &number_place, "there is an account with this number already"));
    }
    // What may be called costs money: nothing is allowed by default.
    let why = "the numbers that are called by it: destinations = [\"+49*\", \"!+49900*\"]";
    known.push(AccountSettings {
        url: section.need("url", url, ROOT)?,
        number,
        access,
        destinations: section.need("destinations", destinations, why)?,
        device,
        roots: roots.unwrap_or_default().concat(),
    });
    Ok(known)
}

/// Client credentials, or a file that somebody else keeps a token in.
fn access(section: &mut Section) -> Result<Access, ConfigError> {
    let secret_place = section.place_of("client-secret-file");
    let file_place = section.place_of("token-file");
    let token_url = section.one("token-url", TOKEN_URL, https)?;
    let id = section.text("client-id")?;
    let given = section.text("client-secret")?;
    let kept = section.one("client-secret-file", "a path", |text| secret(&secret_place, text))?;
    let file = section.file("token-file")?;
    let client = token_url.is_some() || id.is_some() || given.is_some() || kept.is_some();
    if let Some(file) = file {
        if client {
            let why = "either a token-file, or token-url, client-id and client-secret; not both";
            return Err(section.bad("token-file", &file_place, why));
        }
        return Ok(Access::File(file));
    }
    let why = "its OAuth token endpoint, with client-id and client-secret; or a token-file instead";
    let token_url = section.need("token-url", token_url, why)?;
    let id = section.need("client-id", id, "the client's name at the token endpoint")?;
    if given.is_some() && kept.is_some() {
        let why = "either client-secret or client-secret-file; not both";
        return Err(section.bad("client-secret-file", &secret_place, why));
    }
    let why = "the client's secret at the token endpoint, here or in client-secret-file";
    let secret = Secret::new(section.need("client-secret", given.or(kept), why)?);
    Ok(Access::Client { token_url, id, secret })
}

/// A URL that a token may go to.
fn https(text: &str) -> Result<String, &'static str> {
    let uri = text.parse::<http::Uri>().map_err(|_| "it is no URL")?;
    let plain = !text.contains(['?', '#', '@']);
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(host)) if !host.is_empty() && plain => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("https:// and a host are expected, no password and no query"),
    }
}

/// Accounts are phone numbers (webrtc-registration.yaml, phoneNumber).
fn e164(text: &str) -> Result<Number, String> {
    match text.parse::<Number>() {
        Ok(number @ Number::E164(_)) => Ok(number),
        Ok(_) => Err("an address is no phone number".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
