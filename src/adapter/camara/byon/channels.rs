//! BYON-Notification-Channel.yaml: the address of a device's channel, and the socket that it opens.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, StatusCode};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::caller::{self, Base, Names, base};
use super::{READ, WRITE, words};
use crate::adapter::camara::Camara;
use crate::adapter::camara::auth::Caller;
use crate::adapter::camara::body::{App, bad, members, uuid};
use crate::adapter::camara::channels::{
    self, Door, Due, Opening, Parameters, SCOPES, Socket, Types, Wording, upgrade,
};
use crate::adapter::camara::error::{Code, Failure, json_response};
use crate::adapter::camara::notice::SessionView;
use crate::clock;

const CREATES: [&str; 4] = [SCOPES[0], SCOPES[1], SCOPES[2], WRITE];
const READS: [&str; 2] = ["webrtc-events:read", READ];

/// ChannelType
const WEB_SOCKETS: &str = "WebSockets";

/// GET /channels
pub(super) async fn list(
    State(app): App,
    path: Names<String>,
    headers: HeaderMap,
    authority: Base,
) -> Result<Response, Failure> {
    let caller = caller::caller(&app, &headers, &READS).await?;
    let (device, client) = device(path, &headers)?;
    own(&app, &caller, client, device)?;
    let base = base(authority);
    let door = app.notices.channels.door(&caller.user, device);
    let channels: Vec<_> = door.iter().map(|door| described(door, &base, device)).collect();
    let list = json!({"channels": channels, "resourceURL": resource(&base, device)});
    Ok(json_response(StatusCode::OK, &list))
}

/// POST /channels
pub(super) async fn create(
    State(app): App,
    path: Names<String>,
    headers: HeaderMap,
    authority: Base,
    body: Body,
) -> Result<Response, Failure> {
    let caller = caller::caller(&app, &headers, &CREATES).await?;
    let (device, client) = device(path, &headers)?;
    let wanted = wanted(&members(body, app.max_body).await?)?;
    own(&app, &caller, client, device)?;
    // Generic409: "Simultaneous channel requests not supported".
    if wanted > 1 {
        let why = "channels: a device has one channel; simultaneous channel requests are not supported";
        return Err(Failure::new(Code::Conflict, why));
    }
    let types =
        if caller.has_scope(WRITE) { Types::ALL } else { Types::of_scopes(|scope| caller.has_scope(scope)) };
    let until = caller.lasts(&app.service);
    let door = app.notices.channels.open_door(&caller.user, device, types, until, secret()?)?;
    let answer = json!({"channels": [described(&door, &base(authority), device)]});
    Ok(json_response(StatusCode::OK, &answer))
}

/// Where a channelURL leads: what can't be guessed stands for the token that it was given for.
pub(super) async fn open(
    State(app): App,
    path: Names<(String, String)>,
    authority: Base,
    query: Parameters,
    socket: Socket,
) -> Result<Response, Failure> {
    let (device, secret) = caller::names(path)?;
    let after = channels::after(query)?;
    let found = app.notices.channels.behind(&secret);
    let found = found.filter(|((_, own), _)| uuid(&device) == Some(*own));
    let found = found.and_then(|(key, door)| {
        let active = app.registrations.list(clock::now(), &key.0, key.1).into_iter().next();
        Some((active?, key, door))
    });
    let (registration, key, door) = found.ok_or_else(|| {
        let why = "channelURL: there is no such channel, its token has expired, or its device's registration has; \
                   POST …/channels gives a new one";
        Failure::new(Code::NotFound, why)
    })?;
    let (at, base) = (app.clone(), base(authority));
    let usual = registration.number;
    let wording = Wording::new(door.types, move |due: &Due| {
        let number = |session: &SessionView| {
            let own = at.registrations.get(clock::now(), &session.user, session.registration);
            own.map_or_else(|_| usual.as_str().to_owned(), |own| own.number.as_str().to_owned())
        };
        words::word(due, &base, number)
    });
    upgrade(&app, socket, Opening { key, until: door.until, after }, wording)
}

/// The device in the path, and the clientId.
fn device(path: Names<String>, headers: &HeaderMap) -> Result<(Uuid, &str), Failure> {
    let device = uuid(&caller::names(path)?);
    let device =
        device.ok_or_else(|| bad("deviceId", "the UUID that the device was registered with is expected"))?;
    caller::transaction(headers)?;
    Ok((device, caller::client(headers)?))
}

/// The clientId is to be that device's.
fn own(app: &Camara, caller: &Caller, client: &str, device: Uuid) -> Result<(), Failure> {
    let registration = caller::registration(app, caller, client)?;
    if registration.device == device { Ok(()) } else { Err(caller::not_authorized()) }
}

/// How many channels a body asks for: NotificationChannelsInformation.
fn wanted(members: &Map<String, Value>) -> Result<usize, Failure> {
    let expected = r#"[{"channelType": "WebSockets", "channelData": {}}] is expected"#;
    let Some(Value::Array(channels)) = members.get("channels") else { return Err(bad("channels", expected)) };
    for channel in channels {
        if channel.get("channelType").and_then(Value::as_str) != Some(WEB_SOCKETS) {
            return Err(bad("channels.channelType", "\"WebSockets\" is expected"));
        }
        // WebSocketsData: "the channelURL SHALL NOT be included in POST request"; nothing else belongs there.
        let data = channel.get("channelData").and_then(Value::as_object);
        if data.is_none_or(|data| data.contains_key("channelURL")) {
            return Err(bad("channels.channelData", "{} is expected: the channelURL is the server's"));
        }
    }
    if channels.is_empty() { Err(bad("channels", expected)) } else { Ok(channels.len()) }
}

/// NotificationChannel. A device's list has this one channel, and so stands for it.
fn described(door: &Door, base: &str, device: Uuid) -> Value {
    let resource = resource(base, device);
    let socket = resource.strip_prefix("https:").map(|rest| format!("wss:{rest}"));
    let socket = socket.unwrap_or_else(|| resource.clone());
    json!({
        "channelType": WEB_SOCKETS,
        "channelData": {"channelURL": format!("{socket}/{}", door.secret)},
        "resourceURL": resource,
    })
}

fn resource(base: &str, device: Uuid) -> String {
    format!("{base}/notificationchannel/v1/{device}/channels")
}

fn secret() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Failure::new(Code::Internal, "the system has no random numbers"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
