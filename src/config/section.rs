//! A table from which typed values are taken until nothing is left.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{ConfigError, Place};
use super::keys;
use super::tree::{Node, Table, Value};

/// A table and its name; what is left in it at the end is unknown.
#[derive(Debug)]
pub(super) struct Section {
    name: String,
    place: Place,
    table: Table,
}

/// A path relative to the file that names it.
pub(super) fn resolve(place: &Place, text: &str) -> PathBuf {
    match place {
        Place::File { path, .. } => path.parent().unwrap_or(Path::new("")).join(text),
        Place::Variable(_) | Place::Flag(_) => PathBuf::from(text),
    }
}

impl Section {
    pub(super) fn top(table: Table, place: Place) -> Self {
        Self { name: String::new(), place, table }
    }

    /// The inner table of that name; an empty one if there is none.
    pub(super) fn section(&mut self, name: &str) -> Result<Self, ConfigError> {
        let path = self.path(name);
        match self.table.remove(name) {
            None => Ok(Self { name: path, place: self.place.clone(), table: Table::new() }),
            Some(Node { place, value: Value::Table(table) }) => Ok(Self { name: path, place, table }),
            Some(node) => Err(wrong(path.clone(), &node, format!("a table, [{path}]"))),
        }
    }

    /// The tables of an array of tables.
    pub(super) fn sections(&mut self, name: &str) -> Result<Vec<Self>, ConfigError> {
        let path = self.path(name);
        let expected = || format!("an array of tables, [[{path}]]");
        let Some(node) = self.table.remove(name) else { return Ok(Vec::new()) };
        let Value::List(items) = node.value else { return Err(wrong(path.clone(), &node, expected())) };
        let section = |node: Node| match node.value {
            Value::Table(table) => Ok(Self { name: path.clone(), place: node.place, table }),
            _ => Err(wrong(path.clone(), &node, expected())),
        };
        items.into_iter().map(section).collect()
    }

    /// One text, as `parse` reads it.
    pub(super) fn one<T, E: Display>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError> {
        let Some((path, node)) = self.take(name) else { return Ok(None) };
        let text = match &node.value {
            Value::Text(text) => text,
            Value::Given(texts) if texts.len() == 1 => &texts[0],
            _ => return Err(wrong(path, &node, expected.to_owned())),
        };
        parse(text).map(Some).map_err(|why| bad(path, &node.place, text, &why, expected))
    }

