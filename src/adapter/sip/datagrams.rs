//! UDP: what comes is looked at before it is parsed, parsed once, and given to the transactions; what they send leaves here.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use rsipstack::platform::net::UdpSocket;
use rsipstack::sip::Transport;
use rsipstack::transport::udp::UdpConnection;
use rsipstack::transport::{SipConnection, TransportEvent};
use tokio::sync::mpsc::UnboundedSender;

use super::guard::Gate;
use super::stack::sip;
use super::strict::{self, Read};

/// The longest datagram.
const LONGEST: usize = 65_535;
/// RFC 5626 §4.4.1: a ping, as some send it by UDP too, and its answer.
const PING: &[u8] = b"\r\n\r\n";
const ANSWER: &[u8] = b"\r\n";

/// A UDP socket as the transactions use it: to send.
pub(super) struct Datagrams(pub(super) tokio::net::UdpSocket);

#[async_trait]
impl UdpSocket for Datagrams {
    /// What comes is read by [`Datagrams::listen`].
    async fn recv_from(&self, _: &mut [u8]) -> rsipstack::Result<(usize, SocketAddr)> {
        std::future::pending().await
    }

    async fn send_to(&self, data: &[u8], to: SocketAddr) -> rsipstack::Result<usize> {
        Ok(self.0.send_to(data, to).await?)
    }

    fn local_addr(&self) -> rsipstack::Result<SocketAddr> {
        Ok(self.0.local_addr()?)
    }
}

impl Datagrams {
    /// Reads for as long as somebody takes it.
    pub(super) async fn listen(
        self: Arc<Self>,
        gate: Arc<Gate>,
        connection: UdpConnection,
        feed: UnboundedSender<TransportEvent>,
    ) {
        let mut buffer = vec![0; LONGEST];
        loop {
            let (len, from) = match self.0.recv_from(&mut buffer).await {
                Ok(received) => received,
                // An ICMP message about what we sent: the transaction's timers tell its sender.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => {
                    tracing::debug!(%error, "nothing can be read by UDP");
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            // Even to parse a stranger's flood would cost too much.
            if !gate.knows(from) && !gate.stranger(from.ip()) {
                gate.ignore();
                continue;
            }
            let why = match strict::read(&buffer[..len], from) {
                Read::Message(message, _) => {
                    let Ok(message) = SipConnection::update_msg_received(*message, from, Transport::Udp)
                    else {
                        gate.discard();
                        continue;
                    };
                    let by = SipConnection::Udp(connection.clone());
                    if feed.send(TransportEvent::Incoming(message, by, sip(Transport::Udp, from))).is_err() {
                        return;
                    }
                    continue;
                }
                Read::Refuse(refusal) => {
                    tracing::debug!(code = refusal.code, why = refusal.why, "a request that is none");
                    if gate.corrects(from) {
                        // Whoever can't be reached asks again.
                        let _ = self.0.send_to(&refusal.message, refusal.to).await;
                    }
                    continue;
                }
                Read::Blank if &buffer[..len] == PING => {
                    let _ = self.0.send_to(ANSWER, from).await;
                    continue;
                }
                Read::Blank => continue,
                Read::Drop(why) => why,
            };
            tracing::debug!(why, "a datagram that is no message");
            gate.discard();
        }
    }
}
