//! A codec with its parameters, and what two sides can both do.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::syntax::{Fault, MAX_PARAMS, Scanner, SyntaxError};
use crate::protocol::codec::{CodecName, MediaKind, PayloadType, is_name};

/// Parameters in the order of their names; names are lower case, the drafts' other spellings are replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Params(BTreeMap<Box<str>, i64>);

impl Params {
    /// No parameters.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a parameter; the same one again must have the same value.
    pub fn insert(&mut self, name: &str, value: i64) -> Result<(), Fault> {
        if !is_name(name) {
            return Err(Fault::Expected { wanted: PARAM_NAME, found: format!("{name:?}") });
        }
        let name = canonical(name);
        match self.0.get(name.as_str()) {
            Some(&before) if before == value => Ok(()),
            Some(_) => Err(Fault::RepeatedParam(name)),
            None if self.0.len() == MAX_PARAMS => {
                Err(Fault::Limit { limit: MAX_PARAMS, of: "parameters of a codec" })
            }
            None => {
                self.0.insert(name.into(), value);
                Ok(())
            }
        }
    }

    /// The value given, under the canonical name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<i64> {
        self.0.get(name).copied()
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, value)| (&**name, *value))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

pub(super) const PARAM_NAME: &str = "a parameter name (a letter first, at most 127 characters)";

/// Lower case, and the drafts' `fps` and `max-res` as what they mean.
fn canonical(name: &str) -> String {
    match name.to_ascii_lowercase() {
        name if name == "fps" => "max-fps".into(),
        name if name == "max-res" => "max-width".into(),
        name => name,
    }
}

/// What a parameter is when it is not given; `None` is no limit.
#[must_use]
pub fn default_value(kind: Option<MediaKind>, name: &str) -> Option<i64> {
    match name {
        "sr" => Some(48_000),
        "ss" => Some(16),
        "cbr" => Some(0),
        "ch" | "tlay" | "slay" => Some(1),
        "depth" => Some(8),
        "ptime" if kind == Some(MediaKind::Audio) => Some(20),
        _ => None,
    }
}

/// A codec and its parameters; those equal to the default are never kept, so equal means alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CodecSpec {
    name: CodecName,
    params: Params,
}

impl CodecSpec {
    /// A codec with these parameters, less those that say the default.
    #[must_use]
    pub fn new(name: CodecName, mut params: Params) -> Self {
        let kind = name.kind();
        params.0.retain(|param, value| default_value(kind, param) != Some(*value));
        Self { name, params }
    }

    /// The codec's name.
    #[must_use]
    pub fn name(&self) -> &CodecName {
        &self.name
    }

    /// The parameters that differ from their defaults.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Audio or video, if the codec is known.
    #[must_use]
    pub fn kind(&self) -> Option<MediaKind> {
        self.name.kind()
    }

    /// The codec's number in a chunk, if it is known.
    #[must_use]
    pub fn payload_type(&self) -> Option<PayloadType> {
        self.name.payload_type()
    }

    /// The value in force: as given, or the default; `None` is no limit.
    #[must_use]
    pub fn limit(&self, name: &str) -> Option<i64> {
        self.params.get(name).or_else(|| default_value(self.kind(), name))
    }

    /// Whether a stream of its own can be sent in it: a chunk can name it, and it does not just ride along.
    #[must_use]
    pub fn carries_a_stream(&self) -> bool {
        self.name.codec().is_some_and(|codec| !codec.rides_along)
    }

    /// What satisfies both: the lower of two maxima, and `cbr` if either needs it. `None` for another codec,
    /// and where more than 32 parameters come together: to drop one would break a limit.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Option<Self> {
        let added = other.params.iter().filter(|(name, _)| self.params.get(name).is_none()).count();
        if self.name != other.name || self.params.len() + added > MAX_PARAMS {
            return None;
        }
        let names = self.params.iter().chain(other.params.iter()).map(|(name, _)| name);
        let params = names.filter_map(|name| {
            let value = match (self.limit(name), other.limit(name)) {
                (Some(a), Some(b)) if name == "cbr" => a.max(b),
                (Some(a), Some(b)) => a.min(b),
                (a, b) => a.or(b)?,
            };
            Some((Box::from(name), value))
        });
        Some(Self::new(self.name.clone(), Params(params.collect())))
    }
}

impl From<CodecName> for CodecSpec {
    fn from(name: CodecName) -> Self {
        Self::new(name, Params::new())
    }
}

/// `opus` or `H264,max-height=720,max-width=1280`.
impl fmt::Display for CodecSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)?;
        for (name, value) in self.params.iter() {
            match value {
                1 => write!(f, ",{name}")?,
                value => write!(f, ",{name}={value}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for CodecSpec {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let mut scanner = Scanner::new(text)?;
        scanner.skip_space();
        let (spec, _) = scanner.codec()?;
        scanner.expect_end("`,` or the end of the codec")?;
        Ok(spec)
    }
}
