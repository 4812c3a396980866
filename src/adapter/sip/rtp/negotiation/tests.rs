//! Offers and answers, in words.

use super::*;
use crate::media::rtp::lane::Rider;

fn settings(srtp: Srtp) -> RtpSettings {
    RtpSettings {
        listen: [192, 0, 2, 9].into(),
        public: None,
        range: None,
        most: 10,
        srtp,
        codecs: RtpSettings::all_codecs(),
    }
}

fn side(srtp: Srtp) -> Negotiation {
    Negotiation::new(&settings(srtp), [192, 0, 2, 9].into(), 5_000, 77)
}

fn offer(media: &str) -> String {
    format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{media}")
}

const PHONE: &str = "m=audio 4000 RTP/AVP 8 0 9 111 101\r\na=rtpmap:111 opus/48000/2\r\n\
                     a=rtpmap:101 telephone-event/8000\r\n";

fn names_of(negotiation: &Negotiation) -> Vec<&'static str> {
    let remote = negotiation.remote().unwrap();
    remote.agreed.codecs.iter().map(|format| format.codec.name()).collect()
}

fn lines<'a>(sdp: &'a str, start: &str) -> Vec<&'a str> {
    sdp.lines().filter(|line| line.starts_with(start)).collect()
}

#[test]
fn an_answer_keeps_the_offers_order_and_what_both_have() {
    let mut here = side(Srtp::Off);
    let answer = here.answer(&offer(PHONE)).unwrap();
    assert_eq!(lines(&answer, "m="), ["m=audio 5000 RTP/AVP 8 0 9 111 101"]);
    assert_eq!(lines(&answer, "c="), ["c=IN IP4 192.0.2.9"]);
    assert_eq!(lines(&answer, "o="), ["o=- 77 1 IN IP4 192.0.2.9"]);
    assert!(answer.contains("a=rtpmap:9 G722/8000\r\n") && answer.contains("a=sendrecv\r\n"));
    let remote = here.remote().unwrap().clone();
    assert_eq!(
        (remote.to, remote.rtcp),
        (Some(([192, 0, 2, 1], 4_000).into()), Some(([192, 0, 2, 1], 4_001).into()))
    );
    assert_eq!(remote.agreed.events, [Rider { rate: 8_000, send: 101, receive: 101 }]);
    assert_eq!(names_of(&here), ["PCMA", "PCMU", "G722", "opus"]);
    assert_eq!(here.native().to_string().matches("telephone-event").count(), 2);
    // Only some of them here.
    let mut few = side(Srtp::Off);
    few.codecs = vec![AudioCodec::G722, AudioCodec::Pcmu];
    few.answer(&offer(PHONE)).unwrap();
    assert_eq!(names_of(&few), ["PCMU", "G722"]);
}

#[test]
fn what_is_offered_is_what_an_answer_takes_of_it() {
    let (mut here, mut there) = (side(Srtp::Off), side(Srtp::Off));
    let first = here.offer(false);
    assert_eq!(lines(&first, "m="), ["m=audio 5000 RTP/AVP 96 97 98 9 8 0 13 101 102 103"]);
    let answer = there.answer(&first).unwrap();
    here.answered(&answer).unwrap();
    for side in [&here, &there] {
        assert_eq!(names_of(side), ["opus", "AMR-WB", "G722", "PCMA", "PCMU"]);
        let remote = side.remote().unwrap();
        assert_eq!(remote.agreed.events.iter().map(|e| e.rate).collect::<Vec<_>>(), [8_000, 16_000, 48_000]);
        assert!(remote.agreed.noise.is_some() && remote.agreed.codecs[1].aligned);
    }
    // A phone with numbers of its own: each side's are those that it takes.
    let answer = offer(
        "m=audio 4000 RTP/AVP 120 100\r\na=rtpmap:120 AMR-WB/16000\r\n\
                        a=fmtp:120 mode-set=0,1,2;octet-align=0\r\na=rtpmap:100 telephone-event/16000\r\n",
    );
    here.answered(&answer).unwrap();
    let agreed = &here.remote().unwrap().agreed;
    let amr = agreed.codecs[0];
    assert_eq!((amr.send, amr.receive, amr.aligned), (120, 98, false));
    assert_eq!(amr.modes, crate::media::audio::amr::Modes::new([0, 1, 2]).unwrap());
    assert_eq!(agreed.events, [Rider { rate: 16_000, send: 100, receive: 102 }]);
}

