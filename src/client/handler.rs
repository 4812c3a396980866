//! A device: registered on a TG, it places calls and is called.

use std::sync::Arc;
use std::time::Duration;

use super::audio::AudioCodec;
use super::{Call, Client, ClientError, Listener};
use crate::protocol::number::Number;
use crate::protocol::resource::{CallRequest, HandlerDescription, TgDescription};

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
    tg: TgDescription,
    uri: String,
    id: String,
}

impl Client {
    /// Registers a device on a TG.
    pub async fn register(&self, tg: &str, spec: HandlerSpec) -> Result<Handler, ClientError> {
        let tg_uri = self.resolve(tg)?;
        let mut tg = self.tg(&tg_uri).await?;
        tg.uri = tg_uri;
        let advertisement = spec.advertisement.into();
        let (handler_id, name, inbound) = (spec.id, spec.name, (!spec.called).then_some(false));
        let wanted = HandlerDescription { uri: None, handler_id, advertisement, name, inbound };
        let mut got = self.post_handler(&tg.uri, &wanted).await?;
        let uri = got.uri.take().ok_or_else(|| ClientError::Protocol("a handler without a uri".into()))?;
        let uri = self.resolve(&uri)?;
        if got.advertisement != wanted.advertisement {
            // wire §8: posted again it is unchanged; PUT changes it.
            self.put_handler(&uri, &wanted).await?;
        }
        Ok(Handler(Arc::new(Inner { client: self.clone(), tg, uri, id: wanted.handler_id })))
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

    /// The TG that it is registered on.
    pub fn tg(&self) -> &TgDescription {
        &self.0.tg
    }

    /// Its client.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// How often to ping.
    pub(super) fn keepalive(&self) -> Duration {
        Duration::from_millis(self.0.tg.keepalive.clamp(1_000, 60_000))
    }

    /// The number that calls come from unless another is asked for.
    pub fn number(&self) -> Option<Number> {
        self.0.tg.numbers.iter().find_map(|number| number.parse().ok())
    }

    /// Places a call, from our first number unless another is given; it goes on by itself from here.
    pub async fn place(&self, to: &str, from: Option<&str>) -> Result<Call, ClientError> {
        let number = |text: &str| text.parse::<Number>().map_err(|error| ClientError::input(text, error));
        let to = number(to)?;
        let none = || ClientError::input("caller", "the TG names no number of ours: say which one calls");
        let from = from.map(number).transpose()?.or_else(|| self.number()).ok_or_else(none)?;
        let placed = match self.place_once(&from, &to).await {
            // wire §2: correct our clock by the server's and retry once.
            Err(error) if error.code() == "passport-stale" && self.0.client.correct_clock(&error) => {
                self.place_once(&from, &to).await
            }
            placed => placed,
        };
        Call::start(self, placed?)
    }

    async fn place_once(
        &self,
        from: &Number,
        to: &Number,
    ) -> Result<crate::protocol::resource::CallDescription, ClientError> {
        let passport = self.0.client.passport(&self.0.tg.uri, from, to).await?;
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
        self.0.client.post_call(&self.0.tg.uri, &request, &key).await
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
