//! A user agent's place at a SIP end: its requests leave by it, and what belongs to its dialogs comes in.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rsipstack::sip::headers::{CSeq, ContentLength, Header, Reason, Via};
use rsipstack::sip::uri::ParamsExt as _;
use rsipstack::sip::{HeadersExt, Method, Request, Response, SipMessage, Transport};
use rsipstack::transaction::Transaction;
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use rsipstack::transport::SipConnection;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::beginning::{Beginning, Responder};
use super::hop::{self, Hop};
use super::reply;
use super::routes::{Arrived, is_invite, is_success};
use super::stack::{Stack, other, sip};
use super::ua::{ClientId, Input, ServerId};

/// What may wait for one user agent.
const INBOX: usize = 64;
/// Requests of the far side that are not answered yet.
const UNANSWERED: usize = 64;

/// Dialogs of one user agent.
const DIALOGS: usize = 4;

/// RFC 3261 §8.1.1.7
const MAGIC: &str = "z9hG4bK";

/// The place; when it is dropped, whose request waits is refused.
#[derive(Debug)]
pub struct Seat {
    stack: Arc<Stack>,
    inbox: mpsc::Sender<Arrived>,
    arrived: mpsc::Receiver<Arrived>,
    dialogs: Vec<(String, String)>,
    /// INVITEs as they went out, where to, and their branches.
    invites: HashMap<ClientId, (Request, Hop, String)>,
    unanswered: HashMap<ServerId, (Responder, Box<Request>)>,
    next: ServerId,
    hops: HashMap<String, Hop>,
    /// The connection that the dialog's first request came by.
    came: Option<SocketAddr>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        for key in &self.dialogs {
            self.stack.routes.leave(key);
        }
        for (_, _, branch) in self.invites.values() {
            self.stack.routes.forget(branch);
        }
        for (responder, request) in self.unanswered.values() {
            responder.respond(reply::response(request, 500, vec![]));
        }
    }
}

impl Seat {
    /// For a user agent of ours.
    pub fn new(stack: &Arc<Stack>) -> Self {
        let (inbox, arrived) = mpsc::channel(INBOX);
        Self::with(stack, inbox, arrived)
    }

    /// For one that answers; with the first request's name.
    pub fn of(stack: &Arc<Stack>, beginning: Beginning) -> (Self, ServerId, Request) {
        let Beginning { request, responder, from, transport, inbox, arrived, .. } = beginning;
        let mut seat = Self::with(stack, inbox, arrived);
        seat.came = (transport != Transport::Udp).then_some(from);
        let id = seat.name(Some(responder), &request);
        (seat, id, request)
    }

    fn with(stack: &Arc<Stack>, inbox: mpsc::Sender<Arrived>, arrived: mpsc::Receiver<Arrived>) -> Self {
        Self {
            stack: Arc::clone(stack),
            inbox,
            arrived,
            dialogs: Vec::new(),
            invites: HashMap::new(),
            unanswered: HashMap::new(),
            next: 0,
            hops: HashMap::new(),
            came: None,
        }
    }

    /// Requests of the dialog that this request of ours begins come here.
    pub fn claim_by(&mut self, request: &Request) {
        let tag = request.from_header().ok().and_then(|from| from.tag().ok().flatten());
        if let (Ok(call_id), Some(tag)) = (request.call_id_header(), tag) {
            self.claim(call_id.value(), tag.value());
        }
    }

    /// Requests of this dialog come here.
    pub fn claim(&mut self, call_id: &str, local_tag: &str) {
        let key = (call_id.to_owned(), local_tag.to_owned());
        if self.dialogs.contains(&key) {
            return;
        }
        // Who begins one dialog after the other needs the old ones no more.
        if self.dialogs.len() >= DIALOGS {
            self.stack.routes.leave(&self.dialogs.remove(0));
        }
        self.stack.routes.enter(key.clone(), self.inbox.clone());
        self.dialogs.push(key);
    }

    /// Requests for this URI's host go there, whatever DNS says.
    pub fn prefer(&mut self, uri: &str, hop: Hop) {
        if let Ok(uri) = hop::uri(uri) {
            self.hops.insert(place(&uri), hop);
        }
    }

