//! RFC 3711's own vectors, and what a hostile network does to packets.

use super::*;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|n| u8::from_str_radix(&text[n..n + 2], 16).unwrap()).collect()
}

/// RFC 3711 §B.3
fn key(suite: Suite) -> Key {
    let material = hex("e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6");
    Key { suite, tag: 1, material: material.try_into().unwrap(), mki: Vec::new() }
}

/// RFC 3711 §B.2
#[test]
fn the_key_stream_is_that_of_the_rfc() {
    let cipher: [u8; 16] = hex("2b7e151628aed2a6abf7158809cf4f3c").try_into().unwrap();
    let keys = Keys {
        cipher: Aes128::new(&cipher.into()),
        salt: hex("f0f1f2f3f4f5f6f7f8f9fafbfcfd").try_into().unwrap(),
        auth: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &[]),
    };
    let mut data = vec![0; 0xff02 * 16];
    keys.crypt(0, 0, &mut data);
    assert_eq!(
        data[..48],
        hex(
            "e03ead0935c95e80e166b16dd92b4eb4d23513162b02d0f72a43a2fe4a5f97ab41e95b3bb0a2e8dd477901e4fca894c0"
        )
    );
    assert_eq!(
        data[0xfeff * 16..],
        hex(
            "ec8cdf7398607cb0f2d21675ea9ea1e4362b7c3c6773516318a077d7fc5073ae6a2cc3787889374fbeb4c81b17ba6c44"
        )
    );
}

/// RFC 3711 §B.3
#[test]
fn keys_are_derived_as_in_the_rfc() {
    let material = key(Suite::Long).material;
    let keys = Keys::derive(&material, 0);
    assert_eq!(keys.salt[..], hex("30cbbc08863d8c85d49db34a9ae1"));
    let mut stream_of_ours = [0; 16];
    let expected =
        Aes128::new(&<[u8; 16]>::try_from(hex("c61e7a93744f39ee10734afe3ff7a087")).unwrap().into());
    let mut stream_of_rfc = [0; 16];
    stream(&keys.cipher, &[7; 16], &mut stream_of_ours);
    stream(&expected, &[7; 16], &mut stream_of_rfc);
    assert_eq!(stream_of_ours, stream_of_rfc);
    let auth =
        hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &hex("cebe321f6ff7716b6fd4ab49af256a156d38baa4"));
    assert_eq!(keys.sign([b"a", b"b"]).as_ref(), hmac::sign(&auth, b"ab").as_ref());
}

fn packet(sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 8];
    packet.extend(sequence.to_be_bytes());
    packet.extend([0, 0, 0, 9, 0, 0, 0, 7]);
    packet.extend(format!("payload {sequence}").bytes());
    packet
}

fn sent(context: &mut Context, sequence: u16) -> Vec<u8> {
    let mut out = packet(sequence);
    assert!(context.protect(&mut out, 12));
    out
}

fn taken(context: &mut Context, packet: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = packet.to_vec();
    let length = context.unprotect(&mut bytes, 12)?;
    Some(bytes[..length].to_vec())
}

#[test]
fn packets_come_back_in_any_order_once_and_across_the_roll_over() {
    for suite in Suite::ALL {
        let (mut here, mut there) = (Context::new(&key(suite)), Context::new(&key(suite)));
        let numbers: Vec<u16> = (0..300u16).map(|n| n.wrapping_add(65_400)).collect();
        let mut packets: Vec<_> = numbers.iter().map(|n| sent(&mut here, *n)).collect();
        assert_eq!(packets[0].len(), packet(65_400).len() + if suite == Suite::Long { 10 } else { 4 });
        assert!(packets.iter().zip(&numbers).all(|(out, n)| out[12..20] != packet(*n)[12..20]));
        // Each pair swapped, over the roll-over too.
        (0..packets.len() - 1).step_by(2).for_each(|n| packets.swap(n, n + 1));
        for (n, out) in packets.iter().enumerate() {
            assert_eq!(taken(&mut there, out), Some(packet(numbers[n ^ 1])), "{n}");
            assert_eq!(taken(&mut there, out), None, "a replay of {n}");
        }
        // Far behind the window.
        assert_eq!(taken(&mut there, &packets[100]), None);
    }
}

