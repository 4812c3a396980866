//! `ript login DOMAIN`, `ript logout DOMAIN`.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use super::client_args::{CliResult, Failure};
use crate::client::login::{Flow, Login, LoginStore};

/// Where logins are kept.
#[derive(Clone, Debug, clap::Args)]
pub struct StoreArgs {
    /// The folder of logins [default: ~/.config/ript/logins].
    #[arg(long, env = "RIPT_TOKENS", value_name = "DIR")]
    pub tokens: Option<PathBuf>,
}

impl StoreArgs {
    /// The store itself.
    pub fn open(&self) -> CliResult<LoginStore> {
        Ok(LoginStore::new(match &self.tokens {
            Some(folder) => folder.clone(),
            None => LoginStore::default_folder()?,
        }))
    }
}

/// Logs in at a domain.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where: ript.example, or with a port.
    domain: String,
    /// By a code that is typed into a browser elsewhere.
    #[arg(long)]
    device: bool,
    /// PEM of the CA that the domain's certificate comes from, in place of the system's.
    #[arg(long, env = "RIPT_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
}

impl Args {
    /// Runs it.
    pub async fn run(self) -> CliResult<ExitCode> {
        let store = self.store.open()?;
        let read = |path: &PathBuf| {
            std::fs::read(path)
                .map_err(|error| Failure::new(format!("{}: {error}", path.display()), "check the path"))
        };
        let roots = self.ca.as_ref().map(read).transpose()?;
        let flow = Flow::discover(&self.domain, roots.as_deref()).await?;
        let login = confirm(&flow, self.device).await?;
        store.save(&login).await?;
        println!("logged in at {}", login.domain);
        if login.refresh_token.is_none() {
            println!("this login can't be renewed: it ends with its token");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Has a person confirm a login, in a browser here or elsewhere.
pub(super) async fn confirm(flow: &Flow, device: bool) -> CliResult<Login> {
    if device {
        let prompt = |prompt: &crate::client::login::DevicePrompt| {
            println!("open {} and type the code {}", prompt.uri, prompt.code);
            if let Some(link) = &prompt.uri_complete {
                println!("or open {link}");
            }
        };
        return Ok(flow.device(prompt).await?);
    }
    let show = |url: &oauth2::url::Url| {
        println!("open {url}\n(without a browser here: --device)");
        open_browser(url.as_str());
    };
    Ok(flow.browser(show).await?)
}

/// Forgets the login at a domain.
#[derive(Clone, Debug, clap::Args)]
pub struct LogoutArgs {
    /// Where: as for `ript login`.
    domain: String,
    #[command(flatten)]
    store: StoreArgs,
}

impl LogoutArgs {
    /// Runs it.
    pub async fn run(self) -> CliResult<ExitCode> {
        let known = self.store.open()?.remove(&self.domain)?;
        println!("{} {}", if known { "logged out at" } else { "there was no login at" }, self.domain);
        Ok(ExitCode::SUCCESS)
    }
}

/// A courtesy: the URL is printed anyway.
fn open_browser(url: &str) {
    let own = std::env::var("BROWSER").ok().and_then(|list| list.split(':').next().map(str::to_owned));
    let program = own.filter(|name| !name.is_empty()).unwrap_or_else(|| "xdg-open".to_owned());
    let mut command = Command::new(program);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Err(error) = command.spawn() {
        tracing::debug!(%error, "no browser was opened");
    }
}