    fn name(&mut self, responder: Option<Responder>, request: &Request) -> ServerId {
        self.next += 1;
        if let Some(responder) = responder {
            if self.unanswered.len() >= UNANSWERED {
                responder.respond(reply::response(request, 500, vec![("Retry-After", "1".to_owned())]));
            } else {
                self.unanswered.insert(self.next, (responder, Box::new(request.clone())));
            }
        }
        self.next
    }

    /// What happens next.
    pub async fn next(&mut self) -> Input {
        match self.arrived.recv().await {
            Some(Arrived::Request(request, responder)) => {
                let id = self.name(responder, &request);
                Input::Request(id, *request)
            }
            Some(Arrived::Response(id, response)) => Input::Response(id, *response),
            // Its own sender is held here.
            None => std::future::pending().await,
        }
    }

    /// Responds.
    pub fn respond(&mut self, id: ServerId, mut response: Response) {
        if let Some((responder, request)) = self.unanswered.get(&id)
            && !self.may_carry(&response.body, responder.transport)
        {
            tracing::debug!("an answer with keys would go where others can read it");
            response = reply::response(request, 488, vec![]);
        }
        let last = u16::from(response.status_code.clone()) >= 200;
        if let Some((responder, _)) = self.unanswered.get(&id) {
            responder.respond(response);
        }
        if last {
            self.unanswered.remove(&id);
        }
    }

    /// Sends a request in a transaction of its own; what can't be sent is answered by 503.
    pub async fn request(&mut self, id: ClientId, request: Request) {
        let unsent = reply::response(&request, 503, vec![]);
        if let Err(error) = self.start(id, request).await {
            tracing::debug!(%error, "a SIP request could not be sent");
            let _ = self.inbox.try_send(Arrived::Response(id, Box::new(unsent)));
        }
    }

    async fn start(&mut self, id: ClientId, request: Request) -> io::Result<()> {
        let hop = self.hop(&request).await?;
        self.check(&request, &hop)?;
        let branch = format!("{MAGIC}{}", uuid::Uuid::new_v4().simple());
        let request = via(&self.stack, request, &hop, &branch);
        if request.method == Method::Invite {
            self.stack.routes.invite(branch.clone(), id, self.inbox.clone());
            self.invites.insert(id, (request.clone(), hop.clone(), branch));
        }
        self.transact(id, request, &hop, true).await
    }

    async fn transact(&self, id: ClientId, request: Request, hop: &Hop, told: bool) -> io::Result<()> {
        let connection = self.connection(hop).await?;
        let endpoint = self.stack.endpoint.inner.clone();
        let key = TransactionKey::from_request(&request, TransactionRole::Client).map_err(other)?;
        let unsent = reply::response(&request, 503, vec![]);
        let gone = connection.cancel_token();
        let mut transaction = Transaction::new_client(key, request, endpoint, Some(connection));
        transaction.destination = Some(sip(hop.transport, hop.address));
        transaction.send().await.map_err(other)?;
        let inbox = self.inbox.clone();
        self.stack.spawn(async move {
            let mut heard = false;
            loop {
                let message = tokio::select! {
                    message = transaction.receive() => message,
                    // RFC 3261 §18.4; once something was answered the rest may come by another connection.
                    () = closed(gone.as_ref()), if told && !heard => {
                        let _ = inbox.send(Arrived::Response(id, Box::new(unsent))).await;
                        return;
                    }
                };
                let Some(message) = message else { return };
                let SipMessage::Response(response) = message else { continue };
                heard = true;
                // 2xx of an INVITE come another way, each of them.
                if told && !(is_invite(&response) && is_success(&response)) {
                    let _ = inbox.send(Arrived::Response(id, Box::new(response))).await;
                }
            }
        });
        Ok(())
    }

