//! What `tgs`, `listen` and `call` have in common: where the server is, who we are, how we sound.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::json;

use super::login::StoreArgs;
use super::terminal::Terminal;
use crate::client::audio::{
    AtEnd, AudioCodec, CALLEE, CALLER, FrameSource, SAMPLE_RATE, correlate, read_audio, speech,
};
use crate::client::login::{LoginError, TokenSource};
use crate::client::{AudioOptions, AudioSource, Client, ClientError, HandlerSpec};
use crate::protocol::resource::TgEntry;

/// What a command fails with.
pub type CliResult<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Where the server is and who we are.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// The server.
    #[arg(long, env = "RIPT_SERVER", default_value = "https://127.0.0.1:4433", value_name = "URL")]
    pub server: String,
    /// The bearer token; `ript token` makes one for a development server. Without it, the login that
    /// `ript login` left is used.
    #[arg(long, env = "RIPT_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// PEM of the CA that the server's certificate comes from, in place of the system's.
    #[arg(long, env = "RIPT_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// PEM of the key that signs our calls (PASSporTs); without one, keys are made and enrolled at the server.
    #[arg(long, env = "RIPT_PASSPORT_KEY", value_name = "FILE")]
    pub passport_key: Option<PathBuf>,
    /// PEM of that key's certificates, leaf first (RFC 8226), for servers that don't know the key.
    #[arg(long, env = "RIPT_PASSPORT_CHAIN", value_name = "FILE", requires = "passport_key")]
    pub passport_chain: Option<PathBuf>,
    /// The folder of `ript serve --dev`: takes ca.pem from there.
    #[arg(long, env = "RIPT_DEV", value_name = "DIR")]
    pub dev: Option<PathBuf>,
    /// Where logins are kept.
    #[command(flatten)]
    pub logins: StoreArgs,
}

impl ServerArgs {
    /// Connects, or says what to do about it.
    pub async fn connect(&self) -> CliResult<Client> {
        let mut builder = Client::builder(&self.server);
        if let Some(token) = &self.token {
            builder = builder.token(token.trim());
        } else if let Some(source) = self.login()? {
            builder = builder.login(source);
        }
        if let Some(pem) = self.roots()? {
            builder = builder.roots(pem);
        }
        if let Some(path) = &self.passport_key {
            builder = builder.passport_key(read(path, "check the path")?);
        }
        if let Some(path) = &self.passport_chain {
            builder = builder.passport_chain(read(path, "check the path")?);
        }
        builder.connect().await.map_err(explain)
    }

    /// What `ript login` left for this server.
    fn login(&self) -> CliResult<Option<TokenSource>> {
        // Without a home there are no logins.
        let Ok(store) = self.logins.open() else { return Ok(None) };
        match TokenSource::stored(&store, &self.server) {
            Ok(source) => Ok(Some(source)),
            // The server's refusal says what to do; a wrong URL is told by the client.
            Err(LoginError::None { .. } | LoginError::Domain(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The CA by its own flag, or from the development folder.
    fn roots(&self) -> CliResult<Option<String>> {
        let path = match (&self.ca, &self.dev) {
            (Some(path), _) => path.clone(),
            (None, Some(dir)) => dir.join("ca.pem"),
            (None, None) => return Ok(None),
        };
        let hint = match (&self.ca, &self.dev) {
            (None, Some(_)) => "start the server with `ript serve --dev`, which writes it",
            _ => "check the path",
        };
        read(&path, hint).map(Some)
    }
}

fn read(path: &Path, hint: &'static str) -> CliResult<String> {
    let failed = |error| Failure::new(format!("{}: {error}", path.display()), hint).into();
    std::fs::read_to_string(path).map_err(failed)
}

/// A codec by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Codec {
    /// Opus, 48 kHz.
    Opus,
    /// G.711 µ-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
}

impl From<Codec> for AudioCodec {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::Opus => Self::Opus,
            Codec::Pcmu => Self::Pcmu,
            Codec::Pcma => Self::Pcma,
        }
    }
}

/// How we sound, and how it is shown.
#[derive(Clone, Debug, clap::Args)]
pub struct SoundArgs {
    /// What to say: WAV of any rate, or Ogg Opus; without it, a built-in voice, over and over.
    #[arg(long, value_name = "FILE")]
    pub play: Option<PathBuf>,
    /// Where to write what is heard, as WAV.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Fail unless the recording holds this speech: a file, or `caller` or `callee` for a built-in voice.
    #[arg(long, value_name = "FILE", requires = "record")]
    pub expect: Option<PathBuf>,
    /// Speak this codec only; without it, what the other side does best.
    #[arg(long, value_enum)]
    pub codec: Option<Codec>,
    /// Media over ordinary requests, without trying WebTransport.
    #[arg(long)]
    pub byways: bool,
    /// Say and hear by microphone and speaker.
    #[cfg(feature = "device")]
    #[arg(long, conflicts_with = "play")]
    pub device: bool,
    /// Events as JSON, one a line, for programs.
    #[arg(long)]
    pub json: bool,
}

/// Which of the built-in voices speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// Who calls.
    Caller,
    /// Who is called.
    Callee,
}

impl SoundArgs {
    /// What this device says about itself.
    pub fn handler(&self) -> HandlerSpec {
        let spec = match self.codec {
            Some(codec) => HandlerSpec::codecs(&[codec.into()]),
            None => HandlerSpec::audio(),
        };
        spec.name("ript on the command line")
    }

    /// Reads what is to be said, once, before anybody waits for it.
    pub fn source(&self, voice: Voice) -> CliResult<FrameSource> {
        Ok(match (&self.play, voice) {
            (Some(path), _) => FrameSource::new(read_audio(path)?, AtEnd::Silence),
            (None, Voice::Caller) => FrameSource::new(speech(CALLER), AtEnd::Loop),
            (None, Voice::Callee) => FrameSource::new(speech(CALLEE), AtEnd::Loop),
        })
    }

