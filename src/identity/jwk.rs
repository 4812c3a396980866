//! Public keys (RFC 7517), the sets that issuers publish, and the ES256 key that signs.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, KeyPair as _, RsaPublicKeyComponents, UnparsedPublicKey};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivatePkcs8KeyDer, PrivateSec1KeyDer, SubjectPublicKeyInfoDer};
use serde_json::{Value, json};
use thiserror::Error;

use super::der::{BIT_STRING, Der, OID};
use super::jws::Algorithm;
use super::sha256;

/// The longest JWKS document that is read, in bytes.
pub const MAX_JWKS: usize = 256 * 1024;
/// The most keys that a set holds.
pub const MAX_KEYS: usize = 100;

const OID_EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const OID_P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const OID_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const OID_ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// Why a key, or a set of keys, is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Neither a JWK, a JWKS nor PEM.
    #[error("neither a JSON Web Key (set) nor a PEM key")]
    Malformed,
    /// Another kind of key, or one that is too weak.
    #[error("not a key for ES256, RS256 or PS256 (2048 to 8192 bits) or EdDSA (Ed25519) signatures")]
    Unsupported,
    /// More than a set may hold.
    #[error("more keys than a set may hold")]
    TooMany,
    /// The PEM holds the older SEC1 form.
    #[error("an EC PRIVATE KEY (SEC1); convert it with `openssl pkcs8 -topk8 -nodes`")]
    Sec1,
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
}

/// A public key for signatures, and what it may be used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwk {
    material: Material,
    kid: Option<String>,
    algorithm: Option<Algorithm>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    /// The uncompressed point: 4, x, y.
    P256([u8; 65]),
    /// Big endian, without leading zeros.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    Ed25519([u8; 32]),
}

impl Jwk {
    /// Reads one key; private members are ignored.
    pub fn from_json(value: &Value) -> Result<Self, KeyError> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let bytes = |name: &str| {
            let text = text(name).ok_or(KeyError::Malformed)?;
            URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Malformed)
        };
        let material = match (text("kty").ok_or(KeyError::Malformed)?, text("crv")) {
            ("EC", Some("P-256")) => Material::p256(&bytes("x")?, &bytes("y")?)?,
            ("RSA", _) => Material::rsa(&bytes("n")?, &bytes("e")?)?,
            ("OKP", Some("Ed25519")) => Material::ed25519(&bytes("x")?)?,
            _ => return Err(KeyError::Unsupported),
        };
        let algorithm = match value.get("alg") {
            None => None,
            Some(alg) => Some(alg.as_str().and_then(Algorithm::from_name).ok_or(KeyError::Unsupported)?),
        };
        if algorithm.is_some_and(|algorithm| !material.fits(algorithm))
            || value.get("use").is_some_and(|usage| usage != "sig")
            || value.get("key_ops").is_some_and(|ops| !contains(ops, "verify"))
        {
            return Err(KeyError::Unsupported);
        }
        Ok(Self { material, kid: text("kid").map(str::to_owned), algorithm })
    }

    /// Reads a DER SubjectPublicKeyInfo; the key has no `kid` and so answers to any.
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let material = Material::from_spki(der).ok_or(KeyError::Malformed)??;
        Ok(Self { material, kid: None, algorithm: None })
    }

    /// Its name in tokens' headers.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The same key under this name.
    pub fn with_kid(mut self, kid: impl Into<String>) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// The RFC 7638 thumbprint, base64url.
    pub fn thumbprint(&self) -> String {
        // RFC 7638 3.2: required members only, in lexicographic order, no white space.
        let text = match &self.material {
            Material::P256(point) => {
                let (x, y) = coordinates(point);
                format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
            Material::Rsa { n, e } => {
                format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, b64(e), b64(n))
            }
            Material::Ed25519(x) => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, b64(x)),
        };
        b64(&sha256(text.as_bytes()))
    }

    /// The key as JSON, for a JWKS.
    pub fn to_json(&self) -> Value {
        let mut value = match &self.material {
            Material::P256(point) => {
                let (x, y) = coordinates(point);
                json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y })
            }
            Material::Rsa { n, e } => json!({ "kty": "RSA", "n": b64(n), "e": b64(e) }),
            Material::Ed25519(x) => json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(x) }),
        };
        value["use"] = "sig".into();
        if let Some(kid) = &self.kid {
            value["kid"] = kid.as_str().into();
        }
        if let Some(algorithm) = self.algorithm {
            value["alg"] = algorithm.name().into();
        }
        value
    }

    /// Whether a token with this algorithm and `kid` may be by this key.
    pub(super) fn answers_to(&self, algorithm: Algorithm, kid: Option<&str>) -> bool {
        // The algorithm follows from the key, never from the token alone (RFC 8725 3.1).
        self.material.fits(algorithm)
            && self.algorithm.is_none_or(|own| own == algorithm)
            && (kid.is_none() || self.kid.is_none() || self.kid() == kid)
    }

    /// Checks a signature; `answers_to` came first.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], sig: &[u8]) -> bool {
        match (&self.material, algorithm) {
            (Material::P256(point), Algorithm::Es256) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(message, sig)
            }
            (Material::Rsa { n, e }, Algorithm::Rs256) => {
                RsaPublicKeyComponents { n, e }.verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, sig)
            }
            (Material::Rsa { n, e }, Algorithm::Ps256) => {
                RsaPublicKeyComponents { n, e }.verify(&signature::RSA_PSS_2048_8192_SHA256, message, sig)
            }
            (Material::Ed25519(x), Algorithm::EdDsa) => {
                UnparsedPublicKey::new(&signature::ED25519, x).verify(message, sig)
            }
            _ => return false,
        }
        .is_ok()
    }
}

