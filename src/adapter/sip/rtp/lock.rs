//! Who is heard: symmetric RTP (RFC 4961), learnt once and then locked.

use std::net::SocketAddr;
use std::time::Duration;

use smallvec::SmallVec;

/// Packets in sequence that make a source (RFC 3550 §A.1).
const PROBATION: u8 = 3;
/// Sources that may be on probation at once.
const CANDIDATES: usize = 4;
/// A source that is silent for so long may begin anew with another SSRC, from the same address.
const SILENT: Duration = Duration::from_millis(500);

/// What is done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is heard.
    Heard,
    /// It is heard, and it is the first one of its source.
    First,
    /// It comes from another address.
    Stranger,
    /// It comes from the right address, with another SSRC.
    Foreign,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    from: SocketAddr,
    ssrc: u32,
    next: u16,
    count: u8,
}

/// The far side's source.
#[derive(Debug, Default)]
pub(super) struct Source {
    described: Option<SocketAddr>,
    /// Where it was heard before a restart.
    before: Option<SocketAddr>,
    locked: Option<(SocketAddr, u32)>,
    /// The description is new: another SSRC may follow at once.
    renewed: bool,
    newest: Duration,
    candidates: SmallVec<[Candidate; CANDIDATES]>,
}

impl Source {
    /// Where the newest description says that media goes; another place than before forgets who was heard.
    pub(super) fn describe(&mut self, to: Option<SocketAddr>) {
        if to.is_some() && to != self.described {
            self.described = to;
            (self.before, self.locked) = (None, None);
        }
        self.renewed = true;
        self.candidates.clear();
    }

    /// Where media goes.
    pub(super) fn target(&self) -> Option<SocketAddr> {
        self.locked.map(|(from, _)| from).or(self.before).or(self.described)
    }

    /// A source that was described, and perhaps heard elsewhere, before a restart.
    pub(super) fn resume(described: Option<SocketAddr>, before: Option<SocketAddr>) -> Self {
        Self { described, before, ..Self::default() }
    }

    /// Where it is heard, or was before a restart.
    pub(super) fn heard(&self) -> Option<SocketAddr> {
        self.locked.map(|(from, _)| from).or(self.before)
    }

    /// The address and SSRC that are heard.
    pub(super) fn locked(&self) -> Option<(SocketAddr, u32)> {
        self.locked
    }

    /// Whether a packet from there can't be heard, whatever it holds.
    pub(super) fn is_stranger(&self, from: SocketAddr) -> bool {
        self.locked.is_some_and(|(heard, _)| heard != from)
    }

    /// A valid packet came. `proven`: only who has the call's keys can have sent it.
    pub(super) fn on_packet(
        &mut self,
        now: Duration,
        from: SocketAddr,
        ssrc: u32,
        sequence: u16,
        proven: bool,
    ) -> Verdict {
        let refused = match self.locked {
            Some(heard) if heard == (from, ssrc) => {
                self.newest = now;
                return Verdict::Heard;
            }
            Some((heard, _)) if heard != from => return Verdict::Stranger,
            Some(_) => Verdict::Foreign,
            None => Verdict::Stranger,
        };
        let speaks = self.locked.is_some() && now.saturating_sub(self.newest) < SILENT;
        if speaks && !proven && !self.renewed {
            return refused;
        }
        let expected = [self.described, self.before].contains(&Some(from));
        let as_described = self.locked.is_none() && expected;
        if proven || as_described || self.on_probation(from, ssrc, sequence) {
            self.locked = Some((from, ssrc));
            self.renewed = false;
            self.newest = now;
            self.candidates.clear();
            return Verdict::First;
        }
        refused
    }

