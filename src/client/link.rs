//! The link: one HTTP/3 connection that comes back by itself.

mod dial;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use http::{Method, Request};
use tokio::sync::{mpsc, watch};

pub(super) use dial::Dial;

use super::ClientError;
use super::task::{Owned, lock};
use crate::transport::client::H3Client;

/// The draft's floor between tries, until a TG says otherwise.
const RETRY_BACKOFF: Duration = Duration::from_secs(2);
/// No wait between tries is longer, unless the TG's first one is.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// What a TG may ask for.
const BACKOFFS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(600)];
/// A suspected connection that answers nothing for so long is given up, even if no other comes about.
const CHECK: Duration = Duration::from_secs(3);
/// How long an old connection lives on beside a new one.
// wire §6: the client closes the old byways within 2 s.
const OVERLAP: Duration = Duration::from_secs(2);

/// A connection, and how many there were before it.
#[derive(Clone, Debug)]
pub(super) struct Connected {
    /// Counts up with every connection.
    pub(super) generation: u64,
    /// The connection itself.
    pub(super) h3: H3Client,
}

#[derive(Clone, Debug)]
enum State {
    Up(Connected),
    Down(String),
}

#[derive(Clone, Copy, Debug)]
enum Order {
    /// Something on this connection fell silent.
    Suspect(u64),
    /// The server wants us to move.
    Renew(u64),
}

#[derive(Debug)]
struct Shared {
    dial: Dial,
    state: watch::Sender<State>,
    backoff: Mutex<Duration>,
}

/// One connection after another to the same server.
#[derive(Debug)]
pub(super) struct Link {
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
    _supervisor: Owned,
}

impl Link {
    /// Connects for the first time; a failure is told at once.
    pub(super) async fn connect(dial: Dial) -> Result<Self, ClientError> {
        let h3 = dial.connect().await?;
        let (state, _) = watch::channel(State::Up(Connected { generation: 1, h3 }));
        let shared = Arc::new(Shared { dial, state, backoff: Mutex::new(RETRY_BACKOFF) });
        let (orders, inbox) = mpsc::channel(16);
        let supervisor = Owned::spawn(supervise(Arc::clone(&shared), inbox));
        Ok(Self { shared, orders, _supervisor: supervisor })
    }

    /// The connection, waited for if there is none now.
    pub(super) async fn current(&self, patience: Duration) -> Result<Connected, ClientError> {
        let mut state = self.shared.state.subscribe();
        let up = state.wait_for(|state| matches!(state, State::Up(_)));
        if let Ok(Ok(state)) = tokio::time::timeout(patience, up).await
            && let State::Up(connected) = &*state
        {
            return Ok(connected.clone());
        }
        let reason = match &*self.shared.state.borrow() {
            State::Down(reason) => reason.clone(),
            State::Up(_) => "it comes and goes".to_owned(),
        };
        Err(ClientError::Unreachable { server: self.shared.dial.origin().authority().to_owned(), reason })
    }

    /// The connection's number, or nothing while there is none.
    pub(super) fn generation(&self) -> Option<u64> {
        match &*self.shared.state.borrow() {
            State::Up(connected) => Some(connected.generation),
            State::Down(_) => None,
        }
    }

    /// Hears of every loss and return, as [`Link::generation`] tells them.
    pub(super) fn watch(&self) -> LinkWatch {
        LinkWatch(self.shared.state.subscribe())
    }

    /// Something on this connection fell silent: look whether it is still there.
    pub(super) fn suspect(&self, generation: u64) {
        // A full queue means that somebody else said so already.
        let _ = self.orders.try_send(Order::Suspect(generation));
    }

    /// Opens a new connection beside this one, and moves to it.
    pub(super) fn renew(&self, generation: u64) {
        let _ = self.orders.try_send(Order::Renew(generation));
    }

    /// What a TG asks for between tries.
    pub(super) fn set_backoff(&self, backoff: Duration) {
        *lock(&self.shared.backoff) = backoff.clamp(BACKOFFS[0], BACKOFFS[1]);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let State::Up(connected) = &*self.shared.state.borrow() {
            connected.h3.close();
        }
    }
}

/// Follows the link's ups and downs.
#[derive(Debug)]
pub(super) struct LinkWatch(watch::Receiver<State>);

impl LinkWatch {
    /// Waits for a change; the connection's number then, or nothing if it was lost. Pending for ever once the link is gone.
    pub(super) async fn changed(&mut self) -> Option<u64> {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        match &*self.0.borrow_and_update() {
            State::Up(connected) => Some(connected.generation),
            State::Down(_) => None,
        }
    }

