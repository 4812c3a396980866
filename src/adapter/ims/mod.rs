//! Telephone networks: an operator's IMS, or any SIP trunk. Calls leave for them and come from them, with the identities and
//! headers that an operator checks.
//!
//! | for | look in |
//! |---|---|
//! | a trunk or an account, and how a call leaves by it | `way` |
//! | an account's registration | [`registration`], kept up by `account` |
//! | one SIP end for several ways | `ends`; whose a request is: `peers` |
//! | calls that come in | `arriving` |
//! | trying all that is configured | `check` |
//! | a call's events, passed on | `bridge`, `far`; its media: `media`; who its dialog is: `dialogs` |
//! | a call that stands, written down and after a restart | `standing` |
//! | who calls whom: written, and read of what comes in | [`headers`], [`caller`], over [`phone`] |
//! | PASSporTs in SIP (STIR) | [`identity`] |
//! | calls that are led on | `redirect`, `led` |
//! | emergency calls | [`emergency`] |
//! | what proves it | [`login`]: a password, or a SIM's keys ([`aka`]) |

mod account;
pub mod aka;
mod arriving;
mod bridge;
pub mod caller;
mod check;
mod dialogs;
pub mod emergency;
mod ends;
mod far;
pub mod headers;
pub mod identity;
mod kept;
mod led;
mod line;
pub mod login;
mod media;
mod peers;
pub mod phone;
mod redirect;
pub mod registration;
mod settings;
mod standing;
mod way;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::adapter::sip::rtp::{possible, transcoded};
use crate::protocol::number::Number;
use crate::protocol::problem::{Code, Problem};
use crate::service::gateway::{Departed, Departure, Gateway, Line, Pending, Target};
use crate::service::{Service, lock};
use account::Account;
use bridge::{Begun, Side};
pub use check::{Step, check};
use dialogs::Dialogs;
use ends::{End, Ends};
use line::SipLine;
use media::Media;
pub use settings::{AccountSettings, Secret, Settings, TrunkSettings, WaySettings};
use way::{Kind, Trunk, Way};

/// Why a telephone network can't be reached.
#[derive(Debug, thiserror::Error)]
#[error("sip, {name}: {why}")]
pub struct StartError {
    name: String,
    why: io::Error,
}

/// All ways to telephone networks.
#[derive(Debug)]
pub struct Telephony {
    ways: Vec<Arc<Way>>,
    dialogs: Arc<Dialogs>,
    /// What begins something at each end, until somebody listens.
    ends: Mutex<Vec<End>>,
    /// Aborts its tasks when dropped.
    tasks: Mutex<JoinSet<()>>,
}

impl Telephony {
    /// Binds all ends. `folder`: what accounts keep over restarts.
    pub async fn bind(settings: &Settings, folder: &Path) -> Result<Arc<Self>, StartError> {
        let (mut ways, mut ends) = (Vec::new(), Ends::new(settings));
        for account in &settings.accounts {
            let name = account.user.clone();
            let failed = |why| StartError { name: name.clone(), why };
            let kind = Kind::Account(Account::new(folder, account).map_err(failed)?);
            ways.push(ends.way(&name, &account.way, kind).await.map_err(failed)?);
        }
        for trunk in &settings.trunks {
            let name = trunk.name.clone();
            let failed = |why| StartError { name: name.clone(), why };
            let kind = Kind::Trunk(Trunk::new(trunk.clone()));
            ways.push(ends.way(&name, &trunk.way, kind).await.map_err(failed)?);
        }
        // What the store holds is taken up between this and the start.
        ways.iter().for_each(|way| way.stack.hold(true));
        let (dialogs, tasks) = (Arc::default(), Mutex::default());
        Ok(Arc::new(Self { ways, dialogs, ends: Mutex::new(ends.into_all()), tasks }))
    }

    /// Registers accounts and takes calls in, for this server's users, whose calls have been taken up again; once.
    pub fn start(&self, service: &Arc<Service>) {
        if !self.ways.is_empty() && service.settings.enroller.is_none() {
            tracing::warn!(
                "calls from telephone networks ring only where [certs] lets this server vouch for who calls"
            );
        }
        let ends = std::mem::take(&mut *lock(&self.ends));
        let mut tasks = lock(&self.tasks);
        for end in ends {
            tasks.spawn(arriving::listen(end, self.dialogs.clone(), Arc::downgrade(service)));
        }
        for way in &self.ways {
            let service = Arc::downgrade(service);
            match &way.kind {
                Kind::Account(_) => tasks.spawn(account::keep(way.clone(), service)),
                Kind::Trunk(_) => tasks.spawn(way::watch(way.clone())),
            };
            way.stack.hold(false);
        }
    }

    fn way(&self, name: &str) -> Option<&Arc<Way>> {
        self.ways.iter().find(|way| way.name == name)
    }

    /// The way for a call: the account of the caller, or of who hands them on, or the first that takes it.
    fn leaving(&self, call: &Departure) -> Option<&Arc<Way>> {
        let fits = || self.ways.iter().filter(|way| way.takes(&call.to));
        let mut users = [Some(&call.from), call.diverted_by.as_ref()].into_iter().flatten();
        users.find_map(|user| fits().find(|way| way.owns(user))).or_else(|| fits().next())
    }

    async fn call(&self, call: Departure) -> Result<Departed, Problem> {
        let none = || Problem::new(Code::Unreachable, "no telephone network takes calls to that destination");
        let way = self.leaving(&call).ok_or_else(none)?;
        let mut attempt = way.attempt(&call).await?;
        let helps = |way: &&Arc<Way>| way.settings.emergency.is_some();
        attempt.help = Some(way).filter(helps).or_else(|| self.ways.iter().find(helps)).cloned();
        let media = Media::new(&way.ports).map_err(|error| {
            tracing::warn!(%error, "no ports for a call's media");
            Problem::new(Code::Overloaded, "this server has no port for one more call's media")
        })?;
        media.leg.prefer(&call.advertisement);
        let agent = attempt.next(way, &media.leg).ok_or_else(none)?;
        let record = standing::begun(way);
        let begun = Begun {
            way: way.clone(),
            agent,
            media,
            side: Side::Leaving,
            dialogs: self.dialogs.clone(),
            attempt: Some(attempt),
            answer: None,
            resumed: None,
        };
        // What is transcoded for it is known here too.
        let advertisement = transcoded(&possible(&way.settings.codecs));
        Ok(Departed { advertisement, record, line: Box::new(SipLine::new(begun)) })
    }
}

impl Gateway for Telephony {
    fn route(&self, to: &Number) -> Option<Target> {
        // A number of our own that nobody answers here is not asked for elsewhere.
        let own = self.ways.iter().any(|way| way.owns(to));
        let way = self.ways.iter().find(|way| way.takes(to)).filter(|_| !own)?;
        Some(Target::Telephony(way.name.clone()))
    }

    fn leads_to(&self, target: &Target) -> bool {
        matches!(target, Target::Telephony(name) if self.way(name).is_some())
    }

    fn withholds(&self, _: &Target) -> bool {
        true
    }

    fn place(self: Arc<Self>, _: Target, call: Departure) -> Pending<Result<Departed, Problem>> {
        Box::pin(async move { self.call(call).await })
    }

    fn resume(self: Arc<Self>, record: Value) -> Pending<Option<Box<dyn Line>>> {
        let line = self.take_up(record).map(|line| Box::new(line) as Box<dyn Line>);
        Box::pin(std::future::ready(line))
    }
}
