//! How requests are read, and what is said about those that can't be.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::Camara;
use super::error::{Code, Failure};
use crate::protocol::time::Timestamp;

/// The files' `maxLength` of every id and of every time.
const MAX_ID: usize = 256;
const MAX_TIME: usize = 64;

/// What a time looks like.
pub(super) const TIME: &str = "an RFC 3339 time with an offset is expected: 2026-05-05T13:32:17Z";

pub(super) type App = State<Arc<Camara>>;
pub(super) type Id = Result<Path<String>, PathRejection>;

/// INVALID_ARGUMENT, with the field and what would be right.
pub(super) fn bad(field: &str, why: &str) -> Failure {
    Failure::new(Code::InvalidArgument, format!("{field}: {why}"))
}

/// The members of a body that is a JSON object, or nothing at all.
pub(super) async fn members(body: Body, limit: usize) -> Result<Map<String, Value>, Failure> {
    Ok(object(body, limit).await?.unwrap_or_default())
}

/// A body that is a JSON object; none where there is no body.
pub(super) async fn object(body: Body, limit: usize) -> Result<Option<Map<String, Value>>, Failure> {
    let bytes = axum::body::to_bytes(body, limit)
        .await
        .map_err(|_| bad("body", &format!("at most {limit} bytes are taken, and they are to come whole")))?;
    if bytes.is_empty() {
        return Ok(None);
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(members)) => Ok(Some(members)),
        Ok(_) => Err(bad("body", "a JSON object is expected")),
        Err(error) => Err(bad("body", &format!("it is no JSON that can be read: {error}"))),
    }
}

/// A text of at most so many characters.
pub(super) fn text<'a>(
    members: &'a Map<String, Value>,
    field: &str,
    most: usize,
) -> Result<Option<&'a str>, Failure> {
    match members.get(field) {
        None => Ok(None),
        // No text has more characters than bytes.
        Some(Value::String(text)) if text.len() <= most || text.chars().count() <= most => Ok(Some(text)),
        Some(Value::String(_)) => Err(bad(field, &format!("it has at most {most} characters"))),
        Some(_) => Err(bad(field, "a string is expected")),
    }
}

/// A resource's name in a path. One that isn't ours (none) is one that isn't there.
pub(super) fn id_in_path(id: Id, field: &str) -> Result<Option<Uuid>, Failure> {
    let Path(text) = id.map_err(|_| bad(field, "it is to be in the path, as text in UTF-8"))?;
    if text.chars().count() > MAX_ID {
        return Err(bad(field, "it has at most 256 characters"));
    }
    Ok(uuid(&text))
}

/// `format: uuid`, `maxLength: 36`: with its hyphens, in either case.
pub(super) fn uuid(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|_| text.len() == 36)
}

/// RFC 3339 §5.6, with its offset.
pub(super) fn time(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().filter(|_| text.len() <= MAX_TIME)
}

/// `format: date-time`, `maxLength: 64`. A time before 1970 is a time, and too early.
pub(super) fn date_time(field: &str, value: &Value) -> Result<Timestamp, Failure> {
    let at = value.as_str().and_then(time).ok_or_else(|| bad(field, TIME))?;
    Ok(Timestamp::from_millis(u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default()))
}

/// The files document 204 beside 200, and leave open when: a client that wants no body says so (RFC 7240 §4.2).
pub(super) fn prefers_minimal(headers: &HeaderMap) -> bool {
    let lines = headers.get_all("prefer").iter().filter_map(|line| line.to_str().ok());
    let wishes = lines.flat_map(|line| line.split(','));
    let mut names = wishes.map(|wish| wish.split(';').next().unwrap_or_default().trim());
    names.any(|name| name.eq_ignore_ascii_case("return=minimal"))
}

/// The minimal answer.
pub(super) fn minimal() -> Response {
    let applied = (HeaderName::from_static("preference-applied"), HeaderValue::from_static("return=minimal"));
    (StatusCode::NO_CONTENT, [applied]).into_response()
}

/// The answer to a method that a path doesn't have.
pub(super) async fn no_such_method() -> Failure {
    Failure::new(Code::MethodNotAllowed, "the path has no such method; `Allow` lists those it has")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_uuid_has_its_hyphens_in_either_case() {
        let id = uuid("123e4567-e89b-42d3-a456-426614174000").unwrap();
        assert_eq!(uuid("123E4567-E89B-42D3-A456-426614174000").unwrap(), id);
        for bad in [
            "",
            "123e4567e89b42d3a456426614174000",
            "{123e4567-e89b-42d3-a456-426614174000}",
            "urn:uuid:123e4567-e89b-42d3-a456-426614174000",
            "123e4567-e89b-42d3-a456-42661417400g",
            "123e4567-e89b-42d3-a456-4266141740000",
            "123e4567-e89b-42d3-a456-42661417400é",
        ] {
            assert_eq!(uuid(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_length_is_counted_in_characters() {
        let members = |text: &str| Map::from_iter([("x".to_owned(), json!(text))]);
        for good in ["é".repeat(8), "😀".repeat(8), "12345678".into(), String::new()] {
            assert_eq!(text(&members(&good), "x", 8).unwrap(), Some(good.as_str()));
        }
        assert!(text(&members(&"é".repeat(9)), "x", 8).is_err());
        assert!(text(&members("123456789"), "x", 8).is_err());
        assert_eq!(text(&members("1"), "y", 8).unwrap(), None);
    }

    #[test]
    fn a_time_has_an_offset_and_at_most_64_characters() {
        for good in ["2026-05-05T13:32:17Z", "2026-05-05t13:32:17.25+02:00", "0000-01-01T00:00:00-23:59"] {
            assert!(time(good).is_some(), "{good}");
        }
        for bad in ["", "now", "2026-05-05", "2026-05-05T13:32:17", "2026-02-30T13:32:17Z", "1", "+2026"] {
            assert!(time(bad).is_none(), "{bad}");
        }
        assert!(time(&format!("2099-01-01T00:00:00.{}Z", "0".repeat(60))).is_none());
    }

    #[test]
    fn only_a_wish_for_a_minimal_answer_is_one() {
        let wish = |text: &'static str| {
            prefers_minimal(&HeaderMap::from_iter([(
                HeaderName::from_static("prefer"),
                HeaderValue::from_static(text),
            )]))
        };
        assert!(wish("return=minimal") && wish("wait=1, Return=Minimal; x=y"));
        assert!(!wish("return=representation") && !wish("x=\"return=minimal\"") && !wish(""));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken_or_refused_without_panic(text in ".{0,80}", near in "[0-9TZtz:.+-]{0,40}") {
            for text in [text, near] {
                let _ = (uuid(&text), time(&text));
            }
        }
    }
}
