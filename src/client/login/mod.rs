//! Logging in: how a domain's users get tokens (OAuth 2.0), and how a client keeps its token fresh.
//!
//! ```no_run
//! # async fn tour() -> Result<(), Box<dyn std::error::Error>> {
//! use ript::client::Client;
//! use ript::client::login::{Flow, LoginStore, TokenSource};
//!
//! let store = LoginStore::new(LoginStore::default_folder()?);
//! let login = Flow::discover("ript.example", None).await?.browser(|url| println!("open {url}")).await?;
//! store.save(&login).await?;
//! let client = Client::builder("https://ript.example").login(TokenSource::stored(&store, "ript.example")?);
//! let client = client.connect().await?;
//! # Ok(()) }
//! ```
//!
//! | to find | look in |
//! |---|---|
//! | where a domain says how to log in | `discovery` |
//! | the flows: browser, device, machine, refresh | `flow`; the redirect's end: `loopback` |
//! | what a login gave, and where it is kept | `tokens`, `store` |
//! | a client's token renewed ahead of its end | `source` |

mod discovery;
mod error;
mod flow;
mod http;
mod loopback;
mod source;
mod store;
mod tokens;

pub use discovery::Discovery;
pub use error::LoginError;
pub(super) use flow::provider_http;
pub use flow::{DevicePrompt, Flow};
pub use source::TokenSource;
pub(super) use source::{Bearer, Keeper};
pub use store::LoginStore;
pub use tokens::{Login, Secret};

use super::uri::Origin;

/// A domain as logins are kept by it: lower case, the port only where it isn't 443.
pub(super) fn authority(text: &str) -> Result<String, LoginError> {
    let origin = Origin::parse(text).map_err(|error| LoginError::Domain(error.to_string()))?;
    let host = origin.host();
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    Ok(if origin.port() == 443 { host } else { format!("{host}:{}", origin.port()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_has_one_spelling() {
        for (text, expected) in [
            ("Ript.Example", "ript.example"),
            ("https://ript.example:443/x", "ript.example"),
            ("127.0.0.1:4433", "127.0.0.1:4433"),
            ("https://[::1]:4433", "[::1]:4433"),
        ] {
            assert_eq!(authority(text).unwrap(), expected);
        }
        for wrong in ["http://ript.example", "a@ript.example", ""] {
            assert!(matches!(authority(wrong), Err(LoginError::Domain(_))), "{wrong}");
        }
    }
}
