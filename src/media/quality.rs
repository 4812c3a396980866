//! How good a stream is: loss, jitter, delay, and the E-model's opinion score.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Sequence numbers behind the newest for which a late arrival still undoes a loss in the burst statistics.
const HORIZON: u64 = 64;
/// Half of the window over which the least transit time is remembered.
const TRANSIT_WINDOW: Duration = Duration::from_secs(5);
/// A change of transit greater than this is a new clock at the sender, not the network.
const CLOCK_JUMP_MS: f64 = 16_000.0;

/// A codec in the E-model: ITU-T G.113 Appendix I.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impairment {
    /// Equipment impairment factor at no loss.
    pub ie: f64,
    /// Packet-loss robustness factor.
    pub bpl: f64,
}

impl Impairment {
    /// By the payload types of the chunk format.
    ///
    /// G.711 with loss concealment (0, 25.1), G.729A (11, 19.0) and GSM-EFR for AMR (5, 10.0) are G.113's
    /// planning values. It has no narrowband value for opus and no scale shared with the wideband codecs: they
    /// count as no worse than G.711 without loss (Ie 0), and, a cautious choice of ours, as conceal-and-FEC codecs
    /// between G.729A and G.711 under it (Bpl 20).
    pub const fn of(payload_type: u64) -> Self {
        match payload_type {
            2 | 3 => Self { ie: 0.0, bpl: 25.1 },
            7 => Self { ie: 5.0, bpl: 10.0 },
            10 => Self { ie: 11.0, bpl: 19.0 },
            _ => Self { ie: 0.0, bpl: 20.0 },
        }
    }
}

/// R by ITU-T G.107, everything but delay, codec and loss at its default: 93.2 − Idd − Ie,eff.
///
/// `delay_ms` is mouth to ear, `loss` 0–1, `burst_ratio` 1 for random loss (G.107 §7.5). Echo is taken as
/// cancelled, so of Id only Idd is left (§7.4, sT = 1, mT = 100 ms).
pub fn rating(codec: Impairment, delay_ms: f64, loss: f64, burst_ratio: f64) -> f64 {
    let ppl = 100.0 * loss.clamp(0.0, 1.0);
    let ie_eff = codec.ie + (95.0 - codec.ie) * ppl / (ppl / burst_ratio.max(1.0) + codec.bpl);
    let idd = if delay_ms > 100.0 {
        let x = (delay_ms / 100.0).log2();
        let sixth = |x: f64| (1.0 + x.powi(6)).powf(1.0 / 6.0);
        25.0 * (sixth(x) - 3.0 * sixth(x / 3.0) + 2.0)
    } else {
        0.0
    };
    93.2 - idd - ie_eff
}

/// The mean opinion score of a rating, ITU-T G.107 Annex B.
pub fn mos(r: f64) -> f64 {
    match r {
        r if r <= 0.0 => 1.0,
        r if r >= 100.0 => 4.5,
        // Just above zero the cubic dips below 1.
        r => (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0),
    }
}

/// One entry of the `quality` event. Counts run from the stream's beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct StreamReport {
    /// Source id.
    pub source: u8,
    /// Sink id.
    pub sink: u8,
    /// Chunks sent.
    pub sent: u64,
    /// Different chunks received.
    pub received: u64,
    /// Chunks that never came.
    pub lost: u64,
    /// Chunks that came too late to be played.
    pub late: u64,
    /// Interarrival jitter, RFC 3550 §6.4.1.
    pub jitter_ms: f64,
    /// One-way delay, estimated.
    pub delay_ms: f64,
    /// Mean opinion score, 1–4.5.
    pub mos: f64,
}

/// The quality of one stream where it is received.
#[derive(Clone, Debug)]
pub struct Quality {
    codec: Impairment,
    received: u64,
    duplicate: u64,
    late: u64,
    /// Lost, of numbering that a reset ended.
    lost_before: u64,
    /// First and newest of the present numbering, and how many of it came.
    span: Option<(u64, u64, u64)>,
    /// Bit n: newest − n came.
    recent: u64,
    bursts: Bursts,
    transit: Option<Transit>,
    jitter_ms: f64,
    rtt: Option<Duration>,
    playout: Duration,
}

/// Runs of loss, counted once late arrivals cannot change them any more.
#[derive(Clone, Copy, Debug, Default)]
struct Bursts {
    settled: u64,
    lost: u64,
    runs: u64,
    in_run: bool,
}

/// Arrival time minus timestamp, ms; only differences mean anything.
#[derive(Clone, Copy, Debug)]
struct Transit {
    last: f64,
    smoothed: f64,
    /// The least of this half window and of the one before.
    least: [f64; 2],
    turned: Duration,
}

impl Quality {
    /// For a stream of this codec.
    pub fn new(codec: Impairment) -> Self {
        Self {
            codec,
            received: 0,
            duplicate: 0,
            late: 0,
            lost_before: 0,
            span: None,
            recent: 0,
            bursts: Bursts::default(),
            transit: None,
            jitter_ms: 0.0,
            rtt: None,
            playout: Duration::ZERO,
        }
    }

