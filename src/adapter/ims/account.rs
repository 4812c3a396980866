//! A registered number: it is registered while somebody here is called by it, and no longer.

use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rsipstack::sip::Method;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::aka::{Aka, Keys};
use super::kept::{File, Kept};
use super::login::Login;
use super::registration::{By, Event, Input, Output, Profile, Registration};
use super::settings::{AccountSettings, Secret};
use super::way::{Way, loose};
use crate::adapter::sip::digest::Digest;
use crate::adapter::sip::{Hop, PRODUCT, Seat, ua};
use crate::clock;
use crate::service::Service;

/// How long a call waits for the number to be registered, as after a start.
const READY: Duration = Duration::from_secs(5);
/// RFC 3261 §17.1.2.2: how long a de-registration may take before nobody waits for it.
const LEAVE: Duration = Duration::from_secs(32);

/// How an account is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Not registered, nor tried.
    #[default]
    Off,
    /// Registered.
    Registered {
        /// RFC 3608
        service_route: Vec<String>,
        /// P-Associated-URI
        associated: Vec<String>,
    },
    /// Not, for this reason.
    Failed(String),
}

/// An account.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) settings: AccountSettings,
    pub(super) login: Arc<Login>,
    instance: String,
    file: File,
    state: watch::Sender<State>,
}

/// Random and secret.
fn seed() -> [u8; 32] {
    let (a, b) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(a.as_bytes());
    seed[16..].copy_from_slice(b.as_bytes());
    seed
}

impl Login {
    /// A user with a password.
    pub(super) fn password(user: &str, password: &str) -> Self {
        Self::Password(Digest::new(user, password, seed()))
    }
}

impl Account {
    /// With what was kept of it in the folder.
    pub(super) fn new(folder: &Path, settings: &AccountSettings) -> io::Result<Self> {
        let file = File::of(folder, &settings.user);
        let Kept { instance, sequence } = file.read()?;
        let login = match &settings.secret {
            Secret::Password(password) => Login::password(&settings.user, password),
            Secret::Aka { k, opc } => {
                Login::Sim(Box::new(Aka::new(&settings.user, Keys::new(*k, *opc), sequence, seed())))
            }
        };
        Ok(Self {
            settings: settings.clone(),
            login: Arc::new(login),
            instance: format!("urn:uuid:{instance}"),
            file,
            state: watch::Sender::default(),
        })
    }

    /// What stands before the @ of our Contact.
    pub(super) fn user(&self) -> &str {
        let identity = self.settings.identity.split_once(':').map_or("", |(_, rest)| rest);
        identity.split_once('@').map_or("ript", |(user, _)| user)
    }

    /// How it is now.
    pub(super) fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// How it is, once it is registered or has failed.
    pub(super) async fn ready(&self) -> Result<State, String> {
        let mut state = self.state();
        let settled = tokio::time::timeout(READY, state.wait_for(|state| *state != State::Off)).await;
        match settled {
            Ok(Ok(state)) => match &*state {
                State::Failed(why) => Err(format!("this number is not registered at its network: {why}")),
                other => Ok(other.clone()),
            },
            _ => {
                Err("this number is not registered at its network; somebody has to be called by it"
                    .to_owned())
            }
        }
    }
}

