//! Media over ordinary requests: a `PUT` for every chunk, and twenty `GET`s that wait.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::MediaLine;
use super::port::Shared;
use crate::client::link::Connected;
use crate::client::task::{Owned, lock};
use crate::client::uri::with_query;
use crate::client::{ClientError, api};
use crate::clock;
use crate::protocol::chunk::{frames, put_frame};
use crate::protocol::resource::CHUNKS;

/// wire §5: twenty `GET`s wait, thirty when the round trip is long.
const GETS: u64 = 20;
const GETS_FAR: u64 = 30;
const FAR: Duration = Duration::from_millis(300);
/// `PUT`s on their way at once; more than that and the path is congested.
const MAX_PUTS: usize = 30;
/// wire §5: a sender holds at most 60 ms of a stream.
const TOO_LATE: Duration = Duration::from_millis(60);
/// The server answers an idle `GET` after 10 s.
const GET_PATIENCE: Duration = Duration::from_secs(15);
const PUT_PATIENCE: Duration = Duration::from_secs(5);
/// Requests that fail in a row before the way is given up.
const MAX_FAILURES: u32 = 20;
const MAX_BODY: usize = 256 * 1024;

/// Who hears what comes.
pub(super) trait Hears: Send + Sync {
    /// A chunk came. Must not block.
    fn on_chunk(&self, bytes: &Bytes);
    /// The way is given up.
    fn on_closed(&self);
}

impl Hears for Shared {
    fn on_chunk(&self, bytes: &Bytes) {
        self.on_chunk(bytes);
    }

    fn on_closed(&self) {
        self.wake.notify_one();
    }
}

/// The byways of a call; they end when dropped.
#[derive(Debug)]
pub(in crate::client) struct Byways {
    way: Arc<Way>,
    _tasks: Vec<Owned>,
}

struct Way {
    line: MediaLine,
    connected: Connected,
    uri: String,
    hears: Weak<dyn Hears>,
    cookie: Mutex<Option<HeaderValue>>,
    waiting: Mutex<VecDeque<(Duration, Bytes)>>,
    ready: Notify,
    numbers: AtomicU64,
    failures: AtomicU32,
    closed: AtomicBool,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Way").field("uri", &self.uri).finish_non_exhaustive()
    }
}

impl Byways {
    pub(super) fn open(
        line: &MediaLine,
        connected: &Connected,
        uri: &str,
        hears: Weak<dyn Hears>,
    ) -> Result<Self, ClientError> {
        let way = Arc::new(Way {
            line: line.clone(),
            connected: connected.clone(),
            uri: api::with_handler(&line.client.resolve(uri)?, Some(&line.handler)),
            hears,
            cookie: Mutex::default(),
            waiting: Mutex::default(),
            ready: Notify::new(),
            numbers: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            closed: AtomicBool::new(false),
        });
        let gets = if connected.h3.rtt() > FAR { GETS_FAR } else { GETS };
        let mut tasks: Vec<Owned> = (0..gets).map(|_| Owned::spawn(get_for_ever(Arc::clone(&way)))).collect();
        tasks.push(Owned::spawn(put_for_ever(Arc::clone(&way))));
        Ok(Self { way, _tasks: tasks })
    }

    pub(in crate::client) fn is_closed(&self) -> bool {
        self.way.closed.load(Ordering::Relaxed)
    }

    /// Acks ride beside media, in one body.
    pub(in crate::client) fn send(&self, media: Option<Bytes>, controls: Vec<Bytes>) {
        let mut body = BytesMut::new();
        controls.iter().chain(&media).for_each(|chunk| put_frame(chunk, &mut body));
        if !body.is_empty() {
            let mut waiting = lock(&self.way.waiting);
            waiting.push_back((clock::elapsed(), body.freeze()));
            if waiting.len() > MAX_PUTS {
                waiting.pop_front();
            }
            self.way.ready.notify_one();
        }
    }
}

async fn put_for_ever(way: Arc<Way>) {
    let mut puts = JoinSet::new();
    loop {
        tokio::select! {
            () = way.ready.notified(), if puts.len() < MAX_PUTS => {}
            Some(_) = puts.join_next(), if !puts.is_empty() => {}
        }
        while puts.len() < MAX_PUTS
            && let Some(body) = way.freshest(clock::elapsed())
        {
            let way = Arc::clone(&way);
            puts.spawn(async move { way.put(body).await });
        }
    }
}