#[test]
fn what_the_call_knows_is_offered_first() {
    let mut here = side(Srtp::Off);
    here.prefer(&Advertisement::parse("1 in: PCMU; opus; 1 out: PCMU; opus;").unwrap());
    let text = here.offer(false);
    assert!(lines(&text, "m=")[0].starts_with("m=audio 5000 RTP/AVP 0 96 97"), "{text}");
}

#[test]
fn amr_is_taken_in_both_formats_and_not_in_those_that_chunks_can_not_carry() {
    for (parameters, taken, aligned) in [
        ("octet-align=1", true, true),
        ("octet-align=0; mode-set=0,1,2; mode-change-period=2", true, false),
        ("max-red=0", true, false),
        ("octet-align=1; crc=1", false, false),
        ("interleaving=4; octet-align=1", false, false),
        ("robust-sorting=1; octet-align=1", false, false),
        ("mode-set=9", false, false),
        ("mode-set=", false, false),
    ] {
        let mut here = side(Srtp::Off);
        let text =
            format!("m=audio 4000 RTP/AVP 98 8\r\na=rtpmap:98 AMR-WB/16000\r\na=fmtp:98 {parameters}\r\n");
        let answer = here.answer(&offer(&text)).unwrap();
        let first = here.remote().unwrap().agreed.codecs[0];
        assert_eq!(first.codec == AudioCodec::AmrWb, taken, "{parameters}");
        if taken {
            assert_eq!((first.aligned, answer.contains("octet-align=1")), (aligned, aligned), "{parameters}");
            assert_eq!(answer.contains("mode-set=0,1,2"), parameters.contains("mode-set"), "{parameters}");
        }
    }
    let stereo = "m=audio 4000 RTP/AVP 98 97\r\na=rtpmap:98 AMR-WB/16000/2\r\na=rtpmap:97 opus/48000/1\r\n";
    assert!(side(Srtp::Off).answer(&offer(stereo)).is_err());
}

#[test]
fn other_sections_are_refused_in_their_places() {
    let text = format!(
        "m=video 6000 RTP/AVP 99\r\na=rtpmap:99 H264/90000\r\nm=audio 0 RTP/AVP 0\r\n{PHONE}a=mid:x\r\n\
         m=image 7000 udptl t38\r\nm=audio 8000 RTP/AVP 0\r\n"
    );
    let mut here = side(Srtp::Off);
    let answer = here.answer(&offer(&text)).unwrap();
    let expected = [
        "m=video 0 RTP/AVP 99",
        "m=audio 0 RTP/AVP 0",
        "m=audio 5000 RTP/AVP 8 0 9 111 101",
        "m=image 0 udptl t38",
        "m=audio 0 RTP/AVP 0",
    ];
    assert_eq!(lines(&answer, "m="), expected);
    assert_eq!(lines(&answer, "a=mid"), ["a=mid:x"]);
    // Our own offers keep the places.
    let again = here.offer(true);
    assert_eq!(lines(&again, "m="), expected);
    assert!(again.contains("a=sendonly"));
}

#[test]
fn holds_go_both_ways() {
    let mut here = side(Srtp::Off);
    here.answer(&offer(PHONE)).unwrap();
    assert!(!here.remote().unwrap().held);
    for held in [
        offer(&format!("{PHONE}a=sendonly\r\n")),
        offer(&format!("{PHONE}a=inactive\r\n")),
        offer(PHONE).replace("c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0"),
    ] {
        let answer = here.answer(&held).unwrap();
        let remote = here.remote().unwrap();
        assert!(remote.held, "{held}");
        assert_eq!(remote.direction.sends, held.contains("0.0.0.0"));
        assert_eq!(remote.to.is_none(), held.contains("0.0.0.0"));
        assert_eq!(answer.contains("a=recvonly"), held.contains("sendonly"));
        assert!(here.offer(true).contains("a=inactive") && here.offer(false).contains("a=sendrecv"));
        here.refused();
        here.answer(&offer(PHONE)).unwrap();
        assert!(!here.remote().unwrap().held);
    }
    // Ours stays while they renew the session.
    let own = here.offer(true);
    assert!(own.contains("a=sendonly"));
    here.answered(&offer(&format!("{PHONE}a=recvonly\r\n"))).unwrap();
    let direction = here.remote().unwrap().direction;
    assert_eq!((direction.name(), here.remote().unwrap().held), ("sendonly", false));
    assert!(here.answer(&offer(PHONE)).unwrap().contains("a=sendonly"));
    here.offer(false);
    here.answered(&offer(PHONE)).unwrap();
    assert!(here.answer(&offer(PHONE)).unwrap().contains("a=sendrecv"));
}

