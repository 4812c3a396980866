//! Set-up, forking, claims, and every way not to be answered.

use super::*;
use crate::protocol::event::Scope;

#[test]
fn an_answered_call_goes_through_proceeding_alerting_answered_on_both_legs() {
    let mut world = World::ringing();
    world.event(BOB, B1, ClientBody::Proceeding).unwrap();
    world.event(BOB, B1, ClientBody::Alerting).unwrap();
    world.event(BOB, B2, ClientBody::Alerting).unwrap();
    assert_eq!(world.told(ALICE), ["alerting"]);
    assert_eq!(world.told(BOB), ["alerting"], "a second device that rings is no news");
    world.claim(BOB, B1, Some(Intent::Answer)).unwrap();
    world.event(BOB, B1, ClientBody::Answered).unwrap();
    assert_eq!(world.told(ALICE), ["answered", "directives"]);
    let bob = world.events(BOB);
    assert_eq!(bob[0]["event"], "answered");
    assert!(bob[0]["handler"].as_str().unwrap().ends_with(&B1.to_string()), "the rest learn who took it");
    assert_eq!(bob[1]["clientDirectives"], "1 to 1: opus;");
}

#[test]
fn an_answer_without_a_claim_is_refused_and_a_claim_lapses() {
    let mut world = World::ringing();
    assert_eq!(world.event(BOB, B1, ClientBody::Answered), Err(Code::IllegalEvent));
    world.claim(BOB, B1, None).unwrap();
    world.pass(Duration::from_millis(4999));
    assert_eq!(world.claim(BOB, B2, None), Err(Code::AlreadyClaimed));
    world.pass(Duration::from_millis(1));
    assert_eq!(world.event(BOB, B1, ClientBody::Answered), Err(Code::IllegalEvent));
    world.claim(BOB, B2, None).unwrap();
    world.event(BOB, B2, ClientBody::Answered).unwrap();
}

#[test]
fn of_two_answers_at_once_the_first_claim_wins() {
    let mut world = World::ringing();
    world.claim(BOB, B2, Some(Intent::Answer)).unwrap();
    assert_eq!(world.claim(BOB, B1, Some(Intent::Answer)), Err(Code::AlreadyClaimed));
    assert_eq!(world.event(BOB, B1, ClientBody::Answered), Err(Code::IllegalEvent));
    world.event(BOB, B2, ClientBody::Answered).unwrap();
    assert_eq!(world.event(BOB, B1, ClientBody::Answered), Err(Code::IllegalEvent));
    assert_eq!(world.claim(BOB, B1, Some(Intent::Answer)), Err(Code::AlreadyClaimed));
    assert!(world.view(BOB).handler.unwrap().ends_with(&B2.to_string()));
}

#[test]
fn a_claim_by_the_same_device_may_be_repeated() {
    let mut world = World::ringing();
    world.claim(BOB, B1, None).unwrap();
    world.claim(BOB, B1, Some(Intent::Answer)).unwrap();
    world.event(BOB, B1, ClientBody::Answered).unwrap();
    world.claim(BOB, B1, Some(Intent::Answer)).unwrap();
    world.claim(BOB, B1, Some(Intent::Recover)).unwrap();
}

#[test]
fn an_unanswered_call_is_neither_pulled_nor_recovered() {
    let mut world = World::ringing();
    for intent in [Intent::Pull, Intent::Recover] {
        assert_eq!(world.claim(BOB, B1, Some(intent)), Err(Code::IllegalEvent));
        assert_eq!(world.claim(ALICE, A2, Some(intent)), Err(Code::IllegalEvent));
    }
}

#[test]
fn if_match_guards_a_claim() {
    let mut world = World::ringing();
    let version = world.view(BOB).version;
    let claim = |if_match| Input::Claim { leg: BOB, device: device(B1, BOTH), intent: None, if_match };
    assert_eq!(world.handle(claim(Some(vec![version + 1]))), Err(Code::PreconditionFailed));
    assert_eq!(world.handle(claim(Some(vec![]))), Err(Code::PreconditionFailed));
    world.handle(claim(Some(vec![0, version]))).unwrap();
    assert_eq!(world.handle(claim(Some(vec![version]))), Err(Code::PreconditionFailed));
}

#[test]
fn a_device_without_a_common_codec_cannot_claim() {
    let mut world = World::ringing();
    let odd = Input::Claim {
        leg: BOB,
        device: device(B1, "1 in: G729; 1 out: G729;"),
        intent: None,
        if_match: None,
    };
    assert_eq!(world.handle(odd), Err(Code::NoCommonCodec));
    world.claim(BOB, B2, None).unwrap();
}

#[test]
fn one_device_declines_and_the_other_rings_on() {
    let mut world = World::ringing();
    world.event(BOB, B1, rejected(Scope::Device)).unwrap();
    assert_eq!(world.told(ALICE), Vec::<String>::new());
    world.claim(BOB, B2, None).unwrap();
    world.event(BOB, B2, ClientBody::Answered).unwrap();
    assert_eq!(world.told(ALICE), ["answered", "directives"]);
}

