//! The receiver's jitter buffer: as much delay as the network's jitter needs, and no more.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::protocol::chunk::LIMIT;

/// Bounds of the target delay, ms.
const TARGET: std::ops::RangeInclusive<f64> = 20.0..=200.0;
/// Where the target starts, ms.
const TARGET_AT_START: f64 = 40.0;
/// The share of chunks that the target is to wait for.
const PERCENTILE: f64 = 0.95;
/// The window over which jitter is looked at, ms and chunks.
const WINDOW_MS: i64 = 4_000;
const WINDOW_CHUNKS: usize = 200;
/// How far the target falls with each chunk, ms.
const SHRINK_STEP: f64 = 0.2;
/// Frames are skipped at most this often in running speech, ms.
const SKIP_INTERVAL_MS: i64 = 500;
/// Timestamps off the line by more than this are a new clock at the sender, ms.
const CLOCK_JUMP_MS: i64 = 10_000;
/// Sequence numbers further than this from the next are a new stream.
const SEQ_JUMP: u64 = 1 << 15;
/// Chunks held at most.
const MAX_HELD: usize = 64;
/// What a gap in the timestamps must exceed to be the sender's silence, ms.
const TOLERANCE_MS: i64 = 10;
/// Calls without a chunk that are still an outage to conceal; silence after that.
const CONCEALED: u32 = 5;

/// What to play next, each time the player has run out: with 20 ms frames, each 20 ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Playout {
    /// Decode and play this.
    Frame {
        /// Its sequence number.
        seq: u64,
        /// Its timestamp.
        timestamp_ms: u64,
        /// The codec's bytes.
        payload: Bytes,
        /// How long it plays.
        duration_ms: u32,
    },
    /// This one is lost: conceal it.
    Lost {
        /// The following chunk, if it is here, for forward error correction.
        next: Option<Bytes>,
        /// How long the lost one would have played.
        duration_ms: u32,
    },
    /// What should play now has not come yet: stretch or conceal for 20 ms.
    Empty,
    /// The sender is silent, or nothing has begun: play 20 ms of silence or comfort noise.
    Silence,
}

/// What the buffer counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames played.
    pub played: u64,
    /// Chunks that were not there when their turn came.
    pub lost: u64,
    /// Chunks that came after their turn; they are among the lost too.
    pub late: u64,
    /// Frames thrown away to shorten the delay.
    pub skipped: u64,
    /// Times that the buffer ran dry while playing.
    pub underruns: u64,
}

#[derive(Clone, Debug)]
struct Held {
    timestamp: i64,
    payload: Bytes,
    duration: i64,
}

/// The adaptive jitter buffer of one stream.
#[derive(Clone, Debug)]
pub struct JitterBuffer {
    held: BTreeMap<u64, Held>,
    /// The next sequence number and timestamp to play, once playing.
    next: Option<(u64, i64)>,
    /// How long the last chunk plays, ms; a lost one is taken to be as long.
    duration: i64,
    /// Arrival and transit (arrival minus timestamp) of recent chunks, ms.
    transits: VecDeque<(i64, i64)>,
    least: i64,
    target: f64,
    skipped_at: i64,
    empty: u32,
    counts: Counts,
}

