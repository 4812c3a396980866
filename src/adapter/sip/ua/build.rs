//! Requests and responses made.

use rsipstack::sip::headers::make_header;
use rsipstack::sip::{Header, Headers, Method, Param, Request, Response, Uri, Version};

use super::dialog::Dialog;
use super::{Reliable, Ua, header};

/// What we understand.
pub(in crate::adapter::sip) const ALLOW: &str =
    "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY";

/// Bodies that we understand.
pub(super) const ACCEPT: &str = "application/sdp, application/dtmf-relay, message/sipfrag";

/// Option tags that Require may name. `precondition` (RFC 3312): descriptions are passed on, and say what they need.
pub(super) const UNDERSTOOD: [&str; 5] = ["100rel", "timer", "replaces", "norefersub", "precondition"];

/// RFC 3261 §20.37: what we offer to use.
pub(super) fn supported(reliable: Reliable) -> &'static str {
    match reliable {
        Reliable::No => "timer, replaces, norefersub",
        Reliable::Supported | Reliable::Required => "100rel, timer, replaces, norefersub",
    }
}

/// A header. A line break in a value would begin another header: it becomes a space.
pub(super) fn line(name: &str, value: impl Into<String>) -> Header {
    let value = value.into();
    let clean = if value.contains(char::is_control) { value.replace(char::is_control, " ") } else { value };
    make_header(name, clean)
}

/// A body of this type.
pub(super) fn with_body(headers: &mut Headers, kind: &str, body: Option<&str>) -> Vec<u8> {
    let body = body.unwrap_or_default().as_bytes().to_vec();
    headers.retain(|h| !matches!(h, Header::ContentLength(_) | Header::ContentType(_)));
    if !body.is_empty() {
        headers.push(line("Content-Type", kind));
    }
    headers.push(line("Content-Length", body.len().to_string()));
    body
}

/// RFC 3326
pub(super) fn reason(headers: &mut Headers, reason: Option<&str>) {
    if let Some(reason) = reason.filter(|r| !r.is_empty()) {
        headers.push(line("Reason", reason));
    }
}

/// RFC 3261 §8.2.6.2: a response to this request, without a body. `tag` is put into To where it has none.
pub(super) fn response(request: &Request, code: u16, tag: &str, product: &str) -> Response {
    let mut headers = Headers::default();
    for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
        for value in header::all(&request.headers, name) {
            let missing = name == "To" && code > 100 && header::param(value, "tag").is_none();
            let value = if missing { format!("{value};tag={tag}") } else { value.to_owned() };
            headers.push(line(name, value));
        }
    }
    if !product.is_empty() {
        headers.push(line("Server", product));
    }
    headers.push(line("Content-Length", "0"));
    Response { status_code: code.into(), wire_reason: None, version: Version::V2, headers, body: Vec::new() }
}

/// The Request-URI and Route of a request to `target` by these routes. RFC 3261 §12.2.1.1: a first router without `lr` is a strict
/// one: it gets the request as its own, and the target is last in Route.
pub(super) fn way(target: &Uri, routes: &[String]) -> (Uri, Vec<String>) {
    let Some(first) = routes.first().and_then(|r| header::uri_of(r)).and_then(header::uri) else {
        return (target.clone(), routes.to_vec());
    };
    if loose(&first) {
        return (target.clone(), routes.to_vec());
    }
    let mut rest = routes[1..].to_vec();
    rest.push(format!("<{target}>"));
    // RFC 3261 §19.1.1, table 1: what may not stand in a Request-URI.
    let params = first.params.into_iter().filter(|p| !matches!(p, Param::Method(_))).collect();
    (Uri { params, headers: Vec::new(), ..first }, rest)
}

fn loose(uri: &Uri) -> bool {
    uri.params.iter().any(|p| match p {
        Param::Lr => true,
        Param::Other(name, _) => name.value().eq_ignore_ascii_case("lr"),
        _ => false,
    })
}

/// Methods that refresh the remote target, or make a subscription: they bring a Contact.
fn has_contact(method: Method) -> bool {
    matches!(method, Method::Invite | Method::Update | Method::Refer | Method::Notify | Method::Options)
}

impl Ua {
    /// A request in a dialog (RFC 3261 §12.2.1.1).
    pub(super) fn within(&self, dialog: &Dialog, method: Method, seq: u32) -> Request {
        let (uri, routes) = way(&dialog.target, &dialog.routes);
        self.request(method, uri, &routes, &dialog.remote, seq)
    }

    /// A request without Via and body.
    pub(super) fn request(&self, method: Method, uri: Uri, routes: &[String], to: &str, seq: u32) -> Request {
        let mut headers = Headers::default();
        for route in routes {
            headers.push(line("Route", route.as_str()));
        }
        headers.push(line("Max-Forwards", "70"));
        headers.push(line("From", self.local.as_str()));
        headers.push(line("To", to));
        headers.push(line("Call-ID", self.call_id.as_str()));
        headers.push(line("CSeq", format!("{seq} {method}")));
        if has_contact(method) {
            headers.push(line("Contact", self.profile.contact.as_str()));
        }
        if matches!(method, Method::Invite | Method::Update) {
            headers.push(line("Allow", ALLOW));
            headers.push(line("Supported", supported(self.profile.reliable)));
        }
        if !self.profile.product.is_empty() {
            headers.push(line("User-Agent", self.profile.product.as_str()));
        }
        headers.push(line("Content-Length", "0"));
        Request { method, uri, version: Version::V2, headers, body: Vec::new() }
    }

    /// A response of ours.
    pub(super) fn answer_to(&self, request: &Request, code: u16) -> Response {
        response(request, code, &self.local_tag, &self.profile.product)
    }

    /// A response with what makes or refreshes a dialog (RFC 3261 §12.1.1), and perhaps a description.
    pub(super) fn full(&self, request: &Request, code: u16, sdp: Option<&str>) -> Response {
        let mut response = self.answer_to(request, code);
        for route in header::all(&request.headers, "Record-Route") {
            response.headers.push(line("Record-Route", route));
        }
        response.headers.push(line("Contact", self.profile.contact.as_str()));
        response.headers.push(line("Allow", ALLOW));
        response.headers.push(line("Supported", supported(self.profile.reliable)));
        response.body = with_body(&mut response.headers, "application/sdp", sdp);
        response
    }
}