    /// Whether the recording holds what was expected in it.
    pub fn check(&self, terminal: &mut Terminal) -> CliResult<()> {
        let (Some(expected), Some(record)) = (&self.expect, &self.record) else { return Ok(()) };
        let wanted = super::compare::expected(expected)?;
        let found = correlate(&wanted, &read_audio(record)?, SAMPLE_RATE);
        let score = format!("correlation {:.2}, coverage {:.2}", found.score, found.coverage);
        if !found.holds_speech() {
            let what = format!("{} does not hold the expected speech: {score}", record.display());
            return Err(Failure::new(what, "listen to it, and look at the call's loss").into());
        }
        terminal.say(&format!("{} holds the expected speech: {score}", record.display()));
        terminal.json(&json!({
            "event": "client-heard", "correlation": found.score, "coverage": found.coverage,
        }));
        Ok(())
    }

    /// How a call is to be spoken and heard.
    pub fn options(&self, source: &FrameSource) -> CliResult<AudioOptions> {
        let options = AudioOptions {
            source: AudioSource::Frames(source.clone()),
            record: self.record.clone(),
            byways_only: self.byways,
            ..AudioOptions::default()
        };
        #[cfg(feature = "device")]
        if self.device {
            let (microphone, speaker) = crate::client::device::open()?;
            return Ok(AudioOptions { source: microphone, listen: Some(speaker), ..options });
        }
        Ok(options)
    }
}

/// The TG that is meant: by URI, by its last part, by name, or the first.
pub async fn choose_tg(client: &Client, wanted: Option<&str>) -> CliResult<TgEntry> {
    let tgs = client.tgs().await.map_err(explain)?;
    let names: Vec<&str> = tgs.iter().map(|tg| last_part(&tg.uri)).collect();
    let known = names.join(", ");
    let found = match wanted {
        None => tgs.first(),
        Some(wanted) => {
            tgs.iter().find(|tg| tg.uri == wanted || last_part(&tg.uri) == wanted || tg.name == wanted)
        }
    };
    found.cloned().ok_or_else(|| match wanted {
        Some(wanted) => {
            Failure::new(format!("there is no TG {wanted:?}"), format!("known are: {known}")).into()
        }
        None => Failure::new("the token may use no TG", "ask the server's operator for another token").into(),
    })
}

/// The last part of a URI's path.
pub fn last_part(uri: &str) -> &str {
    uri.trim_end_matches('/').rsplit('/').next().unwrap_or(uri)
}

/// An error with what to do about it.
#[derive(Debug)]
pub struct Failure {
    what: String,
    hint: String,
}

impl Failure {
    /// What went wrong, and what would help.
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "\n  {}", self.hint) }
    }
}

impl Error for Failure {}

/// The client's error, with what to do about it.
pub fn explain(error: ClientError) -> Box<dyn Error + Send + Sync> {
    Failure::new(error.to_string(), hint(&error)).into()
}

fn hint(error: &ClientError) -> &'static str {
    match error {
        ClientError::Unreachable { .. } => {
            "is the server running, and does UDP get through? `ript serve --dev` starts one here; --server names another"
        }
        ClientError::Untrusted { .. } => {
            "pass --ca FILE with the server's CA, or --dev DIR of a development server"
        }
        ClientError::Refused(refusal) => match (refusal.code.as_str(), refusal.status) {
            (_, 401) => {
                "log in with `ript login DOMAIN`, or pass a token with --token or RIPT_TOKEN (`ript token` makes one for a development server)"
            }
            ("number-not-allowed" | "passport-orig", _) => {
                "this number isn't ours to call from: --from takes one that `ript tgs` lists"
            }
            ("passport-signature" | "passport-chain", _) => {
                "the server doesn't trust who signed the call: leave --passport-key away, and keys are enrolled"
            }
            ("passport-stale", _) => "our clock and the server's differ by more than a minute: set ours",
            ("destination-not-allowed", _) => "`ript tgs` shows where calls may go",
            ("unreachable", _) => {
                "nobody is reached there: is a `ript listen` with that number's token running?"
            }
            ("no-common-codec", _) => "the two sides speak no codec in common: leave --codec away",
            ("scope", _) => "the token lacks a right: get another with `ript token`",
            (_, 429 | 503) => "the server is busy: try again in a moment",
            _ => "",
        },
        ClientError::Timeout { .. } | ClientError::Lost(_) => "the network or the server failed: try again",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_common_failure_says_what_to_do() {
        let refused = |status, code: &str| {
            ClientError::Refused(Box::new(crate::client::Refusal {
                status,
                code: code.into(),
                detail: String::new(),
                field: None,
                retry_after: None,
                date: None,
                local: false,
            }))
        };
        let place = || ("a:1".to_owned(), "x".to_owned());
        let (server, reason) = place();
        assert!(hint(&ClientError::Unreachable { server, reason }).contains("server running"));
        let (server, reason) = place();
        assert!(hint(&ClientError::Untrusted { server, reason }).contains("--ca"));
        assert!(hint(&refused(401, "unauthorized")).contains("ript token"));
        assert!(hint(&refused(403, "passport-signature")).contains("--passport-key"));
        let shown = explain(refused(404, "unreachable")).to_string();
        assert!(shown.contains("unreachable\n  nobody"), "{shown}");
    }

    #[test]
    fn a_tg_is_known_by_the_last_part_of_its_uri() {
        assert_eq!(last_part("https://a/.well-known/ript/v1/providertgs/dev"), "dev");
        assert_eq!(last_part("/x/dev/"), "dev");
    }
}
