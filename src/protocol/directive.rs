//! Directives: which source sends to which sink, and how, `1 to 1: opus;`. Computed, never negotiated.

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Value, json};

use super::advertisement::{
    Advertisement, CodecSpec, Direction, Entry, Form, Line, Print, Scanner, SyntaxError, check,
    codecs_to_value, fit, objects, sorted, write_codecs,
};
use super::codec::{MediaKind, PayloadType};

/// Media that goes from one source of the sender to one sink of the receiver.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stream {
    /// The sender's source.
    pub source: u8,
    /// The receiver's sink.
    pub sink: u8,
    /// The codec to use, then those that ride along with it.
    pub codecs: Vec<CodecSpec>,
}

impl Stream {
    /// The codec that the stream is sent in: the first one that does not just ride along.
    #[must_use]
    pub fn codec(&self) -> Option<&CodecSpec> {
        self.codecs.iter().find(|codec| !codec.name().rides_along())
    }

    /// The media type, as its known codecs say.
    #[must_use]
    pub fn kind(&self) -> Option<MediaKind> {
        self.codecs.iter().find_map(CodecSpec::kind)
    }

    /// Whether a chunk of this payload type belongs to the stream.
    #[must_use]
    pub fn allows(&self, payload_type: PayloadType) -> bool {
        self.codecs.iter().any(|codec| codec.payload_type() == Some(payload_type))
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.source, self.sink)?;
        write_codecs(f, &self.codecs)
    }
}

impl Line for Stream {
    fn key(&self) -> (u8, u8) {
        (self.source, self.sink)
    }

    fn ids_are_valid(&self) -> bool {
        self.source > 0 && self.sink > 0
    }

    fn codecs(&self) -> &[CodecSpec] {
        &self.codecs
    }
}

/// All that one side sends to the other, by source and sink; no streams at all is what a held leg gets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Directives {
    streams: Vec<Stream>,
}

impl Directives {
    /// Streams made by hand; they must keep the rules that a parsed text keeps.
    pub fn new(streams: Vec<Stream>) -> Result<Self, SyntaxError> {
        Ok(Self { streams: check(streams)? })
    }

    /// What the sender shall send to the receiver.
    ///
    /// The sender's sources in the order of their ids take each the lowest sink that is still free and takes one
    /// of its codecs; a source that finds none is silent. The codec is the first of the source's that the sink
    /// takes, among those that have a payload type (no chunk could carry another) and do not just ride along;
    /// after it, in the source's order, those that ride along with audio and both have. Parameters as in
    /// [`CodecSpec::meet`].
    #[must_use]
    pub fn compute(sender: &Advertisement, receiver: &Advertisement) -> Self {
        let mut free: Vec<(&Entry, u32)> = receiver.sinks().map(|sink| (sink, stream_codecs(sink))).collect();
        let mut streams = Vec::new();
        for source in sender.sources() {
            let mask = stream_codecs(source);
            let found = free.iter().enumerate().find_map(|(index, (sink, takes))| {
                let codecs = if mask & takes == 0 { None } else { agree(source, sink) };
                codecs.map(|codecs| (index, codecs))
            });
            if let Some((index, codecs)) = found {
                let (sink, _) = free.remove(index);
                streams.push(Stream { source: source.id, sink: sink.id, codecs });
            }
        }
        Self { streams: fit(streams) }
    }

