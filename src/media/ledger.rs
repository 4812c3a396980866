//! What was sent and what arrived, per stream and hop: expansion, acks, whole or truncated, loss, round trips.

use std::time::Duration;

use crate::protocol::ack::{Ack, MAX_RUNS, Runs};
use crate::protocol::chunk::{LIMIT, Wire, expand};

/// How often a receiver acknowledges while media flows, and asks for whole values while it cannot expand.
pub const ACK_INTERVAL: Duration = Duration::from_millis(100);
/// Chunks that both sides remember; older ones are neither acknowledged nor told apart from duplicates.
pub const WINDOW: u64 = 1024;
/// Chunks of which the time of sending is known: a round trip is measured by the newest, and takes less than these.
const TIMED: u64 = 128;
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
#[repr(C)]
pub struct Receiver {
    // What every chunk needs comes first.
    source: u8,
    sink: u8,
    /// The sender may have started anew: it came on a new path.
    restarting: bool,
    unacknowledged: bool,
    newest: Option<Newest>,
    /// The highest timestamp that came.
    latest: u64,
    /// The lowest sequence number that came; below it nothing is said.
    base: u64,
    acked_at: Option<Duration>,
    asked_at: Option<Duration>,
    seen: Bits,
}

impl Receiver {
    /// For a stream with these ids, as they are received.
    pub const fn new(source: u8, sink: u8) -> Self {
        Self {
            source,
            sink,
            newest: None,
            latest: 0,
            restarting: false,
            base: 0,
            seen: Bits::NONE,
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
                self.seen = Bits::NONE;
            } else {
                (newest.seq + 1..seq).for_each(|missing| self.seen.put(missing, false));
            }
            self.newest = Some(Newest { seq, timestamp, at: now });
        } else if newest.seq - seq >= WINDOW {
            return Verdict::Stale;
        } else if self.seen.has(seq) {
            // It came again because its ack was lost.
            self.unacknowledged = true;
            return Verdict::Duplicate;
        }
        self.latest = self.latest.max(timestamp);
        self.base = self.base.min(seq);
        self.seen.put(seq, true);
        self.unacknowledged = true;
        Verdict::Fresh { seq, timestamp }
    }

    /// The sender opened a new path: its next chunk may be the first of a new numbering.
    pub fn on_new_path(&mut self) {
        self.restarting = true;
    }

    /// Reads what the next chunk will want: see [`super::relay::Port::expect_arrival`].
    pub(super) fn expect(&self) {
        let next = self.newest.map_or(0, |newest| newest.seq + 1);
        std::hint::black_box((self.acked_at, self.seen.0[place(next).0]));
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
        let (mut runs, mut above, mut received) = (Runs::new(), newest.seq + 1, true);
        while above > floor && runs.len() < MAX_RUNS {
            let run = self.seen.run(above - 1, received).min(above - floor);
            runs.push(run);
            (above, received) = (above - run, !received);
        }
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
        self.seen = Bits::NONE;
        self.seen.put(seq, true);
        self.unacknowledged = true;
        Verdict::Fresh { seq, timestamp }
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

/// The sending end of one stream on one hop: an endpoint's, which counts, or a relay's, which passes numbers on.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Sender {
    // What every chunk needs comes first.
    next: u64,
    highest: Option<u64>,
    /// The last timestamp sent, and when.
    last: Option<(u64, Duration)>,
    /// Values go out whole until a chunk that is flagged whole is acknowledged.
    whole: bool,
    newest_acked: Option<u64>,
    /// Since when chunks are outstanding without an ack.
    waiting: Option<Duration>,
    counts: Counts,
    srtt: Option<Duration>,
    /// When the last ones were sent, in eighths of a millisecond.
    times: [u32; TIMED as usize],
    /// What became of the chunks in the window, 64 in each.
    fates: [Fates; WINDOW as usize / 64],
}

impl Default for Sender {
    fn default() -> Self {
        Self::new()
    }
}

