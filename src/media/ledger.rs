//! What was sent and what arrived, per stream and hop: expansion, acks, whole or truncated, loss, round trips.

use std::time::Duration;

use crate::protocol::ack::{Ack, MAX_RUNS};
use crate::protocol::chunk::{LIMIT, Wire, expand};

/// How often a receiver acknowledges while media flows, and asks for whole values while it cannot expand.
pub const ACK_INTERVAL: Duration = Duration::from_millis(100);
/// Chunks that both sides remember; older ones are neither acknowledged nor told apart from duplicates.
pub const WINDOW: u64 = 1024;
/// A whole sequence number further than this from the newest resets the stream.
const RESET_DISTANCE: u64 = 1 << 15;
/// Time without acks, with chunks outstanding, after which values go out whole again.
const SILENCE: Duration = Duration::from_secs(1);
/// Gap in time after which values go out whole again.
const GAP: Duration = Duration::from_secs(16);
/// A whole chunk that is older by its number but newer than all others by its timestamp, by more than frames are ever
/// reordered, is the first of a sender that started anew, ms.
const RESTART_MS: u64 = 200;
/// A chunk is lost when one this much newer arrived and it did not (RFC 9002 §6.1.1).
const LOSS_THRESHOLD: u64 = 3;

/// What a receiver makes of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not seen before.
    Fresh {
        /// The whole sequence number.
        seq: u64,
        /// The whole timestamp, ms.
        timestamp: u64,
    },
    /// As `Fresh`, and nothing of what came before counts any more.
    Reset {
        /// The whole sequence number.
        seq: u64,
        /// The whole timestamp, ms.
        timestamp: u64,
    },
    /// Came already.
    Duplicate,
    /// Too old to know whether it came already; dropped.
    Stale,
    /// Truncated, with nothing to expand it against; dropped, see [`Receiver::need_whole_due`].
    NeedWhole,
}

/// The newest chunk of a stream.
#[derive(Clone, Copy, Debug)]
struct Newest {
    seq: u64,
    timestamp: u64,
    at: Duration,
}

/// The receiving end of one stream on one hop.
#[derive(Clone, Debug)]
pub struct Receiver {
    source: u8,
    sink: u8,
    newest: Option<Newest>,
    /// The highest timestamp that came.
    latest: u64,
    /// The sender may have started anew: it came on a new path.
    restarting: bool,
    /// The lowest sequence number that came; below it nothing is said.
    base: u64,
    seen: [u64; WINDOW as usize / 64],
    unacknowledged: bool,
    acked_at: Option<Duration>,
    asked_at: Option<Duration>,
}

impl Receiver {
    /// For a stream with these ids, as they are received.
    pub const fn new(source: u8, sink: u8) -> Self {
        let seen = [0; WINDOW as usize / 64];
        Self {
            source,
            sink,
            newest: None,
            latest: 0,
            restarting: false,
            base: 0,
            seen,
            unacknowledged: false,
            acked_at: None,
            asked_at: None,
        }
    }

