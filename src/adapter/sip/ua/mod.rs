//! The UA core of one call (RFC 3261 §13 to §15 and what grew on it), pure: `Ua::handle` takes what happened and the time, and
//! leaves [`Output`]s to be drained. Retransmissions below (RFC 3261 §17) are the transaction layer's.

use std::time::Duration;

use rsipstack::sip::{Request, Response};

/// Names a client transaction of a call; the first INVITE's is 0.
pub type ClientId = u32;

/// Names a server transaction of a call.
pub type ServerId = u32;

/// How our end of a call appears.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The URI to be called, in the first request's Request-URI.
    pub target: String,
    /// From, without a tag: `<sip:+15550009@ims.test;user=phone>`. (Of a call that comes in: unused.)
    pub from: String,
    /// To, without a tag.
    pub to: String,
    /// Contact, as it is to be written, with its parameters.
    pub contact: String,
    /// RFC 3261 §8.1.2: the pre-loaded route set, first hop first.
    pub route: Vec<String>,
    /// More headers of the first request, or of each response that makes a dialog.
    pub headers: Vec<(String, String)>,
    /// RFC 3262: whether provisional responses are to be reliable.
    pub reliable: Reliable,
    /// RFC 4028: the session interval that we ask for; none: no session timer of ours.
    pub session_expires: Option<Duration>,
    /// RFC 4028 §4: the shortest that we take.
    pub min_se: Duration,
    /// Answers challenges.
    pub credentials: Option<std::sync::Arc<dyn Credentials>>,
    /// User-Agent, or Server.
    pub product: String,
}

/// RFC 3262
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reliable {
    /// Not used.
    No,
    /// Where the far side can.
    Supported,
    /// Required of the far side.
    Required,
}

/// Answers 401 and 407 (RFC 3261 §22).
pub trait Credentials: std::fmt::Debug + Send + Sync {
    /// The value of (Proxy-)Authorization for these challenges (all values of the header, joined by commas: the strongest is
    /// answered), as the `count`th request that answers this nonce, from 1; none: it can't be answered. Whether to answer a
    /// second time, [`super::digest::stale`] says.
    fn authorize(&self, challenge: &str, method: &str, uri: &str, body: &[u8], count: u32) -> Option<String>;
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A request: in the dialog, or the CANCEL of the INVITE that made it (with the id of CANCEL's own transaction; the
    /// transaction layer has answered it already). ACK too.
    Request(ServerId, Request),
    /// A response to one of ours, retransmitted 2xx of INVITE too. Transport failures come as 503, time-outs as 408.
    Response(ClientId, Response),
    /// What our side wants.
    Do(Command),
    /// A timer may be due.
    Tick,
}

/// What our side wants. What doesn't fit the state is refused (`Ua::handle`) and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// 180. (A call that came in.)
    Ring {
        /// Early media: the answer, if the INVITE had an offer.
        answer: Option<String>,
    },
    /// 183 with early media.
    Progress {
        /// The answer.
        answer: Option<String>,
    },
    /// 200.
    Accept {
        /// The answer; if the INVITE had no offer, our offer.
        sdp: String,
    },
    /// Refuses a call that came in.
    Reject {
        /// 3xx to 6xx.
        code: u16,
        /// Seconds, with 503 and 480.
        retry_after: Option<u32>,
        /// RFC 3326: the reason header's value.
        reason: Option<String>,
    },
    /// Offers anew: re-INVITE, or UPDATE before the answer (RFC 3311 §5.1).
    Offer(String),
    /// Answers the far side's newest offer ([`Event::Offered`]).
    Answer(String),
    /// Refuses it: 488.
    RefuseOffer,
    /// RFC 3515: asks the far side to call somebody else.
    Refer {
        /// Refer-To's URI; with Replaces in its headers for an attended transfer.
        to: String,
        /// RFC 3892
        by: Option<String>,
    },
    /// Says how far a REFER of the far side has come: NOTIFY with message/sipfrag. 200 and more end the subscription.
    ReferProgress(u16),
    /// Ends it, whatever its state: CANCEL, BYE, or a refusal.
    End {
        /// RFC 3326: the Reason header's value, `Q.850;cause=16`.
        reason: Option<String>,
    },
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Send a request in a transaction of its own. Via is the sender's part.
    Request(ClientId, Request),
    /// Send the CANCEL of this INVITE, with this Reason.
    Cancel(ClientId, Option<String>),
    /// Send an ACK of a 2xx: it is in no transaction. Again for each retransmission of the 2xx.
    Ack(Request),
    /// Respond.
    Respond(ServerId, Response),
    /// Tell our side.
    Event(Event),
}

/// What our side is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A provisional response (RFC 3261 §13.2.2.1). With forking: of any branch.
    Provisional {
        /// 180, 183 …
        code: u16,
        /// RFC 5009: early media is to be heard: an answer came, and P-Early-Media doesn't forbid it.
        early_media: Option<bool>,
    },
    /// The far side's description, to be taken as the answer to our newest offer. Before [`Event::Answered`] it is an early
    /// one, and another branch's may replace it.
    Described(String),
    /// An offer that has to be answered by [`Command::Answer`]. Of an INVITE without one: in the 200 or a reliable 183.
    Offered(String),
    /// 2xx of our INVITE; or ACK of our 200.
    Answered,
    /// Our newest offer was refused; what was agreed before stands.
    OfferRefused(u16),
    /// The far side asks for a transfer (it was answered 202).
    Refer {
        /// Refer-To's URI, without headers.
        to: String,
        /// The Replaces header in it.
        replaces: Option<String>,
        /// Referred-By.
        by: Option<String>,
    },
    /// How our REFER fares: the status line's code.
    Referred(u16),
    /// DTMF in INFO: `application/dtmf-relay`.
    Digit(char, u32),
    /// Over; the last one.
    Ended(Ending),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Who ended it.
    pub by: By,
    /// The final response's code, if one ended it; 487 where it was cancelled; none: BYE.
    pub code: Option<u16>,
    /// RFC 3326: the Reason header's values.
    pub reason: Option<String>,
    /// Retry-After, seconds.
    pub retry_after: Option<u32>,
    /// Contact of a 3xx.
    pub moved: Option<String>,
    /// What went wrong, for the log.
    pub why: &'static str,
}

/// Who ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The far side.
    Far,
    /// Our side.
    Near,
    /// A timer, or a fault of the far side: its dialog is told.
    Timer,
}
