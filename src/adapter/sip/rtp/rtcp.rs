//! RTCP (RFC 3550 §6): sender and receiver reports, and what is counted for them.

use std::time::Duration;

/// Packet types.
const SENDER: u8 = 200;
const RECEIVER: u8 = 201;
const SOURCE: u8 = 202;
const BYE: u8 = 203;
/// RFC 3550 §6.2: reports are five seconds apart, half of it before the first, and never all at once.
const EVERY: Duration = Duration::from_secs(5);
/// Seconds between the eras of NTP and Unix.
const NTP: u64 = 2_208_988_800;
/// Blocks of one packet that are read: our one is among the first, or the packet is not for us.
const MOST_BLOCKS: usize = 31;

/// How another side hears a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) about: u32,
    /// Of 256, since the last report.
    pub(super) fraction: u8,
    pub(super) lost: i32,
    highest: u32,
    /// In units of the source's clock.
    pub(super) jitter: u32,
    /// The middle of the NTP time of the source's last report, and how long ago that came, in 1/65536 s.
    last: u32,
    since: u32,
}

/// What a compound packet says that matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) ssrc: u32,
    /// The middle of its NTP time, of a sender.
    pub(super) sent: Option<u32>,
    pub(super) blocks: Vec<Block>,
    pub(super) bye: bool,
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Reads a compound packet; none: garbage (RFC 3550 §A.2).
pub(super) fn parse(mut bytes: &[u8]) -> Option<Report> {
    let mut report = Report { ssrc: word(bytes, 4)?, ..Report::default() };
    if !matches!(bytes.get(1), Some(&(SENDER | RECEIVER))) {
        return None;
    }
    while !bytes.is_empty() {
        let (&[first, kind], length) = (bytes.first_chunk()?, bytes.get(2..4)?);
        let length = 4 * (1 + usize::from(u16::from_be_bytes(length.try_into().ok()?)));
        let packet = bytes.get(..length).filter(|_| first >> 6 == 2)?;
        let count = usize::from(first & 31);
        let at = match kind {
            SENDER => {
                // NTP time, RTP time, packets, octets.
                report.sent = Some(word(packet, 8)? << 16 | word(packet, 12)? >> 16);
                28
            }
            RECEIVER => 8,
            _ => {
                report.bye |= kind == BYE;
                bytes = &bytes[length..];
                continue;
            }
        };
        for block in packet.get(at..)?.chunks_exact(24).take(count) {
            if report.blocks.len() == MOST_BLOCKS {
                break;
            }
            let lost = word(block, 4)?;
            report.blocks.push(Block {
                about: word(block, 0)?,
                fraction: (lost >> 24) as u8,
                // 24 bits with a sign.
                lost: (lost << 8) as i32 >> 8,
                highest: word(block, 8)?,
                jitter: word(block, 12)?,
                last: word(block, 16)?,
                since: word(block, 20)?,
            });
        }
        bytes = &bytes[length..];
    }
    Some(report)
}

/// What is heard of a source.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reception {
    ssrc: u32,
    first: u64,
    highest: u64,
    received: u64,
    before: (u64, u64),
    jitter: f64,
    transit: Option<(u32, f64)>,
    last: Option<(u32, Duration)>,
}

impl Reception {
    /// Of a source whose first packet has this extended number.
    pub(super) fn new(ssrc: u32, first: u64) -> Self {
        Self { ssrc, first, highest: first, before: (0, 0), ..Self::default() }
    }

    /// A packet came, with a clock of that rate.
    pub(super) fn on_packet(&mut self, now: Duration, sequence: u64, timestamp: u64, rate: u32) {
        self.received += 1;
        self.highest = self.highest.max(sequence);
        // RFC 3550 §A.8
        let transit = now.as_secs_f64() * f64::from(rate) - timestamp as f64;
        if let Some((_, before)) = self.transit.filter(|(of, _)| *of == rate) {
            self.jitter += ((transit - before).abs() - self.jitter) / 16.0;
        }
        self.transit = Some((rate, transit));
    }

    /// A sender report came.
    pub(super) fn on_report(&mut self, now: Duration, sent: u32) {
        self.last = Some((sent, now));
    }

