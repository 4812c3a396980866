//! The JSON twin: directives in the form in which the device that asks was registered.

use serde_json::Value;

use crate::protocol::advertisement::Form;
use crate::protocol::directive::Directives;

/// wire §8: an answer, call and event use the form in which the handler was registered.
pub(super) fn in_form(mut json: Value, form: Option<Form>) -> Value {
    let Some(form) = form else { return json };
    for member in ["clientDirectives", "serverDirectives"] {
        if let Some(value) = json.get_mut(member) {
            *value = directives(value.take(), form);
        }
    }
    json
}

fn directives(value: Value, form: Form) -> Value {
    if value.is_string() == (form == Form::Text) {
        return value;
    }
    Directives::from_value(&value).map_or(value, |(directives, _)| directives.to_value(form))
}
