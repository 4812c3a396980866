use super::*;
use proptest::prelude::*;
use serde_json::json;

fn ad(text: &str) -> Advertisement {
    Advertisement::parse(text).unwrap()
}

fn message(text: &str) -> String {
    Advertisement::parse(text).unwrap_err().to_string()
}

#[test]
fn a_line_is_a_sink_or_a_source_with_codecs_in_order() {
    let ad = ad("1 in: opus,cbr; PCMU; 2 out: H264,max-width=1280;");
    let [sink, source] = ad.entries() else { panic!("two entries") };
    assert_eq!((sink.id, sink.direction, sink.kind()), (1, Direction::In, Some(MediaKind::Audio)));
    assert_eq!((source.id, source.direction, source.kind()), (2, Direction::Out, Some(MediaKind::Video)));
    assert_eq!(sink.codecs[0].limit("cbr"), Some(1));
    assert_eq!(sink.codecs[1].name().as_str(), "PCMU");
    assert_eq!(source.codecs[0].params().get("max-width"), Some(1280));
    assert_eq!(ad.entry(1, Direction::In), Some(sink));
    assert_eq!(ad.entry(1, Direction::Out), None);
    assert!(ad.sinks().eq([sink]) && ad.sources().eq([source]));
}

#[test]
fn errors_say_where_and_what_in_words() {
    assert_eq!(message("1 up: opus;"), "at byte 2: expected `in` or `out`, found 'u'");
    assert_eq!(
        message("1 in: 3gpp-tt;"),
        "at byte 6: expected a codec name (a letter first, such as `opus`), found '3'"
    );
    assert_eq!(message("1 in"), "at byte 4: expected `:`, found the end");
    assert_eq!(message("0 in: opus;"), "at byte 0: an id is a whole number from 1 to 255");
    assert_eq!(message("1 in: opus; 1 IN: opus"), "at byte 12: `1 in` is already described by another line");
    assert_eq!(
        message("1 in: opus; AV1;"),
        "at byte 12: `AV1` is of another media type than the codecs before it; one line is all audio or all video"
    );
    assert_eq!(
        Advertisement::from_value(&json!([{"id": "1"}])).unwrap_err().to_string(),
        "at [0].id: expected an id from 1 to 255, found \"1\""
    );
    assert_eq!(
        Advertisement::from_value(&json!(null)).unwrap_err().to_string(),
        "the value as a whole: expected text, or an array of objects, found null"
    );
}

#[test]
fn the_limits_are_exact_and_the_errors_name_them() {
    let lines = |n: u32| {
        (0..n).map(|i| format!("{} {}: opus;", i / 2 + 1, ["in", "out"][i as usize % 2])).collect::<String>()
    };
    assert_eq!(ad(&lines(255)).entries().len(), 255);
    assert!(message(&lines(256)).ends_with("the limit is 255 entries"));
    let codecs = |n: usize| format!("1 in: {}", "x;".repeat(n));
    assert_eq!(ad(&codecs(64)).entries()[0].codecs.len(), 64);
    assert_eq!(message(&codecs(5000)), "at byte 134: too much: the limit is 64 codecs of one entry");
    let params = |n: usize| format!("1 in: opus{}", (0..n).map(|i| format!(",p{i}=7")).collect::<String>());
    assert_eq!(ad(&params(32)).entries()[0].codecs[0].params().len(), 32);
    assert!(message(&params(33)).ends_with("the limit is 32 parameters of a codec"));
    let padded = |n: usize| format!("1 in: opus;{}", " ".repeat(n - 11));
    assert_eq!(ad(&padded(MAX_TEXT)).to_string(), "1 in: opus;");
    assert_eq!(message(&padded(MAX_TEXT + 1)), "at byte 65536: too much: the limit is 65536 bytes of text");
    let named = |n: usize| format!("1 in: {};", "a".repeat(n));
    assert!(Advertisement::parse(&named(127)).is_ok());
    assert!(message(&named(128)).starts_with("at byte 6: too much: the limit is 127 characters"));
}