    /// Waits until there is another connection than this one.
    pub(super) async fn beyond(&mut self, generation: u64) {
        let newer = |state: &State| matches!(state, State::Up(up) if up.generation > generation);
        if self.0.wait_for(newer).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn supervise(shared: Arc<Shared>, mut orders: mpsc::Receiver<Order>) {
    // Ends the old connection some time after a new one took over.
    let mut old: Option<Owned> = None;
    loop {
        let State::Up(now) = shared.state.borrow().clone() else { return };
        let next = tokio::select! {
            why = now.h3.closed() => Err(why.to_string()),
            order = orders.recv() => match order {
                Some(Order::Suspect(generation)) if generation == now.generation => {
                    check(&shared, &now.h3).await
                }
                Some(Order::Renew(generation)) if generation == now.generation => {
                    Ok(shared.dial.connect().await.ok())
                }
                Some(_) => continue,
                None => return,
            },
        };
        let generation = now.generation + 1;
        match next {
            Ok(None) => continue,
            Ok(Some(h3)) => {
                tracing::debug!(generation, "moved to a new connection");
                shared.state.send_replace(State::Up(Connected { generation, h3 }));
                old = Some(Owned::spawn(async move {
                    tokio::time::sleep(OVERLAP).await;
                    now.h3.close();
                }));
            }
            Err(why) => {
                tracing::debug!(why, "connection lost");
                now.h3.close();
                drop(now);
                drop(old.take());
                shared.state.send_replace(State::Down(why));
                let h3 = come_back(&shared).await;
                tracing::debug!(generation, "connected again");
                shared.state.send_replace(State::Up(Connected { generation, h3 }));
            }
        }
    }
}

/// Asks a suspected connection for anything, and tries another one meanwhile: whichever answers first is the
/// better one, and a server that is merely slow is slow to both.
async fn check(shared: &Shared, h3: &H3Client) -> Result<Option<H3Client>, String> {
    let uri = format!("{}/.well-known/ript-oauth", shared.dial.origin());
    let request = Request::builder().method(Method::HEAD).uri(uri).body(Body::empty());
    let request = request.map_err(|error| error.to_string())?;
    let another = async {
        match shared.dial.connect().await {
            Ok(h3) => h3,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        answer = h3.request(request) => answer.map(|_| None).map_err(|error| error.to_string()),
        h3 = another => Ok(Some(h3)),
        () = tokio::time::sleep(CHECK) => Err(format!("nothing came back for {CHECK:?}")),
    }
}

async fn come_back(shared: &Shared) -> H3Client {
    let mut failed = 0;
    loop {
        let error = match shared.dial.connect().await {
            Ok(h3) => return h3,
            Err(error) => error,
        };
        failed += 1;
        let base = *lock(&shared.backoff);
        let random = uuid::Uuid::new_v4().as_u128() as u8;
        let wait = backoff(failed, base, f64::from(random) / 255.0);
        tracing::debug!(%error, ?wait, "not back yet");
        shared.state.send_replace(State::Down(error.to_string()));
        tokio::time::sleep(wait).await;
    }
}

/// How long to wait after this many failed tries; `random` is 0 to 1.
// wire §6: the floor applies from the second failed try on, doubling, with jitter.
fn backoff(failed: u32, base: Duration, random: f64) -> Duration {
    let Some(doublings) = failed.checked_sub(2) else { return Duration::ZERO };
    let wait = base.saturating_mul(1 << doublings.min(10)).min(MAX_BACKOFF.max(base));
    wait.mul_f64(1.0 + random.clamp(0.0, 1.0) / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_retry_is_at_once_and_then_the_wait_doubles_up_to_a_bound() {
        let base = Duration::from_secs(2);
        let waits: Vec<u64> = (0..8).map(|failed| backoff(failed, base, 0.0).as_secs()).collect();
        assert_eq!(waits, [0, 0, 2, 4, 8, 16, 30, 30]);
        let slow = Duration::from_secs(120);
        assert_eq!([1, 2, 9].map(|failed| backoff(failed, slow, 0.0).as_secs()), [0, 120, 120]);
        assert_eq!(backoff(2, base, 1.0), Duration::from_millis(2500));
        assert_eq!(backoff(u32::MAX, base, 2.0), Duration::from_millis(37_500));
    }
}