/// Registers the account whenever somebody is called by its number; for as long as there is a service.
pub(super) async fn keep(way: Arc<Way>, service: Weak<Service>) {
    let super::way::Kind::Account(account) = &way.kind else { return };
    let Some(mut changes) = service.upgrade().map(|service| service.registry.changes()) else { return };
    loop {
        changes.mark_unchanged();
        let Some(wanted) = service.upgrade().map(|service| wanted(account, &service)) else { return };
        if wanted {
            Keeper::new(&way, account).await.run(&service, &mut changes).await;
        } else if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Registers and takes it back: how it went.
pub(super) async fn register_once(way: &Arc<Way>, account: &Account, patience: Duration) -> State {
    let (wanted, mut changes) = watch::channel(0);
    let mut state = account.state();
    let nobody = Weak::new();
    let keeper = Keeper::new(way, account).await;
    let settled = async {
        let settled = state.wait_for(|state| *state != State::Off).await;
        settled.map(|state| state.clone()).unwrap_or_default()
    };
    tokio::pin!(settled);
    let keeping = keeper.run(&nobody, &mut changes);
    tokio::pin!(keeping);
    let state = tokio::select! {
        state = tokio::time::timeout(patience, &mut settled) => state.unwrap_or_default(),
        () = &mut keeping => return State::Off,
    };
    // Nobody wants it any more: it is taken back.
    wanted.send_replace(1);
    if matches!(state, State::Registered { .. }) {
        let _ = tokio::time::timeout(patience, keeping).await;
    }
    state
}

fn wanted(account: &Account, service: &Service) -> bool {
    account.settings.always || !service.registry.find(&account.settings.number).is_empty()
}

/// One registration, from the first REGISTER until it is taken back.
struct Keeper<'a> {
    way: &'a Arc<Way>,
    account: &'a Account,
    registration: Registration,
    seat: Seat,
    hops: Vec<Hop>,
    at: usize,
    /// RFC 5626: the connection that we are registered by.
    flow: Option<CancellationToken>,
    /// The server failed.
    failed: bool,
}

async fn gone(flow: Option<CancellationToken>) {
    match flow {
        Some(flow) => flow.cancelled().await,
        None => std::future::pending().await,
    }
}

impl<'a> Keeper<'a> {
    async fn new(way: &'a Arc<Way>, account: &'a Account) -> Self {
        let settings = &account.settings;
        let proxy = settings.proxy.as_ref().unwrap_or(&settings.registrar);
        let hops = match way.stack.resolve(proxy).await {
            Ok(hops) => hops,
            Err(error) => {
                tracing::warn!(way = way.name, %error, "no server to register at is known");
                Vec::new()
            }
        };
        way.know(&hops);
        let transport = hops.first().map_or(rsipstack::sip::Transport::Udp, |hop| hop.transport);
        let profile = Profile {
            registrar: settings.registrar.clone(),
            public: settings.identity.clone(),
            contact: way.stack.contact(account.user(), transport),
            instance: Some(account.instance.clone()),
            reg_id: Some(1),
            expires: settings.expires,
            route: settings.proxy.iter().map(|proxy| format!("<{}>", loose(proxy))).collect(),
            access: way.settings.access.clone(),
            ims: settings.ims,
            watch: settings.ims,
            login: Some(account.login.clone()),
            product: PRODUCT.to_owned(),
            seed: seed(),
        };
        let mut seat = Seat::new(&way.stack);
        if let Some(hop) = hops.first() {
            seat.prefer(proxy, hop.clone());
        }
        let registration = Registration::new(profile, clock::instant());
        Self { way, account, registration, seat, hops, at: 0, flow: None, failed: false }
    }

    async fn run(mut self, service: &Weak<Service>, changes: &mut watch::Receiver<u64>) {
        let mut leaving: Option<Instant> = None;
        loop {
            while let Some(output) = self.registration.poll() {
                match output {
                    Output::Request(id, request) => {
                        if request.method == Method::Subscribe {
                            self.seat.claim_by(&request);
                        }
                        self.seat.request(id, request).await;
                    }
                    Output::Respond(id, response) => self.seat.respond(id, response),
                    Output::Event(event) => self.happened(event, service),
                }
            }
            if std::mem::take(&mut self.failed) {
                self.next_hop().await;
            }
            if self.registration.is_gone() || leaving.is_some_and(|until| until <= clock::instant()) {
                self.account.state.send_replace(State::Off);
                return;
            }
            let input = tokio::select! {
                input = self.seat.next() => match input {
                    ua::Input::Response(id, response) => Input::Response(id, response),
                    ua::Input::Request(id, request) => Input::Request(id, request),
                    ua::Input::Do(_) | ua::Input::Tick => Input::Tick,
                },
                () = clock::until(self.registration.next_timeout()) => Input::Tick,
                () = clock::until(leaving) => Input::Tick,
                // RFC 5626 §4.5: whoever calls us would come by a connection that isn't there.
                () = gone(self.flow.clone()), if leaving.is_none() => {
                    tracing::info!(way = self.way.name, "the connection is lost; registering anew");
                    self.flow = None;
                    Input::Again
                }
                changed = changes.changed(), if leaving.is_none() => {
                    // The server stops, and comes back: who de-registers ends their calls (TS 24.229 §5.4.1.4). If it
                    // doesn't, the registration runs out.
                    if changed.is_err() {
                        return;
                    }
                    let there = service.upgrade().is_some_and(|s| wanted(self.account, &s));
                    if there { continue }
                    leaving = Some(clock::instant() + LEAVE);
                    Input::Stop
                }
            };
            self.registration.handle(clock::instant(), input);
        }
    }

    fn happened(&mut self, event: Event, service: &Weak<Service>) {
        let name = &self.way.name;
        match event {
            Event::Registered { service_route, associated, refreshed, .. } => {
                if !refreshed {
                    tracing::info!(way = name, "registered");
                }
                self.flow = self.hops.get(self.at).and_then(|hop| self.way.stack.flow(hop));
                self.account.state.send_replace(State::Registered { service_route, associated });
            }
            Event::Deregistered { by, reason } => {
                tracing::warn!(way = name, ?by, reason = reason.as_str(), "the registration is over");
                let why = format!("the registration ended: {}", reason.as_str());
                self.account.state.send_replace(State::Failed(why));
                if by == By::Network
                    && let Some(service) = service.upgrade()
                {
                    service.lose(self.account.settings.number.clone());
                }
            }
            Event::Failed { code, why, retry } => {
                tracing::warn!(way = name, code, why, ?retry, "not registered");
                self.account.state.send_replace(State::Failed(format!("{why} ({code})")));
                self.failed |= matches!(code, 408 | 500..=599);
            }
            Event::NotWatched(code) => {
                tracing::debug!(way = name, code, "what becomes of the registration can't be followed");
            }
            Event::Sequence => self.keep_sequence(),
            Event::Unregistered => tracing::info!(way = name, "no longer registered"),
        }
    }

    /// RFC 3263 §4.3: the next server; after the last one, those that DNS has now.
    async fn next_hop(&mut self) {
        let settings = &self.account.settings;
        let proxy = settings.proxy.as_ref().unwrap_or(&settings.registrar);
        self.at += 1;
        if self.at >= self.hops.len() {
            self.at = 0;
            match self.way.stack.resolve(proxy).await {
                Ok(hops) => {
                    self.way.know(&hops);
                    self.hops = hops;
                }
                Err(error) => tracing::debug!(way = self.way.name, %error, "no server is found anew"),
            }
        }
        let Some(hop) = self.hops.get(self.at).cloned() else { return };
        let contact = self.way.stack.contact(self.account.user(), hop.transport);
        let route = settings.proxy.iter().map(|proxy| format!("<{}>", loose(proxy))).collect();
        self.seat.prefer(proxy, hop);
        self.registration.move_to(contact, route);
    }

    fn keep_sequence(&self) {
        let Some(sequence) = self.account.login.sequence() else { return };
        let kept = self.account.file.read().map(|kept| Kept { sequence, ..kept });
        if let Err(error) = kept.and_then(|kept| self.account.file.write(&kept)) {
            tracing::warn!(%error, "a SIM's numbers can't be kept");
        }
    }
}