#[test]
fn a_refused_answer_changes_nothing_and_another_branch_may_replace_an_early_one() {
    let mut here = side(Srtp::Off);
    assert!(here.answered(&offer(PHONE)).is_err());
    here.offer(false);
    for wrong in [
        offer("m=audio 0 RTP/AVP 0\r\n"),
        offer("m=audio 4000 RTP/AVP 3\r\n"),
        offer(&format!("{PHONE}m=video 9 RTP/AVP 99\r\n")),
        offer("m=video 4000 RTP/AVP 0\r\n"),
        offer("m=audio 4000 UDP/TLS/RTP/SAVPF 0\r\n"),
        offer("m=audio 4000 RTP/SAVP 0\r\n"),
        "garbage".to_owned(),
        String::new(),
    ] {
        assert!(here.answered(&wrong).is_err(), "{wrong}");
        assert_eq!(here.remote(), None);
    }
    here.answered(&offer("m=audio 4000 RTP/AVP 0\r\n")).unwrap();
    assert_eq!(names_of(&here), ["PCMU"]);
    here.answered(&offer("m=audio 4400 RTP/AVP 8\r\n")).unwrap();
    assert_eq!((names_of(&here), here.remote().unwrap().to.unwrap().port()), (vec!["PCMA"], 4_400));
    let stands = here.remote().cloned();
    here.offer(true);
    here.refused();
    assert!(here.answered(&offer("m=audio 4500 RTP/AVP 0\r\n")).is_err());
    assert!(here.answer(&offer("m=audio 4500 RTP/AVP 3\r\n")).is_err());
    assert_eq!(here.remote().cloned(), stands);
    // What was refused was no hold.
    assert!(here.answer(&offer("m=audio 4400 RTP/AVP 8\r\n")).unwrap().contains("a=sendrecv"));
}

#[test]
fn the_version_counts_changes() {
    let version = |sdp: &str| lines(sdp, "o=")[0].split(' ').nth(2).unwrap().to_owned();
    let mut here = side(Srtp::Off);
    let said = [offer(PHONE), offer(PHONE), offer(&format!("{PHONE}a=sendonly\r\n"))];
    let versions: Vec<_> = said.iter().map(|offer| version(&here.answer(offer).unwrap())).collect();
    assert_eq!(versions, ["1", "1", "2"]);
}

#[test]
fn keys_are_agreed_on_and_stay() {
    let (mut here, mut there) = (side(Srtp::Required), side(Srtp::Offered));
    let first = here.offer(false);
    assert_eq!((lines(&first, "m=audio 5000 RTP/SAVP").len(), lines(&first, "a=crypto:").len()), (1, 2));
    let answer = there.answer(&first).unwrap();
    assert_eq!(lines(&answer, "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:").len(), 1);
    here.answered(&answer).unwrap();
    let keys = |side: &Negotiation| side.remote().unwrap().keys.clone().unwrap();
    let (ours, theirs) = keys(&here);
    assert_eq!((theirs.material, ours.material), {
        let (ours, theirs) = keys(&there);
        (ours.material, theirs.material)
    });
    let again = here.offer(true);
    assert_eq!(lines(&again, "a=crypto:"), [ours.line().trim_end()]);
    here.answered(&there.answer(&again).unwrap()).unwrap();
    assert_eq!(keys(&here), (ours, theirs));
    // The shorter one alone.
    let short = first.lines().filter(|line| !line.starts_with("a=crypto:1")).map(|l| format!("{l}\r\n"));
    let answer = there.answer(&short.collect::<String>()).unwrap();
    assert_eq!(lines(&answer, "a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:").len(), 1);
    here.offer(false);
}

