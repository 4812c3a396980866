//! Bounded requests to other servers: https only, no redirects, little data, little time, and never into our own
//! network.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, RequestBuilder, Url, header};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::settings::Credentials;
use crate::clock;
use crate::protocol::network::Network;
use crate::protocol::time::Timestamp;

/// The most that an answer may hold.
pub const MAX_BODY: usize = 64 * 1024;
/// The longest that a request may take, everything included.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// Where requests may go, and whom they trust.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Networks that may be asked though they are not public.
    pub allow: Vec<Network>,
    /// Roots besides the system's.
    pub roots: Vec<CertificateDer<'static>>,
}

/// Why nothing was fetched.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FetchError {
    /// No URL, or not one of https.
    #[error("only https URLs without a password are fetched")]
    Url,
    /// The address is not public, and no allowed network holds it.
    #[error("{0} is not a public address; [fetch] allow can name its network")]
    Address(IpAddr),
    /// The name has no address.
    #[error("the name {0} was not found")]
    Name(String),
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
    /// The answer is too large.
    #[error("the answer is over {MAX_BODY} bytes")]
    TooLarge,
    /// The answer is no success; redirects are none.
    #[error("the answer has status {0}")]
    Status(u16),
    /// Anything else: TLS, a broken connection, unusable roots.
    #[error("the request failed: {0}")]
    Failed(String),
}

/// An answer with status 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The body.
    pub body: Bytes,
    /// How long it may be kept, where the server says so.
    pub max_age: Option<Duration>,
}

/// What another server said to something that was sent to it; nothing of the body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posted {
    /// The status; redirects are not followed.
    pub status: u16,
    /// `Retry-After`, counted from now.
    pub retry_after: Option<Duration>,
}

/// A client for all of a server's outbound requests.
#[derive(Clone, Debug)]
pub struct Fetcher {
    client: Client,
    allow: Arc<[Network]>,
}

impl Fetcher {
    /// A client that trusts the system's roots and those given.
    pub fn new(settings: &Settings) -> Result<Self, FetchError> {
        Self::resolving(settings, Arc::new(|name| Box::pin(system(name))))
    }

    /// As `new`, with names looked up in another way.
    pub(crate) fn resolving(settings: &Settings, lookup: Lookup) -> Result<Self, FetchError> {
        let failed = |error: &dyn std::error::Error| FetchError::Failed(error.to_string());
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for root in &settings.roots {
            roots.add(root.clone()).map_err(|error| failed(&error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let allow: Arc<[Network]> = settings.allow.clone().into();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            // A proxy would look up names by itself, past the resolver below.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            // Requests are rare, and a restarted server is met without a broken connection.
            .pool_max_idle_per_host(0)
            .timeout(TIMEOUT)
            .dns_resolver(Guard { allow: allow.clone(), lookup })
            .build()
            .map_err(|error| failed(&error))?;
        Ok(Self { client, allow })
    }

    /// `GET`.
    pub async fn get(&self, url: &str) -> Result<Fetched, FetchError> {
        let request =
            self.client.get(self.checked(url)?).header(header::ACCEPT, "application/json, */*;q=0.5");
        Self::send(request).await
    }

    /// `POST` of a form as a client with a secret.
    pub async fn post_form(
        &self,
        url: &str,
        form: &[(&str, &str)],
        client: &Credentials,
    ) -> Result<Fetched, FetchError> {
        // RFC 6749 §2.3.1: each half is form-encoded before HTTP Basic encodes both.
        let encode = |text: &str| {
            let url =
                Url::parse_with_params("https://x.invalid/", [("", text)]).map_err(|_| FetchError::Url)?;
            Ok::<_, FetchError>(url.query().unwrap_or_default().trim_start_matches('=').to_owned())
        };
        let basic = format!("{}:{}", encode(&client.id)?, encode(&client.secret)?);
        let request = self
            .client
            .post(self.checked(url)?)
            .header(header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(basic)))
            .header(header::ACCEPT, "application/json")
            .form(form);
        Self::send(request).await
    }

    /// `POST`, all of it within `timeout`.
    pub async fn post(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Posted, FetchError> {
        let request = self.client.post(self.checked(url)?).headers(headers).body(body).timeout(timeout);
        let response = request.send().await.map_err(|error| cause(&error))?;
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|v| retry_after(v.to_str().ok()?, clock::now()));
        Ok(Posted { status: response.status().as_u16(), retry_after })
    }

    /// Whether requests may go to a URL, as far as that is known before its name is looked up.
    pub(crate) fn may_ask(&self, url: &str) -> Result<(), FetchError> {
        self.checked(url).map(|_| ())
    }

    fn checked(&self, url: &str) -> Result<Url, FetchError> {
        let url = Url::parse(url).map_err(|_| FetchError::Url)?;
        if url.scheme() != "https" || !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::Url);
        }
        // An address in the URL is never looked up, so the resolver doesn't see it.
        let host = url.host_str().ok_or(FetchError::Url)?;
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            permitted(&self.allow, address)?;
        }
        Ok(url)
    }

    async fn send(request: RequestBuilder) -> Result<Fetched, FetchError> {
        let mut response = request.send().await.map_err(|error| cause(&error))?;
        if response.status() != http::StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let max_age = response.headers().get(header::CACHE_CONTROL).and_then(|v| max_age(v.to_str().ok()?));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| cause(&error))? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Fetched { body: body.into(), max_age })
    }
}

