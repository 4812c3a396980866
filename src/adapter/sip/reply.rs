//! Responses that need no dialog.

use rsipstack::sip::headers::{ContentLength, Header, Server, To, make_header};
use rsipstack::sip::{HeadersExt, Request, Response, StatusCode};

use super::stack::PRODUCT;

/// The tag of To, once there is a dialog.
pub(super) fn to_tag(request: &Request) -> Option<String> {
    Some(request.to_header().ok()?.tag().ok()??.value().to_owned())
}

/// RFC 3261 §8.2.6: a response with what it has to have of the request, and a tag.
pub fn response(request: &Request, code: u16, headers: Vec<(&str, String)>) -> Response {
    let mut kept: Vec<Header> = request
        .headers
        .iter()
        .filter(|header| {
            matches!(
                header,
                Header::Via(_) | Header::From(_) | Header::To(_) | Header::CallId(_) | Header::CSeq(_)
            )
        })
        .cloned()
        .collect();
    if code > 100 && to_tag(request).is_none() {
        for header in &mut kept {
            if let Header::To(to) = header {
                let tag = uuid::Uuid::new_v4().simple();
                *header = Header::To(To::new(format!("{};tag={tag}", to.value())));
            }
        }
    }
    kept.extend(headers.into_iter().map(|(name, value)| make_header(name, value)));
    kept.push(Header::Server(Server::new(PRODUCT.to_owned())));
    kept.push(Header::ContentLength(ContentLength::from(0_u32)));
    Response {
        status_code: StatusCode::from(code),
        wire_reason: None,
        version: rsipstack::sip::Version::V2,
        headers: kept.into(),
        body: Vec::new(),
    }
}
