//! The JSON twin: an array wherever a string is text. Unknown members are ignored.

use serde_json::{Map, Value, json};

use super::spec::{CodecSpec, Params};
use super::syntax::{Fault, MAX_CODECS, MAX_LINES, SyntaxError};
use crate::protocol::codec::CodecName;

/// How an advertisement or directives stand in JSON; an answer takes the form of the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A string in the text grammar.
    #[default]
    Text,
    /// An array of objects.
    Json,
}

/// An object of the array, with its path.
pub(crate) struct Object<'a> {
    members: &'a Map<String, Value>,
    path: String,
}

/// The array's objects.
pub(crate) fn objects(value: &Value) -> Result<Vec<Object<'_>>, SyntaxError> {
    let Value::Array(lines) = value else {
        return Err(expected("", "text, or an array of objects", Some(value)));
    };
    if lines.len() > MAX_LINES {
        return Err(SyntaxError::path(format!("[{MAX_LINES}]"), Fault::LINES));
    }
    lines.iter().enumerate().map(|(index, value)| Object::new(value, format!("[{index}]"))).collect()
}

impl<'a> Object<'a> {
    fn new(value: &'a Value, path: String) -> Result<Self, SyntaxError> {
        match value {
            Value::Object(members) => Ok(Self { members, path }),
            other => Err(expected(path, "an object", Some(other))),
        }
    }

    /// The id under this name.
    pub(crate) fn id(&self, name: &str) -> Result<u8, SyntaxError> {
        match self.members.get(name) {
            Some(Value::Number(id)) => {
                let id = id.as_u64().and_then(|id| u8::try_from(id).ok()).filter(|id| *id > 0);
                id.ok_or_else(|| SyntaxError::path(self.path_to(name), Fault::Id))
            }
            other => Err(expected(self.path_to(name), "an id from 1 to 255", other)),
        }
    }

    /// Which of these words stands under this name.
    pub(crate) fn word(
        &self,
        name: &str,
        words: &[&str],
        wanted: &'static str,
    ) -> Result<usize, SyntaxError> {
        let found = self.members.get(name);
        let index = found
            .and_then(Value::as_str)
            .and_then(|found| words.iter().position(|word| word.eq_ignore_ascii_case(found)));
        index.ok_or_else(|| expected(self.path_to(name), wanted, found))
    }

    /// The member `codecs`.
    pub(crate) fn codecs(&self) -> Result<Vec<CodecSpec>, SyntaxError> {
        let path = self.path_to("codecs");
        match self.members.get("codecs") {
            Some(Value::Array(codecs)) if codecs.len() > MAX_CODECS => {
                Err(SyntaxError::path(format!("{path}[{MAX_CODECS}]"), Fault::CODECS))
            }
            Some(Value::Array(codecs)) => codecs
                .iter()
                .enumerate()
                .map(|(index, codec)| Object::new(codec, format!("{path}[{index}]"))?.codec())
                .collect(),
            other => Err(expected(path, "an array of codecs", other)),
        }
    }

    fn codec(&self) -> Result<CodecSpec, SyntaxError> {
        let name = self.members.get("name");
        let codec = name.and_then(Value::as_str).and_then(|name| name.parse::<CodecName>().ok());
        let codec = codec.ok_or_else(|| {
            expected(self.path_to("name"), "a codec name (a letter first, such as `opus`)", name)
        })?;
        let mut params = Params::new();
        match self.members.get("params") {
            None => {}
            Some(Value::Object(given)) => {
                for (name, value) in given {
                    let path = || self.path_to(&format!("params.{name}"));
                    let integer = match value {
                        Value::Number(number) => {
                            number.as_i64().ok_or_else(|| SyntaxError::path(path(), Fault::Integer))?
                        }
                        other => return Err(expected(path(), "an integer", Some(other))),
                    };
                    params.insert(name, integer).map_err(|fault| SyntaxError::path(path(), fault))?;
                }
            }
            other => return Err(expected(self.path_to("params"), "an object of integers", other)),
        }
        Ok(CodecSpec::new(codec, params))
    }

    fn path_to(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }
}

/// Codecs as the member `codecs` has them.
pub(crate) fn codecs_to_value(codecs: &[CodecSpec]) -> Value {
    codecs
        .iter()
        .map(|codec| {
            let params: Map<String, Value> =
                codec.params().iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
            json!({"name": codec.name().as_str(), "params": params})
        })
        .collect()
}

fn expected(path: impl Into<String>, wanted: &'static str, found: Option<&Value>) -> SyntaxError {
    let found = match found {
        None => "nothing".into(),
        Some(Value::Null) => "null".into(),
        Some(Value::Bool(found)) => found.to_string(),
        Some(Value::Number(found)) => found.to_string(),
        Some(Value::String(found)) => format!("{:?}", found.chars().take(40).collect::<String>()),
        Some(Value::Array(_)) => "an array".into(),
        Some(Value::Object(_)) => "an object".into(),
    };
    SyntaxError::path(path, Fault::Expected { wanted, found })
}
