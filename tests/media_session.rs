//! Opening a media session: tickets, bearers, who gets in, and what ends it.

use http::HeaderMap;
use ript::protocol::id::LegId;
use ript::protocol::time::Timestamp;
use ript::service::tickets::Grant;

use crate::common::World;
use crate::common::media::{Media, Pair, audio, through};
use crate::common::user::{BOTH, encode};

fn problem(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_opens_by_ticket_or_by_bearer_and_answers_a_probe() {
    let world = World::start().await;
    let pair = Pair::ringing(&world, [BOTH, BOTH]).await;
    let mut by_ticket = pair.alice.media(&pair.mine, &pair.a1).await;
    assert!(by_ticket.settle().await.is_empty());
    let uri = format!("{}/media?handler={}", pair.theirs, encode(&pair.b1));
    let mut by_bearer = Media::open(&pair.bob, &uri, pair.bob.bearer()).await.unwrap();
    assert!(by_bearer.settle().await.is_empty());
    // The handler's own id names it too.
    let uri = format!("{}/media?handler=b1", pair.theirs);
    Media::open(&pair.bob, &uri, pair.bob.bearer()).await.unwrap().settle().await;
    // A ticket with the handler that it names.
    let uri = pair.alice.ticket(&pair.mine, &pair.a1).await;
    let uri = format!("{uri}&handler={}", encode(&pair.a1));
    Media::open(&pair.alice, &uri, HeaderMap::new()).await.unwrap().settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_opens_once_in_time_and_only_what_it_is_for() {
    let world = World::start().await;
    let pair = Pair::ringing(&world, [BOTH, BOTH]).await;
    let (alice, none) = (&pair.alice, HeaderMap::new);
    let bad = problem(403, "bad-ticket");

    let used = alice.ticket(&pair.mine, &pair.a1).await;
    let _open = Media::open(alice, &used, none()).await.unwrap();
    assert_eq!(alice.refused(&used, none()).await, bad);
    assert_eq!(alice.refused(&format!("{}/media?ticket=forged", pair.mine), none()).await, bad);
    // Even a good bearer doesn't make a bad ticket good.
    assert_eq!(alice.refused(&used, alice.bearer()).await, bad);

    let a2 = alice.register("a2", BOTH).await;
    let other = alice.ticket(&pair.mine, &pair.a1).await;
    assert_eq!(alice.refused(&format!("{other}&handler={}", encode(&a2)), none()).await, bad);

    let elsewhere = alice.ticket(&pair.mine, &pair.a1).await;
    let ticket = elsewhere.split_once("ticket=").unwrap().1;
    assert_eq!(alice.refused(&format!("{}/media?ticket={ticket}", pair.theirs), none()).await, bad);

    let leg: LegId = pair.mine.rsplit('/').next().unwrap().parse().unwrap();
    let handler = pair.a1.rsplit('/').next().unwrap().parse().unwrap();
    let then = Timestamp::from_millis(ript::clock::now().as_millis() - 30_001);
    let owner = owner(&world, &pair.alice).await;
    let grant = Grant { user: owner, leg: Some(leg), handler: Some(handler) };
    let late = world.service.tickets.issue(then, grant).unwrap();
    assert_eq!(alice.refused(&format!("{}/media?ticket={late}", pair.mine), none()).await, bad);
}

/// The user's name inside the server.
async fn owner(world: &World, user: &crate::common::User) -> String {
    let number = user.number.parse().unwrap();
    world.service.registry.find(&number).first().unwrap().user.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_right_nobody_gets_in() {
    let world = World::start().await;
    let pair = Pair::ringing(&world, [BOTH, BOTH]).await;
    let (alice, bob) = (&pair.alice, &pair.bob);
    let uri = format!("{}/media?handler={}", pair.mine, encode(&pair.a1));
    assert_eq!(alice.refused(&uri, HeaderMap::new()).await, problem(401, "unauthorized"));
    // Another user's call is as if it were not there.
    let theirs = format!("{}/media?handler={}", pair.mine, encode(&pair.b1));
    assert_eq!(bob.refused(&theirs, bob.bearer()).await, problem(404, "not-found"));
    let not_mine = format!("{}/media?handler={}", pair.mine, encode(&pair.b1));
    assert_eq!(alice.refused(&not_mine, alice.bearer()).await, problem(404, "no-such-handler"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_session_of_the_same_handler_takes_the_place_of_the_old_one() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let (mut alice, mut bob) = pair.media().await;
    alice.send(&audio(0, 1000, true, b"before"));
    assert_eq!(through(&mut alice, &mut bob).await.len(), 1);
    let mut again = pair.alice.media(&pair.mine, &pair.a1).await;
    alice.closed().await;
    assert!(alice.session.close_reason().unwrap().message.contains("another session"));
    // It counts on where it was, or anew, if it is another program.
    again.send(&audio(0, 9, true, b"after"));
    let got = through(&mut again, &mut bob).await;
    assert_eq!(got.len(), 1);
    assert_eq!(crate::common::media::read(&got[0]).0, 1, "one continuous stream for the far side");
    bob.send(&audio(0, 1000, true, b"back"));
    assert_eq!(through(&mut bob, &mut again).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_call_closes_sessions_and_media_is_gone() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let (mut alice, mut bob) = pair.media().await;
    pair.by_alice("end").await;
    alice.closed().await;
    bob.closed().await;
    let uri = format!("{}/media?handler={}", pair.mine, encode(&pair.a1));
    assert_eq!(pair.alice.refused(&uri, pair.alice.bearer()).await, problem(410, "call-ended"));
    // The connection goes on with other calls.
    let second = Pair::answered(&world, [BOTH, BOTH]).await;
    let (mut alice, mut bob) = second.media().await;
    alice.send(&audio(0, 1000, true, b"x"));
    assert_eq!(through(&mut alice, &mut bob).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_devices_only_the_one_that_carries_the_call_is_heard_and_hears() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let b2 = pair.bob.register("b2", BOTH).await;
    let (mut alice, mut first) = pair.media().await;
    let mut second = pair.bob.media(&pair.theirs, &b2).await;
    alice.send(&audio(0, 1000, true, b"hello"));
    assert_eq!(through(&mut alice, &mut first).await.len(), 1);
    assert!(second.settle().await.is_empty());
    second.send(&audio(0, 1000, true, b"not me"));
    assert!(through(&mut second, &mut alice).await.is_empty());
    assert_eq!(world.port(&pair.theirs).drops().unheard, 1);
    first.send(&audio(0, 1000, true, b"me"));
    assert_eq!(through(&mut first, &mut alice).await.len(), 1);
}
