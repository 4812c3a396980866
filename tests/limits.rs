//! How many calls one user may have.

use axum::body::Body;
use futures_util::{StreamExt, stream};
use ript::service::rate::Rate;
use serde_json::json;

use crate::common::{World, soon};

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
