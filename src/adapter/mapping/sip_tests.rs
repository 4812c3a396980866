use proptest::prelude::*;
use serde_json::Value;

use super::super::{ended, of_sip};
use super::*;

#[test]
fn each_outcome_has_its_code_and_cause_and_comes_back_as_what_it_was() {
    use Outcome::{Cancelled, Completed, Declined, Failed, NoAnswer};
    for (outcome, reason, code, cause, back) in [
        (Completed, "completed", 480, 16, None),
        (Completed, "lost", 480, 41, None),
        (Cancelled, "cancelled", 487, 16, Some((Cancelled, "cancelled"))),
        (Declined, "busy", 486, 17, Some((Declined, "busy"))),
        (Declined, "rejected", 603, 21, Some((Declined, "rejected"))),
        (Declined, "do-not-disturb", 603, 21, Some((Declined, "rejected"))),
        (NoAnswer, "answer-timeout", 480, 19, Some((NoAnswer, "answer-timeout"))),
        (NoAnswer, "noanswer", 480, 19, Some((NoAnswer, "answer-timeout"))),
        (Failed, "unreachable", 480, 20, Some((Failed, "unreachable"))),
        (Failed, "no-such-handler", 480, 20, Some((Failed, "unreachable"))),
        (Failed, "not-found", 404, 1, Some((Failed, "not-found"))),
        (Failed, "bad-number", 404, 1, Some((Failed, "not-found"))),
        (Failed, "no-common-codec", 488, 88, Some((Failed, "no-common-codec"))),
        (Failed, "bad-advertisement", 488, 88, Some((Failed, "no-common-codec"))),
        (Failed, "destination-not-allowed", 403, 21, Some((Declined, "rejected"))),
        (Failed, "number-not-allowed", 403, 21, Some((Declined, "rejected"))),
        (Failed, "unauthorized", 403, 21, Some((Declined, "rejected"))),
        (Failed, "scope", 403, 21, Some((Declined, "rejected"))),
        (Failed, "bad-ticket", 403, 21, Some((Declined, "rejected"))),
        (Failed, "passport-form", 438, 21, Some((Failed, "passport-signature"))),
        (Failed, "passport-signature", 438, 21, Some((Failed, "passport-signature"))),
        (Failed, "passport-orig", 438, 21, Some((Failed, "passport-signature"))),
        (Failed, "passport-dest", 438, 21, Some((Failed, "passport-signature"))),
        (Failed, "passport-replay", 438, 21, Some((Failed, "passport-signature"))),
        (Failed, "passport-chain", 437, 21, Some((Failed, "passport-chain"))),
        (Failed, "passport-x5u", 436, 21, Some((Failed, "passport-x5u"))),
        (Failed, "passport-stale", 403, 21, Some((Declined, "rejected"))),
        (Failed, "loop-detected", 482, 25, Some((Failed, "loop-detected"))),
        (Failed, "too-large", 513, 127, Some((Failed, "too-large"))),
        (Failed, "overloaded", 503, 42, Some((Failed, "overloaded"))),
        (Failed, "too-many", 503, 42, Some((Failed, "overloaded"))),
        (Failed, "store-unavailable", 503, 42, Some((Failed, "overloaded"))),
        (Failed, "issuer-unavailable", 503, 42, Some((Failed, "overloaded"))),
        (Failed, "bad-gateway", 502, 38, Some((Failed, "bad-gateway"))),
        (Failed, "internal", 500, 41, Some((Failed, "bad-gateway"))),
        (Failed, "anything else", 500, 41, Some((Failed, "bad-gateway"))),
    ] {
        let told_so = ending(outcome, reason);
        assert_eq!((told_so.code, told_so.cause), (code, cause), "{reason}");
        assert_eq!(told_so.reason(), format!("Q.850;cause={cause}"));
        if let Some(back) = back {
            assert_eq!(told(Some(code), Some(cause)), back, "{reason}");
        }
    }
}

#[test]
fn each_final_code_has_its_outcome_and_reason() {
    use Outcome::{Cancelled, Declined, Failed, NoAnswer};
    for (codes, outcome, reason) in [
        (&[404, 410, 484, 604][..], Failed, "not-found"),
        (&[480, 502, 503], Failed, "unreachable"),
        (&[408, 504], NoAnswer, "answer-timeout"),
        (&[486, 600], Declined, "busy"),
        (&[403, 603, 607], Declined, "rejected"),
        (&[415, 488, 606], Failed, "no-common-codec"),
        (&[428], Failed, "passport-form"),
        (&[436], Failed, "passport-x5u"),
        (&[437], Failed, "passport-chain"),
        (&[438], Failed, "passport-signature"),
        (&[401, 407], Failed, "unauthorized"),
        (&[413, 513], Failed, "too-large"),
        (&[482, 483], Failed, "loop-detected"),
        (&[487], Cancelled, "cancelled"),
        (&[500, 501, 505, 580, 599], Failed, "bad-gateway"),
        (
            &[
                300, 302, 380, 400, 402, 405, 406, 409, 414, 416, 420, 421, 422, 423, 481, 485, 489, 491,
                493, 601, 608, 699,
            ],
            Failed,
            "failed",
        ),
    ] {
        for code in codes {
            assert_eq!(told(Some(*code), None), (outcome, reason), "{code}");
        }
    }
}