    /// Reads text, tolerantly; the empty text has no streams.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        let lines = Scanner::new(text)?.lines(|scanner| {
            let source = scanner.id("the id of a source")?;
            scanner.skip_space();
            scanner.word(&["to"], "`to`")?;
            scanner.skip_space();
            Ok(Head { source, sink: scanner.id("the id of a sink")? })
        })?;
        let streams =
            lines.into_iter().map(|(head, codecs)| Stream { source: head.source, sink: head.sink, codecs });
        Ok(Self { streams: sorted(streams.collect())? })
    }

    /// Reads text or its JSON twin, and says which it was.
    pub fn from_value(value: &Value) -> Result<(Self, Form), SyntaxError> {
        if let Value::String(text) = value {
            return Ok((Self::parse(text)?, Form::Text));
        }
        let streams = objects(value)?.into_iter().map(|object| {
            Ok(Stream { source: object.id("source")?, sink: object.id("sink")?, codecs: object.codecs()? })
        });
        Ok((Self::new(streams.collect::<Result<_, _>>()?)?, Form::Json))
    }

    /// The canonical text or the JSON twin.
    #[must_use]
    pub fn to_value(&self, form: Form) -> Value {
        match form {
            Form::Text => self.to_string().into(),
            Form::Json => self
                .streams
                .iter()
                .map(|stream| {
                    let codecs = codecs_to_value(&stream.codecs);
                    json!({"source": stream.source, "sink": stream.sink, "codecs": codecs})
                })
                .collect(),
        }
    }

    /// All streams, by source and sink.
    #[must_use]
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// What a far side takes and sends, as far as two directives tell: [`Directives::compute`] between it and whoever they
    /// were made for comes to the same streams.
    pub fn far_side(sends: &Self, receives: &Self) -> Result<Advertisement, SyntaxError> {
        let entry = |id, direction, codecs: &Vec<CodecSpec>| Entry { id, direction, codecs: codecs.clone() };
        let sinks = sends.streams.iter().map(|stream| entry(stream.sink, Direction::In, &stream.codecs));
        let sources =
            receives.streams.iter().map(|stream| entry(stream.source, Direction::Out, &stream.codecs));
        Advertisement::new(sinks.chain(sources).collect())
    }

    /// Whether nothing is to be sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// The stream from this source to this sink.
    #[must_use]
    pub fn stream(&self, source: u8, sink: u8) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.source == source && stream.sink == sink)
    }

    /// The first audio stream.
    #[must_use]
    pub fn audio(&self) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.kind() == Some(MediaKind::Audio))
    }

    /// The codec of the first audio stream.
    #[must_use]
    pub fn audio_codec(&self) -> Option<&CodecSpec> {
        self.audio().and_then(Stream::codec)
    }
}

impl Advertisement {
    /// Whether audio would flow between these two, in at least one direction.
    #[must_use]
    pub fn has_audio_with(&self, other: &Self) -> bool {
        let flows = |from, to| Directives::compute(from, to).audio().is_some();
        flows(self, other) || flows(other, self)
    }
}

/// Whether [`Directives::compute`] finds a stream from `a` to `b` or from `b` to `a`. Codecs that just ride along
/// make no stream, so two sides that share only `telephone-event` or `CN` have no common media, and neither have
/// two that share only codecs without a payload type. False is the problem `no-common-codec`.
#[must_use]
pub fn common_media(a: &Advertisement, b: &Advertisement) -> bool {
    !Directives::compute(a, b).is_empty() || !Directives::compute(b, a).is_empty()
}

/// The codecs that can make a stream, a bit per payload type (all below 32): most pairs have none in common, and
/// a hostile advertisement has 16,000 codecs to compare.
fn stream_codecs(entry: &Entry) -> u32 {
    let own = entry.codecs.iter().filter(|codec| codec.carries_a_stream());
    own.filter_map(|codec| 1u32.checked_shl(codec.payload_type()?.0)).fold(0, |mask, bit| mask | bit)
}

/// The codec that both have, and what rides along with it.
fn agree(source: &Entry, sink: &Entry) -> Option<Vec<CodecSpec>> {
    let taken = |codec: &CodecSpec| {
        let mut same = sink.codecs.iter().filter(|theirs| theirs.name() == codec.name());
        same.next().and_then(|theirs| codec.meet(theirs))
    };
    let main = source.codecs.iter().filter(|codec| codec.carries_a_stream()).find_map(taken)?;
    let mut codecs = vec![main];
    if codecs[0].kind() == Some(MediaKind::Audio) {
        for rider in source.codecs.iter().filter(|codec| codec.name().rides_along()) {
            if codecs.iter().all(|codec| codec.name() != rider.name()) {
                codecs.extend(taken(rider));
            }
        }
    }
    Some(codecs)
}

/// What stands before the colon.
#[derive(PartialEq)]
struct Head {
    source: u8,
    sink: u8,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{} to {}`", self.source, self.sink)
    }
}

/// Canonical text: a stream a line, parameters by name, defaults left out.
impl fmt::Display for Directives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Print(&self.streams).fmt(f)
    }
}

impl FromStr for Directives {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        Self::parse(text)
    }
}

impl Serialize for Directives {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Directives {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
