use proptest::prelude::*;

use super::*;
use crate::adapter::sip::digest::Digest;
use crate::adapter::sip::value::{find, param, parts};

/// TS 35.208 §4.3, test set 1.
const K: [u8; 16] = 0x465b_5ce8_b199_b49f_aa5f_0a2e_e238_a6bc_u128.to_be_bytes();
const OP: [u8; 16] = 0xcdc2_02d5_123e_20f6_2b6d_676a_c72c_b318_u128.to_be_bytes();
const OPC: [u8; 16] = 0xcd63_cb71_954a_9f4e_48a5_994e_37a0_2baf_u128.to_be_bytes();
const RAND: [u8; 16] = 0x2355_3cbe_9637_a89d_218a_e64d_ae47_bf35_u128.to_be_bytes();
const SQN: [u8; 6] = [0xff, 0x9b, 0xb4, 0xd0, 0xb6, 0x07];
const AMF: [u8; 2] = [0xb9, 0xb9];
const MAC_A: [u8; 8] = 0x4a9f_fac3_54df_afb3_u64.to_be_bytes();
const MAC_S: [u8; 8] = 0x01cf_af9e_c4e8_71e9_u64.to_be_bytes();
const RES: [u8; 8] = 0xa542_11d5_e3ba_50bf_u64.to_be_bytes();
const AK: [u8; 6] = [0xaa, 0x68, 0x9c, 0x64, 0x83, 0x70];
const AK_STAR: [u8; 6] = [0x45, 0x1e, 0x8b, 0xec, 0xa4, 0x3b];

fn keys() -> Keys {
    Keys::new(K, OPC)
}

fn bytes(sqn: u64) -> [u8; 6] {
    sqn.to_be_bytes()[2..].try_into().unwrap()
}

/// What a home network that counts at `sqn` would send.
fn autn(sqn: u64) -> [u8; 16] {
    let mut autn = [0; 16];
    autn[..6].copy_from_slice(&xor(bytes(sqn), AK));
    autn[8..].copy_from_slice(&keys().milenage().f1(&RAND, &bytes(sqn), &[0, 0]));
    autn
}

fn challenge(autn: [u8; 16]) -> String {
    let nonce = STANDARD.encode([RAND.as_slice(), autn.as_slice()].concat());
    format!("Digest realm=\"ims.test\", nonce=\"{nonce}\", algorithm=AKAv1-MD5, qop=\"auth\"")
}

#[test]
fn test_set_1_gives_its_codes() {
    assert_eq!(Keys::with_op(K, OP).opc, OPC);
    let mut sim = keys().milenage();
    assert_eq!(sim.f1(&RAND, &SQN, &AMF), MAC_A);
    assert_eq!(sim.f1star(&RAND, &SQN, &AMF), MAC_S);
    let (res, _, _, ak) = sim.f2345(&RAND);
    assert_eq!((res, ak, sim.f5star(&RAND)), (RES, AK, AK_STAR));
    let mut autn = [0; 16];
    autn[..6].copy_from_slice(&xor(SQN, AK));
    autn[6..8].copy_from_slice(&AMF);
    autn[8..].copy_from_slice(&MAC_A);
    // Its number is far ahead of a new SIM's, but not of one that has seen the one before.
    let mut sequence = Sequence::default();
    assert!(matches!(judge(&keys(), &mut sequence, &RAND, &autn), Verdict::OutOfStep(_)));
    sequence.seen[3] = (number(SQN) >> 5) - 1;
    assert_eq!(judge(&keys(), &mut sequence, &RAND, &autn), Verdict::Right(RES));
    for at in 0..16 {
        let mut forged = autn;
        forged[at] ^= 1;
        assert_eq!(judge(&keys(), &mut sequence, &RAND, &forged), Verdict::Forged, "{at}");
    }
}

#[test]
fn a_number_is_taken_once_and_older_ones_only_at_other_places() {
    let mut sequence = Sequence::default();
    let number = |seq: u64, index: u64| seq << 5 | index;
    assert!(!sequence.take(number(0, 0)));
    assert!(sequence.take(number(1, 0)));
    assert!(!sequence.take(number(1, 0)));
    assert!(sequence.take(number(1, 1)));
    assert!(sequence.take(number(9, 1)));
    assert!(sequence.take(number(2, 0)));
    assert!(!sequence.take(number(2, 0)));
    assert_eq!(sequence.highest(), number(9, 1));
    assert!(!sequence.take(number(9 + DELTA + 1, 2)));
    assert!(sequence.take(number(9 + DELTA, 2)));
    let kept = serde_json::to_string(&sequence).unwrap();
    let mut back: Sequence = serde_json::from_str(&kept).unwrap();
    assert_eq!(back, sequence);
    assert!(!back.take(number(9 + DELTA, 2)));
}

