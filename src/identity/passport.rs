//! PASSporTs (RFC 8225), with the extensions `shaken` (RFC 8588) and `div` (RFC 8946).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::canonical::Identity;
use super::certificate::{Anchors, Chain, ChainError};
use super::json;
use super::jwk::{JwkSet, KeyError, SigningKey};
use super::jws::{self, Algorithm, Compact, numeric_date};
use super::sha256;
use super::x5u::X5uHost;
use crate::protocol::time::Timestamp;

/// How far `iat` may lie from now, either way.
pub const WINDOW: Duration = Duration::from_secs(60);
/// The most identities that `dest` may hold.
pub const MAX_DEST: usize = 32;

/// Why a PASSporT was refused; never holds anything of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PassportError {
    /// Not a PASSporT, or one of a kind that is not taken.
    #[error("the PASSporT is malformed: {0}")]
    Form(&'static str),
    /// No trusted key made the signature.
    #[error("no trusted key made the PASSporT's signature")]
    Signature,
    /// Its certificates lead to no trust anchor, or are not valid now.
    #[error("the PASSporT's certificates lead to no trust anchor of this server, or are not valid now")]
    Chain,
    /// Its certificates lie elsewhere, and were not got from there.
    #[error("the PASSporT's x5u is of no use here: {0}")]
    X5u(&'static str),
    /// The signer may not speak for the caller.
    #[error("the PASSporT's signer may not speak for its orig")]
    Orig,
    /// It was made for another destination.
    #[error("the PASSporT's dest is not the destination of the call")]
    Dest,
    /// `iat` is too far from now.
    #[error("the PASSporT's iat is more than 60 s from the server's time")]
    Stale,
    /// It was used before.
    #[error("the PASSporT was used before")]
    Replay,
    /// Too many PASSporTs within the window to remember one more.
    #[error("too many calls to remember one more PASSporT")]
    Full,
}

impl PassportError {
    /// The stable problem code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Form(_) => "passport-form",
            Self::Signature => "passport-signature",
            Self::Chain => "passport-chain",
            Self::X5u(_) => "passport-x5u",
            Self::Orig => "passport-orig",
            Self::Dest => "passport-dest",
            Self::Stale => "passport-stale",
            Self::Replay => "passport-replay",
            Self::Full => "overloaded",
        }
    }
}

/// How far the signer vouches for the caller (RFC 8588 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attest {
    /// Full: the caller is known and may use the number.
    A,
    /// Partial: the caller is known.
    B,
    /// Gateway: only where the call came in is known.
    C,
}

/// The extension that a PASSporT carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ppt {
    /// None.
    #[default]
    Base,
    /// `shaken`.
    Shaken {
        /// How far the signer vouches.
        attest: Attest,
        /// Names the call's origin.
        origid: String,
    },
    /// `div`: the call was forwarded.
    Div {
        /// Whom the call was for before.
        div: Identity,
    },
}

/// What the callee is told about the caller's identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Always verified: what is not verified is not called.
    pub status: VerificationStatus,
    /// `shaken`'s attestation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attest: Option<Attest>,
    /// `shaken`'s origin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origid: Option<String>,
    /// Whom the caller called, where the call was handed on: it is this that the PASSporT's `dest` was found to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest: Option<String>,
    /// Whether `div` PASSporTs lead from there to whom is told this (RFC 8946).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub div: bool,
}

/// The verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerificationStatus {
    /// All checks passed.
    #[default]
    Verified,
}

/// Whose PASSporTs are taken.
#[derive(Clone, Debug, Default)]
pub struct PassportTrust {
    /// The signers with configured keys.
    pub signers: Vec<PassportSigner>,
    /// The roots whose certificates say who may speak for which number.
    pub anchors: Anchors,
    /// The hosts from which chains are fetched; none: no chain is.
    pub x5u_hosts: Vec<X5uHost>,
}

/// One signer: its keys, and the numbers that it may speak for.
#[derive(Clone, Debug)]
pub struct PassportSigner {
    /// Its ES256 keys; others never match.
    pub keys: JwkSet,
    /// Patterns as in tokens: `+1408555*`, `*@example.com`, `*`.
    pub numbers: Vec<String>,
}

impl PassportTrust {
    /// Trusts these keys for every number.
    pub fn any_number(keys: JwkSet) -> Self {
        let signers = vec![PassportSigner { keys, numbers: vec!["*".into()] }];
        Self { signers, ..Self::default() }
    }
}

/// A PASSporT whose form is right; `check` tells whether it is true.
#[derive(Clone, Debug)]
pub struct Passport {
    pub(super) jws: Compact,
    pub(super) chain: Option<Chain>,
    orig: Identity,
    dest: Vec<Identity>,
    iat: u64,
    ppt: Ppt,
}

