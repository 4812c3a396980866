use super::*;
use crate::protocol::advertisement::{Direction, tests::advertisements};
use proptest::prelude::*;

fn ad(text: &str) -> Advertisement {
    Advertisement::parse(text).unwrap()
}

fn directives(text: &str) -> Directives {
    Directives::parse(text).unwrap()
}

#[test]
fn a_stream_allows_its_codec_and_what_rides_along_and_nothing_else() {
    let directives = directives("1 to 2: CN; opus,ptime=10; 3 to 1: VP8;");
    let stream = directives.stream(1, 2).unwrap();
    assert_eq!(stream.codec().unwrap().payload_type(), Some(PayloadType::OPUS));
    assert!(stream.allows(PayloadType::OPUS) && stream.allows(PayloadType::CN));
    assert!(!stream.allows(PayloadType::PCMU) && !stream.allows(PayloadType(0)));
    assert_eq!(directives.stream(2, 1), None);
    assert_eq!(directives.audio(), Some(stream));
    assert_eq!(directives.audio_codec().unwrap().limit("ptime"), Some(10));
    assert_eq!(directives.stream(3, 1).unwrap().kind(), Some(MediaKind::Video));
    assert!(!directives.is_empty() && Directives::default().is_empty());
    assert_eq!(Directives::default().audio_codec(), None);
}

#[test]
fn a_codec_listed_twice_is_taken_at_its_first_mention() {
    let sender = ad("1 out: H264,max-fps=30; H264,max-fps=60;");
    let receiver = ad("1 in: H264,max-width=640; H264,max-width=320;");
    assert_eq!(Directives::compute(&sender, &receiver), directives("1 to 1: H264,max-fps=30,max-width=640;"));
}

#[test]
fn what_rides_along_is_printed_once() {
    let sender = ad("1 out: CN; PCMU; CN,sr=8000; CN;");
    assert_eq!(Directives::compute(&sender, &ad("1 in: PCMU; CN; CN;")), directives("1 to 1: PCMU; CN;"));
}

#[test]
fn media_is_common_when_a_stream_would_flow_one_way_at_least() {
    let phone = ad("1 in: opus; telephone-event; 1 out: opus; telephone-event;");
    let announcer = ad("1 out: opus;");
    assert!(common_media(&phone, &phone));
    assert!(common_media(&phone, &announcer) && common_media(&announcer, &phone));
    assert!(phone.has_audio_with(&announcer) && announcer.has_audio_with(&phone));
    assert!(!common_media(&announcer, &announcer), "two sources and no sink");
    assert!(!common_media(&phone, &ad("1 in: PCMU; telephone-event; 1 out: PCMU; telephone-event;")));
    assert!(!common_media(&phone, &Advertisement::default()));
    assert!(!common_media(&ad("1 in: lyra; 1 out: lyra;"), &ad("1 in: lyra; 1 out: lyra;")));
    let camera = ad("2 out: VP8; 2 in: VP8;");
    assert!(common_media(&camera, &camera) && !camera.has_audio_with(&camera));
}

#[test]
fn they_are_stored_as_their_canonical_text() {
    let stored = serde_json::to_string(&directives("2 to 1: opus; 1 to 1: PCMU")).unwrap();
    assert_eq!(stored, r#""1 to 1: PCMU;\n2 to 1: opus;""#);
    assert_eq!(
        serde_json::from_str::<Directives>(&stored).unwrap(),
        directives("2 to 1: opus; 1 to 1: PCMU")
    );
    assert!(serde_json::from_str::<Directives>(r#""1 in: opus;""#).is_err());
}

#[test]
fn hostile_pairs_are_quick_and_their_directives_can_be_read_again() {
    let all = |lines: u32, direction: &str, codecs: &str| {
        ad(&(1..=lines).map(|id| format!("{id} {direction}: {codecs}")).collect::<String>())
    };
    let params = |p: char| (0..17).map(|i| format!(",{p}{i}")).collect::<String>();
    let crowded = |p: char| format!("opus{};", params(p)).repeat(64);
    let (sender, receiver) = (all(12, "out", &crowded('a')), all(12, "in", &crowded('b')));
    assert!(Directives::compute(&sender, &receiver).is_empty(), "more limits than a codec can have");
    let (sender, receiver) = (all(255, "out", &"CN;".repeat(60)), all(255, "in", &"EVS;".repeat(40)));
    assert!(Directives::compute(&sender, &receiver).is_empty());
    let long = |p: char| -> String { (0..16).map(|i| format!(",{p}{i}=-9223372036854775807")).collect() };
    let side = |direction: &str, p: char| all(150, direction, &format!("opus{};", long(p)));
    let cut = Directives::compute(&side("out", 'a'), &side("in", 'b'));
    assert!((1..150).contains(&cut.streams().len()), "{}", cut.streams().len());
    assert_eq!(directives(&cut.to_string()), cut);
}

/// The directives as if each side could do just that.
fn sides(directives: &Directives) -> (Advertisement, Advertisement) {
    let side = |direction, id: fn(&Stream) -> u8| {
        let streams = directives.streams().iter();
        let entries =
            streams.map(|stream| Entry { id: id(stream), direction, codecs: stream.codecs.clone() });
        Advertisement::new(entries.collect()).unwrap()
    };
    (side(Direction::Out, |stream| stream.source), side(Direction::In, |stream| stream.sink))
}

proptest! {
    #[test]
    fn printed_and_read_again_they_are_the_same(a in advertisements(), b in advertisements()) {
        let directives = Directives::compute(&a, &b);
        prop_assert_eq!(&Directives::parse(&directives.to_string()).unwrap(), &directives);
        for form in [Form::Text, Form::Json] {
            let read = Directives::from_value(&directives.to_value(form)).unwrap();
            prop_assert_eq!(read, (directives.clone(), form));
        }
    }

    #[test]
    fn computed_streams_keep_to_both_sides(a in advertisements(), b in advertisements()) {
        let directives = Directives::compute(&a, &b);
        for (index, stream) in directives.streams().iter().enumerate() {
            let source = a.entry(stream.source, Direction::Out).unwrap();
            let sink = b.entry(stream.sink, Direction::In).unwrap();
            prop_assert_eq!(source.kind(), sink.kind());
            let before = &directives.streams()[..index];
            prop_assert!(before.iter().all(|s| s.source != stream.source && s.sink != stream.sink));
            prop_assert!(stream.codecs[0].carries_a_stream());
            prop_assert!(stream.codecs[1..].iter().all(|codec| codec.name().rides_along()));
            for codec in &stream.codecs {
                for side in [source, sink] {
                    let theirs = side.codecs.iter().find(|theirs| theirs.name() == codec.name()).unwrap();
                    let names = theirs.params().iter().map(|(name, _)| name);
                    for name in names.chain(["sr", "ss", "ch", "ptime", "depth", "tlay", "slay", "cbr"]) {
                        let (limit, most) = (codec.limit(name), theirs.limit(name));
                        let cbr = name == "cbr";
                        prop_assert!(if cbr { limit >= most } else { most.is_none() || limit <= most }, "{}", name);
                    }
                }
            }
        }
    }

    #[test]
    fn computing_from_the_result_changes_nothing(a in advertisements(), b in advertisements()) {
        let directives = Directives::compute(&a, &b);
        let (sender, receiver) = sides(&directives);
        prop_assert_eq!(Directives::compute(&sender, &receiver), directives);
    }

    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Directives::parse(&String::from_utf8_lossy(&bytes));
    }
}
