//! A way to a telephone network: an account or a trunk, and how a call leaves by it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rsipstack::sip::headers::{Header, make_header};
use rsipstack::sip::{Request, Transport};
use serde_json::Value;

use super::account::{Account, State};
use super::emergency;
use super::headers::{self, Form, Outgoing};
use super::identity;
use super::led::Targets;
use super::login::Login;
use super::phone::{Home, sip_uri};
use super::settings::{TrunkSettings, WaySettings};
use crate::adapter::sip::rtp::{Leg, RtpPorts, RtpSettings, Srtp};
use crate::adapter::sip::ua::{Credentials, Profile, Reliable};
use crate::adapter::sip::value::{Address, value};
use crate::adapter::sip::{Agent, Beginning, Beside, Hop, PRODUCT, Stack, ping, uri};
use crate::clock;
use crate::protocol::number::Number;
use crate::protocol::problem::{Code, Problem};
use crate::service::gateway::Departure;
use crate::service::lock;

/// RFC 4028 §4
pub(super) const MIN_SE: Duration = Duration::from_secs(90);
/// How long a server that failed is tried last.
const SHUNNED: Duration = Duration::from_secs(30);
/// Servers of which that is remembered.
const MOST_SHUNNED: usize = 256;

/// A way.
#[derive(Debug)]
pub(super) struct Way {
    /// For records and logs.
    pub(super) name: String,
    pub(super) stack: Arc<Stack>,
    pub(super) ports: RtpPorts,
    pub(super) settings: WaySettings,
    pub(super) kind: Kind,
    /// Where its servers have been found.
    pub(super) known: Mutex<HashSet<IpAddr>>,
    shunned: Mutex<HashMap<Hop, Instant>>,
}

/// How it is attached.
#[derive(Debug)]
pub(super) enum Kind {
    /// A number range, without registration.
    Trunk(Trunk),
    /// A registered number.
    Account(Account),
}

/// A trunk.
#[derive(Debug)]
pub(super) struct Trunk {
    pub(super) settings: TrunkSettings,
    login: Option<Arc<Login>>,
}

impl Trunk {
    pub(super) fn new(settings: TrunkSettings) -> Self {
        let login = settings.login.as_ref().map(|(user, password)| Arc::new(Login::password(user, password)));
        Self { settings, login }
    }
}

impl Way {
    /// At an end that is bound.
    pub(super) fn new(
        name: &str,
        stack: Arc<Stack>,
        settings: &WaySettings,
        rtp: &RtpSettings,
        kind: Kind,
    ) -> io::Result<Self> {
        let rtp = RtpSettings { srtp: settings.srtp, codecs: settings.codecs.clone(), ..rtp.clone() };
        Ok(Self {
            name: name.to_owned(),
            stack,
            ports: RtpPorts::new(rtp)?,
            settings: settings.clone(),
            kind,
            known: Mutex::default(),
            shunned: Mutex::default(),
        })
    }

    /// Whether it is used to call this number.
    pub(super) fn takes(&self, to: &Number) -> bool {
        self.settings.destinations.allow(to) || self.settings.emergency.as_ref() == Some(to)
    }

    /// Whether a number is ours there.
    pub(super) fn owns(&self, number: &Number) -> bool {
        match &self.kind {
            Kind::Trunk(trunk) => trunk.settings.numbers.allow(number),
            Kind::Account(account) => account.settings.number == *number,
        }
    }

    /// In whose numbers short ones are meant.
    pub(super) fn home(&self) -> Home {
        Home { domain: self.domain(), ..Home::default() }
    }

    /// The far side's domain.
    fn domain(&self) -> String {
        let whole = match &self.kind {
            Kind::Trunk(trunk) => trunk.settings.servers.first().map(String::as_str).unwrap_or_default(),
            Kind::Account(account) => &account.settings.registrar,
        };
        uri(whole).map(|uri| uri.host_with_port.to_string()).unwrap_or_default()
    }

    /// What answers its challenges.
    pub(super) fn login(&self) -> Option<Arc<dyn Credentials>> {
        match &self.kind {
            Kind::Trunk(trunk) => trunk.login.clone().map(|login| login as Arc<dyn Credentials>),
            Kind::Account(account) => Some(account.login.clone()),
        }
    }

