//! Where a webhook may be: a public https URL, written plainly.

use super::super::error::{Code, Failure};
use crate::service::fetch::{FetchError, Fetcher};

/// webrtc-events.yaml, sink: `maxLength`
const MAX_SINK: usize = 1024;

/// Whether events may be sent there. What a name leads to is looked at for each request, for it may change.
pub(super) fn checked(text: &str, fetcher: &Fetcher) -> Result<String, Failure> {
    let refused = |why: &str| Err(Failure::new(Code::InvalidSink, format!("sink: {why}")));
    // The file's pattern: ^https:\/\/.+$
    if text.chars().count() > MAX_SINK || !text.starts_with("https://") {
        return refused("an https:// URL of at most 1024 characters is expected");
    }
    let plain = |b: u8| b.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&b);
    if !text.bytes().all(plain) {
        return refused("a URL has no spaces, backslashes, quotes or letters beyond ASCII; encode them");
    }
    let authority = text["https://".len()..].split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || authority.contains(['@', '%']) {
        return refused("a host is expected, without user, password or percent signs");
    }
    match fetcher.may_ask(text) {
        Ok(()) => {}
        Err(FetchError::Url) => return refused("it is no https URL"),
        Err(_) => return refused("its address is not public, and the server's operator allows no others"),
    }
    let host = host(authority);
    if is_local(host) && fetcher.may_ask("https://127.0.0.1/").is_err() {
        return refused("its address is not public, and the server's operator allows no others");
    }
    if !is_plain(host) {
        return refused("an IPv4 address is written as four decimal numbers");
    }
    if text.contains('#') {
        return refused("a fragment is never sent; leave it out");
    }
    Ok(text.to_owned())
}

/// The host of an authority, without its port.
fn host(authority: &str) -> &str {
    match authority.rfind(']') {
        Some(end) => &authority[..=end],
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// RFC 6761 §6.3
fn is_local(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// Whether a host that ends in a number, and so is an IPv4 address for a URL, is written as one (RFC 3986 §3.2.2).
fn is_plain(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let digits = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X")).map_or_else(
        || !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()),
        |hex| hex.bytes().all(|b| b.is_ascii_hexdigit()),
    );
    !digits || host.parse::<std::net::Ipv4Addr>().is_ok()
}
