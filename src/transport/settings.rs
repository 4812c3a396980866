//! HTTP/3 SETTINGS: ours completed on the way out, the peer's read as they pass.

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::watch;

use super::varint;

/// RFC 9220 §5.
const ENABLE_CONNECT_PROTOCOL: u64 = 0x08;
/// RFC 9297 §2.1.1.
const H3_DATAGRAM: u64 = 0x33;
/// draft-ietf-webtrans-http3-02 §8.2: what Chromium looks for.
const ENABLE_WEBTRANSPORT: u64 = 0x2b60_3742;
/// draft-ietf-webtrans-http3-07 §8.2.
const WEBTRANSPORT_MAX_SESSIONS_07: u64 = 0xc671_706a;
/// draft-ietf-webtrans-http3-13 §9.2.
const WT_MAX_SESSIONS: u64 = 0x14e9_cd29;
/// The newest drafts' switch.
const WT_ENABLED: u64 = 0x2c7c_f000;

const FRAME_DATA: u64 = 0x00;
const FRAME_SETTINGS: u64 = 0x04;
const FRAME_GOAWAY: u64 = 0x07;
const STREAM_CONTROL: u64 = 0x00;

/// Any frame but DATA is held in memory until it is whole.
const MAX_FRAME: u64 = 64 * 1024;

/// What the peer said about itself, as far as WebTransport needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerSettings {
    /// It takes HTTP datagrams.
    pub h3_datagram: bool,
    /// It speaks WebTransport, by any draft's switch.
    pub webtransport: bool,
    /// It takes extended CONNECT.
    pub extended_connect: bool,
    /// It said GOAWAY since: new requests belong on another connection.
    pub going_away: bool,
}

/// The settings that both roles send beside what `h3` sends.
pub(super) fn ours(max_sessions: usize) -> Vec<(u64, u64)> {
    let sessions = max_sessions as u64;
    vec![
        (ENABLE_CONNECT_PROTOCOL, 1),
        (H3_DATAGRAM, 1),
        (ENABLE_WEBTRANSPORT, 1),
        (WEBTRANSPORT_MAX_SESSIONS_07, sessions),
        (WT_MAX_SESSIONS, sessions),
        (WT_ENABLED, 1),
    ]
}

/// The control stream's first write with `extra` put in; `None` if it is no SETTINGS frame.
pub(super) fn rewrite(first: &[u8], extra: &[(u64, u64)]) -> Option<Bytes> {
    let mut rest = first;
    let (kind, frame, len) = (varint::get(&mut rest)?, varint::get(&mut rest)?, varint::get(&mut rest)?);
    if kind != STREAM_CONTROL || frame != FRAME_SETTINGS || len != rest.len() as u64 {
        return None;
    }
    let mut body = BytesMut::new();
    let mut add = |id, value| {
        varint::put(&mut body, id);
        varint::put(&mut body, value);
    };
    while !rest.is_empty() {
        let (id, value) = (varint::get(&mut rest)?, varint::get(&mut rest)?);
        // RFC 9114 §7.2.4: the same identifier must not occur twice, and h3 sends all it knows, if only as 0.
        if !extra.iter().any(|(known, _)| *known == id) {
            add(id, value);
        }
    }
    for (id, value) in extra {
        add(*id, *value);
    }
    let mut out = BytesMut::new();
    varint::put(&mut out, STREAM_CONTROL);
    varint::put(&mut out, FRAME_SETTINGS);
    varint::put(&mut out, body.len() as u64);
    out.put(body);
    Some(out.freeze())
}

fn read(mut body: &[u8]) -> PeerSettings {
    let mut peer = PeerSettings::default();
    while let (Some(id), Some(value)) = (varint::get(&mut body), varint::get(&mut body)) {
        match id {
            ENABLE_CONNECT_PROTOCOL => peer.extended_connect = value == 1,
            H3_DATAGRAM => peer.h3_datagram = value == 1,
            ENABLE_WEBTRANSPORT | WEBTRANSPORT_MAX_SESSIONS_07 | WT_MAX_SESSIONS | WT_ENABLED => {
                peer.webtransport |= value > 0;
            }
            _ => {}
        }
    }
    peer
}

/// Reads SETTINGS and GOAWAY on the peer's control stream from a copy of its bytes.
#[derive(Debug)]
pub(super) struct Sniffer {
    guard: FrameGuard,
    seen: Vec<u8>,
    settled: bool,
    tell: watch::Sender<Option<PeerSettings>>,
}

impl Sniffer {
    pub(super) fn new(tell: watch::Sender<Option<PeerSettings>>) -> Self {
        // The stream type is one byte, unless a peer writes it longer than need be; then the guard is off by a few.
        Self { guard: FrameGuard::after(1), seen: Vec::new(), settled: false, tell }
    }

    /// Takes more bytes, from the stream type on; false if a frame is too large.
    fn check(&mut self, bytes: &[u8]) -> bool {
        let bounded = self.guard.check(bytes);
        if !self.settled {
            self.seen.extend_from_slice(bytes);
            self.settled = self.settle();
        }
        if std::mem::take(&mut self.guard.goaway) {
            self.tell.send_modify(|peer| {
                if let Some(peer) = peer {
                    peer.going_away = true;
                }
            });
        }
        bounded
    }

