//! A dialog (RFC 3261 §12): who is at its other end, by which way, and what was numbered.

use rsipstack::sip::{Headers, Request, Response, Uri};

use super::header;
use super::offer::Negotiation;

/// A dialog, early or confirmed.
#[derive(Debug)]
pub(super) struct Dialog {
    /// The far side's tag; empty: it has none (RFC 3261 §12.1.1, the null tag of RFC 2543).
    pub(super) tag: String,
    /// The far side's From or To, with its tag.
    pub(super) remote: String,
    /// The route set, first hop first.
    pub(super) routes: Vec<String>,
    /// The remote target.
    pub(super) target: Uri,
    /// The CSeq that we used last.
    pub(super) local_seq: u32,
    /// The CSeq that the far side used last.
    pub(super) remote_seq: Option<u32>,
    /// RFC 3311 §4: the far side's Allow names UPDATE.
    pub(super) updates: bool,
    /// The RSeq of the newest reliable response that was taken, of the INVITE that is open.
    pub(super) rseq: Option<u32>,
    /// Offer and answer.
    pub(super) talk: Negotiation,
}

impl Dialog {
    /// RFC 3261 §12.1.2: by a response to our INVITE. `target` stands in for a Contact that can't be read.
    pub(super) fn of_response(
        response: &Response,
        to: &str,
        target: &Uri,
        seq: u32,
        talk: Negotiation,
    ) -> Self {
        let mut dialog = Self {
            tag: header::tag(&response.headers, "To").unwrap_or_default(),
            remote: header::first(&response.headers, "To").unwrap_or(to).to_owned(),
            routes: Vec::new(),
            target: target.clone(),
            local_seq: seq,
            remote_seq: None,
            updates: false,
            rseq: None,
            talk,
        };
        dialog.reroute(response);
        dialog
    }

    /// RFC 3261 §12.1.1: by an INVITE that came in. None: its Contact can't be read.
    pub(super) fn of_request(request: &Request, seq: u32, talk: Negotiation) -> Option<Self> {
        let mut dialog = Self {
            tag: header::tag(&request.headers, "From").unwrap_or_default(),
            remote: header::first(&request.headers, "From")?.to_owned(),
            routes: header::list(&request.headers, "Record-Route"),
            target: contact(&request.headers)?,
            local_seq: 0,
            remote_seq: Some(seq),
            updates: false,
            rseq: None,
            talk,
        };
        dialog.learn(&request.headers);
        Some(dialog)
    }

    /// RFC 3261 §13.2.2.4: a 2xx computes the route set anew, reversed (§12.1.2), and the target.
    pub(super) fn reroute(&mut self, response: &Response) {
        self.routes = header::list(&response.headers, "Record-Route");
        self.routes.reverse();
        self.refresh(&response.headers);
    }

    /// RFC 3261 §12.2: a target refresh. The route set stays.
    pub(super) fn refresh(&mut self, headers: &Headers) {
        if let Some(target) = contact(headers) {
            self.target = target;
        }
        self.learn(headers);
    }

    /// RFC 3311 §5.1: whether UPDATE may be sent.
    pub(super) fn learn(&mut self, headers: &Headers) {
        if header::first(headers, "Allow").is_some() {
            self.updates = header::has(headers, "Allow", "UPDATE");
        }
    }

    /// The next CSeq of ours.
    pub(super) fn next_seq(&mut self) -> u32 {
        self.local_seq = self.local_seq.saturating_add(1);
        self.local_seq
    }
}

/// The URI of the first Contact. `*` is none.
pub(super) fn contact(headers: &Headers) -> Option<Uri> {
    let value = header::list(headers, "Contact").into_iter().next()?;
    header::uri_of(&value).and_then(header::uri)
}
