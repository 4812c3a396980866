//! CAMARA's `LocationDetails`.

use serde_json::{Map, Value};

use super::body::{self, bad};
use super::error::{Code, Failure};
use crate::protocol::time::Timestamp;

/// Where a party said that its device is: checked, and kept as it was written.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Location(pub(super) Value);

/// What a number may be.
type Bounds = (f64, f64);
const ANY: Bounds = (f64::MIN, f64::MAX);
const LENGTH: Bounds = (0.0, f64::MAX);

/// webrtc-call-handling.yaml, CircleCoordinates and EllipsoidCoordinates: all members are required.
const CIRCLE: &[(&str, Bounds)] =
    &[("latitude", (-90.0, 90.0)), ("longitude", (-180.0, 180.0)), ("radius", LENGTH)];
const ELLIPSOID: &[(&str, Bounds)] = &[
    ("latitude", (-90.0, 90.0)),
    ("longitude", (-180.0, 180.0)),
    ("zAxis", ANY),
    ("semiMajorAxis", LENGTH),
    ("semiMinorAxis", LENGTH),
    ("verticalAxis", LENGTH),
    ("orientation", ANY),
];

impl Location {
    /// Reads one; members that the schema doesn't have are left out.
    pub(super) fn read(value: &Value, now: Timestamp) -> Result<Self, Failure> {
        let given = object(value, "locationDetails")?;
        let mut kept = Map::new();
        let shape = one_of(given, "locationDetails", "shape", &["Circle", "Ellipsoid"])?;
        if let Some(coordinates) = given.get("coordinates") {
            kept.insert("coordinates".to_owned(), coordinates_of(shape, coordinates)?);
        }
        let method = one_of(given, "locationDetails", "method", &["GPS", "DBH", "DBH_HELO", "Other"])?;
        if let Some(confidence) = given.get("confidence") {
            kept.insert("confidence".to_owned(), confidence_of(confidence)?);
        }
        for (name, text) in [("shape", shape), ("method", method)] {
            text.and_then(|text| kept.insert(name.to_owned(), text.into()));
        }
        // webrtc-call-handling.yaml, timestamp: "if not provided current timestamp will be used by default".
        let at = match given.get("timestamp") {
            None => now.to_string(),
            Some(Value::String(text)) if body::time(text).is_some() => text.clone(),
            Some(_) => return Err(bad("locationDetails.timestamp", body::TIME)),
        };
        kept.insert("timestamp".to_owned(), at.into());
        Ok(Self(Value::Object(kept)))
    }
}

/// webrtc-call-handling.yaml, coordinates: one of both schemas, the chosen shape's.
fn coordinates_of(shape: Option<&str>, value: &Value) -> Result<Value, Failure> {
    const FIELD: &str = "locationDetails.coordinates";
    let given = object(value, FIELD)?;
    let fits = |members: &[(&str, Bounds)]| {
        members.iter().all(|(name, _)| given.get(*name).is_some_and(Value::is_number))
    };
    if fits(CIRCLE) && fits(ELLIPSOID) {
        return Err(bad(FIELD, "the members of a circle or those of an ellipsoid are expected, not both"));
    }
    let ellipsoid = match shape {
        Some(shape) => shape == "Ellipsoid",
        None => !given.contains_key("radius"),
    };
    let members = if ellipsoid { ELLIPSOID } else { CIRCLE };
    let mut kept = Map::new();
    for (name, bounds) in members {
        let field = format!("{FIELD}.{name}");
        let value = given.get(*name).ok_or_else(|| {
            let names: Vec<_> = members.iter().map(|(name, _)| *name).collect();
            bad(&field, &format!("it is missing; this shape has {}", names.join(", ")))
        })?;
        kept.insert((*name).to_owned(), number(value, &field, *bounds)?);
    }
    Ok(Value::Object(kept))
}

