//! `ript serve`: a server as a command, and as a value inside tests and tools.
//!
//! [`start`] makes a [`Running`]; dropping that ends everything at once, [`Running::shutdown`] lets calls move
//! away first.

mod args;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::dev::{self, Development};
use super::{CliError, dev_page, files};
use crate::adapter::camara;
use crate::adapter::ims::Telephony;
use crate::adapter::operator::{self, Operators};
use crate::config::{Config, TlsFiles};
use crate::identity::certificate::pem;
use crate::service::Service;
use crate::service::gateway::Gateway;
use crate::service::gateways::Gateways;
use crate::store::embedded::EmbeddedStore;
use crate::store::{Store, StoreError, Table};
use crate::transport::quic::QuicServerSettings;
use crate::transport::tcp::{TcpSettings, serve_tcp};
use crate::transport::tls::{self, TlsKeys};
use crate::transport::{Limits, TransportError, h3};
use crate::trunk::{self, Trunks};
use crate::{clock, openapi, resource};

pub use args::Args;

/// Free TCP ports whose UDP twin is taken, before we give up.
const PORT_TRIES: usize = 16;
/// What shutting down may take beyond the time that connections have to drain.
const GRACE: Duration = Duration::from_secs(3);

/// A server that runs until it is shut down or dropped.
#[derive(Debug)]
pub struct Running {
    addresses: Vec<SocketAddr>,
    clear_addresses: Vec<SocketAddr>,
    service: Arc<Service>,
    store: Arc<EmbeddedStore>,
    certificate: Option<Certificate>,
    ca: Option<PathBuf>,
    data: PathBuf,
    drain: Duration,
    stop: CancellationToken,
    // Aborts its tasks when dropped.
    listeners: JoinSet<()>,
}

/// A certificate that can change under way.
#[derive(Debug)]
struct Certificate {
    keys: Arc<TlsKeys>,
    files: TlsFiles,
    /// Made by development mode, for these addresses.
    made_for: Option<Vec<SocketAddr>>,
}

/// Starts a server: store, keys, listeners, services. Port 0 gives a free port, the same for UDP and TCP.
pub async fn start(mut config: Config) -> Result<Running, CliError> {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let data = config.data.clone();
    files::directory(&data)?;
    // First of all: who has the store has the directory.
    let store = Arc::new(open_store(data.join("ript.redb")).await?);
    let configured = config.tls.is_some();
    let mut ca = None;
    if config.dev {
        dev::warn(&data);
        let development = Development::prepare(&data, &config.listen, clock::now())?;
        development.apply(&mut config);
        ca = Some(development.certificates.ca);
    }
    let reset_key = reset_key(&data.join("reset-key"))?;

    let mut bound = Vec::new();
    let mut certificate = None;
    let mut tcp_tls = None;
    if !config.listen.is_empty() {
        let files = config.tls.clone().ok_or(CliError::NoCertificate)?;
        let keys = TlsKeys::from_files(&files.certificate, &files.key)?;
        let mut quic = QuicServerSettings::new(tls::quic_server(Arc::clone(&keys))?, reset_key);
        quic.max_bidi_streams = config.requests_per_connection;
        tcp_tls = Some(Arc::new(tls::tcp_server(Arc::clone(&keys))?));
        bound = bind_all(&config, &quic).await?;
        let made_for = (!configured).then(|| config.listen.clone());
        certificate = Some(Certificate { keys, files, made_for });
    }
    let mut clear = Vec::new();
    for address in &config.clear_listen {
        clear.push(bind_tcp(*address).await?);
    }
    if bound.is_empty() && clear.is_empty() {
        return Err(CliError::NoAddress);
    }

    let settings = operator::Settings {
        accounts: std::mem::take(&mut config.operators),
        folder: config.data.join("operators"),
    };
    let operators = Operators::new(&settings)?;
    // A number that a provider on a trunk takes goes there, with its caller's own PASSporT.
    let trunks = Trunks::start(trunks(&config)?);
    let telephony = Telephony::bind(&config.sip, &config.data.join("sip")).await?;
    let others: [Arc<dyn Gateway>; 2] = [operators.clone(), telephony.clone()];
    config.service.gateway =
        Some(Gateways::new([trunks as Arc<dyn Gateway>].into_iter().chain(others).collect()));
    let service = Service::start(config.service, Arc::clone(&store) as Arc<dyn Store>).await?;
    let camara = camara::router(Arc::clone(&service), config.camara).await?;
    let mut adapters = camara.merge(openapi::routes());
    config.resource.scopes = &camara::SCOPES;
    if config.dev {
        adapters = adapters.merge(dev_page::router());
    }
    operators.start(&service);
    telephony.start(&service);
    let router = resource::router_with(Arc::clone(&service), config.resource, adapters);
    let limits = Arc::new(config.transport);
    let stop = CancellationToken::new();
    let mut listeners = JoinSet::new();
    let (mut addresses, mut clear_addresses) = (Vec::new(), Vec::new());
    for Bound { tcp, udp, address } in bound {
        addresses.push(address);
        let settings = TcpSettings { tls: tcp_tls.clone(), alt_svc_port: Some(address.port()) };
        listeners.spawn(serve_tcp(tcp, settings, router.clone(), Arc::clone(&limits), stop.clone()));
        listeners.spawn(h3::serve_endpoint(udp, router.clone(), Arc::clone(&limits), stop.clone()));
    }
    for (tcp, address) in clear {
        clear_addresses.push(address);
        let settings = TcpSettings::default();
        listeners.spawn(serve_tcp(tcp, settings, router.clone(), Arc::clone(&limits), stop.clone()));
    }
    let Limits { drain, .. } = *limits;
    let running =
        Running { addresses, clear_addresses, service, store, certificate, ca, data, drain, stop, listeners };
    running.announce();
    Ok(running)
}

