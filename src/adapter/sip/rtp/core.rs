//! What a leg does with descriptions, packets and chunks, without sockets and without a clock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::crypto::Key;
use super::leg::LegEvent;
use super::lock::{Source, Verdict};
use super::negotiation::{Kept, Negotiation, Remote};
use super::packet::{self, Head, Outgoing, Unroll};
use super::ports::{Counters, count};
use super::rtcp::{self, Reception, Reporter};
use super::sdp::BadSdp;
use super::srtp::Context;
use crate::media::engine::Engine;
use crate::media::quality::{self, Impairment};
use crate::media::rtp::lane::{self, Agreed, Arrived, Departing, Lane, Outcome};
use crate::protocol::directive::Directives;

/// How long nothing at all may come from who is to send before it is told.
const SILENT: Duration = Duration::from_secs(10);

/// Which of the two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Rtp,
    Rtcp,
}

/// When something happens: the monotonic clock, and the wall's in ms.
pub(super) type Now = (Duration, u64);

/// Sends a datagram.
pub(super) type Send<'a> = &'a mut dyn FnMut(Channel, SocketAddr, &[u8]);

/// A leg's state.
#[derive(Debug)]
pub(super) struct Core {
    negotiation: Negotiation,
    counters: Arc<Counters>,
    engine: Engine,
    lane: Lane,
    sends: Directives,
    receives: Directives,
    ssrc: u32,
    source: Source,
    /// Where the far side's RTCP comes from, once it came.
    rtcp: Option<SocketAddr>,
    /// The far side may go on with keys that a restart made us forget.
    late: bool,
    keys: Option<(Context, Context)>,
    unroll: Unroll,
    reception: Option<Reception>,
    reporter: Reporter,
    packet: Vec<u8>,
    /// When it was last heard, and whether it was told that it isn't any more.
    heard: Option<Duration>,
    silent: bool,
    held: bool,
    pub(super) events: Vec<LegEvent>,
}

impl Core {
    pub(super) fn new(negotiation: Negotiation, counters: Arc<Counters>, random: u128) -> Self {
        let ssrc = random as u32;
        Self {
            negotiation,
            counters,
            engine: Engine::default(),
            lane: Lane::new((random >> 32) as u16, (random >> 48) as u32),
            sends: Directives::default(),
            receives: Directives::default(),
            ssrc,
            source: Source::default(),
            rtcp: None,
            late: false,
            keys: None,
            unroll: Unroll::default(),
            reception: None,
            reporter: Reporter::new(ssrc, format!("{:x}", random >> 80)),
            packet: Vec::with_capacity(512),
            heard: None,
            silent: false,
            held: false,
            events: Vec::new(),
        }
    }

    /// With what was agreed on before a restart, and where the far side was heard.
    pub(super) fn resumed(mut self, heard: Option<SocketAddr>) -> Self {
        if let Some(remote) = self.negotiation.remote() {
            self.lane.set_agreed(remote.agreed.clone());
            self.source = Source::resume(remote.to, heard);
            (self.held, self.late) = (remote.held, true);
        }
        self
    }

    /// What is to be written down; none: nothing is agreed on yet.
    pub(super) fn kept(&self) -> Option<Kept> {
        // Where it is described to be is known anyway.
        let described = self.negotiation.remote().and_then(|remote| remote.to);
        self.negotiation.kept(self.source.heard().filter(|heard| Some(*heard) != described))
    }

    pub(super) fn negotiation(&mut self) -> &mut Negotiation {
        &mut self.negotiation
    }

    pub(super) fn answer(&mut self, sdp: &str) -> Result<String, BadSdp> {
        let answer = self.negotiation.answer(sdp)?;
        self.agree();
        Ok(answer)
    }

    pub(super) fn answered(&mut self, sdp: &str) -> Result<(), BadSdp> {
        self.negotiation.answered(sdp)?;
        self.agree();
        Ok(())
    }

    fn agree(&mut self) {
        let Some(remote) = self.negotiation.remote() else { return };
        self.lane.set_agreed(remote.agreed.clone());
        self.source.describe(remote.to);
        self.rtcp = None;
        let late = std::mem::take(&mut self.late);
        self.keys = remote.keys.as_ref().map(|(ours, theirs)| {
            let (before_ours, before_theirs) =
                self.keys.take().map_or((None, None), |(a, b)| (Some(a), Some(b)));
            let go_on = |before: Option<Context>, key, new: fn(&Key) -> Context| {
                before.filter(|context| context.is_for(key)).unwrap_or_else(|| new(key))
            };
            let first = if late { Context::late } else { Context::new };
            (go_on(before_ours, ours, Context::new), go_on(before_theirs, theirs, first))
        });
        if std::mem::replace(&mut self.held, remote.held) != remote.held {
            self.events.push(LegEvent::Held(remote.held));
        }
    }