#[test]
fn another_key_a_changed_bit_or_a_cut_packet_is_not_taken() {
    let (mut here, mut there) = (Context::new(&key(Suite::Long)), Context::new(&key(Suite::Long)));
    let out = sent(&mut here, 5);
    for at in 0..out.len() {
        let mut changed = out.clone();
        changed[at] ^= 1;
        assert_eq!(taken(&mut there, &changed), None, "{at}");
        assert_eq!(taken(&mut there, &out[..at]), None, "{at}");
    }
    let mut other = Key { material: [3; 30], ..key(Suite::Long) };
    assert_eq!(taken(&mut Context::new(&other), &out), None);
    assert_eq!(taken(&mut there, &out), Some(packet(5)));
    // RFC 3711 §3.1: a name between payload and tag.
    other.mki = vec![0, 1];
    let (mut here, mut there) = (Context::new(&other), Context::new(&other));
    let named = sent(&mut here, 6);
    assert_eq!((named.len(), taken(&mut there, &named)), (packet(6).len() + 12, Some(packet(6))));
}

#[test]
fn reports_are_numbered_by_themselves_and_signed_whole() {
    let (mut here, mut there) = (Context::new(&key(Suite::Short)), Context::new(&key(Suite::Short)));
    let clear = hex("80c9000100000007deadbeef");
    for n in 0..5u32 {
        let mut out = clear.clone();
        assert!(here.protect_report(&mut out));
        // RFC 4568 §6.2.2: 80 bits with this suite too.
        assert_eq!(out.len(), clear.len() + 4 + 10);
        assert_eq!(out[12..16], (n | 1 << 31).to_be_bytes());
        let mut changed = out.clone();
        changed[9] ^= 1;
        assert_eq!(there.unprotect_report(&mut changed), None);
        let mut twice = out.clone();
        let length = there.unprotect_report(&mut out).unwrap();
        assert_eq!(out[..length], clear[..]);
        assert_eq!(there.unprotect_report(&mut twice), None);
    }
}

#[test]
fn a_key_knows_a_few_sources_only() {
    let (mut here, mut there) = (Context::new(&key(Suite::Long)), Context::new(&key(Suite::Long)));
    for ssrc in 0..100u32 {
        let mut out = packet(1);
        out[8..12].copy_from_slice(&ssrc.to_be_bytes());
        assert!(here.protect(&mut out, 12));
        assert!(there.unprotect(&mut out, 12).is_some());
    }
    assert!(there.sources.len() <= SOURCES);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(0u8.., 0..80)) {
        let mut context = Context::new(&key(Suite::Short));
        let mut data = bytes.clone();
        proptest::prop_assert_eq!(context.unprotect(&mut data, 12), None);
        proptest::prop_assert_eq!(context.unprotect_report(&mut data), None);
    }
}

/// RFC 3711 §3.3.1: who comes late doesn't know how often the sequence numbers began anew.
#[test]
fn who_comes_late_finds_out_how_often_numbers_began_anew() {
    for suite in Suite::ALL {
        let key = key(suite);
        let (mut sender, mut late, mut naive) = (Context::new(&key), Context::late(&key), Context::new(&key));
        let mut last = Vec::new();
        for n in 0..0x2_0010_u32 {
            // Every sixteenth is enough for the sender to keep count.
            if n % 16 == 0 {
                last = packet(n as u16);
                assert!(sender.protect(&mut last, 12));
            }
        }
        assert_eq!(naive.unprotect(&mut last.clone(), 12), None);
        let mut forged = last.clone();
        forged[20] ^= 1;
        assert_eq!(late.unprotect(&mut forged, 12), None);
        assert_eq!(late.unprotect(&mut last.clone(), 12), Some(packet(0).len()));
        assert_eq!(late.unprotect(&mut last, 12), None, "a replay");
        let mut next = packet(1);
        assert!(sender.protect(&mut next, 12));
        assert!(late.unprotect(&mut next, 12).is_some());
    }
}
