//! Users of CAMARA's webrtc-call-handling: what they send.

use axum::body::Body;
use serde_json::{Value, json};

use super::World;
use super::camara::{CORRELATOR, DEVICE, SCOPES, V03, create};
use super::user::{Answer, User, token};

pub const CALL_BASES: [&str; 2] = ["/webrtc-call-handling/v0.3", "/webrtc-call-handling/vwip"];
pub const CALLS: &str = CALL_BASES[0];
pub const CALL_SCOPES: &str = "webrtc-call-handling:sessions:create webrtc-call-handling:sessions:read \
                               webrtc-call-handling:sessions:write webrtc-call-handling:sessions:delete";

/// An audio offer such as browsers make.
pub const OFFER: &str = "v=0\r\no=- 8066321617929821805 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
    a=group:BUNDLE 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
    a=candidate:1645903805 1 udp 2122262783 127.0.0.1 42988 typ host\r\na=ice-ufrag:4eKp\r\n\
    a=ice-pwd:D4sF5Pv9vx9ggaqxBlHbAFMx\r\na=fingerprint:sha-256 \
    0F:74:31:25:CB:A2:13:EC:28:6F:6D:2C:61:FF:5D:C2:BC:B9:DB:3D:98:14:8D:1A:BB:EA:33:0C:A4:60:A8:8E\r\n\
    a=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n\
    a=fmtp:111 minptime=10;useinbandfec=1\r\na=ssrc:1001 cname:x\r\n";

pub fn scopes() -> String {
    format!("{SCOPES} {CALL_SCOPES}")
}

/// A user whose token is good for registering devices and for calling, and one registration.
pub async fn caller(world: &World, name: &str, number: &str) -> (User, String) {
    let token = token(&world.issuer, name, &[number], &["test"], &scopes());
    let user = world.user(name, number).await.with_token(token);
    let registration = create(&user, V03, DEVICE).await;
    (user, registration)
}

/// A call that could be made, from `from` to `to`.
pub fn call(from: &str, to: &str) -> Value {
    json!({
        "originatorAddress": format!("tel:{from}"),
        "receiverAddress": format!("tel:{to}"),
        "offer": {"sdp": OFFER},
        "clientCorrelator": "fda6e26d-e7c8-4596-870c-c083c0d39b2c",
    })
}

/// One request with a correlator, which has to come back, and a registration.
pub async fn ask_as(user: &User, registration: &str, method: &str, path: &str, body: &str) -> Answer {
    let request = user.builder(method, path).header("x-correlator", CORRELATOR);
    let request = request.header("registrationId", registration).header("content-length", body.len());
    let request = request.header("content-type", "application/json");
    let answer = user.send(request.body(Body::from(body.to_owned())).unwrap()).await;
    assert_eq!(answer.header("x-correlator"), CORRELATOR, "{method} {path}");
    answer
}
