//! Sequence numbers and timestamps between chunks and RTP.

use std::time::Duration;

/// A jump of this many packets is a new beginning, not a loss.
const JUMP: i64 = 3_000;
/// So is a jump of an hour.
const FAR_MS: u64 = 3_600_000;
/// How far a sender's clock may wander from its samples before the difference is played.
const WANDER_MS: i64 = 60;

/// Numbers RTP packets after the chunks that they carry.
#[derive(Debug)]
pub struct Downlink {
    rate: i64,
    next: u64,
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    /// The chunk's sequence number, and the packet's.
    seq: u64,
    packet: u64,
    /// The chunk's timestamp, ms, and the packet's.
    at: u64,
    timestamp: i64,
    /// How long it plays, in units of the timestamp.
    span: i64,
    /// By how much the sender's clock is ahead of what was played, in units of the timestamp.
    wander: i64,
}

/// Where a packet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The extended sequence number.
    pub packet: u64,
    /// The timestamp.
    pub timestamp: u32,
    /// RFC 3551 §4.1: the first packet of a talkspurt.
    pub marker: bool,
}

impl Downlink {
    /// With the codec's clock rate; the first packet and timestamp are to be random.
    pub fn new(rate: u32, first: u16, timestamp: u32) -> Self {
        let last = Last { seq: 0, packet: 0, at: 0, timestamp: timestamp.into(), span: 0, wander: 0 };
        let mut new = Self { rate: rate.into(), next: u64::from(first), last: None };
        new.last = Some(Last { packet: u64::MAX, ..last });
        new
    }

    /// The place of a chunk that plays for `span` units. None: it is older than what began anew.
    pub fn place(&mut self, seq: u64, at: u64, span: u32, reset: bool) -> Option<Place> {
        let span = i64::from(span);
        let before = self.last?;
        let ahead = difference(seq, before.seq);
        if before.packet == u64::MAX || reset || ahead.abs() > JUMP || before.at.abs_diff(at) > FAR_MS {
            // One frame on: the far end hears no gap of hours where a stream begins anew.
            let timestamp = before.timestamp + before.span.max(span);
            return Some(self.set(Last { seq, packet: self.next, at, timestamp, span, wander: 0 }, true));
        }
        let packet = before.packet.checked_add_signed(ahead)?;
        let (steps, mut wander) = self.steps(before, at);
        let mut timestamp = before.timestamp + steps;
        if ahead > 0 && before.span > 0 {
            // RTP counts samples, and a wall clock that ticks a little off would be heard as cuts.
            let frames = (steps + before.span / 2).div_euclid(before.span).max(1);
            wander = before.wander + steps - frames * before.span;
            timestamp = before.timestamp + frames * before.span;
            if wander.abs() > WANDER_MS * self.rate / 1000 {
                timestamp = (timestamp + wander).max(before.timestamp + before.span);
                wander = 0;
            }
        }
        if ahead <= 0 {
            return Some(Place { packet, timestamp: timestamp as u32, marker: false });
        }
        let marker = timestamp - before.timestamp > 4 * before.span.max(span);
        Some(self.set(Last { seq, packet, at, timestamp, span, wander }, marker))
    }

    /// The place of a telephone-event's packet: it has the time of the event's beginning, and moves no audio.
    pub fn place_event(&mut self, seq: u64, at: u64) -> Option<Place> {
        let before = self.last?;
        let ahead = difference(seq, before.seq);
        if before.packet == u64::MAX || ahead.abs() > JUMP || before.at.abs_diff(at) > FAR_MS {
            return self.place(seq, at, 0, true);
        }
        let packet = before.packet.checked_add_signed(ahead)?;
        let timestamp = (before.timestamp + self.steps(before, at).0) as u32;
        if ahead > 0 {
            self.set(Last { seq, packet, ..before }, false);
        }
        Some(Place { packet, timestamp, marker: false })
    }

    /// The number of one more packet, right behind the newest, that no chunk stands for.
    pub fn insert(&mut self) -> u64 {
        if let Some(last) = self.last.as_mut().filter(|last| last.packet != u64::MAX) {
            last.packet += 1;
            self.next = last.packet + 1;
        }
        self.next.saturating_sub(1)
    }

    /// A chunk is not passed on: no packet is missing for it.
    pub fn skip(&mut self, seq: u64) {
        if let Some(last) = &mut self.last {
            let ahead = difference(seq, last.seq);
            if last.packet != u64::MAX && (1..=JUMP).contains(&ahead) {
                last.seq = seq;
                last.packet += ahead as u64 - 1;
            }
        }
    }