#[test]
fn a_challenge_is_answered_with_res_as_bytes_and_may_be_counted_on() {
    let aka = Aka::new("c@ims.test", keys(), Sequence::default(), [1; 32]);
    let text = challenge(autn(32));
    let value = aka.authorize(&text, "REGISTER", "sip:ims.test", b"", 1).unwrap();
    let all: Vec<_> = parts(value.strip_prefix("Digest ").unwrap(), ',').map(param).collect();
    let get = |name: &str| find(&all, name).unwrap();
    assert_eq!((get("algorithm"), get("nc"), get("username")), ("AKAv1-MD5", "00000001", "c@ims.test"));
    // The same sum by hand, over the eight bytes of RES.
    let hex = |parts: &[&[u8]]| {
        use md5::Digest as _;
        md5::Md5::digest(parts.concat()).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let key = hex(&[b"c@ims.test:ims.test:", &RES]);
    let sum = format!(
        "{key}:{}:00000001:{}:auth:{}",
        get("nonce"),
        get("cnonce"),
        hex(&[b"REGISTER:sip:ims.test"])
    );
    assert_eq!(get("response"), hex(&[sum.as_bytes()]));
    assert_eq!(aka.sequence().highest(), 32);
    // Its nonce again: the network counts on, and no number is used up.
    let second = aka.authorize(&text, "REGISTER", "sip:ims.test", b"", 2).unwrap();
    assert!(second.contains("nc=00000002") && !second.contains("auts="));
    // After a restart it is an old challenge.
    let again = Aka::new("c@ims.test", keys(), aka.sequence(), [1; 32]);
    assert!(again.authorize(&text, "REGISTER", "sip:ims.test", b"", 1).unwrap().contains("auts="));
}

#[test]
fn a_network_out_of_step_is_told_the_number_and_a_forger_nothing() {
    let mut sequence = Sequence::default();
    assert!(sequence.take(1 << 20 | 4));
    let aka = Aka::new("c", keys(), sequence, [1; 32]);
    let answer = |autn| aka.answer(&Challenge::all([challenge(autn).as_str()])[0], asked());
    let late = answer(autn(36)).unwrap();
    let auts = late.value.split_once("auts=\"").unwrap().1.trim_end_matches('"');
    let auts = STANDARD.decode(auts).unwrap();
    assert_eq!(auts.len(), 14);
    // As the home network reads it: our number, and the proof that it is ours.
    let own = xor(auts[..6].try_into().unwrap(), AK_STAR);
    assert_eq!(number(own), 1 << 20 | 4);
    assert_eq!(auts[6..], keys().milenage().f1star(&RAND, &own, &[0, 0]));
    let empty = Digest::new("c", "", [1; 32]);
    let plain = Challenge::all([challenge(autn(36)).as_str()])[0].clone();
    assert_eq!(late.value.split_once(", auts").unwrap().0, empty.answer(&plain, asked()));
    assert!(late.invalid);

    let mut forged = autn(1 << 21);
    forged[15] ^= 1;
    let forged = answer(forged).unwrap();
    assert!(forged.invalid && forged.value.contains("response=\"\"") && !forged.value.contains("auts"));
    assert_eq!(aka.sequence().highest(), 1 << 20 | 4);
    // Then the network follows.
    assert!(!answer(autn((1 << 20) + 36)).unwrap().invalid);
    assert_eq!(format!("{aka:?} {:?}", keys()), "Aka Keys");
}

fn asked() -> Asked<'static> {
    Asked { method: "REGISTER", uri: "sip:ims.test", body: b"", count: 1 }
}

#[test]
fn what_is_no_aka_challenge_is_not_answered() {
    let aka = Aka::new("c", keys(), Sequence::default(), [1; 32]);
    let ask = |text: &str| aka.authorize(text, "REGISTER", "sip:ims.test", b"", 1);
    assert_eq!(ask("Digest realm=\"r\", nonce=\"n\", algorithm=MD5"), None);
    for nonce in ["", "====", "AAAA", "é", &STANDARD.encode([0; 31]), &"A".repeat(MAX_NONCE + 4)] {
        let text = format!("Digest realm=\"r\", nonce=\"{nonce}\", algorithm=AKAv1-MD5");
        assert_eq!(ask(&text), None, "{nonce}");
    }
}

proptest! {
    #[test]
    fn any_nonce_is_judged_without_panic_and_none_but_the_network_s_moves_the_numbers(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let aka = Aka::new("c", keys(), Sequence::default(), [1; 32]);
        let text = format!("Digest realm=\"r\", nonce=\"{}\", algorithm=AKAv1-MD5", STANDARD.encode(&bytes));
        let answer = aka.authorize(&text, "REGISTER", "sip:x", b"", 1);
        prop_assert_eq!(answer.is_some(), bytes.len() >= 32);
        prop_assert_eq!(aka.sequence(), Sequence::default());
    }
}
