//! Where a call's frames go in and come out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use super::byways::Byways;
use super::drive::drive;
use super::session::SessionPath;
use super::{MediaGap, MediaLine, MediaNews, MediaPath};
use crate::client::task::{Owned, lock};
use crate::clock;
use crate::media::engine::{Engine, MediaFrame, MediaStats, OutFrame};
use crate::media::quality::StreamReport;
use crate::protocol::ack::Nonce;

/// A far side that was silent for so much longer than it takes to notice an outage was silent by itself.
const QUIET: Duration = Duration::from_secs(2);
/// How long an outage waits for both directions to be back before it is reported as it is.
const SETTLE: Duration = Duration::from_secs(3);

/// How media is to go.
#[derive(Clone, Copy, Debug)]
pub struct MediaOptions {
    /// Byways only, whatever WebTransport could do.
    pub byways_only: bool,
    /// Frames that wait for their reader; the newest is dropped when that many do.
    pub queue: usize,
}

impl Default for MediaOptions {
    fn default() -> Self {
        Self { byways_only: false, queue: 256 }
    }
}

/// An open way.
#[derive(Debug)]
pub(super) enum Path {
    Session(SessionPath),
    Byways(Byways),
}

impl Path {
    pub(super) fn kind(&self) -> MediaPath {
        match self {
            Self::Session(_) => MediaPath::WebTransport,
            Self::Byways(_) => MediaPath::Byways,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Session(session) => session.is_closed(),
            Self::Byways(byways) => byways.is_closed(),
        }
    }

    fn send(&self, media: Option<Bytes>, controls: Vec<Bytes>) {
        match self {
            Self::Session(session) => session.send(media, controls),
            Self::Byways(byways) => byways.send(media, controls),
        }
    }
}

/// A time without a way, until both directions are back.
#[derive(Debug)]
struct Outage {
    detected: Duration,
    last_heard: Option<Duration>,
    last_alive: Option<Duration>,
    repaired: Option<Duration>,
}

/// What the port, the driver and the ways share.
pub(in crate::client) struct Shared {
    engine: Mutex<Engine>,
    path: Mutex<Option<Arc<Path>>>,
    outage: Mutex<Option<Outage>>,
    gaps: Mutex<Vec<MediaGap>>,
    /// None once nothing comes any more.
    frames: Mutex<Option<mpsc::Sender<MediaFrame>>>,
    /// A digit is being sent: audio has to wait.
    dialling: AtomicBool,
    quiet: Duration,
    news: Arc<dyn Fn(MediaNews) + Send + Sync>,
    /// Something happened to the way.
    pub(super) wake: Notify,
    /// A probe was answered.
    pub(super) answered: Notify,
}

impl Shared {
    /// Takes in a chunk, whichever way it came. Must not block.
    pub(super) fn on_chunk(&self, bytes: &Bytes) {
        let now = clock::elapsed();
        let (frame, controls, answered) = {
            let mut engine = lock(&self.engine);
            let before = engine.probe_answered();
            let frame = engine.on_chunk(now, bytes);
            let answered = engine.probe_answered() != before;
            (frame, engine.controls(now), answered)
        };
        if answered {
            self.answered.notify_one();
        }
        self.send_controls(controls);
        if let Some(frame) = frame {
            // A reader that lags loses the newest: it is behind by more than any ear forgives.
            let _ = lock(&self.frames).as_ref().map(|frames| frames.try_send(frame));
        }
    }

    pub(in crate::client) fn send(&self, frame: &OutFrame) -> bool {
        let Some(path) = self.path() else {
            // Numbered all the same: the far side sees the loss for what it is.
            let _ = lock(&self.engine).send(clock::elapsed(), frame);
            return false;
        };
        let now = clock::elapsed();
        let (chunk, controls) = {
            let mut engine = lock(&self.engine);
            (engine.send(now, frame), engine.controls(now))
        };
        let sent = chunk.is_some();
        path.send(chunk, controls);
        sent
    }

    fn send_controls(&self, controls: Vec<Bytes>) {
        if !controls.is_empty()
            && let Some(path) = self.path()
        {
            path.send(None, controls);
        }
    }

    pub(super) fn path(&self) -> Option<Arc<Path>> {
        lock(&self.path).clone()
    }

    /// A probe to send, and the nonce of its answer.
    pub(super) fn probe(&self) -> (Nonce, Bytes) {
        lock(&self.engine).probe(clock::elapsed())
    }

    pub(super) fn is_answered(&self, nonces: &[Nonce]) -> bool {
        lock(&self.engine).probe_answered().is_some_and(|nonce| nonces.contains(&nonce))
    }

    /// Uses this way from now on; the one before ends.
    pub(super) fn install(&self, path: Path, why: Option<String>) {
        let kind = path.kind();
        lock(&self.engine).on_new_path();
        *lock(&self.path) = Some(Arc::new(path));
        if let Some(outage) = &mut *lock(&self.outage) {
            outage.repaired.get_or_insert(clock::elapsed());
        }
        (self.news)(MediaNews::Path(kind, why));
    }

    /// The way is lost. One that is merely silent is still spoken into: a server that comes back answers at once.
    pub(super) fn lose(&self, why: String) {
        let mut path = lock(&self.path);
        if path.as_ref().is_some_and(|path| path.is_closed()) {
            *path = None;
        }
        drop(path);
        let now = clock::elapsed();
        let (last_heard, last_alive) = {
            let engine = lock(&self.engine);
            (engine.heard(), engine.alive())
        };
        lock(&self.outage).get_or_insert(Outage { detected: now, last_heard, last_alive, repaired: None });
        (self.news)(MediaNews::Lost(why));
    }

