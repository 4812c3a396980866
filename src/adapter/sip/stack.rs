//! One SIP end: its sockets, and whose each message is. Parser, transactions and transports are rsipstack's; who is heard is
//! decided before they see a message.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rsipstack::platform::net::UdpSocket as _;
use rsipstack::resolver::SipResolver;
use rsipstack::sip::headers::ToTypedHeader as _;
use rsipstack::sip::{HeadersExt, Method, Request, Response, SipMessage, Transport};
use rsipstack::transaction::endpoint::{EndpointOption, TransportEventInspector};
use rsipstack::transaction::transaction::{TransactionEvent, TransactionEventSender};
use rsipstack::transaction::{Endpoint, EndpointBuilder, Transaction};
use rsipstack::transport::udp::{UdpConnection, UdpInner};
use rsipstack::transport::{SipAddr, SipConnection, TransportEvent, TransportLayer};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::guard::{Admission, Gate, Guarded};
use super::hold::Hold;
use super::hop::{self, Hop, NoHop};
use super::reply;
use super::streams::{Streams, TlsFiles};
use super::strict;
use super::ua::ClientId;
use crate::protocol::network::Network;
use crate::service::lock;
use crate::service::rate::Rate;

/// What may wait for one call's task.
const INBOX: usize = 64;
/// Requests that begin something and wait for their owner.
const BEGINNINGS: usize = 256;
/// RFC 3261 §20.33: how long a peer that sends too much is asked to wait.
const CALM: u32 = 5;

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

/// A message for a call's task.
#[derive(Debug)]
pub(super) enum Arrived {
    /// A request; without a way to respond it is ACK, or a CANCEL that has its answer.
    Request(Box<Request>, Option<Responder>),
    /// A response to ours.
    Response(ClientId, Box<Response>),
}

/// How a request is responded to.
#[derive(Clone)]
pub struct Responder(TransactionEventSender);

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Responder")
    }
}

impl Responder {
    /// Sends a response; a final one is repeated as RFC 3261 §17.2 wants it.
    pub fn respond(&self, response: Response) {
        // Whose transaction has ended waits for nothing.
        let _ = self.0.send(TransactionEvent::Respond(response));
    }
}

/// A request that begins something.
#[derive(Debug)]
pub struct Beginning {
    /// The request.
    pub request: Request,
    /// How to respond.
    pub responder: Responder,
    /// Where it came from.
    pub from: SocketAddr,
    /// How it came.
    pub transport: Transport,
    /// A peer's.
    pub known: bool,
    /// What belongs to it comes here: its CANCEL and ACK.
    pub(super) inbox: mpsc::Sender<Arrived>,
    /// The other end of that.
    pub(super) arrived: mpsc::Receiver<Arrived>,
}

/// Whose a message is.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// By Call-ID and our tag.
    dialogs: Mutex<HashMap<(String, String), mpsc::Sender<Arrived>>>,
    /// By the branch of our INVITE.
    invites: Mutex<HashMap<String, (ClientId, mpsc::Sender<Arrived>)>>,
    /// Requests that begin something and have their transaction.
    begun: Mutex<HashSet<Begun>>,
}

/// RFC 3261 §8.2.2.2: From's tag, Call-ID and CSeq; and for whom, as one end has several user agents.
type Begun = [String; 4];

/// For as long as a request's transaction lasts.
struct Beginner(Arc<Routes>, Begun);

impl Drop for Beginner {
    fn drop(&mut self) {
        lock(&self.0.begun).remove(&self.1);
    }
}

impl Routes {
    pub(super) fn enter(&self, key: (String, String), inbox: mpsc::Sender<Arrived>) {
        lock(&self.dialogs).insert(key, inbox);
    }

    pub(super) fn leave(&self, key: &(String, String)) {
        lock(&self.dialogs).remove(key);
    }

    pub(super) fn invite(&self, branch: String, id: ClientId, inbox: mpsc::Sender<Arrived>) {
        lock(&self.invites).insert(branch, (id, inbox));
    }

    pub(super) fn forget(&self, branch: &str) {
        lock(&self.invites).remove(branch);
    }

    /// None: the same request has come another way (RFC 3261 §8.2.2.2).
    fn begin(self: &Arc<Self>, request: &Request) -> Option<Beginner> {
        let tag = request.from_header().ok().and_then(|from| from.tag().ok().flatten());
        let begun = [
            tag.map(|tag| tag.value().to_owned()).unwrap_or_default(),
            request.call_id_header().map(|id| id.value().to_owned()).unwrap_or_default(),
            request.cseq_header().map(|cseq| cseq.value().to_owned()).unwrap_or_default(),
            request.uri.to_string(),
        ];
        let fresh = lock(&self.begun).insert(begun.clone());
        fresh.then(|| Beginner(self.clone(), begun))
    }

    fn dialog(&self, request: &Request) -> Option<mpsc::Sender<Arrived>> {
        let call = request.call_id_header().ok()?.value().to_owned();
        let tag = request.to_header().ok()?.tag().ok()??.value().to_owned();
        lock(&self.dialogs).get(&(call, tag)).cloned()
    }

    /// RFC 6026 §7.2, RFC 3261 §13.2.2.4: each 2xx of an INVITE is the UA core's, repeated and forked ones too.
    fn accepted(&self, response: &Response) {
        let branch = response.top_via_header().ok().and_then(|via| via.typed().ok());
        let Some(branch) = branch.and_then(|via| via.branch().map(|branch| branch.value().to_owned())) else {
            return;
        };
        let found = lock(&self.invites).get(&branch).cloned();
        if let Some((id, inbox)) = found {
            // A full inbox gets it again: 2xx are repeated until they are acknowledged.
            let _ = inbox.try_send(Arrived::Response(id, Box::new(response.clone())));
        }
    }
}