/// What a server's trunks are made from.
pub(super) fn trunks(config: &Config) -> Result<trunk::Settings, CliError> {
    let folder = config.data.join("trunks");
    files::directory(&folder)?;
    let fetch = &config.service.oauth.fetch;
    // Where no roots are configured the system's are enough; a client takes either its own or those.
    let roots = (!fetch.roots.is_empty()).then(|| {
        let system = rustls_native_certs::load_native_certs().certs;
        system.iter().chain(&fetch.roots).map(|der| pem(der)).collect::<String>().into_bytes()
    });
    Ok(trunk::Settings { folder, roots, allow: fetch.allow.clone() })
}

impl Running {
    /// Where it listens for QUIC and TLS.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where it listens for clear text.
    pub fn clear_addresses(&self) -> &[SocketAddr] {
        &self.clear_addresses
    }

    /// Of a development server: what opens its page as one of two users, with a token in each address's fragment.
    pub fn pages(&self) -> Result<Vec<String>, CliError> {
        let (Some(_), Some(address)) = (&self.ca, self.addresses.first()) else { return Ok(vec![]) };
        dev_page::links(&self.data, *address, clock::now())
    }

    /// What it serves.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The certificate that clients of a development server trust.
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// Its data directory; a development server's keys are there.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Reads the certificate again, for new connections; a development server renews its own. On an error
    /// the old one stays.
    pub fn reload(&self) -> Result<(), CliError> {
        let Some(Certificate { keys, files, made_for }) = &self.certificate else { return Ok(()) };
        if let Some(listen) = made_for {
            Development::prepare(&self.data, listen, clock::now())?;
        }
        Ok(keys.reload(&files.certificate, &files.key)?)
    }

    /// Tells calls to move, stops accepting, lets connections drain for their time, and flushes the store.
    pub async fn shutdown(self) -> Result<(), CliError> {
        let Self { service, store, stop, mut listeners, drain, .. } = self;
        if timeout(drain + GRACE, service.drain()).await.is_err() {
            tracing::warn!("calls did not move in time");
        }
        stop.cancel();
        let drained = async { while listeners.join_next().await.is_some() {} };
        if timeout(drain + GRACE, drained).await.is_err() {
            tracing::warn!("connections did not drain in time");
        }
        drop((listeners, service));
        // A read is answered after every write before it, and a write is durable once done.
        let flushed = timeout(GRACE, store.load(Table::Meta)).await;
        // The last handle waits for the writer's thread.
        let _ = tokio::task::spawn_blocking(move || drop(store)).await;
        match flushed {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(StoreError::Unavailable("it did not flush in time".to_owned()).into()),
        }
    }

    fn announce(&self) {
        for address in &self.addresses {
            tracing::info!(%address, "listening: HTTP/3 on UDP, HTTP/2 and HTTP/1.1 with TLS on TCP");
        }
        for address in &self.clear_addresses {
            tracing::info!(%address, "listening: HTTP/2 and HTTP/1.1 in clear text, for a trusted proxy");
        }
        if let Some(ca) = &self.ca {
            let data = self.data.display();
            tracing::info!(ca = %ca.display(), "clients of this development server trust this CA");
            tracing::info!("a token: ript token --data {data} --user alice --number +14085551000");
        }
    }
}

/// One address, both ways.
struct Bound {
    tcp: TcpListener,
    udp: quinn::Endpoint,
    address: SocketAddr,
}

async fn bind_all(config: &Config, quic: &QuicServerSettings) -> Result<Vec<Bound>, CliError> {
    let mut all = Vec::new();
    let mut lacking = None;
    for address in &config.listen {
        match bind(*address, quic).await {
            Ok(bound) => all.push(bound),
            // Nobody asked for both families, and a machine may have only one.
            Err(error) if config.listen_by_default && !is_taken(&error) => {
                tracing::warn!(%error, "not listening there");
                lacking = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    match lacking {
        Some(error) if all.is_empty() => Err(error.into()),
        _ => Ok(all),
    }
}

fn is_taken(error: &TransportError) -> bool {
    use std::io::ErrorKind::{AddrInUse, PermissionDenied};
    matches!(error, TransportError::Io { source, .. } if matches!(source.kind(), AddrInUse | PermissionDenied))
}

async fn bind(address: SocketAddr, quic: &QuicServerSettings) -> Result<Bound, TransportError> {
    let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        let (tcp, local) = bind_tcp(address).await?;
        match quic.bind(&[local]) {
            Ok(endpoints) => {
                let mut endpoints = endpoints.into_iter();
                let udp = endpoints.next().expect("one address makes one endpoint");
                return Ok(Bound { tcp, udp, address: local });
            }
            // A port that is free for TCP may be taken for UDP.
            Err(error) if tries == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

async fn bind_tcp(address: SocketAddr) -> Result<(TcpListener, SocketAddr), TransportError> {
    let failed = |source| TransportError::Io { what: format!("tcp {address}"), source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
}

async fn open_store(path: PathBuf) -> Result<EmbeddedStore, CliError> {
    let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(path)).await;
    let died = |_| Err(StoreError::Unavailable("opening it failed".to_owned()));
    Ok(opened.unwrap_or_else(died)?)
}

/// The secret by which a restarted server ends stale connections at once; a cluster shares the file.
fn reset_key(path: &Path) -> Result<[u8; 32], CliError> {
    if let Some(key) = files::read(path)? {
        return key.try_into().map_err(|_| CliError::ResetKey(path.to_owned()));
    }
    let mut key = [0; 32];
    SystemRandom::new().fill(&mut key).map_err(|_| CliError::Random)?;
    files::write_secret(path, &key)?;
    Ok(key)
}
