//! One SIP end: its sockets, and whose each message is. Parser, transactions and transports are rsipstack's; who is heard is
//! decided before they see a message.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rsipstack::sip::{HeadersExt as _, Method, Request, SipMessage, Transport, Uri};
use rsipstack::transaction::endpoint::EndpointOption;
use rsipstack::transaction::{Endpoint, EndpointBuilder, Transaction};
use rsipstack::transport::channel::ChannelConnection;
use rsipstack::transport::transport_layer::DomainResolver;
use rsipstack::transport::udp::{UdpConnection, UdpInner};
use rsipstack::transport::{SipAddr, SipConnection, TransportLayer};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::beginning::{Beginning, Responder};
use super::datagrams::Datagrams;
use super::guard::Gate;
use super::hold::Hold;
use super::hop::{self, Hop, NoHop};
use super::names::Names;
use super::reply;
use super::routes::{Arrived, Beginner, Routes};
use super::streams::Streams;
use super::tls::TlsFiles;
use super::watch::Watch;
use crate::protocol::network::Network;
use crate::service::lock;
use crate::service::rate::Rate;

/// What may wait for one call's task.
const INBOX: usize = 64;
/// Requests that begin something and wait for their owner.
const BEGINNINGS: usize = 256;
/// RFC 3261 §20.33: how long a peer that sends too much is asked to wait.
pub(super) const CALM: u32 = 5;

/// How an end does what it does.
#[derive(Clone, Debug, Default)]
pub struct Habits {
    /// The DNS servers that are asked; none: the system's.
    pub dns: Vec<SocketAddr>,
    /// RFC 5626 §4.4.1: how often who we connected to is asked whether it is there; none: as usual.
    pub keepalive: Option<Duration>,
    /// Keys of media may go by UDP and TCP, where others can read them.
    pub keys_in_clear: bool,
}

/// RFC 5626 §4.4.1: at the latest.
const KEEPALIVE: Duration = Duration::from_secs(120);

/// Where one end listens, and to whom.
#[derive(Clone, Debug)]
pub struct Listen {
    /// UDP and TCP.
    pub address: SocketAddr,
    /// What others are told, if not that.
    pub public: Option<IpAddr>,
    /// TLS, on an address of its own.
    pub tls: Option<SocketAddr>,
    /// Certificates.
    pub files: TlsFiles,
    /// Who is heard.
    pub peers: Vec<Network>,
    /// Requests a second that begin something, of one peer.
    pub rate: Rate,
}

