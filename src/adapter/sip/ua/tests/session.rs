//! The session timer (RFC 4028).

use super::super::header::first;
use super::*;

fn timed(seconds: u64) -> Profile {
    Profile { session_expires: Some(Duration::from_secs(seconds)), ..profile() }
}

fn up(lines: &str) -> Desk {
    let mut desk = Desk::caller(timed(600), Some(OFFER));
    desk.reply(0, 200, "far", &format!("{CONTACT}{lines}"), ANSWER);
    desk.told();
    desk
}

#[test]
fn the_interval_is_asked_for_and_kept_where_we_refresh() {
    let mut desk = up("Session-Expires: 600;refresher=uac\r\nRequire: timer\r\n");
    assert_eq!(of(&desk.requests[0].1.headers, "Session-Expires"), "600");
    desk.pass(SECOND * 299);
    assert_eq!(desk.requests.len(), 1);
    desk.pass(SECOND);
    let update = desk.last();
    assert_eq!(update.method.to_string(), "UPDATE");
    assert_eq!(of(&update.headers, "Session-Expires"), "600;refresher=uac");
    assert!(update.body.is_empty());
    desk.reply_last(200, "Session-Expires: 600;refresher=uac\r\n", "");
    desk.pass(SECOND * 300);
    assert_eq!(desk.requests.len(), 3, "and again");
    // RFC 4028 §10: nobody answers: BYE 32 s before the end.
    desk.pass(SECOND * (600 - 300 - 32));
    assert_eq!(desk.last().method.to_string(), "BYE");
    assert_eq!(desk.ending().why, "the session was not refreshed");
}

#[test]
fn without_update_the_refresh_is_a_reinvite_with_what_stands() {
    let lines = "Contact: <sip:far@x>\r\nAllow: INVITE\r\nSession-Expires: 600;refresher=uac\r\n";
    let mut desk = Desk::caller(timed(600), Some(OFFER));
    desk.reply(0, 200, "far", lines, ANSWER);
    desk.told();
    desk.pass(SECOND * 300);
    assert_eq!((desk.last().method.to_string().as_str(), sdp(&desk.last().body).as_str()), ("INVITE", OFFER));
    desk.reply_last(200, "Session-Expires: 600;refresher=uac\r\n", ANSWER);
    assert_eq!((desk.acks.len(), desk.told()), (2, vec![]), "nothing changed, nothing is told");
}

#[test]
fn a_refused_update_is_followed_by_a_reinvite() {
    let mut desk = up("Session-Expires: 600;refresher=uac\r\n");
    desk.pass(SECOND * 300);
    desk.reply_last(405, "", "");
    assert_eq!(desk.last().method.to_string(), "INVITE");
    desk.reply_last(491, "", "");
    desk.pass(SECOND * 10);
    let reinvites = desk.requests.iter().filter(|(_, r)| r.method.to_string() == "INVITE").count();
    assert_eq!(reinvites, 3, "the first, the refresh and the refresh after glare");
    assert_eq!(desk.told(), []);
}

#[test]
fn where_the_far_side_refreshes_its_silence_ends_the_call() {
    let mut desk = up("Session-Expires: 600;refresher=uas\r\n");
    desk.pass(SECOND * 500);
    let id = desk.request("UPDATE", 1, "Supported: timer\r\nSession-Expires: 600;refresher=uac\r\n", "");
    assert_eq!(of(&desk.response(id).headers, "Session-Expires"), "600;refresher=uac");
    assert_eq!(of(&desk.response(id).headers, "Require"), "timer");
    desk.pass(SECOND * (600 - 33));
    assert_eq!(desk.requests.len(), 1);
    desk.pass(SECOND);
    assert_eq!(desk.last().method.to_string(), "BYE");
    assert_eq!(desk.ending().by, By::Timer);
}

#[test]
fn a_short_interval_ends_a_third_before() {
    let mut desk = up("Session-Expires: 90;refresher=uas\r\n");
    desk.pass(SECOND * 59);
    assert_eq!(desk.requests.len(), 1);
    desk.pass(SECOND);
    assert_eq!(desk.last().method.to_string(), "BYE");
}

#[test]
fn without_session_expires_in_the_answer_there_is_no_timer() {
    let mut desk = up("");
    desk.pass(SECOND * 100_000);
    assert_eq!((desk.requests.len(), desk.told()), (1, vec![]));
}

