//! A device: registered on a TG, it places calls and is called.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::api::PATIENCE;
use super::audio::AudioCodec;
use super::rules::{self, Known};
use super::task::lock;
use super::{Call, Client, ClientError, Listener};
use crate::clock;
use crate::protocol::number::Number;
use crate::protocol::resource::{CallRequest, HandlerDescription, TgDescription};

/// How long a second look at a TG may take; then the server is asked for the call itself.
const LOOK: Duration = Duration::from_secs(3);

/// What a device says about itself.
#[derive(Clone, Debug)]
pub struct HandlerSpec {
    /// Its own name for itself; the same one again is the same device.
    pub id: String,
    /// What it can send and render.
    pub advertisement: String,
    /// A name for people.
    pub name: Option<String>,
    /// Whether calls are offered to it; otherwise it only places some.
    pub called: bool,
}

impl HandlerSpec {
    /// A telephone with every codec that this client has, under a new name.
    pub fn audio() -> Self {
        Self::codecs(&AudioCodec::ALL)
    }

    /// A telephone with these codecs, the preferred one first.
    pub fn codecs(codecs: &[AudioCodec]) -> Self {
        let mut row = String::new();
        for codec in codecs {
            row.push_str(codec.name());
            row.push_str("; ");
        }
        row.push_str("telephone-event;");
        let advertisement = format!("1 in: {row}\n1 out: {row}");
        Self { id: uuid::Uuid::new_v4().to_string(), advertisement, name: None, called: true }
    }

    /// Under this name.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// With a name for people.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

/// A registered device; clones are the same one.
#[derive(Clone, Debug)]
pub struct Handler(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    /// The TG's URI, as this client resolves it.
    tg_uri: String,
    known: Mutex<Known>,
    uri: String,
    id: String,
}

impl Client {
    /// Registers a device on a TG.
    pub async fn register(&self, tg: &str, spec: HandlerSpec) -> Result<Handler, ClientError> {
        let tg_uri = self.resolve(tg)?;
        let known = self.know(&tg_uri, PATIENCE).await?;
        let advertisement = spec.advertisement.into();
        let (handler_id, name, inbound) = (spec.id, spec.name, (!spec.called).then_some(false));
        let wanted = HandlerDescription { uri: None, handler_id, advertisement, name, inbound };
        let mut got = self.post_handler(&tg_uri, &wanted).await?;
        let uri = got.uri.take().ok_or_else(|| ClientError::Protocol("a handler without a uri".into()))?;
        let uri = self.resolve(&uri)?;
        if got.advertisement != wanted.advertisement {
            // wire §8: posted again it is unchanged; PUT changes it.
            self.put_handler(&uri, &wanted).await?;
        }
        let known = Mutex::new(known);
        Ok(Handler(Arc::new(Inner { client: self.clone(), tg_uri, known, uri, id: wanted.handler_id })))
    }

    /// Reads a TG's description, to be kept.
    async fn know(&self, uri: &str, patience: Duration) -> Result<Known, ClientError> {
        let (fetched, token) = (clock::instant(), self.token());
        let (mut tg, max_age) = self.tg_for(uri, patience).await?;
        tg.uri = uri.to_owned();
        Ok(Known { tg: Arc::new(tg), fetched, max_age, token })
    }
}

impl Handler {
    /// Where it is.
    pub fn uri(&self) -> &str {
        &self.0.uri
    }

    /// Its own name for itself.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The TG that it is registered on, as it was last described.
    pub fn tg(&self) -> Arc<TgDescription> {
        Arc::clone(&lock(&self.0.known).tg)
    }

    /// Its client.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// How often to ping. Below the least a server would be flooded by its own mistake.
    pub(super) fn keepalive(&self) -> Duration {
        Duration::from_millis(self.tg().keepalive.clamp(100, 3_600_000))
    }

    /// How long media may go unacknowledged before it moves. Acks come every 140 ms, and a gap is probed after 200: what
    /// is shorter than the least would move at every hiccup.
    pub(super) fn media_timeout(&self) -> Duration {
        Duration::from_millis(self.tg().media_timeout.clamp(500, 60_000))
    }

    /// The number that calls come from unless another is asked for.
    pub fn number(&self) -> Option<Number> {
        self.tg().numbers.iter().find_map(|number| number.parse().ok())
    }