    /// True when there is nothing more to learn from the first frame.
    fn settle(&mut self) -> bool {
        let mut rest = &self.seen[..];
        let (Some(_), Some(frame), Some(len)) =
            (varint::get(&mut rest), varint::get(&mut rest), varint::get(&mut rest))
        else {
            return false;
        };
        // RFC 9114 §6.2.1: SETTINGS is the first frame; if it is not, h3 closes the connection.
        if frame == FRAME_SETTINGS && len <= MAX_FRAME {
            let Some(body) = usize::try_from(len).ok().and_then(|len| rest.get(..len)) else { return false };
            self.tell.send_replace(Some(read(body)));
        }
        self.seen = Vec::new();
        true
    }
}

/// Who looks at a stream's bytes as they pass.
#[derive(Debug)]
pub(super) enum Watch {
    /// Nobody: it holds no frames.
    Nobody,
    /// A request stream.
    Request(FrameGuard),
    /// The peer's control stream.
    Control(Sniffer),
}

impl Watch {
    /// False if the stream must not go on.
    pub(super) fn check(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::Nobody => true,
            Self::Request(guard) => guard.check(bytes),
            Self::Control(sniffer) => sniffer.check(bytes),
        }
    }
}

/// Follows the frames of a stream, so that none but DATA can be large: `h3` buffers them whole.
#[derive(Debug, Default)]
pub(super) struct FrameGuard {
    head: [u8; 16],
    have: usize,
    skip: u64,
    goaway: bool,
}

impl FrameGuard {
    /// A guard for a stream that starts with `skip` bytes of something else.
    fn after(skip: u64) -> Self {
        Self { skip, ..Self::default() }
    }

    /// False if a frame that begins in `bytes` is too large.
    fn check(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let passed = self.skip.min(bytes.len() as u64);
            self.skip -= passed;
            bytes = &bytes[passed as usize..];
            while self.skip == 0 && !bytes.is_empty() {
                self.head[self.have] = bytes[0];
                self.have += 1;
                bytes = &bytes[1..];
                let mut head = &self.head[..self.have];
                if let (Some(kind), Some(len)) = (varint::get(&mut head), varint::get(&mut head)) {
                    if kind != FRAME_DATA && len > MAX_FRAME {
                        return false;
                    }
                    self.goaway |= kind == FRAME_GOAWAY;
                    self.have = 0;
                    self.skip = len;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(settings: &[(u64, u64)]) -> Bytes {
        let mut body = BytesMut::new();
        for (id, value) in settings {
            varint::put(&mut body, *id);
            varint::put(&mut body, *value);
        }
        let mut out = BytesMut::from(&[0_u8, 4][..]);
        varint::put(&mut out, body.len() as u64);
        out.put(body);
        out.freeze()
    }

    #[test]
    fn settings_are_replaced_never_doubled() {
        let out =
            rewrite(&control(&[(6, 99), (H3_DATAGRAM, 0), (ENABLE_WEBTRANSPORT, 0)]), &ours(7)).unwrap();
        let mut rest = &out[3..];
        let mut all = Vec::new();
        while let (Some(id), Some(value)) = (varint::get(&mut rest), varint::get(&mut rest)) {
            all.push((id, value));
        }
        let mut expected = vec![(6, 99)];
        expected.extend(ours(7));
        assert_eq!(all, expected);
        assert!(rewrite(&[0, 1, 0], &ours(7)).is_none());
    }

    #[test]
    fn the_peers_settings_are_read_in_any_slices() {
        let bytes = control(&[(H3_DATAGRAM, 1), (WT_MAX_SESSIONS, 3), (ENABLE_CONNECT_PROTOCOL, 1)]);
        for step in 1..bytes.len() {
            let (tell, heard) = watch::channel(None);
            let mut sniffer = Sniffer::new(tell);
            assert!(bytes.chunks(step).all(|slice| sniffer.check(slice)));
            let mut all = PeerSettings::default();
            (all.h3_datagram, all.webtransport, all.extended_connect) = (true, true, true);
            assert_eq!(*heard.borrow(), Some(all));
            assert!([13, 1, 7, 7, 1, 0].iter().all(|byte| sniffer.check(&[*byte])));
            assert!(heard.borrow().unwrap().going_away);
        }
    }

    #[test]
    fn only_data_frames_may_be_large() {
        let frame = |kind: u64, len: u64| {
            let mut out = BytesMut::new();
            varint::put(&mut out, kind);
            varint::put(&mut out, len);
            out
        };
        let mut stream = frame(0, 100_000);
        stream.put_bytes(7, 100_000);
        stream.extend_from_slice(&frame(1, 10));
        stream.put_bytes(7, 10);
        for step in [1, 2, 1000, stream.len()] {
            let mut guard = FrameGuard::default();
            assert!(stream.chunks(step).all(|slice| guard.check(slice)));
            assert!(!guard.check(&frame(1, MAX_FRAME + 1)));
        }
    }
}
