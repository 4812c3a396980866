//! Compact JWS (RFC 7515): parsed strictly, verified only with keys that were configured, signed with ES256.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::json;
use super::jwk::{Jwk, JwkSet, KeyError, SigningKey};

/// The longest token that is read, in bytes.
pub const MAX_TOKEN: usize = 16 * 1024;
/// The longest encoded header that is read, in bytes.
pub const MAX_HEADER: usize = 8 * 1024;

/// The signature algorithms that this program knows. There is no `none` and no HMAC to confuse them with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Reads the `alg` of a header or key.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "ES256" => Some(Self::Es256),
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }

    /// The name as headers spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// Why a JWS was refused; never holds anything of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JwsError {
    /// Longer than this program reads.
    #[error("the token is too long")]
    TooLong,
    /// Not three base64url parts with a JSON header.
    #[error("the token is not a compact JWS")]
    Malformed,
    /// The header has `crit`, and no extension is understood here.
    #[error("the token needs an extension that is not understood")]
    Critical,
    /// An algorithm that is not taken.
    #[error("the token's algorithm is not taken")]
    Algorithm,
    /// No configured key fits the token's algorithm and `kid`.
    #[error("no known key fits the token")]
    UnknownKey,
    /// The signature does not verify.
    #[error("the token's signature does not verify")]
    BadSignature,
}

/// The header parameters that matter here. `jwk` and `jku` are not even read: a token does not bring its own key.
#[derive(Clone, Debug, Deserialize)]
pub struct Header {
    alg: String,
    /// The media type of the whole.
    #[serde(default)]
    pub typ: Option<String>,
    /// The name of the key.
    #[serde(default)]
    pub kid: Option<String>,
    /// The PASSporT extension.
    #[serde(default)]
    pub ppt: Option<String>,
    /// Where the certificate lies; never fetched by this layer.
    #[serde(default)]
    pub x5u: Option<String>,
    /// The certificate chain, leaf first; proves nothing before it is checked against an anchor.
    #[serde(default)]
    pub x5c: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

/// A parsed token whose signature has not been checked yet.
#[derive(Clone, Debug)]
pub struct Compact {
    header: Header,
    algorithm: Algorithm,
    signing_input: String,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl Compact {
    /// Takes a token apart.
    pub fn parse(token: &str) -> Result<Self, JwsError> {
        if token.len() > MAX_TOKEN {
            return Err(JwsError::TooLong);
        }
        let mut parts = token.split('.');
        let (Some(head), Some(body), Some(tail), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JwsError::Malformed);
        };
        if head.len() > MAX_HEADER {
            return Err(JwsError::TooLong);
        }
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| JwsError::Malformed);
        let header = json::object(&decode(head)?).ok_or(JwsError::Malformed)?;
        let header: Header = serde_json::from_value(header.into()).map_err(|_| JwsError::Malformed)?;
        // RFC 7515 4.1.11: what is critical and not understood makes the JWS invalid.
        if header.crit {
            return Err(JwsError::Critical);
        }
        let algorithm = Algorithm::from_name(&header.alg).ok_or(JwsError::Algorithm)?;
        Ok(Self {
            header,
            algorithm,
            signing_input: format!("{head}.{body}"),
            payload: decode(body)?,
            signature: decode(tail)?,
        })
    }

    /// The header, as yet unproven.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The algorithm that the header names.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The payload, as yet unproven.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// What the signature covers: the first two parts, with the dot.
    pub fn signing_input(&self) -> &str {
        &self.signing_input
    }

    /// The signature's bytes.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The key of `keys` that made the signature.
    pub fn verify<'k>(&self, keys: &'k JwkSet) -> Result<&'k Jwk, JwsError> {
        let mut tried = false;
        for key in keys.keys() {
            if !key.answers_to(self.algorithm, self.header.kid.as_deref()) {
                continue;
            }
            tried = true;
            if key.verifies(self.algorithm, self.signing_input.as_bytes(), &self.signature) {
                return Ok(key);
            }
        }
        Err(if tried { JwsError::BadSignature } else { JwsError::UnknownKey })
    }
}

/// Signs `payload` under `header`, which must name ES256.
pub(super) fn sign(
    key: &SigningKey,
    header: &impl Serialize,
    payload: &impl Serialize,
) -> Result<String, KeyError> {
    let part = |json: Result<Vec<u8>, serde_json::Error>| {
        json.map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(|_| KeyError::Malformed)
    };
    let mut token = part(serde_json::to_vec(header))?;
    token.push('.');
    token.push_str(&part(serde_json::to_vec(payload))?);
    let signature = key.sign(token.as_bytes())?;
    token.push('.');
    token.push_str(&URL_SAFE_NO_PAD.encode(signature));
    Ok(token)
}

/// A NumericDate (RFC 7519 2) in whole seconds, fractions cut off.
pub(super) fn numeric_date(value: &Value) -> Option<u64> {
    // RFC 3339 and so every time in this program ends with the year 9999.
    const END: u64 = 253_402_300_799;
    match value.as_u64() {
        Some(seconds) => Some(seconds.min(END)),
        None => {
            let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0)?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
            Some((seconds as u64).min(END))
        }
    }
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}
