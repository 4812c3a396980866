//! Tries each way to a telephone network, step by step, in words for who configured it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::account::{Account, State, register_once};
use super::ends::Ends;
use super::settings::Settings;
use super::way::{Kind, Trunk, Way};
use crate::adapter::sip::{Hop, ping};

/// How long somebody may take to answer OPTIONS.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long registering may take.
const REGISTER: Duration = Duration::from_secs(20);

/// What was tried, and how it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The way's name.
    pub way: String,
    /// What was tried.
    pub what: String,
    /// What came of it.
    pub found: Result<String, String>,
}

/// Tries all ways, or those of one name; each step is told as it is done. True: all went well.
pub async fn check(
    settings: &Settings,
    folder: &Path,
    only: Option<&str>,
    mut tell: impl FnMut(Step),
) -> io::Result<bool> {
    let mut ways = Vec::new();
    for account in &settings.accounts {
        let kind = Kind::Account(Account::new(folder, account)?);
        ways.push((account.user.clone(), &account.way, kind));
    }
    for trunk in &settings.trunks {
        ways.push((trunk.name.clone(), &trunk.way, Kind::Trunk(Trunk::new(trunk.clone()))));
    }
    ways.retain(|(name, ..)| only.is_none_or(|only| only == name));
    let (mut well, mut ends) = (!ways.is_empty(), Ends::new(settings));
    for (name, way, kind) in ways {
        let mut step = |what: String, found: Result<String, String>| {
            well &= found.is_ok();
            tell(Step { way: name.clone(), what, found });
        };
        let bound = ends.way(&name, way, kind).await;
        let listen = format!("listen at {}", way.listen);
        let way = match bound {
            Ok(way) => way,
            Err(error) => {
                step(listen, Err(cause_of_bind(&error)));
                continue;
            }
        };
        step(listen, Ok("UDP and TCP are bound".to_owned()));
        one(&way, &mut step).await;
    }
    Ok(well)
}

async fn one(way: &Arc<Way>, step: &mut impl FnMut(String, Result<String, String>)) {
    let servers = match &way.kind {
        Kind::Trunk(trunk) => trunk.settings.servers.clone(),
        Kind::Account(account) => {
            vec![account.settings.proxy.clone().unwrap_or_else(|| account.settings.registrar.clone())]
        }
    };
    for server in &servers {
        let what = format!("find {server}");
        let hops = match way.stack.resolve(server).await {
            Ok(hops) => hops,
            Err(error) => {
                step(what, Err(format!("{error}; look at the name, or at this machine's DNS")));
                continue;
            }
        };
        let places: Vec<_> = hops.iter().map(|hop| format!("{} by {}", hop.address, hop.transport)).collect();
        step(what, Ok(places.join(", then ")));
        for hop in &hops {
            let code = ping::options(&way.stack, server, hop, PATIENCE).await;
            step(
                format!("send OPTIONS to {} by {}", hop.address, hop.transport),
                cause_of_options(code, hop),
            );
        }
        way.know(&hops);
    }
    if let Kind::Account(account) = &way.kind {
        let what = format!("register at {}", account.settings.registrar);
        step(what, registered(register_once(way, account, REGISTER).await));
    }
}

fn registered(state: State) -> Result<String, String> {
    match state {
        State::Registered { service_route, associated } => Ok(format!(
            "registered, and taken back; {} identities, {} service routes",
            associated.len(),
            service_route.len()
        )),
        State::Failed(why) => Err(why),
        State::Off => {
            Err("no answer; is the registrar (or its proxy) there, and may it be reached from here?"
                .to_owned())
        }
    }
}

fn cause_of_bind(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{error}: another program has that port; `ript serve` itself, perhaps: stop it to check")
        }
        io::ErrorKind::AddrNotAvailable => format!("{error}: this machine has no such address"),
        io::ErrorKind::PermissionDenied => format!("{error}: ports below 1024 are for root"),
        _ => error.to_string(),
    }
}

/// RFC 3261 §11.2: any final answer but the transport's own says that somebody is there.
fn cause_of_options(code: Option<u16>, hop: &Hop) -> Result<String, String> {
    match code {
        Some(code @ 200..=299) => Ok(format!("{code}: it is there")),
        Some(408) | None => Err(format!(
            "no answer; nobody listens at {}, or a firewall is between, or it ignores whom it doesn't know",
            hop.address
        )),
        Some(503) => Err("503: no connection, or it is overloaded or in maintenance".to_owned()),
        // Many take OPTIONS of registered users only.
        Some(code) => Ok(format!("{code}: it is there, and takes no OPTIONS of us now")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_a_likely_cause() {
        let hop = Hop {
            address: "192.0.2.1:5060".parse().unwrap(),
            transport: rsipstack::sip::Transport::Udp,
            name: String::new(),
        };
        for (code, well, word) in [
            (Some(200), true, "there"),
            (Some(404), true, "there"),
            (Some(405), true, "there"),
            (Some(408), false, "firewall"),
            (None, false, "192.0.2.1:5060"),
            (Some(503), false, "overloaded"),
        ] {
            let found = cause_of_options(code, &hop);
            assert_eq!(found.is_ok(), well, "{code:?}");
            assert!(found.unwrap_or_else(|why| why).contains(word), "{code:?}");
        }
        let of = |kind| cause_of_bind(&io::Error::from(kind));
        assert!(of(io::ErrorKind::AddrInUse).contains("stop it"));
        assert!(of(io::ErrorKind::AddrNotAvailable).contains("no such address"));
    }
}
