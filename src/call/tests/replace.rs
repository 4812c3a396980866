//! Somebody from outside takes the place of a leg.

use super::*;

fn comes(advertisement: &str) -> NewLeg {
    let leg = leg_with(CAROL, "gateway", "+14085550003", C1, advertisement);
    NewLeg { handler: Some(C1), ..leg }
}

fn replace(world: &mut World, leg: LegId) -> Result<Option<Accepted>, Code> {
    let told = Some(told_of("+14085550003"));
    world.handle(Input::Replace { leg, with: Box::new(comes(BOTH)), told })
}

#[test]
fn who_takes_a_callers_place_is_whom_the_callee_talks_to_then() {
    let mut world = World::talking();
    replace(&mut world, ALICE).unwrap();
    is_ended(&world, ALICE, Party::Server, "completed", "transferred");
    assert_eq!((world.plan(BOB).peer, world.plan(CAROL).peer), (Some(CAROL), Some(BOB)));
    let (bob, carol) = (world.view(BOB), world.view(CAROL));
    assert_eq!((bob.from, bob.caller), (number("+14085550003"), Some(told_of("+14085550003"))));
    assert_eq!((carol.from, carol.to, carol.state), (number("+14085550003"), bob.to, State::Answered));
    assert_eq!(world.told(BOB), ["directives"]);
    // Its gateway has to be heard of, like any device.
    world.pass(Duration::from_secs(31));
    is_ended(&world, BOB, Party::Server, "completed", "no-signalling");
}

#[test]
fn who_takes_a_callees_place_answers_for_them() {
    let mut world = World::ringing();
    world.event(BOB, B1, ClientBody::Alerting).unwrap();
    world.out.clear();
    replace(&mut world, BOB).unwrap();
    is_ended(&world, BOB, Party::Server, "cancelled", "transferred");
    assert_eq!(world.told(ALICE), ["answered", "directives"]);
    assert_eq!((world.view(ALICE).to, world.plan(ALICE).peer), (number("+14085550003"), Some(CAROL)));
    world.pass(Duration::from_secs(20));
    assert_eq!(world.view(ALICE).state, State::Answered, "nobody rings any more");
}

#[test]
fn what_can_not_be_taken_over_stays_as_it_was() {
    let mut ringing = World::ringing();
    assert_eq!(replace(&mut ringing, ALICE), Err(Code::IllegalEvent), "nobody has answered her");
    let mut world = World::talking();
    assert_eq!(replace(&mut world, CAROL), Err(Code::NotFound));
    let none = Input::Replace { leg: ALICE, with: Box::new(comes("1 in: G722; 1 out: G722;")), told: None };
    assert_eq!(world.handle(none), Err(Code::NoCommonCodec));
    let before = world.call.clone();
    let target = "+14085550004".to_owned();
    world.event(BOB, B1, ClientBody::Transfer { target, replaces: None }).unwrap();
    assert_eq!(replace(&mut world, ALICE), Err(Code::IllegalEvent), "she is being handed on");
    world.call = before;
    world.event(ALICE, A1, END).unwrap();
    assert_eq!(replace(&mut world, ALICE), Err(Code::CallEnded));
}

#[test]
fn a_call_is_not_handed_on_without_end() {
    let mut world = World::talking();
    let transfer = || ClientBody::Transfer { target: "+14085550003".into(), replaces: None };
    let mut tries = 0;
    let refused = loop {
        if let Err(code) = world.event(BOB, B1, transfer()) {
            break code;
        }
        tries += 1;
        let id = LegId::from_u128(1000 + tries);
        world.route(Purpose::Transfer, NewLeg { id, handler: None, ..comes(BOTH) });
        world.event(id, C1, rejected(crate::protocol::event::Scope::All)).unwrap();
    };
    assert_eq!((refused, world.call.legs().count()), (Code::TooMany, 64));
    assert_eq!(world.view(ALICE).state, State::Answered);
}
