//! Packages of control chunks: acks, probes, need-whole.

use std::ops::RangeInclusive;

use bytes::{BufMut, BytesMut};
use smallvec::SmallVec;

use super::chunk::{ControlType, encode_control};
use super::varint;

/// Runs that one ack holds at most; the last is a received one, so the count is odd and 63 is the greatest.
pub const MAX_RUNS: usize = 64;

/// Runs of an ack; few in nearly all of them.
pub type Runs = SmallVec<[u64; 8]>;

/// Why the package of a control chunk is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PackageError {
    /// A field is missing or cut short.
    #[error("package cut short")]
    Truncated,
    /// An ack without runs, or whose first run is empty: it acknowledges nothing.
    #[error("first run is empty")]
    NoFirstRun,
    /// An ack whose last run is one of missing chunks.
    #[error("last run is not a received one")]
    LastMissing,
    /// More than 64 runs.
    #[error("more than 64 runs")]
    TooManyRuns,
    /// Runs that reach below sequence number 0.
    #[error("runs reach below sequence number 0")]
    BelowZero,
    /// A nonce that is not 1–16 bytes, or bytes behind a need-whole.
    #[error("wrong length")]
    Length,
}

impl PackageError {
    /// The name under which drops are counted.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::NoFirstRun => "no-first-run",
            Self::LastMissing => "last-missing",
            Self::TooManyRuns => "too-many-runs",
            Self::BelowZero => "below-zero",
            Self::Length => "length",
        }
    }
}

/// What arrived of one stream on one hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Source id, as received.
    pub source: u8,
    /// Sink id, as received.
    pub sink: u8,
    /// The newest sequence number that arrived.
    pub newest: u64,
    /// Milliseconds since it arrived.
    pub delay_ms: u64,
    /// Lengths going back from the newest: received, missing, received, …
    pub runs: Runs,
}

impl Ack {
    /// Reads the package of an ack.
    pub fn parse(package: &[u8]) -> Result<Self, PackageError> {
        let [source, sink, rest @ ..] = package else { return Err(PackageError::Truncated) };
        let mut rest = rest;
        let mut next = || varint::take(&mut rest).ok_or(PackageError::Truncated);
        let (newest, delay_ms) = (next()?, next()?);
        let mut runs = Runs::new();
        let mut left = newest + 1;
        while !rest.is_empty() {
            if runs.len() == MAX_RUNS {
                return Err(PackageError::TooManyRuns);
            }
            let run = varint::take(&mut rest).ok_or(PackageError::Truncated)?;
            left = left.checked_sub(run).ok_or(PackageError::BelowZero)?;
            runs.push(run);
        }
        if matches!(runs.first(), None | Some(0)) {
            return Err(PackageError::NoFirstRun);
        }
        if runs.len().is_multiple_of(2) {
            return Err(PackageError::LastMissing);
        }
        Ok(Self { source: *source, sink: *sink, newest, delay_ms, runs })
    }

    /// Appends the package to `out`.
    pub fn put_package(&self, out: &mut BytesMut) {
        out.put_slice(&[self.source, self.sink]);
        varint::put(self.newest, out);
        varint::put(self.delay_ms, out);
        for run in &self.runs {
            varint::put(*run, out);
        }
    }

    /// Appends the whole control chunk to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        encode_control(ControlType::Ack, &[], out);
        self.put_package(out);
    }

    /// The received ranges, newest first.
    pub fn received(&self) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        self.ranges().filter_map(|(received, range)| received.then_some(range))
    }

    /// The missing ranges, newest first; missing means not yet.
    pub fn missing(&self) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        self.ranges().filter_map(|(received, range)| (!received).then_some(range))
    }

    /// The lowest sequence number that the ack says anything about.
    pub fn lowest(&self) -> u64 {
        let covered = self.runs.iter().fold(0u64, |sum, run| sum.saturating_add(*run));
        self.newest.saturating_add(1).saturating_sub(covered)
    }

    fn ranges(&self) -> impl Iterator<Item = (bool, RangeInclusive<u64>)> + '_ {
        let mut above = self.newest.saturating_add(1);
        self.runs.iter().enumerate().filter_map(move |(index, &run)| {
            let low = above.checked_sub(run)?;
            let range = low..=above.saturating_sub(1);
            above = low;
            (run > 0).then_some((index % 2 == 0, range))
        })
    }
}

