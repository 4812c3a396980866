//! QUIC endpoints, their buffers and bounds.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, Runtime, ServerConfig,
    TokioRuntime, TransportConfig, VarInt,
};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{hkdf, hmac};

use super::TransportError;
use super::plane::Plane;

/// quinn's default would hold three minutes of speech.
pub(super) const DATAGRAM_SEND_BUFFER: usize = 64 * 1024;
const DATAGRAM_RECEIVE_BUFFER: usize = 256 * 1024;
/// What comes while all cores are busy waits here. The usual 208 KiB hold 15 ms of 200 calls, and what is lost here is
/// media that nobody sends again.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// quinn's default of 20 ms would let the calls of a dead server find out one after another, for many seconds.
const RESET_INTERVAL: Duration = Duration::from_millis(1);
/// Of our connection ids.
const ID_LEN: usize = 8;
/// Buffered for one stream, and for one connection, before the reader takes it.
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// What a server's QUIC endpoints are made from.
#[derive(Clone, Debug)]
pub struct QuicServerSettings {
    /// From [`super::tls::quic_server`].
    pub tls: rustls::ServerConfig,
    /// A secret that outlives the process and is shared by a cluster: stateless resets and address tokens come of it.
    pub reset_key: [u8; 32],
    /// Request streams that a peer may have open at once.
    pub max_bidi_streams: u32,
    /// Unidirectional streams that a peer may have open at once.
    pub max_uni_streams: u32,
    /// A connection that is silent for so long is gone.
    pub idle_timeout: Duration,
    /// How often we keep a quiet connection alive.
    pub keep_alive: Duration,
    /// Handshakes that may wait to be accepted.
    pub max_incoming: usize,
}

impl QuicServerSettings {
    /// The usual bounds.
    pub fn new(tls: rustls::ServerConfig, reset_key: [u8; 32]) -> Self {
        Self {
            tls,
            reset_key,
            max_bidi_streams: 1_500,
            max_uni_streams: 1_000,
            idle_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(10),
            max_incoming: 1_024,
        }
    }

    /// quinn's server configuration.
    pub fn server_config(&self) -> Result<ServerConfig, TransportError> {
        let tls =
            QuicServerConfig::try_from(self.tls.clone()).map_err(|e| TransportError::Quic(e.to_string()))?;
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"ript address tokens");
        let mut config = ServerConfig::new(Arc::new(tls), Arc::new(salt.extract(&self.reset_key)));
        let mut transport = transport(self.idle_timeout, self.keep_alive)?;
        transport
            .max_concurrent_bidi_streams(self.max_bidi_streams.into())
            .max_concurrent_uni_streams(self.max_uni_streams.into());
        config
            .transport_config(Arc::new(transport))
            .max_incoming(self.max_incoming)
            .incoming_buffer_size(64 * 1024)
            .incoming_buffer_size_total(8 * 1024 * 1024);
        Ok(config)
    }

    /// RFC 9000 §10.3: with a key that survives us, a restarted or another server ends stale connections at once.
    fn endpoint_config(&self) -> EndpointConfig {
        let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &self.reset_key)));
        config.cid_generator(|| Box::new(RandomIds(SystemRandom::new()))).min_reset_interval(RESET_INTERVAL);
        config
    }

    /// Opens one endpoint on each address. `[::]` takes IPv4 too, where the system does so by default.
    pub fn bind(&self, addresses: &[SocketAddr]) -> Result<Vec<Endpoint>, TransportError> {
        let config = self.server_config()?;
        let open = |address: &SocketAddr| endpoint(*address, self.endpoint_config(), Some(config.clone()));
        addresses.iter().map(open).collect()
    }
}

/// Connection ids that say nothing. quinn's own are marked with a key of the endpoint, and an endpoint without that key
/// answers them with silence instead of a reset.
struct RandomIds(SystemRandom);

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_LEN];
        self.0.fill(&mut id).expect("the system gives random bytes");
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// A UDP socket whose receive buffer outlasts a busy moment.
pub fn udp_socket(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    // The system gives as much of it as it allows.
    if let Err(error) = socket2::SockRef::from(&socket).set_recv_buffer_size(SOCKET_BUFFER) {
        tracing::debug!(%error, "a UDP socket keeps its usual receive buffer");
    }
    Ok(socket)
}

fn endpoint(
    address: SocketAddr,
    config: EndpointConfig,
    server: Option<ServerConfig>,
) -> Result<Endpoint, TransportError> {
    let open = || {
        let socket = udp_socket(address)?;
        let runtime: Arc<dyn Runtime> =
            if server.is_some() { Arc::new(Plane) } else { Arc::new(TokioRuntime) };
        Endpoint::new(config, server, socket, runtime)
    };
    open().map_err(|source| TransportError::Io { what: format!("udp {address}"), source })
}

fn transport(idle: Duration, keep_alive: Duration) -> Result<TransportConfig, TransportError> {
    let idle = idle.try_into().map_err(|_| TransportError::Quic("idle timeout out of range".into()))?;
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(keep_alive))
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_SEND_BUFFER)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(CONNECTION_WINDOW.into());
    Ok(transport)
}

/// quinn's configuration of a client, from [`super::tls::quic_client`].
pub fn client_config(tls: rustls::ClientConfig) -> Result<ClientConfig, TransportError> {
    let tls = QuicClientConfig::try_from(tls).map_err(|e| TransportError::Quic(e.to_string()))?;
    let mut config = ClientConfig::new(Arc::new(tls));
    let mut transport = transport(Duration::from_secs(15), Duration::from_secs(5))?;
    // A server that was away for a moment is found again at once: quinn's first guess is a third of a second.
    transport.initial_rtt(Duration::from_millis(100));
    // A server opens three streams for HTTP/3 and one for every large chunk, and no bidirectional ones.
    transport.max_concurrent_bidi_streams(16_u32.into()).max_concurrent_uni_streams(1_000_u32.into());
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// A client endpoint on any port, for servers of the address family of `towards`.
pub fn client_endpoint(tls: rustls::ClientConfig, towards: SocketAddr) -> Result<Endpoint, TransportError> {
    let local = if towards.is_ipv4() {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
    } else {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
    };
    let mut endpoint = endpoint(local, EndpointConfig::default(), None)?;
    endpoint.set_default_client_config(client_config(tls)?);
    Ok(endpoint)
}
