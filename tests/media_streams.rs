//! Chunks that no datagram holds go on streams of their own.

use crate::common::media::{Came, Pair, audio};
use crate::common::user::BOTH;
use crate::common::{PATIENCE, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_chunk_arrives_on_a_stream_of_its_own() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let (alice, mut bob) = pair.media().await;
    for (seq, size) in [1_101, 50_000, 65_000].into_iter().enumerate() {
        let payload: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let chunk = audio(seq as u64, seq as u64 * 20, true, &payload);
        alice.session.send_stream(chunk.clone(), ript::clock::instant() + PATIENCE);
        assert_eq!(bob.next().await, Came::Stream(chunk), "{size}");
    }
    // What came on a stream and fits a datagram goes on as one.
    let small = audio(3, 60, true, b"small");
    alice.session.send_stream(small.clone(), ript::clock::instant() + PATIENCE);
    assert_eq!(bob.next().await, Came::Datagram(small));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_larger_than_a_chunk_may_be_is_refused_and_the_session_goes_on() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let (alice, mut bob) = pair.media().await;
    alice.session.send_stream(audio(0, 0, true, &vec![0; 200_000]), ript::clock::instant() + PATIENCE);
    let good = audio(1, 20, true, &[7; 2_000]);
    alice.session.send_stream(good.clone(), ript::clock::instant() + PATIENCE);
    assert_eq!(bob.next().await, Came::Stream(good));
    assert!(!alice.session.is_closed());
}