    /// The clock rate, when another codec goes on in the same stream.
    pub fn set_rate(&mut self, rate: u32) {
        self.rate = rate.into();
    }

    fn steps(&self, before: Last, at: u64) -> (i64, i64) {
        (difference(at, before.at).saturating_mul(self.rate) / 1000, before.wander)
    }

    fn set(&mut self, last: Last, marker: bool) -> Place {
        self.next = last.packet + 1;
        self.last = Some(last);
        Place { packet: last.packet, timestamp: last.timestamp as u32, marker }
    }
}

fn difference(a: u64, b: u64) -> i64 {
    i64::try_from(i128::from(a) - i128::from(b)).unwrap_or(i64::MAX)
}

/// Numbers chunks after the RTP packets that they come from.
#[derive(Debug, Default)]
pub struct Uplink {
    origin: Option<Origin>,
    next: u64,
    newest_at: u64,
}

#[derive(Clone, Copy, Debug)]
struct Origin {
    ssrc: u32,
    packet: u64,
    timestamp: u64,
    seq: u64,
    at: u64,
}

impl Uplink {
    /// A packet's sequence number and timestamp in ms, where `wall` is our clock now. None: it is older than what began
    /// anew.
    pub fn number(
        &mut self,
        ssrc: u32,
        packet: u64,
        timestamp: u64,
        rate: u32,
        wall: u64,
    ) -> Option<(u64, u64)> {
        let jumped = |o: &Origin| {
            let expected = o.at.saturating_add_signed(scaled(timestamp, o.timestamp, rate));
            o.ssrc != ssrc
                || difference(packet, o.packet + (self.next.saturating_sub(o.seq))).abs() > JUMP
                || expected.abs_diff(wall) > Duration::from_secs(10).as_millis() as u64
        };
        let origin = match self.origin.filter(|o| !jumped(o)) {
            Some(origin) => origin,
            // Numbers go on: what is behind knows nothing of SSRCs.
            None => Origin {
                ssrc,
                packet,
                timestamp,
                seq: self.next,
                at: wall.max(self.newest_at.saturating_add(1)),
            },
        };
        self.origin = Some(origin);
        let seq = origin.seq.checked_add_signed(difference(packet, origin.packet))?;
        let at = origin.at.saturating_add_signed(scaled(timestamp, origin.timestamp, rate));
        self.next = self.next.max(seq + 1);
        self.newest_at = self.newest_at.max(at);
        Some((seq, at))
    }

    /// A packet is not passed on: no chunk is missing for it.
    pub fn skip(&mut self, packet: u64) {
        if let Some(origin) = &mut self.origin {
            // What is older than the newest has left no gap.
            let newest = origin.packet + (self.next.saturating_sub(origin.seq));
            if (0..=JUMP).contains(&difference(packet, newest)) {
                origin.packet += 1;
            }
        }
    }

    /// What comes next begins anew, and goes on in number: what was not passed on is no loss.
    pub fn rest(&mut self) {
        self.origin = None;
    }

    /// The number of a frame that no packet stands for.
    pub fn count(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }
}

