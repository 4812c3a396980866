//! The ways to a login: by a browser, by a code that is typed elsewhere, by a machine's secret, by renewal.

use std::borrow::Cow;
use std::time::Duration;

use oauth2::basic::{BasicClient, BasicTokenResponse};
use oauth2::url::Url;
use oauth2::{
    AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, DeviceAuthorizationUrl, EndpointNotSet,
    EndpointSet, ErrorResponseType, HttpRequest, PkceCodeChallenge, RedirectUrl, RefreshToken,
    RequestTokenError, Scope, StandardDeviceAuthorizationResponse, StandardErrorResponse, TokenUrl,
};
use rustls::RootCertStore;
use tokio::net::TcpListener;

use super::http::{Http, HttpError};
use super::loopback::{self, Expected};
use super::{Discovery, Login, LoginError, Secret, authority};
use crate::client::builder::read_roots;
use crate::clock;
use crate::transport::tls;

/// A client of the token endpoint.
type OAuth = BasicClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;

/// What a person needs to confirm a login from another device.
#[derive(Clone, Debug)]
pub struct DevicePrompt {
    /// What is to be typed.
    pub code: String,
    /// Where.
    pub uri: String,
    /// The same with the code in it, for a link or a picture.
    pub uri_complete: Option<String>,
    /// For how long.
    pub expires_in: Duration,
}

/// Logging in at one domain.
#[derive(Clone, Debug)]
pub struct Flow {
    domain: String,
    discovery: Discovery,
    http: Http,
}

impl Flow {
    /// Asks a domain where to log in. `roots` is PEM that the domain is trusted by in place of the system's
    /// roots; the identity provider may come from either.
    pub async fn discover(domain: &str, roots: Option<&[u8]>) -> Result<Self, LoginError> {
        let domain = authority(domain)?;
        let own = match roots {
            Some(pem) => read_roots(pem).map_err(|error| LoginError::local("--ca", error))?,
            None => system_roots()?,
        };
        let discovery = fetch(&domain, &Http::new(own)?).await?;
        Ok(Self { domain, discovery, http: provider_http(roots)? })
    }

    /// Goes on where a login came from, without asking the domain again.
    pub(super) fn of(login: &Login, http: Http) -> Self {
        Self { domain: login.domain.clone(), discovery: login.discovery.clone(), http }
    }

    /// Where the domain says to log in.
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// Logs in by a browser on this machine, which `show` sends to a URL.
    // RFC 8252 §6: authorization code, PKCE, a loopback redirect.
    pub async fn browser(&self, show: impl FnOnce(&Url)) -> Result<Login, LoginError> {
        let endpoint = self.discovery.authorization_endpoint.clone().ok_or_else(|| LoginError::NoFlow {
            domain: self.domain.clone(),
            flow: "login by a browser",
            instead: "try `ript login --device`",
        })?;
        let port = |error| LoginError::local("a port for the browser to come back to", error);
        // RFC 8252 §8.3: the address itself, so that no resolver leads it elsewhere.
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(port)?;
        let redirect = format!("http://{}/callback", listener.local_addr().map_err(port)?);
        let redirect = RedirectUrl::new(redirect).map_err(|error| LoginError::local("redirect", error))?;
        // RFC 7636 §4.2: S256 is the one method that a public client should use.
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let oauth = self.oauth().set_auth_uri(AuthUrl::from_url(endpoint)).set_redirect_uri(redirect);
        let mut asking = oauth
            .authorize_url(CsrfToken::new_random)
            .set_pkce_challenge(challenge)
            .add_scopes(self.scopes());
        if let Some((name, value)) = self.resource() {
            asking = asking.add_extra_param(name, value);
        }
        if self.discovery.scopes.iter().any(|scope| scope == "offline_access") {
            // OpenID Connect Core §11: offline access is given only with consent.
            asking = asking.add_extra_param("prompt", "consent");
        }
        let (url, state) = asking.url();
        show(&url);
        let issuer = self.discovery.issuer.clone();
        let expected = Expected { state: Secret::new(state.secret()), issuer };
        let code = loopback::code(listener, expected).await?;
        let mut request =
            oauth.exchange_code(AuthorizationCode::new(code.expose().to_owned())).set_pkce_verifier(verifier);
        if let Some((name, value)) = self.resource() {
            request = request.add_extra_param(name, value);
        }
        let (send, asked) = (self.send(), clock::now());
        let answer = request.request_async(&send).await.map_err(|error| self.explain(error))?;
        Login::from_answer(&self.domain, &self.discovery, &answer, asked)
    }

