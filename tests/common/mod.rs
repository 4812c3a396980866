//! The loopback world: a server in this process on real sockets, users with tokens, and a plain client that
//! speaks the wire without `ript::client`.

pub mod browser;
pub mod camara;
pub mod camara_byon;
pub mod camara_calls;
pub mod events;
pub mod h1h2;
pub mod idp;
pub mod link;
pub mod load;
pub mod media;
pub mod phone;
pub mod socket;
pub mod telephone;
pub mod user;
pub mod webhook;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ript::identity::certificate::Anchors;
use ript::identity::devca::DevCa;
use ript::identity::enrol::Enroller;
use ript::identity::jwk::{JwkSet, SigningKey};
use ript::identity::passport::PassportTrust;
use ript::identity::token::{IssuerPolicy, TokenPolicy};
use ript::protocol::number::Destinations;
use ript::resource;
use ript::service::settings::OAuth;
use ript::service::{Service, Settings, TgSettings};
use ript::store::Store;
use ript::store::memory::MemoryStore;
use ript::transport::{Limits, h3, quic, tcp, tls};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use user::User;

pub const ISSUER: &str = "urn:ript:test";
pub const AUDIENCE: &str = "ript";

/// How long a test waits for something that has to come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A server, and all that is needed to use it.
pub struct World {
    pub address: SocketAddr,
    pub service: Arc<Service>,
    pub store: Arc<dyn Store>,
    pub issuer: SigningKey,
    pub passports: SigningKey,
    pub ca: PathBuf,
    pub settings: Settings,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    folder: tempfile::TempDir,
}

/// How a world's resources, transports and adapters are served.
#[derive(Default)]
struct Served {
    resources: resource::Settings,
    limits: Limits,
    camara: ript::adapter::camara::Settings,
}

pub fn settings(issuer: &SigningKey, passports: &SigningKey) -> Settings {
    let keys = JwkSet::new(vec![issuer.public().clone()]);
    let tg = |id: &str, destinations: &[&str]| TgSettings {
        id: id.parse().expect("a TG's name"),
        name: id.to_owned(),
        description: "for tests".to_owned(),
        destinations: Destinations::new(destinations).expect("patterns"),
        inbound: Some(Destinations::all()),
        retry_backoff: Duration::from_secs(2),
        media_timeout: Duration::from_secs(1),
        call_rate: None,
        calls: None,
    };
    Settings {
        tgs: vec![tg("test", &["*", "!+1900*"]), tg("other", &["+44*"])],
        tokens: TokenPolicy {
            issuers: vec![IssuerPolicy::new(ISSUER, AUDIENCE, keys)],
            leeway: Duration::from_secs(5),
        },
        oauth: OAuth::default(),
        passports: PassportTrust::any_number(JwkSet::new(vec![passports.public().clone()])),
        enroller: None,
        gateway: None,
        timing: ript::call::Timing::default(),
        keepalive: Duration::from_secs(15),
        call_rate: None,
        audit_numbers: false,
        calls_per_user: 1000,
        calls: 20_000,
        handlers_per_user: 64,
        byways_per_leg: 64,
    }
}

/// The server signs for its users, and believes itself.
pub fn vouching(settings: &mut Settings) {
    let ca = DevCa::generate(ript::clock::now()).expect("a CA");
    let day = Duration::from_secs(24 * 3600);
    settings.passports.anchors = Anchors::from_pem(ca.cert_pem()).expect("anchors");
    settings.enroller =
        Some(Arc::new(Enroller::new(ca.cert_pem(), &ca.key_pem(), day).expect("an enroller")));
}

/// The CA of all worlds' servers: they may be each other's clients.
pub fn ca() -> &'static DevCa {
    static CA: std::sync::OnceLock<DevCa> = std::sync::OnceLock::new();
    CA.get_or_init(|| DevCa::generate(ript::clock::now()).expect("a CA"))
}

/// What signs tokens, and what signs PASSporTs.
pub fn keys() -> (SigningKey, SigningKey) {
    (SigningKey::generate().expect("a key"), SigningKey::generate().expect("a key"))
}

impl World {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A world whose CAMARA APIs are served in another way, and which vouches for its users.
    pub async fn with_camara(camara: ript::adapter::camara::Settings) -> Self {
        let (issuer, passports) = keys();
        let mut settings = settings(&issuer, &passports);
        vouching(&mut settings);
        let served = Served { camara, ..Served::default() };
        Self::whole(settings, served, Arc::new(MemoryStore::new()), issuer, passports, None).await
    }