#[test]
fn encryption_is_as_the_settings_say() {
    let key = Key::random(Suite::Long, 1).unwrap().line();
    let (plain, secure) = (offer(PHONE), offer(&format!("{}{key}", PHONE.replace("RTP/AVP", "RTP/SAVP"))));
    let best = offer(&format!("{PHONE}{key}"));
    for (srtp, text, taken) in [
        (Srtp::Off, &plain, Some(false)),
        (Srtp::Off, &secure, None),
        (Srtp::Off, &best, Some(false)),
        (Srtp::Offered, &plain, Some(false)),
        (Srtp::Offered, &secure, Some(true)),
        (Srtp::Offered, &best, Some(true)),
        (Srtp::Required, &plain, None),
        (Srtp::Required, &secure, Some(true)),
    ] {
        let mut here = side(srtp);
        let answer = here.answer(text);
        let keys = here.remote().map(|remote| remote.keys.is_some());
        assert_eq!((answer.is_ok(), keys), (taken.is_some(), taken), "{srtp:?} {text}");
    }
    // Of two sections the encrypted one, where that may be.
    let both =
        offer(&format!("{PHONE}{}{key}", PHONE.replace("RTP/AVP", "RTP/SAVP").replace("4000", "4002")));
    let mut here = side(Srtp::Offered);
    let answer = here.answer(&both).unwrap();
    assert_eq!(lines(&answer, "m=")[0], "m=audio 0 RTP/AVP 8 0 9 111 101");
    assert_eq!(here.remote().unwrap().to.unwrap().port(), 4_002);
    // Our offer of both ways is taken plainly, unless it must not be.
    let mut here = side(Srtp::Offered);
    assert_eq!(lines(&here.offer(false), "a=crypto:").len(), 2);
    here.answered(&plain).unwrap();
    assert!(here.remote().unwrap().keys.is_none() && lines(&here.offer(true), "a=crypto:").is_empty());
    let mut here = side(Srtp::Required);
    here.offer(false);
    assert!(here.answered(&plain).unwrap_err().to_string().contains("a=crypto"));
}

#[test]
fn where_others_could_read_them_no_keys_are_said_or_taken() {
    let key = Key::random(Suite::Long, 1).unwrap().line();
    let (plain, secure) = (offer(PHONE), offer(&format!("{}{key}", PHONE.replace("RTP/AVP", "RTP/SAVP"))));
    let mut here = side(Srtp::Offered);
    here.expose(true);
    assert!(lines(&here.offer(false), "a=crypto:").is_empty());
    here.answered(&plain).unwrap();
    for (srtp, text, taken) in [
        (Srtp::Offered, &offer(&format!("{PHONE}{key}")), true),
        (Srtp::Offered, &secure, false),
        (Srtp::Required, &secure, false),
        (Srtp::Required, &plain, false),
    ] {
        let mut here = side(srtp);
        here.expose(true);
        let answer = here.answer(text);
        assert_eq!(answer.is_ok(), taken, "{srtp:?} {text}");
        match answer {
            Ok(answer) => assert!(lines(&answer, "a=crypto:").is_empty()),
            Err(error) => assert!(error.to_string().contains("by TLS"), "{error}"),
        }
    }
}

#[test]
fn rtcp_goes_where_it_is_wanted() {
    let mut here = side(Srtp::Off);
    let rtcp = |here: &Negotiation| here.remote().unwrap().rtcp.map(|to| to.port());
    here.answer(&offer(&format!("{PHONE}a=rtcp:4100 IN IP4 192.0.2.1\r\n"))).unwrap();
    assert_eq!(rtcp(&here), Some(4_100));
    let answer = here.answer(&offer(&format!("{PHONE}a=rtcp-mux\r\n"))).unwrap();
    assert!(answer.contains("a=rtcp-mux\r\n") && here.remote().unwrap().mux && rtcp(&here) == Some(4_000));
    let answer = here.answer(&offer(&PHONE.replace("4000", "65535"))).unwrap();
    assert!(!answer.contains("rtcp-mux") && rtcp(&here).is_none());
    let level = format!("{PHONE}a=extmap:3/sendrecv {LEVEL} vad=on\r\na=extmap:4 urn:x\r\n");
    let answer = here.answer(&offer(&level)).unwrap();
    assert_eq!(lines(&answer, "a=extmap"), [format!("a=extmap:3 {LEVEL}")]);
}