#[test]
fn sip_by_way_of_ript_is_the_same_to_camara_as_sip_itself() {
    for code in 300..=699 {
        let (outcome, reason) = told(Some(code), None);
        assert_eq!(ended(Some(outcome), reason), of_sip(code), "{code}");
    }
}

#[test]
fn a_cause_says_more_than_a_vague_code_and_a_bye_with_a_fault_is_a_failure() {
    use Outcome::{Cancelled, Completed, Declined, Failed, NoAnswer};
    for (code, cause, right) in [
        (Some(480), 17, (Declined, "busy")),
        (Some(503), 17, (Declined, "busy")),
        (Some(603), 17, (Declined, "busy")),
        (Some(480), 18, (NoAnswer, "answer-timeout")),
        (Some(480), 19, (NoAnswer, "answer-timeout")),
        (Some(480), 20, (Failed, "unreachable")),
        (Some(502), 27, (Failed, "unreachable")),
        (Some(500), 1, (Failed, "not-found")),
        (Some(404), 3, (Failed, "not-found")),
        (Some(480), 21, (Declined, "rejected")),
        (Some(503), 34, (Failed, "overloaded")),
        (Some(500), 88, (Failed, "no-common-codec")),
        (Some(480), 31, (Failed, "unreachable")),
        // Codes that are clear stay as they are.
        (Some(486), 19, (Declined, "busy")),
        (Some(488), 16, (Failed, "no-common-codec")),
        (Some(487), 17, (Cancelled, "cancelled")),
        (None, 16, (Completed, "completed")),
        (None, 31, (Completed, "completed")),
        (None, 21, (Completed, "completed")),
        (None, 38, (Failed, "bad-gateway")),
        (None, 41, (Failed, "bad-gateway")),
        (None, 102, (Failed, "bad-gateway")),
    ] {
        assert_eq!(told(code, Some(cause)), right, "{code:?} {cause}");
    }
    assert_eq!(told(None, None), (Completed, "completed"));
}

#[test]
fn each_event_has_its_message() {
    let reason = |text: &str| text.to_owned();
    let by = |by| Body::Ended { by, reason: "x".into() };
    use Request::{Bye, Cancel, Info, Notify, Offer};
    use Sip::{Request as Ask, Response};
    for (body, answered, right) in [
        (Body::Proceeding, false, Some(Response(100))),
        (Body::Alerting, false, Some(Response(180))),
        (Body::Progress, false, Some(Response(183))),
        (Body::Answered, false, Some(Response(200))),
        (Body::Declined { reason: reason("busy") }, false, Some(Response(486))),
        (Body::Declined { reason: reason("rejected") }, false, Some(Response(603))),
        (Body::Failed { reason: reason("unreachable") }, false, Some(Response(480))),
        (Body::Failed { reason: reason("not-found") }, false, Some(Response(404))),
        (Body::Failed { reason: reason("no-signalling") }, true, Some(Ask(Bye))),
        (Body::NoAnswer { reason: reason("answer-timeout") }, false, Some(Response(480))),
        (by(Party::Caller), false, Some(Ask(Cancel))),
        (by(Party::Server), false, Some(Response(500))),
        (by(Party::Callee), true, Some(Ask(Bye))),
        (by(Party::Caller), true, Some(Ask(Bye))),
        (Body::Hold { by: Party::Caller }, true, Some(Ask(Offer))),
        (Body::Resume { by: Party::Caller }, true, Some(Ask(Offer))),
        (
            Body::Directives { client_directives: Value::Null, server_directives: Value::Null },
            true,
            Some(Ask(Offer)),
        ),
        (Body::HandlerChanged, true, Some(Ask(Offer))),
        (Body::Dtmf { digit: '1', duration: 100 }, true, Some(Ask(Info))),
        (Body::Transferring, true, Some(Ask(Notify))),
        (Body::Moved { to: "x".into() }, true, Some(Ask(Notify))),
        (Body::Migrate { uri: None }, true, None),
        (Body::MediaPanic, true, None),
        (Body::Quality { streams: vec![] }, true, None),
        (Body::Pong { nonce: None }, true, None),
        (Body::Accepted { accepted: 1 }, true, None),
        (Body::Error { code: "x".into(), detail: None, ref_seq: None }, true, None),
        (Body::Unknown, true, None),
    ] {
        assert_eq!(of_event(&body, answered), right, "{body:?}");
    }
}