impl Sender {
    /// A stream that starts at sequence number 0.
    pub fn new() -> Self {
        Self {
            next: 0,
            highest: None,
            last: None,
            fates: [Fates::default(); WINDOW as usize / 64],
            times: [0; TIMED as usize],
            whole: true,
            newest_acked: None,
            waiting: None,
            counts: Counts::default(),
            srtt: None,
        }
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

    /// Reads what the chunk of that number will want: see [`super::relay::Port::expect_departure`].
    pub(super) fn expect(&self, seq: u64) {
        let time = self.times[(seq % TIMED) as usize];
        std::hint::black_box((self.next, self.newest_acked, self.srtt, time, self.fates[place(seq).0].sent));
    }

    /// Values go out whole again until acknowledged: a new session, handler, migration or codec, or a need-whole.
    pub fn reset(&mut self) {
        self.whole = true;
        // What went out before says nothing about what the far end knows now.
        self.fates.iter_mut().for_each(|fates| fates.whole = 0);
    }

    /// Takes an ack in; `None` if it speaks of chunks that were never sent.
    pub fn on_ack(&mut self, now: Duration, ack: &Ack) -> Option<AckOutcome> {
        let highest = self.highest.filter(|highest| ack.newest <= *highest)?;
        let lowest = (highest + 1).saturating_sub(WINDOW);
        let mut outcome = AckOutcome::default();
        for range in ack.received() {
            for (word, mask) in words(lowest.max(*range.start()), *range.end()) {
                let fates = &mut self.fates[word];
                let new = fates.sent & !fates.acked & mask;
                outcome.newly_received += u64::from(new.count_ones());
                outcome.recovered += u64::from((new & fates.lost).count_ones());
                self.whole &= new & fates.whole == 0;
                fates.lost &= !new;
                fates.acked |= new;
                let timed = highest - ack.newest < TIMED;
                if timed && word == place(ack.newest).0 && new & place(ack.newest).1 != 0 {
                    let elapsed = eighths(now).wrapping_sub(self.times[(ack.newest % TIMED) as usize]);
                    let elapsed = Duration::from_micros(u64::from(elapsed) * 125);
                    outcome.rtt = Some(elapsed.saturating_sub(Duration::from_millis(ack.delay_ms)));
                }
            }
        }
        for range in ack.missing() {
            let Some(settled) = ack.newest.checked_sub(LOSS_THRESHOLD) else { break };
            for (word, mask) in words(lowest.max(*range.start()), settled.min(*range.end())) {
                let fates = &mut self.fates[word];
                let new = fates.sent & !fates.acked & !fates.lost & mask;
                outcome.newly_lost += u64::from(new.count_ones());
                fates.lost |= new;
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
            self.fates.iter_mut().for_each(|fates| fates.sent = 0);
            self.newest_acked = self.newest_acked.filter(|acked| *acked < seq);
            self.highest = Some(seq);
        } else if seq >= highest {
            for new in highest + 1..=seq {
                let (word, bit) = place(new);
                self.fates[word].sent &= !bit;
            }
            self.highest = Some(seq);
        } else if highest - seq >= WINDOW {
            self.counts.sent += 1;
            return;
        }
        let (word, bit) = place(seq);
        let fates = &mut self.fates[word];
        if fates.sent & bit == 0 {
            self.counts.sent += 1;
            fates.sent |= bit;
            fates.acked &= !bit;
            fates.lost &= !bit;
            fates.whole = fates.whole & !bit | if self.whole { bit } else { 0 };
            if highest.saturating_sub(seq) < TIMED {
                self.times[(seq % TIMED) as usize] = eighths(now);
            }
        } else if !self.whole {
            // Sent twice: an ack does not say which copy came.
            fates.whole &= !bit;
        }
    }
}

/// What became of 64 chunks, a bit for each.
#[derive(Clone, Copy, Debug, Default)]
struct Fates {
    sent: u64,
    acked: u64,
    /// Taken for lost.
    lost: u64,
    /// Sent whole since the last reset.
    whole: u64,
}

/// A bit for each chunk of the window.
#[derive(Clone, Copy, Debug)]
struct Bits([u64; WINDOW as usize / 64]);

impl Bits {
    const NONE: Self = Self([0; WINDOW as usize / 64]);

    const fn has(&self, seq: u64) -> bool {
        let (word, bit) = place(seq);
        self.0[word] & bit != 0
    }

    const fn put(&mut self, seq: u64, to: bool) {
        let (word, bit) = place(seq);
        self.0[word] = self.0[word] & !bit | if to { bit } else { 0 };
    }

    /// How many chunks from `top` down are alike, at most a window of them.
    fn run(&self, top: u64, alike: bool) -> u64 {
        let mut run = 0;
        while run < WINDOW && run <= top {
            let at = top - run;
            let (word, _) = place(at);
            let differ = if alike { !self.0[word] } else { self.0[word] };
            let here = u64::from((differ << (63 - at % 64)).leading_zeros()).min(at % 64 + 1);
            run += here;
            if here <= at % 64 {
                break;
            }
        }
        run
    }
}

/// The word of a chunk, and its bit there.
const fn place(seq: u64) -> (usize, u64) {
    ((seq % WINDOW / 64) as usize, 1 << (seq % 64))
}

/// The words that hold the chunks of a range, at most a window of them, each with the range's bits in it.
fn words(low: u64, high: u64) -> impl Iterator<Item = (usize, u64)> {
    let all = if low <= high { low / 64..high / 64 + 1 } else { 0..0 };
    all.map(move |at| {
        let above = if at == low / 64 { u64::MAX << (low % 64) } else { u64::MAX };
        let below = if at == high / 64 { u64::MAX >> (63 - high % 64) } else { u64::MAX };
        ((at % (WINDOW / 64)) as usize, above & below)
    })
}

/// Eighths of a millisecond; wraps after six days.
fn eighths(now: Duration) -> u32 {
    (now.as_secs() * 8000 + u64::from(now.subsec_micros() / 125)) as u32
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_ack_tells_what_came_and_the_sender_learns_it(
            steps in prop::collection::vec((0..40u64, prop::bool::weighted(0.8)), 1..400), start in 0..5000u64,
        ) {
            let (mut sender, mut receiver) = (Sender::new(), Receiver::new(1, 1));
            let (mut sent, mut came, mut acked) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
            let mut seq = start;
            for (at, (step, arrives)) in steps.into_iter().enumerate() {
                let now = Duration::from_millis(at as u64 * 20);
                // Mostly the next one, at times a gap.
                seq += if step > 37 { 1 << (step % 8) } else { 1 };
                sender.on_send_seq(now, seq, at as u64 * 20, false);
                sent.insert(seq);
                if arrives {
                    receiver.on_chunk(now, Wire::whole(seq), Wire::whole(at as u64 * 20));
                    came.insert(seq);
                }
                let Some(ack) = (if step % 5 == 0 { receiver.ack_now(now) } else { None }) else { continue };
                let newest = *came.last().unwrap();
                let floor = came.first().unwrap().max(&(newest + 1).saturating_sub(WINDOW)).to_owned();
                let told: BTreeSet<u64> = ack.received().flatten().collect();
                let said = ack.lowest()..=newest;
                prop_assert_eq!(&told, &came.range(said).copied().collect::<BTreeSet<_>>());
                prop_assert!(ack.runs.len() + 1 >= MAX_RUNS || came.range(floor..ack.lowest()).next().is_none());
                let outcome = sender.on_ack(now, &ack).unwrap();
                let lowest = (sent.last().unwrap() + 1).saturating_sub(WINDOW);
                let new: Vec<u64> = told.range(lowest..).filter(|s| !acked.contains(*s)).copied().collect();
                prop_assert_eq!(outcome.newly_received, new.len() as u64);
                let timed = sent.last().unwrap() - newest < TIMED;
                prop_assert_eq!(outcome.rtt.is_some(), timed && new.contains(&newest));
                acked.extend(new);
                prop_assert!(!sender.is_whole());
            }
            let counts = sender.counts();
            prop_assert_eq!((counts.sent, counts.acknowledged), (sent.len() as u64, acked.len() as u64));
            prop_assert!(counts.lost <= (sent.len() - came.len()) as u64);
        }
    }

    #[test]
    fn what_is_missing_is_lost_once_and_recovered_when_it_comes() {
        let (mut sender, now) = (Sender::new(), Duration::from_secs(1));
        (0..2000).for_each(|seq| _ = sender.on_send_seq(now, seq, 0, false));
        let ack = |newest, runs: &[u64]| Ack { source: 1, sink: 1, newest, delay_ms: 0, runs: runs.into() };
        let outcome = sender.on_ack(now + Duration::from_millis(30), &ack(1999, &[2, 2, 996])).unwrap();
        assert_eq!((outcome.newly_received, outcome.newly_lost), (998, 1), "1997 is too new to be lost");
        assert_eq!(outcome.rtt, Some(Duration::from_millis(30)));
        let outcome = sender.on_ack(now, &ack(1999, &[1000])).unwrap();
        assert_eq!((outcome.newly_received, outcome.recovered, outcome.rtt), (2, 1, None));
        assert_eq!(sender.counts().lost, 0);
        assert_eq!(sender.on_ack(now, &ack(2000, &[1])), None, "it was never sent");
    }
}