    /// Logs in by any browser anywhere: `show` tells a person what to type where (RFC 8628).
    pub async fn device(&self, show: impl FnOnce(&DevicePrompt)) -> Result<Login, LoginError> {
        let endpoint =
            self.discovery.device_authorization_endpoint.clone().ok_or_else(|| LoginError::NoFlow {
                domain: self.domain.clone(),
                flow: "login by a code",
                instead: "try without --device",
            })?;
        let oauth = self.oauth().set_device_authorization_url(DeviceAuthorizationUrl::from_url(endpoint));
        let send = self.send();
        let mut asking = oauth.exchange_device_code().add_scopes(self.scopes());
        if let Some((name, value)) = self.resource() {
            asking = asking.add_extra_param(name, value);
        }
        let begun: StandardDeviceAuthorizationResponse =
            asking.request_async(&send).await.map_err(|error| self.explain(error))?;
        show(&DevicePrompt {
            code: begun.user_code().secret().clone(),
            uri: begun.verification_uri().to_string(),
            uri_complete: begun.verification_uri_complete().map(|uri| uri.secret().clone()),
            expires_in: begun.expires_in(),
        });
        // RFC 8628 §3.5: the library keeps the interval, and lengthens it at `slow_down`.
        let mut polling = oauth.exchange_device_access_token(&begun);
        if let Some((name, value)) = self.resource() {
            polling = polling.add_extra_param(name, value);
        }
        let asked = clock::now();
        let answer = polling.request_async(&send, tokio::time::sleep, None).await;
        let answer = answer.map_err(|error| match self.explain(error) {
            LoginError::Refused { code, .. } if code == "expired_token" => LoginError::TimedOut,
            other => other,
        })?;
        // The token is younger than the question; by how much, only the last poll knows.
        let asked = clock::now().max(asked);
        Login::from_answer(&self.domain, &self.discovery, &answer, asked)
    }

    /// Logs a machine in by its own name and secret (RFC 6749 §4.4); such a login isn't renewed by itself.
    pub async fn machine(&self, id: &str, secret: &Secret) -> Result<Login, LoginError> {
        let oauth = BasicClient::new(ClientId::new(id.to_owned()))
            .set_client_secret(ClientSecret::new(secret.expose().to_owned()))
            .set_token_uri(self.token_url());
        let mut request = oauth.exchange_client_credentials().add_scopes(self.scopes());
        if let Some((name, value)) = self.resource() {
            request = request.add_extra_param(name, value);
        }
        let (send, asked) = (self.send(), clock::now());
        let answer = request.request_async(&send).await.map_err(|error| self.explain(error))?;
        Login::from_answer(&self.domain, &self.discovery, &answer, asked)
    }

