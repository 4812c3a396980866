//! A call that stands: hold, digits, moving, transfer, silence, the end.

use super::*;
use crate::protocol::event::Scope;

#[test]
fn either_side_ends_it_and_both_learn_who_and_why() {
    for (leg, key, by) in [(ALICE, A1, Party::Caller), (BOB, B1, Party::Callee), (BOB, B2, Party::Callee)] {
        let mut world = World::talking();
        world.event(leg, key, ClientBody::End { reason: Some("tired".into()) }).unwrap();
        for id in [ALICE, BOB] {
            is_ended(&world, id, by, "completed", "tired");
        }
        let own = world.events(leg);
        assert!(own.last().unwrap()["handler"].as_str().unwrap().ends_with(&key.to_string()));
        assert_eq!(world.event(leg, key, END), Err(Code::CallEnded));
    }
}

#[test]
fn hold_is_a_flag_per_leg_and_stops_media_until_both_resume() {
    let mut world = World::talking();
    world.event(ALICE, A1, ClientBody::Hold).unwrap();
    assert_eq!(world.told(BOB), ["hold", "directives"]);
    assert_eq!(world.told(ALICE), ["hold", "directives"]);
    assert!(world.view(ALICE).held && !world.view(BOB).held);
    assert_eq!(world.event(ALICE, A1, ClientBody::Hold), Err(Code::IllegalEvent));
    world.event(BOB, B1, ClientBody::Hold).unwrap();
    world.event(ALICE, A1, ClientBody::Resume).unwrap();
    assert_eq!(world.view(ALICE).client_directives, json!(""));
    assert!(world.plan(ALICE).sends.is_empty() && world.plan(ALICE).receives.is_empty());
    world.event(BOB, B1, ClientBody::Resume).unwrap();
    assert_eq!(world.view(ALICE).client_directives, json!("1 to 1: opus;"));
    assert_eq!(world.event(BOB, B1, ClientBody::Resume), Err(Code::IllegalEvent));
}

#[test]
fn end_against_hold_whichever_comes_first_wins() {
    let mut world = World::talking();
    world.event(ALICE, A1, END).unwrap();
    assert_eq!(world.event(BOB, B1, ClientBody::Hold), Err(Code::CallEnded));
    let mut world = World::talking();
    world.event(BOB, B1, ClientBody::Hold).unwrap();
    world.event(ALICE, A1, END).unwrap();
    is_ended(&world, BOB, Party::Caller, "completed", "completed");
}

#[test]
fn a_digit_reaches_the_other_side_as_an_event_or_as_telephone_event() {
    let digit = ClientBody::Dtmf { digit: '5', duration: 100 };
    let mut world = World::talking();
    world.event(ALICE, A1, digit.clone()).unwrap();
    let told = world.events(BOB);
    assert_eq!((&told[0]["event"], &told[0]["digit"]), (&json!("dtmf"), &json!("5")));
    assert!(world.told(ALICE).is_empty());

    let with = "1 in: opus; telephone-event; 1 out: opus; telephone-event;";
    world.handle(Input::Changed { device: device(A1, with) }).unwrap();
    world.handle(Input::Changed { device: device(B1, with) }).unwrap();
    world.out.clear();
    world.event(ALICE, A1, digit).unwrap();
    assert!(world.told(BOB).is_empty());
    assert!(world.out.contains(&Output::Digit { leg: BOB, digit: '5', duration: 100 }));
}

#[test]
fn a_digit_found_in_media_becomes_an_event() {
    let mut world = World::talking();
    world.handle(Input::MediaDigit { leg: BOB, digit: '#', duration: 80 }).unwrap();
    assert_eq!(world.events(ALICE)[0]["digit"], "#");
}

