//! Requests in the dialog.

use super::*;

#[test]
fn each_method_gets_its_answer() {
    for (method, lines, code, header) in [
        ("OPTIONS", "", 200, Some(("Accept", "application/sdp, application/dtmf-relay, message/sipfrag"))),
        ("INFO", "", 200, None),
        ("INFO", "Info-Package: foo\r\n", 469, None),
        (
            "MESSAGE",
            "",
            405,
            Some(("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY")),
        ),
        ("PUBLISH", "", 405, None),
        ("REGISTER", "", 405, None),
        ("SUBSCRIBE", "Event: presence\r\n", 489, Some(("Allow-Events", "refer"))),
        ("NOTIFY", "Event: presence\r\n", 489, Some(("Allow-Events", "refer"))),
        ("NOTIFY", "Event: refer\r\n", 481, None),
        ("PRACK", "RAck: 1 1 INVITE\r\n", 481, None),
        ("UPDATE", "", 200, None),
        ("UPDATE", "Require: x\r\n", 420, Some(("Unsupported", "x"))),
        ("BYE", "", 200, None),
    ] {
        let mut desk = Desk::answered(profile());
        let id = desk.request(method, 1, lines, "");
        assert_eq!(desk.code(id), Some(code), "{method} {lines}");
        if let Some((name, value)) = header {
            assert_eq!(of(&desk.response(id).headers, name), value);
        }
    }
}

#[test]
fn digits_come_in_info() {
    for (kind, body, digit) in [
        ("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", Some(('5', 160))),
        ("application/dtmf-relay", "Signal= *\r\nDuration= 2000", Some(('*', 2000))),
        ("application/dtmf-relay", "Duration=100\nSignal=11\n", Some(('#', 100))),
        ("application/dtmf-relay", "Signal=d\r\n", Some(('D', 160))),
        ("application/dtmf", "7", Some(('7', 160))),
        ("application/dtmf-relay", "Signal=55\r\n", None),
        ("application/dtmf-relay", "nothing", None),
        ("application/dtmf", "x", None),
    ] {
        let mut desk = Desk::answered(profile());
        let id = desk.request("INFO", 1, &format!("Content-Type: {kind}\r\n"), body);
        let told = digit.map(|(c, d)| Event::Digit(c, d)).into_iter().collect::<Vec<_>>();
        assert_eq!(
            (desk.code(id), desk.told()),
            (Some(if digit.is_some() { 200 } else { 400 }), told),
            "{body}"
        );
    }
    let mut desk = Desk::answered(profile());
    let id = desk.request("INFO", 1, "Content-Type: image/png\r\n", "x");
    assert_eq!((desk.code(id), desk.told()), (Some(415), vec![]));
}

#[test]
fn a_request_out_of_order_is_500() {
    let mut desk = Desk::answered(profile());
    for (seq, code) in [(5, 200), (5, 500), (4, 500), (6, 200), (2_147_483_647, 200), (7, 500)] {
        let id = desk.request("OPTIONS", seq, "", "");
        assert_eq!(desk.code(id), Some(code), "{seq}");
    }
}

#[test]
fn a_request_of_no_dialog_of_ours_is_481() {
    let mut desk = Desk::answered(profile());
    desk.tag = "stranger";
    let id = desk.request("BYE", 1, "", "");
    assert_eq!((desk.code(id), desk.told()), (Some(481), vec![]));
}

#[test]
fn a_cseq_that_cant_be_is_400() {
    let mut desk = Desk::answered(profile());
    let mut bye = None;
    for line in ["CSeq: 2147483648 BYE", "CSeq: x BYE", "CSeq: 3 INVITE", "X: y"] {
        let text = format!(
            "BYE sip:a@b SIP/2.0\r\nFrom: <sip:far@x>;tag=far\r\nTo: <sip:n@y>\r\n{line}\r\nContent-Length: 0\r\n\r\n"
        );
        desk.feed(Input::Request(7, Request::try_from(text.as_str()).unwrap())).unwrap();
        bye = desk.code(7);
        assert_eq!(bye, Some(400), "{line}");
    }
    assert!(bye.is_some() && desk.told().is_empty());
}
