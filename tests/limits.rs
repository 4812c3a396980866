//! How many calls one user may have.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use ript::identity::jwk::SigningKey;
use ript::service::Settings;
use ript::service::rate::Rate;
use ript::store::memory::MemoryStore;
use ript::store::{Records, Store, StoreError, Table, Write};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::common::{World, settings, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_thousand_and_first_call_of_a_user_has_to_wait_for_one_to_end() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let placed: Vec<u16> = stream::iter(0..1000)
        .map(|_| async { alice.try_call(&a1, &bob.number).await.status.as_u16() })
        .buffer_unordered(16)
        .collect()
        .await;
    assert!(placed.iter().all(|status| *status == 201));
    let full = alice.try_call(&a1, &bob.number).await;
    assert_eq!(full.problem(), (429, "too-many".into()));
    assert!(full.header("retry-after").parse::<u64>().is_ok());
    // Another user's calls go on being placed, and theirs are answered.
    let carol = world.user("carol", "+14085550003").await;
    let c1 = carol.register("c1", crate::common::user::BOTH).await;
    assert_eq!(carol.try_call(&c1, "+14085550001").await.status, 201);
    // Carol's call counts too: 1,001 are live, and two have to end before one more fits, and only one.
    assert_eq!(alice.calls().await.len(), 1001);
    for incoming in bob.calls().await.iter().take(2) {
        assert_eq!(alice.try_call(&a1, &bob.number).await.status, 429);
        assert_eq!(bob.event(incoming, &b1, json!({"event": "end"})).await.status, 200);
    }
    assert_eq!(alice.try_call(&a1, &bob.number).await.status, 201);
    assert_eq!(alice.try_call(&a1, &bob.number).await.status, 429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_calls_by_one_token_are_mostly_refused_and_a_live_call_goes_on() {
    let world = World::with(|s| s.calls_per_user = 4).await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, incoming) = alice.answered(&a1, &bob, &b1).await;
    let mut heard = bob.events(&incoming, &b1, None).await;
    heard.next().await;
    let carol = world.user("carol", "+14085550003").await;
    carol.register("c1", crate::common::user::BOTH).await;
    let mallory = world.user("mallory", "+14085550009").await;
    let m1 = mallory.register("m1", crate::common::user::BOTH).await;
    for _ in 0..4 {
        assert_eq!(mallory.try_call(&m1, &carol.number).await.status, 201);
    }
    let body =
        json!({"handler": m1, "destination": carol.number, "passport": mallory.passport(&carol.number)});
    let body = body.to_string();
    let refused = stream::iter(0..10_000)
        .map(|_| async {
            let request =
                mallory.builder("POST", "providertgs/test/calls").header("content-length", body.len());
            mallory.send(request.body(Body::from(body.clone())).unwrap()).await.status == 429
        })
        .buffer_unordered(64)
        .filter(|refused| std::future::ready(*refused))
        .count()
        .await;
    assert_eq!(refused, 10_000);
    assert_eq!(mallory.calls().await.len(), 4);
    alice.digit_reaches(&call, &a1, &mut heard, "7").await;
}

/// Whether a refusal says that it is for the pace, and when to come again.
fn is_pace(answer: &crate::common::user::Answer, why: &str) {
    assert_eq!(answer.problem(), (429, "too-many".into()));
    assert!((1..=60).contains(&answer.header("retry-after").parse::<u64>().unwrap()));
    assert!(answer.json()["detail"].as_str().unwrap().contains(why), "{}", answer.json());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_places_calls_too_fast_waits_and_nothing_of_the_refused_one_is_used_up() {
    let world = World::with(|s| s.call_rate = Some(Rate { per_second: 1, burst: 3 })).await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, _) = alice.answered(&a1, &bob, &b1).await;
    let wanted = json!({"handler": a1, "destination": bob.number, "passport": alice.passport(&bob.number)});
    let keyed = async |body: &serde_json::Value| {
        let body = body.to_string();
        let request = alice.builder("POST", "providertgs/test/calls").header("content-length", body.len());
        alice.send(request.header("idempotency-key", "k1").body(Body::from(body)).unwrap()).await
    };
    // Until the bucket is empty, however slow this machine is.
    let mut refused = alice.try_call(&a1, &bob.number).await;
    for _ in 0..1000 {
        if refused.status == 429 {
            break;
        }
        refused = alice.try_call(&a1, &bob.number).await;
    }
    is_pace(&refused, "a user places at most 1 calls a second");
    // The same request, PASSporT and key, goes through once its time has come; and again it is the same call.
    let placed = soon("room", async {
        loop {
            let answer = keyed(&wanted).await;
            match answer.status.as_u16() {
                201 => return answer,
                _ => is_pace(&answer, "a second"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    let again = keyed(&wanted).await;
    assert_eq!((again.status.as_u16(), again.header("location")), (201, placed.header("location")));
    // Others have their own pace, and the live call goes on.
    let carol = world.user("carol", "+14085550003").await;
    let c1 = carol.register("c1", crate::common::user::BOTH).await;
    assert_eq!(carol.try_call(&c1, &bob.number).await.status, 201);
    assert_eq!(alice.event(&call, &a1, json!({"event": "hold"})).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tg_has_a_pace_and_a_number_of_calls_for_all_its_users_together() {
    let world = World::with(|s| s.tgs[0].call_rate = Some(Rate { per_second: 1, burst: 2 })).await;
    let (alice, a1, bob, _) = world.pair().await;
    let carol = world.user("carol", "+14085550003").await;
    let c1 = carol.register("c1", crate::common::user::BOTH).await;
    let refused = soon("a refusal", async {
        loop {
            let answers = [alice.try_call(&a1, &bob.number).await, carol.try_call(&c1, &bob.number).await];
            if let Some(refused) = answers.into_iter().find(|answer| answer.status == 429) {
                return refused;
            }
        }
    });
    is_pace(&refused.await, "the users of this TG place at most 1 calls a second");

    let world = World::with(|s| s.tgs[0].calls = Some(2)).await;
    let (alice, a1, bob, _) = world.pair().await;
    let carol = world.user("carol", "+14085550003").await;
    let c1 = carol.register("c1", crate::common::user::BOTH).await;
    let first = alice.call(&a1, &bob.number).await;
    carol.call(&c1, &bob.number).await;
    for answer in [alice.try_call(&a1, &bob.number).await, carol.try_call(&c1, &bob.number).await] {
        is_pace(&answer, "this TG carries at most 2 calls at once");
    }
    let uri = first["uri"].as_str().unwrap();
    assert_eq!(alice.event(uri, &a1, json!({"event": "end"})).await.status, 200);
    assert_eq!(carol.try_call(&c1, &bob.number).await.status, 201);
}

/// Of the gate: who holds all keeps it shut.
const PERMITS: u32 = 100;

/// A store whose writes wait until it is told to go on.
#[derive(Clone)]
struct Gated {
    inner: Arc<MemoryStore>,
    gate: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl Store for Gated {
    fn load(&self, table: Table) -> BoxFuture<'static, Result<Records, StoreError>> {
        self.inner.load(table)
    }

    fn write(&self, batch: Vec<Write>) -> BoxFuture<'static, Result<(), StoreError>> {
        let written = self.inner.write(batch);
        let (gate, waiting) = (self.gate.clone(), self.waiting.clone());
        async move {
            waiting.fetch_add(1, Ordering::SeqCst);
            let _ = gate.acquire().await;
            written.await
        }
        .boxed()
    }
}

/// Twelve calls of Alice come while none of them is written down yet; how many of them are placed.
async fn placed_at_once(change: impl FnOnce(&mut Settings)) -> usize {
    let (issuer, passports) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let mut settings = settings(&issuer, &passports);
    change(&mut settings);
    let gate = Arc::new(Semaphore::new(PERMITS as usize));
    let store = Gated { inner: Arc::new(MemoryStore::new()), gate: gate.clone(), waiting: Arc::default() };
    let world = World::on(settings, Arc::new(store.clone()), issuer, passports, None).await;
    let (alice, a1, bob, _) = world.pair().await;
    let open = gate.acquire_many(PERMITS).await.unwrap();
    let before = store.waiting.load(Ordering::SeqCst);
    let refused = AtomicUsize::new(0);
    let calls = stream::iter(0..12)
        .map(|_| async {
            let answer = alice.try_call(&a1, &bob.number).await;
            if answer.status != 201 {
                is_pace(&answer, "at once");
                refused.fetch_add(1, Ordering::SeqCst);
            }
            answer.status == 201
        })
        .buffer_unordered(12)
        .filter(|placed| std::future::ready(*placed))
        .count();
    let decided = async {
        while store.waiting.load(Ordering::SeqCst) - before + refused.load(Ordering::SeqCst) < 12 {
            tokio::task::yield_now().await;
        }
        drop(open);
    };
    let (placed, ()) = soon("twelve answers", async { tokio::join!(calls, decided) }).await;
    assert_eq!(alice.calls().await.len(), placed);
    assert_eq!(alice.try_call(&a1, &bob.number).await.status, 429);
    placed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_many_calls_at_once_gets_no_more_than_one_after_the_other() {
    assert_eq!(placed_at_once(|s| s.tgs[0].calls = Some(2)).await, 2);
    assert_eq!(placed_at_once(|s| s.calls_per_user = 3).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tg_that_others_fill_uses_up_nothing_of_a_users_own_pace() {
    let world = World::with(|s| {
        s.call_rate = Some(Rate { per_second: 1, burst: 50 });
        s.tgs[0].call_rate = Some(Rate { per_second: 1, burst: 1 });
    })
    .await;
    let (alice, a1, bob, _) = world.pair().await;
    let mut refused = 0;
    while refused < 200 {
        let answer = alice.try_call(&a1, &bob.number).await;
        if answer.status == 429 {
            is_pace(&answer, "the users of this TG place at most 1 calls a second");
            refused += 1;
        }
    }
}
