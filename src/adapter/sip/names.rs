//! Looking names up in DNS: answers are kept as long as they say; nobody waits without end.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use rsipstack::sip::Uri;
use rsipstack::sip::uri::ParamsExt as _;

use super::hop::{self, Found, Hop, Naptr, NoHop, Records, Srv};
use crate::service::lock;

/// How long one question may take, and how often it is asked.
const QUESTION: Duration = Duration::from_millis(900);
const ATTEMPTS: usize = 2;
/// How long all questions about one URI may take: whoever places a call waits, and asks again after three seconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest that something is believed: an entry by mistake must not stay for a week.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The longest that something is believed not to be.
const LONGEST_NOT: Duration = Duration::from_secs(60);
/// Answers that are kept.
const CACHE: u64 = 1_024;
/// URIs of which the last places are kept.
const MOST_KEPT: usize = 256;

/// The resolver of one end.
#[derive(Debug)]
pub(super) struct Names {
    dns: Dns,
    /// Where they were, for as long as no DNS server answers.
    kept: Mutex<HashMap<String, Vec<Hop>>>,
}

/// None: this machine's own way, which knows addresses only.
#[derive(Debug)]
struct Dns(Option<TokioResolver>);

impl Names {
    /// Asks these servers, or those of the system.
    pub(super) fn new(servers: &[SocketAddr]) -> Self {
        let built = match servers {
            [] => TokioResolver::builder_tokio(),
            servers => {
                let servers = servers.iter().map(server).collect();
                let config = ResolverConfig::from_parts(None, Vec::new(), servers);
                Ok(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
            }
        };
        let built = built.and_then(|mut builder| {
            manner(builder.options_mut());
            builder.build()
        });
        let resolver = match built {
            Ok(resolver) => Some(resolver),
            Err(error) => {
                tracing::warn!(%error, "this machine's DNS configuration can't be read; names have addresses only");
                None
            }
        };
        Self { dns: Dns(resolver), kept: Mutex::default() }
    }

    /// The places for a URI, the one to try first first.
    pub(super) async fn resolve(&self, uri: &Uri) -> Result<Vec<Hop>, NoHop> {
        let name = uri.host_with_port.to_string();
        let key = format!("{:?} {name} {:?}", uri.scheme, uri.transport());
        let late = |_| Err(NoHop::Silent { name, why: "DNS took too long".to_owned() });
        let found = tokio::time::timeout(PATIENCE, hop::resolve(&self.dns, uri, random)).await;
        let found = found.unwrap_or_else(late);
        let mut kept = lock(&self.kept);
        match &found {
            Ok(hops) => {
                if kept.len() >= MOST_KEPT {
                    kept.clear();
                }
                kept.insert(key, hops.clone());
            }
            Err(NoHop::Silent { name, why }) => {
                if let Some(hops) = kept.get(&key) {
                    tracing::debug!(name, why, "DNS is silent; the places of before are tried");
                    return Ok(hops.clone());
                }
            }
            Err(_) => {
                kept.remove(&key);
            }
        }
        found
    }
}

fn random(below: u32) -> u32 {
    let any = uuid::Uuid::new_v4().as_u64_pair().0 as u32;
    any % below.max(1)
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let at = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    NameServerConfig::new(address.ip(), true, vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())])
}

fn manner(options: &mut ResolverOpts) {
    options.timeout = QUESTION;
    options.attempts = ATTEMPTS;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.cache_size = CACHE;
    options.positive_max_ttl = Some(LONGEST);
    options.negative_max_ttl = Some(LONGEST_NOT);
}

/// Whole names: this machine's search domains are not meant.
fn whole(name: &str) -> Result<Name, String> {
    let mut name = Name::from_utf8(name).map_err(|error| error.to_string())?;
    name.set_fqdn(true);
    Ok(name)
}

/// Without the dot at its end; the root is nothing.
fn text(name: &Name) -> String {
    name.to_utf8().trim_end_matches('.').to_owned()
}

fn records<T>(answer: Result<Lookup, NetError>, read: impl Fn(&RData) -> Option<T>) -> Found<T> {
    match answer {
        Ok(found) => Ok(found.answers().iter().filter_map(|record| read(&record.data)).collect()),
        Err(error) => none(error),
    }
}

/// Whether there is no such record, or nobody who says so. Some servers know no NAPTR, and refuse to look for it.
fn none<T>(error: NetError) -> Found<T> {
    match error {
        NetError::Dns(_) => Ok(Vec::new()),
        silent => Err(silent.to_string()),
    }
}

impl Records for Dns {
    async fn naptr(&self, domain: &str) -> Found<Naptr> {
        let Some(dns) = &self.0 else { return Ok(Vec::new()) };
        let word = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        records(dns.lookup(whole(domain)?, RecordType::NAPTR).await, |data| match data {
            RData::NAPTR(found) => Some(Naptr {
                order: found.order,
                preference: found.preference,
                flags: word(&found.flags),
                service: word(&found.services),
                regexp: !found.regexp.is_empty(),
                replacement: text(&found.replacement),
            }),
            _ => None,
        })
    }

    async fn srv(&self, name: &str) -> Found<Srv> {
        let Some(dns) = &self.0 else { return Ok(Vec::new()) };
        records(dns.lookup(whole(name)?, RecordType::SRV).await, |data| match data {
            RData::SRV(found) => Some(Srv {
                priority: found.priority,
                weight: found.weight,
                port: found.port,
                target: text(&found.target),
            }),
            _ => None,
        })
    }

    async fn addresses(&self, host: &str) -> Found<IpAddr> {
        match &self.0 {
            Some(dns) => match dns.lookup_ip(whole(host)?).await {
                Ok(found) => Ok(found.iter().collect()),
                Err(error) => none(error),
            },
            None => match tokio::net::lookup_host((host, 0)).await {
                Ok(found) => Ok(found.map(|address| address.ip()).collect()),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}
