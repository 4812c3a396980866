//! Whether somebody is there: OPTIONS (RFC 3261 §11).

use std::sync::Arc;
use std::time::Duration;

use rsipstack::sip::Request;

use super::hop::Hop;
use super::seat::Seat;
use super::stack::{PRODUCT, Stack};
use super::ua::Input;

/// What somebody says to OPTIONS; none: nothing in this time.
pub(crate) async fn options(stack: &Arc<Stack>, server: &str, hop: &Hop, patience: Duration) -> Option<u16> {
    let contact = stack.contact("ript", hop.transport);
    let word = || uuid::Uuid::new_v4().simple().to_string();
    let text = format!(
        "OPTIONS {server} SIP/2.0\r\nMax-Forwards: 70\r\nFrom: <{contact}>;tag={}\r\nTo: <{server}>\r\n\
         Call-ID: {}\r\nCSeq: 1 OPTIONS\r\nContact: <{contact}>\r\nAccept: application/sdp\r\n\
         User-Agent: {PRODUCT}\r\nContent-Length: 0\r\n\r\n",
        word(),
        word(),
    );
    let request = Request::try_from(text.as_str()).ok()?;
    let mut seat = Seat::new(stack);
    seat.prefer(server, hop.clone());
    seat.request(0, request).await;
    let answer = async {
        loop {
            if let Input::Response(_, response) = seat.next().await {
                let code = u16::from(response.status_code.clone());
                if code >= 200 {
                    return code;
                }
            }
        }
    };
    tokio::time::timeout(patience, answer).await.ok()
}
