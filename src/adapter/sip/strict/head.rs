//! A message's lines as they were written, without what folding did to them.

use std::borrow::Cow;

/// Header fields that are looked at.
const MOST_FIELDS: usize = 512;

/// RFC 3261 §7.3.3 and the registry: the short names of fields, and whether the parser knows them.
const COMPACT: [(&str, &str, bool); 18] = [
    ("a", "Accept-Contact", false),
    ("b", "Referred-By", true),
    ("c", "Content-Type", true),
    ("d", "Request-Disposition", false),
    ("e", "Content-Encoding", true),
    ("f", "From", true),
    ("i", "Call-ID", true),
    ("j", "Reject-Contact", false),
    ("k", "Supported", true),
    ("l", "Content-Length", true),
    ("m", "Contact", true),
    ("o", "Event", true),
    ("r", "Refer-To", true),
    ("s", "Subject", true),
    ("t", "To", true),
    ("u", "Allow-Events", false),
    ("v", "Via", true),
    ("y", "Identity", false),
];

/// A header field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    /// The long form where there is a short one.
    pub(super) name: &'a str,
    pub(super) value: Cow<'a, str>,
}

impl Field<'_> {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// All before the body, and the body.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) start: &'a str,
    pub(super) fields: Vec<Field<'a>>,
    pub(super) body: &'a [u8],
    /// What is wrong with the lines.
    pub(super) broken: Option<&'static str>,
    /// Valid, but not as the parser reads it.
    pub(super) odd: bool,
}

/// The text before the empty line (owned: what isn't UTF-8 is replaced), and what follows that; none: there is no such line.
pub(super) fn divide(datagram: &[u8]) -> (Cow<'_, str>, Option<&[u8]>) {
    let end = datagram.windows(4).skip(leading(datagram)).position(|four| four == b"\r\n\r\n");
    let end = end.map(|end| end + leading(datagram));
    let text = String::from_utf8_lossy(&datagram[..end.unwrap_or(datagram.len())]);
    (text, end.map(|end| &datagram[end + 4..]))
}

/// RFC 3261 §7.5: empty lines before the start line are passed over.
fn leading(datagram: &[u8]) -> usize {
    datagram.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

impl<'a> Head<'a> {
    pub(super) fn read(text: &'a str, utf8: bool, body: Option<&'a [u8]>) -> Self {
        let mut broken = match body {
            None => Some("no empty line ends the headers"),
            // RFC 3261 §25.1: all text is UTF-8.
            Some(_) => (!utf8).then_some("the headers are not UTF-8"),
        };
        let begun = text.trim_start_matches(['\r', '\n']);
        let mut odd = begun.len() != text.len();
        let mut lines = begun.split("\r\n");
        let start = lines.next().unwrap_or_default();
        let mut fields: Vec<Field<'a>> = Vec::new();
        if start.contains(['\r', '\n']) {
            broken = Some("a bare CR or LF");
        }
        for line in lines.filter(|line| !line.is_empty()) {
            if fields.len() >= MOST_FIELDS {
                broken = Some("too many header fields");
                break;
            }
            let bare = line.contains(['\r', '\n']);
            broken = broken.or(bare.then_some("a bare CR or LF"));
            if line.starts_with([' ', '\t']) {
                odd = true;
                match fields.last_mut() {
                    Some(field) => {
                        let value = field.value.to_mut();
                        value.push(' ');
                        value.push_str(line.replace(['\r', '\n'], " ").trim());
                    }
                    None => broken = Some("a folded line that continues nothing"),
                }
                continue;
            }
            let Some((name, value)) = line.split_once(':') else {
                broken = Some("a header line without a colon");
                continue;
            };
            // An answer repeats it, and must not get lines that way.
            let value =
                if bare { value.replace(['\r', '\n'], " ").into() } else { Cow::Borrowed(value.trim()) };
            let name = name.trim_end_matches([' ', '\t']);
            if !super::grammar::is_token(name) {
                broken = Some("a header's name that is no token");
                continue;
            }
            let short = COMPACT.iter().find(|(short, ..)| short.eq_ignore_ascii_case(name));
            odd |= short.is_some_and(|(.., known)| !known);
            fields.push(Field { name: short.map_or(name, |(_, long, _)| long), value });
        }
        for field in &mut fields {
            if let Cow::Owned(value) = &mut field.value {
                // A value that begins on the next line.
                *value = value.trim().to_owned();
            }
        }
        Self { start, fields, body: body.unwrap_or_default(), broken, odd }
    }

    /// The first of that name.
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.is(name)).map(|field| &*field.value)
    }
}
