//! What these types look like in OpenAPI, where no derive can tell.

use utoipa::openapi::schema::{ArrayBuilder, Object, ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{KnownFormat, RefOr, Schema, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

use super::number::{Destinations, Number};
use super::time::Timestamp;

fn text(description: &str, example: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).description(Some(description)).examples([example])
}

impl PartialSchema for Number {
    fn schema() -> RefOr<Schema> {
        text("E.164, `4711@example.com` for private numbering, or an address.", "+14085551000").into()
    }
}

impl ToSchema for Number {}

impl PartialSchema for Timestamp {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
        text("RFC 3339, in UTC, with milliseconds.", "2026-11-20T23:27:13.920Z").format(Some(format)).into()
    }
}

impl ToSchema for Timestamp {}

impl PartialSchema for Destinations {
    fn schema() -> RefOr<Schema> {
        let many = ArrayBuilder::new().items(Object::with_type(Type::String)).max_items(Some(1_000));
        let one = text("One pattern: `*`, `+1*`.", "+1*");
        let both = OneOfBuilder::new().item(one).item(many);
        both.description(Some("One pattern, or several with exclusions: `[\"*\", \"!+1900*\"]`.")).into()
    }
}

impl ToSchema for Destinations {}

/// An advertisement or directives: text, or its JSON twin.
#[derive(Debug)]
pub struct TextOrJson;

impl PartialSchema for TextOrJson {
    fn schema() -> RefOr<Schema> {
        let twin = ArrayBuilder::new().items(Object::with_type(Type::Object));
        let both = OneOfBuilder::new().item(text("The text.", "1 in: opus; 1 out: opus;")).item(twin);
        both.description(Some("Text, or its JSON twin (interop/PROTOCOL.md, section 3).")).into()
    }
}

impl ToSchema for TextOrJson {}
