//! Certificates that say who may speak for which numbers: RFC 8226, and SANs for addresses.

use std::fmt;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use thiserror::Error;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};

use super::canonical::Identity;
use super::jwk::Jwk;
use super::tn_auth_list::{self, TnAuthList};
use crate::protocol::time::Timestamp;

/// RFC 8226 §9: id-pe-TNAuthList.
pub const TN_AUTH_LIST: &str = "1.3.6.1.5.5.7.1.26";
/// The longest chain that is looked at, leaf included.
pub const MAX_CHAIN: usize = 6;
/// RFC 5280 §4.2.1.12 has no purpose for PASSporTs: a certificate that is for something else is not for them.
const ANY_PURPOSE: KeyUsage = KeyUsage::required_if_present(&[0x55, 0x1d, 0x25, 0x00]);

/// Why a chain proves nothing; never holds anything of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ChainError {
    /// Not certificates, or too many.
    #[error("not a chain of at most 6 certificates")]
    Form,
    /// The leaf's key signs no PASSporTs.
    #[error("the leaf's key is not on P-256")]
    Key,
    /// It leads to no trust anchor, is not valid now, or is not for signing.
    #[error("the chain leads to no trust anchor, or is not valid now")]
    Untrusted,
}

/// The roots whose chains are believed.
#[derive(Clone, Default)]
pub struct Anchors(Vec<TrustAnchor<'static>>);

impl Anchors {
    /// Reads every certificate of a PEM file; none is an error.
    pub fn from_pem(text: &str) -> Result<Self, ChainError> {
        let anchor = |der: Result<CertificateDer<'static>, _>| {
            let der = der.map_err(|_| ChainError::Form)?;
            Ok(anchor_from_trusted_cert(&der).map_err(|_| ChainError::Form)?.to_owned())
        };
        let all =
            CertificateDer::pem_slice_iter(text.as_bytes()).map(anchor).collect::<Result<Vec<_>, _>>()?;
        if all.is_empty() { Err(ChainError::Form) } else { Ok(Self(all)) }
    }

    /// Takes the roots of another set too.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether no chain is believed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Anchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Anchors").field(&self.0.len()).finish()
    }
}

/// A chain as it came; `check` tells whether it is true.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Leaf first.
    certs: Vec<CertificateDer<'static>>,
    key: Jwk,
}

impl Chain {
    /// Reads the certificates, leaf first, and the leaf's key.
    pub fn new(certs: Vec<Vec<u8>>) -> Result<Self, ChainError> {
        if !(1..=MAX_CHAIN).contains(&certs.len()) {
            return Err(ChainError::Form);
        }
        let certs: Vec<_> = certs.into_iter().map(CertificateDer::from).collect();
        let leaf = read(&certs[0])?;
        let key = Jwk::from_spki(leaf.tbs_certificate.subject_pki.raw).map_err(|_| ChainError::Key)?;
        certs[1..].iter().try_for_each(|cert| read(cert).map(drop))?;
        Ok(Self { certs, key })
    }

    /// The leaf's key.
    pub fn key(&self) -> &Jwk {
        &self.key
    }

    /// Whether it leads to an anchor, now.
    pub fn check(&self, anchors: &Anchors, now: Timestamp) -> Result<(), ChainError> {
        let leaf = EndEntityCert::try_from(&self.certs[0]).map_err(|_| ChainError::Untrusted)?;
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()));
        leaf.verify_for_usage(algorithms.all, &anchors.0, &self.certs[1..], time, ANY_PURPOSE, None, None)
            .map_err(|_| ChainError::Untrusted)?;
        let leaf = read(&self.certs[0])?;
        // RFC 5280 §4.2.1.3.
        match leaf.key_usage().map_err(|_| ChainError::Form)? {
            Some(usage) if !usage.value.digital_signature() => Err(ChainError::Untrusted),
            _ => Ok(()),
        }
    }

    /// Whether the leaf may speak for a caller, and everybody above it gave what it had.
    pub fn covers(&self, orig: &Identity) -> bool {
        let Ok(leaf) = read(&self.certs[0]) else { return false };
        let by_number = |cert: &X509Certificate<'_>| orig.tn().map(|tn| numbers(cert).covers(tn));
        match by_number(&leaf) {
            Some(covered) => {
                // RFC 8226 §8: who has a TNAuthList delegates no more than is in it.
                let narrower = |der: &CertificateDer<'_>| {
                    read(der).is_ok_and(|cert| !has_numbers(&cert) || by_number(&cert) == Some(true))
                };
                covered && self.certs[1..].iter().all(narrower)
            }
            // wire §7: for an address an exact SAN rfc822Name.
            None => addresses(&leaf).any(|address| Identity::from_number(address).as_ref() == Some(orig)),
        }
    }
}

/// A certificate in DER as PEM.
pub fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = (0..body.len()).step_by(64).map(|at| &body[at..body.len().min(at + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// Whether a certificate is its own issuer, as roots are.
pub fn is_self_issued(der: &[u8]) -> bool {
    read(der).is_ok_and(|cert| cert.issuer().as_raw() == cert.subject().as_raw())
}

fn read(der: &[u8]) -> Result<X509Certificate<'_>, ChainError> {
    match X509Certificate::from_der(der) {
        Ok(([], cert)) => Ok(cert),
        _ => Err(ChainError::Form),
    }
}

fn has_numbers(cert: &X509Certificate<'_>) -> bool {
    cert.extensions().iter().any(|extension| extension.oid.to_id_string() == TN_AUTH_LIST)
}

/// The numbers of a certificate; one that can't be read has none.
fn numbers(cert: &X509Certificate<'_>) -> TnAuthList {
    let own = cert.extensions().iter().find(|extension| extension.oid.to_id_string() == TN_AUTH_LIST);
    own.and_then(|extension| tn_auth_list::parse(extension.value)).unwrap_or_default()
}

fn addresses<'c>(cert: &'c X509Certificate<'_>) -> impl Iterator<Item = &'c str> {
    let names = cert.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    names.flatten().filter_map(|name| match name {
        GeneralName::RFC822Name(address) => Some(*address),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
