//! TLS: what is shown, what is taken, and whom a certificate names.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// Names of one certificate.
const MOST_NAMES: usize = 64;

/// What TLS needs.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Our certificate's file, PEM, leaf first; shown to peers both ways.
    pub certificate: Option<PathBuf>,
    /// Its key's.
    pub key: Option<PathBuf>,
    /// Whose certificates are taken; none: the system's, and no peer is known by its certificate.
    pub roots: Vec<CertificateDer<'static>>,
}

impl TlsFiles {
    /// To connect.
    pub(super) fn connector(&self) -> io::Result<TlsConnector> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots(&self.roots));
        let client = match identity(self)? {
            Some((chain, key)) => client.with_client_auth_cert(chain, key).map_err(io::Error::other)?,
            None => client.with_no_client_auth(),
        };
        Ok(TlsConnector::from(Arc::new(client)))
    }

    /// To be connected to.
    pub(super) fn acceptor(&self) -> io::Result<TlsAcceptor> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let missing = || io::Error::other("TLS needs a certificate and its key");
        let (chain, key) = identity(self)?.ok_or_else(missing)?;
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let server = if self.roots.is_empty() {
            server.with_no_client_auth()
        } else {
            // Who has none may still be known by the address.
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&self.roots)), provider);
            let verifier = verifier.allow_unauthenticated().build().map_err(io::Error::other)?;
            server.with_client_cert_verifier(verifier)
        };
        let server = server.with_single_cert(chain, key).map_err(io::Error::other)?;
        Ok(TlsAcceptor::from(Arc::new(server)))
    }
}

/// RFC 5922 §7.1: the domains that a certificate names, in its alternative names.
pub(super) fn names(leaf: &CertificateDer<'_>) -> Arc<[String]> {
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return Arc::default() };
    let Ok(Some(found)) = certificate.subject_alternative_name() else { return Arc::default() };
    let named = found.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::URI(uri) => uri.strip_prefix("sip:").map(str::to_ascii_lowercase),
        GeneralName::IPAddress([a, b, c, d]) => Some(IpAddr::from([*a, *b, *c, *d]).to_string()),
        GeneralName::IPAddress(bytes) => {
            <[u8; 16]>::try_from(*bytes).ok().map(|ip| IpAddr::from(ip).to_string())
        }
        _ => None,
    });
    named.take(MOST_NAMES).collect()
}

fn roots(configured: &[CertificateDer<'static>]) -> RootCertStore {
    let mut store = RootCertStore::empty();
    if configured.is_empty() {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    } else {
        store.add_parsable_certificates(configured.iter().cloned());
    }
    store
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(files: &TlsFiles) -> io::Result<Option<Identity>> {
    let (Some(certificate), Some(key)) = (&files.certificate, &files.key) else { return Ok(None) };
    let named = |path: &PathBuf, error: rustls::pki_types::pem::Error| {
        io::Error::other(format!("{}: {error}", path.display()))
    };
    let chain = CertificateDer::pem_file_iter(certificate).map_err(|error| named(certificate, error))?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|error| named(certificate, error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| named(key, error))?;
    Ok(Some((chain, key)))
}