    /// Whether what it says of who calls is believed.
    pub(super) fn is_trusted(&self) -> bool {
        match &self.kind {
            Kind::Trunk(trunk) => trunk.settings.trusted,
            // A registrar's proxy is our only neighbour.
            Kind::Account(_) => true,
        }
    }

    /// All places to try, those that failed lately last.
    async fn hops(&self, servers: &[String]) -> Result<VecDeque<(String, Hop)>, Problem> {
        let mut found = Vec::new();
        let mut why = String::new();
        let all = join_all(servers.iter().map(|server| self.stack.resolve(server))).await;
        for (server, places) in servers.iter().zip(all) {
            match places {
                Ok(hops) => found.extend(hops.into_iter().map(|hop| (server.clone(), hop))),
                Err(error) => why = error.to_string(),
            }
        }
        if found.is_empty() {
            tracing::warn!(way = self.name, why, "no server of a telephone network is known");
            let none = "no server of that telephone network is found now; try again later";
            return Err(Problem::new(Code::BadGateway, none));
        }
        if self.settings.srtp == Srtp::Required {
            found.retain(|(_, hop)| !self.is_exposed(hop.transport));
            if found.is_empty() {
                tracing::warn!(way = self.name, "SRTP is required, and no server is reached by TLS");
                let none = "that telephone network is not reached by TLS, which its calls' keys need";
                return Err(Problem::new(Code::BadGateway, none));
            }
        }
        let now = clock::instant();
        let shunned = lock(&self.shunned);
        found.sort_by_key(|(_, hop)| shunned.get(hop).is_some_and(|until| *until > now));
        Ok(found.into())
    }

    /// RFC 4568 §8.3: whether keys that go by this transport are for others to read.
    pub(super) fn is_exposed(&self, transport: Transport) -> bool {
        transport != Transport::Tls && !self.settings.srtp_in_clear
    }

    /// RFC 3261 §8.1.1.8, §12.1.1: our address, secure where the far side's is.
    fn contact(&self, user: &str, transport: Transport, secure: bool) -> String {
        if secure { self.stack.secure_contact(user) } else { self.stack.contact(user, transport) }
    }

    /// A server failed: others are tried first for a while.
    pub(super) fn shun(&self, hop: &Hop) {
        let now = clock::instant();
        let mut shunned = lock(&self.shunned);
        if shunned.len() >= MOST_SHUNNED {
            shunned.retain(|_, until| *until > now);
        }
        if shunned.len() < MOST_SHUNNED {
            shunned.insert(hop.clone(), now + SHUNNED);
        }
    }

    /// A server answers again.
    pub(super) fn trust(&self, hop: &Hop) {
        lock(&self.shunned).remove(hop);
    }

    /// How a call is placed, at one server after the other.
    pub(super) async fn attempt(&self, call: &Departure) -> Result<Attempt, Problem> {
        let unable = |why: String| Problem::new(Code::BadGateway, why);
        let (from, user, way, route, servers) = match &self.kind {
            Kind::Trunk(trunk) => {
                let way = match trunk.settings.trusted {
                    true => headers::Way::Trusting { network: None },
                    false => headers::Way::Plain,
                };
                // RFC 3323 §4.1.1.3: Contact names nobody either.
                let user = if call.withheld { "anonymous".to_owned() } else { user(&call.from) };
                (call.from.clone(), user, way, Vec::new(), trunk.settings.servers.clone())
            }
            Kind::Account(account) => {
                let State::Registered { service_route, associated } =
                    account.ready().await.map_err(unable)?
                else {
                    return Err(unable("this number is not registered at its telephone network".to_owned()));
                };
                let settings = &account.settings;
                let way = headers::Way::Account {
                    associated,
                    access: self.settings.access.clone(),
                    ims: account.settings.ims,
                };
                let proxy = settings.proxy.as_ref().unwrap_or(&settings.registrar);
                let mut route: Vec<String> =
                    settings.proxy.iter().map(|proxy| format!("<{}>", loose(proxy))).collect();
                route.extend(service_route);
                (settings.number.clone(), account.user().to_owned(), way, route, vec![proxy.clone()])
            }
        };
        let mut more = Vec::new();
        if let Kind::Trunk(trunk) = &self.kind
            && !call.withheld
        {
            // RFC 8946 §4.1: one header for each; a chain with a gap would prove nothing.
            let x5u = trunk.settings.x5u.as_deref();
            let all = std::iter::once(&call.passport).chain(&call.div).filter(|it| !it.is_empty());
            match all.map(|passport| identity::write(passport, x5u)).collect::<Result<Vec<_>, _>>() {
                Ok(headers) if headers.is_empty() => {}
                Ok(headers) => {
                    more.extend(headers.into_iter().map(|header| ("Identity".to_owned(), header)));
                    more.push(("Date".to_owned(), identity::date(clock::now())));
                }
                Err(error) => tracing::debug!(%error, "a caller's PASSporT can't go along"),
            }
        }
        let emergency = self.settings.emergency.as_ref() == Some(&call.to);
        let hops = self.hops(&servers).await?;
        let reliable = Reliable::Supported;
        Ok(Attempt {
            call: call.clone(),
            targets: Targets::new(call.to.clone()),
            urn: emergency::SOS.to_owned(),
            help: None,
            from,
            withheld: call.withheld,
            emergency,
            user,
            domain: self.domain(),
            way,
            route,
            more,
            reliable,
            credentials: self.login(),
            session_expires: self.settings.session_expires,
            location: call.location.clone().filter(|_| emergency),
            hops,
            server: String::new(),
            newest: None,
        })
    }

