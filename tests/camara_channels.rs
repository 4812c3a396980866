//! CAMARA's events over a WebSocket: who may open a device's channel, and how it ends. What a channel carries is
//! tested beside it, in `adapter::camara::channels`.

use std::time::Duration;

use axum::body::Body;
use ript::identity::jwk::SigningKey;
use ript::identity::principal::TRUNK;
use ript::identity::token::{Claims, IssuerPolicy, issue};
use ript::protocol::time::Timestamp;

use crate::common::camara::{
    CORRELATOR, DEVICE, OTHER, SCOPES, V03, ask, create, failure, refused, request, user,
};
use crate::common::h1h2::Version;
use crate::common::socket::{Socket, open};
use crate::common::user::{Answer, User, token};
use crate::common::{AUDIENCE, ISSUER, World};

const BASES: [&str; 3] = ["/webrtc-events/v0.3", "/webrtc-events/v0.2", "/webrtc-events/vwip"];
const EVENTS: [&str; 3] = [
    "webrtc-events:org.camaraproject.webrtc-events.v0.session-invitation:create",
    "webrtc-events:org.camaraproject.webrtc-events.v0.session-status:create",
    "webrtc-events:org.camaraproject.webrtc-events.v0.registration-ends:create",
];

fn channel(base: &str) -> String {
    format!("{base}/channels/{DEVICE}")
}

