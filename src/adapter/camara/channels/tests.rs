//! Channels over real sockets.

mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use self::wire::{Raw, Seen, World};
use super::*;
use crate::adapter::camara::notice::{RegistrationEnd, SessionNotice, SessionView};
use crate::adapter::mapping::Status;

const HOUR: Duration = Duration::from_secs(3600);

/// A session's change, told by its offer.
pub(super) fn status(offer: &str) -> Arc<Notice> {
    let session = SessionView {
        id: Uuid::from_u128(7),
        user: UserId::derive("urn:test", "alice"),
        device: Uuid::from_u128(8),
        registration: Uuid::from_u128(9),
        originator: "tel:+14085550002".into(),
        originator_name: None,
        receiver: "tel:+14085550001".into(),
        receiver_name: None,
        status: Status::Ringing,
        offer: Some(offer.to_owned()),
        answer: None,
        emergency: false,
        location: None,
        correlator: None,
    };
    Arc::new(Notice::Status(SessionNotice {
        session: Arc::new(session),
        reason: "it rings".into(),
        sequence: 1,
        sip: Some(180),
        offer_required: false,
        location: None,
    }))
}

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits { heartbeat: HOUR, patience: HOUR, ..Limits::default() };
    change(&mut limits);
    limits
}

/// What a socket says until nothing more is due, as its client must see it: an event, then its ping.
async fn events(socket: &mut Raw, count: usize) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    while all.len() < count {
        let Seen::Text(text) = socket.next().await else { panic!("an event is due") };
        let Seen::Ping(position) = socket.next().await else { panic!("a ping follows each event") };
        all.push((text, position));
    }
    all
}

fn texts(events: &[(String, u64)]) -> Vec<&str> {
    events.iter().map(|(text, _)| text.split(' ').nth(1).unwrap()).collect()
}