impl Default for JitterBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl JitterBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self {
            held: BTreeMap::new(),
            next: None,
            duration: 20,
            transits: VecDeque::with_capacity(WINDOW_CHUNKS),
            least: 0,
            target: TARGET_AT_START,
            skipped_at: 0,
            empty: 0,
            counts: Counts::default(),
        }
    }

    /// Takes a chunk in; one that came before is to be kept away by the ledger, a second copy still held is ignored.
    pub fn push(&mut self, now: Duration, timestamp_ms: u64, seq: u64, payload: Bytes, duration_ms: u64) {
        let now = millis(now);
        let timestamp = timestamp_ms.min(LIMIT - 1) as i64;
        let duration = i64::try_from(duration_ms).unwrap_or(20).clamp(2, 120);
        let transit = now.saturating_sub(timestamp);
        let new_clock =
            self.transits.back().is_some_and(|(_, last)| transit.abs_diff(*last) > CLOCK_JUMP_MS as u64);
        let new_stream = self.next.is_some_and(|(next, _)| next.abs_diff(seq) > SEQ_JUMP);
        if new_clock || new_stream {
            self.reset();
        }
        self.measure(now, transit);
        if self.next.is_some_and(|(next, _)| seq < next) {
            self.counts.late += 1;
            return;
        }
        self.held.entry(seq).or_insert(Held { timestamp, payload, duration });
        if self.held.len() > MAX_HELD {
            self.held.pop_first();
            self.counts.skipped += 1;
            self.next =
                self.next.and_then(|_| self.held.first_key_value()).map(|(seq, head)| (*seq, head.timestamp));
        }
    }

    /// What to play next.
    pub fn pop(&mut self, now: Duration) -> Playout {
        let now = millis(now);
        let target = self.target as i64;
        let Some((seq, head)) = self.held.first_key_value() else { return self.dry() };
        let (head_seq, timestamp, duration) = (*seq, head.timestamp, self.duration);
        let (mut next_seq, next_timestamp) = self.next.unwrap_or((head_seq, i64::MIN));
        let mut missing = head_seq.saturating_sub(next_seq).min(SEQ_JUMP) as i64;
        // Where the first chunk that is not played yet stands, and how long that has been behind the fastest.
        let mut due = timestamp.saturating_sub(missing * duration);
        let wait = |due: i64| now.saturating_sub(due).saturating_sub(self.least);
        if due > next_timestamp.saturating_add(TOLERANCE_MS) {
            if wait(due) < target {
                return Playout::Silence;
            }
        } else if missing > 0 && wait(due) < target {
            return self.hold();
        }
        // What an outage already cost in time is not concealed a second time, nor what is beyond any use.
        let spent = ((wait(due) - target) / duration).min(self.empty.into());
        let hopeless = (wait(due) - *TARGET.end() as i64) / duration;
        let overdue = spent.max(hopeless).clamp(0, missing);
        missing -= overdue;
        due += overdue * duration;
        next_seq += overdue as u64;
        self.counts.lost += overdue as u64;
        self.empty = 0;
        if missing > 0 {
            self.counts.lost += 1;
            self.next = Some((next_seq + 1, due + duration));
            let next =
                (missing == 1).then(|| self.held.first_key_value().map(|(_, head)| head.payload.clone()));
            return Playout::Lost { next: next.flatten(), duration_ms: duration as u32 };
        }
        let skipped = self.skip(now, target);
        self.play(head_seq + skipped)
    }

    /// The delay that the buffer aims at.
    pub fn target(&self) -> Duration {
        Duration::from_micros((self.target * 1000.0) as u64)
    }

    /// What was counted.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Forgets the stream (the ledger's `Reset`, another codec or handler); counts stay.
    pub fn reset(&mut self) {
        self.counts.skipped += self.held.len() as u64;
        self.held.clear();
        self.transits.clear();
        self.next = None;
        self.empty = 0;
    }

    /// Updates the fastest transit and the target: up at once, down slowly.
    fn measure(&mut self, now: i64, transit: i64) {
        if self.transits.len() == WINDOW_CHUNKS {
            self.transits.pop_front();
        }
        self.transits.push_back((now, transit));
        while self.transits.front().is_some_and(|(at, _)| now - at > WINDOW_MS) {
            self.transits.pop_front();
        }
        self.least = self.transits.iter().map(|(_, transit)| *transit).min().unwrap_or(transit);
        let mut delays: Vec<i64> = self.transits.iter().map(|(_, transit)| transit - self.least).collect();
        let rank = (delays.len() as f64 * PERCENTILE) as usize;
        let rank = rank.min(delays.len() - 1);
        let (_, wanted, _) = delays.select_nth_unstable(rank);
        self.target = (*wanted as f64).max(self.target - SHRINK_STEP).clamp(*TARGET.start(), *TARGET.end());
    }

    /// Throws frames away, one now and then while the delay is above the target, and all that is beyond any use.
    fn skip(&mut self, now: i64, target: i64) -> u64 {
        let mut skipped = 0;
        while self.held.len() > 1
            && let Some((_, head)) = self.held.first_key_value()
        {
            let wait = now.saturating_sub(head.timestamp).saturating_sub(self.least);
            let long_ago = now.saturating_sub(self.skipped_at) >= SKIP_INTERVAL_MS;
            if wait <= *TARGET.end() as i64 + head.duration && !(wait > target + head.duration && long_ago) {
                break;
            }
            self.skipped_at = now;
            self.held.pop_first();
            skipped += 1;
        }
        self.counts.skipped += skipped;
        skipped
    }

    /// Plays the first chunk held; those between `expected` and it are lost.
    fn play(&mut self, expected: u64) -> Playout {
        let Some((seq, head)) = self.held.pop_first() else { return self.dry() };
        self.counts.lost += seq.saturating_sub(expected);
        self.counts.played += 1;
        self.duration = head.duration;
        self.next = Some((seq + 1, head.timestamp.saturating_add(head.duration)));
        Playout::Frame {
            seq,
            timestamp_ms: head.timestamp as u64,
            payload: head.payload,
            duration_ms: head.duration as u32,
        }
    }

    /// Nothing is held.
    fn dry(&mut self) -> Playout {
        if self.next.is_none() || self.empty >= CONCEALED {
            self.empty = self.empty.saturating_add(1);
            return Playout::Silence;
        }
        self.counts.underruns += u64::from(self.empty == 0);
        self.hold()
    }

    fn hold(&mut self) -> Playout {
        self.empty = self.empty.saturating_add(1);
        Playout::Empty
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX).min(LIMIT as i64 / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn push(buffer: &mut JitterBuffer, now: u64, timestamp: u64, seq: u64) {
        buffer.push(at(now), timestamp, seq, Bytes::from(seq.to_be_bytes().to_vec()), 20);
    }

    /// A letter for each playout: Frame, Lost, lost with Next, Empty, Silence.
    fn letter(playout: &Playout) -> char {
        match playout {
            Playout::Frame { .. } => 'F',
            Playout::Lost { next: None, .. } => 'L',
            Playout::Lost { next: Some(_), .. } => 'N',
            Playout::Empty => 'E',
            Playout::Silence => 'S',
        }
    }

    /// Runs 20 ms ticks up to `until`; chunks are (arrival, timestamp, seq).
    fn play(buffer: &mut JitterBuffer, chunks: &[(u64, u64, u64)], until: u64) -> String {
        let mut chunks = chunks.to_vec();
        chunks.sort_unstable();
        let mut left = chunks.into_iter().peekable();
        let mut out = String::new();
        for now in (0..until).step_by(20) {
            while let Some((arrival, timestamp, seq)) = left.next_if(|(arrival, ..)| *arrival <= now) {
                push(buffer, arrival, timestamp, seq);
            }
            out.push(letter(&buffer.pop(at(now))));
        }
        out
    }

    #[test]
    fn a_steady_stream_starts_after_the_target_and_plays_through() {
        let mut buffer = JitterBuffer::new();
        let chunks: Vec<_> = (0..10).map(|seq| (seq * 20, 7_000 + seq * 20, seq)).collect();
        assert_eq!(play(&mut buffer, &chunks, 240), "SSFFFFFFFFFF");
        assert_eq!(buffer.counts(), Counts { played: 10, ..Counts::default() });
    }

    #[test]
    fn a_lost_chunk_is_concealed_with_the_next_at_hand() {
        let mut buffer = JitterBuffer::new();
        let chunks: Vec<_> =
            (0..10).filter(|seq| ![4, 7, 8].contains(seq)).map(|seq| (seq * 20, seq * 20, seq)).collect();
        let played = play(&mut buffer, &chunks, 240);
        assert_eq!(played, "SSFFFFNFFLNF", "7 and 8 are gone when 9 is just in");
        assert_eq!(buffer.counts().lost, 3);
    }

    #[test]
    fn a_chunk_out_of_order_is_put_in_its_place() {
        let mut buffer = JitterBuffer::new();
        let mut chunks: Vec<_> = (0..8).map(|seq| (seq * 20, seq * 20, seq)).collect();
        chunks[3].0 += 30;
        assert_eq!(play(&mut buffer, &chunks, 200), "SSFFFFFFFF");
    }

    #[test]
    fn a_pause_of_the_sender_is_silence_and_no_loss() {
        let mut buffer = JitterBuffer::new();
        let mut chunks: Vec<_> = (0..5).map(|seq| (seq * 20, seq * 20, seq)).collect();
        chunks.extend((5..10).map(|seq| (seq * 20 + 400, seq * 20 + 400, seq)));
        let played = play(&mut buffer, &chunks, 640);
        assert_eq!(played, format!("SSFFFFFEEEEE{}FFFFF", "S".repeat(15)));
        assert_eq!((buffer.counts().lost, buffer.counts().played), (0, 10));
    }

    #[test]
    fn an_outage_is_not_played_twice_and_a_burst_after_a_stall_is_cut_short() {
        let mut buffer = JitterBuffer::new();
        let outage: Vec<_> =
            (0..300).filter(|seq| !(50..150).contains(seq)).map(|seq| (seq * 20, seq * 20, seq)).collect();
        play(&mut buffer, &outage, 6_000);
        assert!(buffer.counts().played > 190 && buffer.counts().lost >= 100, "{:?}", buffer.counts());

        let mut buffer = JitterBuffer::new();
        let stall: Vec<_> = (0..300)
            .map(|seq| (if (50..100).contains(&seq) { 2_000 } else { seq * 20 }, seq * 20, seq))
            .collect();
        play(&mut buffer, &stall, 6_000);
        assert_eq!((buffer.counts().lost, buffer.counts().late), (0, 0));
        assert!((30..60).contains(&buffer.counts().skipped), "{:?}", buffer.counts());
    }

    #[test]
    fn a_new_stream_or_clock_starts_over() {
        for (timestamp, seq) in [(0, 5_000_000), (9_000_000, 10)] {
            let mut buffer = JitterBuffer::new();
            let mut chunks: Vec<_> = (0..10).map(|seq| (seq * 20, 500_000 + seq * 20, seq)).collect();
            chunks.extend((0..10).map(|n| (400 + n * 20, timestamp + n * 20, seq + n)));
            let played = play(&mut buffer, &chunks, 640);
            assert_eq!(buffer.counts(), Counts { played: 20, underruns: 1, ..Counts::default() }, "{played}");
        }
    }

    #[test]
    fn a_late_chunk_is_counted_and_memory_is_bounded() {
        let mut buffer = JitterBuffer::new();
        let chunks: Vec<_> = (0..10).map(|seq| (seq * 20, seq * 20, seq)).collect();
        play(&mut buffer, &chunks, 240);
        push(&mut buffer, 240, 60, 3);
        assert_eq!(buffer.counts().late, 1);
        (100..10_000).for_each(|seq| push(&mut buffer, 240, seq * 20, seq));
        assert!(buffer.held.len() <= MAX_HELD && buffer.transits.len() <= WINDOW_CHUNKS);
        for (now, timestamp, seq, duration) in
            [(0, u64::MAX, u64::MAX >> 2, u64::MAX), (1, 0, 0, 0), (u64::MAX, 1, 1, 1)]
        {
            buffer.push(at(now), timestamp, seq, Bytes::new(), duration);
            buffer.pop(at(now));
        }
    }
}