#[test]
fn another_device_pulls_the_call_and_both_sides_get_new_directives() {
    let mut world = World::talking();
    assert_eq!(world.claim(BOB, B2, None), Err(Code::AlreadyClaimed), "that soon it is a late answer");
    world.pass(Duration::from_secs(2));
    let other = device(B2, "1 in: PCMU; 1 out: PCMU;");
    world.handle(Input::Claim { leg: BOB, device: other, intent: None, if_match: None }).unwrap();
    let told = world.events(BOB);
    assert_eq!(told[0]["event"], "handler-changed");
    assert!(told[0]["handler"].as_str().unwrap().ends_with(&B2.to_string()));
    assert_eq!(told[1]["serverDirectives"], "1 to 1: PCMU;");
    assert_eq!(world.told(ALICE), ["directives"]);
    assert_eq!((world.plan(BOB).speaker, world.plan(BOB).listener), (Some(B2), Some(B2)));
}

#[test]
fn a_caller_moves_to_another_device_at_once_when_asked_to_pull() {
    let mut world = World::talking();
    world.claim(ALICE, A2, Some(Intent::Pull)).unwrap();
    assert_eq!(world.told(ALICE), ["handler-changed", "directives"]);
    assert_eq!(world.claim(ALICE, A1, Some(Intent::Recover)), Err(Code::AlreadyClaimed));
}

#[test]
fn a_new_description_of_the_carrying_device_gives_new_directives() {
    let mut world = World::talking();
    world.handle(Input::Changed { device: device(B1, "1 in: PCMU; 1 out: PCMU;") }).unwrap();
    assert_eq!(world.told(ALICE), ["directives"]);
    world.handle(Input::Changed { device: device(B2, "1 in: PCMU; 1 out: PCMU;") }).unwrap();
    assert!(world.told(ALICE).is_empty(), "a device that doesn't carry the call changes nothing");
}

fn transferring() -> World {
    let mut world = World::talking();
    let body = ClientBody::Transfer { target: "+14085550003".into(), replaces: None };
    world.event(BOB, B1, body).unwrap();
    assert_eq!(world.told(BOB), ["transferring"]);
    world.route_carol();
    world.open(CAROL, 9, Some(C1), None);
    world.out.clear();
    world
}

#[test]
fn a_blind_transfer_joins_target_and_other_side_when_the_target_answers() {
    let mut world = transferring();
    assert_eq!(world.view(CAROL).from, number("+14085550001"), "Carol sees whom she'll talk to");
    world.event(CAROL, C1, ClientBody::Alerting).unwrap();
    assert!(world.told(ALICE).is_empty(), "the two go on talking meanwhile");
    assert_eq!(world.plan(ALICE).peer, Some(BOB));
    world.claim(CAROL, C1, None).unwrap();
    world.event(CAROL, C1, ClientBody::Answered).unwrap();
    let bob = world.events(BOB);
    assert_eq!((&bob[0]["event"], &bob[0]["to"]), (&json!("moved"), &json!("+14085550003")));
    assert_eq!(bob[1]["event"], "ended");
    assert_eq!(world.told(ALICE), ["directives"]);
    assert_eq!((world.plan(ALICE).peer, world.plan(CAROL).peer), (Some(CAROL), Some(ALICE)));
    assert_eq!(world.view(ALICE).to, number("+14085550003"));
    world.event(CAROL, C1, END).unwrap();
    is_ended(&world, ALICE, Party::Callee, "completed", "completed");
}

/// Who talks hands the other on to Carol, who answers; told what the server was asked to say of them.
fn handed_on(world: &mut World, by: (LegId, HandlerKey)) -> Option<Word> {
    let body = ClientBody::Transfer { target: "+14085550003".into(), replaces: None };
    world.event(by.0, by.1, body).unwrap();
    let word = world.call.word();
    let (target, kept) = (Some(told_of("+14085550002")), Some(told_of("+14085550003")));
    world.handle(Input::Vouched { target, kept }).unwrap();
    world.route_carol();
    assert_eq!(world.view(CAROL).caller, Some(told_of("+14085550002")));
    world.claim(CAROL, C1, None).unwrap();
    world.event(CAROL, C1, ClientBody::Answered).unwrap();
    word
}