/// Looks names up and leaves only addresses that may be asked: the connection goes to those and to no others.
struct Guard {
    allow: Arc<[Network]>,
    lookup: Lookup,
}

/// How a name's addresses are found.
pub(crate) type Lookup =
    Arc<dyn Fn(String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> + Send + Sync>;

async fn system(name: String) -> std::io::Result<Vec<IpAddr>> {
    Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let allow = self.allow.clone();
        let found = (self.lookup)(name.as_str().to_owned());
        Box::pin(async move {
            let mut refused = FetchError::Name(name.as_str().to_owned());
            let found = found.await.map_err(|_| refused.clone())?;
            let mut taken: Vec<SocketAddr> = Vec::new();
            for address in found {
                match permitted(&allow, address) {
                    Ok(()) => taken.push((address, 0).into()),
                    Err(error) => refused = error,
                }
            }
            if taken.is_empty() { Err(refused.into()) } else { Ok(Box::new(taken.into_iter()) as Addrs) }
        })
    }
}

pub(crate) fn permitted(allow: &[Network], address: IpAddr) -> Result<(), FetchError> {
    if is_public(address) || allow.iter().any(|network| network.contains(address)) {
        Ok(())
    } else {
        Err(FetchError::Address(address))
    }
}

/// Whether an address is on the open internet (the IANA special-purpose registries, RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_documentation()
                || matches!(
                    (a, b, c),
                    (0, ..) | (100, 64..=127, _) | (192, 0, 0) | (192, 88, 99) | (198, 18 | 19, _)
                )
                || a >= 224)
        }
        IpAddr::V6(v6) => match v6.segments() {
            // Tunnels and documentation inside the one global range.
            [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x2002 | 0x3fff, ..] => false,
            [first, ..] => first & 0xe000 == 0x2000,
        },
    }
}

/// RFC 9111 §5.2: what may not be stored is good for no time.
fn max_age(value: &str) -> Option<Duration> {
    let directives = || value.split(',').map(|word| word.trim().to_ascii_lowercase());
    if directives().any(|word| word == "no-store" || word == "no-cache") {
        return Some(Duration::ZERO);
    }
    let seconds = directives().find_map(|word| word.strip_prefix("max-age=")?.trim_matches('"').parse().ok());
    seconds.map(Duration::from_secs)
}

/// RFC 9110 §10.2.3: seconds, or a date.
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = OffsetDateTime::parse(value.trim(), &Rfc2822).ok()?;
    let millis = u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
    Some(Timestamp::from_millis(millis).since(now))
}

fn cause(error: &reqwest::Error) -> FetchError {
    if error.is_timeout() {
        return FetchError::Timeout;
    }
    let mut deepest: &dyn std::error::Error = error;
    loop {
        if let Some(own) = deepest.downcast_ref::<FetchError>() {
            return own.clone();
        }
        match deepest.source() {
            Some(source) => deepest = source,
            None => return FetchError::Failed(deepest.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_asked() {
        for (address, public) in [
            ("8.8.8.8", true),
            ("2606:4700::1111", true),
            ("127.0.0.1", false),
            ("10.1.2.3", false),
            ("172.16.0.1", false),
            ("192.168.0.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("192.0.0.8", false),
            ("198.18.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:8.8.8.8", false),
            ("::127.0.0.1", false),
            ("64:ff9b::7f00:1", false),
            ("fc00::1", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("2001::1", false),
            ("2001:db8::1", false),
            ("2002:7f00:1::", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }

    #[tokio::test]
    async fn no_url_leads_into_our_own_network() {
        let fetcher = Fetcher::new(&Settings::default()).unwrap();
        for url in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://localhost/",
            "https://169.254.169.254/latest/meta-data",
        ] {
            let refused = fetcher.get(url).await.unwrap_err();
            assert!(matches!(refused, FetchError::Address(_)), "{url}: {refused}");
        }
        for url in ["http://example.com/", "file:///etc/passwd", "https://a:b@example.com/", "", "https://"] {
            assert_eq!(fetcher.get(url).await, Err(FetchError::Url), "{url}");
        }
    }

    #[test]
    fn an_allowed_network_may_be_asked() {
        let allow = ["127.0.0.0/8".parse().unwrap()];
        assert_eq!(permitted(&allow, "127.0.0.1".parse().unwrap()), Ok(()));
        assert!(permitted(&allow, "10.0.0.1".parse().unwrap()).is_err());
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::from_millis(1_604_000_000_000);
        let read = |text| retry_after(text, now);
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Thu, 29 Oct 2020 19:33:30 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(read("Thu, 29 Oct 2020 19:33:10 GMT"), Some(Duration::ZERO));
        for bad in ["", "-1", "1.5", "soon", "99999999999999999999", "Thu, 29 Oct 2020 19:33:30"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn cache_control_is_read() {
        assert_eq!(max_age("public, Max-Age=60"), Some(Duration::from_secs(60)));
        assert_eq!(max_age("max-age=60, no-store"), Some(Duration::ZERO));
        assert_eq!(max_age("private"), None);
        assert_eq!(max_age("max-age=-1"), None);
    }
}
