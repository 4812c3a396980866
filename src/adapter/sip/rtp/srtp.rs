//! SRTP and SRTCP (RFC 3711) with AES_CM_128 and HMAC-SHA1 (RFC 4568 §6.2).

use aes::Aes128;
use aes::cipher::{InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper};
use ctr::CtrCore;
use ctr::flavors::Ctr128BE;
use ring::hmac;

use super::crypto::{Key, Suite};

/// RFC 3711 §5.2; SRTCP's is the same with either suite (RFC 4568 §6.2.2).
const LONG: usize = 10;
const SHORT: usize = 4;
/// Packets behind the newest that may still come; the RFC wants 64.
const WINDOW: u64 = 128;
/// SSRCs of one key that are known at once.
const SOURCES: usize = 4;
/// Roll-overs that may have been missed: a day of 50 packets a second.
const ROLLED: u64 = 66;
/// RFC 3711 §3.4: the top bit says that it is encrypted.
const ENCRYPTED: u32 = 1 << 31;

/// What packets are encrypted and signed with.
struct Keys {
    cipher: Aes128,
    salt: [u8; 14],
    auth: hmac::Key,
}

impl Keys {
    /// RFC 3711 §4.3: derived once, with labels 0 to 2 for RTP and 3 to 5 for RTCP.
    fn derive(material: &[u8; 30], first: u8) -> Self {
        let (key, salt) = material.split_at(16);
        let master = Aes128::new(key.try_into().expect("16 of 30 bytes"));
        let make = |label: u8, out: &mut [u8]| {
            let mut iv = [0; 16];
            iv[..14].copy_from_slice(salt);
            iv[7] ^= label;
            stream(&master, &iv, out);
        };
        let (mut key, mut auth, mut salt) = ([0; 16], [0; 20], [0; 14]);
        make(first, &mut key);
        make(first + 1, &mut auth);
        make(first + 2, &mut salt);
        let auth = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &auth);
        Self { cipher: Aes128::new(&key.into()), salt, auth }
    }

    /// RFC 3711 §4.1.1; both ways.
    fn crypt(&self, ssrc: u32, index: u64, data: &mut [u8]) {
        let mut iv = [0; 16];
        iv[..14].copy_from_slice(&self.salt);
        let block = u128::from_be_bytes(iv) ^ u128::from(ssrc) << 64 ^ u128::from(index) << 16;
        stream(&self.cipher, &block.to_be_bytes(), data);
    }

    fn sign(&self, parts: [&[u8]; 2]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.auth);
        parts.iter().for_each(|part| context.update(part));
        context.sign()
    }
}

fn stream(cipher: &Aes128, iv: &[u8; 16], data: &mut [u8]) {
    let core = CtrCore::<Aes128, Ctr128BE>::inner_iv_init(cipher.clone(), iv.into());
    StreamCipherCoreWrapper::from_core(core).apply_keystream(data);
}

/// In constant time.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// Which packets came.
#[derive(Clone, Copy, Debug, Default)]
struct Replay {
    newest: Option<u64>,
    seen: u128,
}

impl Replay {
    fn is_new(&self, index: u64) -> bool {
        match self.newest {
            Some(newest) if index <= newest => {
                newest - index < WINDOW && self.seen >> (newest - index) & 1 == 0
            }
            _ => true,
        }
    }