    /// A world on a given store and address whose CAMARA APIs are served in another way.
    pub async fn with_camara_on(
        settings: Settings,
        camara: ript::adapter::camara::Settings,
        store: Arc<dyn Store>,
        keys: (SigningKey, SigningKey),
        address: Option<SocketAddr>,
    ) -> Self {
        let served = Served { camara, ..Served::default() };
        Self::whole(settings, served, store, keys.0, keys.1, address).await
    }

    /// A world whose resources are served in another way, with other limits of the transport.
    pub async fn serving(resources: resource::Settings, limits: Limits) -> Self {
        let (issuer, passports) = keys();
        let settings = settings(&issuer, &passports);
        let store = Arc::new(MemoryStore::new());
        let served = Served { resources, limits, ..Served::default() };
        Self::whole(settings, served, store, issuer, passports, None).await
    }

    /// A world whose settings were changed first.
    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let (issuer, passports) = keys();
        let mut settings = settings(&issuer, &passports);
        change(&mut settings);
        Self::on(settings, Arc::new(MemoryStore::new()), issuer, passports, None).await
    }

    /// A world on a given store and address, as after a restart.
    pub async fn on(
        settings: Settings,
        store: Arc<dyn Store>,
        issuer: SigningKey,
        passports: SigningKey,
        address: Option<SocketAddr>,
    ) -> Self {
        Self::whole(settings, Served::default(), store, issuer, passports, address).await
    }

    async fn whole(
        settings: Settings,
        served: Served,
        store: Arc<dyn Store>,
        issuer: SigningKey,
        passports: SigningKey,
        address: Option<SocketAddr>,
    ) -> Self {
        let Served { resources, limits, camara } = served;
        let folder = tempfile::tempdir().expect("a folder");
        let ca = ca();
        let server = ca.issue_server(&[], ript::clock::now()).expect("a certificate");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("a file");
            path
        };
        let ca_file = file("ca.pem", ca.cert_pem());
        let keys = tls::TlsKeys::from_files(
            &file("server.pem", &server.cert_pem),
            &file("server-key.pem", &server.key_pem),
        )
        .expect("keys");
        let service = Service::start(settings.clone(), store.clone()).await.expect("services");
        let adapters = ript::adapter::camara::router(service.clone(), camara).await.expect("CAMARA's APIs");
        let adapters = adapters.merge(ript::openapi::routes());
        let resources = resource::Settings { origins: vec!["https://app.example".into()], ..resources };
        let router = resource::router_with(service.clone(), resources, adapters);
        let limits = Arc::new(limits);
        let shutdown = CancellationToken::new();
        let listener =
            TcpListener::bind(address.unwrap_or(([127, 0, 0, 1], 0).into())).await.expect("a TCP port");
        let address = listener.local_addr().expect("an address");
        let quic = quic::QuicServerSettings::new(tls::quic_server(keys.clone()).expect("TLS"), [7; 32]);
        // After a crash the old server's connections may hold it a little longer.
        let endpoints = soon("the UDP port", async {
            loop {
                match quic.bind(&[address]) {
                    Ok(endpoints) => return endpoints,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        })
        .await;
        let tcp_settings = tcp::TcpSettings {
            tls: Some(Arc::new(tls::tcp_server(keys).expect("TLS"))),
            alt_svc_port: Some(address.port()),
        };
        let mut tasks = vec![tokio::spawn(tcp::serve_tcp(
            listener,
            tcp_settings,
            router.clone(),
            limits.clone(),
            shutdown.clone(),
        ))];
        for endpoint in endpoints {
            tasks.push(tokio::spawn(h3::serve_endpoint(
                endpoint,
                router.clone(),
                limits.clone(),
                shutdown.clone(),
            )));
        }
        Self { address, service, store, issuer, passports, ca: ca_file, settings, tasks, folder }
    }

    /// Ends the server as a crash would: nothing is said to anybody.
    pub async fn crash(self) -> (Settings, Arc<dyn Store>, SigningKey, SigningKey, SocketAddr) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        self.service.stop();
        for task in self.tasks {
            let _ = task.await;
        }
        (self.settings, self.store, self.issuer, self.passports, self.address)
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.address.port())
    }
}

/// Waits for something that has to come.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("{what} did not come within {PATIENCE:?}"),
    }
}