    /// Takes note of a chunk and expands its values.
    pub fn on_chunk(&mut self, now: Duration, seq: Wire, timestamp: Wire) -> Verdict {
        let Some(newest) = self.newest else {
            return match seq.is_whole() && timestamp.is_whole() {
                true => self.start(now, seq.value, timestamp.value),
                false => Verdict::NeedWhole,
            };
        };
        let seq_value = expand(seq, newest.seq);
        let far = seq.is_whole() && seq_value.abs_diff(newest.seq) > RESET_DISTANCE;
        if far && !timestamp.is_whole() {
            return Verdict::NeedWhole;
        }
        // wire §5: the sequence starts at 0, so a client that came back after a crash counts below the newest.
        let whole = seq.is_whole() && timestamp.is_whole();
        let restarting = std::mem::take(&mut self.restarting) || timestamp.value > self.latest + RESTART_MS;
        if far || whole && seq_value <= newest.seq && restarting {
            self.start(now, seq_value, timestamp.value);
            return Verdict::Reset { seq: seq_value, timestamp: timestamp.value };
        }
        let (seq, timestamp) = (seq_value, expand(timestamp, newest.timestamp));
        if seq > newest.seq {
            if seq - newest.seq >= WINDOW {
                self.seen.fill(0);
            } else {
                (newest.seq + 1..seq).for_each(|missing| self.mark(missing, false));
            }
            self.newest = Some(Newest { seq, timestamp, at: now });
        } else if newest.seq - seq >= WINDOW {
            return Verdict::Stale;
        } else if self.has(seq) {
            // It came again because its ack was lost.
            self.unacknowledged = true;
            return Verdict::Duplicate;
        }
        self.latest = self.latest.max(timestamp);
        self.base = self.base.min(seq);
        self.mark(seq, true);
        self.unacknowledged = true;
        Verdict::Fresh { seq, timestamp }
    }

    /// The sender opened a new path: its next chunk may be the first of a new numbering.
    pub fn on_new_path(&mut self) {
        self.restarting = true;
    }

    /// Whether an ack is due: something came since the last one, which is 100 ms ago.
    pub fn ack_due(&self, now: Duration) -> bool {
        self.unacknowledged && self.acked_at.is_none_or(|at| now.saturating_sub(at) >= ACK_INTERVAL)
    }

    /// When the next ack is due, if one is.
    pub fn next_ack(&self) -> Option<Duration> {
        self.unacknowledged.then(|| self.acked_at.map_or(Duration::ZERO, |at| at + ACK_INTERVAL))
    }

    /// The ack to send now, if one is due.
    pub fn ack(&mut self, now: Duration) -> Option<Ack> {
        if self.ack_due(now) { self.ack_now(now) } else { None }
    }

    /// The ack to send now, if something came since the last one.
    pub fn ack_now(&mut self, now: Duration) -> Option<Ack> {
        let newest = self.newest.filter(|_| self.unacknowledged)?;
        self.unacknowledged = false;
        self.acked_at = Some(now);
        let floor = self.base.max((newest.seq + 1).saturating_sub(WINDOW));
        let (mut runs, mut run, mut received) = (Vec::with_capacity(8), 0, true);
        for seq in (floor..=newest.seq).rev() {
            if self.has(seq) != received {
                runs.push(run);
                (run, received) = (0, !received);
                if runs.len() == MAX_RUNS {
                    break;
                }
            }
            run += 1;
        }
        runs.push(run);
        runs.truncate(MAX_RUNS);
        runs.truncate(runs.len() - usize::from(runs.len() % 2 == 0));
        let delay_ms = millis(now.saturating_sub(newest.at));
        Some(Ack { source: self.source, sink: self.sink, newest: newest.seq, delay_ms, runs })
    }

    /// Whether to send a need-whole now, after [`Verdict::NeedWhole`]; at most one each 100 ms.
    pub fn need_whole_due(&mut self, now: Duration) -> bool {
        let due = self.asked_at.is_none_or(|at| now.saturating_sub(at) >= ACK_INTERVAL);
        if due {
            self.asked_at = Some(now);
        }
        due
    }

    fn start(&mut self, now: Duration, seq: u64, timestamp: u64) -> Verdict {
        self.newest = Some(Newest { seq, timestamp, at: now });
        self.latest = timestamp;
        self.base = seq;
        self.seen.fill(0);
        self.mark(seq, true);
        self.unacknowledged = true;
        Verdict::Fresh { seq, timestamp }
    }

    const fn has(&self, seq: u64) -> bool {
        self.seen[(seq % WINDOW / 64) as usize] & 1 << (seq % 64) != 0
    }

    fn mark(&mut self, seq: u64, seen: bool) {
        let word = &mut self.seen[(seq % WINDOW / 64) as usize];
        *word = *word & !(1 << (seq % 64)) | u64::from(seen) << (seq % 64);
    }
}

