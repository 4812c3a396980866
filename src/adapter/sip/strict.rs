//! What the parser forgives and the standard doesn't: such requests are answered before they begin anything.

use rsipstack::sip::Request;

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The status that says so.
    pub(super) code: u16,
    /// Headers that the status needs.
    pub(super) headers: Vec<(&'static str, String)>,
    /// For the log.
    pub(super) why: &'static str,
}

/// RFC 3261 §8.1.1: each request has these.
pub(super) fn check(request: &Request) -> Result<(), Fault> {
    use rsipstack::sip::HeadersExt as _;
    let bad = |why| Fault { code: 400, headers: vec![], why };
    let cseq = request.cseq_header().map_err(|_| bad("no CSeq"))?;
    if cseq.method().ok() != Some(request.method) {
        return Err(bad("CSeq names another method"));
    }
    request.call_id_header().map_err(|_| bad("no Call-ID"))?;
    request.to_header().map_err(|_| bad("no To"))?;
    request.from_header().map_err(|_| bad("no From"))?;
    Ok(())
}
