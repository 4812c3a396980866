//! Enrolment (ript-core "Certificate Enrollment"): a request for one number or address, and the certificate for it.

use std::fmt;
use std::time::Duration;

use rcgen::{
    CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SubjectPublicKeyInfo,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use thiserror::Error;
use time::OffsetDateTime;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};

use super::canonical::Identity;
use super::certificate::{TN_AUTH_LIST, is_self_issued, pem};
use super::jwk::SigningKey;
use super::tn_auth_list::{self, TnAuthList, TnEntry};
use crate::protocol::time::Timestamp;

/// RFC 8226 §9, as rcgen wants it.
const OID: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 26];
/// How far a certificate reaches back, for verifiers whose clocks are slow.
const SLACK: Duration = Duration::from_secs(300);
/// The longest request that is read.
pub const MAX_CSR: usize = 8 * 1024;

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EnrolError {
    /// The request is not one that this server answers; what would be right.
    #[error("{0}")]
    Request(&'static str),
    /// It asks for somebody else's number or address.
    #[error("the token may not use the number or address that the request asks for")]
    NotYours,
    /// The issuing certificate or key is of no use.
    #[error("the issuing certificate can't be used: {0}")]
    Issuer(String),
}

/// Issues certificates for numbers and addresses.
pub struct Enroller {
    issuer: Issuer<'static, KeyPair>,
    /// What goes with every leaf: the issuer's own chain without its root.
    above: String,
    ends: Timestamp,
    lifetime: Duration,
}

impl Enroller {
    /// From the issuer's chain, its own certificate first, and its key. Certificates live for `lifetime`, and never longer
    /// than the issuer's own.
    pub fn new(chain: &str, key: &str, lifetime: Duration) -> Result<Self, EnrolError> {
        let wrong = |why: &dyn fmt::Display| EnrolError::Issuer(why.to_string());
        let all = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
        let all = all.map_err(|error| wrong(&error))?;
        let own = all.first().ok_or_else(|| wrong(&"there is none"))?;
        let key = KeyPair::from_pem(key).map_err(|error| wrong(&error))?;
        let (_, read) = X509Certificate::from_der(own).map_err(|error| wrong(&error))?;
        if read.tbs_certificate.subject_pki.raw != key.subject_public_key_info() {
            return Err(wrong(&"the key is another certificate's"));
        }
        if !read.is_ca() {
            return Err(wrong(&"it is no CA's"));
        }
        let ends = u64::try_from(read.validity().not_after.timestamp()).unwrap_or_default();
        let issuer = Issuer::from_ca_cert_der(own, key).map_err(|error| wrong(&error))?;
        let above = all.iter().filter(|der| !is_self_issued(der)).map(|der| pem(der)).collect();
        Ok(Self { issuer, above, ends: Timestamp::from_millis(ends * 1000), lifetime })
    }

    /// The chain for a request in DER, leaf first, root left out.
    pub fn enrol(
        &self,
        csr: &[u8],
        may_use: impl FnOnce(&Identity) -> bool,
        now: Timestamp,
    ) -> Result<String, EnrolError> {
        let (identity, spki) = read(csr)?;
        if !may_use(&identity) {
            return Err(EnrolError::NotYours);
        }
        let failed = |error: rcgen::Error| EnrolError::Issuer(error.to_string());
        let key = SubjectPublicKeyInfo::from_der(&spki).map_err(failed)?;
        Ok(self.issue(params(&identity)?, &key, now)?.0)
    }

    /// A chain that says which numbers somebody may call from, and when it ends. Nobody has its key: it signs nothing.
    pub fn statement(&self, numbers: &TnAuthList, now: Timestamp) -> Result<(String, Timestamp), EnrolError> {
        let mut params = named();
        params.custom_extensions.push(CustomExtension::from_oid_content(OID, numbers.to_der()));
        let key = KeyPair::generate().map_err(|error| EnrolError::Issuer(error.to_string()))?;
        self.issue(params, &key, now)
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
        now: Timestamp,
    ) -> Result<(String, Timestamp), EnrolError> {
        let ends = self.ends.min(now + self.lifetime);
        if ends <= now {
            return Err(EnrolError::Issuer("it has ended".into()));
        }
        let starts = now.as_secs().saturating_sub(SLACK.as_secs());
        (params.not_before, params.not_after) = (date(starts)?, date(ends.as_secs())?);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(key, &self.issuer);
        let cert = cert.map_err(|error| EnrolError::Issuer(error.to_string()))?;
        Ok((cert.pem() + &self.above, ends))
    }
}

impl Enroller {
    /// A new key that may speak for an identity, and its chain in DER: for the server's own word.
    pub fn credential(
        &self,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<(SigningKey, Vec<Vec<u8>>), EnrolError> {
        let key = SigningKey::generate().map_err(|error| EnrolError::Issuer(error.to_string()))?;
        let pem = self.enrol(&request(&key, identity)?, |_| true, now)?;
        let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).map(|der| der.map(|der| der.to_vec()));
        let chain = chain.collect::<Result<_, _>>().map_err(|error| EnrolError::Issuer(error.to_string()))?;
        Ok((key, chain))
    }
}

impl fmt::Debug for Enroller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enroller").field("ends", &self.ends).finish_non_exhaustive()
    }
}

