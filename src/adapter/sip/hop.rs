//! Where requests go: RFC 3263.

use std::net::SocketAddr;

use rsipstack::resolver::SipResolver;
use rsipstack::sip::uri::ParamsExt as _;
use rsipstack::sip::{Host, Scheme, Transport, Uri};

/// A place that requests are sent to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    /// Its address.
    pub address: SocketAddr,
    /// UDP, TCP or TLS.
    pub transport: Transport,
    /// RFC 5922 §7.1: whose certificate it has to show.
    pub name: String,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoHop {
    /// The URI is none of SIP.
    #[error("{0:?} is no SIP URI; right is sip:host:port;transport=tcp")]
    Uri(String),
    /// Another transport than ours.
    #[error("{0} is no transport of this server's SIP: udp, tcp and tls are")]
    Transport(String),
    /// DNS knows no address.
    #[error("{name} has no address: {why}")]
    Name {
        /// The name.
        name: String,
        /// What DNS said.
        why: String,
    },
}

/// RFC 3261 §19.1: reads `sip:host:port;transport=tcp`.
pub fn uri(text: &str) -> Result<Uri, NoHop> {
    let bad = || NoHop::Uri(text.to_owned());
    let uri = rsipstack::sip::uri::parse_uri(text).map_err(|_| bad())?;
    match uri.scheme {
        Some(Scheme::Sip | Scheme::Sips) => Ok(uri),
        _ => Err(bad()),
    }
}

/// The places for a URI, the one to try first first (RFC 3263 §4).
pub async fn resolve(resolver: &SipResolver, uri: &Uri) -> Result<Vec<Hop>, NoHop> {
    let secure = uri.scheme == Some(Scheme::Sips);
    // RFC 3261 §26.2.2: sips is TLS, also where tcp is said.
    let wanted = match uri.transport() {
        _ if secure => Some(Transport::Tls),
        Some(transport @ (Transport::Udp | Transport::Tcp | Transport::Tls)) => Some(*transport),
        Some(other) => return Err(NoHop::Transport(other.to_string())),
        None => None,
    };
    let port = uri.host_with_port.port;
    let domain = match &uri.host_with_port.host {
        Host::IpAddr(address) => {
            let transport = wanted.unwrap_or(Transport::Udp);
            let default = if transport == Transport::Tls { 5061 } else { 5060 };
            let port = port.map_or(default, u16::from);
            return Ok(vec![Hop {
                address: SocketAddr::new(*address, port),
                transport,
                name: address.to_string(),
            }]);
        }
        Host::Domain(domain) => domain,
    };
    let name = domain.to_string();
    let found = resolver.lookup(domain, port, wanted, secure).await;
    let found = found.map_err(|why| NoHop::Name { name: name.clone(), why })?;
    let hops = found.into_iter().filter_map(|target| {
        let ours = matches!(target.transport, Transport::Udp | Transport::Tcp | Transport::Tls);
        ours.then(|| Hop { address: target.addr, transport: target.transport, name: name.clone() })
    });
    let mut hops: Vec<Hop> = hops.collect();
    hops.dedup();
    if hops.is_empty() {
        return Err(NoHop::Name { name, why: "no record of it is for udp, tcp or tls".to_owned() });
    }
    Ok(hops)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_its_own_hop_with_the_transports_port() {
        let resolver = SipResolver::default();
        for (text, address, transport) in [
            ("sip:192.0.2.1", "192.0.2.1:5060", Transport::Udp),
            ("sip:x@192.0.2.1:5070;transport=tcp;lr", "192.0.2.1:5070", Transport::Tcp),
            ("sip:192.0.2.1;transport=tls", "192.0.2.1:5061", Transport::Tls),
            ("sips:192.0.2.1", "192.0.2.1:5061", Transport::Tls),
            ("sip:[2001:db8::1]:5080", "[2001:db8::1]:5080", Transport::Udp),
        ] {
            let hops = resolve(&resolver, &uri(text).unwrap()).await.unwrap();
            assert_eq!((hops[0].address.to_string().as_str(), hops[0].transport), (address, transport));
            assert_eq!(hops.len(), 1);
        }
        let local = resolve(&resolver, &uri("sip:localhost:5066").unwrap()).await.unwrap();
        assert!(local[0].address.ip().is_loopback() && local[0].address.port() == 5066);
        assert_eq!(local[0].name, "localhost");
    }

    #[tokio::test]
    async fn what_is_no_place_for_sip_says_why() {
        for bad in ["tel:+15550001", "http://a", "", "sip:"] {
            assert!(matches!(uri(bad), Err(NoHop::Uri(_))), "{bad}");
        }
        let resolver = SipResolver::default();
        let ws = resolve(&resolver, &uri("sip:192.0.2.1;transport=ws").unwrap()).await;
        assert!(ws.unwrap_err().to_string().contains("udp, tcp and tls"));
        let none = resolve(&resolver, &uri("sip:nobody.invalid:5060").unwrap()).await;
        assert!(matches!(none, Err(NoHop::Name { .. })));
    }
}
