//! What waits, in virtual time.

use serde_json::Value;

use super::super::line::{Line, Step};
use super::super::retry::{GRACE, STALE, Verdict};
use super::*;
use crate::adapter::camara::cloudevent::SubscriptionEnd;

fn line(kind: Kind) -> Line {
    Line::new(record(kind, "https://hook.example/", NOW))
}

/// Sends what comes next, with this outcome.
fn send(line: &mut Line, now: Timestamp, verdict: Verdict) -> Value {
    match line.step(now) {
        Step::Send(id, event) => {
            assert_eq!(event["id"], id.to_string());
            line.sent(now, id, verdict, 0);
            event
        }
        other => panic!("nothing to send: {other:?}"),
    }
}

fn sent(line: &mut Line, now: Timestamp) -> Value {
    send(line, now, Verdict::Delivered)
}

fn ended(line: &mut Line, now: Timestamp, why: &str) {
    let event = sent(line, now);
    assert_eq!(event["type"], "org.camaraproject.webrtc-events.v0.subscription-ended");
    assert_eq!(event["data"]["terminationReason"], why);
    assert_eq!(event["data"]["subscriptionId"], line.record.id.to_string());
    assert_eq!(line.step(now), Step::Over);
}

#[test]
fn only_events_of_its_type_are_taken_and_they_leave_in_order_with_an_id_that_stays() {
    let mut line = line(Kind::Status);
    assert!(matches!(line.step(NOW), Step::Wait(until) if until == line.record.expires));
    for other in [invitation(1), registration_ends(1)] {
        line.hear(NOW, &other);
    }
    assert!(matches!(line.step(NOW), Step::Wait(_)));
    for n in 1..=3 {
        line.hear(NOW, &status(7, n));
    }
    let first = send(&mut line, NOW, Verdict::Later(Duration::ZERO));
    let Step::Wait(until) = line.step(NOW) else { panic!("no pause") };
    assert_eq!(until, NOW + Duration::from_millis(250));
    assert_eq!(sent(&mut line, until), first, "the same id, the same time, the same text");
    let sequence = |event: Value| event["data"]["sequenceNumber"].as_u64();
    assert_eq!([sequence(sent(&mut line, until)), sequence(sent(&mut line, until))], [Some(2), Some(3)]);
    assert!(matches!(line.step(until), Step::Wait(_)));
}

#[test]
fn a_refused_event_is_tried_three_times_and_a_failing_sink_until_the_event_is_stale() {
    let mut line = line(Kind::Invitation);
    line.hear(NOW, &invitation(1));
    line.hear(NOW, &invitation(2));
    let mut now = NOW;
    for _ in 0..3 {
        let event = send(&mut line, now, Verdict::Refused);
        assert_eq!(event["data"]["mediaSessionId"], Uuid::from_u128(1).to_string());
        now = now + SECOND * 10;
    }
    let mut tries = 0;
    while let Step::Send(id, event) = line.step(now) {
        assert_eq!(event["data"]["mediaSessionId"], Uuid::from_u128(2).to_string());
        line.sent(now, id, Verdict::Later(Duration::ZERO), u32::MAX);
        tries += 1;
        match line.step(now) {
            Step::Wait(until) => now = until,
            other => panic!("{other:?}"),
        }
    }
    assert!(tries > 5 && now >= NOW + STALE, "{tries}");
    assert_eq!(line.step(now), Step::Wait(line.record.expires));
    // The sink's failures count on for the next event, and an event that is given up shortens no pause.
    line.hear(now, &invitation(3));
    let again = STALE * 2 - SECOND;
    send(&mut line, now, Verdict::Later(again));
    line.hear(now, &invitation(4));
    assert_eq!(line.step(now + STALE), Step::Wait(line.record.expires), "both are stale");
    line.hear(now + STALE, &invitation(5));
    assert_eq!(line.step(now + STALE), Step::Wait(now + again));
    sent(&mut line, now + again);
}

#[test]
fn a_sink_is_obeyed_that_says_when_it_wants_to_be_asked_again_or_never() {
    let mut line = line(Kind::RegistrationEnds);
    line.hear(NOW, &registration_ends(1));
    send(&mut line, NOW, Verdict::Later(SECOND * 17));
    line.hear(NOW, &registration_ends(2));
    assert_eq!(line.step(NOW + SECOND * 16), Step::Wait(NOW + SECOND * 17));
    send(&mut line, NOW + SECOND * 17, Verdict::Gone);
    assert_eq!(line.step(NOW + SECOND * 17), Step::Over);
}

