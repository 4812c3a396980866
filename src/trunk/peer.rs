//! Another server, seen as its client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::{Joined, Settings, hashed};
use crate::client::login::{LoginStore, TokenSource};
use crate::client::{Builder, Call, Client, ClientError, Guard, Handler, HandlerSpec};
use crate::protocol::event::State;
use crate::protocol::network::Network;
use crate::protocol::number::Number;
use crate::protocol::problem::{Code, Problem};
use crate::service::consumers::Consumer;
use crate::service::fetch;

/// Devices that are registered for different callers' abilities; with more, the oldest ones are registered again.
const MAX_HANDLERS: usize = 32;

/// One connection to another server, and the devices that we registered on its TG.
#[derive(Debug)]
pub(super) struct Peer {
    client: Client,
    tg: String,
    /// By what they can do: calls of alike devices share one.
    handlers: Mutex<HashMap<String, Handler>>,
}

/// A server's URL: the TG's URI without its path.
pub(super) fn server(uri: &str) -> String {
    let authority = uri.strip_prefix("https://").and_then(|rest| rest.split('/').next());
    format!("https://{}", authority.unwrap_or_default())
}

/// Customers name their servers: no request goes into our own network unless that is allowed.
fn guard(allow: &[Network]) -> Guard {
    let allow = allow.to_vec();
    Guard(Arc::new(move |address: IpAddr| fetch::permitted(&allow, address).is_ok()))
}

pub(super) fn builder(settings: &Settings, pseudonym: &str, url: String) -> Builder {
    let builder = Client::builder(url).via(pseudonym);
    match &settings.roots {
        Some(pem) => builder.roots(pem.clone()),
        None => builder,
    }
}

fn customers(settings: &Settings, pseudonym: &str, customer: &Consumer) -> Builder {
    builder(settings, pseudonym, server(&customer.target_uri))
        .token(customer.token.clone())
        .guard(guard(&settings.allow))
}

/// Looks whether a customer's TG is there and takes its token.
pub(super) async fn check(settings: &Settings, pseudonym: &str, customer: &Consumer) -> Result<(), Problem> {
    let bad = |field: &str, why: String| Err(Problem::new(Code::BadTargetUri, why).field(field));
    let looked = match customers(settings, pseudonym, customer).connect().await {
        Ok(client) => client.tg(&customer.target_uri).await,
        Err(error) => Err(error),
    };
    match looked {
        Ok(_) => Ok(()),
        Err(ClientError::Refused(refusal)) => match refusal.status {
            401 | 403 => bad("token", format!("your TG refuses this token: {refusal}")),
            404 => {
                bad("target-uri", "your server knows no TG of that name, or the token may not use it".into())
            }
            508 => bad("target-uri", "this URI points back at this server; name your own server's TG".into()),
            status => bad("target-uri", format!("your TG answers with {status}: {refusal}")),
        },
        Err(error) => bad("target-uri", format!("your TG is to be reachable over HTTP/3: {error}")),
    }
}

/// A refusal by another server, as one of our own.
fn passed_on(error: ClientError) -> Problem {
    let ClientError::Refused(refusal) = error else {
        if let ClientError::Login(error) = &error {
            tracing::error!(%error, "a trunk's login gives no more tokens: `ript trunk join` again");
        }
        return Problem::new(Code::BadGateway, format!("the next server: {error}"));
    };
    // Its word on our token is nothing that the caller could mend.
    let ours = matches!(refusal.status, 401 | 425) || refusal.code == Code::Scope.as_str();
    let code = Code::ALL.iter().copied().find(|c| c.as_str() == refusal.code && c.status() == refusal.status);
    match code.filter(|_| !ours) {
        Some(code) => {
            let mut problem = Problem::new(code, format!("the next server: {}", refusal.detail));
            let wait = refusal.retry_after.and_then(|after| u32::try_from(after.as_secs()).ok());
            problem.retry_after = wait.or(problem.retry_after);
            problem.field = refusal.field;
            problem
        }
        None => {
            tracing::warn!(
                status = refusal.status,
                code = refusal.code,
                "the next server refused a trunk's request"
            );
            Problem::new(Code::BadGateway, "the next server refused this server; its operator has to look")
        }
    }
}

