//! TCP and TLS: connections are made from our own address, kept, and taken; who shows a certificate is known by it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use rsipstack::sip::Transport;
use rsipstack::transport::SipConnection;
use rsipstack::transport::tcp::TcpConnection;
use rsipstack::transport::tls::TlsConnection;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::guard::Gate;
use super::hop::Hop;
use super::stack::{CONNECT, Listen, Stack, other, sip};
use crate::service::lock;

/// Connections that others made, at once.
const MOST: usize = 1_024;
/// Names of one certificate.
const MOST_NAMES: usize = 64;
/// Addresses of which it is known whose they are.
const MOST_KNOWN: usize = 1_024;

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

/// All connections of one end.
pub(super) struct Streams {
    local: IpAddr,
    /// What Via and Contact say.
    address: SocketAddr,
    gate: Arc<Gate>,
    open: Mutex<HashMap<(SocketAddr, Transport), SipConnection>>,
    /// RFC 5922 §7.1: whose an address is, by the names that are configured.
    known: Mutex<HashMap<IpAddr, String>>,
    connector: TlsConnector,
    tcp: Mutex<Option<TcpListener>>,
    tls: Mutex<Option<(TcpListener, TlsAcceptor)>>,
    tls_address: Option<SocketAddr>,
    stack: OnceLock<Weak<Stack>>,
    stop: CancellationToken,
}

