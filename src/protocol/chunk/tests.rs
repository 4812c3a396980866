use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

fn encoded(header: &MediaHeader, media: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    encode(header, media, &mut out);
    out
}

/// One TLV, in the long form of tag or length when asked for.
fn tlv(tag: u64, value: &[u8], long: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let tag_nibble = if long || tag >= 15 { 15 } else { tag as u8 };
    let len_nibble = if long || value.len() >= 15 { 15 } else { value.len() as u8 };
    out.push(tag_nibble << 4 | len_nibble);
    if tag_nibble == 15 {
        varint::put(tag, &mut out);
    }
    if len_nibble == 15 {
        varint::put(value.len() as u64, &mut out);
    }
    out.extend_from_slice(value);
    out
}

fn with_envelope(envelope: &[u8], package: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint::put(envelope.len() as u64, &mut out);
    out.extend_from_slice(envelope);
    out.extend_from_slice(package);
    out
}

#[test]
fn many_unknown_tags_are_kept_and_far_too_many_are_refused() {
    let mut envelope = vec![0x11, 0, 0x21, 0];
    for tag in 1000..1032 {
        envelope.extend(tlv(tag, &[], false));
    }
    let bytes = with_envelope(&envelope, &[0x40]);
    assert_eq!(Chunk::parse(&bytes).unwrap().tlvs().count(), 34);
    envelope.extend(tlv(5000, &[], false));
    assert_eq!(Chunk::parse(&with_envelope(&envelope, &[0x40])), Err(ChunkError::TooManyTags));
}

#[test]
fn a_high_tag_twice_is_a_duplicate() {
    let mut envelope = vec![0x11, 0, 0x21, 0];
    envelope.extend(tlv(1000, &[1], false));
    envelope.extend(tlv(1001, &[2], false));
    envelope.extend(tlv(1000, &[3], true));
    assert_eq!(Chunk::parse(&with_envelope(&envelope, &[0x40])), Err(ChunkError::DuplicateTag(1000)));
}

#[test]
fn a_relay_drops_a_source_that_became_the_default() {
    let bytes = encoded(&MediaHeader { source: 3, sink: 4, whole: false, ..Default::default() }, b"x");
    let chunk = Chunk::parse(&bytes).unwrap();
    let new = Rewrite { source: Some(1), sink: Some(9), ..Default::default() };
    assert!(!new.is_verbatim() && Rewrite::default().is_verbatim());
    let mut out = BytesMut::new();
    rewrite(&chunk, &new, &mut out);
    let expected = encoded(&MediaHeader { sink: 9, whole: false, ..Default::default() }, b"x");
    let (out, expected) = (Chunk::parse(&out).unwrap(), Chunk::parse(&expected).unwrap());
    assert_eq!((out.source, out.sink, out.package), (1, 9, expected.package));
    assert_eq!(out.envelope.len(), expected.envelope.len());
}

#[test]
fn a_byway_body_is_walked_and_a_cut_one_ends_in_an_error() {
    let mut body = BytesMut::new();
    for chunk in [&b"one"[..], b"", &[7; 70]] {
        put_frame(chunk, &mut body);
    }
    assert_eq!(frames(&body).collect::<Result<Vec<_>, _>>(), Ok(vec![&b"one"[..], b"", &[7; 70]]));
    let mut cut = frames(&body[..body.len() - 1]).skip(2);
    assert_eq!((cut.next(), cut.next()), (Some(Err(FrameError)), None));
}

fn header() -> impl Strategy<Value = MediaHeader> {
    (
        (0..LIMIT, 0..LIMIT, any::<bool>(), any::<u64>(), any::<u8>(), any::<u8>(), any::<bool>()),
        (any::<u8>(), any::<u8>(), any::<Option<u8>>(), any::<Option<u64>>(), any::<Option<u64>>()),
    )
        .prop_map(|((seq, timestamp, whole, payload_type, source, sink, reference), rest)| {
            let (spatial, temporal, audio_level, sframe, duration) = rest;
            MediaHeader {
                seq,
                timestamp,
                whole,
                payload_type,
                source,
                sink,
                reference,
                spatial,
                temporal,
                audio_level,
                sframe,
                duration,
            }
        })
}

/// Unknown fields, short and long, each tag once.
fn extensions() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let tags = prop_oneof![13..20u64, 100..200u64, (1 << 30)..(1u64 << 30) + 9];
    let fields =
        prop::collection::btree_map(tags, (prop::collection::vec(any::<u8>(), 0..40), any::<bool>()), 0..8);
    fields.prop_map(|fields| fields.iter().map(|(tag, (value, long))| tlv(*tag, value, *long)).collect())
}

