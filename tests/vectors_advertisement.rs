//! `interop/vectors/advertisements.json` and `directives.json` hold for this server.

use std::path::Path;

use ript::protocol::advertisement::{Advertisement, Form, Place, SyntaxError};
use ript::protocol::directive::Directives;
use serde_json::Value;

fn vectors(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/vectors").join(file);
    let text = std::fs::read(path).expect("the file is in the repository");
    serde_json::from_slice(&text).expect("it is an array")
}

trait Twin: Sized + Clone + PartialEq + std::fmt::Debug {
    fn read(value: &Value) -> Result<(Self, Form), SyntaxError>;
    fn write(&self, form: Form) -> Value;
}

impl Twin for Advertisement {
    fn read(value: &Value) -> Result<(Self, Form), SyntaxError> {
        Self::from_value(value)
    }
    fn write(&self, form: Form) -> Value {
        self.to_value(form)
    }
}

impl Twin for Directives {
    fn read(value: &Value) -> Result<(Self, Form), SyntaxError> {
        Self::from_value(value)
    }
    fn write(&self, form: Form) -> Value {
        self.to_value(form)
    }
}

fn check_syntax<T: Twin>(vector: &Value) {
    let name = &vector["name"];
    if let Some(offset) = vector.get("error-offset") {
        let error = T::read(&vector["text"]).expect_err(&name.to_string());
        assert_eq!(error.offset().map(Value::from).as_ref(), Some(offset), "{name}: {error}");
    } else if let Some(path) = vector.get("error-path") {
        let error = T::read(&vector["json"]).expect_err(&name.to_string());
        let path = path.as_str().expect("a path is a string");
        assert_eq!(error.place, Place::Path(path.into()), "{name}: {error}");
    } else {
        let (text, form) = T::read(&vector["text"]).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(form, Form::Text, "{name}");
        assert_eq!(text.write(Form::Text), vector["canonical"], "{name}");
        assert_eq!(T::read(&vector["canonical"]).as_ref(), Ok(&(text.clone(), Form::Text)), "{name}");
        let (json, form) = T::read(&vector["json"]).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(form, Form::Json, "{name}");
        assert_eq!(json, text, "{name}");
        assert_eq!(T::read(&text.write(Form::Json)), Ok((text, Form::Json)), "{name}");
    }
}

#[test]
fn advertisements_are_read_and_printed_as_the_vectors_say() {
    let vectors = vectors("advertisements.json");
    assert!(vectors.len() >= 40);
    vectors.iter().for_each(check_syntax::<Advertisement>);
}

#[test]
fn directives_are_read_printed_and_computed_as_the_vectors_say() {
    let vectors = vectors("directives.json");
    assert!(vectors.len() >= 30);
    for vector in &vectors {
        let Some(directives) = vector.get("directives") else {
            check_syntax::<Directives>(vector);
            continue;
        };
        let side = |side: &str| Advertisement::parse(vector[side].as_str().unwrap()).unwrap();
        let computed = Directives::compute(&side("sender"), &side("receiver"));
        assert_eq!(computed.to_value(Form::Text), *directives, "{}", vector["name"]);
        assert_eq!(Directives::read(directives).unwrap().0, computed, "{}", vector["name"]);
    }
}
