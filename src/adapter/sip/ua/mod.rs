//! The UA core of one call (RFC 3261 §13 to §15 and what grew on it), pure: `Ua::handle` takes what happened and the time, and
//! leaves [`Output`]s to be drained. Retransmissions below (RFC 3261 §17) are the transaction layer's.
//!
//! | for | look in |
//! |---|---|
//! | an INVITE of ours, its branches and its end | `uac` |
//! | an INVITE that came in | `uas` |
//! | reliable provisional responses, both ways | `reliable` |
//! | requests in the dialog | `within` |
//! | offers of ours after the first, and glare | `modify` |
//! | offers of the far side | `offered` |
//! | who may offer when | `offer` |
//! | the session timer | `session` |
//! | transfer | `refer` |
//! | how it ends, and what is still done then | `end` |
//! | challenges | `auth` |
//! | after a restart | `kept` |

mod auth;
mod build;
mod dialog;
mod dispatch;
mod end;
mod header;
mod kept;
mod modify;
mod offer;
mod offered;
mod refer;
mod reliable;
mod session;
#[cfg(test)]
mod tests;
mod timer;
mod uac;
mod uas;
mod within;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rsipstack::sip::{Request, Response};

pub(super) use self::build::ALLOW;
pub use self::kept::Kept;
pub(super) use self::uas::unsupported;

use self::auth::Challenges;
use self::dialog::Dialog;
use self::dispatch::{Client, Server};
use self::modify::Modify;
use self::refer::Transfers;
use self::session::SessionTimer;
use self::timer::{Random, Timers};
use self::uac::{Ack, Placed};
use self::uas::{Arrived, Unacked};

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
    /// What tags, the Call-ID and random waits are made of: a random number that no other call has.
    pub seed: u128,
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
    /// answered); none: it can't be answered. `count` (RFC 7616's `nc`): how many requests of this call answered it, this one
    /// included; a count of 2 and more is a later request that answers unasked. Whether to answer a second time,
    /// [`super::digest::stale`] says.
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
    /// 200. It waits for the PRACK of a reliable response with a description (RFC 3262 §3).
    Accept {
        /// The answer; if the INVITE had no offer, our offer. Not sent where a reliable response had it.
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
    /// Answers the far side's offer ([`Event::Offered`]) that isn't answered yet; but that of the INVITE which came in is answered by
    /// Ring, Progress or Accept.
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
    /// How our REFER fares: the status line's code. 200 and more: it is done; a refusal of the REFER itself comes as its code.
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

/// Why a command was refused. It changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is over.
    #[error("the call is over")]
    Over,
    /// The call isn't there yet, or is past it.
    #[error("this doesn't fit the state of the call: {0}")]
    State(&'static str),
    /// No offer of the far side waits for an answer.
    #[error("the far side has made no offer that waits for an answer")]
    NoOffer,
    /// An offer is out, ours or theirs.
    #[error("an offer is out already, and isn't answered")]
    OfferOut,
    /// Not from 300 to 699.
    #[error("{0} is not the code of a refusal: 300 to 699")]
    Code(u16),
}

/// A dialog's name (RFC 3261 §12), for Replaces (RFC 3891) and for who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialogId {
    /// Call-ID.
    pub call_id: String,
    /// Our tag.
    pub local_tag: String,
    /// The far side's tag; empty: it has none.
    pub remote_tag: String,
    /// The far side's Contact URI: what Refer-To names.
    pub remote_target: String,
    /// Not confirmed.
    pub early: bool,
}

impl DialogId {
    /// RFC 3891 §6.1: the value of Replaces that the dialog's far side understands: `to-tag` is its own.
    pub fn replaces(&self) -> String {
        format!("{};to-tag={};from-tag={}", self.call_id, self.remote_tag, self.local_tag)
    }
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No 2xx.
    Early,
    /// 2xx went or came.
    Up,
    /// [`Event::Ended`] was told; requests are still out, or a late 2xx may come.
    Over,
    /// Nothing more.
    Gone,
}

