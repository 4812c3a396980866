//! The text grammar that advertisements and directives share; as ABNF: `interop/vectors/advertisement.abnf`.

use std::fmt::{self, Write as _};
use std::num::NonZeroU8;

use super::spec::{CodecSpec, PARAM_NAME, Params};
use crate::protocol::codec::{CodecName, MAX_NAME, MediaKind, is_name_byte};

/// The longest text, in bytes, both as read and as printed.
pub const MAX_TEXT: usize = 64 * 1024;
/// The most entries of an advertisement, and streams of directives.
pub const MAX_LINES: usize = 255;
/// The most codecs of one entry or stream.
pub const MAX_CODECS: usize = 64;
/// The most parameters of one codec.
pub const MAX_PARAMS: usize = 32;

/// Why something is not an advertisement or not directives, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {fault}")]
pub struct SyntaxError {
    /// Where it went wrong.
    pub place: Place,
    /// What is wrong there.
    pub fault: Fault,
}

impl SyntaxError {
    pub(crate) fn path(path: impl Into<String>, fault: Fault) -> Self {
        Self { place: Place::Path(path.into()), fault }
    }

    /// The byte offset, when a text was read.
    #[must_use]
    pub fn offset(&self) -> Option<usize> {
        match self.place {
            Place::Byte(at) => Some(at),
            Place::Path(_) => None,
        }
    }
}

/// A place in a text or in its JSON twin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Bytes from the start of the text.
    Byte(usize),
    /// A path such as `[0].codecs[1].name`; empty for the whole value.
    Path(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Byte(at) => write!(f, "at byte {at}"),
            Self::Path(path) if path.is_empty() => f.write_str("the value as a whole"),
            Self::Path(path) => write!(f, "at {path}"),
        }
    }
}

/// What is wrong with an advertisement or with directives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Something else belongs here.
    #[error("expected {wanted}, found {found}")]
    Expected {
        /// What belongs here, in words.
        wanted: &'static str,
        /// What is here.
        found: String,
    },
    /// An id outside 1 to 255.
    #[error("an id is a whole number from 1 to 255")]
    Id,
    /// A value outside 64 bits.
    #[error("a parameter's value must fit in a signed 64-bit integer")]
    Integer,
    /// More than this server takes.
    #[error("too much: the limit is {limit} {of}")]
    Limit {
        /// How many are allowed.
        limit: usize,
        /// Of what.
        of: &'static str,
    },
    /// The same id and direction, or source and sink, twice.
    #[error("{0} is already described by another line")]
    RepeatedLine(String),
    /// A parameter given twice, with two values.
    #[error("the parameter `{0}` is given twice, with different values")]
    RepeatedParam(String),
    /// Audio and video codecs in one line.
    #[error("`{0}` is of another media type than the codecs before it; one line is all audio or all video")]
    MixedMedia(CodecName),
}

impl Fault {
    pub(super) const LINES: Self = Self::Limit { limit: MAX_LINES, of: "entries" };
    pub(super) const CODECS: Self = Self::Limit { limit: MAX_CODECS, of: "codecs of one entry" };
    pub(super) const TEXT: Self = Self::Limit { limit: MAX_TEXT, of: "bytes of text" };
    const NAME: Self = Self::Limit { limit: MAX_NAME, of: "characters of a name" };
}

/// The media type that a line's known codecs give it, or the index of the first codec that contradicts.
pub(super) fn media_kind(codecs: &[CodecSpec]) -> Result<Option<MediaKind>, usize> {
    let mut kind = None;
    for (index, codec) in codecs.iter().enumerate() {
        match (kind, codec.kind()) {
            (None, found) => kind = found,
            (Some(kind), Some(found)) if kind != found => return Err(index),
            _ => {}
        }
    }
    Ok(kind)
}

/// How long the canonical text is.
pub(super) fn printed_len(value: &impl fmt::Display) -> usize {
    struct Count(usize);
    impl fmt::Write for Count {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 += text.len();
            Ok(())
        }
    }
    let mut count = Count(0);
    write!(count, "{value}").map_or(usize::MAX, |()| count.0)
}

