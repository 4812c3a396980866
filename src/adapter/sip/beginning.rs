//! A request that begins something, and how it is responded to.

use std::net::SocketAddr;
use std::sync::Arc;

use rsipstack::sip::{Request, Response, Transport};
use rsipstack::transaction::Transaction;
use rsipstack::transaction::transaction::{TransactionEvent, TransactionEventSender};
use rsipstack::transport::SipConnection;
use tokio::sync::mpsc;

use super::routes::Arrived;

/// How a request is responded to.
#[derive(Clone)]
pub struct Responder {
    pub(super) sender: TransactionEventSender,
    /// What the request came by, and the response goes by.
    pub(super) transport: Transport,
}

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Responder")
    }
}

impl Responder {
    /// A stream's place says what it is; UDP has none.
    pub(super) fn of(transaction: &Transaction) -> Self {
        let remote = transaction.connection.as_ref().and_then(SipConnection::get_remote_addr);
        let transport = remote.and_then(|remote| remote.r#type).unwrap_or(Transport::Udp);
        Self { sender: transaction.tu_sender.clone(), transport }
    }

    /// Sends a response; a final one is repeated as RFC 3261 §17.2 wants it.
    pub fn respond(&self, response: Response) {
        // Whose transaction has ended waits for nothing.
        let _ = self.sender.send(TransactionEvent::Respond(response));
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
    /// RFC 5922 §7.1: whom the far end's certificate names; none: it showed none that is taken.
    pub names: Option<Arc<[String]>>,
    /// What belongs to it comes here: its CANCEL and ACK.
    pub(super) inbox: mpsc::Sender<Arrived>,
    /// The other end of that.
    pub(super) arrived: mpsc::Receiver<Arrived>,
}
