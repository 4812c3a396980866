//! Registrations in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::store::Store as _;
use crate::store::memory::MemoryStore;

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

fn user(name: &str) -> UserId {
    UserId::derive("urn:test", name)
}

fn wanted(name: &str, device: u128, number: u64, expires: Option<Timestamp>) -> Wanted {
    let number = format!("+1408555{number:04}").parse().unwrap();
    Wanted { user: user(name), device: Uuid::from_u128(device), number, expires }
}

fn book() -> Book {
    Book::new(Limits { per_number: 3, devices_per_user: 2, ..Limits::default() })
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

#[test]
fn a_device_and_a_number_have_one_active_registration() {
    let mut book = book();
    let first = book.create(NOW, wanted("alice", 1, 1, None), id(1)).unwrap();
    assert_eq!(first.expires, NOW + 3600 * SECOND);
    for name in ["alice", "bob"] {
        assert_eq!(book.create(NOW, wanted(name, 1, 1, None), id(2)), Err(Refusal::AlreadyExists));
    }
    book.create(NOW, wanted("alice", 1, 2, None), id(3)).unwrap();
    book.create(NOW, wanted("alice", 2, 1, None), id(4)).unwrap();
    let numbers = |found: Vec<Registration>| found.into_iter().map(|one| one.id).collect::<Vec<_>>();
    assert_eq!(numbers(book.list(NOW, &user("alice"), id(1))), [id(1), id(3)]);
    assert_eq!(numbers(book.list(NOW, &user("bob"), id(1))), [] as [Uuid; 0]);
}

#[test]
fn an_end_is_counted_from_now_refused_below_the_minimum_and_capped_at_the_maximum() {
    let mut book = book();
    let at = |seconds: u32| Some(NOW + SECOND * seconds);
    for early in [Some(Timestamp::from_millis(0)), Some(NOW), at(59)] {
        let least = NOW + 60 * SECOND;
        assert_eq!(
            book.create(NOW, wanted("alice", 1, 1, early), id(1)),
            Err(Refusal::TooSoon { least }),
            "{early:?}"
        );
    }
    let end = |book: &mut Book, device, asked| {
        book.create(NOW, wanted("alice", device, 1, asked), id(device)).unwrap().expires
    };
    assert_eq!(end(&mut book, 1, at(60)), NOW + 60 * SECOND);
    assert_eq!(end(&mut book, 2, at(90_000)), NOW + 86_400 * SECOND);
    // Later, from then on; never from what was left.
    let later = NOW + 30 * SECOND;
    let mut refresh =
        |asked| book.refresh(later, &user("alice"), id(2), asked).map(|(_, after)| after.expires);
    assert_eq!(refresh(None), Ok(later + 3600 * SECOND));
    assert_eq!(refresh(at(100)), Ok(NOW + 100 * SECOND));
    assert_eq!(refresh(Some(Timestamp::from_millis(u64::MAX))), Ok(later + 86_400 * SECOND));
    assert!(matches!(refresh(at(89)), Err(Refusal::TooSoon { .. })));
    assert_eq!(book.get(later, &user("alice"), id(2)).unwrap().expires, later + 86_400 * SECOND);
}

#[test]
fn what_has_ended_is_as_if_it_were_not_there_and_its_pair_is_free() {
    let mut book = book();
    let alice = user("alice");
    book.create(NOW, wanted("alice", 1, 1, Some(NOW + 60 * SECOND)), id(1)).unwrap();
    let end = NOW + 60 * SECOND;
    assert!(book.get(Timestamp::from_millis(end.as_millis() - 1), &alice, id(1)).is_ok());
    assert_eq!(book.get(end, &alice, id(1)), Err(Refusal::NotFound));
    assert_eq!(book.refresh(end, &alice, id(1), None), Err(Refusal::NotFound));
    assert_eq!(book.remove(end, &alice, id(1)), Err(Refusal::NotFound));
    assert_eq!(book.list(end, &alice, id(1)), []);
    assert_eq!(book.gone, [id(1)]);
    book.create(end, wanted("bob", 1, 1, None), id(2)).unwrap();
}

#[test]
fn others_registrations_are_not_there() {
    let mut book = book();
    book.create(NOW, wanted("alice", 1, 1, None), id(1)).unwrap();
    let bob = user("bob");
    assert_eq!(book.get(NOW, &bob, id(1)), Err(Refusal::NotFound));
    assert_eq!(book.refresh(NOW, &bob, id(1), None), Err(Refusal::NotFound));
    assert_eq!(book.remove(NOW, &bob, id(1)), Err(Refusal::NotFound));
    assert!(book.remove(NOW, &user("alice"), id(1)).is_ok());
    assert_eq!(book.remove(NOW, &user("alice"), id(1)), Err(Refusal::NotFound));
}

#[test]
fn what_could_not_be_deleted_comes_back_unless_its_place_is_taken() {
    let mut book = book();
    let alice = user("alice");
    book.create(NOW, wanted("alice", 1, 1, None), id(1)).unwrap();
    let removed = book.remove(NOW, &alice, id(1)).unwrap();
    book.bring_back(removed.clone());
    assert_eq!(book.get(NOW, &alice, id(1)), Ok(removed.clone()));
    book.remove(NOW, &alice, id(1)).unwrap();
    let soon = Some(NOW + 60 * SECOND);
    let other = book.create(NOW, wanted("bob", 1, 1, soon), id(2)).unwrap();
    book.bring_back(removed);
    assert_eq!((book.all.len(), book.get(NOW, &user("bob"), id(2))), (1, Ok(other)));
}

#[test]
fn a_number_a_user_and_a_device_have_so_many() {
    let mut book = book();
    for (n, name) in (1..).zip(["alice", "bob", "carol"]) {
        book.create(NOW, wanted(name, n, 1, None), id(n)).unwrap();
    }
    assert_eq!(book.create(NOW, wanted("dave", 4, 1, None), id(4)), Err(Refusal::PerNumber(3)));
    book.create(NOW, wanted("alice", 5, 2, None), id(5)).unwrap();
    assert_eq!(book.create(NOW, wanted("alice", 6, 3, None), id(6)), Err(Refusal::Devices(2)));
    // Devices count, not registrations.
    for n in 3..12 {
        book.create(NOW, wanted("alice", 1, n, None), id(100 + u128::from(n))).unwrap();
    }
    assert_eq!(book.create(NOW, wanted("alice", 1, 12, None), id(7)), Err(Refusal::PerDevice(10)));
    assert_eq!(book.list(NOW, &user("alice"), id(1)).len(), 10);
}

fn stored(store: &Arc<MemoryStore>) -> Vec<Registration> {
    let records = store.load(Table::Registrations).now_or_never().unwrap().unwrap();
    records.iter().map(|(_, value)| serde_json::from_slice(value).unwrap()).collect()
}

async fn loaded(store: &Arc<MemoryStore>, now: Timestamp) -> Registrations {
    Registrations::load(StoreHandle(store.clone()), Limits::default(), now, Box::new(|_, _| {}))
        .await
        .unwrap()
}

type Told = Arc<Mutex<Vec<(Uuid, End)>>>;

/// As `loaded`, and what is told.
async fn told(store: &Arc<MemoryStore>, limits: Limits, now: Timestamp) -> (Registrations, Told) {
    let told = Told::default();
    let sink = told.clone();
    let ended: Ended = Box::new(move |one, end| lock(&sink).push((one.id, end)));
    (Registrations::load(StoreHandle(store.clone()), limits, now, ended).await.unwrap(), told)
}

#[tokio::test]
async fn each_end_is_told_once_whoever_notices_it() {
    let store = Arc::new(MemoryStore::new());
    let (all, ends) = told(&store, Limits::default(), NOW).await;
    let end = NOW + 60 * SECOND;
    let first = all.create(NOW, wanted("alice", 1, 1, Some(end))).await.unwrap();
    let second = all.create(NOW, wanted("alice", 2, 1, None)).await.unwrap();
    let third = all.create(NOW, wanted("alice", 3, 1, None)).await.unwrap();
    all.refresh(NOW, &user("alice"), third.id, None).await.unwrap();
    assert_eq!(*lock(&ends), []);
    all.list(end, &user("bob"), id(9));
    all.list(end, &user("bob"), id(9));
    assert_eq!(*lock(&ends), [(first.id, End::Expired)]);
    store.set_failing(true);
    all.remove(end, &user("alice"), second.id).await.unwrap_err();
    assert_eq!(lock(&ends).len(), 1, "a refused deletion ends nothing");
    store.set_failing(false);
    all.remove(end, &user("alice"), second.id).await.unwrap();
    assert_eq!(lock(&ends)[1..], [(second.id, End::Deleted)]);
    // What ended while no server ran is told by the next one.
    drop(all);
    let later = NOW + 4000 * SECOND;
    let (all, ends) = told(&store, Limits::default(), later).await;
    all.list(later, &user("bob"), id(9));
    assert_eq!(*lock(&ends), [(third.id, End::Expired)]);
}

#[tokio::test]
async fn a_number_that_its_network_took_away_loses_all_its_registrations_and_no_other() {
    let store = Arc::new(MemoryStore::new());
    let (all, ends) = told(&store, Limits::default(), NOW).await;
    let first = all.create(NOW, wanted("alice", 1, 1, None)).await.unwrap();
    let second = all.create(NOW, wanted("alice", 2, 1, None)).await.unwrap();
    let other = all.create(NOW, wanted("bob", 1, 2, None)).await.unwrap();
    assert_ne!(first.number, other.number);
    all.lose(&first.number.as_str().parse().unwrap());
    let mut told = lock(&ends).clone();
    told.sort_by_key(|(id, _)| *id != first.id);
    assert_eq!(told, [(first.id, End::Lost), (second.id, End::Lost)]);
    assert_eq!(all.active(NOW), [other]);
    all.lose(&first.number.as_str().parse().unwrap());
    assert_eq!(lock(&ends).len(), 2);
}

#[tokio::test]
async fn the_watcher_ends_a_registration_that_nobody_asks_for() {
    let store = Arc::new(MemoryStore::new());
    let limits = Limits { shortest: Duration::ZERO, ..Limits::default() };
    let (all, ends) = told(&store, limits, crate::clock::now()).await;
    let watcher = all.watch();
    let now = crate::clock::now();
    let long = all.create(now, wanted("alice", 1, 1, None)).await.unwrap();
    let short = Some(now + Duration::from_millis(50));
    let short = all.create(now, wanted("alice", 2, 1, short)).await.unwrap();
    let wait = async {
        while lock(&ends).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap();
    assert!(crate::clock::now() >= short.expires, "never early");
    assert_eq!(*lock(&ends), [(short.id, End::Expired)]);
    assert_eq!(stored(&store), [long]);
    drop(watcher);
}

#[tokio::test]
async fn a_restart_finds_what_is_active_and_deletes_the_rest() {
    let store = Arc::new(MemoryStore::new());
    let before = loaded(&store, NOW).await;
    for n in 0..300 {
        let wanted = wanted(&format!("u{n}"), n.into(), n, Some(NOW + SECOND * 60));
        before.create(NOW, wanted).await.unwrap();
    }
    let kept = before.create(NOW, wanted("alice", 1000, 1000, None)).await.unwrap();
    store.write(vec![Write::put(Table::Registrations, "x", "damaged")]).await.unwrap();
    let later = NOW + 60 * SECOND;
    let after = loaded(&store, later).await;
    assert_eq!(after.get(later, &user("alice"), kept.id).unwrap(), kept);
    assert_eq!(after.create(later, wanted("bob", 1000, 1000, None)).await, Err(Refusal::AlreadyExists));
    store.write(vec![Write::delete(Table::Registrations, "x")]).await.unwrap();
    assert_eq!(stored(&store), [kept]);
}

#[tokio::test]
async fn what_ends_leaves_the_store_by_and_by() {
    let store = Arc::new(MemoryStore::new());
    let all = loaded(&store, NOW).await;
    for n in 0..150 {
        let wanted = wanted(&format!("u{n}"), n.into(), n, Some(NOW + SECOND * 60));
        all.create(NOW, wanted).await.unwrap();
    }
    let later = NOW + 61 * SECOND;
    all.list(later, &user("alice"), id(1));
    assert_eq!(stored(&store).len(), 51);
    let made = all.create(later, wanted("alice", 1, 1, None)).await.unwrap();
    assert_eq!(stored(&store), std::slice::from_ref(&made));
    all.remove(later, &user("alice"), made.id).await.unwrap();
    assert_eq!(stored(&store), []);
}

#[tokio::test]
async fn a_change_that_is_not_written_is_taken_back() {
    let store = Arc::new(MemoryStore::new());
    let all = loaded(&store, NOW).await;
    let alice = user("alice");
    let made = all.create(NOW, wanted("alice", 1, 1, None)).await.unwrap();
    store.set_failing(true);
    let later = NOW + SECOND;
    for refused in [
        all.create(later, wanted("alice", 2, 1, None)).await.map(drop),
        all.refresh(later, &alice, made.id, None).await.map(drop),
        all.remove(later, &alice, made.id).await,
    ] {
        assert!(matches!(refused, Err(Refusal::Store(StoreError::Unavailable(_)))), "{refused:?}");
    }
    assert_eq!(all.list(later, &alice, id(2)), []);
    assert_eq!(all.list(later, &alice, id(1)), std::slice::from_ref(&made));
    store.set_failing(false);
    assert_eq!(stored(&store), std::slice::from_ref(&made));
    all.remove(later, &alice, made.id).await.unwrap();
    assert_eq!(stored(&store), []);
}

#[tokio::test]
async fn of_two_with_one_pair_in_the_store_the_one_that_ends_last_stays() {
    for ends in [[70, 80], [80, 70]] {
        let store = Arc::new(MemoryStore::new());
        for (n, end) in (1..).zip(ends) {
            let Wanted { user, device, number, .. } = wanted("alice", 1, 1, None);
            let one = Registration { id: id(n), user, device, number, expires: NOW + SECOND * end };
            let value = serde_json::to_vec(&one).unwrap();
            store.write(vec![Write::put(Table::Registrations, one.id.to_string(), value)]).await.unwrap();
        }
        let all = loaded(&store, NOW).await;
        let found = all.list(NOW, &user("alice"), id(1));
        assert_eq!(found.iter().map(|one| one.expires).collect::<Vec<_>>(), [NOW + 80 * SECOND]);
        assert_eq!(stored(&store), found);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Create(u8, u128, u64, Option<u32>),
    Refresh(u8, usize, Option<u32>),
    Remove(u8, usize),
    Wait(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let asked = || prop::option::of(0..200_000u32);
    let step = prop_oneof![
        4 => (0..3u8, 0..4u128, 0..3u64, asked()).prop_map(|(u, d, n, a)| Step::Create(u, d, n, a)),
        2 => (0..3u8, 0..40usize, asked()).prop_map(|(u, i, a)| Step::Refresh(u, i, a)),
        1 => (0..3u8, 0..40usize).prop_map(|(u, i)| Step::Remove(u, i)),
        2 => (0..50_000u32).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #[test]
    fn whatever_is_asked_pairs_are_unique_ends_within_bounds_and_limits_kept(steps in steps()) {
        let mut book = book();
        let limits = book.limits.clone();
        let (mut now, mut next) = (NOW, 0);
        let name = |u: u8| format!("user{u}");
        for step in steps {
            let made = match step {
                Step::Create(u, device, number, asked) => {
                    next += 1;
                    let asked = asked.map(|s| now + SECOND * s);
                    book.create(now, wanted(&name(u), device, number, asked), id(next)).ok()
                }
                Step::Refresh(u, i, asked) => {
                    let asked = asked.map(|s| now + SECOND * s);
                    book.refresh(now, &user(&name(u)), id(i as u128), asked).ok().map(|(_, after)| after)
                }
                Step::Remove(u, i) => {
                    let _ = book.remove(now, &user(&name(u)), id(i as u128));
                    None
                }
                Step::Wait(seconds) => {
                    now = now + SECOND * seconds;
                    book.expire(now);
                    None
                }
            };
            if let Some(made) = made {
                let life = made.expires.since(now);
                prop_assert!(life >= limits.shortest && life <= limits.longest, "{life:?}");
            }
            let mut pairs = BTreeSet::new();
            let (mut numbers, mut devices) = (BTreeMap::new(), BTreeMap::new());
            for one in book.all.values() {
                prop_assert!(one.expires > now);
                prop_assert!(pairs.insert((one.number.clone(), one.device)), "twice: {one:?}");
                *numbers.entry(one.number.clone()).or_insert(0) += 1;
                devices.entry(one.user.clone()).or_insert_with(BTreeSet::new).insert(one.device);
            }
            prop_assert!(numbers.values().all(|count| *count <= limits.per_number));
            prop_assert!(devices.values().all(|all| all.len() <= limits.devices_per_user));
            let sizes = [book.pairs.len(), book.owners.len(), book.ends.len()];
            prop_assert_eq!(sizes, [book.all.len(); 3]);
        }
    }
}