impl Passport {
    /// Checks the form.
    pub fn parse(compact: &str) -> Result<Self, PassportError> {
        let form = PassportError::Form;
        let jws = Compact::parse(compact).map_err(|_| form("not a compact JWS of at most 16 KiB"))?;
        if jws.algorithm() != Algorithm::Es256 {
            return Err(form("alg is not ES256"));
        }
        // RFC 8225 4.1.
        if jws.header().typ.as_deref() != Some("passport") {
            return Err(form("typ is not passport"));
        }
        let claims =
            json::object(jws.payload()).ok_or(form("the claims are not a JSON object, or repeat a name"))?;
        let orig = one_identity(claims.get("orig")).ok_or(form("orig is not one tn or one uri"))?;
        let dest = identities(claims.get("dest")).ok_or(form("dest is not lists of tn or uri"))?;
        let iat = claims.get("iat").and_then(numeric_date).ok_or(form("iat is not a number"))?;
        let ppt = match jws.header().ppt.as_deref() {
            None => Ppt::Base,
            Some("shaken") => shaken(&claims).ok_or(form("shaken without attest and origid"))?,
            Some("div") => {
                Ppt::Div { div: one_identity(claims.get("div")).ok_or(form("div is not one tn or one uri"))? }
            }
            // RFC 8225 8.1: a verifier that does not know the extension must not go by the rest.
            Some(_) => return Err(form("ppt is neither shaken nor div")),
        };
        let chain = jws.header().x5c.as_deref().map(chain).transpose()?;
        Ok(Self { jws, chain, orig, dest, iat, ppt })
    }

    /// The caller.
    pub fn orig(&self) -> &Identity {
        &self.orig
    }

    /// The callees.
    pub fn dest(&self) -> &[Identity] {
        &self.dest
    }

    /// The extension.
    pub fn ppt(&self) -> &Ppt {
        &self.ppt
    }

    /// When it was made, in seconds since 1970.
    pub fn iat(&self) -> u64 {
        self.iat
    }

    /// The first moment at which no server takes it any more.
    pub fn forgotten(&self) -> Timestamp {
        Timestamp::from_millis((self.iat + WINDOW.as_secs() + 1) * 1000)
    }

    /// What names this PASSporT among all that were used.
    pub fn replay_key(&self) -> [u8; 32] {
        // ECDSA signatures are malleable: with (r, s) also (r, n − s) verifies. So s stays out of the hash.
        let r = self.jws.signature().get(..32).unwrap_or_default();
        sha256(&[self.jws.signing_input().as_bytes(), b".", r].concat())
    }

    /// Checks, in this order: signature, chain, number covered, `dest`, `iat`. Replay is `ReplayGuard`'s, afterwards.
    pub fn check(
        &self,
        trust: &PassportTrust,
        destination: &Identity,
        now: Timestamp,
    ) -> Result<Verification, PassportError> {
        let (attest, origid) = match &self.ppt {
            Ppt::Shaken { attest, origid } => (Some(*attest), Some(origid.clone())),
            Ppt::Base => (None, None),
            // RFC 8946 §3: its signer speaks for who forwarded, not for who calls.
            Ppt::Div { .. } => {
                return Err(PassportError::Form("ppt is div: send the caller's own PASSporT"));
            }
        };
        self.check_signer(trust, &self.orig, now)?;
        self.check_use(destination, now)?;
        Ok(Verification { attest, origid, ..Verification::default() })
    }

    /// Checks a `div` PASSporT as one link of the way that leads to the destination (RFC 8946 §5): its signer speaks for who
    /// forwarded. Whether the links join is the caller's to see.
    pub fn check_div(&self, trust: &PassportTrust, now: Timestamp) -> Result<(), PassportError> {
        let Ppt::Div { div } = &self.ppt else { return Err(PassportError::Form("ppt is not div")) };
        self.check_signer(trust, div, now)?;
        if now.as_secs().abs_diff(self.iat) > WINDOW.as_secs() {
            return Err(PassportError::Stale);
        }
        Ok(())
    }

    /// Makes a PASSporT, in the canonical serialisation of RFC 8225 9, for a verifier that knows the key.
    pub fn sign(
        key: &SigningKey,
        orig: &Identity,
        dest: &Identity,
        ppt: &Ppt,
        now: Timestamp,
    ) -> Result<String, KeyError> {
        Self::sign_with(key, &[], orig, dest, ppt, now)
    }

    /// The same with the certificates of the key, DER, leaf first and without the root, for who knows that.
    pub fn sign_with(
        key: &SigningKey,
        chain: &[Vec<u8>],
        orig: &Identity,
        dest: &Identity,
        ppt: &Ppt,
        now: Timestamp,
    ) -> Result<String, KeyError> {
        let mut claims = Claims { iat: now.as_secs(), orig: orig.to_json(), ..Claims::default() };
        match dest.uri() {
            Some(uri) => claims.dest.uri.push(uri),
            None => claims.dest.tn.extend(dest.tn().map(str::to_owned)),
        }
        let ppt = match ppt {
            Ppt::Base => None,
            Ppt::Shaken { attest, origid } => {
                claims.attest = Some(*attest);
                claims.origid = Some(origid.clone());
                Some("shaken")
            }
            Ppt::Div { div } => {
                claims.div = Some(div.to_json());
                Some("div")
            }
        };
        // RFC 7515 4.1.6: standard base64, not base64url.
        let x5c = chain.iter().map(|der| STANDARD.encode(der)).collect();
        jws::sign(key, &SignedHeader { alg: "ES256", kid: key.kid(), ppt, typ: "passport", x5c }, &claims)
    }