#[test]
fn each_response_has_its_event() {
    let declined = |reason: &str| ClientBody::Declined { reason: reason.into(), scope: Scope::All };
    let failed = |reason: &str| ClientBody::Failed { reason: reason.into() };
    for (code, early, cause, right) in [
        (100, false, None, None),
        (180, false, None, Some(ClientBody::Alerting)),
        (180, true, None, Some(ClientBody::Progress)),
        (181, false, None, Some(ClientBody::Proceeding)),
        (182, false, None, Some(ClientBody::Proceeding)),
        (183, false, None, Some(ClientBody::Proceeding)),
        (183, true, None, Some(ClientBody::Progress)),
        (199, false, None, Some(ClientBody::Proceeding)),
        (200, false, None, Some(ClientBody::Answered)),
        (302, false, None, Some(failed("failed"))),
        (404, false, None, Some(failed("not-found"))),
        (480, false, None, Some(failed("unreachable"))),
        (480, false, Some(19), Some(ClientBody::NoAnswer { reason: "answer-timeout".into() })),
        (486, false, None, Some(declined("busy"))),
        (487, false, None, Some(ClientBody::End { reason: Some("cancelled".into()) })),
        (603, true, None, Some(declined("rejected"))),
    ] {
        assert_eq!(of_response(code, early, cause), right, "{code}");
    }
}

#[test]
fn causes_and_codes_are_those_of_rfc_3398() {
    for (code, cause) in [
        (400, 41),
        (401, 21),
        (402, 21),
        (403, 21),
        (404, 1),
        (405, 63),
        (406, 79),
        (407, 21),
        (408, 102),
        (410, 22),
        (413, 127),
        (414, 127),
        (415, 79),
        (416, 127),
        (420, 127),
        (421, 127),
        (423, 127),
        (480, 18),
        (481, 41),
        (482, 25),
        (483, 25),
        (484, 28),
        (485, 1),
        (486, 17),
        (487, 16),
        (488, 88),
        (500, 41),
        (501, 79),
        (502, 38),
        (503, 41),
        (504, 102),
        (505, 127),
        (513, 127),
        (600, 17),
        (603, 21),
        (604, 1),
        (606, 88),
        (607, 21),
        (302, 23),
        (438, 21),
    ] {
        assert_eq!(cause_of(code), cause, "{code}");
    }
    for (cause, code) in [
        (1, 404),
        (2, 404),
        (3, 404),
        (16, 480),
        (17, 486),
        (18, 408),
        (19, 480),
        (20, 480),
        (21, 603),
        (22, 410),
        (23, 410),
        (25, 482),
        (26, 404),
        (27, 502),
        (28, 484),
        (29, 501),
        (31, 480),
        (34, 503),
        (38, 502),
        (41, 503),
        (42, 503),
        (47, 503),
        (55, 403),
        (57, 403),
        (58, 503),
        (65, 488),
        (70, 488),
        (79, 501),
        (87, 403),
        (88, 488),
        (102, 504),
        (111, 500),
        (127, 500),
        (0, 500),
        (255, 500),
    ] {
        assert_eq!(code_of(cause), code, "{cause}");
    }
}

#[test]
fn reason_headers_are_read() {
    for (values, right) in [
        (&["Q.850;cause=16;text=\"Terminated, so\""][..], (Some(16), None)),
        (&["SIP ;cause=200 ;text=\"Call completed elsewhere\", q.850 ; cause = 26"], (Some(26), Some(200))),
        (&["SIP;cause=487", "Q.850;cause=\"31\""], (Some(31), Some(487))),
        (
            &["preemption;cause=1", "Q.850", "Q.850;cause=300", "Q.850;cause=0", "SIP;cause=7", ""],
            (None, None),
        ),
        (&[ELSEWHERE], (None, Some(200))),
    ] {
        assert_eq!(reasons(values.iter().copied()), right, "{values:?}");
    }
}

proptest! {
    #[test]
    fn any_reason_is_read_within_its_bounds(text in "(Q.850|SIP|)[;= a-z0-9\",]{0,40}", code in any::<u16>(), cause in any::<u8>()) {
        let (q850, sip) = reasons([text.as_str()]);
        prop_assert!(q850.is_none_or(|cause| (1..=127).contains(&cause)));
        prop_assert!(sip.is_none_or(|code| (100..=699).contains(&code)));
        let (outcome, reason) = told(Some(code), Some(cause));
        let back = ending(outcome, reason);
        prop_assert!((300..700).contains(&back.code) && (1..=127).contains(&back.cause));
    }
}