    /// RFC 3261 §9.1: cancels an INVITE.
    pub async fn cancel(&mut self, id: ClientId, reason: Option<String>) {
        let Some((invite, hop, _)) = self.invites.get(&id) else { return };
        let mut cancel = invite.clone();
        cancel.method = Method::Cancel;
        cancel.body.clear();
        let seq = invite.cseq_header().ok().and_then(|cseq| cseq.seq().ok()).unwrap_or(1);
        cancel.headers.retain(|header| {
            matches!(
                header,
                Header::Via(_)
                    | Header::From(_)
                    | Header::To(_)
                    | Header::CallId(_)
                    | Header::Route(_)
                    | Header::MaxForwards(_)
            )
        });
        cancel.headers.push(Header::CSeq(CSeq::new(format!("{seq} CANCEL"))));
        cancel.headers.extend(reason.map(|reason| Header::Reason(Reason::new(reason))).into_iter().collect());
        cancel.headers.push(Header::ContentLength(ContentLength::from(0_u32)));
        if let Err(error) = self.transact(id, cancel, hop, false).await {
            tracing::debug!(%error, "a CANCEL could not be sent");
        }
    }

    /// Acknowledges a 2xx.
    pub async fn acknowledge(&mut self, ack: Request) {
        if let Err(error) = self.send(ack).await {
            tracing::debug!(%error, "an ACK could not be sent");
        }
    }

    async fn send(&mut self, request: Request) -> io::Result<()> {
        let hop = self.hop(&request).await?;
        self.check(&request, &hop)?;
        let branch = format!("{MAGIC}{}", uuid::Uuid::new_v4().simple());
        let mut request = via(&self.stack, request, &hop, &branch);
        request.headers.unique_push(Header::ContentLength(ContentLength::from(request.body.len() as u32)));
        let connection = self.connection(&hop).await?;
        connection.send(request.into(), Some(&sip(hop.transport, hop.address))).await.map_err(other)
    }

    /// RFC 4568 §8.3: keys don't go where others can read them, whoever put them there.
    fn may_carry(&self, body: &[u8], transport: Transport) -> bool {
        const KEYS: &[u8] = b"a=crypto:";
        transport == Transport::Tls
            || self.stack.habits.keys_in_clear
            || !body.windows(KEYS.len()).any(|at| at.eq_ignore_ascii_case(KEYS))
    }

    fn check(&self, request: &Request, hop: &Hop) -> io::Result<()> {
        match self.may_carry(&request.body, hop.transport) {
            true => Ok(()),
            false => Err(io::Error::other("keys for SRTP would go where others can read them")),
        }
    }

    async fn connection(&self, hop: &Hop) -> io::Result<SipConnection> {
        if hop.transport != Transport::Udp {
            return self.stack.streams.to(hop, self.came).await;
        }
        let layer = &self.stack.endpoint.inner.transport_layer;
        Ok(layer.lookup(&sip(hop.transport, hop.address), None).await.map_err(other)?.0)
    }

    /// RFC 3261 §8.1.2: the first route, or whom the request is for.
    async fn hop(&mut self, request: &Request) -> io::Result<Hop> {
        let next = request.destination();
        let place = place(&next);
        if let Some(hop) = self.hops.get(&place) {
            return Ok(hop.clone());
        }
        let hops = self.stack.hops(&next).await.map_err(io::Error::other)?;
        let hop = hops.into_iter().next().ok_or_else(|| io::Error::other("no hop"))?;
        self.hops.insert(place, hop.clone());
        Ok(hop)
    }
}

async fn closed(connection: Option<&CancellationToken>) {
    match connection {
        Some(connection) => connection.cancelled().await,
        None => std::future::pending().await,
    }
}

fn place(uri: &rsipstack::sip::Uri) -> String {
    let transport = uri.transport().map(ToString::to_string).unwrap_or_default().to_ascii_lowercase();
    format!("{};{transport}", uri.host_with_port)
}

/// RFC 3261 §18.1.1, RFC 3581 §3, RFC 5923 §5.1
fn via(stack: &Stack, mut request: Request, hop: &Hop, branch: &str) -> Request {
    let address = stack.address(hop.transport);
    let (name, alias) = match hop.transport {
        Transport::Tcp => ("TCP", ";alias"),
        Transport::Tls => ("TLS", ";alias"),
        _ => ("UDP", ""),
    };
    let via = format!("SIP/2.0/{name} {address};rport{alias};branch={branch}");
    request.headers.push_front(Header::Via(Via::new(via)));
    request
}