    fn note(&mut self, index: u64) {
        let newest = self.newest.unwrap_or(index);
        if index >= newest {
            self.seen = self.seen.checked_shl((index - newest).min(WINDOW) as u32).unwrap_or(0) | 1;
            self.newest = Some(index);
        } else {
            self.seen |= 1 << (newest - index).min(WINDOW - 1);
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Incoming {
    ssrc: u32,
    rtp: Replay,
    rtcp: Replay,
}

impl Incoming {
    /// RFC 3711 §3.3.1: the index that is nearest to the newest.
    fn index(&self, sequence: u16) -> u64 {
        let newest = self.rtp.newest.unwrap_or(sequence.into());
        let step = sequence.wrapping_sub(newest as u16) as i16;
        newest.checked_add_signed(step.into()).unwrap_or(sequence.into())
    }
}

/// One direction's keys, and what was done with them.
pub(super) struct Context {
    key: Key,
    rtp: Keys,
    rtcp: Keys,
    /// Who is heard, newest first.
    sources: Vec<Incoming>,
    /// The index of the newest packet that went out.
    sent: Option<u64>,
    /// Of the next report.
    reports: u32,
    /// How often the numbers of who is heard may have begun anew before.
    rolled: u64,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context({:?})", self.key)
    }
}

impl Context {
    pub(super) fn new(key: &Key) -> Self {
        let (rtp, rtcp) = (Keys::derive(&key.material, 0), Keys::derive(&key.material, 3));
        Self { key: key.clone(), rtp, rtcp, sources: Vec::new(), sent: None, reports: 0, rolled: 0 }
    }

    /// Of a key that the far side used before we had it: RFC 3711 §3.3.1's roll-over counter is not known, and looked for.
    pub(super) fn late(key: &Key) -> Self {
        Self { rolled: ROLLED, ..Self::new(key) }
    }

    /// Whether it goes on with this key.
    pub(super) fn is_for(&self, key: &Key) -> bool {
        let own = &self.key;
        (own.suite, &own.material, &own.mki) == (key.suite, &key.material, &key.mki)
    }

    fn tag(&self) -> usize {
        match self.key.suite {
            Suite::Long => LONG,
            Suite::Short => SHORT,
        }
    }

    /// Makes SRTP of a packet whose payload begins there. False: its number was used too long ago.
    pub(super) fn protect(&mut self, packet: &mut Vec<u8>, begins: usize) -> bool {
        let (Some(sequence), Some(ssrc)) = (half(packet, 2), word(packet, 8)) else { return false };
        let newest = self.sent.unwrap_or(sequence.into());
        let step = sequence.wrapping_sub(newest as u16) as i16;
        let Some(index) = newest.checked_add_signed(step.into()) else { return false };
        self.sent = Some(newest.max(index));
        self.rtp.crypt(ssrc, index, &mut packet[begins..]);
        let tag = self.rtp.sign([packet, &((index >> 16) as u32).to_be_bytes()]);
        packet.extend_from_slice(&self.key.mki);
        packet.extend_from_slice(&tag.as_ref()[..self.tag()]);
        true
    }

    /// What is signed, and whether the rest is the right name; none: too short, or another key.
    fn split<'a>(&self, packet: &'a [u8], tag: usize) -> Option<(usize, &'a [u8])> {
        let signed = packet.len().checked_sub(tag + self.key.mki.len())?;
        let (name, tag) = packet[signed..].split_at(self.key.mki.len());
        (name == self.key.mki).then_some((signed, tag))
    }

    /// Makes RTP of a packet whose payload begins there; how long it is. None: it is a replay, or not of this key.
    pub(super) fn unprotect(&mut self, packet: &mut [u8], begins: usize) -> Option<usize> {
        let (signed, tag) = self.split(packet, self.tag()).filter(|(signed, _)| *signed >= begins)?;
        let (sequence, ssrc) = (half(packet, 2)?, word(packet, 8)?);
        let mut source = self.source(ssrc);
        let (first, tries) =
            (source.index(sequence), if source.rtp.newest.is_none() { self.rolled } else { 0 });
        let index = (0..=tries).map(|rolled| first + (rolled << 16)).find(|index| {
            let own = self.rtp.sign([&packet[..signed], &((index >> 16) as u32).to_be_bytes()]);
            same(&own.as_ref()[..tag.len()], tag)
        })?;
        if !source.rtp.is_new(index) {
            return None;
        }
        source.rtp.note(index);
        self.keep(source);
        self.rtp.crypt(ssrc, index, &mut packet[begins..signed]);
        Some(signed)
    }

    /// Makes SRTCP of a compound packet.
    pub(super) fn protect_report(&mut self, packet: &mut Vec<u8>) -> bool {
        let Some(ssrc) = word(packet, 4) else { return false };
        let index = self.reports;
        self.reports = (index + 1) & !ENCRYPTED;
        self.rtcp.crypt(ssrc, index.into(), &mut packet[8..]);
        packet.extend((index | ENCRYPTED).to_be_bytes());
        let tag = self.rtcp.sign([packet, &[]]);
        packet.extend_from_slice(&self.key.mki);
        packet.extend_from_slice(&tag.as_ref()[..LONG]);
        true
    }

    /// Makes RTCP of it; how long it is.
    pub(super) fn unprotect_report(&mut self, packet: &mut [u8]) -> Option<usize> {
        let (signed, tag) = self.split(packet, LONG)?;
        let end = signed.checked_sub(4).filter(|end| *end >= 8)?;
        let (ssrc, index) = (word(packet, 4)?, word(packet, end)?);
        let own = self.rtcp.sign([&packet[..signed], &[]]);
        let (encrypted, index) = (index & ENCRYPTED != 0, u64::from(index & !ENCRYPTED));
        let mut source = self.source(ssrc);
        if !encrypted || !source.rtcp.is_new(index) || !same(&own.as_ref()[..LONG], tag) {
            return None;
        }
        source.rtcp.note(index);
        self.keep(source);
        self.rtcp.crypt(ssrc, index, &mut packet[8..end]);
        Some(end)
    }

    fn source(&self, ssrc: u32) -> Incoming {
        let known = self.sources.iter().find(|source| source.ssrc == ssrc);
        known.copied().unwrap_or(Incoming { ssrc, ..Incoming::default() })
    }

    fn keep(&mut self, source: Incoming) {
        match self.sources.iter_mut().find(|known| known.ssrc == source.ssrc) {
            Some(known) => *known = source,
            None => {
                self.sources.insert(0, source);
                self.sources.truncate(SOURCES);
            }
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