/// A call's user agent.
#[derive(Debug)]
pub struct Ua {
    profile: Profile,
    call_id: String,
    local_tag: String,
    /// Our From or To, with the tag.
    local: String,
    phase: Phase,
    /// We sent the first INVITE, and made the Call-ID.
    ours: bool,
    /// It was taken up after a restart, and nothing proves yet that the far side is there.
    probes: bool,
    /// Early ones of our INVITE's branches; or the one.
    dialogs: Vec<Dialog>,
    placed: Option<Placed>,
    arrived: Option<Arrived>,
    unacked: Option<Unacked>,
    acks: VecDeque<Ack>,
    clients: Vec<Client>,
    next_id: ClientId,
    servers: Vec<Server>,
    modify: Modify,
    session: SessionTimer,
    transfers: Transfers,
    auth: Challenges,
    timers: Timers,
    random: Random,
    out: VecDeque<Output>,
}

impl Ua {
    /// A call of ours; the INVITE is in the outputs. Without an `offer` the far side makes it ([`Event::Offered`]). A target that
    /// isn't a URI: over at once.
    pub fn place(now: Instant, profile: Profile, offer: Option<String>) -> Self {
        uac::place(now, profile, offer)
    }

    /// A call that comes in; an offer in it is told ([`Event::Offered`]).
    ///
    /// # Errors
    /// The response that refuses it.
    pub fn arrive(
        now: Instant,
        profile: Profile,
        id: ServerId,
        invite: Request,
    ) -> Result<Self, Box<Response>> {
        uas::arrive(now, profile, id, invite)
    }

    /// Takes in what happened. Then: [`Self::poll`] until it is empty, and a [`Input::Tick`] at [`Self::next_timeout`].
    ///
    /// # Errors
    /// A command that doesn't fit; nothing else is refused.
    pub fn handle(&mut self, now: Instant, input: Input) -> Result<(), Refused> {
        let done = match input {
            Input::Request(id, request) => {
                self.on_request(now, id, request);
                Ok(())
            }
            Input::Response(id, response) => {
                self.on_response(now, id, response);
                Ok(())
            }
            Input::Do(command) => self.on_command(now, command),
            Input::Tick => Ok(()),
        };
        self.on_timers(now);
        self.settle(now);
        done
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When a [`Input::Tick`] is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        (self.phase != Phase::Gone).then(|| self.timers.next()).flatten()
    }

    /// Call-ID. With [`Self::local_tag`] it names the requests that are this call's: the tag is in their To.
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// Our tag.
    pub fn local_tag(&self) -> &str {
        &self.local_tag
    }

    /// The INVITE that came in.
    pub fn invite(&self) -> Option<&Request> {
        self.arrived.as_ref().map(|a| &a.invite)
    }

    /// Whether it can be forgotten: [`Event::Ended`] was told, and nothing of it is out on the network.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Gone
    }

    /// The dialog; of an unanswered call of ours, that of the branch which spoke last.
    pub fn dialog(&self) -> Option<DialogId> {
        let heard = self.modify.described.as_ref().and_then(|(tag, _)| self.find(tag));
        let dialog = heard.or_else(|| self.dialogs.last())?;
        Some(DialogId {
            call_id: self.call_id.clone(),
            local_tag: self.local_tag.clone(),
            remote_tag: dialog.tag.clone(),
            remote_target: dialog.target.to_string(),
            early: self.phase == Phase::Early,
        })
    }

    fn find(&self, tag: &str) -> Option<&Dialog> {
        self.dialogs.iter().find(|d| d.tag == tag)
    }

    fn find_mut(&mut self, tag: &str) -> Option<&mut Dialog> {
        self.dialogs.iter_mut().find(|d| d.tag == tag)
    }

    fn tell(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    fn respond(&mut self, id: ServerId, response: Response) {
        self.out.push_back(Output::Respond(id, response));
    }
}
