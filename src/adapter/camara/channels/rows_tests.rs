//! Rows in virtual time.

use std::time::Duration;

use proptest::prelude::{Strategy as _, any, prop_oneof};

use super::super::tests::status;
use super::*;

const KEEP: Duration = Duration::from_secs(300);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

fn key(user: &str, device: u128) -> Key {
    (UserId::derive("urn:test", user), Uuid::from_u128(device))
}

fn rows(change: impl FnOnce(&mut Limits)) -> Rows {
    let mut limits = Limits { keep: KEEP, ..Limits::default() };
    change(&mut limits);
    Rows::new(limits)
}

impl Rows {
    fn told(&mut self, now: u64, key: &Key, id: u128) {
        self.hear(at(now), key, Uuid::from_u128(id), &status("x"));
    }

    fn sit(&mut self, now: u64, key: &Key, after: Option<u128>) -> Place {
        self.attach(at(now), key, at(100_000), after.map(Uuid::from_u128)).unwrap()
    }

    /// The ids of all that is due after a place; nothing is confirmed by that.
    fn due(&mut self, key: &Key, place: &Place) -> Vec<u128> {
        let (mut cursor, mut ids) = (place.cursor, vec![]);
        while let Next::Due(due) = self.next(key, place.socket, cursor) {
            cursor = due.position;
            ids.push(due.id.as_u128());
        }
        ids
    }

    fn confirm_to(&mut self, key: &Key, place: &Place, id: u128) {
        let found = self.rows[key].events.iter().find(|due| due.id.as_u128() == id).unwrap().position;
        self.confirm(key, place.socket, found);
    }

    fn is_sound(&self) {
        let bytes = |row: &Row| row.events.iter().map(|due| due.bytes).sum::<usize>();
        assert!(self.rows.values().all(|row| row.bytes == bytes(row)));
        assert_eq!(self.bytes, self.rows.values().map(bytes).sum::<usize>());
        assert!(self.rows.len() <= self.limits.channels && self.ages.len() <= self.limits.all_events);
        assert!(self.bytes <= self.limits.all_bytes);
        let doors = self.rows.iter().filter_map(|(key, row)| row.door.as_ref().map(|door| (key, door)));
        assert_eq!(self.doors.len(), doors.clone().count());
        let doors_end = doors.clone().map(|(key, door)| (door.until, key.clone(), End::Door));
        let awaited =
            self.rows.iter().filter_map(|(key, row)| Some((row.awaited?, key.clone(), End::Waiting)));
        assert_eq!(doors_end.chain(awaited).collect::<BTreeSet<_>>(), self.ends);
        assert!(doors.into_iter().all(|(key, door)| self.doors[&door.secret] == *key));
        for (key, row) in &self.rows {
            assert!(row.events.len() <= self.limits.events);
            let wanted = !row.idle() || row.awaited.is_some_and(|_| row.socket.is_none());
            assert!(wanted || !row.events.is_empty(), "nobody waits for {key:?}");
            assert!(row.events.iter().zip(row.events.iter().skip(1)).all(|(a, b)| a.position < b.position));
        }
    }
}

#[test]
fn what_is_not_confirmed_comes_again_in_order() {
    let (mut rows, alice) = (rows(|_| {}), key("alice", 1));
    // Before anybody has opened a channel.
    rows.told(0, &alice, 1);
    let first = rows.sit(1, &alice, None);
    (2..=4).for_each(|id| rows.told(1, &alice, id));
    assert_eq!(rows.due(&alice, &first), [1, 2, 3, 4]);
    rows.confirm_to(&alice, &first, 2);
    rows.leave(at(2), &alice, first.socket);
    rows.told(3, &alice, 5);
    let second = rows.sit(4, &alice, None);
    assert_eq!(rows.due(&alice, &second), [3, 4, 5]);
    rows.confirm_to(&alice, &second, 5);
    // A confirmation never goes back.
    rows.confirm_to(&alice, &second, 3);
    let third = rows.sit(5, &alice, None);
    assert_eq!(rows.due(&alice, &third), Vec::<u128>::new());
    rows.is_sound();
}

#[test]
fn a_client_that_knows_better_is_believed() {
    let (mut rows, alice) = (rows(|_| {}), key("alice", 1));
    (1..=5).for_each(|id| rows.told(0, &alice, id));
    let first = rows.sit(1, &alice, None);
    rows.confirm_to(&alice, &first, 4);
    // The pong was the browser's, but the page has crashed on 2.
    let second = rows.sit(1, &alice, Some(1));
    assert_eq!(rows.due(&alice, &second), [2, 3, 4, 5]);
    // It has 5, though no pong said so; and so it is.
    let third = rows.sit(1, &alice, Some(5));
    assert_eq!(rows.due(&alice, &third), Vec::<u128>::new());
    let fourth = rows.sit(1, &alice, None);
    assert_eq!(rows.due(&alice, &fourth), Vec::<u128>::new());
    // What is unknown is older than all that is kept.
    let fifth = rows.sit(1, &alice, Some(77));
    assert_eq!(rows.due(&alice, &fifth), [1, 2, 3, 4, 5]);
}