#[test]
fn when_all_devices_declined_the_call_is_declined() {
    let mut world = World::ringing();
    world.event(BOB, B1, rejected(Scope::Device)).unwrap();
    world.event(BOB, B2, ClientBody::Declined { reason: "busy".into(), scope: Scope::Device }).unwrap();
    let told = world.events(ALICE);
    assert_eq!((&told[0]["event"], &told[0]["reason"]), (&json!("declined"), &json!("busy")));
    is_ended(&world, ALICE, Party::Callee, "declined", "busy");
    is_ended(&world, BOB, Party::Callee, "declined", "busy");
}

#[test]
fn a_decline_for_all_ends_the_ringing_everywhere() {
    let mut world = World::ringing();
    world.event(BOB, B1, rejected(Scope::All)).unwrap();
    assert_eq!(world.told(BOB), ["declined", "ended"]);
    is_ended(&world, ALICE, Party::Callee, "declined", "rejected");
}

#[test]
fn a_device_that_no_push_reached_and_that_does_not_listen_is_not_waited_for() {
    let mut world = World::placed(Some(A1));
    let mut spec = leg(BOB, "bob", "+14085550002", &[B1, B2], None);
    spec.devices[1].reached = false;
    world.handle(Input::Routed { purpose: Purpose::Place, leg: spec }).unwrap();
    world.event(BOB, B1, rejected(Scope::Device)).unwrap();
    is_ended(&world, ALICE, Party::Callee, "declined", "rejected");
}

#[test]
fn a_device_reached_later_is_waited_for() {
    let mut world = World::placed(Some(A1));
    let mut spec = leg(BOB, "bob", "+14085550002", &[B1, B2], None);
    spec.devices[1].reached = false;
    world.handle(Input::Routed { purpose: Purpose::Place, leg: spec }).unwrap();
    let device = Tapped { device: device(B2, BOTH), reached: true };
    world.handle(Input::Reached { leg: BOB, device }).unwrap();
    world.event(BOB, B1, rejected(Scope::Device)).unwrap();
    assert_eq!(world.view(ALICE).state, State::Proceeding);
}

#[test]
fn a_devices_failure_counts_as_its_being_out() {
    let mut world = World::ringing();
    world.event(BOB, B1, ClientBody::Failed { reason: "no-microphone".into() }).unwrap();
    world.event(BOB, B2, ClientBody::Failed { reason: "no-microphone".into() }).unwrap();
    assert_eq!(world.told(ALICE), ["failed", "ended"]);
    is_ended(&world, ALICE, Party::Server, "failed", "no-microphone");
}

#[test]
fn nobody_answers_in_time() {
    let mut world = World::ringing();
    world.pass(Duration::from_secs(60));
    assert_eq!(world.told(ALICE), ["noanswer", "ended"]);
    is_ended(&world, BOB, Party::Server, "noanswer", "answer-timeout");
}

#[test]
fn the_caller_cancels() {
    let mut world = World::ringing();
    world.event(BOB, B1, ClientBody::Alerting).unwrap();
    world.event(ALICE, A1, END).unwrap();
    is_ended(&world, ALICE, Party::Caller, "cancelled", "cancelled");
    is_ended(&world, BOB, Party::Caller, "cancelled", "cancelled");
}

#[test]
fn answer_against_cancel_whichever_comes_first_wins() {
    let mut world = World::ringing();
    world.claim(BOB, B1, None).unwrap();
    world.event(ALICE, A1, END).unwrap();
    assert_eq!(world.event(BOB, B1, ClientBody::Answered), Err(Code::CallEnded));
    is_ended(&world, BOB, Party::Caller, "cancelled", "cancelled");

    let mut world = World::ringing();
    world.claim(BOB, B1, None).unwrap();
    world.event(BOB, B1, ClientBody::Answered).unwrap();
    world.event(ALICE, A1, END).unwrap();
    is_ended(&world, BOB, Party::Caller, "completed", "completed");
}

#[test]
fn a_called_device_that_hangs_up_declines() {
    let mut world = World::ringing();
    world.event(BOB, B2, END).unwrap();
    is_ended(&world, ALICE, Party::Callee, "declined", "declined");
}

#[test]
fn what_the_caller_may_not_say_is_refused() {
    let mut world = World::ringing();
    for body in [
        ClientBody::Proceeding,
        ClientBody::Alerting,
        ClientBody::Progress,
        ClientBody::Answered,
        rejected(Scope::All),
        ClientBody::Hold,
        ClientBody::Resume,
        ClientBody::Dtmf { digit: '1', duration: 100 },
        ClientBody::Transfer { target: "+14085550003".into(), replaces: None },
    ] {
        assert_eq!(world.event(ALICE, A1, body.clone()), Err(Code::IllegalEvent), "{body:?}");
    }
    assert!(world.told(BOB).is_empty());
}

