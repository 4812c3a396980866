//! Emergency calls (TS 24.229 §5.1.6, RFC 5031): recognised, given their location (RFC 6442), and the network's word that one
//! is to go elsewhere (380).

use std::fmt::Write as _;

use serde_json::Value;

use crate::adapter::sip::value::quoted;
use crate::protocol::number::Number;

/// RFC 5031 §4.1
pub(super) const SOS: &str = "urn:service:sos";
/// TS 24.229 §7.6: what a 380 carries.
const ALTERNATIVE: &str = "application/3gpp-ims+xml";
/// The longest such body that is read.
const MAX_BODY: usize = 16 * 1024;
/// RFC 5031 §4.1: a service with its sub-services is a short name.
const MAX_URN: usize = 128;

/// Which numbers call for help: `112`, `911`, with the service that each is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers(Vec<(String, String)>);

impl Numbers {
    /// Each is `112` or, with a service, `110=police`.
    pub fn new<S: AsRef<str>>(list: impl IntoIterator<Item = S>) -> Result<Self, String> {
        let one = |text: &str| {
            let (number, urn) = match text.split_once('=') {
                Some((number, service)) => (number, format!("{SOS}.{service}")),
                None => (text, SOS.to_owned()),
            };
            let digits = (2..=8).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
            match service_of(&urn) {
                Some(urn) if digits => Ok((number.to_owned(), urn)),
                _ => Err(format!(
                    "`{text}`: digits are expected, as 112, and perhaps a service, as 110=police"
                )),
            }
        };
        list.into_iter().map(|text| one(text.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// The URN of the service that a destination as it was dialled is for: the URN itself, `112`, `tel:112`, `sip:112@ims.test`.
    /// None: it is no emergency.
    pub fn service(&self, dialled: &str) -> Option<String> {
        if let Some(urn) = service_of(dialled) {
            return Some(urn);
        }
        let rest = dialled.split_once(':').map_or(dialled, |(scheme, rest)| {
            let known = ["tel", "sip", "sips"].iter().any(|it| scheme.eq_ignore_ascii_case(it));
            if known { rest } else { dialled }
        });
        let user = rest.split(['@', ';', '?']).next().unwrap_or_default();
        self.of_digits(user)
    }

    /// The same of a number.
    pub fn service_of(&self, number: &Number) -> Option<String> {
        match number {
            Number::Private { number, .. } => self.of_digits(number),
            // No service has a number of a country's own.
            Number::E164(_) | Number::Address { .. } => None,
        }
    }

    fn of_digits(&self, text: &str) -> Option<String> {
        let digits: String = text.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')')).take(16).collect();
        self.0.iter().find(|(number, _)| *number == digits).map(|(_, urn)| urn.clone())
    }
}

/// The URN in lower case, if it is one of an emergency service.
fn service_of(text: &str) -> Option<String> {
    let urn = text.trim().to_ascii_lowercase();
    let rest = urn.strip_prefix(SOS)?;
    let label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let labels = rest.is_empty() || rest.strip_prefix('.').is_some_and(|rest| rest.split('.').all(label));
    (labels && urn.len() <= MAX_URN).then_some(urn)
}

/// What a call with a location carries: the headers to add, and the body beside its description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Geolocation and its routing.
    pub headers: Vec<(String, String)>,
    /// The body's Content-Type.
    pub content_type: String,
    /// SDP and PIDF-LO.
    pub body: String,
}

/// Puts the location (CAMARA's `LocationDetails`, as it was checked) beside the offer. `unique` is unlike any other call's, of
/// letters and digits; `entity` is who calls, as a URI. None: the location says no place.
pub fn located(sdp: &str, location: &Value, entity: &str, unique: &str) -> Option<Located> {
    let document = pidf_lo(location, entity)?;
    let (boundary, id) = (format!("ript-{unique}"), format!("{unique}@ript.invalid"));
    let body = format!(
        "--{boundary}\r\nContent-Type: application/sdp\r\n\r\n{sdp}\r\n\
         --{boundary}\r\nContent-Type: application/pidf+xml\r\nContent-ID: <{id}>\r\n\
         Content-Disposition: by-reference;handling=optional\r\n\r\n{document}\r\n--{boundary}--\r\n"
    );
    Some(Located {
        // RFC 6442 §4.1, §4.2
        headers: vec![
            ("Geolocation".to_owned(), format!("<cid:{id}>")),
            ("Geolocation-Routing".to_owned(), "yes".to_owned()),
        ],
        content_type: format!("multipart/mixed;boundary={}", quoted(&boundary)),
        body,
    })
}