    fn block(&mut self, now: Duration) -> Block {
        let expected = self.highest - self.first + 1;
        let lost = expected as i64 - self.received as i64;
        let (expected_now, received_now) =
            (expected.saturating_sub(self.before.0), self.received - self.before.1);
        self.before = (expected, self.received);
        let missing = expected_now.saturating_sub(received_now);
        let fraction = (missing * 256).checked_div(expected_now).unwrap_or(0).min(255) as u8;
        let (last, since) = self
            .last
            .map_or((0, 0), |(last, at)| (last, (now.saturating_sub(at).as_secs_f64() * 65_536.0) as u32));
        Block {
            about: self.ssrc,
            fraction,
            lost: lost.clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest: self.highest as u32,
            jitter: self.jitter as u32,
            last,
            since,
        }
    }
}

/// What we sent, and when we say so.
#[derive(Debug)]
pub(super) struct Reporter {
    ssrc: u32,
    name: String,
    pub(super) packets: u32,
    octets: u32,
    /// The newest packet: its RTP time, its clock, and when it went out.
    newest: Option<(u32, u32, Duration)>,
    told: u32,
    due: Option<Duration>,
}

impl Reporter {
    /// `name`: what stays when the SSRC changes (RFC 3550 §6.5.1).
    pub(super) fn new(ssrc: u32, name: String) -> Self {
        Self { ssrc, name, packets: 0, octets: 0, newest: None, told: 0, due: None }
    }

    pub(super) fn on_sent(&mut self, now: Duration, timestamp: u32, rate: u32, octets: usize) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(octets as u32);
        self.newest = Some((timestamp, rate, now));
    }

    /// Whether a report is due. `random` 0 to 1.
    pub(super) fn is_due(&mut self, now: Duration, random: f64) -> bool {
        // RFC 3550 §6.3.1: half of it to one and a half.
        let next = |share: f64| now + EVERY.mul_f64(share * (0.5 + random));
        match self.due {
            None => {
                self.due = Some(next(0.5));
                false
            }
            Some(due) if now >= due => {
                self.due = Some(next(1.0));
                true
            }
            Some(_) => false,
        }
    }

    /// Writes a report. `wall`: our clock, ms since 1970.
    pub(super) fn write(
        &mut self,
        out: &mut Vec<u8>,
        (now, wall): (Duration, u64),
        heard: Option<&mut Reception>,
        bye: bool,
    ) {
        out.clear();
        let block = heard.map(|reception| reception.block(now));
        let sent = self.newest.filter(|_| self.told != self.packets);
        self.told = self.packets;
        let kind = if sent.is_some() { SENDER } else { RECEIVER };
        let mut words = vec![self.ssrc];
        if let Some((timestamp, rate, at)) = sent {
            let seconds = (wall / 1_000 + NTP) as u32;
            let fraction = ((wall % 1_000) << 32) / 1_000;
            let since = now.saturating_sub(at).as_secs_f64() * f64::from(rate);
            words.extend([seconds, fraction as u32, timestamp.wrapping_add(since as u32)]);
            words.extend([self.packets, self.octets]);
        }
        if let Some(b) = &block {
            let lost = u32::from(b.fraction) << 24 | b.lost as u32 & 0xff_ffff;
            words.extend([b.about, lost, b.highest, b.jitter, b.last, b.since]);
        }
        packet(
            out,
            kind,
            block.iter().count() as u8,
            &words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<_>>(),
        );
        let mut chunk = self.ssrc.to_be_bytes().to_vec();
        chunk.extend([1, self.name.len() as u8]);
        chunk.extend(self.name.bytes());
        // RFC 3550 §6.5: ended by a zero, and filled up to a word.
        chunk.push(0);
        chunk.resize(chunk.len().next_multiple_of(4), 0);
        packet(out, SOURCE, 1, &chunk);
        if bye {
            packet(out, BYE, 1, &self.ssrc.to_be_bytes());
        }
    }

    /// The round trip that a block about us tells (RFC 3550 §6.4.1).
    pub(super) fn round_trip(&self, wall: u64, block: &Block) -> Option<Duration> {
        if block.last == 0 {
            return None;
        }
        let seconds = (wall / 1_000 + NTP) as u32;
        let now = seconds << 16 | ((wall % 1_000) * 65_536 / 1_000) as u32;
        let trip = now.wrapping_sub(block.last).wrapping_sub(block.since);
        // Clocks are read at different times: a little less than nothing is nothing.
        let trip = if trip > u32::MAX / 2 { 0 } else { trip };
        Some(Duration::from_secs_f64(f64::from(trip) / 65_536.0)).filter(|trip| trip.as_secs() < 60)
    }

    /// The clock of what we send.
    pub(super) fn rate(&self) -> u32 {
        self.newest.map_or(8_000, |(_, rate, _)| rate)
    }
}