/// Reads a text from left to right; every error names the byte where it stood.
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Result<Self, SyntaxError> {
        match text.len() {
            0..=MAX_TEXT => Ok(Self { text, at: 0 }),
            _ => Err(SyntaxError { place: Place::Byte(MAX_TEXT), fault: Fault::TEXT }),
        }
    }

    /// All lines: a head, which must be unique, a colon, and codecs, each followed by a semicolon; the semicolon
    /// may be left out at the end of the text and at the end of a line of text before the next head.
    pub(crate) fn lines<H: PartialEq + fmt::Display>(
        &mut self,
        mut head: impl FnMut(&mut Self) -> Result<H, SyntaxError>,
    ) -> Result<Vec<(H, Vec<CodecSpec>)>, SyntaxError> {
        let mut lines: Vec<(H, Vec<CodecSpec>)> = Vec::new();
        self.skip_space();
        while self.peek().is_some() {
            let start = self.at;
            let head = head(self)?;
            if lines.len() == MAX_LINES {
                return Err(error(start, Fault::LINES));
            }
            if lines.iter().any(|(before, _)| *before == head) {
                return Err(error(start, Fault::RepeatedLine(head.to_string())));
            }
            self.skip_space();
            if !self.eat(b':') {
                return Err(self.expected("`:`"));
            }
            lines.push((head, self.codecs()?));
        }
        Ok(lines)
    }

    fn codecs(&mut self) -> Result<Vec<CodecSpec>, SyntaxError> {
        let mut codecs = Vec::new();
        self.skip_space();
        loop {
            let start = self.at;
            let (codec, line_ended) = self.codec()?;
            if codecs.len() == MAX_CODECS {
                return Err(error(start, Fault::CODECS));
            }
            codecs.push(codec);
            if let Err(index) = media_kind(&codecs) {
                return Err(error(start, Fault::MixedMedia(codecs.swap_remove(index).name().clone())));
            }
            if self.eat(b';') {
                self.skip_space();
            } else if self.peek().is_some() && !(line_ended && self.at_digit()) {
                return Err(self.expected("`;` after the codec, or `,` and a parameter"));
            }
            if self.peek().is_none() || self.at_digit() {
                return Ok(codecs);
            }
        }
    }

    /// A codec with its parameters and the space behind it; also whether that space has a line break.
    pub(crate) fn codec(&mut self) -> Result<(CodecSpec, bool), SyntaxError> {
        const WANTED: &str = "a codec name (a letter first, such as `opus`)";
        let start = self.at;
        let Ok(name) = self.name(WANTED)?.parse::<CodecName>() else {
            return Err(self.expected_at(start, WANTED));
        };
        let mut params = Params::new();
        let mut line_ended = self.skip_space();
        while self.eat(b',') {
            self.skip_space();
            let start = self.at;
            let param = self.name(PARAM_NAME)?;
            line_ended = self.skip_space();
            let mut value = 1;
            if self.eat(b'=') {
                self.skip_space();
                value = self.integer()?;
                line_ended = self.skip_space();
            }
            params.insert(param, value).map_err(|fault| error(start, fault))?;
        }
        Ok((CodecSpec::new(name, params), line_ended))
    }

    /// An id, 1 to 255.
    pub(crate) fn id(&mut self, wanted: &'static str) -> Result<u8, SyntaxError> {
        let start = self.at;
        let digits = self.take(|byte| byte.is_ascii_digit());
        if digits.is_empty() {
            return Err(self.expected(wanted));
        }
        digits.parse().map(NonZeroU8::get).map_err(|_| error(start, Fault::Id))
    }

    /// One of these words, in any case; answers its index.
    pub(crate) fn word(&mut self, words: &[&str], wanted: &'static str) -> Result<usize, SyntaxError> {
        let start = self.at;
        let found = self.take(|byte| byte.is_ascii_alphabetic());
        let index = words.iter().position(|word| word.eq_ignore_ascii_case(found));
        index.ok_or_else(|| self.expected_at(start, wanted))
    }

    /// Skips white space (space, tab, CR, LF) and says whether there was a line break in it.
    pub(crate) fn skip_space(&mut self) -> bool {
        self.take(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).contains(['\r', '\n'])
    }

    pub(crate) fn expect_end(&self, wanted: &'static str) -> Result<(), SyntaxError> {
        if self.peek().is_none() { Ok(()) } else { Err(self.expected(wanted)) }
    }

    fn name(&mut self, wanted: &'static str) -> Result<&'a str, SyntaxError> {
        let start = self.at;
        if !self.peek().is_some_and(|byte| byte.is_ascii_alphabetic()) {
            return Err(self.expected(wanted));
        }
        let name = self.take(is_name_byte);
        if name.len() > MAX_NAME { Err(error(start, Fault::NAME)) } else { Ok(name) }
    }

    fn integer(&mut self) -> Result<i64, SyntaxError> {
        let start = self.at;
        self.eat(b'-');
        if self.take(|byte| byte.is_ascii_digit()).is_empty() {
            return Err(self.expected("an integer"));
        }
        self.text[start..self.at].parse().map_err(|_| error(start, Fault::Integer))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn at_digit(&self) -> bool {
        self.peek().is_some_and(|byte| byte.is_ascii_digit())
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Takes ASCII bytes only, so that `at` stays on a character's boundary.
    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> &'a str {
        let rest = &self.text[self.at..];
        let len = rest.bytes().take_while(|byte| byte.is_ascii() && wanted(*byte)).count();
        self.at += len;
        &rest[..len]
    }

    fn expected(&self, wanted: &'static str) -> SyntaxError {
        self.expected_at(self.at, wanted)
    }

    fn expected_at(&self, at: usize, wanted: &'static str) -> SyntaxError {
        let found = match self.text[at..].chars().next() {
            Some(found) => format!("{found:?}"),
            None => "the end".into(),
        };
        error(at, Fault::Expected { wanted, found })
    }
}

fn error(at: usize, fault: Fault) -> SyntaxError {
    SyntaxError { place: Place::Byte(at), fault }
}
