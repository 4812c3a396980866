//! A certificate authority for development machines: short-lived, made by a command, never valid elsewhere.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use thiserror::Error;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::der::{CONTEXT_0, Der, INTEGER, UTC_TIME};
use super::sha256;
use crate::protocol::time::Timestamp;

/// How long a certificate lives from its issue. Browsers take `serverCertificateHashes` up to 14 days.
pub const LIFETIME: Duration = Duration::from_secs(10 * 24 * 3600);
/// How far a certificate reaches back, for peers whose clocks are slow.
const SLACK: Duration = Duration::from_secs(3600);

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CaError {
    /// The CA's certificate or key can't be read, or they don't belong together.
    #[error("the development CA can't be read ({0}); make a new one")]
    Unreadable(&'static str),
    /// The CA has ended or has not begun.
    #[error("the development CA is not valid now; make a new one")]
    Expired,
    /// Not a DNS name or IP address.
    #[error("{0} is neither a DNS name nor an IP address")]
    BadName(String),
    /// The library refused.
    #[error("no certificate could be made: {0}")]
    Failed(String),
}

/// A development CA.
pub struct DevCa {
    issuer: Issuer<'static, KeyPair>,
    cert_pem: String,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl DevCa {
    /// A new CA with a new key.
    pub fn generate(now: Timestamp) -> Result<Self, CaError> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = validity(now, now + LIFETIME)?;
        // A name of its own: two CAs of the same name in one trust store confuse verifiers.
        let id: String = params.key_identifier(&key).iter().take(4).map(|b| format!("{b:02x}")).collect();
        params.distinguished_name.push(DnType::CommonName, format!("ript development CA {id}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert_pem = params.self_signed(&key).map_err(failed)?.pem();
        Self::from_pem(&cert_pem, &key.serialize_pem())
    }

    /// The CA of an earlier run.
    pub fn from_pem(cert: &str, key: &str) -> Result<Self, CaError> {
        let der = CertificateDer::from_pem_slice(cert.as_bytes())
            .map_err(|_| CaError::Unreadable("certificate"))?;
        let key = KeyPair::from_pem(key).map_err(|_| CaError::Unreadable("key"))?;
        let (not_before, not_after, spki) = read(&der).ok_or(CaError::Unreadable("certificate"))?;
        if spki != key.subject_public_key_info() {
            return Err(CaError::Unreadable("the key is another certificate's"));
        }
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|_| CaError::Unreadable("certificate"))?;
        Ok(Self { issuer, cert_pem: cert.to_owned(), not_before, not_after })
    }

    /// The certificate to trust.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The private key.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// When the CA ends.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// A certificate for 127.0.0.1, ::1, localhost and `names`; it ends with the CA at the latest.
    pub fn issue_server(&self, names: &[&str], now: Timestamp) -> Result<ServerCert, CaError> {
        if now < self.not_before || now >= self.not_after {
            return Err(CaError::Expired);
        }
        let mut sans = vec![
            san("localhost")?,
            SanType::IpAddress(Ipv4Addr::LOCALHOST.into()),
            SanType::IpAddress(Ipv6Addr::LOCALHOST.into()),
        ];
        for name in names {
            let name = san(name)?;
            if !sans.contains(&name) {
                sans.push(name);
            }
        }
        let key = KeyPair::generate().map_err(failed)?;
        let not_after = self.not_after.min(now + LIFETIME);
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = validity(now, not_after)?;
        params.subject_alt_names = sans;
        params.distinguished_name.push(DnType::CommonName, "ript development server");
        // Written out, so that the leaf carries a subject key identifier too.
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A SIP trunk's server shows it both ways.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(ServerCert {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
            leaf_sha256: sha256(cert.der()),
            spki_sha256: sha256(&key.subject_public_key_info()),
            not_after,
        })
    }
}

impl fmt::Debug for DevCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevCa").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// A server's certificate and key.
#[derive(Clone)]
pub struct ServerCert {
    /// The leaf; the root is the only other link and is left out.
    pub cert_pem: String,
    /// The private key, PKCS#8.
    pub key_pem: String,
    /// SHA-256 of the leaf's DER: WebTransport's `serverCertificateHashes`.
    pub leaf_sha256: [u8; 32],
    /// SHA-256 of the public key's DER: Chromium's `--ignore-certificate-errors-spki-list`, in base64.
    pub spki_sha256: [u8; 32],
    /// When it ends.
    pub not_after: Timestamp,
}

impl fmt::Debug for ServerCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCert").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

fn san(name: &str) -> Result<SanType, CaError> {
    let bad = || CaError::BadName(name.to_owned());
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    rustls::pki_types::DnsName::try_from(name.trim_start_matches("*.")).map_err(|_| bad())?;
    Ok(SanType::DnsName(name.to_ascii_lowercase().try_into().map_err(|_| bad())?))
}

fn failed(error: rcgen::Error) -> CaError {
    CaError::Failed(error.to_string())
}

fn validity(now: Timestamp, end: Timestamp) -> Result<(OffsetDateTime, OffsetDateTime), CaError> {
    let date = |seconds: u64| {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| CaError::Failed("the clock is wrong".into()))
    };
    Ok((date(now.as_secs().saturating_sub(SLACK.as_secs()))?, date(end.as_secs())?))
}