fn packet(out: &mut Vec<u8>, kind: u8, count: u8, body: &[u8]) {
    out.extend([0x80 | count, kind]);
    out.extend(((body.len() / 4) as u16).to_be_bytes());
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const WALL: u64 = 1_700_000_000_000;

    #[test]
    fn two_sides_tell_each_other_loss_and_the_round_trip() {
        let mut here = Reporter::new(1, "here".into());
        let mut there = Reporter::new(2, "there".into());
        let mut heard = Reception::new(1, 100);
        for n in 0..50u64 {
            here.on_sent(MS * 20 * n as u32, 160 * n as u32, 8_000, 160);
            if n % 5 != 4 {
                heard.on_packet(MS * (20 * n as u32 + 30), 100 + n, 160 * n, 8_000);
            }
        }
        let mut bytes = Vec::new();
        here.write(&mut bytes, (MS * 1_000, WALL), None, false);
        let report = parse(&bytes).unwrap();
        assert_eq!((report.ssrc, report.blocks.len(), report.bye), (1, 0, false));
        // 30 ms there, 500 ms of waiting, 30 ms back.
        heard.on_report(MS * 1_030, report.sent.unwrap());
        there.write(&mut bytes, (MS * 1_530, 5), Some(&mut heard), true);
        let report = parse(&bytes).unwrap();
        assert_eq!((report.ssrc, report.sent, report.bye), (2, None, true));
        let block = report.blocks[0];
        // The last one of all was lost too, which nobody knows yet.
        assert_eq!((block.about, block.lost), (1, 9));
        assert_eq!(block.fraction, (9 * 256 / 49) as u8);
        assert_eq!(block.jitter, 0);
        let trip = here.round_trip(WALL + 560, &block).unwrap();
        assert!((58..=62).contains(&trip.as_millis()), "{trip:?}");
        // Nothing more was lost since.
        heard.on_packet(MS * 2_000, 150, 160 * 50, 8_000);
        there.write(&mut bytes, (MS * 2_000, 5), Some(&mut heard), false);
        let block = parse(&bytes).unwrap().blocks[0];
        assert_eq!((block.lost, block.fraction), (10, 128));
    }

    #[test]
    fn jitter_is_that_of_the_rfc() {
        let mut heard = Reception::new(1, 0);
        for n in 0..400u64 {
            let late = if n % 2 == 0 { 0 } else { 10 };
            heard.on_packet(MS * (20 * n as u32 + late), n, 160 * n, 8_000);
        }
        // 10 ms at 8 kHz.
        assert!((78..=80).contains(&heard.block(MS).jitter), "{}", heard.jitter);
    }

    #[test]
    fn reports_are_five_seconds_apart_and_not_all_at_once() {
        let mut reporter = Reporter::new(1, String::new());
        let at: Vec<_> =
            (0..300).filter(|n| reporter.is_due(MS * 100 * *n, f64::from(n % 7) / 7.0)).collect();
        assert!(at[0] <= 38, "{at:?}");
        assert!(at.windows(2).all(|two| (25..=75).contains(&(two[1] - two[0]))), "{at:?}");
        assert!((4..=9).contains(&at.len()), "{at:?}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(0u8.., 0..200), kind in 200..205u8) {
            let mut bytes = bytes;
            if bytes.len() > 4 {
                (bytes[0], bytes[1], bytes[2]) = (0x80 | bytes[0] & 31, kind, 0);
            }
            if let Some(report) = parse(&bytes) {
                proptest::prop_assert!(report.blocks.len() <= MOST_BLOCKS);
                let reporter = Reporter::new(1, String::new());
                proptest::prop_assert!(report.blocks.iter().all(|b| reporter.round_trip(7, b) < Some(Duration::MAX)));
            }
        }
    }
}