/// RFC 4119 and RFC 5491, with RFC 7459's confidence.
pub fn pidf_lo(location: &Value, entity: &str) -> Option<String> {
    let at = location.get("coordinates")?;
    let number = |name: &str| at.get(name).and_then(Value::as_f64).filter(|number| number.is_finite());
    let (latitude, longitude) = (number("latitude")?, number("longitude")?);
    let metres =
        |name: &str, value: f64| format!("<gs:{name} uom=\"urn:ogc:def:uom:EPSG::9001\">{value}</gs:{name}>");
    let mut shape = String::new();
    match (number("radius"), number("zAxis")) {
        // RFC 5491 §5.2.3
        (Some(radius), _) => {
            let _ = write!(
                shape,
                "<gs:Circle srsName=\"urn:ogc:def:crs:EPSG::4326\"><gml:pos>{latitude} {longitude}</gml:pos>{}</gs:Circle>",
                metres("radius", radius)
            );
        }
        // RFC 5491 §5.2.7
        (None, Some(height)) => {
            let _ = write!(
                shape,
                "<gs:Ellipsoid srsName=\"urn:ogc:def:crs:EPSG::4979\"><gml:pos>{latitude} {longitude} {height}</gml:pos>"
            );
            for name in ["semiMajorAxis", "semiMinorAxis", "verticalAxis"] {
                shape.push_str(&metres(name, number(name)?));
            }
            let _ = write!(
                shape,
                "<gs:orientation uom=\"urn:ogc:def:uom:EPSG::9102\">{}</gs:orientation></gs:Ellipsoid>",
                number("orientation")?
            );
        }
        // RFC 5491 §5.2.1
        (None, None) => {
            let _ = write!(
                shape,
                "<gml:Point srsName=\"urn:ogc:def:crs:EPSG::4326\"><gml:pos>{latitude} {longitude}</gml:pos></gml:Point>"
            );
        }
    }
    if let Some(percent) = location.pointer("/confidence/value").and_then(Value::as_f64) {
        let pdf = location.pointer("/confidence/pdf").and_then(Value::as_str).unwrap_or("unknown");
        // RFC 7459 §3.4: more than nothing and less than certainty, or `unknown`.
        if percent > 0.0 && percent < 100.0 {
            let _ = write!(shape, "<con:confidence pdf=\"{}\">{percent}</con:confidence>", escaped(pdf));
        }
    }
    let text = |name: &str| location.get(name).and_then(Value::as_str).map(escaped);
    // IANA's registry of method tokens (RFC 4119 §6.1) has all of CAMARA's but `Other`.
    let method = text("method").filter(|method| method != "Other");
    let method = method.map(|method| format!("<gp:method>{method}</gp:method>")).unwrap_or_default();
    let at = text("timestamp").map(|at| format!("<dm:timestamp>{at}</dm:timestamp>")).unwrap_or_default();
    Some(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <presence xmlns=\"urn:ietf:params:xml:ns:pidf\" xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\" \
         xmlns:gp=\"urn:ietf:params:xml:ns:pidf:geopriv10\" xmlns:gml=\"http://www.opengis.net/gml\" \
         xmlns:gs=\"http://www.opengis.net/pidflo/1.0\" xmlns:con=\"urn:ietf:params:xml:ns:geopriv:conf\" entity=\"{}\">\
         <dm:person id=\"caller\"><gp:geopriv><gp:location-info>{shape}</gp:location-info>\
         <gp:usage-rules><gp:retransmission-allowed>true</gp:retransmission-allowed></gp:usage-rules>{method}\
         </gp:geopriv>{at}</dm:person></presence>",
        escaped(entity)
    ))
}

fn escaped(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).fold(String::new(), |mut out, c| {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c => out.push(c),
        }
        out
    })
}