impl Material {
    fn p256(x: &[u8], y: &[u8]) -> Result<Self, KeyError> {
        // RFC 7518 6.2.1.2: full size, leading zeros included.
        if x.len() != 32 || y.len() != 32 {
            return Err(KeyError::Malformed);
        }
        let mut point = [4; 65];
        point[1..33].copy_from_slice(x);
        point[33..].copy_from_slice(y);
        Ok(Self::P256(point))
    }

    fn rsa(n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        // Some issuers write the sign byte, against RFC 7518 2.
        let trim = |bytes: &[u8]| bytes.iter().copied().skip_while(|b| *b == 0).collect::<Vec<u8>>();
        let (n, e) = (trim(n), trim(e));
        let bits = n.first().map_or(0, |top| n.len() * 8 - top.leading_zeros() as usize);
        if !(2048..=8192).contains(&bits) || e.is_empty() || e.len() > 5 {
            return Err(KeyError::Unsupported);
        }
        Ok(Self::Rsa { n, e })
    }

    fn ed25519(x: &[u8]) -> Result<Self, KeyError> {
        Ok(Self::Ed25519(x.try_into().map_err(|_| KeyError::Malformed)?))
    }

    fn from_spki(der: &[u8]) -> Option<Result<Self, KeyError>> {
        let mut outer = Der::new(der);
        let mut spki = outer.sequence()?;
        let mut algorithm = spki.sequence()?;
        let oid = algorithm.take(OID)?;
        let (&0, key) = spki.take(BIT_STRING)?.split_first()? else { return None };
        if !outer.is_empty() || !spki.is_empty() {
            return None;
        }
        match oid {
            OID_EC if algorithm.take(OID)? == OID_P256 => match key {
                [4, xy @ ..] if xy.len() == 64 => Some(Self::p256(&xy[..32], &xy[32..])),
                _ => Some(Err(KeyError::Unsupported)),
            },
            OID_RSA => {
                let mut numbers = Der::new(key).sequence()?;
                Some(Self::rsa(numbers.unsigned()?, numbers.unsigned()?))
            }
            OID_ED25519 => Some(Self::ed25519(key)),
            _ => Some(Err(KeyError::Unsupported)),
        }
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        matches!(
            (self, algorithm),
            (Self::P256(_), Algorithm::Es256)
                | (Self::Rsa { .. }, Algorithm::Rs256 | Algorithm::Ps256)
                | (Self::Ed25519(_), Algorithm::EdDsa)
        )
    }
}

