//! The messages of RFC 4475, and what becomes of each at an end that is a user agent.

mod invalid;
mod layered;
mod valid;

/// What is to happen to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It reaches the user, who answers 200.
    Taken,
    /// An INVITE whose offer reaches a user agent; there it is refused by 486.
    Call,
    /// It is answered so, and begins nothing.
    Status(u16),
    /// A response that is read, and is nobody's.
    Read,
    /// Nobody hears of it, and nothing answers.
    Dropped,
}

/// One message.
pub struct Torture {
    pub section: &'static str,
    pub name: &'static str,
    pub message: Vec<u8>,
    pub expect: Expect,
}

/// Lines as they are in the RFC; on the wire they end with CRLF.
fn message(section: &'static str, name: &'static str, expect: Expect, text: &str) -> Torture {
    Torture { section, name, message: text.replace('\n', "\r\n").into_bytes(), expect }
}

/// All of them, in the RFC's order.
pub fn all() -> Vec<Torture> {
    [valid::messages(), invalid::messages(), layered::messages()].into_iter().flatten().collect()
}

/// The description that most of them have, from this address.
fn sdp(address: &str, times: &str) -> String {
    format!(
        "v=0\no=mhandley 29739 7272939 IN IP4 {address}\ns=-\nc=IN IP4 {address}\nt={times}\n\
         m=audio 49217 RTP/AVP 0 12\nm=video 3227 RTP/AVP 31\na=rtpmap:31 LPC\n"
    )
}