    /// Any text but none.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, ConfigError> {
        let not_empty = |text: &str| if text.is_empty() { Err("it is empty") } else { Ok(text.to_owned()) };
        self.one(name, "text in quotes", not_empty)
    }

    /// A path; in a file, relative to that file.
    pub(super) fn file(&mut self, name: &str) -> Result<Option<PathBuf>, ConfigError> {
        let place = self.place_of(name);
        Ok(self.text(name)?.map(|text| resolve(&place, &text)))
    }

    /// Several texts: a list, one text, or (from the environment) texts with commas between them.
    pub(super) fn many<T, E: Display>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl Fn(&str, &Place) -> Result<T, E>,
    ) -> Result<Option<Vec<T>>, ConfigError> {
        let Some((path, node)) = self.take(name) else { return Ok(None) };
        let read = |text: &str, place: &Place| {
            parse(text, place).map_err(|why| bad(path.clone(), place, text, &why, expected))
        };
        match &node.value {
            Value::Text(text) => Ok(vec![read(text, &node.place)?]),
            Value::Given(texts) => {
                let words = texts.iter().flat_map(|text| text.split(',')).map(str::trim);
                words.filter(|word| !word.is_empty()).map(|word| read(word, &node.place)).collect()
            }
            Value::List(items) => {
                let item = |item: &Node| match &item.value {
                    Value::Text(text) => read(text, &item.place),
                    _ => Err(wrong(path.clone(), item, format!("a list of {expected}"))),
                };
                items.iter().map(item).collect()
            }
            _ => Err(wrong(path.clone(), &node, format!("a list of {expected}"))),
        }
        .map(Some)
    }

    /// A whole number within bounds.
    pub(super) fn whole(
        &mut self,
        name: &str,
        bounds: RangeInclusive<u32>,
    ) -> Result<Option<u32>, ConfigError> {
        let Some((path, node)) = self.take(name) else { return Ok(None) };
        let expected = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        let whole = match &node.value {
            Value::Whole(whole) => *whole,
            Value::Given(texts) if texts.len() == 1 => match texts[0].trim().parse() {
                Ok(whole) => whole,
                Err(_) => return Err(wrong(path, &node, expected)),
            },
            _ => return Err(wrong(path, &node, expected)),
        };
        let fits = u32::try_from(whole).ok().filter(|whole| bounds.contains(whole));
        let why = || format!("{whole} is out of bounds; right is {expected}");
        fits.map(Some).ok_or_else(|| ConfigError::BadValue { key: path, place: node.place, why: why() })
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, ConfigError> {
        let Some((path, node)) = self.take(name) else { return Ok(None) };
        match &node.value {
            Value::Flag(flag) => Ok(Some(*flag)),
            Value::Given(texts) if texts.len() == 1 && matches!(&*texts[0], "true" | "false") => {
                Ok(Some(texts[0] == "true"))
            }
            _ => Err(wrong(path, &node, "true or false".to_owned())),
        }
    }

    /// As `whole`, for sizes and counts.
    pub(super) fn size(
        &mut self,
        name: &str,
        bounds: RangeInclusive<u32>,
    ) -> Result<Option<usize>, ConfigError> {
        // Where usize is narrower than 32 bits nothing of this runs.
        Ok(self.whole(name, bounds)?.map(|whole| usize::try_from(whole).unwrap_or(usize::MAX)))
    }

    /// A time in milliseconds, up to a week.
    pub(super) fn ms(&mut self, name: &str, least: u32) -> Result<Option<Duration>, ConfigError> {
        const WEEK: u32 = 7 * 24 * 3600 * 1000;
        Ok(self.whole(name, least..=WEEK)?.map(|ms| Duration::from_millis(ms.into())))
    }

    /// What must be there.
    pub(super) fn need<T>(&self, name: &str, value: Option<T>, why: &'static str) -> Result<T, ConfigError> {
        let missing = || ConfigError::Missing { key: self.path(name), place: self.place.clone(), why };
        value.ok_or_else(missing)
    }

    /// A value that is no good for a reason found later.
    pub(super) fn bad(&self, name: &str, place: &Place, why: impl Into<String>) -> ConfigError {
        ConfigError::BadValue { key: self.path(name), place: place.clone(), why: why.into() }
    }

    /// Where a key stands; the table's place if it doesn't.
    pub(super) fn place_of(&self, name: &str) -> Place {
        self.table.get(name).map_or(&self.place, |node| &node.place).clone()
    }

    /// Refuses what nobody took.
    pub(super) fn finish(&self) -> Result<(), ConfigError> {
        match self.table.first_key_value() {
            None => Ok(()),
            Some((name, node)) => {
                let key = self.path(name);
                let nearest = keys::nearest(&key);
                Err(ConfigError::UnknownKey { key, place: node.place.clone(), nearest })
            }
        }
    }

    fn take(&mut self, name: &str) -> Option<(String, Node)> {
        let path = self.path(name);
        debug_assert!(keys::is_known(&path), "{path} is not in the list of keys");
        self.table.remove(name).map(|node| (path, node))
    }

    fn path(&self, name: &str) -> String {
        if self.name.is_empty() { name.to_owned() } else { format!("{}.{name}", self.name) }
    }
}

fn wrong(key: String, node: &Node, expected: String) -> ConfigError {
    ConfigError::WrongType { key, place: node.place.clone(), found: node.value.kind(), expected }
}

fn bad(key: String, place: &Place, text: &str, why: &dyn Display, expected: &str) -> ConfigError {
    let why = format!("{text:?}: {why}; right is {expected}");
    ConfigError::BadValue { key, place: place.clone(), why }
}
