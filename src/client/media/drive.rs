//! Chooses a way for the media, watches it, and finds another when it is lost.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::byways::{Byways, Hears};
use super::port::{Path, Shared};
use super::session::{self, NoSession};
use super::{MediaLine, MediaPath};
use crate::client::ClientError;
use crate::client::link::Connected;
use crate::protocol::event::State;
use crate::protocol::resource::MediaUris;

/// Acks are due this often (wire §5).
const TICK: Duration = Duration::from_millis(100);
/// A `quality` event is due every 5 s, in ticks.
const QUALITY_TICKS: u64 = 50;
/// How long to wait for a connection before the call is asked about again.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(300);
/// Tries at a session on one connection that fail for another reason than WebTransport itself.
const MAX_AGAIN: u32 = 3;

/// What comes next after a way.
enum Next {
    /// It fell silent.
    Lost(String),
    /// It was closed, or its connection broke.
    Closed,
    /// There is a newer connection; the way still works.
    Move,
}

/// Runs until the call has no media any more, or the port is dropped.
pub(super) async fn drive(line: MediaLine, shared: Arc<Shared>, byways_only: bool) {
    let mut uris = line.uris.clone();
    let mut ticks = 0;
    while let Some(way) = open(&line, &shared, uris.take(), byways_only).await {
        let generation = way.connected.generation;
        shared.install(way.path, way.why);
        match watch(&line, &shared, generation, &mut ticks).await {
            Next::Move => {}
            Next::Closed if line.client.0.link.generation() == Some(generation) => {
                // A server that closes the way on a good connection mostly says that the call is over.
                match read_uris(&line).await {
                    Ok(None) => break,
                    Ok(fresh) => uris = fresh,
                    Err(error) => tracing::debug!(%error, "the call can't be read now"),
                }
                shared.lose("the way was closed".into());
            }
            Next::Closed => shared.lose("the connection was lost".into()),
            Next::Lost(why) => {
                tracing::debug!(why, "the way is lost");
                shared.lose(why);
                line.client.0.link.suspect(generation);
            }
        }
    }
    shared.finish();
    tracing::debug!(call = line.call, "no more media");
}

async fn watch(line: &MediaLine, shared: &Shared, generation: u64, ticks: &mut u64) -> Next {
    let mut link = line.client.watch();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let newer = link.beyond(generation);
    tokio::pin!(newer);
    // What was sent before this way was open says nothing about it.
    let mut grace = line.timeout.as_millis() / TICK.as_millis();
    loop {
        tokio::select! {
            () = &mut newer => return match shared.path().is_some_and(|path| !path.is_closed()) {
                true => Next::Move,
                false => Next::Closed,
            },
            () = shared.wake.notified() => {
                if shared.path().is_none_or(|path| path.is_closed()) {
                    return Next::Closed;
                }
            }
            _ = tick.tick() => {
                let silence = shared.tick();
                *ticks += 1;
                if ticks.is_multiple_of(QUALITY_TICKS) {
                    shared.tell_quality();
                }
                grace = grace.saturating_sub(1);
                if grace == 0 && silence >= line.timeout {
                    return Next::Lost(format!("nothing was acknowledged for {} ms", silence.as_millis()));
                }
            }
        }
    }
}

struct Way {
    path: Path,
    connected: Connected,
    why: Option<String>,
}

/// Opens a way on the present connection; `None` once the call has no media.
async fn open(
    line: &MediaLine,
    shared: &Arc<Shared>,
    mut uris: Option<MediaUris>,
    byways_only: bool,
) -> Option<Way> {
    let mut again = 0;
    loop {
        let at = match uris.take() {
            Some(uris) => uris,
            None => match read_uris(line).await {
                Ok(uris) => uris?,
                Err(error) => {
                    tracing::debug!(%error, "the call can't be read now");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        let Ok(connected) = line.client.0.link.current(PATIENCE).await else { continue };
        let why = match choose(byways_only, again) {
            Choice::Byways(why) => why,
            Choice::WebTransport => match session::open(line, &connected, &at.webtransport, shared).await {
                Ok(path) => return Some(Way { path: Path::Session(path), connected, why: None }),
                Err(NoSession::Gone) => return None,
                Err(NoSession::Unable(why)) => why,
                Err(NoSession::Again(why)) => {
                    tracing::debug!(why, "no session yet");
                    // On another connection the count starts anew.
                    let mut link = line.client.watch();
                    again = tokio::select! {
                        () = link.beyond(connected.generation) => 0,
                        () = tokio::time::sleep(PAUSE) => again + 1,
                    };
                    continue;
                }
            },
        };
        let hears = Arc::downgrade(shared) as Weak<dyn Hears>;
        match Byways::open(line, &connected, &at.byway, hears) {
            Ok(byways) => return Some(Way { path: Path::Byways(byways), connected, why: Some(why) }),
            Err(error) => {
                tracing::debug!(%error, "no byway");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Choice {
    WebTransport,
    Byways(String),
}

fn choose(byways_only: bool, failed: u32) -> Choice {
    match (byways_only, failed) {
        (true, _) => Choice::Byways(format!("only {} were asked for", MediaPath::Byways.as_str())),
        (false, MAX_AGAIN..) => Choice::Byways(format!("no session came about in {failed} tries")),
        (false, _) => Choice::WebTransport,
    }
}

/// Where the call's media goes now, with a fresh ticket.
pub(super) async fn read_uris(line: &MediaLine) -> Result<Option<MediaUris>, ClientError> {
    match line.client.call(&line.call, Some(&line.handler)).await {
        Ok(call) if call.state == State::Ended => Ok(None),
        Ok(call) => Ok(call.media),
        Err(error) if error.is_ended() || error.refusal().is_some_and(|r| matches!(r.status, 403 | 404)) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webtransport_is_tried_first_and_byways_are_the_rest() {
        assert_eq!(choose(false, 0), Choice::WebTransport);
        assert_eq!(choose(false, MAX_AGAIN - 1), Choice::WebTransport);
        assert!(matches!(choose(false, MAX_AGAIN), Choice::Byways(_)));
        assert!(matches!(choose(true, 0), Choice::Byways(_)));
    }
}