    /// Reads what the next chunk will want: see [`super::relay::Port::expect_arrival`].
    pub(super) fn expect(&self) {
        std::hint::black_box((self.received, self.recent, self.transit.map(|t| t.last), self.jitter_ms));
    }

    /// A chunk that was not there before (the ledger's `Fresh`).
    pub fn on_arrival(&mut self, now: Duration, seq: u64, timestamp: u64) {
        self.received += 1;
        let (first, newest, came) = self.span.unwrap_or((seq, seq, 0));
        if seq > newest || came == 0 {
            self.advance(if came == 0 { 0 } else { seq - newest });
        } else if newest - seq < HORIZON {
            self.recent |= 1 << (newest - seq);
        }
        self.span = Some((first.min(seq), newest.max(seq), came + 1));
        self.on_transit(now, timestamp);
    }

    /// A chunk that was there before.
    pub fn on_duplicate(&mut self) {
        self.duplicate += 1;
    }

    /// A chunk too late to be of use: the jitter buffer's word at an endpoint, the ledger's `Stale` at a relay.
    pub fn on_late(&mut self) {
        self.late += 1;
    }

    /// The numbering starts anew (the ledger's `Reset`); the chunk itself follows by [`Self::on_arrival`].
    pub fn on_reset(&mut self) {
        self.lost_before = self.lost();
        self.span = None;
        self.transit = None;
        self.bursts.in_run = false;
    }

    /// The stream goes on with another codec.
    pub fn set_codec(&mut self, codec: Impairment) {
        self.codec = codec;
    }

    /// The round trip of this hop, from a sender's ledger or a probe.
    pub fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = Some(rtt);
    }

    /// The delay of the jitter buffer, which the opinion score counts in.
    pub fn set_playout(&mut self, delay: Duration) {
        self.playout = delay;
    }

    /// Different chunks received.
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Duplicates received.
    pub const fn duplicate(&self) -> u64 {
        self.duplicate
    }

    /// Chunks that should be there and are not; a late arrival takes its loss back.
    pub fn lost(&self) -> u64 {
        self.lost_before
            + self.span.map_or(0, |(first, newest, came)| (newest - first + 1).saturating_sub(came))
    }

    /// Interarrival jitter, RFC 3550 §6.4.1, ms.
    pub const fn jitter_ms(&self) -> f64 {
        self.jitter_ms
    }

    /// One-way delay, ms: half the round trip, plus how far transit (smoothed as jitter is) has grown over its
    /// least value of the last 5–10 s. The clocks at both ends are never compared; the window forgets their drift.
    pub fn delay_ms(&self) -> f64 {
        let growth =
            self.transit.map_or(0.0, |transit| transit.smoothed - transit.least[0].min(transit.least[1]));
        self.rtt.map_or(0.0, |rtt| rtt.as_secs_f64() * 500.0) + growth.max(0.0)
    }

    /// How much longer bursts of loss are than random loss would make them (G.107's BurstR), at least 1.
    pub fn burst_ratio(&self) -> f64 {
        let Bursts { settled, lost, runs, .. } = self.bursts;
        if runs == 0 || lost == settled {
            return 1.0;
        }
        let mean = lost as f64 / runs as f64;
        (mean * (1.0 - lost as f64 / settled as f64)).max(1.0)
    }

    /// The opinion score so far: loss since the beginning, delay as it is now.
    pub fn mos(&self) -> f64 {
        let gone = (self.lost() + self.late) as f64;
        let loss = gone / (self.received + self.lost()).max(1) as f64;
        let delay = self.delay_ms() + self.playout.as_secs_f64() * 1000.0;
        mos(rating(self.codec, delay, loss, self.burst_ratio()))
    }

    /// The entry for the `quality` event; `sent` as far as the reporter knows it.
    pub fn report(&self, source: u8, sink: u8, sent: u64) -> StreamReport {
        let round = |value: f64, to: f64| (value * to).round() / to;
        StreamReport {
            source,
            sink,
            sent,
            received: self.received,
            lost: self.lost(),
            late: self.late,
            jitter_ms: round(self.jitter_ms, 10.0),
            delay_ms: round(self.delay_ms(), 10.0),
            mos: round(self.mos(), 100.0),
        }
    }

    /// The newest moved on by `steps` (0: the first of its numbering); what leaves the horizon is settled.
    fn advance(&mut self, steps: u64) {
        if steps == 0 {
            self.recent = u64::MAX;
            return;
        }
        for _ in 0..steps.min(HORIZON) {
            self.bursts.settle(self.recent >> (HORIZON - 1) != 0, 1);
            self.recent <<= 1;
        }
        if let Some(beyond @ 1..) = steps.checked_sub(HORIZON) {
            self.bursts.settle(false, beyond);
        }
        self.recent |= 1;
    }

    fn on_transit(&mut self, now: Duration, timestamp: u64) {
        let new = now.as_secs_f64() * 1000.0 - timestamp as f64;
        match &mut self.transit {
            Some(transit) if (new - transit.last).abs() < CLOCK_JUMP_MS => {
                self.jitter_ms += ((new - transit.last).abs() - self.jitter_ms) / 16.0;
                transit.smoothed += (new - transit.smoothed) / 16.0;
                transit.last = new;
                if now.saturating_sub(transit.turned) >= TRANSIT_WINDOW {
                    transit.least = [new, transit.least[0]];
                    transit.turned = now;
                }
                transit.least[0] = transit.least[0].min(new);
            }
            first => *first = Some(Transit { last: new, smoothed: new, least: [new; 2], turned: now }),
        }
    }
}

