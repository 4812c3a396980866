//! Logins at a real identity provider: how a client comes by its token, and keeps it.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Url, header};
use ript::client::audio::{CALLEE, CALLER};
use ript::client::login::{DevicePrompt, Flow, Login, LoginError, Secret, TokenSource};
use ript::client::{AudioCall, Call, Client, ClientError, Handler, HandlerSpec, Listener};
use ript::protocol::event::{Outcome, State};
use ript::protocol::time::Timestamp;
use ript::transport::tls;
use rustls::RootCertStore;

use crate::client_calls::says;
use crate::common::idp::Provider;
use crate::common::{World, soon};
use crate::oauth::trusting;

pub const ALICE: &str = "+14085550001";
pub const BOB: &str = "+14085550002";

/// A provider whose tokens live so long, a server that takes them, and roots for both.
pub struct Domain {
    pub provider: Provider,
    pub world: World,
    pub roots: Vec<u8>,
}

impl Domain {
    pub async fn start(life: &str) -> Self {
        let provider = Provider::start(&[("ACCESS_TTL", life)]);
        let world = World::with(trusting(&provider)).await;
        let mut roots = std::fs::read(&world.ca).unwrap();
        roots.extend_from_slice(provider.ca.as_bytes());
        Self { provider, world, roots }
    }

    pub fn name(&self) -> String {
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

    pub fn decide_at_once(&self, code: &str, decision: &str) {
        let decided = self.decide(code, decision);
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(decided));
    }

    /// A login that is confirmed before its first poll.
    pub async fn login(&self, account: &str) -> Login {
        let confirm = |prompt: &DevicePrompt| {
            self.decide_at_once(&prompt.code, &account_is(account));
        };
        soon("the login", self.flow().await.device(confirm)).await.unwrap()
    }

    pub async fn client(&self, source: TokenSource) -> Client {
        let builder = Client::builder(self.world.url()).login(source).roots(self.roots.clone());
        builder.passport_key(self.world.passports.to_pem()).connect().await.unwrap()
    }

