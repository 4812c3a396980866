//! Digest authentication (RFC 7616, RFC 3261 §22, RFC 8760): challenges read, and answered.

use std::fmt;
use std::fmt::Write as _;

use md5::Digest as _;

use super::ua::Credentials;
use super::value::{param, quoted, quoted_parts};

/// The most challenges of one response that are looked at.
const MAX_CHALLENGES: usize = 16;
/// The longest text of a challenge that is echoed.
const MAX_TEXT: usize = 2048;

/// How text is digested. The later, the stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hash {
    /// MD5.
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-512/256.
    Sha512_256,
}

impl Hash {
    fn hex(self, parts: &[&[u8]]) -> String {
        let bytes = match self {
            Self::Md5 => {
                let mut hash = md5::Md5::new();
                parts.iter().for_each(|part| hash.update(part));
                hash.finalize().to_vec()
            }
            Self::Sha256 => sha(&ring::digest::SHA256, parts),
            Self::Sha512_256 => sha(&ring::digest::SHA512_256, parts),
        };
        hex(&bytes)
    }
}

fn sha(algorithm: &'static ring::digest::Algorithm, parts: &[&[u8]]) -> Vec<u8> {
    let mut hash = ring::digest::Context::new(algorithm);
    parts.iter().for_each(|part| hash.update(part));
    hash.finish().as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// What a challenge's `algorithm` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Algorithm {
    /// How text is digested.
    pub hash: Hash,
    /// RFC 7616 §3.4.2: the key is bound to the first nonces.
    pub session: bool,
    /// RFC 3310: the password comes from a SIM's keys.
    pub aka: bool,
}

impl Algorithm {
    fn read(text: &str) -> Option<Self> {
        let plain = |hash| Self { hash, session: false, aka: false };
        Some(match text.to_ascii_uppercase().as_str() {
            "MD5" => plain(Hash::Md5),
            "SHA-256" => plain(Hash::Sha256),
            "SHA-512-256" => plain(Hash::Sha512_256),
            "MD5-SESS" => Self { session: true, ..plain(Hash::Md5) },
            "SHA-256-SESS" => Self { session: true, ..plain(Hash::Sha256) },
            "SHA-512-256-SESS" => Self { session: true, ..plain(Hash::Sha512_256) },
            "AKAV1-MD5" => Self { aka: true, ..plain(Hash::Md5) },
            _ => return None,
        })
    }
}

/// RFC 7616 §3.4: what is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qop {
    /// The request line.
    Auth,
    /// The body too.
    AuthInt,
}

impl Qop {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::AuthInt => "auth-int",
        }
    }
}

/// A challenge that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Whose passwords are meant.
    pub realm: String,
    /// To be answered once, or counted.
    pub nonce: String,
    /// To be given back.
    pub opaque: Option<String>,
    /// What is to be computed.
    pub algorithm: Algorithm,
    /// As it was named, to be given back; none: it was not named, and is MD5.
    pub named: Option<String>,
    /// What is to be protected; none: as in RFC 2069.
    pub qop: Option<Qop>,
    /// Only the nonce was too old, the password is right.
    pub stale: bool,
}

impl Challenge {
    /// Those of a header's values (several, joined by commas, too) that can be answered, in their order.
    pub fn all<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<Self> {
        let mut found = Vec::new();
        let mut current: Option<Vec<(String, String)>> = None;
        let mut close = |current: &mut Option<Vec<(String, String)>>| {
            found.extend(current.take().and_then(|params| Self::of(&params)));
            found.len() < MAX_CHALLENGES
        };
        for value in values.into_iter().take(MAX_CHALLENGES) {
            for part in quoted_parts(value, ',') {
                let rest = match scheme(part) {
                    None => part,
                    Some((scheme, rest)) => {
                        if !close(&mut current) {
                            return found;
                        }
                        current = scheme.eq_ignore_ascii_case("digest").then(Vec::new);
                        rest
                    }
                };
                let param = param(rest);
                if let (Some(params), Some(text)) = (&mut current, param.value) {
                    params.push((param.name.to_ascii_lowercase(), text));
                }
            }
            // A challenge ends with its header.
            if !close(&mut current) {
                break;
            }
        }
        found
    }

    /// The strongest for a password; of equals the first (RFC 8760 §2.4).
    pub fn strongest(all: &[Self]) -> Option<&Self> {
        let mut plain = all.iter().filter(|challenge| !challenge.algorithm.aka);
        let first = plain.next()?;
        Some(plain.fold(
            first,
            |best, next| {
                if next.algorithm.hash > best.algorithm.hash { next } else { best }
            },
        ))
    }