    /// Whether it was made for this call.
    pub(super) fn check_use(&self, destination: &Identity, now: Timestamp) -> Result<(), PassportError> {
        if !self.dest.contains(destination) {
            return Err(PassportError::Dest);
        }
        if now.as_secs().abs_diff(self.iat) > WINDOW.as_secs() {
            return Err(PassportError::Stale);
        }
        Ok(())
    }

    /// A signer must both have made the signature and cover `subject`: one with a configured key, or else the certificates
    /// that came along.
    fn check_signer(
        &self,
        trust: &PassportTrust,
        subject: &Identity,
        now: Timestamp,
    ) -> Result<(), PassportError> {
        let mut signed = false;
        for signer in &trust.signers {
            if self.jws.verify(&signer.keys).is_ok() {
                signed = true;
                if subject.is_covered_by(&signer.numbers) {
                    return Ok(());
                }
            }
        }
        match &self.chain {
            Some(chain) => self.check_chain(chain, &trust.anchors, subject, now),
            None if signed => Err(PassportError::Orig),
            None if self.jws.header().x5u.is_some() => {
                Err(PassportError::X5u("its chain was not fetched: send it as x5c"))
            }
            None => Err(PassportError::Signature),
        }
    }

    fn check_chain(
        &self,
        chain: &Chain,
        anchors: &Anchors,
        subject: &Identity,
        now: Timestamp,
    ) -> Result<(), PassportError> {
        // The certificate names the key: what `kid` says of it is of no interest.
        let (input, signature) = (self.jws.signing_input().as_bytes(), self.jws.signature());
        if !chain.key().verifies(Algorithm::Es256, input, signature) {
            return Err(PassportError::Signature);
        }
        chain.check(anchors, now).map_err(|_| PassportError::Chain)?;
        if chain.covers(subject) { Ok(()) } else { Err(PassportError::Orig) }
    }
}

/// RFC 7515 4.1.6: DER in standard base64, leaf first.
fn chain(x5c: &[String]) -> Result<Chain, PassportError> {
    let form = |error: ChainError| match error {
        ChainError::Key => PassportError::Form("the x5c leaf's key is not on P-256"),
        _ => PassportError::Form("x5c is not 1 to 6 certificates in standard base64, leaf first"),
    };
    let decoded = x5c.iter().map(|der| STANDARD.decode(der)).collect::<Result<Vec<_>, _>>();
    Chain::new(decoded.map_err(|_| form(ChainError::Form))?).map_err(form)
}

/// Members in lexicographic order (RFC 8225 9.1).
#[derive(Serialize)]
struct SignedHeader<'a> {
    alg: &'static str,
    kid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ppt: Option<&'static str>,
    typ: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    x5c: Vec<String>,
}

/// Members in lexicographic order (RFC 8225 9.1).
#[derive(Default, Serialize)]
struct Claims {
    #[serde(skip_serializing_if = "Option::is_none")]
    attest: Option<Attest>,
    dest: Dest,
    #[serde(skip_serializing_if = "Option::is_none")]
    div: Option<Value>,
    iat: u64,
    orig: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    origid: Option<String>,
}

#[derive(Default, Serialize)]
struct Dest {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tn: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    uri: Vec<String>,
}

/// `{"tn": "…"}` or `{"uri": "…"}`, and exactly one of them.
fn one_identity(value: Option<&Value>) -> Option<Identity> {
    let object = value?.as_object()?;
    match (object.get("tn"), object.get("uri")) {
        (Some(tn), None) => Identity::from_tn(tn.as_str()?),
        (None, Some(uri)) => Identity::from_uri(uri.as_str()?),
        _ => None,
    }
}

/// `{"tn": […], "uri": […]}`, at least one identity in all.
fn identities(value: Option<&Value>) -> Option<Vec<Identity>> {
    let object = value?.as_object()?;
    let read = |name: &str, parse: fn(&str) -> Option<Identity>| match object.get(name) {
        None => Some(Vec::new()),
        Some(list) => list.as_array()?.iter().map(|item| parse(item.as_str()?)).collect::<Option<Vec<_>>>(),
    };
    let mut all = read("tn", Identity::from_tn)?;
    all.extend(read("uri", Identity::from_uri)?);
    (1..=MAX_DEST).contains(&all.len()).then_some(all)
}

fn shaken(claims: &Map<String, Value>) -> Option<Ppt> {
    let attest = serde_json::from_value(claims.get("attest")?.clone()).ok()?;
    let origid = claims.get("origid")?.as_str().filter(|id| (1..=128).contains(&id.len()))?.to_owned();
    Some(Ppt::Shaken { attest, origid })
}