    /// Waits for so many more requests at the token endpoint.
    pub async fn renewals(&self, more: u64) {
        let seen = self.provider.seen("/token").await;
        soon("the renewals", async {
            while self.provider.seen("/token").await < seen + more {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }
}

pub fn account_is(account: &str) -> String {
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
    let a = AudioCall::start(&placed, says(CALLER)).unwrap();
    let b = AudioCall::start(&answered, says(CALLEE)).unwrap();
    // 30 s of speech each way.
    let spoken = async {
        while placed.stats().media.received < 1_500 || answered.stats().media.received < 1_500 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(90), spoken).await.expect("30 s of speech");
    for stats in [placed.stats(), answered.stats()] {
        assert!(stats.gaps.is_empty() && stats.media.lost <= 5, "{stats:?}");
    }
    // Each end renews once in four seconds.
    assert!(domain.provider.seen("/token").await >= 2 + 2 * 5, "both logins, and renewals");
    is_alive(&placed, &answered).await;
    a.finish().await.unwrap();
    b.finish().await.unwrap();
    // The listener's channel is older than bob's token.
    let (again, taken) = call(&at_alice, &mut ringing).await;
    is_alive(&again, &taken).await;
    hang_up(&again, &taken).await;
    hang_up(&answered, &placed).await;
    assert!(alice.login_ended().is_none() && bob.login_ended().is_none());
    assert_eq!((alice.connection(), bob.connection()), (Some(1), Some(1)));
}

/// Plays the browser of somebody who logs in as `account`: the page that it ends on, and its status.
pub async fn browse(mut url: Url, account: &str, provider: &Provider) -> (u16, String) {
    let mut roots = RootCertStore::empty();
    roots.add(provider.fetch.roots[0].clone()).unwrap();
    let browser = reqwest::Client::builder()
        .tls_backend_preconfigured(tls::tcp_client(roots, &["http/1.1"]).unwrap())
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let home = url.origin();
    let mut cookies = BTreeMap::new();
    url.query_pairs_mut().append_pair("login_hint", account);
    for _ in 0..20 {
        let mut request = browser.get(url.clone());
        if url.origin() == home {
            let all: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(header::COOKIE, all.join("; "));
        }
        let answer = request.send().await.unwrap();
        for set in answer.headers().get_all(header::SET_COOKIE) {
            let (name, rest) = set.to_str().unwrap().split_once('=').unwrap();
            match rest.split(';').next().unwrap() {
                "" => cookies.remove(name),
                value => cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        match answer.headers().get(header::LOCATION) {
            Some(next) => url = url.join(next.to_str().unwrap()).unwrap(),
            None => return (answer.status().as_u16(), answer.text().await.unwrap()),
        }
    }
    panic!("too many redirects, the last to {url}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_brings_the_login_back_to_this_machine() {
    let domain = Domain::start("300").await;
    let flow = domain.flow().await;
    let (shown, url) = tokio::sync::oneshot::channel::<Url>();
    let person = async {
        let url = url.await.unwrap();
        let asked: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!(
            (asked["code_challenge_method"].as_str(), asked["response_type"].as_str()),
            ("S256", "code")
        );
        assert!(asked["redirect_uri"].starts_with("http://127.0.0.1:"), "{asked:?}");
        browse(url, ALICE, &domain.provider).await
    };
    let login = flow.browser(|url| shown.send(url.clone()).unwrap());
    let (login, (status, page)) = soon("the login", async { tokio::join!(login, person) }).await;
    assert!(status == 200 && page.contains("go back to ript"), "{status} {page}");
    let login = login.unwrap();
    let fresh = flow.refresh(&login).await.unwrap();
    assert_ne!((&fresh.access_token, &fresh.refresh_token), (&login.access_token, &login.refresh_token));
    let client = domain.client(TokenSource::new(fresh)).await;
    assert_eq!(register(&client).await.number().unwrap().to_string(), ALICE);
    // A refresh token that was used up has been stolen: its whole family ends.
    match flow.refresh(&login).await {
        Err(error @ LoginError::Ended { .. }) => {
            assert!(error.is_final() && error.to_string().contains("invalid_grant"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_token_is_renewed_before_it_is_sent_or_once_it_is_refused() {
    let domain = Domain::start("300").await;
    let mut refused = domain.login(ALICE).await;
    refused.access_token = Secret::new("stale");
    let client = domain.client(TokenSource::new(refused.clone())).await;
    let seen = domain.provider.seen("/token").await;
    let (tgs, again) = tokio::join!(client.tgs(), client.tgs());
    assert_eq!((tgs.unwrap().len(), again.unwrap().len()), (2, 2));
    assert_eq!(domain.provider.seen("/token").await, seen + 1, "one renewal serves all who wait");

    let mut old = domain.login(ALICE).await;
    (old.issued, old.expires) = (Timestamp::from_millis(1_000), Some(Timestamp::from_millis(2_000)));
    let client = domain.client(TokenSource::new(old.clone())).await;
    assert_eq!(domain.provider.seen("/token").await, seen + 3);
    assert_eq!(client.tgs().await.unwrap().len(), 2);
    old.refresh_token = Some(Secret::new("made-up"));
    let builder = Client::builder(domain.world.url()).roots(domain.roots.clone());
    match builder.login(TokenSource::new(old)).connect().await {
        Err(ClientError::Login(error)) => assert!(matches!(*error, LoginError::Ended { .. }), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_the_provider_forgot_ends_and_calls_go_on() {
    let mut domain = Domain::start("5").await;
    let bob = domain.client(TokenSource::new(domain.login(BOB).await)).await;
    let alice = domain.client(TokenSource::new(domain.login(ALICE).await)).await;
    let (at_alice, mut ringing) = (register(&alice).await, register(&bob).await.listen());
    let (placed, answered) = call(&at_alice, &mut ringing).await;
    domain.provider.rotate();
    soon("the end of alice's login", async {
        while alice.login_ended().is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let ended = soon("the refusal", async {
        loop {
            if let Err(error) = alice.tgs().await {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    match ended.await {
        ClientError::Login(error) => assert!(matches!(*error, LoginError::Ended { .. }), "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(at_alice.place(BOB, None).await, Err(ClientError::Login(_))));
    is_alive(&placed, &answered).await;
    hang_up(&placed, &answered).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_for_a_provider_that_is_slow_and_calls_do_not() {
    let domain = Domain::start("7").await;
    let login = domain.login(ALICE).await;
    let end = login.expires.unwrap();
    let alice = domain.client(TokenSource::new(login)).await;
    let bob = domain.client(TokenSource::new(domain.login(BOB).await)).await;
    let (at_alice, mut ringing) = (register(&alice).await, register(&bob).await.listen());
    let (placed, answered) = call(&at_alice, &mut ringing).await;
    domain.provider.freeze(true);
    // A little more, so that bob's has ended, too.
    tokio::time::sleep(end.since(ript::clock::now()) + Duration::from_secs(2)).await;
    is_alive(&placed, &answered).await;
    let asked = tokio::spawn(async move { alice.tgs().await.map(|tgs| tgs.len()) });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!asked.is_finished(), "{:?}", asked.await);
    domain.provider.freeze(false);
    assert_eq!(soon("the answer", asked).await.unwrap().unwrap(), 2);
    let (again, taken) = call(&at_alice, &mut ringing).await;
    hang_up(&again, &taken).await;
    hang_up(&placed, &answered).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_goes_to_nobody_else() {
    let domain = Domain::start("300").await;
    let login = domain.login(ALICE).await;
    let other = World::start().await;
    let builder = Client::builder(other.url()).roots(std::fs::read(&other.ca).unwrap());
    match builder.login(TokenSource::new(login)).connect().await {
        Err(ClientError::Input { what, reason }) => {
            assert!(what == "login" && reason.contains(&domain.name()), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let only_server = std::fs::read(&domain.world.ca).unwrap();
    let flow = Flow::discover(&domain.name(), Some(&only_server)).await.unwrap();
    let shown = |prompt: &DevicePrompt| panic!("{prompt:?}");
    assert!(matches!(flow.device(shown).await, Err(LoginError::Untrusted { .. })));
    let none = Flow::discover(&other.url(), Some(&std::fs::read(&other.ca).unwrap())).await;
    assert!(matches!(none, Err(LoginError::NotOffered { .. })), "{none:?}");
}
