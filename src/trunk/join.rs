//! Joining a provider: what `ript trunk join` does once the person has logged in.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use thiserror::Error;

use super::joined::{Joined, Joins, TOKEN_PREFIX, hashed};
use super::{Settings, peer};
use crate::client::login::{Login, LoginError, LoginStore, TokenSource};
use crate::client::{Client, ClientError};
use crate::protocol::number::{BadNumber, Destinations};
use crate::protocol::resource::{ConsumerTg, TgDirection};

/// How long our own server may take to know the new token.
const PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(250);

/// Why a provider was not joined, or not left; says what to do.
#[derive(Debug, Error)]
pub enum JoinError {
    /// A file can't be written or removed.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The login failed.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The provider could not be asked, or refused.
    #[error("the provider: {0}")]
    Provider(#[from] ClientError),
    /// The login may use no TG, or not the one that was named.
    #[error("this login may use the TGs {known:?}; name one of them with --tg")]
    NoTg {
        /// Their names.
        known: Vec<String>,
    },
    /// The provider assigned nothing.
    #[error("the provider assigned no numbers to this login; ask it for some")]
    NoNumbers,
    /// The provider's numbers can't be read.
    #[error("the provider's numbers can't be read: {0}")]
    Numbers(#[from] BadNumber),
    /// The system has no random numbers.
    #[error("the system has no random numbers")]
    Random,
    /// Our own server doesn't answer as the provider will ask it.
    #[error(
        "this server does not answer at {uri}: {reason}; start `ript serve` with the same data directory, or say with --uri where it is reached"
    )]
    OwnServer {
        /// Where it was looked for.
        uri: String,
        /// What was seen.
        reason: String,
    },
    /// There is nothing to leave.
    #[error("no trunk to {0} is known here; `ript trunk list` shows them")]
    Unknown(String),
}

/// Our own side of a trunk.
#[derive(Clone, Debug)]
pub struct Own {
    /// Our TG, as the provider reaches it.
    pub uri: String,
    /// Its name.
    pub tg: String,
}

fn logins(settings: &Settings) -> LoginStore {
    LoginStore::new(settings.folder.join("logins"))
}

async fn provider(settings: &Settings, domain: &str) -> Result<Client, JoinError> {
    let source = TokenSource::stored(&logins(settings), domain)?;
    let builder = peer::builder(settings, "ript", format!("https://{domain}")).login(source);
    Ok(builder.connect().await?)
}

fn write(settings: &Settings, joined: &Joined) -> Result<(), JoinError> {
    let path = Joined::file(&settings.folder, &joined.domain);
    joined.write(&settings.folder).map_err(|source| JoinError::File { path, source })
}

/// Joins the provider where this login is from: finds its TG, has our own TG registered there, and keeps what the running
/// server needs.
pub async fn join(
    settings: &Settings,
    login: &Login,
    tg: Option<&str>,
    own: &Own,
) -> Result<Joined, JoinError> {
    logins(settings).save(login).await?;
    let domain = login.domain.clone();
    let client = provider(settings, &domain).await?;
    let tgs = client.tgs().await?;
    let found = tgs
        .iter()
        .find(|entry| tg.is_none_or(|tg| entry.name == tg || entry.uri.ends_with(&format!("/{tg}"))));
    let known = || tgs.iter().map(|entry| entry.name.clone()).collect();
    let entry = found.ok_or_else(|| JoinError::NoTg { known: known() })?;
    let uri = client.resolve(&entry.uri)?;
    let description = client.tg(&uri).await?;
    if description.numbers.is_empty() {
        return Err(JoinError::NoNumbers);
    }
    let token = token()?;
    let mut joined = Joined {
        domain,
        tg: uri.clone(),
        destinations: description.outbound.destinations,
        numbers: description.numbers.clone(),
        own_tg: own.tg.clone(),
        token_sha256: hashed(&token),
        registration: None,
    };
    let destinations = Destinations::new(&description.numbers)?;
    let before = Joins::read(&settings.folder).get(&joined.domain).cloned();
    write(settings, &joined)?;
    let registered = async {
        await_own(settings, own, &token).await?;
        let wanted = ConsumerTg {
            uri: None,
            target_uri: own.uri.clone(),
            token: Some(token),
            outbound: TgDirection { origins: None, destinations },
        };
        Ok::<_, JoinError>(client.post_consumer(&uri, &wanted).await?)
    };
    match registered.await {
        Ok(registered) => {
            joined.registration = registered.uri;
            write(settings, &joined)?;
            Ok(joined)
        }
        Err(error) => {
            // What was there before holds on.
            match before {
                Some(before) => write(settings, &before)?,
                None => remove(settings, &joined.domain)?,
            }
            Err(error)
        }
    }
}

fn remove(settings: &Settings, domain: &str) -> Result<(), JoinError> {
    let path = Joined::file(&settings.folder, domain);
    std::fs::remove_file(&path).map_err(|source| JoinError::File { path, source })
}

/// Leaves a provider; live calls go on.
pub async fn leave(settings: &Settings, domain: &str) -> Result<(), JoinError> {
    let joins = Joins::read(&settings.folder);
    let joined = joins.get(domain).ok_or_else(|| JoinError::Unknown(domain.to_owned()))?;
    if let Some(registration) = &joined.registration {
        match provider(settings, domain).await?.delete_consumer(registration).await {
            Err(error) if error.refusal().is_some_and(|refusal| refusal.status == 404) => {}
            done => done?,
        }
    }
    remove(settings, domain)?;
    logins(settings).remove(domain)?;
    Ok(())
}

/// A token that nobody can guess.
fn token() -> Result<String, JoinError> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| JoinError::Random)?;
    Ok(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// Waits until our own server takes the token, reached as the provider will reach it.
async fn await_own(settings: &Settings, own: &Own, token: &str) -> Result<(), JoinError> {
    let ask = async || {
        let builder = peer::builder(settings, "ript", peer::server(&own.uri)).token(token);
        builder.connect().await?.tg(&own.uri).await
    };
    let deadline = crate::clock::instant() + PATIENCE;
    loop {
        match ask().await {
            Ok(_) => return Ok(()),
            Err(error) if crate::clock::instant() >= deadline => {
                return Err(JoinError::OwnServer { uri: own.uri.clone(), reason: error.to_string() });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