/// What the fields of `chunk` say, as a header.
fn read_back(chunk: &Chunk<'_>, like: &MediaHeader) -> MediaHeader {
    MediaHeader {
        seq: expand(chunk.seq.unwrap(), like.seq),
        timestamp: expand(chunk.timestamp.unwrap(), like.timestamp),
        whole: chunk.seq.unwrap().is_whole(),
        payload_type: chunk.payload_type,
        source: chunk.source,
        sink: chunk.sink,
        reference: chunk.reference,
        spatial: chunk.spatial,
        temporal: chunk.temporal,
        audio_level: chunk.audio_level,
        sframe: chunk.sframe,
        duration: chunk.duration,
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_parsed(header in header(), media in any::<Vec<u8>>()) {
        let bytes = encoded(&header, &media);
        let chunk = Chunk::parse(&bytes).unwrap();
        prop_assert_eq!(chunk.kind, Kind::Media);
        prop_assert_eq!(read_back(&chunk, &header), header);
        prop_assert_eq!(chunk.media(), Some(&media[..]));
    }

    #[test]
    fn unknown_tags_change_nothing_and_survive_a_relay(
        header in header(), unknown in extensions(), package in any::<Vec<u8>>(), new in header(), which in 0..16u8,
    ) {
        let plain = encoded(&header, &[]);
        let known = Chunk::parse(&plain).unwrap();
        let mut pieces: Vec<Vec<u8>> = known.tlvs().map(|tlv| tlv.raw.to_vec()).collect();
        for (at, field) in unknown.iter().enumerate() {
            pieces.insert((at * 7) % (pieces.len() + 1), field.clone());
        }
        let bytes = with_envelope(&pieces.concat(), &package);
        let chunk = Chunk::parse(&bytes).unwrap();
        prop_assert_eq!(read_back(&chunk, &header), header);

        let change = Rewrite {
            source: (which & 1 != 0).then_some(new.source),
            sink: (which & 2 != 0).then_some(new.sink),
            seq: (which & 4 != 0).then_some((new.seq, new.whole)),
            timestamp: (which & 8 != 0).then_some((new.timestamp, new.whole)),
        };
        let mut out = BytesMut::new();
        rewrite(&chunk, &change, &mut out);
        if change.is_verbatim() {
            prop_assert_eq!(&out[..], &bytes[..]);
        }
        let relayed = Chunk::parse(&out).unwrap();
        prop_assert_eq!(relayed.package, chunk.package);
        let others = |chunk: &Chunk<'_>| -> Vec<Vec<u8>> {
            chunk.tlvs().filter(|tlv| ![1, 2, 5, 6].contains(&tlv.tag)).map(|tlv| tlv.raw.to_vec()).collect()
        };
        prop_assert_eq!(others(&relayed), others(&chunk));
        prop_assert_eq!(relayed.source, change.source.unwrap_or(header.source));
        prop_assert_eq!(relayed.sink, change.sink.unwrap_or(header.sink));
        let (seq, whole) = change.seq.unwrap_or((header.seq, header.whole));
        prop_assert_eq!(relayed.seq.unwrap(), if whole { Wire::whole(seq) } else { Wire::short(seq) });
        let (timestamp, whole) = change.timestamp.unwrap_or((header.timestamp, header.whole));
        prop_assert_eq!(relayed.timestamp.unwrap(), if whole { Wire::whole(timestamp) } else { Wire::short(timestamp) });
    }

    #[test]
    fn two_bytes_expand_to_the_truth_within_half_their_span(newest in 0..LIMIT, away in -0x7fff..=0x8000i64) {
        let truth = newest as i64 + away;
        prop_assume!((0..LIMIT as i64).contains(&truth));
        prop_assert_eq!(expand(Wire::short(truth as u64), newest), truth as u64);
    }

    #[test]
    fn expansion_is_the_nearest_in_range_whatever_the_width(value in any::<u64>(), bytes in 1..=7u8, newest in 0..LIMIT) {
        let span = 1u64 << (8 * bytes);
        let wire = Wire { value: value & (span - 1), bytes };
        let got = expand(wire, newest);
        prop_assert!(got < LIMIT && got % span == wire.value);
        let away = got.abs_diff(newest);
        prop_assert!(away <= span / 2 || got < span || got >= LIMIT - span);
        prop_assert!(away != span / 2 || got > newest || got + span >= LIMIT);
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in any::<Vec<u8>>()) {
        for chunk in frames(&bytes).flatten().chain([&bytes[..]]) {
            if let Ok(chunk) = Chunk::parse(chunk) {
                let mut out = BytesMut::new();
                rewrite(&chunk, &Rewrite { seq: Some((1, true)), ..Default::default() }, &mut out);
                prop_assert_eq!(Chunk::parse(&out).unwrap().package, chunk.package);
                let _ = chunk.media();
            }
        }
    }

    #[test]
    fn broken_chunks_never_panic(header in header(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encoded(&header, b"media").to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = Chunk::parse(&bytes);
        let _ = Chunk::parse(&bytes[..at]);
    }
}