#[test]
fn a_newer_socket_has_the_channel_alone() {
    let (mut rows, alice) = (rows(|_| {}), key("alice", 1));
    (1..=2).for_each(|id| rows.told(0, &alice, id));
    let old = rows.sit(1, &alice, None);
    let new = rows.sit(2, &alice, None);
    assert!(matches!(rows.next(&alice, old.socket, 0), Next::Replaced));
    assert_eq!(rows.until(&alice, old.socket), None);
    rows.confirm_to(&alice, &old, 2);
    rows.leave(at(3), &alice, old.socket);
    assert_eq!(rows.due(&alice, &new), [1, 2]);
    // Each device has its own.
    let other = key("alice", 2);
    let there = rows.sit(3, &other, None);
    rows.told(3, &other, 9);
    assert_eq!((rows.due(&other, &there), rows.due(&alice, &new)), (vec![9], vec![1, 2]));
}

#[test]
fn a_full_row_lets_the_oldest_go_and_says_so_once_to_who_missed_it() {
    let (mut rows, alice) = (rows(|limits| limits.events = 3), key("alice", 1));
    (1..=5).for_each(|id| rows.told(0, &alice, id));
    // Nobody was there to miss them.
    let place = rows.sit(1, &alice, None);
    assert_eq!(rows.due(&alice, &place), [3, 4, 5]);
    // What was confirmed is missed by nobody.
    rows.confirm_to(&alice, &place, 4);
    (6..=7).for_each(|id| rows.told(1, &alice, id));
    assert_eq!(rows.due(&alice, &place), [5, 6, 7]);
    rows.told(1, &alice, 8);
    assert!(matches!(rows.next(&alice, place.socket, place.cursor), Next::Lost));
    let again = rows.sit(2, &alice, None);
    assert_eq!(rows.due(&alice, &again), [6, 7, 8]);
    rows.is_sound();
}

#[test]
fn a_rows_bytes_are_bounded_and_one_event_is_always_taken() {
    let big = "v".repeat(1_000);
    let (mut rows, alice) = (rows(|limits| limits.bytes = 4_000), key("alice", 1));
    for id in 1..=5 {
        rows.hear(at(0), &alice, Uuid::from_u128(id), &status(&big));
    }
    let place = rows.sit(0, &alice, None);
    assert_eq!(rows.due(&alice, &place), [4, 5]);
    rows.hear(at(0), &alice, Uuid::from_u128(6), &status(&"v".repeat(9_000)));
    let place = rows.sit(0, &alice, Some(77));
    // 4 and 5 were lost, which is said first.
    assert!(matches!(rows.next(&alice, place.socket, 0), Next::Lost));
    assert_eq!(rows.due(&alice, &place), [6]);
    rows.is_sound();
}

#[test]
fn events_are_kept_for_a_while_and_rows_as_long_as_somebody_wants_them() {
    let (mut rows, alice) = (rows(|_| {}), key("alice", 1));
    rows.told(0, &alice, 1);
    rows.told(200, &alice, 2);
    let place = rows.sit(301, &alice, None);
    assert_eq!(rows.due(&alice, &place), [2]);
    rows.leave(at(302), &alice, place.socket);
    // Its socket may come back.
    rows.told(601, &key("bob", 1), 3);
    assert_eq!(rows.rows.len(), 2);
    rows.told(602, &key("bob", 1), 3);
    assert_eq!(rows.rows.keys().collect::<Vec<_>>(), [&key("bob", 1)]);
    rows.is_sound();
}

#[test]
fn a_user_has_so_many_channels_and_idle_ones_give_way() {
    let mut rows = rows(|limits| limits.per_user = 3);
    let mine = |device| key("alice", device);
    rows.told(0, &mine(1), 1);
    rows.told(0, &mine(2), 2);
    rows.told(0, &mine(3), 3);
    rows.told(0, &mine(1), 4);
    // The one that heard something last stays.
    let places: Vec<_> = (4..=5).map(|device| rows.sit(1, &mine(device), None)).collect();
    assert_eq!(rows.rows.keys().collect::<Vec<_>>(), [&mine(1), &mine(4), &mine(5)]);
    rows.sit(1, &mine(1), None);
    assert_eq!(rows.attach(at(1), &mine(6), at(9), None).unwrap_err(), Full::User(3));
    assert_eq!(rows.open_door(at(1), &mine(6), Types::ALL, at(9), "s".into()), Err(Full::User(3)));
    rows.told(1, &mine(6), 5);
    assert_eq!(rows.rows.len(), 3);
    rows.sit(1, &key("bob", 6), None);
    rows.leave(at(2), &mine(4), places[0].socket);
    rows.sit(2, &mine(6), None);
    rows.is_sound();
}

