//! Logins at a real identity provider: how a client comes by its token, and keeps it.

use std::time::Duration;

use ript::client::login::{DevicePrompt, Flow, Login, LoginError, TokenSource};
use ript::client::{Call, Client, Handler, HandlerSpec, Listener};
use ript::protocol::event::{Outcome, State};

use crate::common::idp::Provider;
use crate::common::{World, soon};
use crate::oauth::trusting;

const ALICE: &str = "+14085550001";
const BOB: &str = "+14085550002";

/// A provider whose tokens live so long, a server that takes them, and roots for both.
struct Domain {
    provider: Provider,
    world: World,
    roots: Vec<u8>,
}

impl Domain {
    async fn start(life: &str) -> Self {
        let provider = Provider::start(&[("ACCESS_TTL", life)]);
        let world = World::with(trusting(&provider)).await;
        let mut roots = std::fs::read(&world.ca).unwrap();
        roots.extend_from_slice(provider.ca.as_bytes());
        Self { provider, world, roots }
    }

    fn name(&self) -> String {
        format!("127.0.0.1:{}", self.world.address.port())
    }

    async fn flow(&self) -> Flow {
        Flow::discover(&self.name(), Some(&self.roots)).await.unwrap()
    }

    /// What a person does who was shown a code.
    async fn decide(&self, code: &str, decision: &str) {
        let url = format!("{}/test/device?user_code={code}&{decision}", self.provider.issuer);
        let answer = self.provider.fetcher.get(&url).await.unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()["done"], true);
    }

    fn decide_at_once(&self, code: &str, decision: &str) {
        let decided = self.decide(code, decision);
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(decided));
    }

    /// A login that is confirmed before its first poll.
    async fn login(&self, account: &str) -> Login {
        let confirm = |prompt: &DevicePrompt| {
            self.decide_at_once(&prompt.code, &account_is(account));
        };
        soon("the login", self.flow().await.device(confirm)).await.unwrap()
    }

    async fn client(&self, source: TokenSource) -> Client {
        let builder = Client::builder(self.world.url()).login(source).roots(self.roots.clone());
        builder.passport_key(self.world.passports.to_pem()).connect().await.unwrap()
    }

    /// Waits for so many more requests at the token endpoint.
    async fn renewals(&self, more: u64) {
        let seen = self.provider.seen("/token").await;
        soon("the renewals", async {
            while self.provider.seen("/token").await < seen + more {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }
}

fn account_is(account: &str) -> String {
    format!("account={}", account.replace('+', "%2B"))
}

async fn register(client: &Client) -> Handler {
    let tg = client.tgs().await.unwrap().remove(0);
    soon("the device", client.register(&tg.uri, HandlerSpec::audio())).await.unwrap()
}

/// A call to bob that bob answered.
async fn call(alice: &Handler, bob: &mut Listener) -> (Call, Call) {
    let placed = alice.place(BOB, None).await.unwrap();
    let incoming = soon("the call", bob.next()).await.unwrap();
    assert_eq!(incoming.call().from().to_string(), ALICE);
    let answered = soon("the answer", incoming.answer()).await.unwrap();
    soon("answered", placed.answered()).await.unwrap();
    (placed, answered)
}

/// Holds and resumes: both ends still hear each other's events.
async fn is_alive(a: &Call, b: &Call) {
    for call in [a, b] {
        soon("hold", call.hold()).await.unwrap();
        soon("resume", call.resume()).await.unwrap();
        assert_eq!(call.state(), State::Answered);
    }
}

async fn hang_up(by: &Call, other: &Call) {
    soon("the end", by.end()).await.unwrap();
    assert_eq!(soon("ended", other.ended()).await.outcome, Outcome::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_confirmed_elsewhere_places_its_device_on_a_tg() {
    let domain = Domain::start("300").await;
    let flow = domain.flow().await;
    assert_eq!(flow.discovery().issuer, domain.provider.issuer);
    let (shown, prompt) = tokio::sync::oneshot::channel();
    let person = async {
        let prompt: DevicePrompt = prompt.await.unwrap();
        assert!(prompt.uri.starts_with(&domain.provider.issuer), "{prompt:?}");
        assert!(prompt.uri_complete.unwrap().contains(&prompt.code));
        assert!(prompt.expires_in > Duration::from_secs(60));
        // The first poll comes too early.
        while domain.provider.seen("/token").await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        domain.decide(&prompt.code, &account_is(ALICE)).await;
    };
    let login = flow.device(|prompt| shown.send(prompt.clone()).unwrap());
    let (login, ()) = soon("the login", async { tokio::join!(login, person) }).await;
    let login = login.unwrap();
    assert_eq!(login.domain, domain.name());
    assert!(login.refresh_token.is_some() && !login.is_expired(ript::clock::now()));
    let client = domain.client(TokenSource::new(login)).await;
    let tgs = client.tgs().await.unwrap();
    assert_eq!(tgs.len(), 2);
    let handler = register(&client).await;
    assert_eq!(handler.number().unwrap().to_string(), ALICE);
    assert_eq!(client.handlers(&handler.tg().uri).await.unwrap().len(), 1);
    assert!(client.login_ended().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_denied_elsewhere_is_refused() {
    let domain = Domain::start("300").await;
    let deny = |prompt: &DevicePrompt| {
        domain.decide_at_once(&prompt.code, "deny=1");
    };
    match soon("the refusal", domain.flow().await.device(deny)).await {
        Err(LoginError::Refused { code, .. }) => assert_eq!(code, "access_denied"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_beyond_the_tokens_that_they_began_with() {
    let domain = Domain::start("5").await;
    let alice = domain.client(TokenSource::new(domain.login(ALICE).await)).await;
    let bob = domain.client(TokenSource::new(domain.login(BOB).await)).await;
    let (at_alice, at_bob) = (register(&alice).await, register(&bob).await);
    let mut ringing = at_bob.listen();
    let (placed, answered) = call(&at_alice, &mut ringing).await;
    for _ in 0..2 {
        // Each end renews once in four seconds.
        domain.renewals(2).await;
        is_alive(&placed, &answered).await;
    }
    // The listener's channel is older than bob's token.
    let (again, taken) = call(&at_alice, &mut ringing).await;
    is_alive(&again, &taken).await;
    hang_up(&again, &taken).await;
    hang_up(&answered, &placed).await;
    assert!(alice.login_ended().is_none() && bob.login_ended().is_none());
    assert_eq!((alice.connection(), bob.connection()), (Some(1), Some(1)));
}
