//! Real requests to a webhook on loopback.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::super::body::Wanted;
use super::super::{Subscriptions, body};
use super::webhook::Webhook;
use super::*;
use crate::adapter::camara::SinkSettings;
use crate::clock;
use crate::identity::devca::DevCa;
use crate::service::{StoreHandle, fetch};
use crate::store::memory::MemoryStore;
use crate::store::{Store as _, Table};

struct World {
    ca: DevCa,
    store: Arc<MemoryStore>,
    settings: SinkSettings,
    all: Subscriptions,
}

impl World {
    async fn start() -> Self {
        let ca = DevCa::generate(clock::now()).unwrap();
        let root = CertificateDer::from_pem_slice(ca.cert_pem().as_bytes()).unwrap();
        let fetch = fetch::Settings { allow: vec!["127.0.0.0/8".parse().unwrap()], roots: vec![root] };
        let settings = SinkSettings { fetch, per_user: 5, ..SinkSettings::default() };
        let store = Arc::new(MemoryStore::new());
        let all = Subscriptions::load(StoreHandle(store.clone()), &settings).await.unwrap();
        Self { ca, store, settings, all }
    }

    async fn webhook(&self) -> Webhook {
        let server = self.ca.issue_server(&[], clock::now()).unwrap();
        Webhook::start(&server.cert_pem, &server.key_pem).await
    }

    async fn subscribe(&self, kind: Kind, hook: &Webhook, change: impl FnOnce(&mut Wanted)) -> Uuid {
        let mut wanted = Wanted {
            kinds: vec![kind],
            device: DEVICE,
            sink: Secret(hook.url()),
            credential: None,
            headers: None,
            method: false,
            expires: None,
            max_events: None,
            initial: None,
        };
        change(&mut wanted);
        self.all.create(clock::now(), alice(), kind, wanted).await.unwrap().id
    }

    fn tell(&self, notice: &Arc<Notice>) {
        self.all.hear(&alice(), DEVICE, notice);
    }

    fn stored(&self) -> usize {
        futures_util::FutureExt::now_or_never(self.store.load(Table::Subscriptions)).unwrap().unwrap().len()
    }

