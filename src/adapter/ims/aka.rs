//! AKAv1-MD5 (RFC 3310): digest authentication whose password a SIM's keys make anew for each challenge.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use milenage::Milenage;
use serde::{Deserialize, Serialize};

use crate::adapter::sip::digest::{Asked, Challenge, answer};
use crate::adapter::sip::ua::Credentials;

/// TS 33.102 §C.1.1.1: the last bits of a sequence number choose a place in the array.
const INDEX_BITS: u32 = 5;
const PLACES: usize = 1 << INDEX_BITS;
/// TS 33.102 §C.2.1: how far a number may run ahead, so that nobody can wear the numbers out.
const DELTA: u64 = 1 << 28;
/// The longest nonce that is read, encoded.
const MAX_NONCE: usize = 1024;

/// A SIM's keys.
#[derive(Clone)]
pub struct Keys {
    k: [u8; 16],
    opc: [u8; 16],
}

impl Keys {
    /// K, and the operator's code as derived for it.
    pub fn new(k: [u8; 16], opc: [u8; 16]) -> Self {
        Self { k, opc }
    }

    /// K, and the operator's code as it is the same for all.
    pub fn with_op(k: [u8; 16], op: [u8; 16]) -> Self {
        Self { k, opc: *Milenage::new_with_op(k, op).opc() }
    }

    fn milenage(&self) -> Milenage {
        Milenage::new_with_opc(self.k, self.opc)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

/// The sequence numbers that were taken (TS 33.102 §C.2). Lost, one re-synchronisation and the network's word bring it back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    seen: [u64; PLACES],
}

impl Sequence {
    /// The highest one with its index: what a re-synchronisation tells.
    pub fn highest(&self) -> u64 {
        let whole = |(index, seq): (usize, &u64)| seq << INDEX_BITS | index as u64;
        self.seen.iter().enumerate().map(whole).max().unwrap_or(0)
    }

    /// TS 33.102 §C.2.2: takes a number that is new at its place and not too far ahead.
    fn take(&mut self, sqn: u64) -> bool {
        let (seq, index) = (sqn >> INDEX_BITS, (sqn % PLACES as u64) as usize);
        let highest = self.highest() >> INDEX_BITS;
        let fresh = seq > self.seen[index] && seq.saturating_sub(highest) <= DELTA;
        if fresh {
            self.seen[index] = seq;
        }
        fresh
    }
}

/// What a challenge comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The network has the keys, and the challenge is new: RES.
    Right([u8; 8]),
    /// It has the keys, but not our sequence number: AUTS.
    OutOfStep([u8; 14]),
    /// It hasn't got the keys.
    Forged,
}

/// Judges a challenge: RAND and AUTN.
pub fn judge(keys: &Keys, sequence: &mut Sequence, rand: &[u8; 16], autn: &[u8; 16]) -> Verdict {
    let mut sim = keys.milenage();
    let (res, _, _, ak) = sim.f2345(rand);
    let [c0, c1, c2, c3, c4, c5, amf0, amf1, mac @ ..] = *autn;
    let sqn = xor([c0, c1, c2, c3, c4, c5], ak);
    if sim.f1(rand, &sqn, &[amf0, amf1]) != mac {
        return Verdict::Forged;
    }
    if sequence.take(number(sqn)) {
        return Verdict::Right(res);
    }
    // TS 33.102 §6.3.3: AUTS is our number, hidden, and a MAC over it with an AMF of zeros.
    let [.., s0, s1, s2, s3, s4, s5] = sequence.highest().to_be_bytes();
    let own = [s0, s1, s2, s3, s4, s5];
    let mac = sim.f1star(rand, &own, &[0, 0]);
    let mut auts = [0; 14];
    auts[..6].copy_from_slice(&xor(own, sim.f5star(rand)));
    auts[6..].copy_from_slice(&mac);
    Verdict::OutOfStep(auts)
}

fn xor(mut one: [u8; 6], other: [u8; 6]) -> [u8; 6] {
    one.iter_mut().zip(other).for_each(|(a, b)| *a ^= b);
    one
}

fn number(sqn: [u8; 6]) -> u64 {
    sqn.iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// RFC 3310 §3.2: the nonce holds RAND, AUTN and perhaps more.
fn nonce(text: &str) -> Option<([u8; 16], [u8; 16])> {
    if text.len() > MAX_NONCE {
        return None;
    }
    let bytes = STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
    Some((bytes.get(..16)?.try_into().ok()?, bytes.get(16..32)?.try_into().ok()?))
}

/// The answer to a challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The value of Authorization.
    pub value: String,
    /// TS 24.229 §5.1.1.5.3: the challenge was not valid, and a valid one is to follow.
    pub invalid: bool,
}

/// A user with a SIM's keys.
pub struct Aka {
    user: String,
    keys: Keys,
    seed: [u8; 32],
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sequence: Sequence,
    /// The challenge that was answered last: its nonce may be answered again, counted on.
    last: Option<(String, [u8; 8])>,
}

impl Aka {
    /// `sequence` is what [`Aka::sequence`] was; `seed` is random and secret.
    pub fn new(user: &str, keys: Keys, sequence: Sequence, seed: [u8; 32]) -> Self {
        let state = Mutex::new(State { sequence, last: None });
        Self { user: user.to_owned(), keys, seed, state }
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// To be kept whenever it changed, before the answer is sent.
    pub fn sequence(&self) -> Sequence {
        self.state().sequence.clone()
    }

    /// The value of Authorization for this challenge; none if it is no AKA challenge.
    pub fn answer(&self, challenge: &Challenge, asked: Asked<'_>) -> Option<Answer> {
        if !challenge.algorithm.aka {
            return None;
        }
        let (rand, autn) = nonce(&challenge.nonce)?;
        let mut state = self.state();
        let verdict = match &state.last {
            Some((nonce, res)) if *nonce == challenge.nonce => Verdict::Right(*res),
            _ => judge(&self.keys, &mut state.sequence, &rand, &autn),
        };
        Some(match verdict {
            Verdict::Right(res) => {
                state.last = Some((challenge.nonce.clone(), res));
                let value = answer(challenge, &self.user, &res, asked, &self.seed);
                Answer { value, invalid: false }
            }
            // RFC 3310 §3.4: computed with an empty password.
            Verdict::OutOfStep(auts) => {
                let value = answer(challenge, &self.user, b"", asked, &self.seed);
                Answer { value: format!("{value}, auts=\"{}\"", STANDARD.encode(auts)), invalid: true }
            }
            // TS 24.229 §5.1.1.5.3: neither auts nor a response.
            Verdict::Forged => {
                let value = answer(challenge, &self.user, b"", asked, &self.seed);
                Answer { value: without_response(&value), invalid: true }
            }
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn without_response(value: &str) -> String {
    let Some((before, after)) = value.split_once("response=\"") else { return value.to_owned() };
    let rest = after.split_once('"').map(|(_, rest)| rest).unwrap_or_default();
    format!("{before}response=\"\"{rest}")
}

impl Credentials for Aka {
    fn authorize(&self, challenge: &str, method: &str, uri: &str, body: &[u8], count: u32) -> Option<String> {
        let all = Challenge::all([challenge]);
        let asked = Asked { method, uri, body, count };
        all.iter().find_map(|challenge| self.answer(challenge, asked)).map(|answer| answer.value)
    }
}

impl fmt::Debug for Aka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aka")
    }
}

#[cfg(test)]
#[path = "aka_tests.rs"]
mod tests;