/// A request for a certificate that lets `key` speak for an identity, in DER.
pub fn request(key: &SigningKey, identity: &Identity) -> Result<Vec<u8>, EnrolError> {
    let failed = |error: rcgen::Error| EnrolError::Issuer(error.to_string());
    let bad_key = |_| EnrolError::Request("the key can't be read");
    let der = PrivatePkcs8KeyDer::from_pem_slice(key.to_pem().as_bytes()).map_err(bad_key)?;
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    Ok(params(identity)?.serialize_request(&pair).map_err(failed)?.der().to_vec())
}

/// Whom a request in DER is for.
pub fn wanted(csr: &[u8]) -> Result<Identity, EnrolError> {
    read(csr).map(|(identity, _)| identity)
}

/// When a certificate in DER ends.
pub fn ends(der: &[u8]) -> Option<Timestamp> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    u64::try_from(cert.validity().not_after.timestamp()).ok().map(|at| Timestamp::from_millis(at * 1000))
}

fn named() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "RIPT caller");
    params
}

/// What stands for an identity in requests and certificates alike.
fn params(identity: &Identity) -> Result<CertificateParams, EnrolError> {
    let mut params = named();
    match identity.tn() {
        Some(tn) => {
            let list = TnAuthList(vec![TnEntry::One(tn.to_owned())]).to_der();
            params.custom_extensions.push(CustomExtension::from_oid_content(OID, list));
        }
        None => {
            let wrong = || EnrolError::Request("a certificate is for a number or an address");
            let name = identity.to_number().ok_or_else(wrong)?;
            params.subject_alt_names.push(SanType::Rfc822Name(name.try_into().map_err(|_| wrong())?));
        }
    }
    Ok(params)
}

/// How a request with this signature ends. RFC 5758 §3.2: the algorithm has no parameters.
fn signed_with(signature: &[u8]) -> Vec<u8> {
    const ECDSA_WITH_SHA256: &[u8] =
        &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02, 0x03];
    // On P-256 it is at most 72 bytes: one byte tells the length.
    let length = u8::try_from(signature.len() + 1).unwrap_or_default();
    [ECDSA_WITH_SHA256, &[length, 0], signature].concat()
}

/// Whom a request is for, and its public key.
fn read(der: &[u8]) -> Result<(Identity, Vec<u8>), EnrolError> {
    let bad = EnrolError::Request;
    if der.len() > MAX_CSR {
        return Err(bad("a request is at most 8 KiB"));
    }
    let Ok(([], csr)) = X509CertificationRequest::from_der(der) else {
        return Err(bad("the body is no PKCS #10 request"));
    };
    let spki = csr.certification_request_info.subject_pki.raw;
    // RFC 8225 §4.1: PASSporTs are signed with ES256.
    let p256 =
        SubjectPublicKeyInfo::from_der(spki).is_ok_and(|key| key.algorithm() == &PKCS_ECDSA_P256_SHA256);
    if !p256 {
        return Err(bad("the key is to be on P-256"));
    }
    // The reader forgives wrong tags around what is signed.
    if der.first() != Some(&0x30) || !der.ends_with(&signed_with(csr.signature_value.as_ref())) {
        return Err(bad("the signature is to be ecdsa-with-SHA256, in DER"));
    }
    csr.verify_signature().map_err(|_| bad("the request's signature is not by its key"))?;
    let mut wanted = Vec::new();
    for extension in csr.certification_request_info.iter_attributes().flat_map(|attribute| {
        use x509_parser::cri_attributes::ParsedCriAttribute::ExtensionRequest;
        match attribute.parsed_attribute() {
            ExtensionRequest(request) => request.extensions.as_slice(),
            _ => &[],
        }
    }) {
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(basic) if basic.ca => {
                return Err(bad("no CA is made here: leave basicConstraints out"));
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                for name in &names.general_names {
                    let GeneralName::RFC822Name(address) = name else {
                        return Err(bad("a SAN is one rfc822Name, for an address"));
                    };
                    // An E.164 number is written as TNAuthList, never as a name.
                    wanted.push(Identity::from_number(address).filter(|found| found.tn().is_none()));
                }
            }
            _ if extension.oid.to_id_string() == TN_AUTH_LIST => {
                let list = tn_auth_list::parse(extension.value);
                for entry in list.ok_or_else(|| bad("the TNAuthList can't be read"))?.0 {
                    let TnEntry::One(tn) = entry else {
                        return Err(bad(
                            "a TNAuthList is one number here, no range and no service provider code",
                        ));
                    };
                    wanted.push(Identity::from_tn(&tn));
                }
            }
            _ => {}
        }
    }
    match wanted.as_slice() {
        [Some(identity)] => Ok((identity.clone(), spki.to_vec())),
        [None] => {
            Err(bad("the number or address can't be read: a TNAuthList has digits only, without a plus"))
        }
        _ => Err(bad("ask for exactly one number (TNAuthList) or one address (SAN rfc822Name)")),
    }
}

fn date(seconds: u64) -> Result<OffsetDateTime, EnrolError> {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| EnrolError::Issuer("the clock is wrong".into()))
}

#[cfg(test)]
mod tests;
