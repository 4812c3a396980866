//! WebSockets over HTTP/1.1, opened as native clients and browsers do.

use std::time::Duration;

use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::h1h2::{Tcp, Version};
use super::user::Answer;
use super::{World, soon};

pub struct Socket {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    /// The answer's headers.
    pub headers: HeaderMap,
}

/// Opens a WebSocket; the answer where there is none.
pub async fn open(world: &World, path: &str, headers: &[(&str, &str)]) -> Result<Socket, Box<Answer>> {
    let uri = match path.strip_prefix("wss://") {
        Some(_) => path.to_owned(),
        None => format!("wss://127.0.0.1:{}{path}", world.address.port()),
    };
    let mut request = uri.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    let stream = Tcp::new(world, Version::Http1).connect().await;
    match soon("the upgrade", tokio_tungstenite::client_async(request, stream)).await {
        Ok((socket, answer)) => Ok(Socket { socket, headers: answer.headers().clone() }),
        Err(Error::Http(answer)) => {
            let (head, body) = answer.into_parts();
            let body = body.unwrap_or_default().into();
            Err(Box::new(Answer { status: head.status, headers: head.headers, body }))
        }
        Err(error) => panic!("{error}"),
    }
}

impl Socket {
    /// The next event. Pings are answered on the way.
    pub async fn event(&mut self) -> Value {
        match self.next().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("no event: {other:?}"),
        }
    }

    /// How the server closes it.
    pub async fn closed(&mut self) -> (u16, String) {
        match self.next().await {
            Message::Close(Some(frame)) => (frame.code.into(), frame.reason.to_string()),
            other => panic!("no close: {other:?}"),
        }
    }

    async fn next(&mut self) -> Message {
        loop {
            match soon("a message", self.socket.next()).await.unwrap().unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    /// Whether nothing comes for a moment but pings.
    pub async fn is_quiet(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(100), self.next()).await.is_err()
    }
}