/// One SIP end.
pub struct Stack {
    pub(super) endpoint: Endpoint,
    pub(super) routes: Arc<Routes>,
    pub(super) streams: Arc<Streams>,
    names: Names,
    pub(super) habits: Habits,
    gate: Arc<Gate>,
    hold: Hold,
    /// What others are told.
    address: SocketAddr,
    tls: Option<SocketAddr>,
    /// Transactions; aborted when it is dropped.
    tasks: Mutex<JoinSet<()>>,
    stop: CancellationToken,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Stack {
    /// Binds, and listens. What begins something comes by the receiver.
    pub async fn bind(listen: &Listen) -> io::Result<(Arc<Self>, mpsc::Receiver<Beginning>)> {
        Self::bind_with(listen, Habits::default()).await
    }

    /// The same, with other habits than the usual ones.
    pub async fn bind_with(
        listen: &Listen,
        habits: Habits,
    ) -> io::Result<(Arc<Self>, mpsc::Receiver<Beginning>)> {
        let stop = CancellationToken::new();
        let gate = Arc::new(Gate::new(listen.peers.clone(), listen.rate));
        let socket = tokio::net::UdpSocket::bind(listen.address).await?;
        let bound = socket.local_addr()?;
        let told = |address: SocketAddr| SocketAddr::new(advertised(listen, address.ip()), address.port());
        let address = told(bound);
        let layer = TransportLayer::new_with_domain_resolver(stop.clone(), Box::new(NoNames));
        let datagrams = Arc::new(Datagrams(socket));
        let inner = UdpInner { conn: datagrams.clone(), addr: sip(Transport::Udp, bound) };
        let udp = UdpConnection::attach(inner, Some(address), Some(stop.child_token())).await;
        layer.add_transport(udp.clone().into());
        // All that comes goes to the transactions by this, whatever socket it came by.
        let (feed, fed) = mpsc::unbounded_channel();
        let nowhere = sip(Transport::Udp, (Ipv4Addr::UNSPECIFIED, 0).into());
        let feeder =
            ChannelConnection::create_connection(fed, mpsc::unbounded_channel().0, nowhere, None).await;
        layer.add_connection(feeder.map_err(other)?.into());
        let keepalive = habits.keepalive.unwrap_or(KEEPALIVE);
        let streams =
            Streams::bind(listen, bound, gate.clone(), feed.clone(), keepalive, stop.clone()).await?;
        let tls = streams.tls().map(told);
        let routes = Arc::new(Routes::default());
        let watch = Watch { gate: gate.clone(), routes: routes.clone() };
        // RFC 3261 §13.2.2.4: the UA core acknowledges 2xx.
        let option = EndpointOption { auto_ack_2xx: false, ..EndpointOption::default() };
        let endpoint = EndpointBuilder::new()
            .with_user_agent(PRODUCT)
            .with_transport_layer(layer)
            .with_cancel_token(stop.clone())
            .with_transport_inspector(Box::new(watch))
            .with_option(option)
            .build();
        let mut incoming = endpoint.incoming_transactions().map_err(other)?;
        let (begin, beginnings) = mpsc::channel(BEGINNINGS);
        let stack = Arc::new(Self {
            endpoint,
            routes,
            streams,
            names: Names::new(&habits.dns),
            habits,
            gate: gate.clone(),
            hold: Hold::default(),
            address,
            tls,
            tasks: Mutex::default(),
            stop: stop.clone(),
        });
        let serving = stack.endpoint.inner.clone();
        stack.spawn(async move {
            let _ = serving.serve().await;
        });
        stack.spawn(datagrams.listen(gate, udp, feed));
        stack.streams.serve(&stack);
        let weak = Arc::downgrade(&stack);
        stack.spawn(async move {
            while let Some(transaction) = incoming.recv().await {
                let Some(stack) = weak.upgrade() else { return };
                stack.received(transaction, &begin);
            }
        });
        Ok((stack, beginnings))
    }

    /// Where it is reached, as others are told.
    pub fn address(&self, transport: Transport) -> SocketAddr {
        self.tls.filter(|_| transport == Transport::Tls).unwrap_or(self.address)
    }

    /// A URI by which others reach a user of this end.
    pub fn contact(&self, user: &str, transport: Transport) -> String {
        let suffix = match transport {
            Transport::Tcp => ";transport=tcp",
            Transport::Tls => ";transport=tls",
            _ => "",
        };
        format!("sip:{}@{}{suffix}", plain(user), self.address(transport))
    }

    /// The same for sips: what is there is reached by TLS only (RFC 3261 §8.1.1.8).
    pub fn secure_contact(&self, user: &str) -> String {
        format!("sips:{}@{}", plain(user), self.address(Transport::Tls))
    }

    /// The places for a URI, the one to try first first.
    pub async fn resolve(&self, uri: &str) -> Result<Vec<Hop>, NoHop> {
        self.hops(&hop::uri(uri)?).await
    }

    pub(super) async fn hops(&self, uri: &Uri) -> Result<Vec<Hop>, NoHop> {
        let mut hops = self.names.resolve(uri).await?;
        if self.streams.is_ipv4() {
            hops.retain(|hop| hop.address.is_ipv4());
        }
        match hops.is_empty() {
            false => Ok(hops),
            true => {
                let (name, why) = (uri.host_with_port.to_string(), "this end has IPv4 only".to_owned());
                Err(NoHop::Name { name, why })
            }
        }
    }

    /// Cancelled when the connection to a place is gone; none: there is none.
    pub fn flow(&self, hop: &Hop) -> Option<CancellationToken> {
        self.streams.open(hop.address, hop.transport)?.cancel_token()
    }

    /// Takes addresses in that turned out to be a peer's.
    pub fn know(&self, hops: &[Hop]) {
        self.gate.know(hops.iter().map(|hop| hop.address.ip()));
        self.streams.know(hops);
    }

    /// Messages that were dropped, and requests refused for overload.
    pub fn counts(&self) -> (u64, u64) {
        self.gate.counts()
    }

    /// What came and was no message by RFC 3261: dropped, and refused.
    pub fn malformed(&self) -> (u64, u64) {
        self.gate.malformed()
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task)
    }

    /// While calls are taken up again that this end had before: a request of a dialog that is not known waits.
    pub fn hold(&self, holds: bool) {
        self.hold.set(holds);
    }

    /// Requests that wait.
    pub fn held(&self) -> usize {
        self.hold.waiting()
    }