/// The package of a probe and of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nonce {
    bytes: [u8; 16],
    len: u8,
}

impl Nonce {
    /// 1–16 bytes, from us or from a probe's package.
    pub fn new(package: &[u8]) -> Result<Self, PackageError> {
        let mut bytes = [0; 16];
        match u8::try_from(package.len()) {
            Ok(len @ 1..=16) => {
                bytes[..package.len()].copy_from_slice(package);
                Ok(Self { bytes, len })
            }
            _ => Err(PackageError::Length),
        }
    }

    /// The bytes to send, and to compare an answer with.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Appends a probe to `out`.
    pub fn encode_probe(&self, out: &mut BytesMut) {
        encode_control(ControlType::Probe, self.as_bytes(), out);
    }

    /// Appends the answer to a probe to `out`.
    pub fn encode_answer(&self, out: &mut BytesMut) {
        encode_control(ControlType::ProbeAnswer, self.as_bytes(), out);
    }
}

/// Asks the sender of a stream for whole values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NeedWhole {
    /// Source id, as received.
    pub source: u8,
    /// Sink id, as received.
    pub sink: u8,
}

impl NeedWhole {
    /// Reads the package of a need-whole.
    pub const fn parse(package: &[u8]) -> Result<Self, PackageError> {
        match *package {
            [source, sink] => Ok(Self { source, sink }),
            [] | [_] => Err(PackageError::Truncated),
            _ => Err(PackageError::Length),
        }
    }

    /// Appends the whole control chunk to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        encode_control(ControlType::NeedWhole, &[self.source, self.sink], out);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::chunk::{Chunk, Kind};

    #[test]
    fn ranges_go_back_from_the_newest() {
        let ack = Ack { source: 1, sink: 2, newest: 10, delay_ms: 3, runs: vec![2, 1, 3, 0, 1, 3, 1].into() };
        assert_eq!(ack.received().collect::<Vec<_>>(), [9..=10, 5..=7, 4..=4, 0..=0]);
        assert_eq!(ack.missing().collect::<Vec<_>>(), [8..=8, 1..=3]);
        assert_eq!(ack.lowest(), 0);
    }

    #[test]
    fn a_nonce_is_1_to_16_bytes_and_comes_back() {
        assert_eq!(Nonce::new(&[]), Err(PackageError::Length));
        assert_eq!(Nonce::new(&[0; 17]), Err(PackageError::Length));
        let nonce = Nonce::new(&[7; 16]).unwrap();
        let mut out = BytesMut::new();
        nonce.encode_answer(&mut out);
        let chunk = Chunk::parse(&out).unwrap();
        assert_eq!(chunk.kind, Kind::Control(ControlType::ProbeAnswer));
        assert_eq!(Nonce::new(chunk.package), Ok(nonce));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in any::<Vec<u8>>()) {
            let _ = (Nonce::new(&bytes), NeedWhole::parse(&bytes));
            if let Ok(ack) = Ack::parse(&bytes) {
                prop_assert!(ack.received().all(|range| range.end() <= &ack.newest));
                prop_assert!(ack.missing().all(|range| range.end() < &ack.newest));
            }
        }

        #[test]
        fn an_ack_is_read_as_it_was_written(
            ids in any::<(u8, u8)>(), spare in 0..1u64 << 40, delay_ms in 0..100_000u64,
            mut runs in prop::collection::vec(1..1u64 << 20, 1..64),
        ) {
            if runs.len().is_multiple_of(2) {
                runs.pop();
            }
            let newest = runs.iter().sum::<u64>() - 1 + spare;
            let ack = Ack { source: ids.0, sink: ids.1, newest, delay_ms, runs: runs.into() };
            let mut out = BytesMut::new();
            ack.encode(&mut out);
            let chunk = Chunk::parse(&out).unwrap();
            prop_assert_eq!(chunk.kind, Kind::Control(ControlType::Ack));
            prop_assert_eq!(ack.lowest(), spare);
            prop_assert_eq!(Ack::parse(chunk.package), Ok(ack));
        }
    }
}