pub(super) fn is_success(response: &Response) -> bool {
    (200..300).contains(&u16::from(response.status_code.clone()))
}

pub(super) fn is_invite(response: &Response) -> bool {
    response.cseq_header().ok().and_then(|cseq| cseq.method().ok()) == Some(Method::Invite)
}

/// Sees each message before the transactions do.
struct Watch {
    gate: Arc<Gate>,
    routes: Arc<Routes>,
    streams: Arc<Streams>,
}

impl Watch {
    /// Whether the transactions may have this request; if not, it may have been answered.
    async fn admit(&self, request: &Request, by: &SipConnection, from: &SipAddr) -> bool {
        let refuse = |code: u16, headers: Vec<(&str, String)>| {
            let response = reply::response(request, code, headers);
            async move {
                if request.method != Method::Ack {
                    let _ = by.send(response.into(), None).await;
                }
                false
            }
        };
        let Ok(address) = from.get_socketaddr() else { return false };
        if let Err(fault) = strict::check(request) {
            tracing::debug!(fault = fault.why, "a request that is none");
            return refuse(fault.code, fault.headers).await;
        }
        let begins =
            reply::to_tag(request).is_none() && !matches!(request.method, Method::Ack | Method::Cancel);
        match begins.then(|| self.gate.admit(address)) {
            None | Some(Admission::Welcome) => true,
            // RFC 3261 §21.5.4
            Some(Admission::Overload) => refuse(503, vec![("Retry-After", CALM.to_string())]).await,
            Some(Admission::Ignore) => false,
        }
    }
}

#[async_trait]
impl TransportEventInspector for Watch {
    async fn handle(&self, event: TransportEvent) -> Option<TransportEvent> {
        match &event {
            TransportEvent::Incoming(SipMessage::Request(request), by, from) => {
                if !self.admit(request, by, from).await {
                    return None;
                }
            }
            TransportEvent::Incoming(SipMessage::Response(response), ..) => {
                if is_success(response) && is_invite(response) {
                    self.routes.accepted(response);
                }
            }
            TransportEvent::New(_) => {}
            TransportEvent::Closed(connection) => {
                if let Some(remote) = connection.get_remote_addr()
                    && let Ok(remote) = remote.get_socketaddr()
                {
                    self.streams.closed(remote, connection.transport());
                    self.gate.prove(remote, false);
                }
            }
        }
        Some(event)
    }
}

/// One SIP end.
pub struct Stack {
    pub(super) endpoint: Endpoint,
    pub(super) routes: Arc<Routes>,
    pub(super) streams: Arc<Streams>,
    pub(super) resolver: SipResolver,
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
        let stop = CancellationToken::new();
        let gate = Arc::new(Gate::new(listen.peers.clone(), listen.rate));
        let socket = tokio::net::UdpSocket::bind(listen.address).await?;
        let bound = socket.local_addr()?;
        let told = |address: SocketAddr| SocketAddr::new(advertised(listen, address.ip()), address.port());
        let address = told(bound);
        let layer = TransportLayer::new(stop.clone());
        let guarded = Arc::new(Guarded { socket, gate: gate.clone() });
        let local = guarded.local_addr().map_err(other)?;
        let inner = UdpInner { conn: guarded, addr: sip(Transport::Udp, local) };
        let udp = UdpConnection::attach(inner, Some(address), Some(stop.child_token())).await;
        layer.add_transport(udp.into());
        let streams = Streams::bind(listen, bound, address, gate.clone(), stop.clone()).await?;
        let tls = streams.tls().map(told);
        let routes = Arc::new(Routes::default());
        let watch = Watch { gate: gate.clone(), routes: routes.clone(), streams: streams.clone() };
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
            resolver: SipResolver::default(),
            gate,
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
        // RFC 3261 §25.1: what may stand there unescaped.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&b);
        let user = if !user.is_empty() && user.bytes().all(plain) { user } else { "ript" };
        let suffix = match transport {
            Transport::Tcp => ";transport=tcp",
            Transport::Tls => ";transport=tls",
            _ => "",
        };
        format!("sip:{user}@{}{suffix}", self.address(transport))
    }

    /// The places for a URI, the one to try first first.
    pub async fn resolve(&self, uri: &str) -> Result<Vec<Hop>, NoHop> {
        hop::resolve(&self.resolver, &hop::uri(uri)?).await
    }

    /// Takes addresses in that turned out to be a peer's.
    pub fn know(&self, hops: &[Hop]) {
        self.gate.know(hops.iter().map(|hop| hop.address.ip()));
    }

    /// Messages that were dropped, and requests refused for overload.
    pub fn counts(&self) -> (u64, u64) {
        self.gate.counts()
    }

    /// What came by UDP and was no message by RFC 3261: dropped, and refused.
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
        let responder = Responder(transaction.tu_sender.clone());
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
        let responder = Responder(transaction.tu_sender.clone());
        if reply::to_tag(&request).is_some() {
            return self.within(transaction);
        }
        let Some(from) = source(&transaction) else { return };
        let Some(beginner) = self.routes.begin(&request) else {
            responder.respond(reply::response(&request, 482, vec![]));
            self.spawn(serve(transaction, None, None));
            return;
        };
        let transport = transaction.connection.as_ref().map_or(Transport::Udp, SipConnection::transport);
        let known = self.gate.knows(from);
        let (inbox, arrived) = mpsc::channel(INBOX);
        let beginning = Beginning {
            request,
            responder: responder.clone(),
            from,
            transport,
            known,
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

fn source(transaction: &Transaction) -> Option<SocketAddr> {
    transaction.connection.as_ref()?.get_remote_addr()?.get_socketaddr().ok()
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