#[test]
fn a_full_queue_loses_superseded_statuses_and_never_an_invitation() {
    let mut line = line(Kind::Status);
    for n in 1..=200 {
        line.hear(NOW, &status(n % 2, u32::try_from(n).unwrap()));
    }
    assert!(line.record.ended.is_none());
    let mut left = Vec::new();
    while let Step::Send(id, event) = line.step(NOW) {
        left.push(event["data"]["sequenceNumber"].as_u64().unwrap());
        line.sent(NOW, id, Verdict::Delivered, 0);
    }
    assert_eq!(left.len(), 64);
    assert_eq!((left[0], left[1], left[63]), (1, 138, 200), "the first may be under way, the newest stay");

    let mut line = self::line(Kind::Invitation);
    for n in 0..64 {
        line.hear(NOW, &invitation(n));
    }
    assert!(line.record.ended.is_none());
    assert!(line.hear(NOW, &invitation(64)), "the end is to be written down");
    let first = sent(&mut line, NOW);
    assert_eq!(first["data"]["mediaSessionId"], Uuid::from_u128(0).to_string());
    ended(&mut line, NOW, "NETWORK_TERMINATED");
}

#[test]
fn large_events_fill_a_queue_by_their_bytes() {
    let mut line = line(Kind::Status);
    let large = |id| Arc::new(Notice::Status(session(id, Status::InProgress, 65_536)));
    for id in 0..16 {
        line.hear(NOW, &large(id));
    }
    assert!(line.record.ended.is_none());
    line.hear(NOW, &large(16));
    assert_eq!(line.record.ended.as_ref().map(|ended| ended.why), Some(SubscriptionEnd::Network));
}

#[test]
fn a_subscription_ends_at_its_time_and_what_waits_goes_first() {
    let mut line = line(Kind::Invitation);
    let end = line.record.expires;
    let before = Timestamp::from_millis(end.as_millis() - 1);
    line.hear(before, &invitation(1));
    line.hear(end, &invitation(2));
    assert!(line.record.is_active(before) && !line.record.is_active(end));
    assert_eq!(line.step(end), Step::Write);
    assert_eq!(sent(&mut line, end)["data"]["mediaSessionId"], Uuid::from_u128(1).to_string());
    ended(&mut line, end, "SUBSCRIPTION_EXPIRED");
}

#[test]
fn so_many_events_end_a_subscription() {
    let mut line = line(Kind::Invitation);
    line.record.max_events = Some(2);
    assert!(line.hear(NOW, &invitation(1)) && line.hear(NOW, &invitation(2)));
    assert!(!line.hear(NOW, &invitation(3)));
    sent(&mut line, NOW);
    sent(&mut line, NOW);
    ended(&mut line, NOW, "MAX_EVENTS_REACHED");
}

#[test]
fn a_token_ends_a_subscription_while_it_is_still_good() {
    let mut line = line(Kind::Invitation);
    line.record.credential = credential("t", SECOND * 100, NOW);
    assert_eq!(line.step(NOW), Step::Wait(NOW + SECOND * 70));
    // Another token, another end; a token that outlives the subscription ends nothing.
    line.record.credential = credential("t", SECOND * 4000, NOW);
    assert_eq!(line.step(NOW), Step::Wait(line.record.expires));
    line.record.credential = credential("t", SECOND * 100, NOW);
    let warned = NOW + SECOND * 70;
    assert_eq!(line.step(warned), Step::Write);
    send(&mut line, warned, Verdict::Later(Duration::ZERO));
    assert!(matches!(line.step(NOW + SECOND * 99), Step::Send(..)));
    assert_eq!(line.step(NOW + SECOND * 100), Step::Over, "nothing is sent with a token that has ended");
}

#[test]
fn an_end_that_cannot_be_told_is_given_up() {
    let mut line = line(Kind::Invitation);
    line.end(NOW, SubscriptionEnd::Deleted);
    line.end(NOW + SECOND, SubscriptionEnd::Network);
    send(&mut line, NOW, Verdict::Later(SECOND * 3600));
    assert_eq!(line.step(NOW), Step::Wait(NOW + GRACE));
    assert_eq!(line.step(NOW + GRACE), Step::Over);
    // After a restart it is told once more, as the same event.
    let mut again = Line::new(line.record.clone());
    let event = line.record.ended.as_ref().unwrap().event.to_string();
    assert_eq!(sent(&mut again, NOW)["id"], event);
}

#[test]
fn no_secret_is_printed() {
    let mut one = record(Kind::Status, "https://hook.example/?s=hush", NOW);
    one.credential = credential("hush", SECOND, NOW);
    one.headers = Some([("x-key".to_owned(), Secret("hush".into()))].into());
    assert!(!format!("{:?}", Line::new(one.clone())).contains("hush"));
    assert!(!one.described().to_string().contains("accessToken"));
}