#[test]
fn a_caller_who_is_handed_on_goes_by_their_own_passport() {
    let mut world = World::talking();
    let (alice, bob) = (world.view(ALICE).caller.unwrap(), number("+14085550002"));
    let first = Word::Divert { caller: alice.clone(), orig: number("+14085550001"), div: bob.clone() };
    assert_eq!(handed_on(&mut world, (BOB, B1)), Some(first));
    assert_eq!(world.view(ALICE).caller, Some(alice), "what Alice reads is still her own");
    assert_eq!(world.call.word(), None, "that transfer is over");
    // Carol hands on in her turn: what she was told goes on with it.
    let body = ClientBody::Transfer { target: "+14085550004".into(), replaces: None };
    world.event(CAROL, C1, body).unwrap();
    let second = Word::Divert {
        caller: told_of("+14085550002"),
        orig: number("+14085550001"),
        div: number("+14085550003"),
    };
    assert_eq!(world.call.word(), Some(second));
}

#[test]
fn a_passport_speaks_for_nobody_but_who_brought_it() {
    let mut world = World::talking();
    assert_eq!(handed_on(&mut world, (ALICE, A1)), Some(Word::Vouch(number("+14085550002"))));
    let bob = world.view(BOB);
    let carols = Some(told_of("+14085550003"));
    assert_eq!((bob.from, bob.caller), (number("+14085550003"), carols), "Alice's is not Carol's");
    // Carol was called, whichever party she stands for now.
    let body = ClientBody::Transfer { target: "+14085550004".into(), replaces: None };
    world.event(BOB, B1, body).unwrap();
    assert_eq!(world.call.word(), Some(Word::Vouch(number("+14085550003"))));
}

#[test]
fn a_target_of_whom_the_server_said_nothing_reads_no_passport() {
    let world = transferring();
    assert_eq!(world.view(CAROL).caller, None);
}

#[test]
fn a_transfer_to_whom_the_other_side_shares_no_codec_with_fails_and_nobody_rings() {
    let mut world = World::talking();
    let body = ClientBody::Transfer { target: "+14085550003".into(), replaces: None };
    world.event(BOB, B1, body).unwrap();
    world.out.clear();
    world.route(Purpose::Transfer, leg_with(CAROL, "carol", "+14085550003", C1, "1 in: G729; 1 out: G729;"));
    let error = &world.events(BOB)[0];
    assert_eq!((&error["event"], &error["code"]), (&json!("error"), &json!("no-common-codec")));
    assert!(world.taps().is_empty() && world.call.view(CAROL, None).is_none());
    assert_eq!(world.plan(ALICE).peer, Some(BOB));
}

#[test]
fn a_transfer_that_is_declined_leaves_the_call_as_it_was() {
    let mut world = transferring();
    world.event(CAROL, C1, rejected(Scope::Device)).unwrap();
    let error = &world.events(BOB)[0];
    assert_eq!((&error["event"], &error["code"]), (&json!("error"), &json!("rejected")));
    assert!(error["ref-seq"].is_u64());
    assert_eq!(world.plan(ALICE).peer, Some(BOB));
    is_ended(&world, CAROL, Party::Callee, "declined", "rejected");
    assert_eq!(world.view(ALICE).state, State::Answered);
}

#[test]
fn a_transfer_that_nobody_answers_times_out_alone() {
    let mut world = transferring();
    world.pass(Duration::from_secs(60));
    assert_eq!(world.told(CAROL), ["noanswer", "ended"]);
    assert_eq!(world.view(ALICE).state, State::Answered);
}

#[test]
fn who_hands_on_may_hang_up_before_the_target_answers() {
    let mut world = transferring();
    world.event(BOB, B1, END).unwrap();
    is_ended(&world, BOB, Party::Callee, "completed", "completed");
    assert_eq!(world.view(ALICE).state, State::Answered);
    world.claim(CAROL, C1, None).unwrap();
    world.event(CAROL, C1, ClientBody::Answered).unwrap();
    assert_eq!(world.plan(ALICE).peer, Some(CAROL));

    let mut world = transferring();
    world.event(BOB, B1, END).unwrap();
    world.event(CAROL, C1, rejected(Scope::Device)).unwrap();
    assert_eq!(world.view(ALICE).state, State::Ended);
}

