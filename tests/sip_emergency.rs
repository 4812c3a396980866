//! Calls for help: by whichever API they are placed, they reach the telephone network as such, with the caller's place.

use ript::adapter::camara;
use ript::adapter::sip::answer;
use rsipstack::sip::Request;
use serde_json::{Value, json};

use crate::common::camara_calls::{CALLS, ask_as, call, caller};
use crate::common::{soon, vouching};
use crate::sip_phone::{Lab, PHONE};
use crate::sip_transfer::headers_of;

const ALICE: &str = "+14085550001";
const HELP: &str = "sos@emergency.example";

fn place() -> Value {
    json!({
        "shape": "Circle",
        "method": "GPS",
        "coordinates": {"latitude": 47.6062, "longitude": -122.3321, "radius": 35},
    })
}

/// The INVITE that a session leads to, which is refused.
async fn invite(lab: &mut Lab, user: &crate::common::User, registration: &str, body: &Value) -> Request {
    let made = ask_as(user, registration, "POST", &format!("{CALLS}/sessions"), &body.to_string()).await;
    assert_eq!(made.status, 201, "{made:?}");
    let call = soon("a call", lab.calls.recv()).await.unwrap();
    call.responder.respond(answer(&call.request, 603, vec![]));
    call.request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_for_help_takes_the_callers_place_along_and_no_other_call_does() {
    let apis = camara::Settings { emergency: Some(HELP.parse().unwrap()), ..Default::default() };
    let emergency = Some(HELP.parse().unwrap());
    let mut lab = Lab::whole(|trunk| trunk.way.emergency = emergency, vouching, apis).await;
    let (alice, registration) = caller(&lab.world, "alice", ALICE).await;
    let mut body = call(ALICE, PHONE);
    body["receiverAddress"] = json!("urn:service:sos");
    (body["callType"], body["locationDetails"]) = (json!("EMERGENCY"), place());
    let request = invite(&mut lab, &alice, &registration, &body).await;
    assert_eq!(request.uri.to_string(), "urn:service:sos");
    assert!(headers_of(&request, "To")[0].contains("urn:service:sos"), "{request}");
    assert_eq!(headers_of(&request, "Geolocation-Routing"), ["yes"]);
    let [geolocation] = headers_of(&request, "Geolocation")[..] else { panic!("one Geolocation: {request}") };
    let cid = geolocation.strip_prefix("<cid:").unwrap().strip_suffix('>').unwrap();
    // RFC 2046 §5.1: read as another implementation would.
    let [kind] = headers_of(&request, "Content-Type")[..] else { panic!("one Content-Type: {request}") };
    let boundary = kind.strip_prefix("multipart/mixed;boundary=").unwrap().trim_matches('"');
    let text = String::from_utf8(request.body.clone()).unwrap();
    assert_eq!(headers_of(&request, "Content-Length"), [text.len().to_string()]);
    let parts: Vec<_> = text.split(&format!("--{boundary}")).collect();
    let [_, sdp, pidf, end] = parts[..] else { panic!("two parts: {text}") };
    assert_eq!(end.trim(), "--");
    let (head, sdp) = sdp.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("application/sdp") && sdp.starts_with("v=0\r\n"), "{head} {sdp}");
    let (head, document) = pidf.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("application/pidf+xml") && head.contains(&format!("Content-ID: <{cid}>")),
        "{head}"
    );
    let document = roxmltree::Document::parse(document.trim()).unwrap();
    let text_of = |name: &str| {
        document.descendants().find(|node| node.tag_name().name() == name).and_then(|node| node.text())
    };
    assert_eq!(text_of("pos"), Some("47.6062 -122.3321"));
    assert_eq!((text_of("radius"), text_of("method")), (Some("35"), Some("GPS")));

    // Without a place there is nothing but the offer.
    let mut body = call(ALICE, PHONE);
    body["receiverAddress"] = json!("urn:service:sos");
    body["callType"] = json!("EMERGENCY");
    let request = invite(&mut lab, &alice, &registration, &body).await;
    assert_eq!(request.uri.to_string(), "urn:service:sos");
    assert_eq!(headers_of(&request, "Content-Type"), ["application/sdp"]);

    // Whom it is no emergency for learns no place, whatever the caller's device told its own network.
    let mut body = call(ALICE, PHONE);
    body["locationDetails"] = place();
    let request = invite(&mut lab, &alice, &registration, &body).await;
    assert!(request.uri.to_string().contains(PHONE), "{request}");
    assert_eq!(headers_of(&request, "Content-Type"), ["application/sdp"]);
    assert!(headers_of(&request, "Geolocation").is_empty() && !request.to_string().contains("47.6062"));
}