#[test]
fn an_interval_that_is_too_short_is_raised_in_the_same_call() {
    // RFC 4028 §7.3
    let mut desk = Desk::caller(timed(600), Some(OFFER));
    let (call_id, from) = (desk.ua.call_id().to_owned(), of(&desk.requests[0].1.headers, "From").to_owned());
    desk.reply(0, 422, "x", "Min-SE: 1800\r\n", "");
    let again = desk.last();
    assert_eq!(of(&again.headers, "CSeq"), "2 INVITE");
    assert_eq!(of(&again.headers, "Call-ID"), call_id);
    assert_eq!(of(&again.headers, "From"), from);
    assert_eq!(of(&again.headers, "Session-Expires"), "1800");
    assert_eq!(of(&again.headers, "Min-SE"), "1800");
    assert_eq!(first(&again.headers, "Via"), None);
    desk.reply_last(422, "Min-SE: 1800\r\n", "");
    assert_eq!(desk.ending().code, Some(422), "no more than it was asked for");
}

#[test]
fn a_422_to_a_refresh_raises_the_interval() {
    let mut desk = up("Session-Expires: 600;refresher=uac\r\n");
    desk.pass(SECOND * 300);
    desk.reply_last(422, "Min-SE: 900\r\n", "");
    assert_eq!(of(&desk.last().headers, "Session-Expires"), "900;refresher=uac");
    desk.reply_last(200, "Session-Expires: 900;refresher=uac\r\n", "");
    desk.pass(SECOND * 450);
    assert_eq!(desk.last().method.to_string(), "UPDATE");
}

/// RFC 4028 §9, table 2, row by row, and what our own wish adds.
#[test]
fn the_200_names_who_refreshes() {
    for (own, lines, says, requires) in [
        (None, "Supported: timer\r\nSession-Expires: 900\r\n", Some("900;refresher=uac"), true),
        (None, "Supported: timer\r\nSession-Expires: 900;refresher=uac\r\n", Some("900;refresher=uac"), true),
        (
            None,
            "Supported: timer\r\nSession-Expires: 900;refresher=uas\r\n",
            Some("900;refresher=uas"),
            false,
        ),
        (None, "Session-Expires: 900\r\n", Some("900;refresher=uas"), false),
        (None, "Supported: timer\r\n", None, false),
        (Some(600), "Supported: timer\r\n", Some("600;refresher=uac"), true),
        (Some(600), "", Some("600;refresher=uas"), false),
        (Some(600), "Supported: timer\r\nSession-Expires: 900\r\n", Some("600;refresher=uac"), true),
        (
            Some(600),
            "Supported: timer\r\nSession-Expires: 900\r\nMin-SE: 700\r\n",
            Some("700;refresher=uac"),
            true,
        ),
        (Some(600), "Supported: timer\r\nMin-SE: 700\r\n", Some("700;refresher=uac"), true),
        (None, "Session-Expires: 30\r\n", Some("90;refresher=uas"), false),
    ] {
        let own = Profile { session_expires: own.map(Duration::from_secs), ..profile() };
        let mut desk = Desk::callee(own, lines, OFFER);
        desk.act(Command::Accept { sdp: ANSWER.into() }).unwrap();
        let ok = desk.response(1);
        assert_eq!(first(&ok.headers, "Session-Expires"), says, "{lines}");
        assert_eq!(first(&ok.headers, "Require") == Some("timer"), requires, "{lines}");
    }
}

#[test]
fn the_called_side_refreshes_where_that_was_agreed() {
    let mut desk =
        Desk::callee(profile(), "Supported: timer\r\nSession-Expires: 900;refresher=uas\r\n", OFFER);
    desk.act(Command::Accept { sdp: ANSWER.into() }).unwrap();
    desk.request("ACK", 1, "", "");
    desk.told();
    desk.pass(SECOND * 450);
    assert_eq!(desk.last().method.to_string(), "UPDATE");
    assert_eq!(of(&desk.last().headers, "Session-Expires"), "900;refresher=uac");
}

#[test]
fn a_refresh_that_is_too_short_is_422() {
    for method in ["UPDATE", "INVITE"] {
        let mut desk = up("Session-Expires: 600;refresher=uas\r\n");
        let id =
            desk.request(method, 1, &format!("{CONTACT}Supported: timer\r\nSession-Expires: 20\r\n"), "");
        assert_eq!(desk.code(id), Some(422), "{method}");
        assert_eq!(of(&desk.response(id).headers, "Min-SE"), "90");
    }
}

#[test]
fn an_interval_of_nothing_makes_nobody_refresh_without_rest() {
    for interval in ["0", "1", "4294967295", "x", ""] {
        let mut desk = up(&format!("Session-Expires: {interval};refresher=uac\r\n"));
        desk.pass(SECOND * 40);
        assert_eq!(desk.requests.len(), 1, "{interval}");
    }
}
