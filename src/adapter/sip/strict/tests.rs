use proptest::prelude::*;
use rsipstack::sip::HeadersExt as _;

use super::*;

const FROM: &str = "192.0.2.7:5066";

/// An ordinary request; `edit` changes its lines.
const OPTIONS: &str = "OPTIONS sip:x@192.0.2.1 SIP/2.0\n\
    Via: SIP/2.0/UDP a.example:5070;branch=z9hG4bK1\n\
    Via: SIP/2.0/TCP b.example;branch=z9hG4bK2\n\
    From: \"A\" <sip:a@a.example>;tag=1\n\
    To: <sip:x@192.0.2.1>\n\
    Call-ID: c1@a.example\n\
    CSeq: 7 OPTIONS\n\
    Max-Forwards: 70\n\
    Content-Length: 4\n\nbody";

fn wire(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

fn verdict(text: &str) -> Read {
    read(&wire(text), FROM.parse().unwrap())
}

/// Whether it goes on as it is.
fn passes(text: &str) -> bool {
    matches!(verdict(text), Read::Message(_, None))
}

fn edited(old: &str, new: &str) -> String {
    assert!(OPTIONS.contains(old), "{old}");
    OPTIONS.replacen(old, new, 1)
}

fn refusal(text: &str) -> (u16, String, SocketAddr) {
    match verdict(text) {
        Read::Refuse(refusal) => (refusal.code, String::from_utf8(refusal.message).unwrap(), refusal.to),
        other => panic!("{other:?}: {text}"),
    }
}

#[test]
fn what_is_ordinary_or_only_unusual_passes() {
    assert!(passes(OPTIONS));
    for (old, new) in [
        ("Max-Forwards: 70\n", ""),
        ("Max-Forwards: 70", "Max-Forwards: 0"),
        ("Max-Forwards: 70", "max-forwards :0070"),
        ("CSeq: 7", "CSeq: 2147483647"),
        ("\nbody", "\nbody and what follows it"),
        ("\"A\" <", "\"a \\\" <sip:b@c>;,\" <"),
        ("\"A\" <", "J\u{fc}rgen A. <"),
        ("To: <sip:x@192.0.2.1>", "To: tel:+15550001;x=\"a;b\""),
        ("sip:x@192.0.2.1 SIP", "sip:+1555;phone-context=x?y@192.0.2.1;user=phone SIP"),
        ("sip:x@192.0.2.1 SIP", "urn:service:sos SIP"),
        ("Via: SIP/2.0/UDP a.example:5070", "Via: SIP/2.0/UDP [2001:db8::1]:5070;received=2001:db8::2"),
        ("CSeq: 7 OPTIONS", "CSeq: 7 OPTIONS\nDate: once\nExpires: -9\nContact: *"),
        ("Call-ID: c1@a.example", "i: )(><:\\/\"][?}{"),
    ] {
        assert!(passes(&edited(old, new)), "{new}");
    }
    for keep_alive in ["", "\n\n", "\n"] {
        assert!(matches!(verdict(keep_alive), Read::Blank));
    }
}

#[test]
fn what_is_wrong_is_answered_with_the_reason() {
    for (old, new, code, why) in [
        ("OPTIONS sip:x", "OPTIONS  sip:x", 400, "one blank"),
        ("OPTIONS sip:x", " OPTIONS sip:x", 400, "one blank"),
        ("SIP/2.0\n", "SIP/2.0 \n", 400, "one blank"),
        ("OPTIONS sip:x", "OPTIONS\tsip:x", 400, "one blank"),
        ("OPTIONS sip:x", "OPT\u{f6}ONS sip:x", 400, "no token"),
        ("sip:x@192.0.2.1 SIP/2.0", "sip:x@192.0.2.1 HTTP/1.1", 400, "SIP/2.0"),
        ("sip:x@192.0.2.1 SIP/2.0", "sip:x@192.0.2.1 SIP/2.1", 505, "version"),
        ("sip:x@192.0.2.1 SIP/2.0", "<sip:x@192.0.2.1> SIP/2.0", 400, "brackets"),
        ("sip:x@192.0.2.1 SIP/2.0", "sip:x@192.0.2.1?a=b SIP/2.0", 400, "headers in it"),
        ("sip:x@192.0.2.1 SIP/2.0", "sip:x%4@192.0.2.1 SIP/2.0", 400, "%"),
        ("sip:x@192.0.2.1 SIP/2.0", "x@192.0.2.1 SIP/2.0", 400, "scheme"),
        ("sip:x@192.0.2.1 SIP/2.0", "mailto:x@192.0.2.1 SIP/2.0", 416, "scheme"),
        ("OPTIONS sip", "options sip", 501, "method"),
        ("To: <sip:x@192.0.2.1>\n", "", 400, "no To"),
        ("From: \"A\" <sip:a@a.example>;tag=1\n", "", 400, "no From"),
        ("From: \"A\" <sip:a@a.example>;tag=1", "From: <sip:a@a.example>", 400, "can't be read"),
        ("Call-ID: c1@a.example\n", "", 400, "no Call-ID"),
        ("Call-ID: c1@a.example", "Call-ID: c1 c2", 400, "Call-ID"),
        ("CSeq: 7 OPTIONS\n", "", 400, "no CSeq"),
        ("CSeq: 7 OPTIONS", "CSeq: 7 INVITE", 400, "another method"),
        ("CSeq: 7", "CSeq: 2147483648", 400, "2^31"),
        ("CSeq: 7", "CSeq: -7", 400, "2^31"),
        ("Max-Forwards: 70", "Max-Forwards: 256", 400, "255"),
        ("Max-Forwards: 70", "Max-Forwards: 70\nMax-Forwards: 70", 400, "more than once"),
        ("To: <", "To: <sip:y@z>\nt: <", 400, "more than once"),
        ("Content-Length: 4", "Content-Length: 5", 400, "more than what came"),
        ("Content-Length: 4", "Content-Length: -4", 400, "no number"),
        ("Content-Length: 4", "Content-Length: 4\nl: 4", 400, "more than once"),
        ("To: <sip:x@192.0.2.1>", "To: <sip:x@192.0.2.1", 400, "without its >"),
        ("To: <sip:x@192.0.2.1>", "To: < sip:x@192.0.2.1 >", 400, "blanks"),
        ("To: <sip:x@192.0.2.1>", "To: \"x <sip:x@192.0.2.1>", 400, "doesn't end"),
        ("\"A\" <", "A, B <", 400, "quoted"),
        (";tag=1", ";tag=1;;", 400, "empty parameter"),
        ("CSeq: 7", "Contact: sip:a@b?Route=x\nCSeq: 7", 400, "no <>"),
        ("CSeq: 7", "Contact\nCSeq: 7", 400, "colon"),
        ("CSeq: 7", "Con tact: x\nCSeq: 7", 400, "no token"),
        (";branch=z9hG4bK1", ";;,;,,", 400, "empty parameter"),
        ("a.example:5070", "a.example:99999", 400, "address"),
    ] {
        let (is, message, _) = refusal(&edited(old, new));
        assert_eq!(is, code, "{new}: {message}");
        assert!(message.lines().next().unwrap().contains(why), "{new}: {message}");
    }
    let (code, ..) = refusal(OPTIONS.split("\n\n").next().unwrap());
    assert_eq!(code, 400, "cut off");
}

#[test]
fn a_refusal_has_what_tells_whose_it_is_and_goes_where_the_top_via_says() {
    let wrong = edited("CSeq: 7 OPTIONS", "CSeq: 7 INVITE");
    let (_, message, to) = refusal(&wrong);
    assert_eq!(to, "192.0.2.7:5070".parse().unwrap(), "RFC 3261 §18.2.2");
    let lines = message.split("\r\n").collect::<Vec<_>>();
    assert_eq!(lines[1], "Via: SIP/2.0/UDP a.example:5070;branch=z9hG4bK1;received=192.0.2.7");
    assert_eq!(lines[2], "Via: SIP/2.0/TCP b.example;branch=z9hG4bK2");
    assert_eq!(lines[3], "From: \"A\" <sip:a@a.example>;tag=1");
    assert!(lines[4].starts_with("To: <sip:x@192.0.2.1>;tag="));
    assert_eq!(lines[5..7], ["Call-ID: c1@a.example", "CSeq: 7 INVITE"]);
    assert!(message.ends_with("Content-Length: 0\r\n\r\n"));
    assert_eq!(refusal(&wrong).1, message, "RFC 3261 §8.2.7: the same tag");
    // RFC 3581 §4
    let asked = wrong.replacen(";branch", ";received=198.51.100.1;rport;branch", 1);
    let (_, message, to) = refusal(&asked);
    assert_eq!(to, FROM.parse().unwrap());
    assert!(
        message.contains("a.example:5070;rport=5066;branch=z9hG4bK1;received=192.0.2.7\r\n"),
        "{message}"
    );
    // What has a tag keeps it, and no port is the default port.
    let tagged = wrong.replacen("x@192.0.2.1>\nC", "x@192.0.2.1> ; tag = t\nC", 1).replacen(":5070", "", 1);
    let (_, message, to) = refusal(&tagged);
    assert!(message.contains("To: <sip:x@192.0.2.1> ; tag = t\r\n") && to.port() == 5_060, "{message}");
    let (_, message, _) = refusal(&edited("OPTIONS sip", "NEW sip"));
    assert!(message.contains("Allow: INVITE, ACK, "), "{message}");
    // Nobody gets lines into an answer.
    let (_, message, _) =
        refusal(&String::from_utf8(wire(OPTIONS)).unwrap().replacen("c1@", "c1\rEvil: x\r@", 1));
    assert!(!message.contains("\rEvil"), "{message}");
}

#[test]
fn nothing_answers_ack_or_what_has_no_via() {
    let ack = OPTIONS.replace("OPTIONS", "ACK");
    assert!(passes(&ack));
    assert!(matches!(verdict(&ack.replacen("CSeq: 7 ACK", "CSeq: 7 BYE", 1)), Read::Drop(_)));
    let lost = OPTIONS.replace("Via:", "Bia:");
    assert!(matches!(verdict(&lost), Read::Drop(_)));
    assert!(matches!(verdict("what is this"), Read::Drop(_)));
}

#[test]
fn responses_are_read_or_dropped_but_never_answered() {
    let response = OPTIONS.replacen("OPTIONS sip:x@192.0.2.1 SIP/2.0", "SIP/2.0 200 OK", 1);
    let response = response.replacen("Via: SIP/2.0/TCP b.example;branch=z9hG4bK2\n", "", 1);
    assert!(passes(&response));
    for status in ["SIP/2.0 200 ", "SIP/2.0 200", "SIP/2.0 699 \u{43d}\u{43e} = 2**3"] {
        assert!(passes(&response.replacen("SIP/2.0 200 OK", status, 1)), "{status}");
    }
    for (old, new) in [
        ("SIP/2.0 200 OK", "SIP/2.0 700 OK"),
        ("SIP/2.0 200 OK", "SIP/2.0 4294967301 OK"),
        ("SIP/2.0 200 OK", "SIP/2.0 099 OK"),
        ("SIP/2.0 200 OK", "SIP/3.0 200 OK"),
        ("CSeq: 7", "CSeq: 9292394834772304023312"),
        ("CSeq: 7 OPTIONS", "CSeq: 7 NEW"),
        ("Content-Length: 4", "Content-Length: 5"),
        ("To:", "Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK3\nTo:"),
        ("To:", "To: <sip:a@b>\nTo:"),
    ] {
        assert!(matches!(verdict(&response.replacen(old, new, 1)), Read::Drop(_)), "{new}");
    }
}

#[test]
fn unusual_writing_is_made_plain() {
    let odd = "\n\nOPTIONS sip:x@192.0.2.1 sip/2.0\n\
        v:  SIP  / 2.0  / UDP     a.example : 5070   ;\n  branch  =   z9hG4bK1  ,\n SIP / 2.0 / TCP  b.example\n\
        FROM   : \"A  B\"\n  <sip:a@a.example>\n ;\n tag = 1\n\
        t:\n <sip:x@192.0.2.1>\ni : c1\ncseq: 0007\n  OPTIONS\ny: abc\n\nbody";
    let Read::Message(_, Some(plain)) = verdict(odd) else { panic!("{:?}", verdict(odd)) };
    let request = Request::try_from(plain.as_slice()).unwrap();
    assert_eq!(request.body, b"body");
    assert_eq!(request.from_header().unwrap().value(), "\"A  B\" <sip:a@a.example>;tag=1");
    let via = "SIP/2.0/UDP a.example:5070;branch=z9hG4bK1,SIP/2.0/TCP b.example";
    assert_eq!(request.via_header().unwrap().value(), via);
    assert_eq!(request.to_header().unwrap().value(), "<sip:x@192.0.2.1>");
    assert_eq!(request.cseq_header().unwrap().seq().unwrap(), 7);
    assert!(request.headers.iter().any(|header| header.name() == "Identity" && header.value() == "abc"));
    assert!(matches!(read(&plain, FROM.parse().unwrap()), Read::Message(_, None)));
}

#[test]
fn what_is_required_and_not_known_is_refused() {
    let parsed =
        |text: &str| check(&Request::try_from(wire(text).as_slice()).unwrap()).map_err(|fault| fault.code);
    assert_eq!(parsed(OPTIONS), Ok(()));
    assert_eq!(parsed(&edited("Max-Forwards: 70", "Require: timer, nothing")), Err(420));
    // In a dialog the user agent says so, and in an INVITE.
    let invite = OPTIONS.replace("OPTIONS", "INVITE").replacen("Max-Forwards: 70", "Require: nothing", 1);
    assert_eq!(parsed(&invite), Ok(()));
}

#[test]
fn what_is_not_whole_is_refused_as_far_as_it_can_be_read() {
    let head = |text: &str| text.split_once("\n\n").unwrap().0.to_owned() + "\n\n";
    let refuse = |text: &str| refuse(&wire(text), "why", FROM.parse().unwrap());
    let refusal = refuse(&head(OPTIONS)).unwrap();
    let text = String::from_utf8(refusal.message).unwrap();
    assert!(text.starts_with("SIP/2.0 400 ") && text.contains("Call-ID: c1@a.example\r\n"), "{text}");
    assert_eq!(refuse(&head(&OPTIONS.replace("OPTIONS", "ACK"))), None);
    assert_eq!(refuse("SIP/2.0 200 OK\nVia: SIP/2.0/TCP a\n\n"), None);
    assert_eq!(refuse("what is this"), None);
}

proptest! {
    #[test]
    fn any_bytes_have_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read(&bytes, FROM.parse().unwrap());
    }

    #[test]
    fn any_text_in_a_message_has_a_verdict(at in 0_usize..300, len in 0_usize..30, text in "\\PC{0,40}") {
        let mut message = OPTIONS.to_owned();
        let at = at.min(message.len());
        message.replace_range(at..(at + len).min(OPTIONS.len()), &text);
        if let Read::Refuse(refusal) = verdict(&message) {
            prop_assert!(rsipstack::sip::Response::try_from(refusal.message.as_slice()).is_ok());
        }
    }
}
