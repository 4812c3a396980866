//! TCP and TLS: connections are made from our own address, kept, and taken; who shows a certificate is known by it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use rsipstack::sip::Transport;
use rsipstack::transport::{SipConnection, TransportEvent};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

use super::connection::Line;
use super::guard::Gate;
use super::hop::Hop;
use super::stack::{CONNECT, Listen, Stack, other};
use super::tls;
use crate::service::lock;

/// Connections that others made, at once.
const MOST: usize = 1_024;
/// Addresses of which it is known whose they are.
const MOST_KNOWN: usize = 1_024;

/// A connection at work.
type Carrying = Pin<Box<dyn Future<Output = ()> + Send>>;

/// All connections of one end.
pub(super) struct Streams {
    local: IpAddr,
    gate: Arc<Gate>,
    open: Mutex<HashMap<(SocketAddr, Transport), SipConnection>>,
    /// RFC 5922 §7.1: whose an address is, by the names that are configured.
    known: Mutex<HashMap<IpAddr, String>>,
    connector: TlsConnector,
    tcp: Mutex<Option<TcpListener>>,
    tls: Mutex<Option<(TcpListener, TlsAcceptor)>>,
    tls_address: Option<SocketAddr>,
    /// The transactions.
    feed: UnboundedSender<TransportEvent>,
    /// How often who we connected to is asked whether it is there.
    keepalive: Duration,
    stack: OnceLock<Weak<Stack>>,
    stop: CancellationToken,
}

impl Streams {
    /// TCP on the port that UDP has.
    pub(super) async fn bind(
        listen: &Listen,
        bound: SocketAddr,
        gate: Arc<Gate>,
        feed: UnboundedSender<TransportEvent>,
        keepalive: Duration,
        stop: CancellationToken,
    ) -> io::Result<Arc<Self>> {
        let connector = listen.files.connector()?;
        let tls = match listen.tls {
            Some(at) => Some((TcpListener::bind(at).await?, listen.files.acceptor()?)),
            None => None,
        };
        let tls_address = tls.as_ref().map(|(listener, _)| listener.local_addr()).transpose()?;
        Ok(Arc::new(Self {
            local: bound.ip(),
            gate,
            open: Mutex::default(),
            known: Mutex::default(),
            connector,
            tcp: Mutex::new(Some(TcpListener::bind(bound).await?)),
            tls: Mutex::new(tls),
            tls_address,
            feed,
            keepalive,
            stack: OnceLock::new(),
            stop,
        }))
    }

    pub(super) fn is_ipv4(&self) -> bool {
        self.local.is_ipv4()
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
                match own.take(stream, remote, acceptor).await {
                    Ok(carrying) => carrying.await,
                    Err(error) => tracing::debug!(%remote, %error, "a connection comes to nothing"),
                }
                let _ = seats.try_send(());
            });
        }
    }

    async fn take(
        self: &Arc<Self>,
        stream: TcpStream,
        remote: SocketAddr,
        tls: Option<TlsAcceptor>,
    ) -> io::Result<Carrying> {
        let _ = stream.set_nodelay(true);
        let Some(acceptor) = tls else {
            return Ok(self.begin(stream, remote, Transport::Tcp, None).await?.1);
        };
        let stream = timeout(CONNECT, acceptor.accept(stream)).await.map_err(io::Error::other)??;
        if let Some(leaf) = stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
            self.gate.prove(remote, tls::names(leaf));
        }
        Ok(self.begin(stream, remote, Transport::Tls, None).await?.1)
    }

    /// A connection, which is there once it is carried.
    async fn begin<S: AsyncRead + AsyncWrite + Send + 'static>(
        self: &Arc<Self>,
        stream: S,
        remote: SocketAddr,
        transport: Transport,
        ping: Option<Duration>,
    ) -> io::Result<(SipConnection, Carrying)> {
        let (gate, feed, ended) = (self.gate.clone(), self.feed.clone(), self.stop.child_token());
        let line = Line { remote, transport, gate, feed, ping, ended };
        let (connection, outgoing) = line.connection().await.map_err(other)?;
        lock(&self.open).insert((remote, transport), connection.clone());
        let (own, carried) = (Arc::clone(self), connection.clone());
        let carrying = Box::pin(async move {
            line.carry(stream, carried, outgoing).await;
            own.closed(remote, transport);
        });
        Ok((connection, carrying))
    }

    /// A newer one to the same place stays.
    fn closed(&self, remote: SocketAddr, transport: Transport) {
        if self.open(remote, transport).is_none() {
            lock(&self.open).remove(&(remote, transport));
            self.gate.disprove(remote);
        }
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

    pub(super) fn open(&self, remote: SocketAddr, transport: Transport) -> Option<SipConnection> {
        let open = lock(&self.open).get(&(remote, transport)).cloned();
        open.filter(|open| open.cancel_token().is_none_or(|token| !token.is_cancelled()))
    }

    /// The connection to a place, made if there is none. What belongs to a dialog goes to the host that began it by the
    /// connection that it came by, while that is there: its Contact names no certificate's owner, and often a closed port.
    pub(super) async fn to(
        self: &Arc<Self>,
        hop: &Hop,
        came: Option<SocketAddr>,
    ) -> io::Result<SipConnection> {
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
        let ping = Some(self.keepalive);
        let (connection, carrying) = if hop.transport == Transport::Tls {
            let known = lock(&self.known).get(&hop.address.ip()).cloned();
            let named = hop.name.parse::<IpAddr>().is_err();
            let name = known.filter(|_| !named).unwrap_or_else(|| hop.name.clone());
            let owner = ServerName::try_from(name.clone()).map_err(io::Error::other)?;
            let connecting = self.connector.connect(owner, stream);
            let stream = timeout(CONNECT, connecting).await.map_err(late)??;
            // RFC 5923: requests of the far end may come by this connection, and it has shown who it is.
            self.gate.prove(hop.address, [name].into());
            self.begin(stream, hop.address, Transport::Tls, ping).await?
        } else {
            self.begin(stream, hop.address, Transport::Tcp, ping).await?
        };
        let stack = self.stack.get().and_then(Weak::upgrade);
        stack.ok_or_else(|| io::Error::other("this end is gone"))?.spawn(carrying);
        Ok(connection)
    }
}
