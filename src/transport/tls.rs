//! TLS for both listeners and for clients: PEM files in, rustls configurations out; the key can change under way.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::TransportError;

/// Where Linux distributions keep the system's trust roots.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// Sessions remembered for resumption.
const RESUMPTION_CACHE: usize = 10_000;

/// The server's certificate and key; [`TlsKeys::reload`] changes them for new connections.
#[derive(Debug)]
pub struct TlsKeys(RwLock<Arc<CertifiedKey>>);

impl TlsKeys {
    /// Reads a chain, leaf first, and its key.
    pub fn from_files(certificates: &Path, key: &Path) -> Result<Arc<Self>, TransportError> {
        Ok(Arc::new(Self(RwLock::new(read_key(certificates, key)?))))
    }

    /// Reads them again, perhaps from elsewhere. On an error the old ones stay.
    pub fn reload(&self, certificates: &Path, key: &Path) -> Result<(), TransportError> {
        let fresh = read_key(certificates, key)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}

impl ResolvesServerCert for TlsKeys {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn pem_error(path: &Path, reason: impl ToString) -> TransportError {
    TransportError::Pem { path: path.display().to_string(), reason: reason.to_string() }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match all {
        Ok(all) if all.is_empty() => Err(pem_error(path, "holds no certificate")),
        Ok(all) => Ok(all),
        Err(error) => Err(pem_error(path, error)),
    }
}

fn read_key(certificates: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TransportError> {
    let chain = read_certificates(certificates)?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| pem_error(key, error))?;
    Ok(Arc::new(CertifiedKey::from_der(chain, secret, &ring::default_provider())?))
}

/// For the QUIC listener: TLS 1.3 and `h3` only, early data allowed.
pub fn quic_server(keys: Arc<TlsKeys>) -> Result<ServerConfig, TransportError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(keys);
    config.alpn_protocols = vec![b"h3".to_vec()];
    config.session_storage = ServerSessionMemoryCache::new(RESUMPTION_CACHE);
    // RFC 9001 §4.6.1: QUIC allows all or nothing.
    config.max_early_data_size = u32::MAX;
    Ok(config)
}

/// For the TCP listener: `h2` and `http/1.1`.
pub fn tcp_server(keys: Arc<TlsKeys>) -> Result<ServerConfig, TransportError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(keys);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = ServerSessionMemoryCache::new(RESUMPTION_CACHE);
    Ok(config)
}

/// The trust roots of a PEM file, or the system's.
pub fn roots(ca: Option<&Path>) -> Result<RootCertStore, TransportError> {
    let system = SYSTEM_ROOTS.iter().map(Path::new).find(|path| path.exists());
    let path = ca.or(system).unwrap_or(Path::new(SYSTEM_ROOTS[0]));
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(read_certificates(path)?);
    if added == 0 { Err(pem_error(path, "holds no usable trust root")) } else { Ok(roots) }
}

/// For QUIC clients: TLS 1.3 and `h3` only, early data possible on resumption.
pub fn quic_client(roots: RootCertStore) -> Result<ClientConfig, TransportError> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h3".to_vec()];
    config.enable_early_data = true;
    Ok(config)
}

/// For TCP clients: `alpn` in order of preference.
pub fn tcp_client(roots: RootCertStore, alpn: &[&str]) -> Result<ClientConfig, TransportError> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(config)
}
