//! A call written down and restored at any moment behaves the same.

use proptest::prelude::*;

use super::*;
use crate::protocol::event::Scope;

fn reread(call: &Call) -> Call {
    serde_json::from_slice(&serde_json::to_vec(call).unwrap()).unwrap()
}

fn party() -> impl Strategy<Value = (LegId, HandlerKey)> {
    prop_oneof![Just((ALICE, A1)), Just((ALICE, A2)), Just((BOB, B1)), Just((BOB, B2)), Just((CAROL, C1)),]
}

fn body() -> impl Strategy<Value = ClientBody> {
    // Those that move a call on come up more often.
    prop::sample::select(vec![
        ClientBody::Proceeding,
        ClientBody::Alerting,
        ClientBody::Progress,
        ClientBody::Answered,
        ClientBody::Answered,
        ClientBody::Answered,
        rejected(Scope::Device),
        ClientBody::Failed { reason: "x".into() },
        END,
        ClientBody::Hold,
        ClientBody::Hold,
        ClientBody::Resume,
        ClientBody::Resume,
        ClientBody::Dtmf { digit: '1', duration: 100 },
        ClientBody::Transfer { target: "+14085550003".into(), replaces: None },
        ClientBody::Ping { nonce: None },
    ])
}

#[derive(Clone, Debug)]
enum Step {
    Event((LegId, HandlerKey), ClientBody, Option<u64>),
    Claim((LegId, HandlerKey), Option<Intent>),
    Open((LegId, HandlerKey), u64, Option<u64>),
    Close(LegId, u64),
    Carol(bool),
    Pass(u64),
    Migrate,
    Digit(LegId),
}

fn step() -> impl Strategy<Value = Step> {
    let intent = prop_oneof![
        Just(None),
        Just(Some(Intent::Answer)),
        Just(Some(Intent::Pull)),
        Just(Some(Intent::Recover))
    ];
    prop_oneof![
        6 => (party(), body(), prop::option::of(0u64..30)).prop_map(|(p, b, s)| Step::Event(p, b, s)),
        4 => (party(), intent).prop_map(|(p, i)| Step::Claim(p, i)),
        1 => (party(), 0u64..6, prop::option::of(0u64..20)).prop_map(|(p, b, a)| Step::Open(p, b, a)),
        1 => (party(), 0u64..6).prop_map(|(p, b)| Step::Close(p.0, b)),
        1 => any::<bool>().prop_map(Step::Carol),
        2 => (0u64..70_000).prop_map(Step::Pass),
        1 => Just(Step::Migrate),
        1 => party().prop_map(|p| Step::Digit(p.0)),
    ]
}

fn run(world: &mut World, step: &Step) -> Result<Option<Accepted>, Code> {
    match step.clone() {
        Step::Event((leg, handler), body, seq) => world.handle(Input::Event { leg, handler, seq, body }),
        Step::Claim((leg, key), intent) => world.claim(leg, key, intent),
        Step::Open((leg, key), byway, after) => {
            world.handle(Input::Opened { leg, byway, kind: ByWay::Reverse(Some(key)), after })
        }
        Step::Close(leg, byway) => world.handle(Input::Closed { leg, byway }),
        Step::Carol(told) if world.call.view(CAROL, None).is_none() => {
            if told {
                let (target, kept) = (Some(told_of("+14085550002")), Some(told_of("+14085550003")));
                world.handle(Input::Vouched { target, kept }).unwrap();
            }
            world.route_carol();
            Ok(None)
        }
        Step::Carol(_) => Ok(None),
        Step::Pass(ms) => {
            world.pass(Duration::from_millis(ms));
            Ok(None)
        }
        Step::Migrate => world.handle(Input::Migrate),
        Step::Digit(leg) => world.handle(Input::MediaDigit { leg, digit: '1', duration: 100 }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_restored_call_behaves_as_the_original(
        steps in prop::collection::vec(step(), 0..40),
        cut in 0usize..40,
        third_party in any::<bool>(),
    ) {
        let mut world = if third_party { World::placed(None) } else { World::ringing() };
        let cut = cut.min(steps.len());
        for step in &steps[..cut] {
            let _ = run(&mut world, step);
        }
        world.out.clear();
        let mut restored = world.clone();
        restored.call = reread(&world.call);
        for step in &steps[cut..] {
            prop_assert_eq!(run(&mut world, step), run(&mut restored, step));
            // The plan is told anew after a restore: relays start empty.
            let said = |w: &World| {
                w.out.iter().filter(|o| !matches!(o, Output::Media(_))).cloned().collect::<Vec<_>>()
            };
            prop_assert_eq!(said(&world), said(&restored));
            prop_assert_eq!(world.call.word(), restored.call.word());
        }
        prop_assert_eq!(world.call.media_plan(), restored.call.media_plan());
        prop_assert_eq!(reread(&world.call), reread(&restored.call));
    }

    #[test]
    fn whatever_happens_the_books_are_in_order(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::ringing();
        for step in &steps {
            let before = reread(&world.call);
            if run(&mut world, step).is_err() {
                prop_assert_eq!(&reread(&world.call), &before, "a refusal changes nothing: {:?}", step);
            }
            for leg in world.call.legs() {
                let seqs: Vec<u64> = leg.history.iter().filter_map(|e| e.seq).collect();
                prop_assert!(seqs.windows(2).all(|w| w[1] == w[0] + 1));
                prop_assert_eq!(seqs.last().copied().unwrap_or(0), leg.seq);
                let ended = leg.history.iter().filter(|e| matches!(e.body, Body::Ended { .. })).count();
                prop_assert_eq!(ended, usize::from(!leg.live()));
                let last = leg.history.back().map(|e| e.body.clone());
                let is_last = matches!(last, Some(Body::Ended { .. }));
                prop_assert!(ended == 0 || is_last);
            }
            for leg in world.call.media_plan().legs {
                prop_assert!(!leg.over || leg.peer.is_none());
            }
        }
    }
}

#[test]
fn after_a_restart_clients_have_thirty_seconds_to_come_back() {
    let mut world = World::talking();
    world.call = reread(&world.call);
    world.now = world.now + Duration::from_secs(600);
    world.handle(Input::Restored).unwrap();
    world.pass(Duration::from_secs(29));
    world.open(ALICE, 1, Some(A1), None);
    world.open(BOB, 2, Some(B1), None);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.view(ALICE).state, State::Answered);
}

#[test]
fn a_call_whose_callee_was_being_looked_up_is_looked_up_again() {
    let mut world = World::placed(None);
    world.claim(ALICE, A1, None).unwrap();
    world.call = reread(&world.call);
    world.out.clear();
    world.handle(Input::Restored).unwrap();
    assert!(world.out.iter().any(|o| matches!(o, Output::Route { purpose: Purpose::Place, .. })));
}