/// Alice, who may register and listen, with a registered device.
async fn listener(world: &World) -> User {
    let alice = user(world, "alice", "+14085550001").await;
    let scopes = format!("{SCOPES} {}", EVENTS.join(" "));
    let alice = alice.with_token(token(&world.issuer, "alice", &["+14085550001"], &["test"], &scopes));
    create(&alice, V03, DEVICE).await;
    alice
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

async fn opened(world: &World, path: &str, token: &str) -> Socket {
    open(world, path, &[("authorization", &bearer(token))])
        .await
        .unwrap_or_else(|answer| panic!("{answer:?}"))
}

/// The refusal, held to the schema; with a correlator, which has to come back.
async fn no(world: &World, path: &str, headers: &[(&str, &str)]) -> Answer {
    let headers: Vec<_> = headers.iter().copied().chain([("x-correlator", CORRELATOR)]).collect();
    let answer = *open(world, path, &headers).await.err().expect("it is refused");
    assert_eq!(answer.header("x-correlator"), CORRELATOR);
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_opens_at_each_base_path_by_header_or_subprotocol_and_a_newer_one_takes_it() {
    let world = World::start().await;
    let alice = listener(&world).await;
    let mut old: Option<Socket> = None;
    for base in BASES {
        let mut by_header = opened(&world, &channel(base), &alice.token).await;
        assert_eq!(by_header.headers.get("sec-websocket-protocol"), None);
        if let Some(mut old) = old.take() {
            let (code, reason) = old.closed().await;
            assert!(code == 4000 && reason.contains("newer"), "{code} {reason}");
        }
        let protocols = format!("camara-events, bearer.{}", alice.token);
        let upper = channel(base).replace(DEVICE, &DEVICE.to_uppercase());
        let browser = open(&world, &upper, &[("sec-websocket-protocol", &protocols)]).await;
        let browser = browser.unwrap_or_else(|answer| panic!("{answer:?}"));
        // The token is not said again.
        assert_eq!(browser.headers["sec-websocket-protocol"], "camara-events");
        assert_eq!(by_header.closed().await.0, 4000);
        old = Some(browser);
    }
    // Another device has another channel.
    create(&alice, V03, OTHER).await;
    let mut other = opened(&world, &channel(BASES[0]).replace(DEVICE, OTHER), &alice.token).await;
    assert!(old.unwrap().is_quiet().await && other.is_quiet().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_channel_opens_without_a_token_that_holds() {
    let world = World::with(|settings| {
        let keys = settings.tokens.issuers[0].keys.clone();
        settings.tokens.issuers.push(IssuerPolicy::new(TRUNK, AUDIENCE, keys));
    })
    .await;
    let alice = listener(&world).await;
    let claims = |change: &dyn Fn(&mut Claims)| {
        let mut claims = Claims {
            issuer: ISSUER.into(),
            subject: "alice".into(),
            audience: AUDIENCE.into(),
            client_id: "test".into(),
            numbers: vec!["+14085550001".into()],
            tgs: vec![],
            scopes: EVENTS.map(str::to_owned).into(),
            lifetime: Duration::from_secs(3600),
        };
        change(&mut claims);
        claims
    };
    let now = ript::clock::now();
    let long_ago = Timestamp::from_millis(now.as_millis() - 7_200_000);
    let good = claims(&|_| {});
    let foreign = issue(&SigningKey::generate().unwrap(), &good, now).unwrap();
    let expired = issue(&world.issuer, &good, long_ago).unwrap();
    let elsewhere = issue(&world.issuer, &claims(&|c| c.audience = "else".into()), now).unwrap();
    for base in BASES {
        let path = channel(base);
        for bad in ["", "x.y.z", &foreign, &expired, &elsewhere, &alice.token[1..]] {
            let protocols = format!("camara-events, bearer.{bad}");
            for header in [("authorization", bearer(bad)), ("sec-websocket-protocol", protocols)] {
                let answer = no(&world, &path, &[(header.0, &header.1)]).await;
                assert_eq!(failure(&answer), refused(401, "UNAUTHENTICATED"), "{header:?}");
                assert!(answer.header("www-authenticate").starts_with("Bearer"));
            }
        }
        for headers in [&[][..], &[("sec-websocket-protocol", "camara-events")]] {
            assert_eq!(failure(&no(&world, &path, headers).await), refused(401, "UNAUTHENTICATED"));
        }
        // A good token among the subprotocols does not help a bad header.
        let both = format!("camara-events, bearer.{}", alice.token);
        let both = [("authorization", "Bearer x.y.z"), ("sec-websocket-protocol", &both)];
        assert_eq!(failure(&no(&world, &path, &both).await), refused(401, "UNAUTHENTICATED"));

        let scopes = "webrtc-events:read webrtc-events:update read write ript:calls";
        let lacking = issue(
            &world.issuer,
            &claims(&|c| c.scopes = scopes.split(' ').map(str::to_owned).collect()),
            now,
        );
        let nameless = issue(&world.issuer, &claims(&|c| c.numbers.clear()), now);
        let trunk = issue(&world.issuer, &claims(&|c| c.issuer = TRUNK.into()), now);
        for (token, code) in [
            (lacking, "PERMISSION_DENIED"),
            (nameless, "INVALID_TOKEN_CONTEXT"),
            (trunk, "PERMISSION_DENIED"),
        ] {
            let answer = no(&world, &path, &[("authorization", &bearer(&token.unwrap()))]).await;
            assert_eq!(failure(&answer), refused(403, code));
        }
        // One type's scope is enough.
        for scope in EVENTS {
            let one = issue(&world.issuer, &claims(&|c| c.scopes = vec![scope.to_owned()]), now).unwrap();
            opened(&world, &path, &one).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_for_a_device_that_its_user_has_registered() {
    let world = World::start().await;
    let alice = listener(&world).await;
    let events = EVENTS.join(" ");
    let mallory = token(&world.issuer, "mallory", &["+14085550009"], &["test"], &events);
    let (base, token) = (BASES[0], bearer(&alice.token));
    let mallory = bearer(&mallory);
    let no = async |path: &str, token: &str| failure(&no(&world, path, &[("authorization", token)]).await);
    assert_eq!(no(&channel(base), &mallory).await, refused(404, "NOT_FOUND"));
    assert_eq!(no(&channel(base).replace(DEVICE, OTHER), &token).await, refused(404, "NOT_FOUND"));
    for bad in ["x", "%FF", "123e4567e89b42d3a456426614174000", &"1".repeat(300)] {
        let path = format!("{base}/channels/{bad}");
        assert_eq!(no(&path, &token).await, refused(400, "INVALID_ARGUMENT"), "{bad}");
    }
    for bad in ["after=", "after=7", "after=%FF", &format!("after={DEVICE}&after={DEVICE}")] {
        let path = format!("{}?{bad}", channel(base));
        assert_eq!(no(&path, &token).await, refused(400, "INVALID_ARGUMENT"), "{bad}");
    }
    opened(&world, &format!("{}?after={DEVICE}&x=y", channel(base)), &alice.token).await;

    let list = ask(&alice, "GET", &format!("{V03}/sessions?deviceId={DEVICE}"), "").await.json();
    let one = format!("{V03}/sessions/{}", list[0]["registrationId"].as_str().unwrap());
    assert_eq!(ask(&alice, "DELETE", &one, "").await.status, 204);
    assert_eq!(no(&channel(base), &token).await, refused(404, "NOT_FOUND"));
    assert_eq!(ask(&alice, "POST", &format!("{V03}/sessions"), &request(DEVICE)).await.status, 201);
    opened(&world, &channel(base), &alice.token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_page_opens_no_channel() {
    let world = World::start().await;
    let alice = listener(&world).await;
    let token = bearer(&alice.token);
    for base in BASES {
        for origin in ["https://app.example", &world.url()] {
            let headers = [("authorization", &token[..]), ("origin", origin)];
            assert!(open(&world, &channel(base), &headers).await.is_ok(), "{origin}");
        }
        for origin in ["https://evil.example", "null", "http://app.example", ""] {
            let headers = [("authorization", &token[..]), ("origin", origin)];
            let answer = no(&world, &channel(base), &headers).await;
            assert_eq!(failure(&answer), refused(403, "PERMISSION_DENIED"), "{origin}");
            assert_eq!(answer.headers.get("access-control-allow-origin"), None);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_asks_for_no_websocket_is_told_how() {
    let world = World::start().await;
    let alice = listener(&world).await;
    let over = |version| world.user_over(version, "alice", "+14085550001");
    let all = [alice.clone(), over(Version::Http1).await, over(Version::Http2).await];
    for user in all.iter().map(|user| user.with_token(alice.token.clone())) {
        for base in BASES {
            let answer = ask(&user, "GET", &channel(base), "").await;
            assert_eq!(failure(&answer), refused(426, "UPGRADE_REQUIRED"));
            // RFC 9110 §15.5.22; RFC 9113 §8.2.2: HTTP/2 and 3 have no such header.
            let tcp = user.tcp.as_ref().map(|tcp| tcp.version);
            let upgrade = if tcp == Some(Version::Http1) { "websocket" } else { "" };
            assert_eq!(answer.header("upgrade"), upgrade);
            for method in ["POST", "PUT", "DELETE", "PATCH"] {
                let answer = ask(&user, method, &channel(base), "").await;
                assert_eq!(failure(&answer), refused(405, "METHOD_NOT_ALLOWED"), "{method}");
            }
        }
    }
    // Another version of the protocol, and half a request.
    let tcp = over(Version::Http1).await.with_token(alice.token.clone());
    for (name, value) in [("sec-websocket-version", "12"), ("sec-websocket-key", "")] {
        let mut request = tcp.builder("GET", &channel(BASES[0]));
        for (header, usual) in [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            match (header == name, value) {
                (true, "") => {}
                (true, value) => request = request.header(header, value),
                (false, _) => request = request.header(header, usual),
            }
        }
        let answer = tcp.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(failure(&answer), refused(426, "UPGRADE_REQUIRED"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_ends_with_its_token_and_says_so() {
    let world = World::with(|settings| settings.tokens.leeway = Duration::ZERO).await;
    let alice = listener(&world).await;
    let claims = Claims {
        issuer: ISSUER.into(),
        subject: "alice".into(),
        audience: AUDIENCE.into(),
        client_id: "test".into(),
        numbers: vec!["+14085550001".into()],
        tgs: vec![],
        scopes: EVENTS.map(str::to_owned).into(),
        lifetime: Duration::from_secs(5),
    };
    let short = issue(&world.issuer, &claims, ript::clock::now()).unwrap();
    let mut socket = opened(&world, &channel(BASES[0]), &short).await;
    let (code, reason) = socket.closed().await;
    assert!(code == 4001 && reason.contains("token has expired"), "{code} {reason}");
    let answer = no(&world, &channel(BASES[0]), &[("authorization", &bearer(&short))]).await;
    assert_eq!(failure(&answer), refused(401, "UNAUTHENTICATED"));
    opened(&world, &channel(BASES[0]), &alice.token).await;
}
