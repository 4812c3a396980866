//! A call's handle to its RTP, and the task that reads its sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::RtpSettings;
use super::core::{Channel, Core, Now};
use super::negotiation::{Kept, Negotiation};
use super::ports::{Counters, Pair, count};
use super::sdp::BadSdp;
use crate::clock;
use crate::media::rtp::lane::Outcome;
use crate::protocol::advertisement::Advertisement;
use crate::protocol::directive::Directives;
use crate::protocol::id::CallId;
use crate::service::lock;
use crate::service::ports::{Entrance, MediaPath};

/// Chunks that may wait to be made anew: a quarter of a second, and then some.
const INBOX: usize = 32;
/// How often a leg looks whether acks, probes or reports are due.
const TICK: Duration = Duration::from_millis(100);
/// Packets read at once, before anybody else has a turn.
const BURST: usize = 32;
/// The longest packet that is read; what is longer is cut off, and garbage.
const LONGEST: usize = 2_048;

/// A description of ours, and what the other side can do.
#[derive(Clone, Debug)]
pub struct Described {
    /// The session description.
    pub sdp: String,
    /// What the far side sends and renders itself.
    pub native: Advertisement,
}

/// What happens to a leg.
#[derive(Clone, Debug, PartialEq)]
pub enum LegEvent {
    /// The far side is heard: the first time, from another source, or again.
    Heard,
    /// It is not heard any more, though it is to send; it may come back.
    Silent,
    /// A digit was pressed that the call's directives take as an event only.
    Digit(char, u32),
    /// How the far side says that it hears: an entry for a `quality` event.
    Quality(Value),
    /// The far side holds the call, or doesn't any more.
    Held(bool),
}

/// What the handle, the task and the call's port share.
struct Shared {
    pair: Pair,
    core: Mutex<Core>,
    /// Chunks are made anew: that is the task's work, not that of whoever brings them.
    heavy: AtomicBool,
    inbox: mpsc::Sender<Bytes>,
    entrance: Mutex<Option<Entrance>>,
    events: mpsc::Sender<LegEvent>,
    counters: Arc<Counters>,
}

/// What others hold of a leg; when it is dropped the leg ends, and its ports are free.
pub struct Leg {
    shared: Arc<Shared>,
    task: tokio::task::AbortHandle,
}

impl std::fmt::Debug for Leg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Leg").field(&self.shared.pair.port).finish()
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        self.shared
            .with(|core, now, shared| core.report(now, true, &mut |c, to, data| shared.send(c, to, data)));
        self.task.abort();
        if let Some(entrance) = lock(&self.shared.entrance).take() {
            entrance.closed();
        }
    }
}

/// The leg as a way to its far side.
struct ChunkPath(Weak<Shared>);

impl MediaPath for ChunkPath {
    fn send(&self, chunk: &[u8]) -> bool {
        let Some(shared) = self.0.upgrade() else { return false };
        let chunk = Bytes::copy_from_slice(chunk);
        if shared.heavy.load(Ordering::Relaxed) {
            // Who is that far behind plays nothing of it any more.
            if shared.inbox.try_send(chunk).is_err() {
                count(&shared.counters.overrun);
            }
        } else {
            shared.on_chunk(&chunk);
        }
        true
    }

    fn close(&self, _: &str) {}

    fn is_session(&self) -> bool {
        true
    }
}

fn now() -> Now {
    (clock::elapsed(), clock::now().as_millis())
}

/// 0 to 1.
fn random() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_u64_pair().0 as u32) / f64::from(u32::MAX)
}

impl Leg {
    pub(super) fn start(
        pair: Pair,
        address: IpAddr,
        settings: &RtpSettings,
        counters: Arc<Counters>,
        kept: Option<Kept>,
    ) -> (Self, mpsc::Receiver<LegEvent>) {
        let (inbox, chunks) = mpsc::channel(INBOX);
        let (events, happened) = mpsc::channel(64);
        let random = uuid::Uuid::new_v4().as_u128();
        // RFC 3550 §8.1: who begins anew has another SSRC, of a call that was written down too.
        let core = |negotiation| Core::new(negotiation, Arc::clone(&counters), random);
        let core = match kept {
            Some(kept) => {
                let heard = kept.heard;
                core(Negotiation::resume(settings, address, pair.port, kept)).resumed(heard)
            }
            None => {
                // RFC 8866 §5.2: below 2^63, for those who read it with a sign.
                let id = uuid::Uuid::new_v4().as_u64_pair().0 >> 1;
                core(Negotiation::new(settings, address, pair.port, id))
            }
        };
        let core = Mutex::new(core);
        let (heavy, entrance) = (AtomicBool::new(false), Mutex::default());
        let shared = Arc::new(Shared { pair, core, heavy, inbox, entrance, events, counters });
        let task = tokio::spawn(run(Arc::clone(&shared), chunks)).abort_handle();
        (Self { shared, task }, happened)
    }

    /// Offers audio; what was offered before, if nothing changed.
    pub fn offer(&self) -> String {
        self.shared.with(|core, _, _| core.negotiation().offer(false))
    }

    /// Offers anew in a call: held (sendonly, or inactive where the far side holds too), or not.
    pub fn reoffer(&self, held: bool) -> String {
        self.shared.with(|core, _, _| core.negotiation().offer(held))
    }

    /// What the other side of the call can do: our next first offer has that in front, so that nothing is transcoded.
    pub fn prefer(&self, advertisement: &Advertisement) {
        self.shared.with(|core, _, _| core.negotiation().prefer(advertisement));
    }

    /// Whether others could read the descriptions on their way: no keys go into them, and none are taken.
    pub fn expose(&self, exposed: bool) {
        self.shared.with(|core, _, _| core.negotiation().expose(exposed));
    }

