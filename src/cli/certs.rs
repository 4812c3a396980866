//! `ript certs`: a development CA and a server certificate, in a folder.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;

use super::{CliError, Outcome, files};
use crate::clock;
use crate::config::TlsFiles;
use crate::identity::devca::{CaError, DevCa};
use crate::protocol::time::Timestamp;

/// A certificate that ends sooner is made anew.
const RENEW_BEFORE: Duration = Duration::from_secs(24 * 3600);

/// The arguments of `ript certs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder for ca.pem, ca-key.pem, server.pem and server-key.pem
    #[arg(long, value_name = "DIR", default_value = "certs")]
    out: PathBuf,
    /// A DNS name or IP address for the certificate, beside localhost, 127.0.0.1 and ::1
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// Make a new CA even if the one in the folder is valid; who trusts the old one won't trust the new one
    #[arg(long)]
    renew: bool,
}

impl Args {
    /// Makes them, and says where they are.
    pub async fn run(self) -> Outcome {
        let names: Vec<_> = self.names.iter().map(String::as_str).collect();
        let made = ensure(&self.out, &names, self.renew, clock::now())?;
        let mut out = std::io::stdout();
        writeln!(out, "CA            {}", made.ca.display())?;
        writeln!(out, "certificate   {}", made.tls.certificate.display())?;
        writeln!(out, "key           {}", made.tls.key.display())?;
        writeln!(out, "CA ends       {}", made.ca_ends)?;
        // What a browser takes as serverCertificateHashes: [{algorithm: "sha-256", value}].
        writeln!(out, "leaf SHA-256  {}", hex(&made.leaf_sha256))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The certificates in a folder.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The CA's certificate, for clients to trust.
    pub ca: PathBuf,
    /// The CA's key.
    pub ca_key: PathBuf,
    /// When the CA ends, and with it, at the latest, the server's certificate.
    pub ca_ends: Timestamp,
    /// The server's certificate and key.
    pub tls: TlsFiles,
    /// SHA-256 of the server's certificate.
    pub leaf_sha256: [u8; 32],
}

/// Uses the CA and certificate of `folder` while they are valid for a day more, and makes what is not.
pub fn ensure(folder: &Path, names: &[&str], renew: bool, now: Timestamp) -> Result<Certificates, CliError> {
    files::directory(folder)?;
    let (ca_path, ca_key) = (folder.join("ca.pem"), folder.join("ca-key.pem"));
    let tls = TlsFiles { certificate: folder.join("server.pem"), key: folder.join("server-key.pem") };
    let refused = |source| CliError::Ca { path: folder.to_owned(), source };
    let kept = if renew { None } else { kept_ca(folder, &ca_path, &ca_key, now)? };
    let ca = match kept {
        Some(ca) => ca,
        None => {
            let ca = DevCa::generate(now).map_err(refused)?;
            // Never a certificate beside another's key, even if this run is cut short.
            files::remove(&ca_path)?;
            files::write_secret(&ca_key, ca.key_pem().as_bytes())?;
            files::write_public(&ca_path, ca.cert_pem().as_bytes())?;
            ca
        }
    };
    if !is_good(&ca, &tls, names, now)? {
        let made = ca.issue_server(names, now).map_err(refused)?;
        files::write_secret(&tls.key, made.key_pem.as_bytes())?;
        files::write_public(&tls.certificate, made.cert_pem.as_bytes())?;
    }
    let leaf = files::read_text(&tls.certificate)?.unwrap_or_default();
    let leaf = CertificateDer::from_pem_slice(leaf.as_bytes())
        .map_err(|_| refused(CaError::Unreadable("certificate")))?;
    let digest = ring::digest::digest(&ring::digest::SHA256, &leaf);
    let mut leaf_sha256 = [0; 32];
    leaf_sha256.copy_from_slice(digest.as_ref());
    Ok(Certificates { ca: ca_path, ca_key, ca_ends: ca.not_after(), tls, leaf_sha256 })
}

/// The CA of an earlier run. One that can't be read may be somebody's: it is never written over unasked.
fn kept_ca(folder: &Path, cert: &Path, key: &Path, now: Timestamp) -> Result<Option<DevCa>, CliError> {
    // A first run that was cut short left a key without a certificate.
    let Some(cert) = files::read_text(cert)? else { return Ok(None) };
    let key = files::read_secret(key)?.unwrap_or_default();
    let ca = DevCa::from_pem(&cert, &key)
        .map_err(|source| CliError::ForeignCa { path: folder.to_owned(), source })?;
    Ok((ca.not_after() >= now + RENEW_BEFORE).then_some(ca))
}

/// Whether clients of this CA take the certificate for all names, now and a day from now.
fn is_good(ca: &DevCa, tls: &TlsFiles, names: &[&str], now: Timestamp) -> Result<bool, CliError> {
    let (cert, key) = (files::read_text(&tls.certificate)?, files::read_secret(&tls.key)?);
    let (Some(cert), Some(key)) = (cert, key) else { return Ok(false) };
    Ok(verify(ca, &cert, &key, names, now).is_some())
}

fn verify(ca: &DevCa, cert: &str, key: &str, names: &[&str], now: Timestamp) -> Option<()> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let leaf = CertificateDer::from_pem_slice(cert.as_bytes()).ok()?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).ok()?;
    CertifiedKey::from_der(vec![leaf.clone()], key, &provider).ok()?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.cert_pem().as_bytes()).ok()?).ok()?;
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().ok()?;
    for name in ["localhost"].iter().chain(names) {
        // A wildcard is good for any one label.
        let name = ServerName::try_from(name.replace('*', "any")).ok()?;
        for at in [now, now + RENEW_BEFORE] {
            let at = UnixTime::since_unix_epoch(Duration::from_millis(at.as_millis()));
            verifier.verify_server_cert(&leaf, &[], &name, &[], at).ok()?;
        }
    }
    Some(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn valid_certificates_stay_and_ending_ones_are_renewed() {
        let dir = tempfile::tempdir().unwrap();
        let first = ensure(dir.path(), &[], false, NOW).unwrap();
        let ca = text(&first.ca);
        let again = ensure(dir.path(), &[], false, NOW + DAY * 8).unwrap();
        assert_eq!((text(&again.ca), again.leaf_sha256), (ca.clone(), first.leaf_sha256));
        // The leaf can't outlive its CA, so both are new.
        let late = ensure(dir.path(), &[], false, NOW + DAY * 10).unwrap();
        assert_ne!(late.leaf_sha256, first.leaf_sha256);
        assert_ne!(text(&late.ca), ca);
        assert!(late.ca_ends > NOW + DAY * 19);
    }

    #[test]
    fn a_new_name_renews_the_certificate_and_not_the_ca() {
        let dir = tempfile::tempdir().unwrap();
        let first = ensure(dir.path(), &[], false, NOW).unwrap();
        let ca = text(&first.ca);
        let named = ensure(dir.path(), &["ript.test", "192.0.2.7", "*.ript.test"], false, NOW).unwrap();
        assert_eq!(text(&named.ca), ca);
        assert_ne!(named.leaf_sha256, first.leaf_sha256);
        let fewer = ensure(dir.path(), &["ript.test"], false, NOW).unwrap();
        assert_eq!(fewer.leaf_sha256, named.leaf_sha256);
        assert!(matches!(
            ensure(dir.path(), &["a b"], false, NOW),
            Err(CliError::Ca { source: CaError::BadName(_), .. })
        ));
    }

    #[test]
    fn a_ca_is_replaced_only_when_asked_or_ended() {
        let dir = tempfile::tempdir().unwrap();
        let first = ensure(dir.path(), &[], false, NOW).unwrap();
        let ca = text(&first.ca);
        let renewed = ensure(dir.path(), &[], true, NOW).unwrap();
        assert_ne!(text(&renewed.ca), ca);
        std::fs::write(&renewed.ca, "somebody's").unwrap();
        let refused = ensure(dir.path(), &[], false, NOW).unwrap_err();
        assert!(refused.to_string().contains("ript certs --renew --out"), "{refused}");
        assert_eq!(text(&renewed.ca), "somebody's");
        std::fs::write(&first.ca, &ca).unwrap();
        assert!(matches!(ensure(dir.path(), &[], false, NOW), Err(CliError::ForeignCa { .. })));
        ensure(dir.path(), &[], true, NOW).unwrap();
        ensure(dir.path(), &[], false, NOW).unwrap();
    }

    #[test]
    fn a_key_of_another_certificate_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let first = ensure(dir.path(), &[], false, NOW).unwrap();
        std::fs::copy(dir.path().join("ca-key.pem"), &first.tls.key).unwrap();
        let mended = ensure(dir.path(), &[], false, NOW).unwrap();
        assert_ne!(mended.leaf_sha256, first.leaf_sha256);
        crate::transport::tls::TlsKeys::from_files(&mended.tls.certificate, &mended.tls.key).unwrap();
    }

    #[test]
    fn the_hash_is_that_of_the_certificate() {
        assert_eq!(hex(&[0, 0xab]), "00ab");
        let dir = tempfile::tempdir().unwrap();
        let made = ensure(dir.path(), &[], false, NOW).unwrap();
        let run = std::process::Command::new("openssl")
            .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
            .arg(&made.tls.certificate)
            .output();
        // A machine without openssl has nothing to say here.
        if let Ok(run) = run {
            let print = String::from_utf8_lossy(&run.stdout).replace(':', "").to_ascii_lowercase();
            assert!(print.trim().ends_with(&hex(&made.leaf_sha256)), "{print}");
        }
    }
}