/// What a network says with 380: make this an emergency call (TS 24.229 §5.1.2A.1.1, §5.1.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// Whether it is about an emergency.
    pub emergency: bool,
    /// The service, where Contact names one.
    pub service: Option<String>,
    /// Whether to register anew first, or for emergencies.
    pub register: bool,
    /// In words, for the log.
    pub reason: String,
}

/// Reads what a 380 said: its body, and its Contact; none: it does not say what to do.
pub fn alternative(kind: &str, body: &[u8], contact: Option<&str>) -> Option<Alternative> {
    let kind = kind.split(';').next()?.trim();
    if !kind.eq_ignore_ascii_case(ALTERNATIVE) || body.len() > MAX_BODY {
        return None;
    }
    let text = std::str::from_utf8(body).ok()?;
    let options = roxmltree::ParsingOptions { allow_dtd: false, nodes_limit: 500, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(text, options).ok()?;
    let root = document.root_element();
    if root.tag_name().name() != "ims-3gpp" {
        return None;
    }
    let service = root.children().find(|node| node.tag_name().name() == "alternative-service")?;
    let word = |name: &str| {
        let node = service.children().find(|node| node.tag_name().name() == name)?;
        Some(node.text().unwrap_or_default().trim().to_ascii_lowercase())
    };
    let action = word("action").unwrap_or_default();
    Some(Alternative {
        emergency: word("type").is_some_and(|kind| kind == "emergency"),
        service: contact.and_then(service_of),
        register: ["initial-registration", "emergency-registration"].contains(&action.as_str()),
        reason: word("reason").unwrap_or_default().chars().take(256).collect(),
    })
}

/// How an emergency call is refused where there is no way for it: RFC 3261 §21.3.5 with the body that says so, so that the
/// device dials by another network.
pub fn refusal() -> (u16, &'static str, &'static str) {
    (
        380,
        ALTERNATIVE,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ims-3gpp version=\"1\"><alternative-service>\
         <type>emergency</type><reason>This server has no way to emergency services: dial by another network.</reason>\
         </alternative-service></ims-3gpp>",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn numbers() -> Numbers {
        Numbers::new(["112", "911", "110=police", "116117=physician"]).unwrap()
    }

    #[test]
    fn emergencies_are_recognised_by_urn_and_by_number() {
        for (dialled, urn) in [
            ("112", "urn:service:sos"),
            ("tel:911", "urn:service:sos"),
            ("tel:911;phone-context=+1", "urn:service:sos"),
            ("sip:1-1-0@ims.test;user=phone", "urn:service:sos.police"),
            ("116117", "urn:service:sos.physician"),
            ("URN:service:SOS", "urn:service:sos"),
            ("urn:service:sos.fire", "urn:service:sos.fire"),
            ("urn:service:sos.ecall.manual", "urn:service:sos.ecall.manual"),
        ] {
            assert_eq!(numbers().service(dialled).as_deref(), Some(urn), "{dialled}");
        }
        for dialled in [
            "1125",
            "+112",
            "tel:+1911",
            "urn:service:sosx",
            "urn:service:sos.",
            "urn:service:sos..a",
            "urn:service:counseling",
            "mailto:112@x",
            "",
            "sip:x112@y",
        ] {
            assert_eq!(numbers().service(dialled), None, "{dialled}");
        }
        assert!(numbers().service_of(&"112@ims.test".parse().unwrap()).is_some());
        assert!(numbers().service_of(&"+4911".parse().unwrap()).is_none());
        for bad in ["", "1", "+112", "112=", "112=a b", "a", "123456789"] {
            assert!(Numbers::new([bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_circle_and_an_ellipsoid_become_pidf_lo_beside_the_offer() {
        let circle = json!({
            "shape": "Circle", "method": "GPS", "timestamp": "2025-10-06T19:31:25Z",
            "coordinates": {"latitude": 47.6062, "longitude": -122.3321, "radius": 35},
            "confidence": {"pdf": "normal", "value": 92},
        });
        let located = located("v=0\r\n", &circle, "tel:+1\"&<5550001", "abc1").unwrap();
        assert_eq!(located.content_type, "multipart/mixed;boundary=\"ript-abc1\"");
        assert_eq!(located.headers[0], ("Geolocation".to_owned(), "<cid:abc1@ript.invalid>".to_owned()));
        let parts: Vec<_> = located.body.split("--ript-abc1").collect();
        assert_eq!((parts.len(), parts[0], parts[3]), (4, "", "--\r\n"));
        assert_eq!(parts[1], "\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\r\n");
        assert!(parts[2].contains("\r\nContent-ID: <abc1@ript.invalid>\r\n"));
        let (_, document) = parts[2].split_once("\r\n\r\n").unwrap();
        let document = roxmltree::Document::parse(document.trim()).unwrap();
        let get = |name: &str| document.descendants().find(|node| node.tag_name().name() == name).unwrap();
        assert_eq!(get("pos").text(), Some("47.6062 -122.3321"));
        assert_eq!((get("radius").text(), get("method").text()), (Some("35"), Some("GPS")));
        assert_eq!(
            (get("confidence").text(), get("confidence").attribute("pdf")),
            (Some("92"), Some("normal"))
        );
        assert_eq!(get("timestamp").text(), Some("2025-10-06T19:31:25Z"));
        assert_eq!(document.root_element().attribute("entity"), Some("tel:+1\"&<5550001"));
        assert_eq!(get("Circle").attribute("srsName"), Some("urn:ogc:def:crs:EPSG::4326"));

        let ellipsoid = json!({
            "coordinates": {
                "latitude": -33.9, "longitude": 18.4, "zAxis": -1.5, "semiMajorAxis": 40, "semiMinorAxis": 20.5,
                "verticalAxis": 3, "orientation": 43.2,
            },
            "method": "Other",
        });
        let text = pidf_lo(&ellipsoid, "x").unwrap();
        let document = roxmltree::Document::parse(&text).unwrap();
        let get = |name: &str| document.descendants().find(|node| node.tag_name().name() == name);
        assert_eq!(get("pos").unwrap().text(), Some("-33.9 18.4 -1.5"));
        assert_eq!(get("orientation").unwrap().text(), Some("43.2"));
        assert!(get("method").is_none() && get("confidence").is_none());
        for none in [
            json!({}),
            json!({"coordinates": {"latitude": 1}}),
            json!({"coordinates": {"latitude": 1, "longitude": 2, "zAxis": 3}}),
        ] {
            assert_eq!(pidf_lo(&none, "x"), None);
        }
    }

    #[test]
    fn a_380_says_that_it_is_an_emergency_and_which() {
        let body = "<?xml version=\"1.0\"?><ims-3gpp xmlns=\"urn:3gpp:ns:x\" version=\"1\"><alternative-service><type>emergency</type>\
                    <reason>Dial</reason><action>emergency-registration</action></alternative-service></ims-3gpp>";
        let read =
            alternative("application/3gpp-ims+xml;sv=1", body.as_bytes(), Some("urn:service:sos.police"))
                .unwrap();
        assert_eq!(
            read,
            Alternative {
                emergency: true,
                service: Some("urn:service:sos.police".into()),
                register: true,
                reason: "dial".into(),
            }
        );
        let (code, kind, body) = refusal();
        let own = alternative(kind, body.as_bytes(), Some("sip:x@y")).unwrap();
        assert_eq!(code, 380);
        assert!(own.emergency && !own.register && own.service.is_none());
        for (kind, body) in [
            ("text/plain", body),
            (ALTERNATIVE, ""),
            (ALTERNATIVE, "<ims-3gpp/>"),
            (ALTERNATIVE, "<!DOCTYPE x [<!ENTITY a \"b\">]><ims-3gpp><alternative-service/></ims-3gpp>"),
            (ALTERNATIVE, &"<a>".repeat(5000)),
        ] {
            assert_eq!(alternative(kind, body.as_bytes(), None), None, "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_destination_and_any_380_are_read_without_panic(text in "[ -~é]{0,60}", body in "(<ims-3gpp>|)[ -~]{0,60}") {
            let _ = numbers().service(&text);
            let _ = alternative(ALTERNATIVE, body.as_bytes(), Some(&text));
            let xml = pidf_lo(&json!({"coordinates": {"latitude": 1, "longitude": 2}, "method": text, "timestamp": body}), &text);
            prop_assert!(roxmltree::Document::parse(&xml.unwrap()).is_ok());
        }
    }
}