#[test]
fn the_server_has_so_many_channels_events_and_bytes() {
    let mut few = rows(|limits| limits.channels = 2);
    few.sit(0, &key("alice", 1), None);
    few.told(0, &key("bob", 1), 1);
    assert_eq!(few.attach(at(0), &key("carol", 1), at(9), None).unwrap_err(), Full::Server);
    few.told(0, &key("carol", 1), 2);
    few.is_sound();

    let mut short = rows(|limits| limits.all_events = 3);
    let (alice, bob) = (key("alice", 1), key("bob", 1));
    let place = short.sit(0, &alice, None);
    short.told(0, &alice, 1);
    (2..=4).for_each(|id| short.told(0, &bob, id));
    assert!(matches!(short.next(&alice, place.socket, 0), Next::Lost));
    let there = short.sit(0, &bob, None);
    assert_eq!(short.due(&bob, &there), [2, 3, 4]);
    short.is_sound();

    let mut light = rows(|limits| limits.all_bytes = 4_000);
    for id in 1..=5 {
        light.hear(at(0), &key("alice", id), Uuid::from_u128(id), &status(&"v".repeat(1_000)));
    }
    assert_eq!(light.rows.keys().collect::<Vec<_>>(), [&key("alice", 4), &key("alice", 5)]);
    light.is_sound();
}

#[test]
fn a_door_stays_the_same_until_its_token_ends_and_a_newer_one_keeps_it() {
    let (mut rows, alice) = (rows(|_| {}), key("alice", 1));
    let open = |rows: &mut Rows, until, secret: &str| {
        rows.open_door(at(0), &alice, Types::ALL, at(until), secret.into()).unwrap()
    };
    let first = open(&mut rows, 50, "one");
    assert_eq!(open(&mut rows, 40, "two"), first);
    assert_eq!(rows.behind(at(49), "one"), Some((alice.clone(), first.clone())));
    assert_eq!(rows.behind(at(49), "two"), None);
    let place = rows.attach(at(1), &alice, at(50), None).unwrap();
    rows.renew(at(2), &alice, at(90));
    rows.renew(at(2), &alice, at(80));
    assert_eq!(rows.until(&alice, place.socket), Some(at(90)));
    assert_eq!(rows.door(at(89), &alice).unwrap().until, at(90));
    rows.is_sound();
    assert_eq!((rows.behind(at(90), "one"), rows.door(at(90), &alice)), (None, None));
    rows.leave(at(91), &alice, place.socket);
    rows.is_sound();
    rows.leave(at(391), &alice, place.socket);
    assert!(rows.rows.is_empty());
    rows.is_sound();
}

#[derive(Clone, Debug)]
enum Act {
    Hear(u128),
    Sit(u128, Option<u64>),
    Leave(u128),
    Confirm(u128, u64),
    Door(u128, u64),
    Renew(u128, u64),
    Pass(u64),
}

fn act() -> impl proptest::strategy::Strategy<Value = Act> {
    let device = || 0..12_u128;
    prop_oneof![
        4 => device().prop_map(Act::Hear),
        2 => (device(), any::<Option<u64>>()).prop_map(|(d, n)| Act::Sit(d, n.map(|n| n % 40))),
        2 => device().prop_map(Act::Leave),
        1 => (device(), 0..40_u64).prop_map(|(d, n)| Act::Confirm(d, n)),
        1 => (device(), 0..900_u64).prop_map(|(d, n)| Act::Door(d, n)),
        1 => (device(), 0..900_u64).prop_map(|(d, n)| Act::Renew(d, n)),
        2 => (0..200_u64).prop_map(Act::Pass),
    ]
}

proptest::proptest! {
    #[test]
    fn nothing_that_happens_breaks_the_books(acts in proptest::collection::vec(act(), 0..120)) {
        let mut rows = rows(|limits| {
            (limits.per_user, limits.channels, limits.events) = (3, 7, 4);
            (limits.all_events, limits.all_bytes) = (12, 8_000);
        });
        let of = |device: u128| key(["alice", "bob", "carol"][(device % 3) as usize], device);
        let (mut now, mut id) = (0, 0);
        let mut sockets: HashMap<u128, u64> = HashMap::new();
        for act in acts {
            match act {
                Act::Hear(d) => {
                    id += 1;
                    rows.told(now, &of(d), id);
                }
                Act::Sit(d, after) => {
                    let after = after.map(|n| Uuid::from_u128(n.into()));
                    if let Ok(place) = rows.attach(at(now), &of(d), at(now + 50), after) {
                        sockets.insert(d, place.socket);
                        rows.due(&of(d), &place);
                    }
                }
                Act::Leave(d) => drop(sockets.remove(&d).map(|s| rows.leave(at(now), &of(d), s))),
                Act::Confirm(d, n) => drop(sockets.get(&d).map(|s| rows.confirm(&of(d), *s, n))),
                Act::Door(d, n) => {
                    let _ = rows.open_door(at(now), &of(d), Types::ALL, at(now + n), format!("{d}-{n}"));
                }
                Act::Renew(d, n) => rows.renew(at(now), &of(d), at(now + n)),
                Act::Pass(n) => now += n,
            }
            rows.is_sound();
        }
    }
}

impl Rows {
    /// Whether a channel has a socket.
    pub(in super::super) fn has_socket(&self, key: &Key) -> bool {
        self.rows.get(key).is_some_and(|row| row.socket.is_some())
    }
}
