//! An account at an operator: its tokens and its registration.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use ript::adapter::camara;
use ript::adapter::operator::{Access, AccountSettings, Secret};
use ript::client::audio::AudioCodec;
use ript::protocol::time::Timestamp;
use ript::store::memory::MemoryStore;
use ript::transport::{Limits, tcp, tls};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::client_calls::device;
use crate::common::camara::{DEVICE, V03, registration};
use crate::common::user::User;
use crate::common::{World, ca, soon};
use crate::operator::{ACCOUNT, BOB, Two, account, account_token, across, answered_here};

/// A token endpoint: first tokens that nobody takes, then good ones that have to be renewed at once.
struct TokenEndpoint {
    good: String,
    asked: AtomicUsize,
}

async fn give(State(endpoint): State<Arc<TokenEndpoint>>, headers: HeaderMap, form: String) -> Response {
    // RFC 6749 §2.3.1: ours:s3cret
    let known = headers.get("authorization").is_some_and(|value| value == "Basic b3VyczpzM2NyZXQ=");
    let fits = form.contains("grant_type=client_credentials")
        && form.contains("webrtc-registration%3Asessions%3Acreate");
    if !known || !fits {
        return (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_client"}))).into_response();
    }
    let token = match endpoint.asked.fetch_add(1, Ordering::SeqCst) {
        0 => return (StatusCode::SERVICE_UNAVAILABLE, "later").into_response(),
        1 => "stale",
        _ => endpoint.good.as_str(),
    };
    Json(json!({"access_token": token, "token_type": "Bearer", "expires_in": 1})).into_response()
}

async fn token_endpoint(operator: &World) -> (String, Arc<TokenEndpoint>) {
    let endpoint = Arc::new(TokenEndpoint { good: account_token(operator), asked: AtomicUsize::new(0) });
    let server = ca().issue_server(&[], ript::clock::now()).unwrap();
    let (cert, key) = (operator.folder().join("token-cert.pem"), operator.folder().join("token-key.pem"));
    std::fs::write(&cert, &server.cert_pem).unwrap();
    std::fs::write(&key, &server.key_pem).unwrap();
    let keys = tls::TlsKeys::from_files(&cert, &key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://127.0.0.1:{}/token", listener.local_addr().unwrap().port());
    let router = Router::new().route("/token", post(give)).with_state(endpoint.clone());
    let settings =
        tcp::TcpSettings { tls: Some(Arc::new(tls::tcp_server(keys).unwrap())), alt_svc_port: None };
    let limits = Arc::new(Limits::default());
    tokio::spawn(tcp::serve_tcp(listener, settings, router, limits, CancellationToken::new()));
    (url, endpoint)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_bought_with_a_secret_and_again_when_they_are_refused_or_end() {
    let operator = World::with_camara(camara::Settings::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let (token_url, endpoint) = token_endpoint(&operator).await;
    let (id, secret) = ("ours".to_owned(), Secret::new("s3cret"));
    let account = AccountSettings {
        access: Access::Client { token_url, id, secret },
        ..account(&operator, folder.path())
    };
    let two = Two::with(operator, folder, account).await;
    let bob = device(&two.operator, "bob", BOB, &[AudioCodec::Opus]).await;
    let carol = device(&two.ours, "carol", ACCOUNT, &[AudioCodec::Opus]).await;
    // One failure, one token that nobody takes, and good ones that end while calls go on.
    soon("renewals", async {
        while endpoint.asked.load(Ordering::SeqCst) < 5 {
            let (placed, answered) = answered_here(&bob, &carol).await;
            soon("the end", placed.end()).await.unwrap();
            soon("the end here", answered.ended()).await;
        }
    })
    .await;
}

/// The account as the operator's user.
async fn holder(operator: &World) -> User {
    operator.user("ours", ACCOUNT).await.with_token(account_token(operator))
}

/// Its registration, once that is as it should be.
async fn registered(user: &User, fits: impl Fn(&str, Timestamp) -> bool) -> (String, Timestamp) {
    soon("a registration", async {
        loop {
            let all = user.get(&format!("{V03}/sessions?deviceId={DEVICE}")).await;
            assert_eq!(all.status, 200, "{all:?}");
            let all = all.json();
            let all = all.as_array().unwrap();
            assert!(all.len() <= 1, "{all:?}");
            if let Some(one) = all.first() {
                let (id, expires) = registration(one, ACCOUNT);
                if fits(&id, expires) {
                    return (id, expires);
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

fn short_lives() -> camara::Settings {
    let mut camara = camara::Settings::default();
    camara.registrations.shortest = Duration::from_secs(1);
    camara.registrations.usual = Duration::from_secs(20);
    camara
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_is_refreshed_and_made_anew_when_the_operator_ends_or_forgets_it() {
    let mut camara = short_lives();
    camara.registrations.usual = Duration::from_secs(4);
    let two = Two::start(camara).await;
    let user = holder(&two.operator).await;
    let (first, expires) = registered(&user, |_, _| true).await;
    registered(&user, |id, until| id == first && until > expires).await;

    assert_eq!(user.delete(&format!("{V03}/sessions/{first}")).await.status, 204);
    let (second, _) = registered(&user, |id, _| id != first).await;
    let bob = device(&two.operator, "bob", BOB, &[AudioCodec::Opus]).await;
    let carol = device(&two.ours, "carol", ACCOUNT, &[AudioCodec::Opus]).await;
    answered_here(&bob, &carol).await;

    // The operator loses all that it knew.
    let Two { operator, ours, .. } = two;
    let (settings, _, issuer, passports, address) = operator.crash().await;
    let store = Arc::new(MemoryStore::new());
    let keys = (issuer, passports);
    let operator = World::with_camara_on(settings, short_lives(), store, keys, Some(address)).await;
    let user = holder(&operator).await;
    registered(&user, |id, _| id != second).await;
    let bob = device(&operator, "bob", BOB, &[AudioCodec::Opus]).await;
    answered_here(&bob, &carol).await;
    let alice = device(&ours, "alice", "+442071838750", &[AudioCodec::Opus]).await;
    across(&alice, &bob).await;
}