    /// What is due every now and then; how long nothing was acknowledged.
    pub(super) fn tick(&self) -> Duration {
        let now = clock::elapsed();
        let (controls, silence) = {
            let mut engine = lock(&self.engine);
            (engine.controls(now), engine.silence(now))
        };
        self.send_controls(controls);
        self.settle(now);
        silence
    }

    /// Reports an outage once both directions are back.
    fn settle(&self, now: Duration) {
        let mut slot = lock(&self.outage);
        let Some(outage) = &*slot else { return };
        let Some(repaired) = outage.repaired else { return };
        let (heard, alive) = {
            let engine = lock(&self.engine);
            (engine.heard(), engine.alive())
        };
        let span = |before: Option<Duration>, after: Option<Duration>| {
            let before = before.filter(|at| outage.detected.saturating_sub(*at) < self.quiet)?;
            after.filter(|at| *at > before).map(|at| at - before)
        };
        // The first chunk after the loss is the one that counts, so look every tick.
        let (heard, unacknowledged) = (span(outage.last_heard, heard), span(outage.last_alive, alive));
        let expected = |before: Option<Duration>| {
            before.is_some_and(|at| outage.detected.saturating_sub(at) < self.quiet)
        };
        let both = (heard.is_some() || !expected(outage.last_heard))
            && (unacknowledged.is_some() || !expected(outage.last_alive));
        if both || now.saturating_sub(repaired) >= SETTLE {
            let since = outage.last_heard.or(outage.last_alive).unwrap_or(outage.detected);
            let gap =
                MediaGap { since, heard, unacknowledged, repaired: repaired.saturating_sub(outage.detected) };
            *slot = None;
            drop(slot);
            lock(&self.gaps).push(gap);
            (self.news)(MediaNews::Gap(gap));
        }
    }

    pub(in crate::client) fn tell_quality(&self) {
        let reports = self.reports();
        if !reports.is_empty() {
            (self.news)(MediaNews::Quality(reports));
        }
    }

    pub(in crate::client) fn reports(&self) -> Vec<StreamReport> {
        lock(&self.engine).reports()
    }

    pub(in crate::client) fn stats(&self) -> MediaStats {
        lock(&self.engine).stats()
    }

    pub(in crate::client) fn gaps(&self) -> Vec<MediaGap> {
        lock(&self.gaps).clone()
    }

    pub(in crate::client) fn path_kind(&self) -> Option<MediaPath> {
        let lost = lock(&self.outage).as_ref().is_some_and(|outage| outage.repaired.is_none());
        self.path().filter(|_| !lost).map(|path| path.kind())
    }

    /// The server had no way to deliver on.
    pub(in crate::client) fn panic(&self) {
        self.wake.notify_one();
    }

    /// Nothing comes any more.
    pub(super) fn finish(&self) {
        *lock(&self.path) = None;
        *lock(&self.frames) = None;
    }

    pub(in crate::client) fn set_dialling(&self, dialling: bool) {
        self.dialling.store(dialling, Ordering::Relaxed);
    }

    pub(in crate::client) fn is_dialling(&self) -> bool {
        self.dialling.load(Ordering::Relaxed)
    }
}

/// A call's media: frames in, frames out, whichever way they go. Dropping it closes the way.
pub struct MediaPort {
    shared: Arc<Shared>,
    frames: mpsc::Receiver<MediaFrame>,
    _driver: Owned,
}

impl std::fmt::Debug for MediaPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MediaPort").field("path", &self.path()).finish_non_exhaustive()
    }
}

impl MediaPort {
    pub(in crate::client) fn open(line: MediaLine, options: MediaOptions) -> Self {
        let (sender, frames) = mpsc::channel(options.queue.max(1));
        let shared = Arc::new(Shared {
            engine: Mutex::default(),
            path: Mutex::default(),
            outage: Mutex::default(),
            gaps: Mutex::default(),
            frames: Mutex::new(Some(sender)),
            dialling: AtomicBool::new(false),
            quiet: line.timeout + QUIET,
            news: Arc::clone(&line.news),
            wake: Notify::new(),
            answered: Notify::new(),
        });
        let driver = Owned::spawn(drive(line, Arc::clone(&shared), options.byways_only));
        Self { shared, frames, _driver: driver }
    }

    pub(in crate::client) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Sends a frame now or never; whether there was a way for it.
    pub fn send(&self, frame: &OutFrame) -> bool {
        self.shared.send(frame)
    }

    /// The next frame, in the order of arrival; the jitter buffer is the reader's. `None` once the call's media is gone.
    pub async fn recv(&mut self) -> Option<MediaFrame> {
        self.frames.recv().await
    }

    /// The next frame, if one is here.
    pub fn try_recv(&mut self) -> Option<MediaFrame> {
        self.frames.try_recv().ok()
    }

    /// The way that is open now.
    pub fn path(&self) -> Option<MediaPath> {
        self.shared.path_kind()
    }

    /// What was counted so far.
    pub fn stats(&self) -> MediaStats {
        self.shared.stats()
    }

    /// Every stream's part of a `quality` event.
    pub fn reports(&self) -> Vec<StreamReport> {
        self.shared.reports()
    }

    /// The times without media so far.
    pub fn gaps(&self) -> Vec<MediaGap> {
        self.shared.gaps()
    }

    /// The share of what was sent that is missing at the server, 0 to 1.
    pub fn loss_out(&self) -> f64 {
        lock(&self.shared.engine).loss_out()
    }

    /// The player's word on a stream: chunks that came too late in all, and the delay that it plays with.
    pub fn on_playout(&self, source: u8, sink: u8, late: u64, delay: Duration) {
        lock(&self.shared.engine).on_playout((source, sink), late, delay);
    }
}

impl Drop for MediaPort {
    fn drop(&mut self) {
        // The session's sink holds what this shares: part them.
        self.shared.finish();
    }
}