#[test]
fn who_hands_on_may_hang_up_before_the_target_is_found() {
    let handing = || {
        let mut world = World::talking();
        let target = "+14085550003".into();
        world.event(BOB, B1, ClientBody::Transfer { target, replaces: None }).unwrap();
        world.event(BOB, B1, END).unwrap();
        is_ended(&world, BOB, Party::Callee, "completed", "completed");
        assert_eq!(world.view(ALICE).state, State::Answered);
        world
    };
    let mut world = handing();
    let leg = leg_with(CAROL, "carol", "+14085550003", C1, "1 in: opus; 1 out: opus;");
    world.handle(Input::Routed { purpose: Purpose::Transfer, leg: leg.clone() }).unwrap();
    // Whoever is found later is not rung as well.
    let late = NewLeg { id: LegId::from_u128(0xd), ..leg };
    world.handle(Input::Routed { purpose: Purpose::Transfer, leg: late }).unwrap();
    assert_eq!(world.call.legs().count(), 3);
    world.claim(CAROL, C1, None).unwrap();
    world.event(CAROL, C1, ClientBody::Answered).unwrap();
    assert_eq!(world.plan(ALICE).peer, Some(CAROL));

    let mut world = handing();
    world.handle(Input::NotRouted { purpose: Purpose::Transfer, code: Code::Unreachable }).unwrap();
    assert_eq!(world.view(ALICE).state, State::Ended);
}

#[test]
fn the_one_who_stays_may_hang_up_during_a_transfer() {
    let mut world = transferring();
    world.event(ALICE, A1, END).unwrap();
    for id in [ALICE, BOB, CAROL] {
        assert_eq!(world.view(id).state, State::Ended);
    }
}

#[test]
fn a_transfer_to_nowhere_is_an_error_event() {
    let mut world = World::talking();
    let to = |target: &str| ClientBody::Transfer { target: target.into(), replaces: None };
    assert_eq!(world.event(BOB, B1, to("nobody")), Err(Code::BadNumber));
    world.event(BOB, B1, to("+14085550009")).unwrap();
    assert_eq!(world.event(BOB, B1, to("+14085550009")), Err(Code::IllegalEvent));
    world.out.clear();
    world.handle(Input::NotRouted { purpose: Purpose::Transfer, code: Code::Unreachable }).unwrap();
    assert_eq!(world.events(BOB)[0]["code"], "unreachable");
    assert_eq!(world.view(BOB).state, State::Answered);
}

