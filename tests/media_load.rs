//! Two hundred calls at once.

use std::time::Duration;

use ript::resource;
use ript::transport::Limits;
use ript::transport::client::H3Client;

use crate::common::World;
use crate::common::load::Load;

const LATE: Duration = Duration::from_secs(60);

/// On a slow or busy machine this takes longer; `bench/load` runs against the clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hundred_calls_no_chunk_is_lost_or_misrouted() {
    // Here nothing is too late: the test is about what gets lost, whatever else this machine does.
    let limits = Limits { datagram_lifetime: LATE, ..Limits::default() };
    let world = World::serving(resource::Settings::default(), limits).await;
    let mut users = [world.user("alice", "+14085550001").await, world.user("bob", "+14085550002").await];
    for user in &mut users {
        let limits = Limits { datagram_lifetime: LATE, ..Limits::default() };
        let connecting = H3Client::connect(user.endpoint(), world.address, "127.0.0.1", limits.into());
        user.client = connecting.await.unwrap();
    }
    let [alice, bob] = users;
    let load = Load::of(alice, bob, 200).await;
    load.run(Duration::from_secs(5), Some(3)).await;
    let figures = load.settle().await;
    println!("{figures:?}");
    assert_eq!(figures.sent, 200 * 2 * 250);
    assert_eq!((figures.received, figures.doubled, figures.misrouted), (figures.sent, 0, 0), "{figures:?}");
}