    /// Answers an offer: the first one, or one that changes the session. Refused, it changes nothing.
    pub fn offered(&self, sdp: &str) -> Result<Described, BadSdp> {
        self.shared.with(|core, _, _| {
            let sdp = core.answer(sdp)?;
            Ok(Described { sdp, native: core.negotiation().native() })
        })
    }

    /// Takes an answer to the newest offer: what the far side sends and renders. An early one may be replaced by that of
    /// another branch; a refused one changes nothing.
    pub fn answered(&self, sdp: &str) -> Result<Advertisement, BadSdp> {
        self.shared.with(|core, _, _| {
            core.answered(sdp)?;
            Ok(core.negotiation().native())
        })
    }

    /// Our newest offer was refused: what was agreed before stands.
    pub fn refused(&self) {
        self.shared.with(|core, _, _| core.negotiation().refused());
    }

    /// The session as it is to be written down; none: nothing is agreed on.
    pub fn kept(&self) -> Option<Kept> {
        self.shared.with(|core, _, _| core.kept())
    }

    /// Whether it waits for new keys: until then it is deaf and dumb.
    pub fn is_sealed(&self) -> bool {
        self.shared.with(|core, _, _| core.negotiation().is_sealed())
    }

    /// What the far side sends and renders, as far as it is known.
    pub fn native(&self) -> Advertisement {
        self.shared.with(|core, _, _| core.negotiation().native())
    }

    /// The leg as a way for chunks; it doesn't keep the leg.
    pub fn path(&self) -> Arc<dyn MediaPath> {
        Arc::new(ChunkPath(Arc::downgrade(&self.shared)))
    }

    /// Where what comes from the far side goes.
    pub fn attach(&self, entrance: Entrance, _call: CallId) {
        let before = lock(&self.shared.entrance).replace(entrance);
        if let Some(before) = before {
            before.closed();
        }
    }

    /// What is in force now: what the far side sends, and what it receives.
    pub fn direct(&self, sends: Directives, receives: Directives) {
        self.shared.with(|core, _, _| core.direct(sends, receives));
    }

    /// The port of our RTP.
    pub fn port(&self) -> u16 {
        self.shared.pair.port
    }
}

impl Shared {
    /// Does something with the leg's state, and tells what came of it.
    fn with<T>(&self, work: impl FnOnce(&mut Core, Now, &Self) -> T) -> T {
        let mut core = lock(&self.core);
        let done = work(&mut core, now(), self);
        self.heavy.store(core.is_heavy(), Ordering::Relaxed);
        for event in core.events.drain(..) {
            // Who doesn't read learns of it by the next one.
            let _ = self.events.try_send(event);
        }
        done
    }

    fn on_chunk(&self, chunk: &Bytes) {
        self.with(|core, now, shared| core.on_chunk(now, chunk, &mut |c, to, data| shared.send(c, to, data)));
    }

    /// Sends now, or drops.
    fn send(&self, channel: Channel, to: SocketAddr, data: &[u8]) {
        let socket = match channel {
            Channel::Rtp => &self.pair.rtp,
            Channel::Rtcp => &self.pair.rtcp,
        };
        let to = match to {
            SocketAddr::V4(v4) if self.pair.mapped => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            _ => to,
        };
        // Not tokio's: that would drop what goes out before its reactor has seen the new socket.
        if SockRef::from(socket).send_to(data, &to.into()).is_err() {
            count(&self.counters.overrun);
        }
    }

    /// Reads what has come, up to a burst of it.
    fn read(&self, channel: Channel, buffer: &mut [u8; LONGEST], outcome: &mut Outcome) {
        let entrance = lock(&self.entrance).clone();
        let socket = match channel {
            Channel::Rtp => &self.pair.rtp,
            Channel::Rtcp => &self.pair.rtcp,
        };
        for _ in 0..BURST {
            let (length, from) = match socket.try_recv_from(buffer) {
                Ok(came) => came,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP error of an earlier packet of ours.
                Err(_) => continue,
            };
            let from = SocketAddr::new(from.ip().to_canonical(), from.port());
            let data = &mut buffer[..length];
            self.with(|core, now, _| match channel {
                Channel::Rtp => core.on_rtp(now, from, data, outcome),
                Channel::Rtcp => core.on_rtcp(now, from, data),
            });
            for chunk in outcome.chunks.drain(..) {
                if let Some(entrance) = &entrance {
                    entrance.arrived(&chunk);
                }
            }
        }
    }

    fn tick(&self) {
        let due = self.with(|core, now, shared| {
            core.on_tick(now, random(), &mut |channel, to, data| shared.send(channel, to, data))
        });
        let entrance = lock(&self.entrance).clone();
        if let Some(entrance) = entrance {
            for control in due {
                entrance.arrived(&control);
            }
        }
    }
}

async fn ready(socket: &UdpSocket) {
    // An error is found by who reads.
    let _ = socket.readable().await;
}

async fn run(shared: Arc<Shared>, mut chunks: mpsc::Receiver<Bytes>) {
    let mut ticker = tokio::time::interval(TICK);
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut buffer, mut outcome) = (Box::new([0; LONGEST]), Outcome::default());
    loop {
        tokio::select! {
            () = ready(&shared.pair.rtp) => shared.read(Channel::Rtp, &mut buffer, &mut outcome),
            () = ready(&shared.pair.rtcp) => shared.read(Channel::Rtcp, &mut buffer, &mut outcome),
            Some(chunk) = chunks.recv() => shared.on_chunk(&chunk),
            _ = ticker.tick() => shared.tick(),
        }
    }
}