#[test]
fn what_would_print_too_long_to_be_read_again_is_refused() {
    let name = "n".repeat(100);
    let line = |id: u32| format!("{id} in:{}", format!("{name};").repeat(64));
    let text: String = (1..=10).map(line).collect();
    assert!(text.len() < MAX_TEXT && ad(&text).to_string().len() > text.len());
    let tight = "a;".repeat(64);
    let text: String = (0..255).map(|i| format!("{}{}:{tight}", i / 2 + 1, ["in", "out"][i % 2])).collect();
    assert!(text.len() < MAX_TEXT && ad(&text).to_string().len() < MAX_TEXT);
    let tight = "aaaaaaa;".repeat(63);
    let text: String = (1..=128).map(|id| format!("{id}in:{tight}")).collect();
    assert!(text.len() < MAX_TEXT);
    assert_eq!(message(&text), "the value as a whole: too much: the limit is 65536 bytes of text");
}

#[test]
fn hostile_text_is_refused_without_a_panic() {
    for text in [
        "99999999999999999999999999999999999999 in: opus;",
        "1 in: opus,br=99999999999999999999999999;",
        "1 in: opus,br=-9223372036854775809;",
        "1 in: opus,br=--1;",
        "1 in: opus,br=+1;",
        "1 in: 😀;",
        "１ in: opus;",
        "\u{feff}1 in: opus;",
        "1 in: opus\0;",
        ":",
        ";",
        "1",
        "1 in: opus,",
        "1 in: opus,br=",
        "1 in: opus;1",
    ] {
        let error = Advertisement::parse(text).unwrap_err();
        assert!(text.is_char_boundary(error.offset().unwrap()), "{text:?}: {error}");
    }
    let deep = format!("1{0}in{0}:{0}opus{0},{0}br{0}={0}5{0};{0}", " \r\n\t".repeat(1500));
    assert_eq!(ad(&deep).to_string(), "1 in: opus,br=5;");
}

#[test]
fn entries_made_by_hand_keep_the_rules_of_parsed_ones() {
    let entry = |id, codecs: &[&str]| Entry {
        id,
        direction: Direction::In,
        codecs: codecs.iter().map(|codec| codec.parse().unwrap()).collect(),
    };
    let refused = |entries| Advertisement::new(entries).unwrap_err().fault;
    assert_eq!(refused(vec![entry(0, &["opus"])]), Fault::Id);
    assert!(matches!(refused(vec![entry(1, &[])]), Fault::Expected { .. }));
    assert!(matches!(refused(vec![entry(1, &["opus", "VP8"])]), Fault::MixedMedia(_)));
    assert_eq!(refused(vec![entry(1, &["opus"]), entry(1, &["PCMU"])]), Fault::RepeatedLine("`1 in`".into()));
    assert!(matches!(refused(vec![entry(1, &["x"; 65])]), Fault::Limit { limit: 64, .. }));
    let made = Advertisement::new(vec![entry(2, &["opus, cbr"]), entry(1, &["PCMU"])]).unwrap();
    assert_eq!(made.to_string(), "1 in: PCMU;\n2 in: opus,cbr;");
    for bad in ["", "opus;", "opus PCMU", "opus,"] {
        assert!(bad.parse::<CodecSpec>().is_err(), "{bad:?}");
    }
}