    /// Places a call, from our first number unless another is given; it goes on by itself from here.
    pub async fn place(&self, to: &str, from: Option<&str>) -> Result<Call, ClientError> {
        let to = rules::destination(to)?;
        let from = from.map(|text| text.parse::<Number>().map_err(|error| ClientError::input(text, error)));
        let from = self.allowed(from.transpose()?, &to).await?;
        let placed = match self.place_once(&from, &to).await {
            // wire §2: correct our clock by the server's and retry once.
            Err(error) if error.code() == "passport-stale" && self.0.client.correct_clock(&error) => {
                self.place_once(&from, &to).await
            }
            placed => placed,
        };
        Call::start(self, placed?)
    }

    /// Who calls, if the TG takes the call. What is known of the TG is made sure of before it refuses one; where that can't
    /// be, the server is left to decide.
    async fn allowed(&self, from: Option<Number>, to: &Number) -> Result<Number, ClientError> {
        let none = || ClientError::input("caller", "the TG names no number of ours: say which one calls");
        let caller = || from.clone().or_else(|| self.number()).ok_or_else(none);
        let token = self.0.client.token();
        let known = || lock(&self.0.known).clone();
        let mut sure = known().holds(clock::instant(), token.as_ref()) || self.look_again().await;
        if caller().and_then(|from| known().check(&from, to)).is_err() {
            sure = sure && (known().may_refuse(clock::instant(), token.as_ref()) || self.look_again().await);
        }
        let from = caller()?;
        match known().check(&from, to) {
            Err(refused) if sure => Err(refused),
            _ => Ok(from),
        }
    }

    async fn look_again(&self) -> bool {
        match self.0.client.know(&self.0.tg_uri, LOOK).await {
            Ok(known) => {
                *lock(&self.0.known) = known;
                true
            }
            Err(error) => {
                tracing::debug!(%error, "the TG can't be read now");
                false
            }
        }
    }

    async fn place_once(
        &self,
        from: &Number,
        to: &Number,
    ) -> Result<crate::protocol::resource::CallDescription, ClientError> {
        let passport = self.0.client.passport(&self.0.tg_uri, from, to).await?;
        self.post(to, passport).await
    }

    /// Places a call for somebody else, who signed the PASSporT.
    pub(crate) async fn place_for(&self, to: &Number, passport: String) -> Result<Call, ClientError> {
        Call::start(self, self.post(to, passport).await?)
    }

    async fn post(
        &self,
        to: &Number,
        passport: String,
    ) -> Result<crate::protocol::resource::CallDescription, ClientError> {
        let request =
            CallRequest { handler: Some(self.0.uri.clone()), destination: to.to_string(), passport };
        let key = uuid::Uuid::new_v4().to_string();
        self.0.client.post_call(&self.0.tg_uri, &request, &key).await
    }

    /// Waits for calls.
    pub fn listen(&self) -> Listener {
        Listener::start(self.clone())
    }

    /// Takes a call that another device of ours has, or that we had ourselves before a crash.
    pub async fn take(
        &self,
        call: &str,
        intent: crate::protocol::resource::Intent,
    ) -> Result<Call, ClientError> {
        let uri = self.0.client.resolve(call)?;
        let description = self.0.client.claim(&uri, &self.0.uri, Some(intent)).await?;
        Call::start(self, description)
    }

    /// Looks at a call without taking it.
    pub async fn open(&self, call: &str) -> Result<Call, ClientError> {
        let uri = self.0.client.resolve(call)?;
        Call::start(self, self.0.client.call(&uri, Some(&self.0.uri)).await?)
    }

    /// Forgets the device at the server.
    pub async fn unregister(&self) -> Result<(), ClientError> {
        self.0.client.delete_handler(&self.0.uri).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::advertisement::Advertisement;

    #[test]
    fn the_advertisement_reads_back_with_the_preferred_codec_first() {
        let spec = HandlerSpec::codecs(&[AudioCodec::Pcma, AudioCodec::Opus]);
        let read = Advertisement::parse(&spec.advertisement).unwrap();
        assert_eq!(
            read.to_string(),
            "1 in: PCMA; opus; telephone-event;\n1 out: PCMA; opus; telephone-event;"
        );
        assert_ne!(HandlerSpec::audio().id, HandlerSpec::audio().id);
    }
}