    /// The store lets go of what is over.
    async fn empties(&self) {
        let empty = async {
            while self.stored() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SECOND * 60, empty).await.expect("an empty store");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_type_arrives_as_a_cloudevent_with_the_sinks_token_and_its_own_headers() {
    let world = World::start().await;
    for (kind, notice, name) in [
        (Kind::Invitation, invitation(1), "session-invitation"),
        (Kind::Status, status(1, 2), "session-status"),
        (Kind::RegistrationEnds, registration_ends(1), "registration-ends"),
    ] {
        let mut hook = world.webhook().await;
        let id = world
            .subscribe(kind, &hook, |wanted| {
                wanted.credential = credential("to.ken==", SECOND * 3600, clock::now());
                wanted.headers = Some([("X-Tenant".to_owned(), Secret("acme".into()))].into());
            })
            .await;
        for notice in [invitation(1), status(1, 2), registration_ends(1)] {
            world.all.hear(&UserId::derive("urn:test", "bob"), DEVICE, &notice);
            world.all.hear(&alice(), Uuid::nil(), &notice);
        }
        world.tell(&notice);
        let seen = hook.next().await;
        assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/hook?secret=s"));
        assert_eq!(seen.kind(), name);
        assert_eq!(seen.header("content-type"), "application/cloudevents+json");
        assert_eq!(seen.header("authorization"), "Bearer to.ken==");
        assert_eq!(seen.header("x-tenant"), "acme");
        assert_eq!(seen.header("host"), format!("127.0.0.1:{}", hook.address.port()));
        assert_eq!(seen.header("x-correlator"), seen.event["id"]);
        assert_eq!(seen.event["data"]["subscriptionId"], id.to_string());
        assert_eq!(seen.event["specversion"], "1.0");
        assert!(hook.rest().is_empty(), "nobody else's");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_sink_gets_each_event_again_with_the_same_id_and_in_order() {
    let world = World::start().await;
    let mut hook = world.webhook().await;
    world.subscribe(Kind::Status, &hook, |_| {}).await;
    hook.answer([500, 503]);
    hook.answer_with(429, "retry-after", "1");
    hook.answer([302, 404, 400, 204]);
    let before = clock::now();
    for n in 1..=3 {
        world.tell(&status(1, n));
    }
    let first = hook.next().await;
    let mut tries = 1;
    let second = loop {
        let seen = hook.next().await;
        if seen.event["id"] != first.event["id"] {
            break seen;
        }
        assert_eq!(seen.event, first.event);
        tries += 1;
    };
    assert_eq!(tries, 6, "500, 503, 429; then 302, 404 and 400 use up the tries of a refused event");
    assert!(clock::now().since(before) >= SECOND, "Retry-After is kept");
    let third = hook.next().await;
    let sequence = |seen: &super::webhook::Seen| seen.event["data"]["sequenceNumber"].as_u64();
    assert_eq!([sequence(&first), sequence(&second), sequence(&third)], [Some(1), Some(2), Some(3)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_never_answers_slows_no_other_and_hearing_never_waits() {
    let world = World::start().await;
    let (mut dead, mut alive) = (world.webhook().await, world.webhook().await);
    dead.always(0);
    world.subscribe(Kind::Invitation, &dead, |_| {}).await;
    world.subscribe(Kind::Invitation, &alive, |_| {}).await;
    for n in 0..20 {
        world.tell(&invitation(n));
    }
    for n in 0..20 {
        assert_eq!(alive.next().await.event["data"]["mediaSessionId"], Uuid::from_u128(n).to_string());
    }
    // It timed out, and the same event comes again.
    let (first, again) = (dead.next().await, dead.next().await);
    assert_eq!(first.event, again.event);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_redirect_is_followed_and_no_unknown_certificate_taken() {
    let world = World::start().await;
    let (mut hook, elsewhere) = (world.webhook().await, world.webhook().await);
    let stranger = DevCa::generate(clock::now()).unwrap().issue_server(&[], clock::now()).unwrap();
    let mut stranger = Webhook::start(&stranger.cert_pem, &stranger.key_pem).await;
    world.subscribe(Kind::Invitation, &stranger, |_| {}).await;
    world.subscribe(Kind::Invitation, &hook, |_| {}).await;
    for status in [301, 307, 308] {
        hook.answer_with(status, "location", elsewhere.url());
    }
    world.tell(&invitation(1));
    world.tell(&invitation(2));
    let ids = [hook.next().await, hook.next().await, hook.next().await].map(|seen| seen.event["id"].clone());
    assert_eq!((&ids[0], &ids[1]), (&ids[1], &ids[2]));
    assert_ne!(hook.next().await.event["id"], ids[0]);
    while stranger.connections() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((elsewhere.connections(), stranger.rest().len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_is_gone_ends_its_subscription_without_a_word() {
    let world = World::start().await;
    let mut hook = world.webhook().await;
    let id = world.subscribe(Kind::Invitation, &hook, |_| {}).await;
    hook.answer([410]);
    world.tell(&invitation(1));
    world.tell(&invitation(2));
    hook.next().await;
    world.empties().await;
    assert!(world.all.get(clock::now(), &alice(), id).is_err());
    assert!(hook.rest().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_end_is_told_and_lets_go_of_the_subscription() {
    let world = World::start().await;
    let now = clock::now;
    type Change = Box<dyn FnOnce(&mut Wanted)>;
    let cases: [(&str, Change); 3] = [
        ("SUBSCRIPTION_EXPIRED", Box::new(move |wanted| wanted.expires = Some(now() + SECOND))),
        ("MAX_EVENTS_REACHED", Box::new(|wanted| wanted.max_events = Some(1))),
        (
            "ACCESS_TOKEN_EXPIRED",
            Box::new(move |wanted| wanted.credential = credential("t", SECOND * 8, now())),
        ),
    ];
    for (reason, change) in cases {
        let mut hook = world.webhook().await;
        let id = world.subscribe(Kind::Invitation, &hook, change).await;
        world.tell(&invitation(1));
        assert_eq!(hook.next().await.kind(), "session-invitation");
        let end = hook.next().await;
        assert_eq!((end.kind(), end.reason()), ("subscription-ended", reason));
        assert!(world.all.get(clock::now(), &alice(), id).is_err());
        world.empties().await;
        world.tell(&invitation(2));
        assert!(hook.rest().is_empty());
    }
    let mut hook = world.webhook().await;
    let id = world.subscribe(Kind::Invitation, &hook, |_| {}).await;
    world.store.set_failing(true);
    assert!(world.all.remove(&alice(), id).await.is_err());
    world.store.set_failing(false);
    assert!(world.all.get(clock::now(), &alice(), id).is_ok(), "a refused deletion changes nothing");
    world.all.remove(&alice(), id).await.unwrap();
    assert!(world.all.remove(&alice(), id).await.is_err());
    assert_eq!(hook.next().await.reason(), "SUBSCRIPTION_DELETED");
    world.empties().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_token_is_used_at_once_and_moves_the_end() {
    let world = World::start().await;
    let mut hook = world.webhook().await;
    let old = credential("old", SECOND * 3600, clock::now());
    let id = world.subscribe(Kind::Invitation, &hook, |wanted| wanted.credential = old).await;
    hook.answer_with(503, "retry-after", "3000");
    world.tell(&invitation(1));
    assert_eq!(hook.next().await.header("authorization"), "Bearer old");
    let new = credential("new", SECOND * 7200, clock::now());
    let change = body::Change { credential: new, expires: None };
    // The first answer may still be on its way to the queue: a change is repeated until it takes effect.
    let again = async {
        loop {
            world.all.update(clock::now(), &alice(), id, change.clone()).await.unwrap();
            if let Ok(seen) = tokio::time::timeout(Duration::from_millis(200), hook.next()).await {
                return seen;
            }
        }
    };
    let seen = tokio::time::timeout(SECOND * 60, again).await.unwrap();
    assert_eq!(seen.header("authorization"), "Bearer new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_subscriptions_with_their_tokens_and_counts_and_tells_ends() {
    let mut world = World::start().await;
    let mut hook = world.webhook().await;
    let (end, mut ended) = (clock::now() + SECOND, world.webhook().await);
    let id = world
        .subscribe(Kind::Invitation, &hook, |wanted| {
            wanted.max_events = Some(2);
            wanted.credential = credential("kept", SECOND * 3600, clock::now());
        })
        .await;
    world.tell(&invitation(1));
    hook.next().await;
    world.subscribe(Kind::Status, &ended, |wanted| wanted.expires = Some(end)).await;
    let Subscriptions { inner } = world.all;
    drop(inner);
    while clock::now() < end {
        tokio::time::sleep(end.since(clock::now())).await;
    }
    let handle = StoreHandle(world.store.clone());
    world.all = Subscriptions::load(handle, &world.settings).await.unwrap();
    assert_eq!(ended.next().await.reason(), "SUBSCRIPTION_EXPIRED");
    assert_eq!(world.all.get(clock::now(), &alice(), id).unwrap().taken, 1);
    world.tell(&invitation(2));
    let seen = hook.next().await;
    assert_eq!((seen.kind(), seen.header("authorization")), ("session-invitation", "Bearer kept"));
    assert_eq!(hook.next().await.reason(), "MAX_EVENTS_REACHED");
    world.empties().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_does_not_take_is_not_promised() {
    let world = World::start().await;
    let mut hook = world.webhook().await;
    let id = world.subscribe(Kind::Invitation, &hook, |_| {}).await;
    let before = world.all.get(clock::now(), &alice(), id).unwrap();
    world.store.set_failing(true);
    let change = body::Change {
        credential: credential("t", SECOND * 60, clock::now()),
        expires: Some(clock::now() + SECOND * 90),
    };
    assert!(world.all.update(clock::now(), &alice(), id, change).await.is_err());
    assert_eq!(world.all.get(clock::now(), &alice(), id).unwrap(), before);
    let wanted = |hook: &Webhook| Wanted {
        kinds: vec![],
        device: DEVICE,
        sink: Secret(format!("{}x", hook.url())),
        credential: None,
        headers: None,
        method: false,
        expires: None,
        max_events: None,
        initial: None,
    };
    let refused = world.all.create(clock::now(), alice(), Kind::Invitation, wanted(&hook)).await;
    assert!(refused.is_err());
    assert_eq!(world.all.list(clock::now(), &alice()).len(), 1);
    world.store.set_failing(false);
    world.tell(&invitation(1));
    assert_eq!(hook.next().await.event["data"]["subscriptionId"], id.to_string());
    assert!(hook.rest().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_has_so_many_subscriptions_whose_end_is_being_told_too() {
    let world = World::start().await;
    let hook = world.webhook().await;
    hook.always(500);
    let mut ids = Vec::new();
    for n in 0..5 {
        let sink = Secret(format!("{}{n}", hook.url()));
        ids.push(world.subscribe(Kind::Invitation, &hook, |wanted| wanted.sink = sink).await);
    }
    world.all.remove(&alice(), ids[0]).await.unwrap();
    let wanted = Wanted {
        kinds: vec![],
        device: Uuid::nil(),
        sink: Secret(hook.url()),
        credential: None,
        headers: None,
        method: false,
        expires: None,
        max_events: None,
        initial: None,
    };
    let refused = world.all.create(clock::now(), alice(), Kind::Invitation, wanted).await;
    assert_eq!(refused.unwrap_err(), super::super::Refusal::PerUser(5));
    assert_eq!(world.all.list(clock::now(), &alice()).len(), 4);
}