fn confidence_of(value: &Value) -> Result<Value, Failure> {
    const FIELD: &str = "locationDetails.confidence";
    let given = object(value, FIELD)?;
    let mut kept = Map::new();
    if let Some(pdf) = one_of(given, FIELD, "pdf", &["normal", "uniform"])? {
        kept.insert("pdf".to_owned(), pdf.into());
    }
    if let Some(value) = given.get("value") {
        kept.insert("value".to_owned(), number(value, &format!("{FIELD}.value"), (0.0, 100.0))?);
    }
    Ok(Value::Object(kept))
}

fn object<'a>(value: &'a Value, field: &str) -> Result<&'a Map<String, Value>, Failure> {
    value.as_object().ok_or_else(|| bad(field, "a JSON object is expected"))
}

fn one_of<'a>(
    given: &'a Map<String, Value>,
    parent: &str,
    name: &str,
    words: &[&str],
) -> Result<Option<&'a str>, Failure> {
    match given.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if words.contains(&text.as_str()) => Ok(Some(text)),
        Some(_) => Err(bad(&format!("{parent}.{name}"), &format!("one of {} is expected", words.join(", ")))),
    }
}

fn number(value: &Value, field: &str, (least, most): Bounds) -> Result<Value, Failure> {
    let number = value.as_f64().ok_or_else(|| bad(field, "a number is expected"))?;
    if (least..=most).contains(&number) {
        return Ok(value.clone());
    }
    let right = if most == f64::MAX { format!("{least} or more") } else { format!("{least} to {most}") };
    Err(Failure::new(Code::OutOfRange, format!("{field}: {right} is expected")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn read(value: &Value) -> Result<Value, Failure> {
        Location::read(value, NOW).map(|location| location.0)
    }

    /// A whole one with one member in another state: the pointer names it.
    fn with(mut value: Value, pointer: &str, member: Value) -> Value {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        value.pointer_mut(parent).unwrap()[name] = member;
        value
    }

    fn circle() -> Value {
        json!({
            "shape": "Circle",
            "coordinates": {"latitude": 47.6062, "longitude": -122.3321, "radius": 35},
            "method": "GPS",
            "confidence": {"pdf": "normal", "value": 92},
            "timestamp": "2025-10-06T19:31:25Z",
        })
    }

    fn ellipsoid() -> Value {
        let coordinates = json!({
            "latitude": -33.9, "longitude": 18.4, "zAxis": -1.5, "semiMajorAxis": 40, "semiMinorAxis": 20.5,
            "verticalAxis": 3, "orientation": 43.2,
        });
        json!({"shape": "Ellipsoid", "coordinates": coordinates})
    }

    #[test]
    fn a_location_is_kept_as_it_was_written_with_the_time_and_without_what_nobody_knows() {
        assert_eq!(read(&circle()), Ok(circle()));
        let at = json!(NOW.to_string());
        assert_eq!(read(&ellipsoid()), Ok(with(ellipsoid(), "/timestamp", at.clone())));
        assert_eq!(read(&json!({})), Ok(json!({"timestamp": at})));
        for pointer in ["/x", "/coordinates/x", "/coordinates/orientation", "/confidence/x"] {
            assert_eq!(read(&with(circle(), pointer, json!(["x"]))), Ok(circle()), "{pointer}");
        }
        // Without a shape the members tell it.
        for mut whole in [circle(), with(ellipsoid(), "/timestamp", at)] {
            whole.as_object_mut().unwrap().remove("shape");
            assert_eq!(read(&whole), Ok(whole.clone()));
        }
    }

    #[test]
    fn each_member_has_its_type_and_its_bounds() {
        let (bad, range) = (Code::InvalidArgument, Code::OutOfRange);
        let mut rows = vec![
            (json!([]), "locationDetails", bad),
            (Value::Null, "locationDetails", bad),
            (with(circle(), "/shape", json!("circle")), "locationDetails.shape", bad),
            (with(circle(), "/shape", Value::Null), "locationDetails.shape", bad),
            (with(circle(), "/shape", json!("Ellipsoid")), "locationDetails.coordinates.zAxis", bad),
            (with(ellipsoid(), "/shape", json!("Circle")), "locationDetails.coordinates.radius", bad),
            (with(ellipsoid(), "/coordinates/radius", json!(1)), "locationDetails.coordinates", bad),
            (with(circle(), "/coordinates", json!([])), "locationDetails.coordinates", bad),
            (with(circle(), "/coordinates", json!({})), "locationDetails.coordinates.latitude", bad),
            (with(circle(), "/method", json!("gps")), "locationDetails.method", bad),
            (with(circle(), "/confidence", json!(7)), "locationDetails.confidence", bad),
            (with(circle(), "/confidence/pdf", json!("Normal")), "locationDetails.confidence.pdf", bad),
            (with(circle(), "/confidence/value", json!("9")), "locationDetails.confidence.value", bad),
            (with(circle(), "/confidence/value", json!(100.1)), "locationDetails.confidence.value", range),
            (with(circle(), "/confidence/value", json!(-1)), "locationDetails.confidence.value", range),
            (with(circle(), "/timestamp", json!("2025-10-06T19:31:25")), "locationDetails.timestamp", bad),
            (with(circle(), "/timestamp", json!(1_790_000_000)), "locationDetails.timestamp", bad),
        ];
        for (whole, name, member, code) in [
            (circle(), "latitude", json!(90.0001), range),
            (circle(), "latitude", json!(-91), range),
            (circle(), "longitude", json!(180.0001), range),
            (circle(), "longitude", json!(-1e300), range),
            (circle(), "longitude", json!("0"), bad),
            (circle(), "radius", json!(-0.1), range),
            (circle(), "radius", Value::Null, bad),
            (ellipsoid(), "zAxis", json!(true), bad),
            (ellipsoid(), "semiMajorAxis", json!(-1), range),
            (ellipsoid(), "semiMinorAxis", json!(-1), range),
            (ellipsoid(), "verticalAxis", json!(-1), range),
            (ellipsoid(), "orientation", json!([43]), bad),
        ] {
            let field = format!("/coordinates/{name}");
            rows.push((with(whole, &field, member), name, code));
        }
        for (value, field, code) in rows {
            let failure = read(&value).unwrap_err();
            assert_eq!(failure.code(), code, "{value}");
            assert!(failure.message().split_once(": ").unwrap().0.ends_with(field), "{value} {failure:?}");
        }
        for (name, edge) in
            [("latitude", 90), ("latitude", -90), ("longitude", 180), ("longitude", -180), ("radius", 0)]
        {
            read(&with(circle(), &format!("/coordinates/{name}"), json!(edge))).unwrap();
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[A-Za-z0-9:.TZ-]{0,12}".prop_map(Value::from),
            prop::sample::select(vec!["Circle", "Ellipsoid", "GPS", "normal", "2025-10-06T19:31:25Z"])
                .prop_map(Value::from),
        ];
        let name = prop::sample::select(vec![
            "shape",
            "coordinates",
            "method",
            "confidence",
            "timestamp",
            "latitude",
            "longitude",
            "radius",
            "zAxis",
            "semiMajorAxis",
            "semiMinorAxis",
            "verticalAxis",
            "orientation",
            "pdf",
            "value",
            "x",
        ]);
        leaf.prop_recursive(3, 64, 12, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name.clone(), inner, 0..12).prop_map(|all| {
                    all.into_iter()
                        .map(|(name, value)| (name.to_owned(), value))
                        .collect::<Map<_, _>>()
                        .into()
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_within_bounds_small_and_taken_again(value in values()) {
            if let Ok(kept) = read(&value) {
                prop_assert_eq!(read(&kept), Ok(kept.clone()));
                prop_assert!(kept.to_string().len() < 1_000);
                if let Some(coordinates) = kept.get("coordinates") {
                    prop_assert!(coordinates["latitude"].as_f64().is_some_and(|at| at.abs() <= 90.0));
                    prop_assert!(coordinates["longitude"].as_f64().is_some_and(|at| at.abs() <= 180.0));
                }
            }
        }
    }
}