async fn get_for_ever(way: Arc<Way>) {
    let mut pause = Duration::from_millis(100);
    loop {
        let n = way.numbers.fetch_add(1, Ordering::Relaxed);
        // wire §5: `?n=`, so that caches don't merge them.
        let uri = with_query(&way.uri, "n", &n.to_string());
        if way.ask(Method::GET, &uri, Bytes::new(), GET_PATIENCE).await {
            pause = Duration::from_millis(100);
        } else {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }
}

impl Way {
    /// The oldest body that is not too late yet.
    fn freshest(&self, now: Duration) -> Option<Bytes> {
        let mut waiting = lock(&self.waiting);
        while let Some((at, body)) = waiting.pop_front() {
            if now.saturating_sub(at) <= TOO_LATE {
                return Some(body);
            }
        }
        None
    }

    async fn put(&self, body: Bytes) {
        let uri = self.uri.clone();
        self.ask(Method::PUT, &uri, body, PUT_PATIENCE).await;
    }

    /// One request; whether the server was content with it.
    async fn ask(&self, method: Method, uri: &str, body: Bytes, patience: Duration) -> bool {
        let Ok(request) = self.request(method, uri, body) else { return false };
        let exchange = async {
            let response = self.connected.h3.request(request).await.ok()?;
            let (parts, body) = response.into_parts();
            self.take_cookie(&parts.headers);
            let body = Limited::new(body, MAX_BODY).collect().await.ok()?.to_bytes();
            Some((parts.status, body))
        };
        let (status, body) = match tokio::time::timeout(patience, exchange).await {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => {
                self.fail(1);
                return false;
            }
        };
        match status {
            StatusCode::UNAUTHORIZED => *lock(&self.cookie) = None,
            // The call, or its media, is gone: the driver asks which.
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::CONFLICT => self.fail(MAX_FAILURES),
            _ => {}
        }
        if !status.is_success() {
            tracing::debug!(%status, "a media byway was refused");
            self.fail(1);
            return false;
        }
        self.failures.store(0, Ordering::Relaxed);
        if let Some(hears) = self.hears.upgrade() {
            for chunk in frames(&body).map_while(Result::ok) {
                hears.on_chunk(&body.slice_ref(chunk));
            }
        }
        true
    }

    fn request(&self, method: Method, uri: &str, body: Bytes) -> Result<Request<Body>, ClientError> {
        let length = body.len();
        let is_put = method == Method::PUT;
        let body = if body.is_empty() { Body::empty() } else { Body::from(body) };
        let mut request = self.line.client.request(method, uri, body)?;
        let headers = request.headers_mut();
        if is_put {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CHUNKS));
            // findings §3: some proxies lose a body without a length, and answer 200.
            headers.insert(header::CONTENT_LENGTH, length.into());
        } else {
            headers.insert(header::ACCEPT, HeaderValue::from_static(CHUNKS));
        }
        if let Some(cookie) = lock(&self.cookie).clone() {
            headers.insert(header::COOKIE, cookie);
            headers.remove(header::AUTHORIZATION);
        }
        Ok(request)
    }

    /// wire §2: the media cookie stands for the bearer, so that it isn't carried and checked a hundred times a second.
    fn take_cookie(&self, headers: &HeaderMap) {
        for cookie in headers.get_all(header::SET_COOKIE).iter().filter_map(|value| value.to_str().ok()) {
            if let Some(cookie) = media_cookie(cookie) {
                *lock(&self.cookie) = HeaderValue::from_str(cookie).ok();
            }
        }
    }

    fn fail(&self, by: u32) {
        let failures = self.failures.fetch_add(by, Ordering::Relaxed) + by;
        if failures >= MAX_FAILURES
            && !self.closed.swap(true, Ordering::Relaxed)
            && let Some(hears) = self.hears.upgrade()
        {
            hears.on_closed();
        }
    }
}

/// The pair to send back, of a `Set-Cookie` that is ours.
fn media_cookie(set_cookie: &str) -> Option<&str> {
    let pair = set_cookie.split(';').next()?.trim();
    let value = pair.strip_prefix("ript-media=")?;
    (!value.is_empty()).then_some(pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_cookie_is_kept_and_others_are_not() {
        assert_eq!(media_cookie("ript-media=abc; Path=/x; HttpOnly; Secure"), Some("ript-media=abc"));
        for other in ["", "ript-media=; Path=/", "session=1", "xript-media=1", "lb=ript-media=1"] {
            assert_eq!(media_cookie(other), None, "{other}");
        }
    }
}