impl Peer {
    pub(super) async fn of_provider(
        settings: &Settings,
        pseudonym: &str,
        joined: &Joined,
    ) -> Result<Arc<Self>, Problem> {
        let store = LoginStore::new(settings.folder.join("logins"));
        let source = TokenSource::stored(&store, &joined.domain).map_err(|error| {
            tracing::error!(domain = joined.domain, %error, "a trunk's login can't be used: `ript trunk join` again");
            Problem::new(Code::BadGateway, "this server's login at the provider can't be used")
        })?;
        let builder = builder(settings, pseudonym, server(&joined.tg)).login(source);
        Self::connected(builder, &joined.tg).await
    }

    pub(super) async fn of_customer(
        settings: &Settings,
        pseudonym: &str,
        customer: &Consumer,
    ) -> Result<Arc<Self>, Problem> {
        Self::connected(customers(settings, pseudonym, customer), &customer.target_uri).await
    }

    async fn connected(builder: Builder, tg: &str) -> Result<Arc<Self>, Problem> {
        let client = builder.connect().await.map_err(passed_on)?;
        Ok(Arc::new(Self { client, tg: tg.to_owned(), handlers: Mutex::default() }))
    }

    /// The device that can do what this caller's can.
    async fn handler(&self, advertisement: &str) -> Result<Handler, ClientError> {
        let mut handlers = self.handlers.lock().await;
        if let Some(handler) = handlers.get(advertisement) {
            return Ok(handler.clone());
        }
        if handlers.len() >= MAX_HANDLERS {
            handlers.clear();
        }
        let spec = HandlerSpec {
            // The same ability is the same device, also after a restart.
            id: format!("trunk-{}", &hashed(advertisement)[..24]),
            advertisement: advertisement.to_owned(),
            name: None,
            // What comes back comes to our own TG.
            called: false,
        };
        let handler = self.client.register(&self.tg, spec).await?;
        handlers.insert(advertisement.to_owned(), handler.clone());
        Ok(handler)
    }

    pub(super) async fn place(
        &self,
        advertisement: &str,
        to: &Number,
        passport: String,
    ) -> Result<Call, Problem> {
        let placed =
            self.handler(advertisement).await.map_err(passed_on)?.place_for(to, passport.clone()).await;
        match placed {
            // It forgot our device: nothing was placed.
            Err(error) if error.code() == Code::NoSuchHandler.as_str() => {
                self.handlers.lock().await.remove(advertisement);
                let handler = self.handler(advertisement).await.map_err(passed_on)?;
                handler.place_for(to, passport).await.map_err(passed_on)
            }
            placed => placed.map_err(passed_on),
        }
    }

    /// A call that we had before a restart; none: it is over.
    pub(super) async fn find(&self, advertisement: &str, call: &str) -> Result<Option<Call>, Problem> {
        let handler = self.handler(advertisement).await.map_err(passed_on)?;
        match handler.open(call).await {
            Ok(call) if call.state() == State::Ended => Ok(None),
            Ok(call) => Ok(Some(call)),
            Err(error) if error.is_ended() || error.refusal().is_some_and(|r| r.status == 404) => Ok(None),
            Err(error) => Err(passed_on(error)),
        }
    }

    pub(super) async fn enrol(&self, csr: Vec<u8>) -> Result<String, Problem> {
        let pem = self.client.post_csr(&self.tg, csr).await.map_err(passed_on)?;
        String::from_utf8(pem.into())
            .map_err(|_| Problem::new(Code::BadGateway, "the provider's answer is no PEM"))
    }
}