    pub(super) fn direct(&mut self, sends: Directives, receives: Directives) {
        (self.sends, self.receives) = (sends, receives);
    }

    /// Whether chunks are made anew for the far side.
    pub(super) fn is_heavy(&self) -> bool {
        let codec = lane::stream(&self.receives).and_then(|stream| stream.codec()?.payload_type());
        let shared = |agreed: &Agreed, payload_type: u64| {
            agreed.codecs.iter().any(|format| format.codec.payload_type() == payload_type)
        };
        self.lane.is_heavy() || codec.is_some_and(|codec| !shared(self.lane.agreed(), codec.0.into()))
    }

    /// A datagram came on the RTP port.
    pub(super) fn on_rtp(&mut self, now: Now, from: SocketAddr, data: &mut [u8], outcome: &mut Outcome) {
        if self.negotiation.is_sealed() {
            return count(&self.counters.refused);
        }
        let Some(remote) = self.negotiation.remote() else { return count(&self.counters.strangers) };
        if remote.mux && packet::is_rtcp(data) {
            return self.on_rtcp(now, from, data);
        }
        if self.source.is_stranger(from) {
            return count(&self.counters.strangers);
        }
        let known = |head: Head| Some((head, remote.agreed.clock_rate(head.payload_type)?));
        let Some((head, rate)) = Head::parse(data, remote.level).and_then(known) else {
            return count(&self.counters.garbage);
        };
        let mut length = data.len();
        if let Some((_, theirs)) = &mut self.keys {
            match theirs.unprotect(data, head.begins) {
                Some(clear) => length = clear,
                None => return count(&self.counters.refused),
            }
        }
        let Some(payload) = head.payload(&data[..length]) else { return count(&self.counters.garbage) };
        let proven = self.keys.is_some();
        // RFC 3550 §8.2: what bears our own SSRC is our own, sent back.
        let verdict = match head.ssrc == self.ssrc {
            true => Verdict::Foreign,
            false => self.source.on_packet(now.0, from, head.ssrc, head.sequence, proven),
        };
        match verdict {
            Verdict::Heard => {}
            Verdict::First => {
                self.unroll = Unroll::default();
                self.reception = None;
                self.events.push(LegEvent::Heard);
            }
            Verdict::Stranger => return count(&self.counters.strangers),
            Verdict::Foreign => return count(&self.counters.foreign),
        }
        self.is_heard(now.0);
        let (packet, timestamp) = self.unroll.extend(&head);
        let reception = self.reception.get_or_insert_with(|| Reception::new(head.ssrc, packet));
        reception.on_packet(now.0, packet, timestamp, rate);
        let (payload_type, ssrc, level) = (head.payload_type, head.ssrc, head.level);
        let arrived = Arrived { payload_type, ssrc, packet, timestamp, level, payload };
        self.lane.on_rtp(&mut self.engine, &self.sends, now, &arrived, outcome);
        if let Some((digit, ms)) = outcome.digit.take() {
            self.events.push(LegEvent::Digit(digit, ms));
        }
    }

    fn is_heard(&mut self, now: Duration) {
        self.heard = Some(now);
        if std::mem::take(&mut self.silent) {
            self.events.push(LegEvent::Heard);
        }
    }

    /// A datagram came on the RTCP port, or beside RTP.
    pub(super) fn on_rtcp(&mut self, now: Now, from: SocketAddr, data: &mut [u8]) {
        let expected = self.source.target().map(|target| target.ip());
        if expected != Some(from.ip()) {
            return count(&self.counters.strangers);
        }
        if self.negotiation.is_sealed() {
            return count(&self.counters.refused);
        }
        let mut length = data.len();
        if let Some((_, theirs)) = &mut self.keys {
            match theirs.unprotect_report(data) {
                Some(clear) => length = clear,
                None => return count(&self.counters.refused),
            }
        }
        let Some(report) = rtcp::parse(&data[..length]) else { return count(&self.counters.garbage) };
        if self.source.locked().is_some_and(|(_, ssrc)| ssrc != report.ssrc) {
            return count(&self.counters.foreign);
        }
        self.rtcp = Some(from);
        if self.heard.is_some() {
            self.is_heard(now.0);
        }
        if let (Some(sent), Some(reception)) = (report.sent, &mut self.reception) {
            reception.on_report(now.0, sent);
        }
        let own = self.ssrc;
        for block in report.blocks.iter().filter(|block| block.about == own) {
            self.told(now.1, block);
        }
    }