    /// Another token for the refresh token of a login.
    pub async fn refresh(&self, login: &Login) -> Result<Login, LoginError> {
        let ended = |code: &str| LoginError::Ended { domain: self.domain.clone(), code: code.to_owned() };
        let token = login.refresh_token.as_ref().ok_or_else(|| ended("it came without a refresh token"))?;
        let token = RefreshToken::new(token.expose().to_owned());
        let oauth = self.oauth();
        let mut request = oauth.exchange_refresh_token(&token);
        if let Some((name, value)) = self.resource() {
            request = request.add_extra_param(name, value);
        }
        let (send, asked) = (self.send(), clock::now());
        let answer: BasicTokenResponse =
            request.request_async(&send).await.map_err(|error| match self.explain(error) {
                // RFC 6749 §5.2: asking again gets the same answer.
                LoginError::Refused { code, .. }
                    if matches!(
                        code.as_str(),
                        "invalid_grant" | "invalid_client" | "unauthorized_client"
                    ) =>
                {
                    ended(&code)
                }
                other => other,
            })?;
        Ok(login.renewed(Login::from_answer(&self.domain, &self.discovery, &answer, asked)?))
    }

    fn token_url(&self) -> TokenUrl {
        TokenUrl::from_url(self.discovery.token_endpoint.clone())
    }

    fn oauth(&self) -> OAuth {
        BasicClient::new(ClientId::new(self.discovery.client_id.clone())).set_token_uri(self.token_url())
    }

    fn scopes(&self) -> Vec<Scope> {
        self.discovery.scopes.iter().cloned().map(Scope::new).collect()
    }

    /// RFC 8707 §2: for whom the token is, in every request.
    fn resource(&self) -> Option<(&'static str, Cow<'static, str>)> {
        self.discovery.resource.clone().map(|resource| ("resource", Cow::Owned(resource)))
    }

    fn send(&self) -> impl Fn(HttpRequest) -> Exchange + Send + Sync + use<> {
        let http = self.http.clone();
        move |request| Box::pin(http.clone().exchange(request))
    }

    fn explain<T>(&self, error: RequestTokenError<HttpError, StandardErrorResponse<T>>) -> LoginError
    where
        T: ErrorResponseType + std::fmt::Display + 'static,
    {
        let endpoint = &self.discovery.token_endpoint;
        let server = format!(
            "{}:{}",
            endpoint.host_str().unwrap_or_default(),
            endpoint.port_or_known_default().unwrap_or(443)
        );
        match error {
            RequestTokenError::ServerResponse(answer) => LoginError::Refused {
                code: answer.error().to_string(),
                detail: answer.error_description().cloned().unwrap_or_default(),
            },
            RequestTokenError::Request(error) => error.explain(&server),
            // What serde says may quote a token; where it stumbled doesn't.
            RequestTokenError::Parse(error, _) => LoginError::protocol(
                format!("the answer of {server}"),
                format!("unreadable at `{}`", error.path()),
            ),
            RequestTokenError::Other(reason) => {
                LoginError::protocol(format!("the answer of {server}"), reason)
            }
        }
    }
}

type Exchange = std::pin::Pin<Box<dyn Future<Output = Result<oauth2::HttpResponse, HttpError>> + Send>>;

/// What an identity provider is reached by: the given roots and the system's.
pub(in super::super) fn provider_http(roots: Option<&[u8]>) -> Result<Http, LoginError> {
    let Some(pem) = roots else { return Http::new(system_roots()?) };
    let mut all = read_roots(pem).map_err(|error| LoginError::local("--ca", error))?;
    if let Ok(system) = system_roots() {
        all.extend(system.roots);
    }
    Http::new(all)
}

fn system_roots() -> Result<RootCertStore, LoginError> {
    tls::roots(None).map_err(|error| LoginError::local("the system's trust roots", error))
}

async fn fetch(domain: &str, http: &Http) -> Result<Discovery, LoginError> {
    let request = http::Request::get(format!("https://{domain}/.well-known/ript-oauth"))
        .header(http::header::ACCEPT, "application/json")
        .body(Vec::new())
        .map_err(|error| LoginError::Domain(error.to_string()))?;
    let answer = http.clone().exchange(request).await.map_err(|error| error.explain(domain))?;
    if answer.status() == http::StatusCode::OK {
        Discovery::parse(domain, answer.body())
    } else {
        Err(LoginError::NotOffered {
            domain: domain.to_owned(),
            reason: format!("status {}", answer.status()),
        })
    }
}