    fn of(params: &[(String, String)]) -> Option<Self> {
        let get = |name: &str| params.iter().find(|(at, _)| at == name).map(|(_, text)| text.as_str());
        if params.iter().any(|(_, text)| text.len() > MAX_TEXT || text.chars().any(char::is_control)) {
            return None;
        }
        let named = get("algorithm");
        let qop = match get("qop") {
            None => None,
            Some(offered) => {
                let offers = |word: &str| offered.split(',').any(|one| one.trim().eq_ignore_ascii_case(word));
                // auth-int covers what proxies may change (RFC 3261 §22.4, item 8 allows it): taken only where nothing else is offered.
                Some(if offers("auth") {
                    Qop::Auth
                } else if offers("auth-int") {
                    Qop::AuthInt
                } else {
                    return None;
                })
            }
        };
        Some(Self {
            realm: get("realm")?.to_owned(),
            nonce: get("nonce")?.to_owned(),
            opaque: get("opaque").map(str::to_owned),
            algorithm: named.map_or(Algorithm::read("MD5"), Algorithm::read)?,
            named: named.map(str::to_owned),
            qop,
            stale: get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }
}

/// `Digest realm="x"`: a scheme and a space stand before the first parameter.
fn scheme(part: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = part.split_once(|c: char| c.is_ascii_whitespace())?;
    let token = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.!%*+`'~".contains(&b));
    let rest = rest.trim();
    (token(scheme) && !rest.starts_with('=')).then_some((scheme, rest))
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a str,
    /// The Request-URI.
    pub uri: &'a str,
    /// The body.
    pub body: &'a [u8],
    /// RFC 7616 §3.4: how many requests have answered this nonce, this one too.
    pub count: u32,
}

/// The value of Authorization. `seed` is secret; the client nonces come from it.
pub fn answer(
    challenge: &Challenge,
    user: &str,
    password: &[u8],
    asked: Asked<'_>,
    seed: &[u8; 32],
) -> String {
    let Challenge { realm, nonce, algorithm, .. } = challenge;
    let hash = algorithm.hash;
    // The same for all requests that answer a nonce, so that a session's key stays (RFC 7616 §3.4.2).
    let mut cnonce = Hash::Sha256.hex(&[seed, nonce.as_bytes()]);
    cnonce.truncate(24);
    let mut key = hash.hex(&[user.as_bytes(), b":", realm.as_bytes(), b":", password]);
    if algorithm.session {
        key = hash.hex(&[key.as_bytes(), b":", nonce.as_bytes(), b":", cnonce.as_bytes()]);
    }
    let method = asked.method.as_bytes();
    let what = match challenge.qop {
        Some(Qop::AuthInt) => {
            let body = hash.hex(&[asked.body]);
            hash.hex(&[method, b":", asked.uri.as_bytes(), b":", body.as_bytes()])
        }
        _ => hash.hex(&[method, b":", asked.uri.as_bytes()]),
    };
    let count = format!("{:08x}", asked.count);
    let middle = match challenge.qop {
        Some(qop) => format!("{nonce}:{count}:{cnonce}:{}", qop.as_str()),
        None => nonce.clone(),
    };
    let response = hash.hex(&[key.as_bytes(), b":", middle.as_bytes(), b":", what.as_bytes()]);
    let mut out = format!(
        "Digest username={}, realm={}, nonce={}, uri={}, response=\"{response}\"",
        quoted(user),
        quoted(realm),
        quoted(nonce),
        quoted(asked.uri),
    );
    // RFC 7616 §3.4: algorithm, qop and nc stand without quotes.
    if let Some(named) = &challenge.named {
        let _ = write!(out, ", algorithm={named}");
    }
    if challenge.qop.is_some() || algorithm.session {
        let _ = write!(out, ", cnonce=\"{cnonce}\"");
    }
    if let Some(qop) = challenge.qop {
        let _ = write!(out, ", qop={}, nc={count}", qop.as_str());
    }
    if let Some(opaque) = &challenge.opaque {
        let _ = write!(out, ", opaque={}", quoted(opaque));
    }
    out
}

/// A user with a password.
#[derive(Clone)]
pub struct Digest {
    user: String,
    password: Vec<u8>,
    seed: [u8; 32],
}

impl Digest {
    /// `seed` is random and secret.
    pub fn new(user: &str, password: &str, seed: [u8; 32]) -> Self {
        Self { user: user.to_owned(), password: password.into(), seed }
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The value of Authorization for this challenge.
    pub fn answer(&self, challenge: &Challenge, asked: Asked<'_>) -> String {
        answer(challenge, &self.user, &self.password, asked, &self.seed)
    }
}

impl Credentials for Digest {
    fn authorize(&self, challenge: &str, method: &str, uri: &str, body: &[u8], count: u32) -> Option<String> {
        let all = Challenge::all([challenge]);
        Some(self.answer(Challenge::strongest(&all)?, Asked { method, uri, body, count }))
    }
}

/// Whether a challenge (all values of its header, joined by commas) says that only the nonce was too old. One that follows
/// an answer and does not say so refuses the password (RFC 3261 §22.1: the same credentials are not to be sent again).
pub fn stale(challenge: &str) -> bool {
    Challenge::all([challenge]).iter().any(|challenge| challenge.stale)
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest")
    }
}

#[cfg(test)]
#[path = "digest_tests.rs"]
mod tests;