#[tokio::test]
async fn a_pong_confirms_all_events_up_to_its_ping_and_the_others_come_again() {
    let world = World::start(limits(|_| {})).await;
    (1..=2).for_each(|n| world.tell(&n.to_string()));
    let mut first = world.open("").await;
    (3..=4).for_each(|n| world.tell(&n.to_string()));
    let seen = events(&mut first, 4).await;
    assert_eq!(texts(&seen), ["1", "2", "3", "4"]);
    first.pong(seen[1].1).await;
    world.gone(first).await;
    world.tell("5");
    let mut second = world.open("").await;
    let again = events(&mut second, 3).await;
    // Under the same names, at the same positions.
    assert_eq!((&again[..2], texts(&again)), (&seen[2..], vec!["3", "4", "5"]));
    // Out of order, from the future, and no position at all: none of them confirms anything.
    second.pong(seen[3].1).await;
    second.pong(seen[0].1).await;
    second.pong(u64::MAX).await;
    second.frame(0xa, b"pong").await;
    world.gone(second).await;
    let mut third = world.open("").await;
    assert_eq!(events(&mut third, 1).await, again[2..]);
    // `?after=` goes back behind what was confirmed.
    let id = seen[1].0.split(' ').next().unwrap();
    let mut fourth = world.open(&format!("?after={id}")).await;
    assert_eq!(texts(&events(&mut fourth, 3).await), ["3", "4", "5"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_is_cut_off_again_and_again_loses_nothing_and_changes_no_order() {
    const ALL: usize = 200;
    let world = World::start(limits(|_| {})).await;
    let teller = world.channels.clone();
    let telling = tokio::spawn(async move {
        for n in 0..ALL {
            teller.hear(&wire::key().0, wire::key().1, &status(&n.to_string()));
            tokio::task::yield_now().await;
        }
    });
    let mut names: BTreeMap<usize, String> = BTreeMap::new();
    let (mut have, mut cut) = (0, 0);
    while have < ALL {
        let mut socket = world.open("").await;
        let mut expected = None;
        // Each socket is cut in the midst of what it says: after an event and before its pong, or after it.
        for round in 0..17 + cut % 5 {
            let Seen::Text(text) = socket.next().await else { panic!("an event is due") };
            let (id, n) = text.split_once(' ').unwrap();
            let n: usize = n.parse().unwrap();
            assert!(n == expected.unwrap_or(n) && n <= have, "{n} came when {have} was due");
            assert_eq!(names.entry(n).or_insert_with(|| id.to_owned()), id, "an event keeps its name");
            (have, expected) = (have.max(n + 1), Some(n + 1));
            if have == ALL {
                break;
            }
            let Seen::Ping(position) = socket.next().await else { panic!("a ping follows each event") };
            if round < 14 {
                socket.pong(position).await;
            }
        }
        drop(socket);
        cut += 1;
    }
    telling.await.unwrap();
    assert!(cut > 5, "it was cut {cut} times");
    let different: std::collections::BTreeSet<_> = names.values().collect();
    assert_eq!(different.len(), ALL);
}

#[tokio::test]
async fn a_newer_socket_takes_the_channel_and_the_older_is_told() {
    let world = World::start(limits(|_| {})).await;
    world.tell("1");
    let mut old = world.open("").await;
    let seen = events(&mut old, 1).await;
    let mut new = world.open("").await;
    assert_eq!(events(&mut new, 1).await, seen);
    let Seen::Close(code, reason) = old.next().await else { panic!("it is closed") };
    assert!(code == 4000 && reason.contains("newer"), "{code} {reason}");
    world.tell("2");
    assert_eq!(texts(&events(&mut new, 1).await), ["2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_too_slowly_is_let_go_and_resumes() {
    const ALL: usize = 300;
    let world = World::start(limits(|limits| {
        // More than any socket's buffers hold.
        (limits.events, limits.bytes, limits.patience) = (ALL, 64 << 20, Duration::from_millis(200));
    }))
    .await;
    let slow = world.open("").await;
    world.sits(true).await;
    // Nobody waits for it: each is heard at once.
    (0..ALL).for_each(|n| world.tell(&format!("{n} {}", "v".repeat(64 * 1024))));
    world.sits(false).await;
    drop(slow);
    let mut next = world.open("").await;
    for (n, (text, position)) in events(&mut next, ALL).await.into_iter().enumerate() {
        assert_eq!(texts(&[(text, position)]), [n.to_string()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_pongs_is_closed_and_one_that_answers_stays() {
    let world = World::start(limits(|limits| limits.heartbeat = Duration::from_millis(50))).await;
    let mut silent = world.open("").await;
    let mut pings = 0;
    let (code, reason) = loop {
        match silent.next().await {
            Seen::Ping(0) => pings += 1,
            Seen::Close(code, reason) => break (code, reason),
            other => panic!("{other:?}"),
        }
    };
    assert!(code == 4002 && reason.contains("pong") && pings == 2, "{code} {reason} {pings}");

    let world = World::start(limits(|limits| limits.heartbeat = Duration::from_secs(1))).await;
    let mut lively = world.open("").await;
    for _ in 0..4 {
        let Seen::Ping(position) = lively.next().await else { panic!("only pings come") };
        lively.pong(position).await;
    }
    world.tell("1");
    let heard = loop {
        if let Seen::Text(text) = lively.next().await {
            break text;
        }
    };
    assert!(heard.ends_with(" 1"), "{heard}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeats_pong_confirms_too() {
    let world = World::start(limits(|limits| limits.heartbeat = Duration::from_millis(300))).await;
    world.tell("1");
    let mut socket = world.open("").await;
    let seen = events(&mut socket, 1).await;
    let Seen::Ping(position) = socket.next().await else { panic!("a heartbeat is due") };
    assert_eq!(position, seen[0].1);
    socket.pong(position).await;
    world.gone(socket).await;
    world.tell("2");
    assert_eq!(texts(&events(&mut world.open("").await, 1).await), ["2"]);
}

#[tokio::test]
async fn a_socket_ends_with_its_token_unless_a_newer_one_comes() {
    let world = World::start(limits(|_| {})).await;
    let (user, device) = wire::key();
    let soon = clock::now() + Duration::from_millis(300);
    *lock(&world.until) = soon;
    let mut socket = world.open("").await;
    let Seen::Close(code, reason) = socket.next().await else { panic!("it is closed") };
    assert!(code == 4001 && reason.contains("token"), "{code} {reason}");
    // Of a token that has ended already there is no more than that.
    assert!(matches!(world.open("").await.next().await, Seen::Close(4001, _)));

    let soon = clock::now() + Duration::from_secs(2);
    *lock(&world.until) = soon;
    world.channels.open_door(&user, device, Types::ALL, soon, "secret".into()).unwrap();
    let mut socket = world.open("").await;
    world.sits(true).await;
    world.channels.renew(&user, device, clock::now() + HOUR);
    while clock::now() <= soon {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.tell("1");
    assert_eq!(texts(&events(&mut socket, 1).await), ["1"]);
}

#[tokio::test]
async fn what_was_lost_is_said_before_the_rest_comes() {
    let world = World::start(limits(|limits| limits.events = 2)).await;
    let socket = world.open("").await;
    world.sits(true).await;
    world.gone(socket).await;
    (1..=3).for_each(|n| world.tell(&n.to_string()));
    let Seen::Close(code, reason) = world.open("").await.next().await else { panic!("it is closed") };
    assert!(code == 4003 && reason.contains("lost"), "{code} {reason}");
    assert_eq!(texts(&events(&mut world.open("").await, 2).await), ["2", "3"]);
}

#[tokio::test]
async fn what_a_client_says_changes_nothing_and_is_bounded() {
    let world = World::start(limits(|_| {})).await;
    let mut socket = world.open("").await;
    for (opcode, payload) in [(1, &b"{\"confirm\":1}"[..]), (2, &[0xff; 4096]), (9, b"ping"), (0xa, b"")] {
        socket.frame(opcode, payload).await;
    }
    let Seen::Pong(payload) = socket.next().await else { panic!("a ping is answered") };
    assert_eq!(payload, b"ping");
    world.tell("1");
    assert_eq!(texts(&events(&mut socket, 1).await), ["1"]);
    socket.frame(1, &[b'x'; 4097]).await;
    let Seen::Close(code, reason) = socket.next().await else { panic!("it is closed") };
    assert!(code == 1008 && reason.contains("expected"), "{code} {reason}");
    // Not even a frame.
    let mut other = world.open("").await;
    other.bytes(&[0xff; 64]).await;
    events(&mut other, 1).await;
    assert!(matches!(other.next().await, Seen::Close(1008, _)));
}

#[tokio::test]
async fn a_channel_shows_what_its_token_is_for_and_may_end_with_an_event() {
    let world = World::start(limits(|_| {})).await;
    *lock(&world.types) = Types::of_scopes(|scope| !scope.contains("session-status"));
    let ends = || {
        let (registration, reason) = (Uuid::nil(), RegistrationEnd::Expired);
        Arc::new(Notice::RegistrationEnds { registration, reason, description: "over" })
    };
    world.tell("1");
    let (user, device) = wire::key();
    world.channels.hear(&user, device, &ends());
    let Seen::Close(code, _) = world.open("").await.next().await else { panic!("it is closed") };
    assert_eq!(code, 4004);
    // That end was told; the socket that follows lives.
    let mut next = world.open("").await;
    world.sits(true).await;
    *lock(&world.types) = Types::ALL;
    world.gone(next).await;
    next = world.open("").await;
    world.tell("2");
    assert_eq!(texts(&events(&mut next, 1).await), ["2"]);
}

#[tokio::test]
async fn no_more_channels_open_than_fit() {
    let world = World::start(limits(|limits| limits.channels = 0)).await;
    let Seen::Close(code, reason) = world.open("").await.next().await else { panic!("it is closed") };
    assert!(code == 1013 && reason.contains("later"), "{code} {reason}");
    let (user, device) = wire::key();
    assert_eq!(world.channels.room(&user, device), Err(Full::Server));
}