    /// A dialog's new server transaction.
    pub(super) fn within(self: &Arc<Self>, transaction: Transaction) {
        let request = transaction.original.clone();
        let responder = Responder::of(&transaction);
        let refuse = |request: &Request, code, headers| {
            responder.respond(reply::response(request, code, headers));
        };
        let calm = || vec![("Retry-After", CALM.to_string())];
        if let Some(inbox) = self.routes.dialog(&request) {
            let arrived = Arrived::Request(Box::new(request), Some(responder.clone()));
            if let Err(unheard) = inbox.try_send(arrived)
                && let Arrived::Request(request, _) = unheard.into_inner()
            {
                refuse(&request, 500, calm());
            }
            self.spawn(serve(transaction, Some(inbox), None));
            return;
        }
        if self.hold.is_on() {
            if let Some(room) = self.hold.room() {
                self.spawn(room.wait(Arc::downgrade(self), transaction));
                return;
            }
            refuse(&request, 503, calm());
        } else {
            // RFC 3261 §12.2.2
            refuse(&request, 481, vec![]);
        }
        self.spawn(serve(transaction, None, None));
    }

    /// A new server transaction: a dialog's, or the beginning of something.
    fn received(self: &Arc<Self>, transaction: Transaction, begin: &mpsc::Sender<Beginning>) {
        let request = transaction.original.clone();
        let responder = Responder::of(&transaction);
        if reply::to_tag(&request).is_some() {
            return self.within(transaction);
        }
        let Some(from) = source(&transaction) else { return };
        let Some(beginner) = self.routes.begin(&request) else {
            responder.respond(reply::response(&request, 482, vec![]));
            self.spawn(serve(transaction, None, None));
            return;
        };
        let (known, names) = (self.gate.knows(from), self.gate.names(from));
        let (inbox, arrived) = mpsc::channel(INBOX);
        let beginning = Beginning {
            request,
            responder: responder.clone(),
            from,
            transport: responder.transport,
            known,
            names,
            inbox: inbox.clone(),
            arrived,
        };
        if let Err(full) = begin.try_send(beginning) {
            let request = full.into_inner().request;
            responder.respond(reply::response(&request, 503, vec![("Retry-After", CALM.to_string())]));
        }
        self.spawn(serve(transaction, Some(inbox), Some(beginner)));
    }
}

/// Drives a server transaction; CANCEL and ACK are passed on.
async fn serve(
    mut transaction: Transaction,
    inbox: Option<mpsc::Sender<Arrived>>,
    _beginner: Option<Beginner>,
) {
    if transaction.original.method == Method::Invite {
        // RFC 3261 §17.2.1
        let _ = transaction.send_trying().await;
    }
    while let Some(message) = transaction.receive().await {
        if let (SipMessage::Request(request), Some(inbox)) = (message, &inbox) {
            let _ = inbox.send(Arrived::Request(Box::new(request), None)).await;
        }
    }
}

/// Transactions are given addresses. What they would look up is in a message of a stranger, and all others would wait.
struct NoNames;

#[async_trait]
impl DomainResolver for NoNames {
    async fn resolve(&self, target: &SipAddr) -> rsipstack::Result<SipAddr> {
        Err(rsipstack::Error::DnsResolutionError(target.to_string()))
    }
}

/// RFC 3261 §25.1: what may stand before an @ unescaped.
fn plain(user: &str) -> &str {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&b);
    if !user.is_empty() && user.bytes().all(plain) { user } else { "ript" }
}

/// A stream's far end; of UDP, what was written into Via when it came (RFC 3261 §18.2.1, RFC 3581 §4).
fn source(transaction: &Transaction) -> Option<SocketAddr> {
    if let Some(remote) = transaction.connection.as_ref()?.get_remote_addr() {
        return remote.get_socketaddr().ok();
    }
    let via = transaction.original.via_header().ok()?;
    let (_, from) = SipConnection::parse_target_from_via(via).ok()?;
    from.try_into().ok()
}

fn advertised(listen: &Listen, bound: IpAddr) -> IpAddr {
    if let Some(public) = listen.public {
        return public;
    }
    if !bound.is_unspecified() {
        return bound;
    }
    let own = if_addrs::get_if_addrs().unwrap_or_default();
    let mut own = own.iter().map(if_addrs::Interface::ip);
    let fallback = if bound.is_ipv6() { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
    own.find(|ip| !ip.is_loopback() && ip.is_ipv6() == bound.is_ipv6()).unwrap_or(fallback)
}

pub(super) fn sip(transport: Transport, address: SocketAddr) -> SipAddr {
    SipAddr::new(transport, address.into())
}

pub(super) fn other(error: rsipstack::Error) -> io::Error {
    io::Error::other(error.to_string())
}

/// User-Agent and Server.
pub const PRODUCT: &str = concat!("ript/", env!("CARGO_PKG_VERSION"));

/// How long a connection to a peer may take.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
