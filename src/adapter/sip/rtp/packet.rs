//! RTP packets (RFC 3550 §5.1), with the audio level of RFC 6464.

/// The fixed head.
const HEAD: usize = 12;

/// What stands before the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) marker: bool,
    pub(super) payload_type: u8,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) ssrc: u32,
    /// Where the payload begins.
    pub(super) begins: usize,
    /// The payload ends with padding.
    padded: bool,
    /// RFC 6464: −dBov, with the voice bit on top.
    pub(super) level: Option<u8>,
}

/// RFC 5761 §4: RTCP where RTP may be.
pub(super) fn is_rtcp(packet: &[u8]) -> bool {
    matches!(packet, [128..=191, 192..=223, ..])
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

impl Head {
    /// None: no RTP. `level`: the id of the level's extension.
    pub(super) fn parse(packet: &[u8], level: Option<u8>) -> Option<Self> {
        let &[first, second, ..] = packet else { return None };
        if first >> 6 != 2 || is_rtcp(packet) {
            return None;
        }
        let mut begins = HEAD + 4 * usize::from(first & 15);
        let mut own = None;
        if first & 0x10 != 0 {
            let words = usize::from(half(packet, begins + 2)?);
            let body = packet.get(begins + 4..begins + 4 + 4 * words)?;
            // RFC 8285 §4.2
            if half(packet, begins)? == 0xbede {
                own = level.and_then(|id| element(body, id));
            }
            begins += 4 + 4 * words;
        }
        Some(Self {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7f,
            sequence: half(packet, 2)?,
            timestamp: word(packet, 4)?,
            ssrc: word(packet, 8)?,
            begins: (begins <= packet.len()).then_some(begins)?,
            padded: first & 0x20 != 0,
            level: own,
        })
    }

    /// What the packet carries, once it is in the clear; none: its padding is garbage.
    pub(super) fn payload<'a>(&self, packet: &'a [u8]) -> Option<&'a [u8]> {
        let payload = packet.get(self.begins..)?;
        match (self.padded, payload.last()) {
            (false, _) => Some(payload),
            (true, Some(&n)) if n > 0 => payload.get(..payload.len().checked_sub(n.into())?),
            (true, _) => None,
        }
    }
}

fn element(mut body: &[u8], id: u8) -> Option<u8> {
    while let [head, rest @ ..] = body {
        let (own, length) = (head >> 4, usize::from(head & 15) + 1);
        match own {
            0 => body = rest,
            15 => return None,
            _ if own == id => return rest.first().copied(),
            _ => body = rest.get(length..)?,
        }
    }
    None
}

/// What a packet of ours says before its payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing {
    pub(super) marker: bool,
    pub(super) payload_type: u8,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) ssrc: u32,
    /// The extension's id, and the level.
    pub(super) level: Option<(u8, u8)>,
}

/// Writes a packet; where its payload begins.
pub(super) fn write(out: &mut Vec<u8>, packet: &Outgoing, payload: &[u8]) -> usize {
    out.clear();
    out.push(0x80 | u8::from(packet.level.is_some()) << 4);
    out.push(u8::from(packet.marker) << 7 | packet.payload_type & 0x7f);
    out.extend(packet.sequence.to_be_bytes());
    out.extend(packet.timestamp.to_be_bytes());
    out.extend(packet.ssrc.to_be_bytes());
    if let Some((id, level)) = packet.level {
        out.extend([0xbe, 0xde, 0, 1, id << 4, level, 0, 0]);
    }
    let begins = out.len();
    out.extend_from_slice(payload);
    begins
}

/// Numbers that roll over, as numbers that don't.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unroll {
    sequence: Option<u64>,
    timestamp: Option<u64>,
}

impl Unroll {
    /// The extended sequence number and timestamp.
    pub(super) fn extend(&mut self, head: &Head) -> (u64, u64) {
        let newest = self.sequence.unwrap_or(1 << 16 | u64::from(head.sequence));
        let step = head.sequence.wrapping_sub(newest as u16) as i16;
        let sequence = newest.saturating_add_signed(step.into());
        self.sequence = Some(newest.max(sequence));
        let newest = self.timestamp.unwrap_or(1 << 32 | u64::from(head.timestamp));
        let step = head.timestamp.wrapping_sub(newest as u32) as i32;
        let timestamp = newest.saturating_add_signed(step.into());
        self.timestamp = Some(newest.max(timestamp));
        (sequence, timestamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: Outgoing = Outgoing {
        marker: true,
        payload_type: 8,
        sequence: 0xfffe,
        timestamp: 0xffff_ff00,
        ssrc: 0x0102_0304,
        level: None,
    };

    #[test]
    fn a_packet_is_read_as_it_is_written() {
        let mut packet = Vec::new();
        for level in [None, Some((3, 0x9f))] {
            let begins = write(&mut packet, &Outgoing { level, ..OUT }, b"hello");
            let head = Head::parse(&packet, Some(3)).unwrap();
            assert_eq!((head.marker, head.payload_type, head.sequence), (true, 8, 0xfffe));
            assert_eq!((head.timestamp, head.ssrc, head.begins), (0xffff_ff00, 0x0102_0304, begins));
            assert_eq!((head.level, head.payload(&packet)), (level.map(|(_, l)| l), Some(&b"hello"[..])));
        }
    }

    #[test]
    fn sources_extensions_and_padding_are_no_payload() {
        let mut packet = vec![0xb2, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        packet.extend([9; 8]);
        // An element of two bytes, padding, and the level.
        packet.extend([0xbe, 0xde, 0, 2, 0x11, 7, 7, 0, 0x20, 0x83, 0, 0]);
        packet.extend(b"data\0\0\x03");
        let head = Head::parse(&packet, Some(2)).unwrap();
        assert_eq!((head.level, head.payload(&packet)), (Some(0x83), Some(&b"data"[..])));
        *packet.last_mut().unwrap() = 200;
        assert_eq!(head.payload(&packet), None);
        *packet.last_mut().unwrap() = 0;
        assert_eq!(head.payload(&packet), None);
    }

    #[test]
    fn numbers_roll_over_and_back() {
        let mut unroll = Unroll::default();
        let mut at = |sequence, timestamp| {
            let mut packet = Vec::new();
            write(&mut packet, &Outgoing { sequence, timestamp, ..OUT }, &[]);
            unroll.extend(&Head::parse(&packet, None).unwrap())
        };
        let (s, t) = at(0xfffe, 0xffff_ff00);
        assert_eq!(at(1, 0x20), (s + 3, t + 0x120));
        assert_eq!(at(0xffff, 0xffff_ffa0), (s + 1, t + 0xa0));
        assert_eq!(at(2, 0xc0), (s + 4, t + 0x1c0));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(packet in proptest::collection::vec(0u8.., 0..80), id in 1..15u8) {
            if let Some(head) = Head::parse(&packet, Some(id)) {
                proptest::prop_assert!(head.begins <= packet.len());
                let _ = head.payload(&packet);
            }
        }
    }
}
