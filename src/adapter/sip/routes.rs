//! Whose a message is: a dialog's, an INVITE's, or that of a request which begins something.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use rsipstack::sip::headers::ToTypedHeader as _;
use rsipstack::sip::{HeadersExt, Method, Request, Response};
use tokio::sync::mpsc;

use super::beginning::Responder;
use super::ua::ClientId;
use crate::service::lock;

/// A message for a call's task.
#[derive(Debug)]
pub(super) enum Arrived {
    /// A request; without a way to respond it is ACK, or a CANCEL that has its answer.
    Request(Box<Request>, Option<Responder>),
    /// A response to ours.
    Response(ClientId, Box<Response>),
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
pub(super) struct Beginner(Arc<Routes>, Begun);

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
    pub(super) fn begin(self: &Arc<Self>, request: &Request) -> Option<Beginner> {
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

    pub(super) fn dialog(&self, request: &Request) -> Option<mpsc::Sender<Arrived>> {
        let call = request.call_id_header().ok()?.value().to_owned();
        let tag = request.to_header().ok()?.tag().ok()??.value().to_owned();
        lock(&self.dialogs).get(&(call, tag)).cloned()
    }

    /// RFC 6026 §7.2, RFC 3261 §13.2.2.4: each 2xx of an INVITE is the UA core's, repeated and forked ones too.
    pub(super) fn accepted(&self, response: &Response) {
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
