//! The two relays.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use ript::identity::devca::DevCa;
use ript::identity::jwk::SigningKey;
use ript::protocol::varint;
use ript::store::memory::MemoryStore;
use ript::transport::{quic, tls};

use crate::Place;
use crate::common::{World, settings};
use crate::process::serve;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// The server, whole.
pub fn ript() {
    runtime().block_on(async {
        let issuer = SigningKey::generate().expect("a key");
        let passports = SigningKey::generate().expect("a key");
        let (issuer_pem, passports_pem) = (issuer.to_pem(), passports.to_pem());
        let settings = settings(&issuer, &passports);
        let world = World::on(settings, Arc::new(MemoryStore::new()), issuer, passports, None).await;
        let (port, ca) = (world.address.port(), world.ca.clone());
        serve(&Place { port, ca, issuer: issuer_pem, passports: passports_pem }).await;
    });
}

/// The connections, each under the number it gave itself; the peer of an even one is the next.
#[derive(Default)]
struct Table {
    all: std::sync::Mutex<HashMap<u64, quinn::Connection>>,
}

/// quinn, and as little else as can relay.
pub fn bare() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = DevCa::generate(ript::clock::now()).expect("a CA");
        let server = ca.issue_server(&[], ript::clock::now()).expect("a certificate");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("a file");
            path
        };
        let keys = tls::TlsKeys::from_files(
            &file("server.pem", &server.cert_pem),
            &file("server-key.pem", &server.key_pem),
        );
        let tls = tls::quic_server(keys.expect("keys")).expect("TLS");
        let settings = quic::QuicServerSettings::new(tls, [7; 32]);
        let socket = quic::udp_socket(([127, 0, 0, 1], 0).into()).expect("a UDP port");
        let config = settings.server_config().expect("a configuration");
        // quinn as it comes: on the runtime's threads.
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = quinn::Endpoint::new(quinn::EndpointConfig::default(), Some(config), socket, runtime)
            .expect("an endpoint");
        let port = endpoint.local_addr().expect("an address").port();
        let table = Arc::new(Table::default());
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(relay(incoming, table.clone()));
            }
        });
        let ca = file("ca.pem", ca.cert_pem());
        serve(&Place { port, ca, issuer: String::new(), passports: String::new() }).await;
    });
}

/// A connection names itself on its first stream, with the calls that it carries; then datagrams, `call | anything`.
async fn relay(incoming: quinn::Incoming, table: Arc<Table>) {
    let conn = incoming.await.expect("a connection");
    let mut hello = conn.accept_uni().await.expect("a stream");
    let hello: (u64, Vec<u64>) =
        serde_json::from_slice(&hello.read_to_end(1 << 16).await.expect("a hello")).expect("a hello");
    let (own, calls) = hello;
    table.all.lock().expect("no panic").insert(own, conn.clone());
    let peers: OnceLock<HashMap<u64, quinn::Connection>> = OnceLock::new();
    while let Ok(datagram) = conn.read_datagram().await {
        let peers = peers.get_or_init(|| {
            let peer =
                table.all.lock().expect("no panic").get(&(own ^ 1)).expect("the peer came first").clone();
            calls.iter().map(|call| (*call, peer.clone())).collect()
        });
        let peer = varint::get(&datagram).and_then(|(call, _)| peers.get(&call));
        if let Some(peer) = peer {
            let _ = peer.send_datagram(datagram);
        }
    }
}
