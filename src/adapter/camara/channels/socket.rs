//! One WebSocket of a channel: what is due goes out, each event followed by a ping; a pong confirms.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use uuid::Uuid;

use super::rows::{Key, Next, Place};
use super::wording::{Word, Wording};
use super::{Channels, lock};
use crate::clock;
use crate::protocol::time::Timestamp;

/// The largest message that is read; nothing that is asked for is longer.
pub(crate) const MAX_MESSAGE: usize = 4096;
/// Longer sleeps are cut in pieces: a timer has an end too.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Why the server closes a socket: RFC 6455 §7.4.2 leaves 4000 to 4999 to applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// A newer socket has the channel.
    Replaced,
    /// The token that opened it has ended.
    TokenExpired,
    /// Nothing came back for two pings.
    Silent,
    /// The channel was away for too long, or too slow.
    Lost,
    /// 2023: it has no other words for the end of a registration.
    RegistrationEnded,
    /// RFC 6455 §7.4.1: what came is not what is expected here.
    Unexpected,
    /// No channel fits any more.
    Full,
}

impl Closing {
    fn frame(self) -> CloseFrame {
        let (code, reason) = match self {
            Self::Replaced => (4000, "a newer socket has this channel now"),
            Self::TokenExpired => (4001, "the token has expired; open the channel again with a new one"),
            Self::Silent => (4002, "no pong came back; open the channel again"),
            Self::Lost => (4003, "events were lost; read your sessions, and open the channel again"),
            Self::RegistrationEnded => (4004, "the registration has ended; make a new one first"),
            Self::Unexpected => (1008, "only pongs and a close are expected here"),
            Self::Full => (1013, "too many channels; try again later"),
        };
        CloseFrame { code, reason: reason.into() }
    }
}

/// Whose channel a socket opens, for how long, and from where on.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) key: Key,
    pub(crate) until: Timestamp,
    pub(crate) after: Option<Uuid>,
}

/// A socket's place at its row, free again when dropped.
struct Seat<'a> {
    channels: &'a Channels,
    key: Key,
    place: Place,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        lock(&self.channels.rows).leave(clock::now(), &self.key, self.place.socket);
    }
}

impl Seat<'_> {
    fn next(&self, cursor: u64) -> Next {
        lock(&self.channels.rows).next(&self.key, self.place.socket, cursor)
    }

    fn confirm(&self, position: u64) {
        lock(&self.channels.rows).confirm(&self.key, self.place.socket, position);
    }

    /// How long the socket may stay.
    fn left(&self) -> Result<Duration, Closing> {
        let until = lock(&self.channels.rows).until(&self.key, self.place.socket);
        let left = until.ok_or(Closing::Replaced)?.since(clock::now());
        if left.is_zero() { Err(Closing::TokenExpired) } else { Ok(left.min(LONGEST_SLEEP)) }
    }
}

/// Why a socket is over.
enum Over {
    /// The server says so.
    Closing(Closing),
    /// The client does, or the network; or it takes nothing any more.
    Gone,
}

/// Serves a socket until its end.
pub(crate) async fn talk(mut socket: WebSocket, channels: Channels, opening: Opening, wording: Wording) {
    let patience = channels.limits.patience;
    let Opening { key, until, after } = opening;
    let place = lock(&channels.rows).attach(clock::now(), &key, until, after);
    let over = match place {
        Ok(place) => serve(&mut socket, &Seat { channels: &channels, key, place }, &wording).await,
        Err(_) => Over::Closing(Closing::Full),
    };
    if let Over::Closing(closing) = over {
        tracing::debug!(?closing, "a channel's socket is closed");
        let _ = timeout(patience, async {
            // RFC 6455 §7.1.1: the server waits for the client's Close, lest a reset swallow its own.
            if socket.send(Message::Close(Some(closing.frame()))).await.is_ok() {
                while let Some(Ok(_)) = socket.recv().await {}
            }
        })
        .await;
    }
}

async fn serve(socket: &mut WebSocket, seat: &Seat<'_>, wording: &Wording) -> Over {
    let limits = &seat.channels.limits;
    let mut talk = Talk { socket, seat, cursor: seat.place.cursor, quiet: 0, patience: limits.patience };
    let mut beat = interval(limits.heartbeat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat.reset();
    loop {
        let step = match seat.left() {
            Err(closing) => Err(Over::Closing(closing)),
            Ok(left) => match seat.next(talk.cursor) {
                Next::Due(due) => talk.tell(wording.word(&due), due.position).await,
                Next::Replaced => Err(Over::Closing(Closing::Replaced)),
                Next::Lost => Err(Over::Closing(Closing::Lost)),
                Next::Nothing => tokio::select! {
                    () = seat.place.wake.notified() => Ok(()),
                    () = sleep(left) => Ok(()),
                    _ = beat.tick() => talk.beat().await,
                    heard = talk.socket.recv() => talk.hear(heard),
                },
            },
        };
        if let Err(over) = step {
            return over;
        }
    }
}

struct Talk<'a> {
    socket: &'a mut WebSocket,
    seat: &'a Seat<'a>,
    /// The event that was sent last.
    cursor: u64,
    /// Pings in a row after which nothing was heard.
    quiet: u8,
    patience: Duration,
}

impl Talk<'_> {
    async fn tell(&mut self, word: Word, position: u64) -> Result<(), Over> {
        self.cursor = position;
        match word {
            Word::Nothing => {}
            Word::Text(text) => {
                self.send(Message::Text(text.into())).await?;
                self.ping().await?;
            }
            Word::Close(closing) => {
                self.seat.confirm(position);
                return Err(Over::Closing(closing));
            }
        }
        // While there is much to send, what comes in is heard too.
        while let Some(heard) = self.socket.recv().now_or_never() {
            self.hear(heard)?;
        }
        Ok(())
    }

    async fn beat(&mut self) -> Result<(), Over> {
        if self.quiet >= 2 {
            return Err(Over::Closing(Closing::Silent));
        }
        self.quiet += 1;
        self.ping().await
    }

    async fn ping(&mut self) -> Result<(), Over> {
        self.send(Message::Ping(Bytes::copy_from_slice(&self.cursor.to_be_bytes()))).await
    }

    /// A client that takes nothing for too long is let go: what it did not confirm waits for it.
    async fn send(&mut self, message: Message) -> Result<(), Over> {
        let sent = timeout(self.patience, self.socket.send(message)).await;
        if matches!(sent, Ok(Ok(()))) { Ok(()) } else { Err(Over::Gone) }
    }

    fn hear(&mut self, heard: Option<Result<Message, axum::Error>>) -> Result<(), Over> {
        self.quiet = 0;
        match heard {
            // RFC 6455 §5.5.3: a pong has its ping's payload, and stands for those before it.
            Some(Ok(Message::Pong(payload))) => {
                let position = <[u8; 8]>::try_from(payload.as_ref()).map(u64::from_be_bytes);
                if let Some(position) = position.ok().filter(|position| *position <= self.cursor) {
                    self.seat.confirm(position);
                }
                Ok(())
            }
            Some(Ok(Message::Close(_))) | None => Err(Over::Gone),
            Some(Err(_)) => Err(Over::Closing(Closing::Unexpected)),
            Some(Ok(_)) => Ok(()),
        }
    }
}
