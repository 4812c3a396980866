//! Each message is seen here before the transactions have it.

use std::sync::Arc;

use async_trait::async_trait;
use rsipstack::sip::{Method, Request, SipMessage};
use rsipstack::transaction::endpoint::TransportEventInspector;
use rsipstack::transport::{SipAddr, SipConnection, TransportEvent};

use super::guard::{Admission, Gate};
use super::reply;
use super::routes::{Routes, is_invite, is_success};
use super::stack::CALM;
use super::strict;

/// Sees each message before the transactions do.
pub(super) struct Watch {
    pub(super) gate: Arc<Gate>,
    pub(super) routes: Arc<Routes>,
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
            TransportEvent::New(_) | TransportEvent::Closed(_) => {}
        }
        Some(event)
    }
}
