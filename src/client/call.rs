//! One call: how it stands, what happens to it, what can be done to it.

mod events;
mod view;

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, watch};

pub use events::{CallEvent, CallEvents, CallStats, Happened};
pub use view::EndInfo;
use view::View;

use super::media::passed::{self, Passage};
use super::media::{MediaLine, MediaNews, Shared};
use super::signalling::{Heard, Line, Signalling};
use super::task::{Owned, lock};
use super::{Client, ClientError, Handler, MediaGap, MediaOptions, MediaPort, OutFrame, dtmf};
use crate::clock;
use crate::protocol::codec::PayloadType;
use crate::protocol::directive::Directives;
use crate::protocol::event::{Body, ClientBody, Scope, State};
use crate::protocol::number::Number;
use crate::protocol::resource::{CallDescription, CallDirection, Intent, MediaUris};
use crate::transport::session::SessionSink;

/// Events that wait for a slow reader; the oldest go first.
const EVENTS: usize = 256;
/// A digit sounds for so long.
const DIGIT: u32 = 160;
const DIGIT_STEP: u32 = 20;

/// What the call's task and its handles share.
struct Board {
    view: watch::Sender<View>,
    /// Gone after the last event, so that readers come to an end.
    events: Mutex<Option<broadcast::Sender<Happened>>>,
    media: Mutex<Weak<Shared>>,
}

impl Board {
    fn say(&self, at: Duration, event: CallEvent) {
        if let Some(events) = &*lock(&self.events) {
            // Nobody may listen.
            let _ = events.send(Happened { at, event });
        }
    }

    fn media(&self) -> Option<Arc<Shared>> {
        lock(&self.media).upgrade()
    }
}

struct Inner {
    handler: Handler,
    uri: String,
    direction: CallDirection,
    from: Number,
    to: Number,
    verification: Option<serde_json::Value>,
    uris: Mutex<Option<MediaUris>>,
    board: Arc<Board>,
    first: Mutex<Option<broadcast::Receiver<Happened>>>,
    signalling: Arc<Signalling>,
    _task: Owned,
}

/// A call; clones are the same one. Dropping the last one lets go of it without hanging up.
#[derive(Clone)]
pub struct Call(Arc<Inner>);

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("uri", &self.0.uri).field("state", &self.state()).finish_non_exhaustive()
    }
}

impl Call {
    pub(super) fn start(handler: &Handler, description: CallDescription) -> Result<Self, ClientError> {
        let uri = handler.client().resolve(&description.uri)?;
        let (view, _) = watch::channel(View::new(&description));
        let (events, first) = broadcast::channel(EVENTS);
        let board =
            Arc::new(Board { view, events: Mutex::new(Some(events)), media: Mutex::new(Weak::new()) });
        let (tell, heard) = mpsc::channel(64);
        let line = Line {
            client: handler.client().clone(),
            call: uri.clone(),
            handler: handler.uri().to_owned(),
            accepted: description.accepted,
            keepalive: handler.keepalive(),
        };
        let task = Owned::spawn(follow(Arc::clone(&board), heard));
        Ok(Self(Arc::new(Inner {
            handler: handler.clone(),
            uri,
            direction: description.direction,
            from: description.from,
            to: description.to,
            verification: description.verification,
            uris: Mutex::new(description.media),
            board,
            first: Mutex::new(Some(first)),
            signalling: Arc::new(Signalling::start(line, tell)),
            _task: task,
        })))
    }

    /// Where it is.
    pub fn uri(&self) -> &str {
        &self.0.uri
    }

    /// The device that it is seen from.
    pub fn handler(&self) -> &Handler {
        &self.0.handler
    }

    /// Which way it goes, seen from us.
    pub fn direction(&self) -> CallDirection {
        self.0.direction
    }

    /// Who calls.
    pub fn from(&self) -> &Number {
        &self.0.from
    }

    /// Who is called.
    pub fn to(&self) -> &Number {
        &self.0.to
    }

    /// What the server found out about the caller.
    pub fn verification(&self) -> Option<&serde_json::Value> {
        self.0.verification.as_ref()
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.0.board.view.borrow().state
    }

    /// How it ended, once it has.
    pub fn end_info(&self) -> Option<EndInfo> {
        self.0.board.view.borrow().end.clone()
    }

    /// What we are to send and what we are sent.
    pub fn directives(&self) -> (Directives, Directives) {
        let view = self.0.board.view.borrow();
        (view.sends.clone(), view.receives.clone())
    }

    /// Whether another device of ours carries it now.
    pub fn is_elsewhere(&self) -> bool {
        self.0.board.view.borrow().is_elsewhere(self.0.handler.uri())
    }