impl Bursts {
    fn settle(&mut self, came: bool, count: u64) {
        self.settled += count;
        if !came {
            self.lost += count;
            self.runs += u64::from(!self.in_run);
        }
        self.in_run = !came;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_e_model_gives_its_published_points() {
        let (g711, g729) = (Impairment::of(2), Impairment::of(10));
        // G.107 Annex B's table, which rounds up.
        for (r, score) in [(93.2, 4.41), (90.0, 4.34), (80.0, 4.03), (70.0, 3.60), (60.0, 3.10), (50.0, 2.58)]
        {
            assert!((mos(r) - score).abs() < 0.01, "{r}: {}", mos(r));
        }
        assert_eq!((mos(-3.0), mos(3.0), mos(120.0)), (1.0, 1.0, 4.5));
        assert_eq!(rating(g711, 100.0, 0.0, 1.0), 93.2);
        assert_eq!(rating(g729, 0.0, 0.0, 1.0), 82.2);
        // By hand: 95 · 2 / (2 + 25.1) = 7.011; with BurstR 2: 95 · 2 / (1 + 25.1) = 7.280.
        assert!((rating(g711, 0.0, 0.02, 1.0) - 86.189).abs() < 0.001);
        assert!((rating(g711, 0.0, 0.02, 2.0) - 85.920).abs() < 0.001);
        // Ta = 400: X = 2; 25 · (65^(1/6) − 3 · (1 + 64/729)^(1/6) + 2) = 24.070.
        assert!((rating(g711, 400.0, 0.0, 1.0) - 69.130).abs() < 0.01, "{}", rating(g711, 400.0, 0.0, 1.0));
    }

    #[test]
    fn loss_is_the_gap_until_the_missing_chunk_comes() {
        let mut quality = Quality::new(Impairment::of(1));
        for seq in [10, 11, 14, 15] {
            quality.on_arrival(ms(seq * 20), seq, seq * 20);
        }
        assert_eq!((quality.received(), quality.lost()), (4, 2));
        quality.on_arrival(ms(310), 12, 240);
        assert_eq!(quality.lost(), 1);
        quality.on_arrival(ms(310), 9, 180);
        assert_eq!((quality.received(), quality.lost()), (6, 1), "one from before the first adds no loss");
        quality.on_reset();
        quality.on_arrival(ms(330), 5_000_000, 320);
        assert_eq!(quality.lost(), 1);
    }

    #[test]
    fn jitter_follows_rfc_3550() {
        let mut quality = Quality::new(Impairment::of(1));
        for seq in 0..400 {
            quality.on_arrival(ms(1000 + seq * 20 + seq % 2 * 8), seq, seq * 20);
        }
        assert!(
            (quality.jitter_ms() - 8.0).abs() < 0.01,
            "transit alternates by 8 ms: {}",
            quality.jitter_ms()
        );
        quality.set_rtt(ms(60));
        assert!((quality.delay_ms() - 34.0).abs() < 0.5, "30 + 4 on average: {}", quality.delay_ms());
        quality.on_arrival(ms(9020), 400, 1_000_000);
        assert!((quality.jitter_ms() - 8.0).abs() < 0.01, "a new clock is no jitter");
    }

    #[test]
    fn bursts_of_loss_score_lower_than_spread_loss() {
        let run = |lost: fn(u64) -> bool| {
            let mut quality = Quality::new(Impairment::of(1));
            (0..2000)
                .filter(|seq| !lost(*seq))
                .for_each(|seq| quality.on_arrival(ms(seq * 20), seq, seq * 20));
            quality
        };
        let (spread, bursty) = (run(|seq| seq % 25 == 1), run(|seq| seq % 100 < 4 && seq > 3));
        assert_eq!(spread.burst_ratio(), 1.0);
        assert!((bursty.burst_ratio() - 3.84).abs() < 0.1, "{}", bursty.burst_ratio());
        assert!(bursty.lost().abs_diff(spread.lost()) <= 4 && bursty.mos() < spread.mos() - 0.05);
    }

    #[test]
    fn a_report_has_the_names_of_the_quality_event() {
        let mut quality = Quality::new(Impairment::of(2));
        quality.on_arrival(ms(20), 0, 0);
        let json = serde_json::to_string(&quality.report(1, 2, 7)).unwrap();
        let expected = r#"{"source":1,"sink":2,"sent":7,"received":1,"lost":0,"late":0,"jitter-ms":0.0,"delay-ms":0.0,"mos":4.41}"#;
        assert_eq!(json, expected);
    }
}
