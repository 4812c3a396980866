//! Several hundred sessions and ordinary requests on one connection.

use futures_util::future::join_all;

use crate::common::World;
use crate::common::media::audio;
use crate::common::user::BOTH;

const SESSIONS: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_sessions_and_requests_share_one_connection() {
    let world = World::start().await;
    let alice = world.user("alice", "+14085550001").await;
    let bob = world.user("bob", "+14085550002").await;
    let (a1, _b1) = (alice.register("a1", BOTH).await, bob.register("b1", BOTH).await);
    let mut calls = Vec::new();
    for _ in 0..SESSIONS {
        calls.push(alice.call(&a1, &bob.number).await["uri"].as_str().unwrap().to_owned());
    }
    let mut sessions = Vec::new();
    for uri in &calls {
        sessions.push(alice.media(uri, &a1).await);
    }
    assert_eq!(alice.client.open_sessions(), SESSIONS);
    let requests = join_all(calls.iter().map(|uri| alice.get(uri)));
    // Each session gets the ack of its own stream, while requests go on beside it.
    let media = join_all(sessions.iter_mut().enumerate().map(async |(n, media)| {
        let seq = 1000 + n as u64;
        media.send(&audio(seq, 0, true, b"x"));
        let ack = media.ack().await;
        assert_eq!((ack.newest, &ack.runs[..]), (seq, &[1][..]));
        media.settle().await;
    }));
    let (answers, _) = tokio::join!(requests, media);
    for (answer, uri) in answers.iter().zip(&calls) {
        assert_eq!((answer.status.as_u16(), answer.json()["uri"].as_str()), (200, Some(&uri[..])));
    }
    assert_eq!(alice.client.counters(), ript::transport::Counters::default());
}
