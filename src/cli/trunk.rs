//! `ript trunk join DOMAIN`, `ript trunk leave DOMAIN`, `ript trunk list`.

use std::process::ExitCode;

use super::Outcome;
use super::client_args::Failure;
use super::login::confirm;
use super::serve;
use crate::client::login::Flow;
use crate::config::Config;
use crate::protocol::resource::tg_path;
use crate::trunk::{self, Joins, Own};

/// Joins, leaves and lists providers.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Log in at a provider and connect this server's trunk to it, while `ript serve` runs
    Join(Join),
    /// End a trunk; its live calls go on
    Leave(Leave),
    /// Show the trunks of this server
    List(List),
}

#[derive(Debug, clap::Args)]
struct Join {
    /// The provider: ript.example, or with a port
    domain: String,
    /// By a code that is typed into a browser elsewhere
    #[arg(long)]
    device: bool,
    /// The provider's TG, where the login may use several
    #[arg(long, value_name = "NAME")]
    tg: Option<String>,
    /// This server's TG as the provider reaches it [default: from the certificate's name and the port]
    #[arg(long, value_name = "URI")]
    uri: Option<String>,
    #[command(flatten)]
    serve: serve::Args,
}

#[derive(Debug, clap::Args)]
struct Leave {
    /// The provider, as it was joined
    domain: String,
    #[command(flatten)]
    serve: serve::Args,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    serve: serve::Args,
}

impl Args {
    /// Runs it.
    pub async fn run(self) -> Outcome {
        match self.command {
            Command::Join(join) => join.run().await?,
            Command::Leave(leave) => {
                let config = leave.serve.load()?;
                trunk::leave(&serve::trunks(&config)?, &leave.domain).await?;
                println!("left {}; live calls go on", leave.domain);
            }
            Command::List(list) => {
                let config = list.serve.load()?;
                for joined in Joins::read(&serve::trunks(&config)?.folder).all() {
                    let state =
                        if joined.registration.is_some() { "joined" } else { "not registered: join again" };
                    println!("{}  {}  {state}", joined.domain, joined.tg);
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Join {
    async fn run(self) -> super::client_args::CliResult<()> {
        let config = self.serve.load()?;
        let settings = serve::trunks(&config)?;
        let own = own(&config, self.uri)?;
        let flow = Flow::discover(&self.domain, settings.roots.as_deref()).await?;
        let login = confirm(&flow, self.device).await?;
        println!("logged in at {}", login.domain);
        let joined = trunk::join(&settings, &login, self.tg.as_deref(), &own).await?;
        println!("joined {} as {}", joined.domain, own.uri);
        println!("numbers: {}", joined.numbers.join(" "));
        Ok(())
    }
}

/// Our own TG as the provider reaches it.
fn own(config: &Config, given: Option<String>) -> Result<Own, Failure> {
    let tg = config.service.tgs.first().map(|tg| tg.id.clone());
    let tg = tg.ok_or_else(|| Failure::new("this server has no TG", "configure a [[tg]]"))?;
    if let Some(uri) = given {
        let named = uri.rsplit('/').next().unwrap_or_default().to_owned();
        return Ok(Own { uri, tg: named });
    }
    let none = |what: &str| Failure::new(what, "say with --uri where the provider reaches this server's TG");
    let address = config.listen.first().ok_or_else(|| none("this server listens nowhere"))?;
    let tls = config.tls.as_ref().ok_or_else(|| none("this server has no certificate"))?;
    let pem = std::fs::read(&tls.certificate)
        .map_err(|error| none(&format!("{}: {error}", tls.certificate.display())))?;
    let name = domain(&pem).ok_or_else(|| none("the certificate names no domain"))?;
    let port = match address.port() {
        443 => String::new(),
        port => format!(":{port}"),
    };
    Ok(Own { uri: format!("https://{name}{port}{}", tg_path(&tg)), tg: tg.to_string() })
}

/// The first domain name that a certificate is for.
fn domain(pem: &[u8]) -> Option<String> {
    use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&pem.contents).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) if !name.starts_with('*') => Some((*name).to_owned()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::devca::DevCa;

    #[test]
    fn the_certificate_says_under_which_name_this_server_is_reached() {
        let ca = DevCa::generate(crate::clock::now()).unwrap();
        let leaf = ca.issue_server(&["192.0.2.1", "ript.example"], crate::clock::now()).unwrap();
        assert!(
            domain(leaf.cert_pem.as_bytes()).is_some_and(|name| name.parse::<std::net::IpAddr>().is_err())
        );
        assert_eq!(domain(b"nonsense"), None);
    }
}