#[test]
fn an_attended_transfer_joins_the_far_legs_of_two_calls() {
    // Bob talks to Alice in one call, and to Carol in another.
    let mut first = World::talking();
    let consult_leg = LegId::from_u128(0xb2);
    let now = first.now;
    let caller = Caller { passport: "q".into(), verification: json!({}), ..Caller::default() };
    let spec = leg(consult_leg, "bob", "+14085550002", &[B1], Some(B1));
    let call =
        Call::place(now, CallId::from_u128(2), Timing::default(), spec, number("+14085550003"), caller);
    let mut second = World { now, call, out: vec![], seqs: 0 };
    let carol = leg(CAROL, "carol", "+14085550003", &[C1], None);
    second.handle(Input::Routed { purpose: Purpose::Place, leg: carol }).unwrap();
    let release = |user: &str| Input::Release { by: consult_leg, user: user.into() };
    assert_eq!(second.handle(release("bob")), Err(Code::IllegalEvent), "not before she answered");
    second.claim(CAROL, C1, None).unwrap();
    second.event(CAROL, C1, ClientBody::Answered).unwrap();

    let replaces = format!("https://x/.well-known/ript/v1/providertgs/t/calls/{consult_leg}");
    let body = ClientBody::Transfer { target: "+14085550003".into(), replaces: Some(replaces) };
    first.event(BOB, B1, body).unwrap();
    assert!(first.out.contains(&Output::Fetch { replaces: consult_leg, user: "bob".into() }));
    assert_eq!(second.handle(release("mallory")), Err(Code::NotFound));
    second.out.clear();
    second.handle(release("bob")).unwrap();
    assert_eq!(second.told(consult_leg), ["moved", "ended"]);
    let released = second.out.iter().find_map(|o| match o {
        Output::Released(leg) => Some(leg.clone()),
        _ => None,
    });
    first.out.clear();
    let released = released.unwrap();
    assert_eq!(released.called(), Some(&number("+14085550003")));
    let mut untold = first.clone();
    untold.handle(Input::Adopt { leg: released.clone() }).unwrap();
    assert_eq!(untold.view(CAROL).caller, None, "Bob's PASSporT, for the other call, is not Alice's");
    assert!(matches!(first.call.word(), Some(Word::Divert { .. })));
    assert_eq!(first.call.kept(), None, "Alice placed the call");
    first.handle(Input::Vouched { target: Some(told_of("+14085550002")), kept: None }).unwrap();
    first.handle(Input::Adopt { leg: released }).unwrap();
    let carol = first.view(CAROL);
    assert_eq!((carol.from, carol.caller), (number("+14085550001"), Some(told_of("+14085550002"))));
    assert_eq!(first.told(BOB), ["moved", "ended"]);
    assert_eq!(
        (first.told(ALICE), first.told(CAROL)),
        (vec!["directives".into()], vec!["directives".into()])
    );
    assert_eq!((first.plan(ALICE).peer, first.plan(CAROL).peer), (Some(CAROL), Some(ALICE)));
}

#[test]
fn an_attended_transfer_that_is_refused_leaves_both_calls() {
    let mut world = World::talking();
    let replaces = format!("/.well-known/ript/v1/providertgs/t/calls/{CAROL}");
    let body = |replaces: &str| ClientBody::Transfer {
        target: "+14085550003".into(),
        replaces: Some(replaces.into()),
    };
    assert_eq!(world.event(BOB, B1, body("nonsense")), Err(Code::BadEvent));
    world.event(BOB, B1, body(&replaces)).unwrap();
    world.out.clear();
    world.handle(Input::NotReleased { code: Code::NotFound }).unwrap();
    assert_eq!(world.told(BOB), ["error"]);
    assert_eq!(world.plan(ALICE).peer, Some(BOB));
}

#[test]
fn thirty_seconds_without_a_byway_end_the_call() {
    let mut world = World::talking();
    world.handle(Input::Closed { leg: ALICE, byway: 1 }).unwrap();
    world.pass(Duration::from_millis(29_999));
    assert_eq!(world.view(ALICE).state, State::Answered);
    world.open(ALICE, 4, Some(A1), None);
    world.handle(Input::Closed { leg: ALICE, byway: 4 }).unwrap();
    world.pass(Duration::from_secs(30));
    is_ended(&world, BOB, Party::Server, "completed", "no-signalling");
}

#[test]
fn finite_puts_alone_keep_a_call_alive() {
    let mut world = World::talking();
    world.handle(Input::Closed { leg: ALICE, byway: 1 }).unwrap();
    for _ in 0..10 {
        world.pass(Duration::from_secs(20));
        world.event(ALICE, A1, ClientBody::Ping { nonce: None }).unwrap();
    }
    assert_eq!(world.view(ALICE).state, State::Answered);
    world.pass(Duration::from_secs(30));
    assert_eq!(world.view(ALICE).state, State::Ended);
}

#[test]
fn a_call_that_no_device_has_opened_yet_lives_until_the_answer_timeout() {
    let mut world = World::placed(Some(A1));
    world.route_bob();
    world.pass(Duration::from_millis(59_999));
    assert_eq!(world.view(BOB).state, State::Proceeding);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.view(BOB).state, State::Ended);
}

#[test]
fn a_ping_is_answered_to_its_device_only() {
    let mut world = World::talking();
    world.event(BOB, B1, ClientBody::Ping { nonce: Some(json!("n")) }).unwrap();
    let Some(Output::Send { to, event, .. }) = world.out.pop() else { panic!("no pong") };
    assert_eq!((to, event.seq), (To::Handler(B1), None));
    assert_eq!(event.body, Body::Pong { nonce: Some(json!("n")) });
}

