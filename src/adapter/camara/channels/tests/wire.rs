//! A channel on a loopback port, and a client that decides by itself when it reads and what it answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use super::super::rows::Key;
use super::super::socket::{MAX_MESSAGE, talk};
use super::super::{Channels, Closing, Due, Limits, Opening, Types, Word, Wording};
use super::status;
use crate::adapter::camara::notice::Notice;
use crate::clock;
use crate::identity::principal::UserId;
use crate::protocol::time::Timestamp;
use crate::service::lock;

/// How long a test waits for something that has to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whose channel it is.
pub(super) fn key() -> Key {
    (UserId::derive("urn:test", "alice"), Uuid::from_u128(8))
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) channels: Channels,
    pub(super) until: Arc<Mutex<Timestamp>>,
    pub(super) types: Arc<Mutex<Types>>,
    address: std::net::SocketAddr,
}

impl World {
    pub(super) async fn start(limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let world = Self {
            channels: Channels::new(limits),
            until: Arc::new(Mutex::new(clock::now() + Duration::from_secs(3600))),
            types: Arc::new(Mutex::new(Types::ALL)),
            address: listener.local_addr().unwrap(),
        };
        let router = Router::new().route("/", get(open)).with_state(world.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        world
    }

    pub(super) async fn open(&self, query: &str) -> Raw {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "GET /{query} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        Raw(stream)
    }

    pub(super) fn tell(&self, offer: &str) {
        let (user, device) = key();
        self.channels.hear(&user, device, &status(offer));
    }

    /// Cuts a socket, without a Close, and waits until its place is free.
    pub(super) async fn gone(&self, socket: Raw) {
        drop(socket);
        self.sits(false).await;
    }

    /// Waits until the channel has a socket, or none.
    pub(super) async fn sits(&self, there: bool) {
        let waiting = async {
            while lock(&self.channels.rows).has_socket(&key()) != there {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("a socket comes and goes");
    }
}

async fn open(
    State(world): State<World>,
    Query(query): Query<HashMap<String, String>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let after = query.get("after").map(|id| id.parse().unwrap());
    let opening = Opening { key: key(), until: *lock(&world.until), after };
    let wording = Wording::new(*lock(&world.types), |due: &Due| match &*due.notice {
        Notice::Status(told) | Notice::Invitation(told) => {
            Word::Text(format!("{} {}", due.id, told.session.offer.as_deref().unwrap_or_default()))
        }
        Notice::RegistrationEnds { .. } => Word::Close(Closing::RegistrationEnded),
    });
    let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
    upgrade.on_upgrade(move |socket| talk(socket, world.channels, opening, wording))
}

/// A frame that the server sent.
#[derive(Debug)]
pub(super) enum Seen {
    Text(String),
    Ping(u64),
    Pong(Vec<u8>),
    Close(u16, String),
    /// The connection is over.
    End,
}

/// A WebSocket client that answers nothing by itself.
pub(super) struct Raw(TcpStream);

impl Raw {
    pub(super) async fn next(&mut self) -> Seen {
        let frame = tokio::time::timeout(PATIENCE, self.read()).await.expect("a frame in time");
        let Ok((opcode, payload)) = frame else { return Seen::End };
        match opcode {
            1 => Seen::Text(String::from_utf8(payload).unwrap()),
            8 => {
                let code = u16::from_be_bytes(payload[..2].try_into().unwrap());
                Seen::Close(code, String::from_utf8(payload[2..].to_vec()).unwrap())
            }
            9 => Seen::Ping(u64::from_be_bytes(payload.try_into().unwrap())),
            10 => Seen::Pong(payload),
            other => panic!("opcode {other}"),
        }
    }

    /// RFC 6455 §5.2: a server's frames are not masked, and these are not fragmented.
    async fn read(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let (first, second) = (self.0.read_u8().await?, self.0.read_u8().await?);
        assert!(first & 0xf0 == 0x80 && second < 0x80, "{first:x} {second:x}");
        let length = match second {
            126 => self.0.read_u16().await?.into(),
            127 => self.0.read_u64().await?,
            short => short.into(),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut payload).await?;
        Ok((first & 0x0f, payload))
    }

    pub(super) async fn pong(&mut self, position: u64) {
        self.frame(0xa, &position.to_be_bytes()).await;
    }

    /// A frame with a mask of zeros.
    pub(super) async fn frame(&mut self, opcode: u8, payload: &[u8]) {
        let mut bytes = vec![0x80 | opcode];
        match payload.len() {
            short @ ..126 => bytes.push(0x80 | u8::try_from(short).unwrap()),
            long => {
                bytes.push(0x80 | 126);
                bytes.extend(u16::try_from(long).unwrap().to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes.extend(payload);
        self.bytes(&bytes).await;
    }

    pub(super) async fn bytes(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }
}
