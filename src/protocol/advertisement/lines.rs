//! What an advertisement's entries and the streams of directives have in common.

use std::fmt;

use super::spec::CodecSpec;
use super::syntax::{Fault, MAX_CODECS, MAX_LINES, MAX_TEXT, SyntaxError, media_kind, printed_len};

/// One line of text: a unique pair of numbers and codecs.
pub(crate) trait Line: fmt::Display {
    /// What it is sorted by, and unique in.
    fn key(&self) -> (u8, u8);
    /// Its ids are 1 or more.
    fn ids_are_valid(&self) -> bool;
    fn codecs(&self) -> &[CodecSpec];
}

/// Lines made by hand or from JSON, checked like parsed ones, in canonical order.
pub(crate) fn check<L: Line>(lines: Vec<L>) -> Result<Vec<L>, SyntaxError> {
    if lines.len() > MAX_LINES {
        return Err(SyntaxError::path(format!("[{MAX_LINES}]"), Fault::LINES));
    }
    for (index, line) in lines.iter().enumerate() {
        let at = |fault| SyntaxError::path(format!("[{index}]"), fault);
        let in_codecs = |fault| SyntaxError::path(format!("[{index}].codecs"), fault);
        if !line.ids_are_valid() {
            return Err(at(Fault::Id));
        }
        if lines[..index].iter().any(|before| before.key() == line.key()) {
            let head = line.to_string();
            let head = head.split(':').next().unwrap_or_default();
            return Err(at(Fault::RepeatedLine(format!("`{head}`"))));
        }
        let codecs = line.codecs();
        if codecs.is_empty() {
            return Err(in_codecs(Fault::Expected { wanted: "at least one codec", found: "none".into() }));
        }
        if codecs.len() > MAX_CODECS {
            return Err(in_codecs(Fault::CODECS));
        }
        if let Err(odd) = media_kind(codecs) {
            let fault = Fault::MixedMedia(codecs[odd].name().clone());
            return Err(SyntaxError::path(format!("[{index}].codecs[{odd}].name"), fault));
        }
    }
    sorted(lines)
}

/// Canonical order; refuses what is too long to be read again once it is printed.
pub(crate) fn sorted<L: Line>(mut lines: Vec<L>) -> Result<Vec<L>, SyntaxError> {
    lines.sort_by_key(Line::key);
    if printed_len(&Print(&lines)) > MAX_TEXT {
        return Err(SyntaxError::path("", Fault::TEXT));
    }
    Ok(lines)
}

/// Drops the last lines that would make the text too long to be read again.
pub(crate) fn fit<L: Line>(mut lines: Vec<L>) -> Vec<L> {
    lines.sort_by_key(Line::key);
    let mut len = 0;
    let fitting = lines.iter().take_while(|line| {
        len += printed_len(line) + 1;
        len <= MAX_TEXT
    });
    let fitting = fitting.count();
    lines.truncate(fitting);
    lines
}

/// Prints lines, one a line, without a line break at the end.
pub(crate) struct Print<'a, L>(pub(crate) &'a [L]);

impl<L: Line> fmt::Display for Print<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.0.iter().enumerate() {
            let before = if index == 0 { "" } else { "\n" };
            write!(f, "{before}{line}")?;
        }
        Ok(())
    }
}

/// `: opus; PCMU;`, what follows a line's head.
pub(crate) fn write_codecs(f: &mut fmt::Formatter<'_>, codecs: &[CodecSpec]) -> fmt::Result {
    f.write_str(":")?;
    codecs.iter().try_for_each(|codec| write!(f, " {codec};"))
}