#[test]
fn an_event_seen_again_is_ignored_and_a_refused_one_uses_up_nothing() {
    let mut world = World::talking();
    let hold = |seq| Input::Event { leg: ALICE, handler: A1, seq: Some(seq), body: ClientBody::Hold };
    assert_eq!(world.handle(hold(50)), Ok(Some(Accepted { seq: 50 })));
    world.out.clear();
    assert_eq!(world.handle(hold(50)), Ok(Some(Accepted { seq: 50 })));
    assert_eq!(world.handle(hold(7)), Ok(Some(Accepted { seq: 50 })));
    assert!(world.told(BOB).is_empty());
    assert_eq!(world.handle(hold(51)), Err(Code::IllegalEvent));
    let resume = Input::Event { leg: ALICE, handler: A1, seq: Some(51), body: ClientBody::Resume };
    assert_eq!(world.handle(resume), Ok(Some(Accepted { seq: 51 })));
    let other = Input::Event { leg: ALICE, handler: A2, seq: Some(1), body: ClientBody::Hold };
    assert_eq!(world.handle(other), Ok(Some(Accepted { seq: 1 })), "each device counts for itself");
}

#[test]
fn a_byway_gets_the_state_or_exactly_what_it_missed() {
    let mut world = World::talking();
    let newest = world.view(BOB).version;
    world.event(ALICE, A1, ClientBody::Hold).unwrap();
    world.event(ALICE, A1, ClientBody::Resume).unwrap();
    let all = world.events(BOB);
    let first = all[0]["seq"].as_u64().unwrap();
    world.open(BOB, 7, Some(B1), Some(first));
    assert_eq!(world.events(BOB), all[1..], "what came after `first`, newest {newest}");
    world.open(BOB, 8, Some(B1), None);
    let snapshot = &world.events(BOB)[0];
    assert_eq!((&snapshot["event"], &snapshot["snapshot"]), (&json!("answered"), &json!(true)));
    assert_eq!(snapshot["seq"], all.last().unwrap()["seq"]);
    assert!(snapshot["accepted"].is_u64());
    world.open(BOB, 9, Some(B1), Some(10_000));
    assert_eq!(world.events(BOB)[0]["snapshot"], true, "a number from the future is no number of ours");
}

#[test]
fn what_is_no_longer_kept_is_made_up_for_by_the_state() {
    let mut world = World::talking();
    for _ in 0..200 {
        world.event(ALICE, A1, ClientBody::Hold).unwrap();
        world.event(ALICE, A1, ClientBody::Resume).unwrap();
    }
    world.out.clear();
    world.open(BOB, 7, Some(B1), Some(1));
    assert_eq!(world.events(BOB)[0]["snapshot"], true);
}

#[test]
fn an_ended_call_can_be_read_for_an_hour() {
    let mut world = World::talking();
    world.event(ALICE, A1, END).unwrap();
    world.out.clear();
    world.pass(Duration::from_secs(3599));
    world.open(BOB, 7, Some(B1), None);
    assert_eq!(world.events(BOB)[0]["outcome"], "completed");
    assert!(world.out.contains(&Output::Close { leg: BOB }));
    world.pass(Duration::from_secs(1));
    assert_eq!(world.out.last(), Some(&Output::Gone));
}

#[test]
fn all_live_legs_are_told_to_migrate() {
    let mut world = World::talking();
    world.handle(Input::Migrate).unwrap();
    assert_eq!((world.told(ALICE), world.told(BOB)), (vec!["migrate".into()], vec!["migrate".into()]));
}

#[test]
fn an_unknown_event_is_taken_and_ignored() {
    let mut world = World::talking();
    world.event(BOB, B1, ClientBody::Unknown).unwrap();
    assert!(world.told(ALICE).is_empty() && world.told(BOB).is_empty());
}