    /// How we appear in a call that comes in.
    pub(super) fn profile(&self, to: &Number, beginning: &Beginning) -> Profile {
        let (user, way) = match &self.kind {
            Kind::Trunk(_) => (user(to), headers::Way::Plain),
            Kind::Account(account) => {
                let access = self.settings.access.clone();
                (
                    account.user().to_owned(),
                    headers::Way::Account { associated: vec![], access, ims: account.settings.ims },
                )
            }
        };
        let secure = is_secure(&beginning.request);
        let mut contact = format!("<{}>", self.contact(&user, beginning.transport, secure));
        if matches!(&self.kind, Kind::Account(account) if account.settings.ims) {
            contact = format!("{contact};{}", headers::MMTEL);
        }
        Profile {
            target: String::new(),
            from: String::new(),
            to: String::new(),
            contact,
            route: Vec::new(),
            headers: headers::response(&way),
            reliable: Reliable::Supported,
            session_expires: self.settings.session_expires,
            min_se: MIN_SE,
            credentials: None,
            product: PRODUCT.to_owned(),
            seed: uuid::Uuid::new_v4().as_u128(),
        }
    }
}

/// How often a trunk's servers are looked up, where they aren't asked more often whether they are there.
const LOOK: Duration = Duration::from_secs(300);
/// How long they may take to say so.
const PONG: Duration = Duration::from_secs(5);

/// A trunk's servers are its peers, wherever DNS says that they are now; who doesn't answer is tried last.
pub(super) async fn watch(way: Arc<Way>) {
    let Kind::Trunk(trunk) = &way.kind else { return };
    loop {
        for server in &trunk.settings.servers {
            let hops = match way.stack.resolve(server).await {
                Ok(hops) => hops,
                Err(error) => {
                    tracing::warn!(way = way.name, %error, "a trunk's server is not known");
                    continue;
                }
            };
            way.know(&hops);
            for hop in hops.iter().filter(|_| trunk.settings.ping.is_some()) {
                match ping::options(&way.stack, server, hop, PONG).await {
                    None | Some(408 | 503) => way.shun(hop),
                    Some(_) => way.trust(hop),
                }
            }
        }
        tokio::time::sleep(trunk.settings.ping.unwrap_or(LOOK)).await;
    }
}

/// RFC 3261 §12.1.1: what makes a dialog secure.
fn is_secure(invite: &Request) -> bool {
    let first = value(invite, "Record-Route").or_else(|| value(invite, "Contact"));
    let secure = first.and_then(Address::read).is_some_and(|address| is_sips(address.uri));
    secure || is_sips(&invite.uri.to_string())
}

fn is_sips(uri: &str) -> bool {
    uri.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("sips:"))
}

/// What stands before the @ of our Contact.
fn user(number: &Number) -> String {
    number.to_string().split('@').next().unwrap_or_default().to_owned()
}

/// RFC 3261 §16.12: a route that leaves the Request-URI alone.
pub(super) fn loose(uri: &str) -> String {
    if uri.contains(";lr") { uri.to_owned() } else { format!("{uri};lr") }
}