#[test]
fn early_media_comes_from_the_first_branch_that_has_some() {
    let mut world = World::ringing();
    assert_eq!(world.plan(BOB).peer, None);
    world.event(BOB, B2, ClientBody::Progress).unwrap();
    world.event(BOB, B1, ClientBody::Progress).unwrap();
    assert_eq!(world.told(ALICE), ["progress"]);
    assert_eq!((world.plan(BOB).speaker, world.plan(BOB).peer), (Some(B2), Some(ALICE)));
    assert_eq!(world.plan(ALICE).peer, None, "the caller isn't heard before the answer");
    world.claim(BOB, B1, None).unwrap();
    world.event(BOB, B1, ClientBody::Answered).unwrap();
    assert_eq!((world.plan(BOB).speaker, world.plan(BOB).peer), (Some(B1), Some(ALICE)));
    assert_eq!((world.plan(ALICE).speaker, world.plan(ALICE).peer), (Some(A1), Some(BOB)));
}

#[test]
fn while_several_ring_the_directives_are_what_they_share() {
    let mut world = World::placed(Some(A1));
    let mut spec = leg(BOB, "bob", "+14085550002", &[B1, B2], None);
    spec.devices[0].device = device(B1, "1 in: opus; PCMU; 1 out: opus; PCMU;");
    spec.devices[1].device = device(B2, "1 in: PCMU; 1 out: PCMU;");
    world.handle(Input::Routed { purpose: Purpose::Place, leg: spec }).unwrap();
    assert_eq!(world.view(ALICE).client_directives, json!("1 to 1: PCMU;"));
    world.claim(BOB, B1, None).unwrap();
    world.event(BOB, B1, ClientBody::Answered).unwrap();
    assert_eq!(world.view(ALICE).client_directives, json!("1 to 1: opus;"));
}

#[test]
fn a_call_without_a_handler_taps_the_users_devices_and_the_one_that_takes_it_places_it() {
    let mut world = World::placed(None);
    assert_eq!(world.taps(), [(ALICE, None, TapReason::Outgoing)]);
    assert!(!world.out.iter().any(|o| matches!(o, Output::Route { .. })));
    world.claim(ALICE, A2, None).unwrap();
    assert!(world.out.iter().any(|o| matches!(o, Output::Route { purpose: Purpose::Place, .. })));
    assert_eq!(world.claim(ALICE, A1, None), Err(Code::AlreadyClaimed));
    world.route_bob();
    world.claim(BOB, B1, None).unwrap();
    world.event(BOB, B1, ClientBody::Answered).unwrap();
    assert!(world.view(ALICE).handler.unwrap().ends_with(&A2.to_string()));
}

#[test]
fn a_call_that_no_device_takes_is_over_after_the_answer_timeout() {
    let mut world = World::placed(None);
    world.pass(Duration::from_secs(60));
    is_ended(&world, ALICE, Party::Server, "noanswer", "answer-timeout");
}

#[test]
fn a_destination_that_cannot_be_found_fails_the_call() {
    let mut world = World::placed(None);
    world.claim(ALICE, A1, None).unwrap();
    world.handle(Input::NotRouted { purpose: Purpose::Place, code: Code::Unreachable }).unwrap();
    assert_eq!(world.told(ALICE), ["proceeding", "failed", "ended"]);
    is_ended(&world, ALICE, Party::Server, "failed", "unreachable");
}

#[test]
fn a_caller_who_cancels_while_the_callee_is_looked_up_rings_nobody() {
    let mut world = World::placed(Some(A1));
    world.event(ALICE, A1, END).unwrap();
    world.route_bob();
    assert!(world.call.view(BOB, None).is_none());
}

#[test]
fn another_device_can_be_asked_to_answer_or_to_take_the_call() {
    let mut world = World::ringing();
    world.handle(Input::Tap { leg: BOB, handler: B2 }).unwrap();
    assert_eq!(world.taps(), [(BOB, Some(B2), TapReason::Answer)]);
    let mut world = World::talking();
    world.handle(Input::Tap { leg: BOB, handler: B2 }).unwrap();
    assert_eq!(world.taps(), [(BOB, Some(B2), TapReason::Take)]);
}

#[test]
fn a_call_that_finds_no_device_with_a_common_codec_fails_and_nobody_rings() {
    let mut world = World::placed(Some(A1));
    world.route(Purpose::Place, leg_with(BOB, "bob", "+14085550002", B1, "1 in: G729; 1 out: G729;"));
    assert_eq!(world.told(ALICE), ["proceeding", "failed", "ended"]);
    assert!(world.taps().is_empty() && world.call.view(BOB, None).is_none());
    is_ended(&world, ALICE, Party::Server, "failed", "no-common-codec");
}

#[test]
fn an_event_without_a_number_after_the_largest_one_is_still_taken() {
    let mut world = World::talking();
    let ping = |seq| Input::Event { leg: ALICE, handler: A1, seq, body: ClientBody::Ping { nonce: None } };
    assert_eq!(world.handle(ping(Some(u64::MAX))), Ok(Some(Accepted { seq: u64::MAX })));
    assert_eq!(world.handle(ping(None)), Ok(Some(Accepted { seq: u64::MAX })));
}