/// The number and form under which an endpoint sends its next chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The sequence number.
    pub seq: u64,
    /// Whether sequence and timestamp go out whole.
    pub whole: bool,
}

/// What an ack told the sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckOutcome {
    /// Chunks acknowledged for the first time.
    pub newly_received: u64,
    /// Chunks taken for lost now.
    pub newly_lost: u64,
    /// Of the newly received, those that had been taken for lost.
    pub recovered: u64,
    /// The round trip, when the newest chunk was acknowledged for the first time.
    pub rtt: Option<Duration>,
}

/// What a sender counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Chunks sent.
    pub sent: u64,
    /// Of them, acknowledged.
    pub acknowledged: u64,
    /// Of them, missing according to acks.
    pub lost: u64,
}

/// Flags of a remembered chunk; the other 28 bits are its sending time in eighths of a millisecond.
mod flag {
    pub(super) const SENT: u32 = 1;
    pub(super) const ACKED: u32 = 2;
    pub(super) const WHOLE: u32 = 4;
    pub(super) const LOST: u32 = 8;
}

/// The sending end of one stream on one hop: an endpoint's, which counts, or a relay's, which passes numbers on.
#[derive(Clone, Debug)]
pub struct Sender {
    next: u64,
    highest: Option<u64>,
    /// The last timestamp sent, and when.
    last: Option<(u64, Duration)>,
    ring: Box<[u32]>,
    /// Values go out whole until a chunk that is flagged whole is acknowledged.
    whole: bool,
    newest_acked: Option<u64>,
    /// Since when chunks are outstanding without an ack.
    waiting: Option<Duration>,
    counts: Counts,
    srtt: Option<Duration>,
}

impl Default for Sender {
    fn default() -> Self {
        Self::new()
    }
}

impl Sender {
    /// A stream that starts at sequence number 0.
    pub fn new() -> Self {
        let ring = vec![0; WINDOW as usize].into_boxed_slice();
        let (highest, last, newest_acked, waiting, srtt) = (None, None, None, None, None);
        let counts = Counts::default();
        Self { next: 0, highest, last, ring, whole: true, newest_acked, waiting, counts, srtt }
    }

    /// Numbers the endpoint's next chunk. `intra`: an intra frame of video, which always goes out whole.
    pub fn on_send(&mut self, now: Duration, timestamp: u64, intra: bool) -> Outgoing {
        let seq = self.next;
        Outgoing { seq, whole: self.on_send_seq(now, seq, timestamp, intra) }
    }

    /// Takes note of a chunk that a relay passes on under its own number; whether it goes out whole.
    pub fn on_send_seq(&mut self, now: Duration, seq: u64, timestamp: u64, intra: bool) -> bool {
        let gap = self.last.is_some_and(|(last, at)| {
            now.saturating_sub(at) >= GAP || Duration::from_millis(timestamp.abs_diff(last)) >= GAP
        });
        // The far end expands against what it got: stay well within half the span of two bytes.
        let far = self.newest_acked.is_some_and(|acked| acked.abs_diff(seq) >= RESET_DISTANCE / 2);
        let silent = self.silent_for(now) >= SILENCE;
        if intra || gap || !self.whole && (far || silent) {
            self.reset();
        }
        self.last = Some((timestamp, now));
        self.waiting.get_or_insert(now);
        self.remember(now, seq);
        self.next = (self.highest.unwrap_or(seq) + 1).min(LIMIT - 1);
        self.whole
    }

    /// Values go out whole again until acknowledged: a new session, handler, migration or codec, or a need-whole.
    pub fn reset(&mut self) {
        self.whole = true;
        // What went out before says nothing about what the far end knows now.
        self.ring.iter_mut().for_each(|entry| *entry &= !flag::WHOLE);
    }

