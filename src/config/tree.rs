//! File, environment and flags laid over each other in one tree, in which every value knows where it stands.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place};
use super::keys;

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// From the environment or flags, which know no types: one text for every time it was given.
    Given(Vec<String>),
    Text(String),
    Whole(i64),
    Flag(bool),
    List(Vec<Node>),
    Table(Table),
    /// Of a type that no key has.
    Other(&'static str),
}

pub(super) type Table = BTreeMap<String, Node>;

impl Value {
    /// The type, as an error names it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Given(_) | Self::Text(_) => "text",
            Self::Whole(_) => "a number",
            Self::Flag(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// Reads the text of a configuration file.
pub(super) fn parse(text: &str, path: &Path) -> Result<Table, ConfigError> {
    let file = File { text, path };
    match DeTable::parse(text) {
        Ok(table) => Ok(file.table(table.get_ref())),
        Err(error) => Err(ConfigError::Syntax {
            place: file.place(error.span().map_or(0, |span| span.start)),
            why: error.message().to_owned(),
        }),
    }
}

struct File<'a> {
    text: &'a str,
    path: &'a Path,
}

impl File<'_> {
    fn place(&self, at: usize) -> Place {
        let before = self.text.as_bytes().get(..at).unwrap_or(self.text.as_bytes());
        Place::File {
            path: self.path.to_owned(),
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
        }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let key: &Spanned<std::borrow::Cow<'_, str>> = key;
            // A key that is nowhere known is reported at its own place.
            let node = Node { place: self.place(key.span().start), value: self.value(value.get_ref()) };
            (key.get_ref().clone().into_owned(), node)
        };
        table.iter().map(entry).collect()
    }

    fn value(&self, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.clone().into_owned()),
            DeValue::Integer(whole) => match i64::from_str_radix(whole.as_str(), whole.radix()) {
                Ok(whole) => Value::Whole(whole),
                Err(_) => Value::Other("a number beyond 64 bits"),
            },
            DeValue::Float(_) => Value::Other("a number with a fraction"),
            DeValue::Boolean(flag) => Value::Flag(*flag),
            DeValue::Datetime(_) => Value::Other("a date"),
            DeValue::Array(items) => {
                let node = |item: &Spanned<DeValue<'_>>| Node {
                    place: self.place(item.span().start),
                    value: self.value(item.get_ref()),
                };
                Value::List(items.iter().map(node).collect())
            }
            DeValue::Table(table) => Value::Table(self.table(table)),
        }
    }
}

/// Lays texts over whatever `key` was before.
pub(super) fn give(tree: &mut Table, key: &str, texts: Vec<String>, place: Place) -> Result<(), ConfigError> {
    match key.split_once('.') {
        None => {
            tree.insert(key.to_owned(), Node { place, value: Value::Given(texts) });
            Ok(())
        }
        Some((section, rest)) => {
            let empty = || Node { place: place.clone(), value: Value::Table(Table::new()) };
            let node = tree.entry(section.to_owned()).or_insert_with(empty);
            match &mut node.value {
                Value::Table(inner) => give(inner, rest, texts, place),
                value => Err(ConfigError::WrongType {
                    key: section.to_owned(),
                    place: node.place.clone(),
                    found: value.kind(),
                    expected: format!("a table, [{section}]"),
                }),
            }
        }
    }
}

/// Lays the environment over the tree; variables that look like ours and aren't are refused.
pub(super) fn give_environment<'a>(
    tree: &mut Table,
    environment: impl IntoIterator<Item = &'a (String, String)>,
) -> Result<(), ConfigError> {
    for (name, text) in environment {
        if !name.starts_with("RIPT_") || keys::OTHER_VARIABLES.contains(&name.as_str()) {
            continue;
        }
        let place = Place::Variable(name.clone());
        match keys::of_variable(name) {
            Some(key) => give(tree, key, vec![text.clone()], place)?,
            None => {
                let nearest = keys::nearest_variable(name);
                return Err(ConfigError::UnknownKey { key: name.clone(), place, nearest });
            }
        }
    }
    Ok(())
}
