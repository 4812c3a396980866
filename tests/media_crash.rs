//! The server is killed and started again under live calls: clients come back by themselves.

use serde_json::{Value, json};

use crate::common::media::{Media, audio, read};
use crate::common::user::{BOTH, EventStream};
use crate::common::{User, World, soon};

const CALLS: usize = 20;

/// One leg of a call as its client knows it.
struct Side {
    call: String,
    handler: String,
    events: EventStream,
    media: Media,
    /// Newest event seen, and all digits heard.
    seq: u64,
    digits: String,
    sent: u64,
}

impl Side {
    async fn open(user: &User, call: String, handler: String, after: Option<u64>) -> Self {
        let events = user.events(&call, &handler, after).await;
        let media = user.media(&call, &handler).await;
        Self { call, handler, events, media, seq: after.unwrap_or(0), digits: String::new(), sent: 0 }
    }

    /// Takes an event in; each comes once, in order.
    fn take(&mut self, event: &Value) {
        let Some(seq) = event["seq"].as_u64() else { return };
        if event["snapshot"] == json!(true) {
            self.seq = seq;
            return;
        }
        assert_eq!(seq, self.seq + 1, "{event}");
        self.seq = seq;
        if event["event"] == "dtmf" {
            self.digits.push_str(event["digit"].as_str().unwrap());
        }
        assert_ne!(event["event"], "ended", "{event}");
    }

    async fn hear(&mut self, digits: &str) {
        while self.digits != digits {
            let event = self.events.next().await.expect("an event");
            self.take(&event);
        }
    }

    fn speak(&mut self, mark: &[u8]) {
        let now = ript::clock::now().as_millis();
        self.media.send(&audio(self.sent, now, true, mark));
        self.sent += 1;
    }
}

async fn dial(user: &User, side: &Side, digit: &str) {
    let done = user.event(&side.call, &side.handler, json!({"event": "dtmf", "digit": digit})).await;
    assert_eq!(done.status, 200, "{done:?}");
}

/// A new connection, the call, the events missed, new media: all that a client needs.
async fn come_back(user: &User, side: Side) -> Side {
    let description = user.get(&side.call).await.json();
    assert_eq!(description["state"], "answered", "{description}");
    let back = Side::open(user, side.call, side.handler, Some(side.seq)).await;
    Side { digits: side.digits, ..back }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_ends_and_no_event_is_lost_when_the_server_is_killed() {
    let world = World::start().await;
    let alice = world.user("alice", "+14085550001").await;
    let bob = world.user("bob", "+14085550002").await;
    let (a1, b1) = (alice.register("a1", BOTH).await, bob.register("b1", BOTH).await);
    let mut pairs = Vec::new();
    for _ in 0..CALLS {
        let before = bob.calls().await;
        let mine = alice.call(&a1, &bob.number).await["uri"].as_str().unwrap().to_owned();
        let theirs = bob.calls().await.into_iter().find(|c| !before.contains(c)).expect("a new call");
        assert_eq!(bob.claim(&theirs, &b1, Some("answer")).await.status, 200);
        assert_eq!(bob.event(&theirs, &b1, json!({"event": "answered"})).await.status, 200);
        let caller = Side::open(&alice, mine, a1.clone(), None).await;
        let callee = Side::open(&bob, theirs, b1.clone(), None).await;
        pairs.push((caller, callee));
    }
    for (n, (caller, callee)) in pairs.iter_mut().enumerate() {
        let mark = [n as u8, 1];
        for _ in 0..3 {
            caller.speak(&mark);
            assert_eq!(read(&callee.media.media().await).3, mark);
        }
        callee.speak(&mark);
        assert_eq!(read(&caller.media.media().await).3, mark);
        dial(&alice, caller, "1").await;
        callee.hear("1").await;
        // Written down, and perhaps not told.
        dial(&alice, caller, "2").await;
        dial(&bob, callee, "8").await;
    }

    let fell = ript::clock::elapsed();
    let (settings, store, issuer, passports, address) = world.crash().await;
    for (caller, callee) in &mut pairs {
        caller.media.closed().await;
        callee.media.closed().await;
        for side in [caller, callee] {
            while let Some(event) = side.events.next().await {
                side.take(&event);
            }
        }
    }
    drop((alice.client.clone(), bob.client.clone()));
    let world = World::on(settings, store, issuer, passports, Some(address)).await;
    let started = ript::clock::elapsed();

    let alice = User::connect(&world, alice.token.clone(), &alice.number).await;
    let bob = User::connect(&world, bob.token.clone(), &bob.number).await;
    let mut gaps = Vec::new();
    let mut back = Vec::new();
    for (n, (caller, callee)) in pairs.into_iter().enumerate() {
        let mut caller = come_back(&alice, caller).await;
        let mut callee = come_back(&bob, callee).await;
        let mark = [n as u8, 2];
        caller.speak(&mark);
        assert_eq!(read(&callee.media.media().await).3, mark);
        callee.speak(&mark);
        assert_eq!(read(&caller.media.media().await).3, mark);
        gaps.push((ript::clock::elapsed() - fell).as_millis());
        back.push((caller, callee));
    }
    for (caller, callee) in &mut back {
        callee.hear("12").await;
        caller.hear("8").await;
        dial(&alice, caller, "3").await;
        dial(&bob, callee, "9").await;
        callee.hear("123").await;
        caller.hear("89").await;
    }
    let (first, last) = (gaps.first().unwrap(), gaps.last().unwrap());
    let down = (started - fell).as_millis();
    println!(
        "server away for {down} ms; media gap of {CALLS} calls, one after another: {first} to {last} ms"
    );
    let calls = soon("the list of calls", alice.calls()).await;
    assert_eq!(calls.len(), CALLS);
}