    /// Whether enough packets came in sequence.
    fn on_probation(&mut self, from: SocketAddr, ssrc: u32, sequence: u16) -> bool {
        let next = sequence.wrapping_add(1);
        match self.candidates.iter_mut().find(|one| (one.from, one.ssrc) == (from, ssrc)) {
            Some(known) => {
                known.count = if known.next == sequence { known.count + 1 } else { 1 };
                known.next = next;
                known.count >= PROBATION
            }
            None => {
                if self.candidates.len() == CANDIDATES {
                    self.candidates.remove(0);
                }
                self.candidates.push(Candidate { from, ssrc, next, count: 1 });
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(n: u8) -> SocketAddr {
        ([192, 0, 2, n], 4_000).into()
    }

    fn source() -> Source {
        let mut source = Source::default();
        source.describe(Some(at(1)));
        source
    }

    #[test]
    fn who_was_described_is_heard_at_once_and_nobody_else_after() {
        let mut source = source();
        assert_eq!(source.target(), Some(at(1)));
        assert_eq!(source.on_packet(MS, at(1), 7, 10, false), Verdict::First);
        for n in 0..10 {
            assert_eq!(source.on_packet(MS, at(2), 7, n, false), Verdict::Stranger);
            assert_eq!(source.on_packet(MS, at(1), 8, n, false), Verdict::Foreign);
        }
        assert_eq!(source.on_packet(MS, at(1), 7, 11, false), Verdict::Heard);
        assert!(source.is_stranger(at(2)) && source.target() == Some(at(1)));
    }

    #[test]
    fn another_address_is_learnt_by_three_in_sequence_and_locked() {
        let mut source = source();
        let mut heard = |from, sequence| source.on_packet(MS, from, 7, sequence, false);
        assert_eq!(heard(at(2), 5), Verdict::Stranger);
        assert_eq!(heard(at(2), 9), Verdict::Stranger);
        // Others in between don't help them.
        assert_eq!(heard(at(3), 10), Verdict::Stranger);
        assert_eq!(heard(at(2), 10), Verdict::Stranger);
        assert_eq!(heard(at(2), 11), Verdict::First);
        // The described one comes too late.
        assert_eq!(heard(at(1), 1), Verdict::Stranger);
        assert_eq!(source.target(), Some(at(2)));
        source.describe(Some(at(1)));
        assert_eq!((source.target(), source.locked()), (Some(at(2)), Some((at(2), 7))));
        source.describe(Some(at(4)));
        assert_eq!((source.target(), source.locked()), (Some(at(4)), None));
        assert_eq!(source.on_packet(MS, at(4), 7, 1, false), Verdict::First);
    }

    #[test]
    fn keys_prove_who_it_is() {
        let mut source = source();
        assert_eq!(source.on_packet(MS, at(2), 7, 5, true), Verdict::First);
        assert_eq!(source.on_packet(MS, at(2), 8, 5, true), Verdict::First);
        assert_eq!(source.on_packet(MS, at(1), 7, 5, true), Verdict::Stranger);
    }

    #[test]
    fn a_new_ssrc_follows_silence_or_a_description() {
        let mut source = source();
        source.on_packet(MS, at(1), 7, 10, false);
        let verdicts = [1, 2, 3].map(|n| source.on_packet(MS * 600, at(1), 8, n, false));
        assert_eq!(verdicts, [Verdict::Foreign, Verdict::Foreign, Verdict::First]);
        assert_eq!(source.on_packet(MS * 610, at(1), 7, 11, false), Verdict::Foreign);
        source.describe(Some(at(1)));
        let verdicts = [1, 2, 3].map(|n| source.on_packet(MS * 620, at(1), 9, n, false));
        assert_eq!(verdicts, [Verdict::Foreign, Verdict::Foreign, Verdict::First]);
    }

    #[test]
    fn a_crowd_of_strangers_takes_no_room() {
        let mut source = source();
        for n in 0..10_000u32 {
            assert_eq!(source.on_packet(MS, at(9), n, 1, false), Verdict::Stranger);
        }
        assert!(source.candidates.len() <= CANDIDATES);
        assert_eq!(source.on_packet(MS, at(1), 1, 1, false), Verdict::First);
    }
}