/// Validity and SubjectPublicKeyInfo of a certificate.
fn read(cert: &[u8]) -> Option<(Timestamp, Timestamp, Vec<u8>)> {
    let mut tbs = Der::new(cert).sequence()?.sequence()?;
    tbs.take(CONTEXT_0)?;
    tbs.take(INTEGER)?;
    tbs.sequence()?;
    tbs.sequence()?;
    let mut dates = tbs.sequence()?;
    let (from, to) = (utc(dates.take(UTC_TIME)?)?, utc(dates.take(UTC_TIME)?)?);
    tbs.sequence()?;
    Some((from, to, tbs.element()?.to_vec()))
}

/// A UTCTime as RFC 5280 4.1.2.5.1 writes it.
fn utc(text: &[u8]) -> Option<Timestamp> {
    const FORMAT: &[BorrowedFormatItem<'_>] =
        format_description!("[year][month][day][hour][minute][second]Z");
    let text = std::str::from_utf8(text).ok()?;
    // Two-digit years from 50 on lie in the last century, where no development CA can be.
    let at = PrimitiveDateTime::parse(&format!("20{text}"), FORMAT).ok()?.assume_utc().unix_timestamp();
    u64::try_from(at).ok().map(|seconds| Timestamp::from_millis(seconds * 1000))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::{PrivateKeyDer, ServerName, UnixTime};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn verify(ca: &DevCa, leaf: &ServerCert, name: &str, at: Timestamp) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.cert_pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
        let der = CertificateDer::from_pem_slice(leaf.cert_pem.as_bytes()).unwrap();
        let name = ServerName::try_from(name).unwrap();
        let at = UnixTime::since_unix_epoch(Duration::from_millis(at.as_millis()));
        verifier.verify_server_cert(&der, &[], &name, &[], at).map(|_| ())
    }

    #[test]
    fn rustls_takes_the_chain_for_every_name_and_no_other() {
        let ca = DevCa::generate(NOW).unwrap();
        let leaf = ca.issue_server(&["Ript.example.com", "192.0.2.7", "localhost"], NOW).unwrap();
        for name in ["127.0.0.1", "::1", "localhost", "ript.example.com", "192.0.2.7"] {
            verify(&ca, &leaf, name, NOW).unwrap();
        }
        verify(&ca, &leaf, "example.com", NOW).unwrap_err();
        verify(&DevCa::generate(NOW).unwrap(), &leaf, "localhost", NOW).unwrap_err();
        verify(&ca, &leaf, "localhost", NOW + DAY * 11).unwrap_err();
        PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
    }

    #[test]
    fn a_ca_read_back_issues_on_until_it_ends() {
        let ca = DevCa::generate(NOW).unwrap();
        let again = DevCa::from_pem(ca.cert_pem(), &ca.key_pem()).unwrap();
        assert_eq!(again.not_after(), NOW + LIFETIME);
        let leaf = again.issue_server(&[], NOW + DAY * 9).unwrap();
        assert_eq!(leaf.not_after, NOW + LIFETIME);
        verify(&ca, &leaf, "::1", NOW + DAY * 9).unwrap();
        assert_eq!(again.issue_server(&[], NOW + LIFETIME).unwrap_err(), CaError::Expired);
    }

    #[test]
    fn hashes_are_those_of_the_certificate_and_its_key() {
        let leaf = DevCa::generate(NOW).unwrap().issue_server(&[], NOW).unwrap();
        let der = CertificateDer::from_pem_slice(leaf.cert_pem.as_bytes()).unwrap();
        assert_eq!(leaf.leaf_sha256, sha256(&der));
        assert_eq!(leaf.spki_sha256, sha256(&read(&der).unwrap().2));
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let (one, two) = (DevCa::generate(NOW).unwrap(), DevCa::generate(NOW).unwrap());
        assert!(matches!(DevCa::from_pem(one.cert_pem(), &two.key_pem()), Err(CaError::Unreadable(_))));
        assert!(matches!(DevCa::from_pem("", &two.key_pem()), Err(CaError::Unreadable(_))));
        assert!(matches!(DevCa::from_pem(one.cert_pem(), "x"), Err(CaError::Unreadable(_))));
        for name in ["", "a b", "exa\nmple", "-x.example"] {
            assert!(matches!(one.issue_server(&[name], NOW), Err(CaError::BadName(_))), "{name:?}");
        }
        assert!(!format!("{one:?}").contains("PRIVATE"));
    }

    #[test]
    fn openssl_takes_the_chain_in_strict_mode() {
        let dir = tempfile::tempdir().unwrap();
        let ca = DevCa::generate(NOW).unwrap();
        let leaf = ca.issue_server(&[], NOW).unwrap();
        let (root, cert) = (dir.path().join("ca.pem"), dir.path().join("cert.pem"));
        std::fs::write(&root, ca.cert_pem()).unwrap();
        std::fs::write(&cert, &leaf.cert_pem).unwrap();
        let at = NOW.as_secs().to_string();
        let run = std::process::Command::new("openssl")
            .args([
                "verify",
                "-x509_strict",
                "-purpose",
                "sslserver",
                "-verify_ip",
                "127.0.0.1",
                "-attime",
                &at,
            ])
            .arg("-CAfile")
            .args([&root, &cert])
            .output();
        // A machine without openssl has nothing to say here.
        if let Ok(run) = run {
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        }
    }
}