    /// The events: the first reader gets all from the beginning, others from now on.
    pub fn events(&self) -> CallEvents {
        if let Some(first) = lock(&self.0.first).take() {
            return CallEvents(first);
        }
        let events = lock(&self.0.board.events);
        match &*events {
            Some(events) => CallEvents(events.subscribe()),
            None => CallEvents(broadcast::channel(1).1),
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<View> {
        self.0.board.view.subscribe()
    }

    /// Waits for the answer, or for the end that came instead.
    pub async fn answered(&self) -> Result<(), EndInfo> {
        let mut view = self.watch();
        let done = view.wait_for(|view| view.end.is_some() || view.state == State::Answered).await;
        match done.ok().and_then(|view| view.end.clone()) {
            Some(end) => Err(end),
            None => Ok(()),
        }
    }

    /// Waits for the end.
    pub async fn ended(&self) -> EndInfo {
        let mut view = self.watch();
        let done = view.wait_for(|view| view.end.is_some()).await;
        done.ok().and_then(|view| view.end.clone()).unwrap_or_else(EndInfo::unknown)
    }

    /// Tells the server whatever has no method of its own here; waits until it took it.
    pub async fn tell(&self, body: ClientBody) -> Result<(), ClientError> {
        self.0.signalling.tell(body).await
    }

    /// Tells the caller that it rings here.
    pub async fn alerting(&self) -> Result<(), ClientError> {
        self.tell(ClientBody::Alerting).await
    }

    /// Lets the caller hear early media from here.
    pub async fn progress(&self) -> Result<(), ClientError> {
        self.tell(ClientBody::Progress).await
    }

    /// Takes the call onto this device and answers it.
    pub async fn answer(&self) -> Result<(), ClientError> {
        self.claim(Intent::Answer).await?;
        self.tell(ClientBody::Answered).await
    }

    /// Takes over what another device of ours answered.
    pub async fn pull(&self) -> Result<(), ClientError> {
        self.claim(Intent::Pull).await
    }

    async fn claim(&self, intent: Intent) -> Result<(), ClientError> {
        let client = self.0.handler.client();
        let description = client.claim(&self.0.uri, self.0.handler.uri(), Some(intent)).await?;
        self.0.board.view.send_modify(|view| view.on_description(&description));
        *lock(&self.0.uris) = description.media;
        Ok(())
    }

    /// Will not have it.
    pub async fn decline(&self, reason: &str, scope: Scope) -> Result<(), ClientError> {
        match self.tell(ClientBody::Declined { reason: reason.to_owned(), scope }).await {
            // It is over: by an earlier try whose answer was lost, or because the caller gave up.
            Err(error) if error.is_ended() => Ok(()),
            told => told,
        }
    }

    /// Holds.
    pub async fn hold(&self) -> Result<(), ClientError> {
        self.tell(ClientBody::Hold).await
    }

    /// Holds no longer.
    pub async fn resume(&self) -> Result<(), ClientError> {
        self.tell(ClientBody::Resume).await
    }

    /// Hands the other side on to `target`.
    pub async fn transfer(&self, target: &str) -> Result<(), ClientError> {
        self.tell(ClientBody::Transfer { target: target.to_owned(), replaces: None }).await
    }

    /// Joins the other side with that of another call of ours.
    pub async fn transfer_to(&self, other: &Call) -> Result<(), ClientError> {
        let (target, replaces) = (other.to().to_string(), Some(other.uri().to_owned()));
        self.tell(ClientBody::Transfer { target, replaces }).await
    }

    /// Presses a key: within the media where the directives say so, as an event otherwise.
    pub async fn dtmf(&self, digit: char) -> Result<(), ClientError> {
        let digit = digit.to_ascii_uppercase();
        if !dtmf::is_digit(digit) {
            return Err(ClientError::input(digit, "one of 0-9 * # A-D is expected"));
        }
        let stream = {
            let view = self.0.board.view.borrow();
            view.sends.audio().filter(|s| s.allows(PayloadType::TELEPHONE_EVENT)).map(|s| (s.source, s.sink))
        };
        match (stream, self.0.board.media()) {
            (Some(stream), Some(media)) => {
                dial(&media, stream, digit).await;
                Ok(())
            }
            _ => self.tell(ClientBody::Dtmf { digit, duration: DIGIT }).await,
        }
    }

    /// Hangs up, or gives up before the answer; over by then is as good.
    pub async fn end(&self) -> Result<(), ClientError> {
        if let Some(media) = self.0.board.media() {
            media.tell_quality();
        }
        match self.tell(ClientBody::End { reason: None }).await {
            Err(error) if error.is_ended() => Ok(()),
            result => result,
        }
    }

    /// Opens the media; one port a call.
    pub fn open_media(&self, options: MediaOptions) -> MediaPort {
        let board = Arc::downgrade(&self.0.board);
        let signalling = Arc::downgrade(&self.0.signalling);
        let news = move |news: MediaNews| {
            let Some(board) = board.upgrade() else { return };
            let event = match news {
                MediaNews::Path(path, why) => CallEvent::Media { path, why },
                MediaNews::Lost(why) => CallEvent::MediaLost { why },
                MediaNews::Gap(gap) => CallEvent::MediaGap(gap),
                MediaNews::Quality(reports) => {
                    let streams = reports.iter().filter_map(|report| serde_json::to_value(report).ok());
                    if let Some(signalling) = signalling.upgrade() {
                        signalling.mention(ClientBody::Quality { streams: streams.collect() });
                    }
                    return;
                }
            };
            board.say(clock::elapsed(), event);
        };
        let port = MediaPort::open(self.media_line(Arc::new(news)), options);
        *lock(&self.0.board.media) = Arc::downgrade(port.shared());
        port
    }

    fn media_line(&self, news: Arc<dyn Fn(MediaNews) + Send + Sync>) -> MediaLine {
        MediaLine {
            client: self.client().clone(),
            call: self.0.uri.clone(),
            handler: self.0.handler.uri().to_owned(),
            // A ticket is good once and for 30 s.
            uris: lock(&self.0.uris).take(),
            timeout: self.0.handler.media_timeout(),
            news,
        }
    }

    /// A way for chunks that somebody else numbers and reads, and the number of its connection; none once the call has no
    /// media.
    pub(crate) async fn passage(&self, sink: Arc<dyn SessionSink>) -> Result<Option<(Passage, u64)>, String> {
        passed::open(&self.media_line(Arc::new(|_| ())), sink).await
    }

    /// Waits until there is another connection than this one.
    pub(crate) async fn beyond(&self, connection: u64) {
        self.client().watch().beyond(connection).await;
    }

    pub(super) fn say_digit(&self, digit: char, duration_ms: u32) {
        self.0.board.say(clock::elapsed(), CallEvent::Dtmf { digit, duration_ms });
    }

    fn client(&self) -> &Client {
        self.0.handler.client()
    }

    /// How it fares.
    pub fn stats(&self) -> CallStats {
        let media = self.0.board.media();
        let view = self.0.board.view.borrow();
        CallStats {
            state: view.state,
            held: view.held,
            talking: view.talking(clock::elapsed()),
            path: media.as_ref().and_then(|media| media.path_kind()),
            media: media.as_ref().map(|media| media.stats()).unwrap_or_default(),
            gaps: media.as_ref().map(|media| media.gaps()).unwrap_or_default(),
            connections: self.client().connection(),
        }
    }

    /// The times without media so far.
    pub fn media_gaps(&self) -> Vec<MediaGap> {
        self.0.board.media().map(|media| media.gaps()).unwrap_or_default()
    }
}

/// Sends a digit as chunks, at the pace of speech; audio waits meanwhile.
async fn dial(media: &Shared, (source, sink): (u8, u8), digit: char) {
    media.set_dialling(true);
    let timestamp_ms = clock::now().as_millis();
    let mut pace = tokio::time::interval(Duration::from_millis(u64::from(DIGIT_STEP)));
    // RFC 4733 §2.5.1.4: the end is sent three times.
    let steps = (1..=DIGIT / DIGIT_STEP).map(|n| (n * DIGIT_STEP, false)).chain([(DIGIT, true); 3]);
    for (elapsed, end) in steps {
        pace.tick().await;
        if let Some(payload) = dtmf::payload(digit, elapsed, end) {
            media.send(&OutFrame {
                source,
                sink,
                payload_type: dtmf::PAYLOAD_TYPE,
                payload,
                timestamp_ms,
                duration_ms: None,
                level: None,
            });
        }
    }
    media.set_dialling(false);
}

/// Keeps the view and tells the readers, until the last event.
async fn follow(board: Arc<Board>, mut heard: mpsc::Receiver<Heard>) {
    while let Some(heard) = heard.recv().await {
        match heard {
            Heard::Event { event, at } => {
                board.view.send_modify(|view| view.on_event(&event, at));
                if let Body::Dtmf { digit, duration } = event.body {
                    board.say(at, CallEvent::Dtmf { digit, duration_ms: duration });
                }
                if event.body == Body::MediaPanic
                    && let Some(media) = board.media()
                {
                    media.panic();
                }
                board.say(at, CallEvent::Server(event));
            }
            Heard::Connection(up) => board.say(clock::elapsed(), CallEvent::Connection(up)),
            Heard::Forward(mode) => board.say(clock::elapsed(), CallEvent::Forward(mode)),
            Heard::Gone(error) => board.view.send_modify(|view| view.on_gone(&error)),
        }
    }
    board.view.send_modify(View::on_silence);
    let end = board.view.borrow().end.clone().unwrap_or_else(EndInfo::unknown);
    board.say(clock::elapsed(), CallEvent::Ended(end));
    *lock(&board.events) = None;
}
