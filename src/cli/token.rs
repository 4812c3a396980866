//! `ript token`: a token signed by the development issuer key.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::dev::{self, AUDIENCE, ISSUER};
use super::{CliError, Outcome};
use crate::adapter::camara::SCOPES;
use crate::clock;
use crate::config::{DEFAULT_DATA, pattern};
use crate::identity::token::{Claims, issue};
use crate::protocol::id::TgId;
use crate::protocol::time::Timestamp;

const OWN_SCOPES: [&str; 4] = ["ript:calls", "ript:handlers", "ript:certs", "ript:trunks"];

/// What a token may be used for unless told otherwise: everything.
pub fn default_scopes() -> Vec<String> {
    OWN_SCOPES.iter().chain(&SCOPES).map(|&scope| scope.to_owned()).collect()
}

/// The arguments of `ript token`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The user's name
    #[arg(long, value_name = "NAME", value_parser = word)]
    user: String,
    /// A number that the user may call from and be called at: +14085551000, +1408*, a@example.com
    #[arg(long = "number", value_name = "NUMBER", required = true, value_parser = pattern)]
    numbers: Vec<String>,
    /// A TG that the user may use; * for all
    #[arg(long = "tg", value_name = "TG", default_value = dev::TG, value_parser = tg)]
    tgs: Vec<String>,
    /// What the token may be used for [default: all of ript:… and of CAMARA's webrtc-…]
    #[arg(long = "scope", value_name = "SCOPE", default_values_t = default_scopes(), hide_default_value = true, value_parser = word)]
    scopes: Vec<String>,
    /// How long it lives, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u32).range(1..))]
    ttl: u32,
    /// The development server's data directory
    #[arg(long, value_name = "DIR", env = "RIPT_DATA", default_value = DEFAULT_DATA)]
    data: PathBuf,
}

impl Args {
    /// Prints the token.
    pub async fn run(self) -> Outcome {
        let claims = Claims {
            issuer: ISSUER.to_owned(),
            subject: self.user,
            audience: AUDIENCE.to_owned(),
            client_id: "ript-token".to_owned(),
            numbers: self.numbers,
            tgs: self.tgs,
            scopes: self.scopes,
            lifetime: Duration::from_secs(self.ttl.into()),
        };
        writeln!(std::io::stdout(), "{}", mint(&self.data, &claims, clock::now())?)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Claims for a user of a development server, with the default scopes and an hour to live.
pub fn claims(user: &str, numbers: &[&str]) -> Claims {
    Claims {
        issuer: ISSUER.to_owned(),
        subject: user.to_owned(),
        audience: AUDIENCE.to_owned(),
        client_id: "ript-token".to_owned(),
        numbers: numbers.iter().map(|&number| number.to_owned()).collect(),
        tgs: vec![dev::TG.to_owned()],
        scopes: default_scopes(),
        lifetime: Duration::from_secs(3600),
    }
}

/// Signs a token with the issuer key of a development server's data directory.
pub fn mint(data: &Path, claims: &Claims, now: Timestamp) -> Result<String, CliError> {
    let path = dev::issuer_key_path(data);
    let key = dev::read_key(&path)?.ok_or_else(|| CliError::NoIssuerKey(data.to_owned()))?;
    issue(&key, claims, now).map_err(|source| CliError::Key { path, source })
}

fn tg(text: &str) -> Result<String, String> {
    if text == "*" { Ok(text.to_owned()) } else { text.parse::<TgId>().map(String::from) }
}

/// Claims hold words with spaces between them.
fn word(text: &str) -> Result<String, &'static str> {
    let fits = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    if fits { Ok(text.to_owned()) } else { Err("one word is right, without spaces") }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::Cli;
    use super::super::dev::Development;
    use super::*;
    use crate::config::Config;
    use crate::identity::token::TokenError;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    #[test]
    fn a_minted_token_is_taken_by_the_server_of_that_directory_and_no_other() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let policy = |data: &Path| {
            let mut config = Config::development(data, &[]).unwrap();
            Development::prepare(data, &[], NOW).unwrap().apply(&mut config);
            config.service.tokens
        };
        let (own, foreign) = (policy(dir.path()), policy(other.path()));
        let token = mint(dir.path(), &claims("alice", &["+14085551000"]), NOW).unwrap();
        let alice = own.verify(&token, NOW).unwrap();
        assert_eq!((alice.subject.as_str(), alice.issuer.as_str()), ("alice", "urn:ript:dev"));
        assert!(alice.may_use_number("+14085551000") && !alice.may_use_number("+14085551001"));
        assert!(alice.may_use_tg("dev") && !alice.may_use_tg("other"));
        assert!(default_scopes().iter().all(|scope| alice.has_scope(scope)));
        assert_eq!(alice.expires, NOW + Duration::from_secs(3600));
        assert_eq!(foreign.verify(&token, NOW), Err(TokenError::UnknownKey));
    }

    #[test]
    fn without_a_development_key_the_error_says_where_to_get_one() {
        let dir = tempfile::tempdir().unwrap();
        let error = mint(dir.path(), &claims("alice", &[]), NOW).unwrap_err();
        assert!(error.to_string().contains("ript serve --dev"), "{error}");
    }

    #[test]
    fn arguments_are_checked_where_they_are_given() {
        let parse = |more: &str| {
            Cli::try_parse_from(format!("ript token --user alice --number +14085551000 {more}").split(' '))
        };
        parse("--number a@example.com --number +1* --tg lab --tg * --scope x --ttl 60 --data d").unwrap();
        for wrong in ["--number 123", "--tg a/b", "--ttl 0", "--ttl x", "--number +1x*"] {
            parse(wrong).unwrap_err();
        }
        Cli::try_parse_from(["ript", "token", "--user", "alice"]).unwrap_err();
        Cli::try_parse_from(["ript", "token", "--user", "a b", "--number", "*"]).unwrap_err();
    }
}