impl Streams {
    /// TCP on the port that UDP has.
    pub(super) async fn bind(
        listen: &Listen,
        bound: SocketAddr,
        address: SocketAddr,
        gate: Arc<Gate>,
        stop: CancellationToken,
    ) -> io::Result<Arc<Self>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let identity = identity(&listen.files)?;
        let roots = Arc::new(roots(&listen.files.roots));
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots.clone());
        let client = match &identity {
            Some((chain, key)) => {
                client.with_client_auth_cert(chain.clone(), key.clone_key()).map_err(io::Error::other)?
            }
            None => client.with_no_client_auth(),
        };
        let mut tls = None;
        if let Some(at) = listen.tls {
            let missing = || io::Error::other("TLS needs a certificate and its key");
            let (chain, key) = identity.ok_or_else(missing)?;
            let server = ServerConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .map_err(io::Error::other)?;
            let server = if listen.files.roots.is_empty() {
                server.with_no_client_auth()
            } else {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = verifier.allow_unauthenticated().build().map_err(io::Error::other)?;
                server.with_client_cert_verifier(verifier)
            };
            let server = server.with_single_cert(chain, key).map_err(io::Error::other)?;
            tls = Some((TcpListener::bind(at).await?, TlsAcceptor::from(Arc::new(server))));
        }
        let tls_address = tls.as_ref().map(|(listener, _)| listener.local_addr()).transpose()?;
        Ok(Arc::new(Self {
            local: bound.ip(),
            address,
            gate,
            open: Mutex::default(),
            known: Mutex::default(),
            connector: TlsConnector::from(Arc::new(client)),
            tcp: Mutex::new(Some(TcpListener::bind(bound).await?)),
            tls: Mutex::new(tls),
            tls_address,
            stack: OnceLock::new(),
            stop,
        }))
    }

    pub(super) fn tls(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// Takes connections from now on.
    pub(super) fn serve(self: &Arc<Self>, stack: &Arc<Stack>) {
        let _ = self.stack.set(Arc::downgrade(stack));
        let (tcp, tls) = (lock(&self.tcp).take(), lock(&self.tls).take());
        if let Some(listener) = tcp {
            stack.spawn(Arc::clone(self).accept(listener, None));
        }
        if let Some((listener, acceptor)) = tls {
            stack.spawn(Arc::clone(self).accept(listener, Some(acceptor)));
        }
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, tls: Option<TlsAcceptor>) {
        // A seat for each connection, so that strangers can't have all descriptors.
        let (seats, mut free) = mpsc::channel::<()>(MOST);
        for _ in 0..MOST {
            let _ = seats.try_send(());
        }
        loop {
            let (stream, remote) = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::debug!(%error, "no connection taken");
                        // Out of descriptors: others have to end first.
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            if free.try_recv().is_err() {
                tracing::debug!("a connection is refused: there are too many");
                continue;
            }
            let (own, acceptor, seats) = (Arc::clone(&self), tls.clone(), seats.clone());
            let Some(stack) = self.stack.get().and_then(Weak::upgrade) else { return };
            stack.spawn(async move {
                if let Ok(connection) = own.take(stream, remote, acceptor).await {
                    let ended = connection.cancel_token();
                    own.enter(remote, connection);
                    if let Some(ended) = ended {
                        ended.cancelled().await;
                    }
                }
                let _ = seats.try_send(());
            });
        }
    }

    async fn take(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        tls: Option<TlsAcceptor>,
    ) -> io::Result<SipConnection> {
        let _ = stream.set_nodelay(true);
        let token = Some(self.stop.child_token());
        let Some(acceptor) = tls else {
            let local = sip(Transport::Tcp, self.address);
            return Ok(TcpConnection::from_stream(stream, local, token).map_err(other)?.into());
        };
        let stream = timeout(CONNECT, acceptor.accept(stream)).await.map_err(io::Error::other)??;
        if let Some(leaf) = stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
            self.gate.prove(remote, names(leaf));
        }
        let local = sip(Transport::Tls, self.tls_address.unwrap_or(self.address));
        let remote = sip(Transport::Tls, remote);
        Ok(TlsConnection::from_server_stream(stream, local, remote, token).await.map_err(other)?.into())
    }

    fn enter(&self, remote: SocketAddr, connection: SipConnection) {
        let Some(stack) = self.stack.get().and_then(Weak::upgrade) else { return };
        lock(&self.open).insert((remote, connection.transport()), connection.clone());
        stack.endpoint.inner.transport_layer.add_connection(connection);
    }

    pub(super) fn closed(&self, remote: SocketAddr, transport: Transport) {
        lock(&self.open).remove(&(remote, transport));
    }

    /// Takes in whose these addresses are.
    pub(super) fn know(&self, hops: &[Hop]) {
        let mut known = lock(&self.known);
        for hop in hops.iter().filter(|hop| hop.name.parse::<IpAddr>().is_err()) {
            if known.len() < MOST_KNOWN || known.contains_key(&hop.address.ip()) {
                known.insert(hop.address.ip(), hop.name.clone());
            }
        }
    }

    fn open(&self, remote: SocketAddr, transport: Transport) -> Option<SipConnection> {
        let open = lock(&self.open).get(&(remote, transport)).cloned();
        open.filter(|open| open.cancel_token().is_none_or(|token| !token.is_cancelled()))
    }

    /// The connection to a place, made if there is none. What belongs to a dialog goes to the host that began it by the
    /// connection that it came by, while that is there: its Contact names no certificate's owner, and often a closed port.
    pub(super) async fn to(&self, hop: &Hop, came: Option<SocketAddr>) -> io::Result<SipConnection> {
        let came = came.filter(|came| came.ip() == hop.address.ip());
        let places = [Some(hop.address), came].into_iter().flatten();
        if let Some(open) = places.filter_map(|place| self.open(place, hop.transport)).next() {
            return Ok(open);
        }
        let socket = if hop.address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
        // A registrar knows its users by the address that they register from.
        if !self.local.is_unspecified() && self.local.is_ipv6() == hop.address.is_ipv6() {
            socket.bind(SocketAddr::new(self.local, 0))?;
        }
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let stream = timeout(CONNECT, socket.connect(hop.address)).await.map_err(late)??;
        let _ = stream.set_nodelay(true);
        let token = Some(self.stop.child_token());
        let connection: SipConnection = if hop.transport == Transport::Tls {
            let known = lock(&self.known).get(&hop.address.ip()).cloned();
            let named = hop.name.parse::<IpAddr>().is_err();
            let name = known.filter(|_| !named).unwrap_or_else(|| hop.name.clone());
            let owner = ServerName::try_from(name.clone()).map_err(io::Error::other)?;
            let connecting = self.connector.connect(owner, stream);
            let stream = timeout(CONNECT, connecting).await.map_err(late)??;
            // RFC 5923: requests of the far end may come by this connection, and it has shown who it is.
            self.gate.prove(hop.address, [name].into());
            let remote = sip(Transport::Tls, hop.address);
            TlsConnection::from_client_stream(stream, remote, token).await.map_err(other)?.into()
        } else {
            let local = sip(Transport::Tcp, self.address);
            TcpConnection::from_stream(stream, local, token).map_err(other)?.into()
        };
        self.enter(hop.address, connection.clone());
        Ok(connection)
    }
}

/// RFC 5922 §7.1: the domains that a certificate names, in its alternative names.
fn names(leaf: &CertificateDer<'_>) -> Arc<[String]> {
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