/// The keys that one issuer may sign with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JwkSet {
    keys: Vec<Jwk>,
    skipped: usize,
}

impl JwkSet {
    /// A set of these keys.
    pub fn new(keys: Vec<Jwk>) -> Self {
        Self { keys, skipped: 0 }
    }

    /// Reads a JWKS, one JWK, or PEM public keys, whichever the text is.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        if text.trim_start().starts_with('{') { Self::from_jwks(text) } else { Self::from_pem(text) }
    }

    /// Reads a JWKS (or one JWK); entries that are of no use here are skipped (RFC 7517 5).
    pub fn from_jwks(text: &str) -> Result<Self, KeyError> {
        if text.len() > MAX_JWKS {
            return Err(KeyError::TooMany);
        }
        let document: Value = serde_json::from_str(text).map_err(|_| KeyError::Malformed)?;
        let Some(entries) = document.get("keys") else {
            return Jwk::from_json(&document).map(|key| Self::new(vec![key]));
        };
        let entries = entries.as_array().ok_or(KeyError::Malformed)?;
        if entries.len() > MAX_KEYS {
            return Err(KeyError::TooMany);
        }
        let keys: Vec<_> = entries.iter().filter_map(|entry| Jwk::from_json(entry).ok()).collect();
        Ok(Self { skipped: entries.len() - keys.len(), keys })
    }

    /// Reads every `PUBLIC KEY` section; all of them must be of use.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        if text.len() > MAX_JWKS {
            return Err(KeyError::TooMany);
        }
        let keys = SubjectPublicKeyInfoDer::pem_slice_iter(text.as_bytes())
            .map(|der| Jwk::from_spki(der.map_err(|_| KeyError::Malformed)?.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(KeyError::Malformed) } else { Ok(Self::new(keys)) }
    }

    /// The keys, in the document's order.
    pub fn keys(&self) -> &[Jwk] {
        &self.keys
    }

    /// How many entries of the document were of no use here.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// The set as a JWKS document.
    pub fn to_json(&self) -> Value {
        json!({ "keys": self.keys.iter().map(Jwk::to_json).collect::<Vec<_>>() })
    }
}

/// An ES256 key pair.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
    public: Jwk,
}

impl SigningKey {
    /// A new key.
    pub fn generate() -> Result<Self, KeyError> {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .map_err(|_| KeyError::Random)?;
        Self::from_pkcs8(pkcs8.as_ref())
    }

    /// Reads a PKCS#8 `PRIVATE KEY` section.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        match PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()) {
            Ok(der) => Self::from_pkcs8(der.secret_pkcs8_der()),
            Err(_) if PrivateSec1KeyDer::from_pem_slice(text.as_bytes()).is_ok() => Err(KeyError::Sec1),
            Err(_) => Err(KeyError::Malformed),
        }
    }

    /// The key as a PKCS#8 `PRIVATE KEY` section.
    pub fn to_pem(&self) -> String {
        let body = STANDARD.encode(&self.pkcs8);
        let lines: Vec<_> =
            (0..body.len()).step_by(64).map(|at| &body[at..body.len().min(at + 64)]).collect();
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
    }

    /// The public half; its `kid` is its thumbprint.
    pub fn public(&self) -> &Jwk {
        &self.public
    }

    /// The name under which tokens name this key.
    pub fn kid(&self) -> &str {
        self.public.kid().unwrap_or_default()
    }

    /// The raw 64-byte ES256 signature.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| KeyError::Random)?;
        Ok(signature.as_ref().to_vec())
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair =
            EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new())
                .map_err(|_| KeyError::Unsupported)?;
        let point = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Unsupported)?;
        let public = Jwk { material: Material::P256(point), kid: None, algorithm: Some(Algorithm::Es256) };
        let kid = public.thumbprint();
        Ok(Self { pair, pkcs8: der.to_vec(), public: public.with_kid(kid) })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid()).finish_non_exhaustive()
    }
}

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn coordinates(point: &[u8; 65]) -> (String, String) {
    (b64(&point[1..33]), b64(&point[33..]))
}

fn contains(list: &Value, wanted: &str) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(|item| item == wanted))
}
