//! Advertisements: which media a handler can send and render, `1 in: opus; PCMU;`.

mod json;
mod lines;
mod spec;
mod syntax;
#[cfg(test)]
pub(super) mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Value, json};

pub use self::json::Form;
pub use self::spec::{CodecSpec, Params, default_value};
pub use self::syntax::{Fault, MAX_CODECS, MAX_LINES, MAX_PARAMS, MAX_TEXT, Place, SyntaxError};
use crate::protocol::codec::MediaKind;

pub(super) use self::json::{codecs_to_value, objects};
pub(super) use self::lines::{Line, Print, check, fit, sorted, write_codecs};
pub(super) use self::syntax::Scanner;

/// Which way media goes, seen by the speaker of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// A sink of the speaker.
    In,
    /// A source of the speaker.
    Out,
}

impl Direction {
    const WORDS: [&str; 2] = ["in", "out"];
    const WANTED: &str = "`in` or `out`";

    fn from_index(index: usize) -> Self {
        if index == 0 { Self::In } else { Self::Out }
    }

    /// `in` or `out`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::WORDS[self as usize]
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One source or sink and the codecs it can use, the preferred one first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// 1 to 255; sources and sinks are counted apart.
    pub id: u8,
    /// Sink or source.
    pub direction: Direction,
    /// At least one, all of one media type as far as they are known.
    pub codecs: Vec<CodecSpec>,
}

impl Entry {
    /// The media type, as its known codecs say; `None` if it knows none of them.
    #[must_use]
    pub fn kind(&self) -> Option<MediaKind> {
        self.codecs.iter().find_map(CodecSpec::kind)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.direction)?;
        write_codecs(f, &self.codecs)
    }
}

impl Line for Entry {
    fn key(&self) -> (u8, u8) {
        (self.id, self.direction as u8)
    }

    fn ids_are_valid(&self) -> bool {
        self.id > 0
    }

    fn codecs(&self) -> &[CodecSpec] {
        &self.codecs
    }
}

/// All sources and sinks of a handler, by id, a sink before the source of the same id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Advertisement {
    entries: Vec<Entry>,
}

impl Advertisement {
    /// Entries made by hand; they must keep the rules that a parsed text keeps.
    pub fn new(entries: Vec<Entry>) -> Result<Self, SyntaxError> {
        Ok(Self { entries: check(entries)? })
    }

    /// Reads text, tolerantly; the empty text has no entries.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        let lines = Scanner::new(text)?.lines(|scanner| {
            let id = scanner.id("the id of a source or sink")?;
            scanner.skip_space();
            let direction = Direction::from_index(scanner.word(&Direction::WORDS, Direction::WANTED)?);
            Ok(Head { id, direction })
        })?;
        let entries =
            lines.into_iter().map(|(head, codecs)| Entry { id: head.id, direction: head.direction, codecs });
        Ok(Self { entries: sorted(entries.collect())? })
    }

    /// Reads text or its JSON twin, and says which it was.
    pub fn from_value(value: &Value) -> Result<(Self, Form), SyntaxError> {
        if let Value::String(text) = value {
            return Ok((Self::parse(text)?, Form::Text));
        }
        let entries = objects(value)?.into_iter().map(|object| {
            Ok(Entry {
                id: object.id("id")?,
                direction: Direction::from_index(object.word(
                    "direction",
                    &Direction::WORDS,
                    Direction::WANTED,
                )?),
                codecs: object.codecs()?,
            })
        });
        Ok((Self::new(entries.collect::<Result<_, _>>()?)?, Form::Json))
    }

    /// The canonical text or the JSON twin.
    #[must_use]
    pub fn to_value(&self, form: Form) -> Value {
        match form {
            Form::Text => self.to_string().into(),
            Form::Json => self
                .entries
                .iter()
                .map(|entry| {
                    json!({
                        "id": entry.id,
                        "direction": entry.direction.as_str(),
                        "codecs": codecs_to_value(&entry.codecs),
                    })
                })
                .collect(),
        }
    }

    /// Sources and sinks by id, a sink before the source of the same id.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether it can neither send nor render anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry of this id and direction.
    #[must_use]
    pub fn entry(&self, id: u8, direction: Direction) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == id && entry.direction == direction)
    }

    /// The sources, by id.
    pub fn sources(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.direction == Direction::Out)
    }

    /// The sinks, by id.
    pub fn sinks(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.direction == Direction::In)
    }

    /// What several ringing devices share: the entries that all have, in them the codecs that all have in the
    /// first one's order, each parameter at its strictest. An entry left without a codec is dropped; of no
    /// devices at all the answer is empty. A codec listed n times pairs its nth mention with the others' nth.
    #[must_use]
    pub fn shared(devices: &[&Self]) -> Self {
        let Some((first, others)) = devices.split_first() else { return Self::default() };
        let entries = first.entries.iter().filter_map(|entry| {
            let others: Vec<&Entry> =
                others.iter().map(|other| other.entry(entry.id, entry.direction)).collect::<Option<_>>()?;
            let codecs: Vec<CodecSpec> = entry
                .codecs
                .iter()
                .enumerate()
                .filter_map(|(i, _)| in_all(&entry.codecs, i, &others))
                .collect();
            (!codecs.is_empty()).then_some(Entry { id: entry.id, direction: entry.direction, codecs })
        });
        Self { entries: fit(entries.collect()) }
    }

    /// What the server offers towards the other leg on behalf of this handler: the same ids and directions,
    /// since a source of the far handler is a source of the server towards this leg.
    #[must_use]
    pub fn facing(&self) -> Self {
        self.clone()
    }
}

/// The codec at this index, narrowed to what every other entry takes of it.
fn in_all(codecs: &[CodecSpec], index: usize, others: &[&Entry]) -> Option<CodecSpec> {
    let codec = codecs.get(index)?;
    let mention = codecs[..index].iter().filter(|before| before.name() == codec.name()).count();
    others.iter().try_fold(codec.clone(), |narrowed, other| {
        let mut same = other.codecs.iter().filter(|theirs| theirs.name() == codec.name());
        narrowed.meet(same.nth(mention)?)
    })
}

/// What stands before the colon.
#[derive(PartialEq)]
struct Head {
    id: u8,
    direction: Direction,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{} {}`", self.id, self.direction)
    }
}

/// Canonical text: an entry a line, parameters by name, defaults left out.
impl fmt::Display for Advertisement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Print(&self.entries).fmt(f)
    }
}

impl FromStr for Advertisement {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        Self::parse(text)
    }
}

impl Serialize for Advertisement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Advertisement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