    /// Takes an ack in; `None` if it speaks of chunks that were never sent.
    pub fn on_ack(&mut self, now: Duration, ack: &Ack) -> Option<AckOutcome> {
        let highest = self.highest.filter(|highest| ack.newest <= *highest)?;
        let lowest = (highest + 1).saturating_sub(WINDOW);
        let mut outcome = AckOutcome::default();
        for seq in ack.received().flat_map(|range| *range.start().max(&lowest)..range.end() + 1) {
            let entry = &mut self.ring[(seq % WINDOW) as usize];
            if *entry & (flag::SENT | flag::ACKED) != flag::SENT {
                continue;
            }
            outcome.newly_received += 1;
            outcome.recovered += u64::from(*entry & flag::LOST != 0);
            self.whole &= *entry & flag::WHOLE == 0;
            *entry = *entry & !flag::LOST | flag::ACKED;
            if seq == ack.newest {
                let elapsed = eighths(now).wrapping_sub(*entry & !0xf) >> 4;
                let elapsed = Duration::from_micros(u64::from(elapsed) * 125);
                outcome.rtt = Some(elapsed.saturating_sub(Duration::from_millis(ack.delay_ms)));
            }
        }
        for seq in ack.missing().flat_map(|range| *range.start().max(&lowest)..range.end() + 1) {
            let entry = &mut self.ring[(seq % WINDOW) as usize];
            if *entry & (flag::SENT | flag::ACKED | flag::LOST) == flag::SENT
                && ack.newest - seq >= LOSS_THRESHOLD
            {
                *entry |= flag::LOST;
                outcome.newly_lost += 1;
            }
        }
        self.counts.acknowledged += outcome.newly_received;
        self.counts.lost = self.counts.lost + outcome.newly_lost - outcome.recovered;
        if let Some(rtt) = outcome.rtt {
            self.srtt = Some(self.srtt.map_or(rtt, |srtt| (srtt * 7 + rtt) / 8));
        }
        let newest = self.newest_acked.map_or(ack.newest, |newest| newest.max(ack.newest));
        self.newest_acked = Some(newest);
        self.waiting = (newest < highest).then_some(now);
        Some(outcome)
    }

    /// Time since the last ack while chunks are outstanding, else zero. From 200 ms on probe, from 1 s on move.
    pub fn silent_for(&self, now: Duration) -> Duration {
        self.waiting.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// The sequence number of the endpoint's next chunk.
    pub const fn next_seq(&self) -> u64 {
        self.next
    }

    /// Whether the next chunk goes out whole, as things stand.
    pub const fn is_whole(&self) -> bool {
        self.whole
    }

    /// Smoothed round trip (RFC 9002 §5.3).
    pub const fn rtt(&self) -> Option<Duration> {
        self.srtt
    }

    /// What was counted.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    fn remember(&mut self, now: Duration, seq: u64) {
        let highest = self.highest.unwrap_or(seq);
        if highest.saturating_sub(seq) > RESET_DISTANCE || seq.saturating_sub(highest) >= WINDOW {
            self.ring.fill(0);
            self.newest_acked = self.newest_acked.filter(|acked| *acked < seq);
            self.highest = Some(seq);
        } else if seq >= highest {
            (highest + 1..=seq).for_each(|seq| self.ring[(seq % WINDOW) as usize] = 0);
            self.highest = Some(seq);
        } else if highest - seq >= WINDOW {
            self.counts.sent += 1;
            return;
        }
        let entry = &mut self.ring[(seq % WINDOW) as usize];
        if *entry & flag::SENT == 0 {
            self.counts.sent += 1;
            *entry = eighths(now) | flag::SENT | if self.whole { flag::WHOLE } else { 0 };
        } else if !self.whole {
            // Sent twice: an ack does not say which copy came.
            *entry &= !flag::WHOLE;
        }
    }
}

/// Eighths of a millisecond, above the flags; wraps after nine hours.
fn eighths(now: Duration) -> u32 {
    ((now.as_micros() / 125) << 4) as u32
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