#[test]
fn it_is_stored_as_its_canonical_text() {
    let phone = ad("1 out: OPUS; 1 in: opus");
    let stored = serde_json::to_string(&phone).unwrap();
    assert_eq!(stored, r#""1 in: opus;\n1 out: opus;""#);
    assert_eq!(serde_json::from_str::<Advertisement>(&stored).unwrap(), phone);
    assert!(serde_json::from_str::<Advertisement>(r#""1 up: opus""#).is_err());
}

#[test]
fn ringing_devices_share_what_all_have_at_the_strictest() {
    let desk = ad("1 in: opus,br=64000; G722; PCMU; CN; 1 out: opus,ptime=60; PCMU; 2 in: VP8;");
    let mobile = ad("1 in: CN; PCMU; opus,cbr,br=32000,sr=16000; 1 out: AMR; opus; 3 in: VP8;");
    let shared = Advertisement::shared(&[&desk, &mobile]);
    assert_eq!(shared, ad("1 in: opus,br=32000,cbr,sr=16000; PCMU; CN; 1 out: opus;"));
    assert_eq!(Advertisement::shared(&[&desk, &mobile, &ad("1 in: PCMU;")]), ad("1 in: PCMU;"));
    assert_eq!(Advertisement::shared(&[&desk, &ad("1 in: G729;")]), Advertisement::default());
    assert_eq!(Advertisement::shared(&[&ad("1 in: opus;"), &ad("1 in: VP8;")]), Advertisement::default());
    assert_eq!(Advertisement::shared(&[]), Advertisement::default());
    assert_eq!(Advertisement::shared(&[&desk]), desk);
}

#[test]
fn a_codec_listed_twice_is_shared_mention_by_mention() {
    let twice = ad("1 in: H264,max-width=3840,max-fps=30; H264,max-width=1280,max-fps=60;");
    assert_eq!(Advertisement::shared(&[&twice, &twice]), twice);
    assert_eq!(
        Advertisement::shared(&[&twice, &ad("1 in: H264;")]),
        ad("1 in: H264,max-width=3840,max-fps=30;")
    );
}

#[test]
fn a_codec_whose_limits_no_longer_fit_is_not_shared() {
    let side = |p: char| {
        let params: String = (0..32).map(|i| format!(",{p}{i}=7")).collect();
        ad(&format!("1 in: opus{params}; PCMU"))
    };
    assert_eq!(Advertisement::shared(&[&side('a'), &side('b')]), ad("1 in: PCMU"));
}

#[test]
fn the_server_faces_the_other_leg_with_the_same_ids_and_directions() {
    let phone = ad("1 in: opus; 2 out: PCMU;");
    assert_eq!(phone.facing(), phone);
}

fn codec(kind: bool) -> impl Strategy<Value = CodecSpec> {
    let audio = prop_oneof!["opus|PCMU|pcma|G722|cn|telephone-event|iLBC"];
    let video = prop_oneof!["VP8|h264|AV1|lyra"];
    let name = if kind { audio.boxed() } else { video.boxed() };
    let param = prop_oneof!["sr|ss|cbr|ch|ptime|br|fps|max-res|tlay|[a-z][a-z0-9.+-]{0,6}"];
    let value = prop_oneof![any::<i64>(), 0..3i64, Just(20), Just(48_000)];
    (name, proptest::collection::vec((param, value), 0..5)).prop_map(|(name, given)| {
        let mut params = Params::new();
        for (name, value) in given {
            let _ = params.insert(&name, value);
        }
        CodecSpec::new(name.parse().unwrap(), params)
    })
}

/// Any valid advertisement of a handful of entries.
pub(in crate::protocol) fn advertisements() -> impl Strategy<Value = Advertisement> {
    let codecs = any::<bool>().prop_flat_map(|kind| proptest::collection::vec(codec(kind), 1..6));
    let key = (1..6u8, prop_oneof![Just(Direction::In), Just(Direction::Out)]);
    proptest::collection::btree_map(key, codecs, 0..8).prop_map(|entries| {
        let entries = entries.into_iter().map(|((id, direction), codecs)| Entry { id, direction, codecs });
        Advertisement::new(entries.collect()).unwrap()
    })
}

proptest! {
    #[test]
    fn printed_and_read_again_it_is_the_same(ad in advertisements()) {
        let text = ad.to_string();
        prop_assert_eq!(&Advertisement::parse(&text).unwrap(), &ad);
        prop_assert_eq!(Advertisement::parse(&text.replace('\n', "").replace(' ', "\t\r\n")).unwrap(), ad);
    }

    #[test]
    fn the_json_twin_says_the_same(ad in advertisements()) {
        for form in [Form::Text, Form::Json] {
            prop_assert_eq!(Advertisement::from_value(&ad.to_value(form)).unwrap(), (ad.clone(), form));
        }
    }

    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Advertisement::parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn text_that_is_nearly_right_never_panics_and_prints_what_it_reads(
        text in "([0-9]{1,4}[ \n]?(in|out|to)[ :]{1,2}|opus|H264|;|,|=|br|-?[0-9]{1,20}|[ \n;]|é){0,30}",
    ) {
        match Advertisement::parse(&text) {
            Ok(ad) => prop_assert_eq!(Advertisement::parse(&ad.to_string()).unwrap(), ad),
            Err(error) => prop_assert!(error.offset().is_none_or(|at| text.is_char_boundary(at))),
        }
    }

    #[test]
    fn what_is_shared_is_stable_and_within_all(a in advertisements(), b in advertisements()) {
        let shared = Advertisement::shared(&[&a, &b]);
        prop_assert_eq!(&Advertisement::shared(&[&shared, &shared]), &shared);
        prop_assert_eq!(&Advertisement::parse(&shared.to_string()).unwrap(), &shared);
        for entry in shared.entries() {
            prop_assert!(a.entry(entry.id, entry.direction).is_some());
            prop_assert!(b.entry(entry.id, entry.direction).is_some());
        }
        prop_assert_eq!(Advertisement::shared(&[&a, &a]), a);
    }
}