/// Where who calls for help is, beside the offer.
fn beside(location: Value, from: &str) -> Beside {
    let entity = from.rsplit_once('<').and_then(|(_, uri)| uri.split_once('>')).map_or(from, |(uri, _)| uri);
    let (entity, unique) = (entity.to_owned(), uuid::Uuid::new_v4().simple().to_string());
    Beside(Box::new(move |invite| {
        let sdp = String::from_utf8_lossy(&invite.body).into_owned();
        if let Some(located) = emergency::located(&sdp, &location, &entity, &unique) {
            invite
                .headers
                .retain(|header| !matches!(header, Header::ContentType(_) | Header::ContentLength(_)));
            let headers = located.headers.iter().map(|(name, value)| make_header(name, value.clone()));
            invite.headers.extend(headers.collect());
            invite.headers.push(make_header("Content-Type", located.content_type));
            invite.body = located.body.into_bytes();
        }
    }))
}

/// A call that is being placed.
#[derive(Debug)]
pub(super) struct Attempt {
    /// The call as it was placed here.
    pub(super) call: Departure,
    pub(super) targets: Targets,
    /// RFC 5031: the service that an emergency call is for.
    pub(super) urn: String,
    /// Where calls for help leave.
    pub(super) help: Option<Arc<Way>>,
    from: Number,
    withheld: bool,
    emergency: bool,
    user: String,
    domain: String,
    way: headers::Way,
    route: Vec<String>,
    more: Vec<(String, String)>,
    reliable: Reliable,
    credentials: Option<Arc<dyn Credentials>>,
    session_expires: Option<Duration>,
    /// RFC 6442: of emergency calls.
    location: Option<Value>,
    hops: VecDeque<(String, Hop)>,
    /// The server that has it now, as it is configured, and where.
    server: String,
    pub(super) newest: Option<Hop>,
}

impl Attempt {
    pub(super) fn has_more(&self) -> bool {
        !self.hops.is_empty()
    }

    /// Whom the server that has it names is called next, there again.
    pub(super) fn lead_on(&mut self) -> bool {
        let found = self.targets.next();
        if let Some(hop) = self.newest.take().filter(|_| found) {
            self.hops.push_front((self.server.clone(), hop));
        }
        found
    }

    /// Calls by the next server.
    pub(super) fn next(&mut self, way: &Way, leg: &Leg) -> Option<Agent> {
        let (server, hop) = self.hops.pop_front()?;
        self.server.clone_from(&server);
        if let Some(failed) = self.newest.replace(hop.clone()) {
            way.shun(&failed);
        }
        leg.expose(way.is_exposed(hop.transport));
        let contact = way.contact(&self.user, hop.transport, is_sips(&server));
        let icid = uuid::Uuid::new_v4().simple().to_string();
        let outgoing = Outgoing {
            from: &self.from,
            name: None,
            withheld: self.withheld,
            to: self.targets.to(),
            domain: &self.domain,
            form: Form::Sip,
            contact: &contact,
            instance: None,
            icid: &icid,
        };
        let mut first = outgoing.first(&self.way);
        if self.emergency {
            // RFC 5031 §4.2
            first.target.clone_from(&self.urn);
            first.to = format!("<{}>", self.urn);
        } else {
            // RFC 3261 §8.1.3.4: To stays.
            first.to = format!("<{}>", sip_uri(self.targets.first(), &self.domain));
            first.headers.extend(self.targets.told(self.call.diverted_by.as_ref(), &self.domain));
        }
        first.headers.extend(self.more.iter().cloned());
        // A trunk's server is addressed by its own name, whichever of its places is tried.
        let mut route = self.route.clone();
        if route.is_empty() {
            route.push(format!("<{}>", loose(&server)));
        }
        let profile = Profile {
            target: first.target,
            from: first.from,
            to: first.to,
            contact: first.contact,
            route,
            headers: first.headers,
            reliable: self.reliable,
            session_expires: self.session_expires,
            min_se: MIN_SE,
            credentials: self.credentials.clone(),
            product: PRODUCT.to_owned(),
            seed: uuid::Uuid::new_v4().as_u128(),
        };
        let beside = self.location.clone().map(|location| beside(location, &profile.from));
        Some(Agent::place(&way.stack, profile, Some(leg.offer()), (&server, hop), beside))
    }
}