    /// How the far side says that it hears.
    fn told(&mut self, wall: u64, block: &rtcp::Block) {
        let Some(stream) = lane::stream(&self.receives) else { return };
        let codec = stream.codec().and_then(|codec| codec.payload_type());
        let impairment = Impairment::of(codec.map_or(1, |codec| codec.0.into()));
        let delay = self.reporter.round_trip(wall, block).unwrap_or_default().as_secs_f64() * 500.0;
        let rating = quality::rating(impairment, delay, f64::from(block.fraction) / 256.0, 1.0);
        let sent = i64::from(self.reporter.packets);
        let lost = i64::from(block.lost).clamp(0, sent);
        self.events.push(LegEvent::Quality(json!({
            "source": stream.source, "sink": stream.sink, "sent": sent, "received": sent - lost,
            "lost": lost, "late": 0,
            "jitter-ms": f64::from(block.jitter) * 1_000.0 / f64::from(self.reporter.rate()),
            "delay-ms": delay, "mos": quality::mos(rating),
        })));
    }

    /// A chunk came from the call.
    pub(super) fn on_chunk(&mut self, now: Now, bytes: &Bytes, send: Send<'_>) {
        let Some(frame) = self.engine.on_chunk(now.0, bytes) else { return };
        let Self { negotiation, lane, source, keys, reporter, packet, counters, ssrc, .. } = self;
        let sealed = negotiation.is_sealed();
        let sendable = |remote: &&Remote| remote.to.is_some() && remote.direction.sends && !sealed;
        let remote = negotiation.remote().filter(sendable);
        let to = source.target();
        lane.on_frame(&frame, &mut |departing: Departing| {
            let (Some(remote), Some(to)) = (remote, to) else { return };
            let Departing { payload_type, place, level, payload } = departing;
            let head = Outgoing {
                marker: place.marker,
                payload_type,
                sequence: place.packet as u16,
                timestamp: place.timestamp,
                ssrc: *ssrc,
                level: remote.level.and_then(|id| Some((id, level?))),
            };
            let begins = packet::write(packet, &head, &payload);
            if keys.as_mut().is_some_and(|(ours, _)| !ours.protect(packet, begins)) {
                return count(&counters.refused);
            }
            let rate = sent_rate(&remote.agreed, payload_type);
            reporter.on_sent(now.0, place.timestamp, rate, payload.len());
            send(Channel::Rtp, to, packet);
        });
    }

    /// What is due: chunks for the call are returned, reports sent.
    pub(super) fn on_tick(&mut self, now: Now, random: f64, send: Send<'_>) -> Vec<Bytes> {
        if self.negotiation.remote().is_some() && self.reporter.is_due(now.0, random) {
            self.report(now, false, send);
        }
        let sends = self.negotiation.remote().is_some_and(|remote| !remote.held && remote.direction.receives);
        if !sends {
            // Who is not to send is not missed.
            self.heard = self.heard.map(|_| now.0);
        }
        if !self.silent && self.heard.is_some_and(|at| now.0.saturating_sub(at) >= SILENT) {
            self.silent = true;
            self.events.push(LegEvent::Silent);
        }
        self.engine.controls(now.0)
    }

    /// A report, the last one with BYE.
    pub(super) fn report(&mut self, now: Now, bye: bool, send: Send<'_>) {
        let sealed = self.negotiation.is_sealed();
        let Some(remote) = self.negotiation.remote().filter(|_| !sealed) else { return };
        let (target, mux) = (self.source.target(), remote.mux);
        // RTCP follows RTP to where that was learnt, and to where it came from itself.
        let moved = target.filter(|to| remote.to != Some(*to));
        let moved = moved.and_then(|to| Some(SocketAddr::new(to.ip(), to.port().checked_add(1)?)));
        let to = if mux { target } else { self.rtcp.or(moved).or(remote.rtcp) };
        let Some(to) = to.filter(|_| remote.to.is_some()) else { return };
        self.reporter.write(&mut self.packet, now, self.reception.as_mut(), bye);
        if self.keys.as_mut().is_some_and(|(ours, _)| !ours.protect_report(&mut self.packet)) {
            return;
        }
        send(if mux { Channel::Rtp } else { Channel::Rtcp }, to, &self.packet);
    }
}

/// The clock of what we send.
fn sent_rate(agreed: &Agreed, payload_type: u8) -> u32 {
    let codecs = agreed.codecs.iter().map(|format| (format.send, format.codec.clock_rate()));
    let riders = agreed.events.iter().chain(&agreed.noise).map(|rider| (rider.send, rider.rate));
    codecs.chain(riders).find(|(number, _)| *number == payload_type).map_or(8_000, |(_, rate)| rate)
}

#[cfg(test)]
mod tests;
