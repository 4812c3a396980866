//! Development mode: keys and certificates made in the data directory, and trusted by that server alone.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::certs::{self, Certificates};
use super::{CliError, files};
use crate::config::{Config, DEVELOPMENT_ISSUER};
use crate::identity::certificate::Anchors;
use crate::identity::devca::LIFETIME;
use crate::identity::enrol::Enroller;
use crate::identity::jwk::{JwkSet, SigningKey};
use crate::identity::passport::PassportTrust;
use crate::identity::token::IssuerPolicy;
use crate::protocol::time::Timestamp;

/// The `iss` of development tokens.
pub const ISSUER: &str = DEVELOPMENT_ISSUER;
/// The `aud` of development tokens.
pub const AUDIENCE: &str = "ript";
/// The TG of a development server that configures none.
pub const TG: &str = "dev";

/// What a development server has in its data directory.
#[derive(Debug)]
pub struct Development {
    /// The CA and the server's certificate.
    pub certificates: Certificates,
    /// Signs tokens.
    pub issuer: SigningKey,
    /// Signs PASSporTs for any number; clients on this machine use it.
    pub passport: SigningKey,
    /// Enrols users as every server does; the one CA is enough for that here.
    pub enroller: Arc<Enroller>,
    /// That CA.
    pub anchors: Anchors,
}

impl Development {
    /// Uses what is in the directory while it is valid, and makes the rest.
    pub fn prepare(data: &Path, listen: &[SocketAddr], now: Timestamp) -> Result<Self, CliError> {
        files::directory(data)?;
        let named = listen.iter().map(SocketAddr::ip).filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
        let names: Vec<_> = named.map(|ip| ip.to_string()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let certificates = certs::ensure(data, &names, false, now)?;
        let root = files::read_text(&certificates.ca)?.unwrap_or_default();
        let key = files::read_secret(&certificates.ca_key)?.unwrap_or_default();
        let unfit = |source: &dyn std::fmt::Display| CliError::Enroller {
            path: data.to_owned(),
            why: source.to_string(),
        };
        Ok(Self {
            enroller: Arc::new(Enroller::new(&root, &key, LIFETIME).map_err(|error| unfit(&error))?),
            anchors: Anchors::from_pem(&root).map_err(|error| unfit(&error))?,
            certificates,
            issuer: ensure_key(&issuer_key_path(data))?,
            passport: ensure_key(&passport_key_path(data))?,
        })
    }

    /// Makes the server trust these keys.
    pub fn apply(&self, config: &mut Config) {
        let only = |key: &SigningKey| JwkSet::new(vec![key.public().clone()]);
        let service = &mut config.service;
        service.tokens.issuers.push(IssuerPolicy::new(ISSUER, AUDIENCE, only(&self.issuer)));
        service.passports.signers.extend(PassportTrust::any_number(only(&self.passport)).signers);
        service.passports.anchors.extend(self.anchors.clone());
        if service.enroller.is_none() {
            service.enroller = Some(Arc::clone(&self.enroller));
        }
        if config.tls.is_none() {
            config.tls = Some(self.certificates.tls.clone());
        }
    }
}

/// Where a development server keeps the key that signs tokens.
pub fn issuer_key_path(data: &Path) -> PathBuf {
    data.join("issuer-key.pem")
}

/// Where a development server keeps the key that signs PASSporTs.
pub fn passport_key_path(data: &Path) -> PathBuf {
    data.join("passport-key.pem")
}

/// The key in a file, if there is one.
pub(super) fn read_key(path: &Path) -> Result<Option<SigningKey>, CliError> {
    let Some(text) = files::read_secret(path)? else { return Ok(None) };
    let bad = |source| CliError::Key { path: path.to_owned(), source };
    SigningKey::from_pem(&text).map(Some).map_err(bad)
}

fn ensure_key(path: &Path) -> Result<SigningKey, CliError> {
    if let Some(key) = read_key(path)? {
        return Ok(key);
    }
    let key = SigningKey::generate().map_err(|source| CliError::Key { path: path.to_owned(), source })?;
    files::write_secret(path, key.to_pem().as_bytes())?;
    Ok(key)
}

/// Says loudly what development mode means.
pub(super) fn warn(data: &Path) {
    let data = data.display();
    tracing::warn!("=========================== DEVELOPMENT MODE ===========================");
    tracing::warn!("anyone who can read {data} can mint tokens and sign caller identities");
    tracing::warn!("never put this server where others can reach it");
    tracing::warn!("========================================================================");
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    #[test]
    fn a_restart_uses_the_same_keys_and_they_are_secret() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = Development::prepare(&data, &[], NOW).unwrap();
        let again = Development::prepare(&data, &[], NOW).unwrap();
        assert_eq!(first.issuer.kid(), again.issuer.kid());
        assert_eq!(first.passport.kid(), again.passport.kid());
        assert_ne!(first.issuer.kid(), first.passport.kid());
        assert_eq!(first.certificates.leaf_sha256, again.certificates.leaf_sha256);
        #[cfg(unix)]
        for name in ["ca-key.pem", "server-key.pem", "issuer-key.pem", "passport-key.pem"] {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(data.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_damaged_key_is_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = issuer_key_path(dir.path());
        std::fs::write(&path, "damaged").unwrap();
        let error = Development::prepare(dir.path(), &[], NOW).unwrap_err();
        assert!(matches!(error, CliError::Key { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "damaged");
    }

    #[test]
    fn the_server_comes_to_trust_both_keys_and_keeps_what_was_configured() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::development(dir.path(), &[]).unwrap();
        let listen: Vec<SocketAddr> = vec!["192.0.2.7:1".parse().unwrap(), "0.0.0.0:1".parse().unwrap()];
        Development::prepare(dir.path(), &listen, NOW).unwrap().apply(&mut config);
        assert_eq!(config.service.tokens.issuers[0].issuer, "urn:ript:dev");
        assert_eq!(config.service.tokens.issuers[0].audience, "ript");
        assert_eq!(config.service.passports.signers[0].numbers, ["*"]);
        assert_eq!(config.service.tgs[0].id.as_str(), TG);
        assert!(config.service.tgs[0].inbound.is_some());
        assert_eq!(config.tls.unwrap().certificate, dir.path().join("server.pem"));
    }
}