#[test]
fn preconditions_are_met_at_once() {
    let qos = "a=curr:qos local none\r\na=curr:qos remote none\r\na=des:qos mandatory local sendrecv\r\n\
               a=des:qos optional remote sendrecv\r\n";
    let answer = side(Srtp::Off).answer(&offer(&format!("{PHONE}{qos}"))).unwrap();
    for line in [
        "a=curr:qos local sendrecv",
        "a=curr:qos remote none",
        "a=des:qos mandatory remote sendrecv",
        "a=des:qos optional local sendrecv",
        "a=conf:qos remote sendrecv",
    ] {
        assert_eq!(lines(&answer, line).len(), 1, "{line} in {answer}");
    }
    let met = qos.replace("local none", "local sendrecv");
    let answer = side(Srtp::Off).answer(&offer(&format!("{PHONE}{met}"))).unwrap();
    assert!(answer.contains("a=curr:qos remote sendrecv") && !answer.contains("a=conf"));
}

#[test]
fn what_can_not_be_is_said_with_what_would_be_right() {
    for (text, said) in [
        (offer("m=audio 4000 RTP/AVP 3\r\n"), "one of opus"),
        (offer("m=audio 4000 UDP/TLS/RTP/SAVPF 0\r\n"), "RTP/AVP or RTP/SAVP"),
        (offer("m=video 4000 RTP/AVP 99\r\n"), "no m=audio"),
        (offer("m=audio 0 RTP/AVP 0\r\n"), "no m=audio"),
        (offer("m=audio 4000 RTP/SAVP 0\r\n"), "RTP/AVP would be right"),
        (offer(PHONE).replace("c=IN IP4 192.0.2.1", "c=IN IP4 239.0.0.1"), "multicast"),
        (offer(PHONE).replace("c=IN IP4 192.0.2.1", "c=IN IP4 phone.example"), "not a name"),
        (offer(PHONE).replace("c=IN IP4 192.0.2.1", "c=IN IP6 2001:db8::1"), "IPv4 only"),
        (offer(PHONE).replace("c=IN IP4 192.0.2.1\r\n", ""), "no c= line"),
    ] {
        let mut here = side(Srtp::Off);
        let why = here.answer(&text).unwrap_err().to_string();
        assert!(why.contains(said) && here.remote().is_none(), "{why}");
    }
    let six = RtpSettings { listen: std::net::Ipv6Addr::UNSPECIFIED.into(), ..settings(Srtp::Off) };
    let mut here = Negotiation::new(&six, "2001:db8::9".parse().unwrap(), 5_000, 1);
    for address in ["IP4 192.0.2.1", "IP6 2001:db8::1"] {
        let text = offer(PHONE).replace("c=IN IP4 192.0.2.1", &format!("c=IN {address}"));
        assert!(here.answer(&text).unwrap().contains("c=IN IP6 2001:db8::9\r\n"));
    }
}

proptest::proptest! {
    #[test]
    fn hostile_bytes_are_answered_or_refused(bytes in proptest::collection::vec(0u8.., 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        let mut here = side(Srtp::Offered);
        let _ = here.answer(&text);
        here.offer(false);
        let _ = here.answered(&text);
    }

    /// Good lines with bad ones among them.
    #[test]
    fn shuffled_lines_are_answered_or_refused(
        picks in proptest::collection::vec(0..14usize, 0..30), noise in "[ -~]{0,30}"
    ) {
        let known = [
            "c=IN IP4 192.0.2.1", "m=audio 4000 RTP/AVP 8 0 96 97 101", "m=audio 4000 RTP/SAVP 0 8 96", "a=sendonly",
            "a=rtpmap:96 AMR-WB/16000/1", "a=rtpmap:97 opus/48000/2", "a=rtpmap:101 telephone-event/8000",
            "a=fmtp:96 mode-set=0,2;octet-align=1", "a=rtcp:9", "a=rtcp-mux", "m=video 0 RTP/AVP 31",
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj|2^20|1:4",
            "a=des:qos mandatory local sendrecv", "a=curr:qos local ",
        ];
        let lines: String = picks.iter().map(|n| format!("{}\r\n", known[*n])).collect();
        for text in [format!("v=0\r\n{lines}"), format!("v=0\r\n{lines}a={noise}\r\n{lines}")] {
            let mut here = side(Srtp::Offered);
            if let Ok(answer) = here.answer(&text) {
                let sections = |sdp: &str| sdp.lines().filter(|line| line.starts_with("m=")).count();
                proptest::prop_assert_eq!(sections(&answer), sections(&text));
                proptest::prop_assert!(Session::parse(&answer).is_ok());
            }
            let again = here.offer(true);
            proptest::prop_assert!(Session::parse(&again).is_ok());
            let _ = here.answered(&text);
        }
    }
}
