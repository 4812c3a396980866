//! How a call leaves for another network, and how a customer's network is known here. The trait stands beside the calls'
//! owners, whose handles its lines hold; who implements it stands above.

use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;

use super::actor::{CallHandle, Command};
use super::consumers::Consumer;
use super::ports::Ports;
use crate::call::Device;
use crate::identity::principal::Principal;
use crate::protocol::advertisement::Advertisement;
use crate::protocol::id::{HandlerKey, LegId};
use crate::protocol::number::Number;
use crate::protocol::problem::{Code, Problem};

/// What takes its time.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The other network's side.
#[derive(Clone, Debug)]
pub enum Target {
    /// A provider that this server joined, by its domain.
    Provider(String),
    /// A customer that registered its own TG here.
    Customer(Arc<Consumer>),
    /// An operator at whose CAMARA APIs this server has an account.
    Operator,
    /// A telephone network, by the name of the trunk or the account that leads there.
    Telephony(String),
}

/// A call that is to leave.
#[derive(Clone, Debug)]
pub struct Departure {
    /// Who calls.
    pub from: Number,
    /// Whom.
    pub to: Number,
    /// The caller's own PASSporT: it is passed on as it is.
    pub passport: String,
    /// What the caller's device can send and render.
    pub advertisement: Advertisement,
    /// RFC 3323 §4.2: the called side is to be told no number.
    pub withheld: bool,
    /// Where the caller said that they are.
    pub location: Option<Value>,
}

/// A call that the other network took.
pub struct Departed {
    /// What the far side sends and renders, as far as the other network said.
    pub advertisement: Advertisement,
    /// What [`Gateway::resume`] finds it again by.
    pub record: Value,
    /// What carries it.
    pub line: Box<dyn Line>,
}

impl std::fmt::Debug for Departed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Departed").field("record", &self.record).finish_non_exhaustive()
    }
}

/// The leg by which a call leaves: the gateway is its one device.
#[derive(Clone, Debug)]
pub struct OurEnd {
    /// The leg.
    pub leg: LegId,
    /// The gateway, as a device.
    pub device: Device,
    /// The call's owner.
    pub calls: CallHandle,
    /// The media ports.
    pub ports: Arc<Ports>,
}

impl OurEnd {
    /// The device's name.
    pub fn handler(&self) -> HandlerKey {
        self.device.key
    }

    /// What [`Gateway::resume`] finds the call again by from now on; what is said on the leg after this is written down after it.
    pub async fn keep(&self, record: Value) {
        if let Err(problem) = self.calls.send(Command::Keep(self.leg, record)).await {
            tracing::debug!(code = problem.code.as_str(), "how a call is found again can't be written down");
        }
    }
}

/// One call's way through the other network. Dropped, it lets go without hanging up: after a restart it is found again.
pub trait Line: Send {
    /// Passes events and media between the two networks until the call is over.
    fn carry(self: Box<Self>, end: OurEnd) -> Pending<()>;

    /// Hangs up: nothing came of the call on this side.
    fn abandon(self: Box<Self>) -> Pending<()>;
}

/// A way to other networks.
pub trait Gateway: std::fmt::Debug + Send + Sync {
    /// Who takes calls to this number.
    fn route(&self, to: &Number) -> Option<Target>;

    /// Whether calls to this target leave here.
    fn leads_to(&self, target: &Target) -> bool;

    /// Places a call there. The refusal is the other network's own.
    fn place(self: Arc<Self>, target: Target, call: Departure) -> Pending<Result<Departed, Problem>>;

    /// Whether a caller who withholds their number may leave there: the network keeps it to itself.
    fn withholds(&self, _target: &Target) -> bool {
        false
    }

    /// Takes up a call again after a restart; none: it is over there. Asked while the services start, before anybody is served:
    /// what is done before the answer is waited for is done by then.
    fn resume(self: Arc<Self>, record: Value) -> Pending<Option<Box<dyn Line>>>;

    /// Looks whether a customer's TG is there and takes this token.
    fn check(self: Arc<Self>, _consumer: Arc<Consumer>) -> Pending<Result<(), Problem>> {
        let none = Problem::new(Code::Unreachable, "this server has no way to customers' servers");
        Box::pin(std::future::ready(Err(none)))
    }

    /// Has a provider issue the certificate that this server can't.
    fn enrol(self: Arc<Self>, _csr: Vec<u8>, _number: Number) -> Pending<Result<String, Problem>> {
        let none = Problem::new(Code::NotFound, "no provider of this server enrols that number");
        Box::pin(std::future::ready(Err(none)))
    }

    /// RFC 9110 §7.6.3: the name under which this server's own requests pass, where they go to servers that pass them on.
    fn pseudonym(&self) -> Option<&str> {
        None
    }

    /// Whether this user is another server.
    fn is_peer(&self, _user: &str) -> bool {
        false
    }

    /// Who holds a token that this server gave a provider for the way back.
    fn holder(&self, _token: &str) -> Option<Principal> {
        None
    }
}