fn scaled(timestamp: u64, origin: u64, rate: u32) -> i64 {
    difference(timestamp, origin).saturating_mul(1000) / i64::from(rate.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(down: &mut Downlink, seq: u64, at: u64) -> (u64, u32) {
        let place = down.place(seq, at, 960, false).unwrap();
        (place.packet, place.timestamp)
    }

    #[test]
    fn packets_count_samples_though_the_senders_clock_is_rough() {
        let mut down = Downlink::new(48_000, 100, 1_000);
        let clock = [0, 20, 41, 59, 80, 101, 120];
        for (n, at) in clock.into_iter().enumerate() {
            let n = n as u32;
            assert_eq!(place(&mut down, 7 + u64::from(n), 5_000 + at), (100 + u64::from(n), 1_960 + n * 960));
        }
    }

    #[test]
    fn a_lost_chunk_is_a_lost_packet_and_a_late_one_comes_in_its_place() {
        let mut down = Downlink::new(48_000, 0, 0);
        place(&mut down, 10, 0);
        assert_eq!(place(&mut down, 12, 40), (2, 960 * 3));
        assert_eq!(place(&mut down, 11, 20), (1, 960 * 2));
        assert_eq!(place(&mut down, 13, 60), (3, 960 * 4));
    }

    #[test]
    fn a_clock_that_runs_away_is_followed_in_one_step() {
        let mut down = Downlink::new(48_000, 0, 0);
        let mut last = place(&mut down, 0, 0).1;
        let mut steps = Vec::new();
        for n in 1..=20 {
            let (_, timestamp) = place(&mut down, n, n * 25);
            steps.push(timestamp - last);
            last = timestamp;
        }
        assert!((960 + 20 * 25 * 48) - last <= 60 * 48, "{steps:?}");
        assert!(steps.iter().filter(|step| **step != 960).count() <= 2, "{steps:?}");
    }

    #[test]
    fn silence_makes_a_talkspurt_and_a_new_stream_no_gap() {
        let mut down = Downlink::new(8_000, 0, 0);
        down.place(0, 0, 160, false);
        let place = down.place(1, 2_000, 160, false).unwrap();
        assert_eq!(place, Place { packet: 1, timestamp: 160 + 16_000, marker: true });
        let place = down.place(900_000, 77_000_000, 160, true).unwrap();
        assert_eq!(place, Place { packet: 2, timestamp: 160 + 16_160, marker: true });
        let jump = down.place(5, 77_000_020, 160, false).unwrap();
        assert_eq!((jump.packet, jump.marker), (3, true));
    }

    #[test]
    fn an_events_packets_share_its_time_and_audio_goes_on_after_them() {
        let mut down = Downlink::new(8_000, 0, 0);
        down.place(0, 1_000, 160, false);
        let event: Vec<_> = (1..4).map(|n| down.place_event(n, 1_020).unwrap()).collect();
        assert!(event.iter().all(|place| place.timestamp == 320), "{event:?}");
        assert_eq!(event.iter().map(|p| p.packet).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(down.place(4, 1_080, 160, false).unwrap().timestamp, 160 + 640);
    }

    #[test]
    fn a_packet_more_moves_what_follows_by_one() {
        let mut down = Downlink::new(8_000, 0, 0);
        assert_eq!(down.place(7, 1_000, 160, false).unwrap().packet, 0);
        assert_eq!(down.place_event(8, 1_020).unwrap().packet, 1);
        assert_eq!(down.insert(), 2);
        assert_eq!(down.place_event(9, 1_020).unwrap().packet, 3);
        assert_eq!(down.place(10, 1_040, 160, false).unwrap().packet, 4);
    }

    #[test]
    fn chunks_follow_packets_and_a_pause_is_no_loss() {
        let mut up = Uplink::default();
        assert_eq!(up.number(1, 5_000, 90_000, 48_000, 70), Some((0, 70)));
        assert_eq!(up.number(1, 5_002, 90_000 + 1_920, 48_000, 110), Some((2, 110)));
        assert_eq!(up.number(1, 5_001, 90_000 + 960, 48_000, 111), Some((1, 90)));
        assert_eq!(up.number(1, 4_999, 90_000 - 960, 48_000, 112), None);
        up.rest();
        assert_eq!(up.number(1, 5_500, 90_000 + 960 * 500, 48_000, 10_070), Some((3, 10_070)));
        // Another SSRC, and a clock that jumps.
        assert_eq!(up.number(2, 9, 1, 48_000, 10_090), Some((4, 10_090)));
        assert_eq!(up.number(2, 10, 48_000 * 60, 48_000, 10_110), Some((5, 10_110)));
    }

    #[test]
    fn what_is_not_passed_on_leaves_no_gap_either_way() {
        let mut up = Uplink::default();
        assert_eq!(up.number(1, 100, 0, 8_000, 9), Some((0, 9)));
        (101..104).for_each(|packet| up.skip(packet));
        assert_eq!(up.number(1, 104, 640, 8_000, 80), Some((1, 89)));
        // One of two is lost on the way.
        up.skip(106);
        assert_eq!(up.number(1, 107, 1_120, 8_000, 140), Some((3, 149)));
        let mut down = Downlink::new(8_000, 0, 0);
        down.place(5, 0, 160, false);
        (6..9).for_each(|seq| down.skip(seq));
        let place = down.place(9, 80, 160, false).unwrap();
        assert_eq!((place.packet, place.timestamp), (1, 160 + 640));
    }

    proptest::proptest! {
        #[test]
        fn no_numbers_are_too_wild(
            steps in proptest::collection::vec((proptest::num::u64::ANY, proptest::num::u64::ANY, 0..50_000u32), 1..40)
        ) {
            let (mut down, mut up) = (Downlink::new(48_000, 65_535, u32::MAX), Uplink::default());
            for (a, b, c) in steps {
                let (a, b) = (a >> 2, b >> 2);
                down.skip(b);
                up.skip(b);
                let _ = (down.place(a, b, c, false), down.place_event(b, a), up.number(c, a, b, c, a));
            }
        }
    }
}
