//! An enterprise that knows nothing but a provider's domain: one login, and calls flow both ways, each with an identity
//! that the provider certified.

use std::sync::Arc;
use std::time::Duration;

use ript::client::audio::{AudioCodec, CALLEE, CALLER};
use ript::client::login::{DevicePrompt, Flow, Login};
use ript::client::{AudioCall, Call, Client, Handler, HandlerSpec};
use ript::identity::certificate::Anchors;
use ript::identity::devca::DevCa;
use ript::identity::enrol::Enroller;
use ript::identity::passport::PassportTrust;
use ript::protocol::event::State;
use ript::protocol::resource::ROOT;
use ript::trunk::{self, JoinError, Joins, Own, Trunks};

use crate::client_calls::{flows, says};
use crate::common::idp::Provider;
use crate::common::user::{ALL_SCOPES, token};
use crate::common::{World, ca, soon};
use crate::login::account_is;
use crate::oauth::trusting;

const OUTSIDE: &str = "+442071838750";
const INSIDE: &str = "+14085550002";

struct Trunk {
    idp: Provider,
    provider: World,
    enterprise: World,
    settings: trunk::Settings,
    _folders: [tempfile::TempDir; 2],
}

impl Trunk {
    async fn start(life: &str) -> Self {
        let idp = Provider::start(&[("NUMBERS", "+1408555*"), ("ACCESS_TTL", life)]);
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let settings = |folder: &tempfile::TempDir| trunk::Settings {
            folder: folder.path().to_owned(),
            roots: Some([ca().cert_pem(), idp.ca.as_str()].concat().into_bytes()),
            allow: vec!["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
        };
        // One authority for caller identities, run by the provider.
        let authority = DevCa::generate(ript::clock::now()).unwrap();
        let trust = || PassportTrust {
            anchors: Anchors::from_pem(authority.cert_pem()).unwrap(),
            ..PassportTrust::default()
        };
        let day = Duration::from_secs(24 * 3600);
        let enroller = Enroller::new(authority.cert_pem(), &authority.key_pem(), day).unwrap();
        let provider = World::with(|to| {
            trusting(&idp)(to);
            to.gateway = Some(Trunks::start(settings(&folders[0])));
            to.enroller = Some(Arc::new(enroller));
            to.passports = trust();
        })
        .await;
        let settings = settings(&folders[1]);
        let enterprise = World::with(|to| {
            to.gateway = Some(Trunks::start(settings.clone()));
            to.passports = trust();
        })
        .await;
        Self { idp, provider, enterprise, settings, _folders: folders }
    }

    fn domain(&self) -> String {
        format!("localhost:{}", self.provider.address.port())
    }

    fn own(&self) -> Own {
        let port = self.enterprise.address.port();
        Own { uri: format!("https://localhost:{port}{ROOT}/providertgs/test"), tg: "test".into() }
    }

    async fn login(&self) -> Login {
        let flow = Flow::discover(&self.domain(), self.settings.roots.as_deref()).await.unwrap();
        let confirm = |prompt: &DevicePrompt| {
            let url = format!(
                "{}/test/device?user_code={}&{}",
                self.idp.issuer,
                prompt.code,
                account_is("enterprise")
            );
            let decided = self.idp.fetcher.get(&url);
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(decided)).unwrap();
        };
        soon("the login", flow.device(confirm)).await.unwrap()
    }

    async fn join(&self) {
        let login = self.login().await;
        let joined = soon("joining", trunk::join(&self.settings, &login, None, &self.own())).await.unwrap();
        assert_eq!(
            (joined.domain.as_str(), joined.numbers.as_slice()),
            (&*self.domain(), &["+1408555*".into()][..])
        );
    }
}

/// A device whose key its own server, or that server's provider, certifies.
async fn device(world: &World, name: &str, number: &str) -> Handler {
    let token = token(&world.issuer, name, &[number], &["test"], ALL_SCOPES);
    let builder = Client::builder(world.url()).token(token).roots(ca().cert_pem().as_bytes().to_vec());
    let client = builder.connect().await.unwrap();
    let tg = client.tgs().await.unwrap().remove(0);
    client.register(&tg.uri, HandlerSpec::codecs(&[AudioCodec::Opus])).await.unwrap()
}

async fn talk(from: &Handler, to: &Handler) -> (Call, Call) {
    let number = to.number().unwrap().to_string();
    let mut listener = to.listen();
    let placed = soon("the placing", from.place(&number, None)).await.unwrap();
    let incoming = soon("the call", listener.next()).await.unwrap();
    assert_eq!(incoming.call().from(), &from.number().unwrap());
    assert_eq!(incoming.call().verification().unwrap()["status"], "verified");
    let answered = soon("the answer", incoming.answer()).await.unwrap();
    soon("answered", placed.answered()).await.unwrap();
    let a = AudioCall::start(&placed, says(CALLER)).unwrap();
    let b = AudioCall::start(&answered, says(CALLEE)).unwrap();
    flows(&placed, &answered, 100).await;
    a.finish().await.unwrap();
    b.finish().await.unwrap();
    (placed, answered)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_login_lets_calls_flow_both_ways_and_leaving_ends_none() {
    let trunk = Trunk::start("300").await;
    let outside = device(&trunk.provider, "outside", OUTSIDE).await;
    let inside = device(&trunk.enterprise, "inside", INSIDE).await;
    let refused = soon("the refusal", outside.place(INSIDE, None)).await.unwrap_err();
    assert_eq!(refused.code(), "unreachable");

    trunk.join().await;
    let out = talk(&inside, &outside).await;
    let back = talk(&outside, &inside).await;

    // A number of the enterprise's that nobody answers does not go round in circles.
    for from in [&outside, &inside] {
        let refused = soon("the refusal", from.place("+14085559999", None)).await.unwrap_err();
        assert_eq!(refused.code(), "unreachable");
    }

    soon("leaving", trunk::leave(&trunk.settings, &trunk.domain())).await.unwrap();
    assert_eq!(Joins::read(&trunk.settings.folder).all().count(), 0);
    let refused = soon("the refusal", outside.place(INSIDE, None)).await.unwrap_err();
    assert_eq!(refused.code(), "unreachable");
    for (placed, answered) in [&out, &back] {
        soon("hold", placed.hold()).await.unwrap();
        soon("resume", placed.resume()).await.unwrap();
        assert_eq!((placed.state(), answered.state()), (State::Answered, State::Answered));
        soon("the end", answered.end()).await.unwrap();
        soon("ended", placed.ended()).await;
    }
    let again = trunk::leave(&trunk.settings, &trunk.domain()).await.unwrap_err();
    assert!(matches!(again, JoinError::Unknown(_)), "{again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trunks_login_is_renewed_while_calls_go_on() {
    let trunk = Trunk::start("5").await;
    let outside = device(&trunk.provider, "outside", OUTSIDE).await;
    let inside = device(&trunk.enterprise, "inside", INSIDE).await;
    trunk.join().await;
    let first = talk(&inside, &outside).await;
    let seen = trunk.idp.seen("/token").await;
    tokio::time::timeout(Duration::from_secs(60), async {
        while trunk.idp.seen("/token").await < seen + 2 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("two renewals");
    assert_eq!(first.0.state(), State::Answered);
    talk(&inside, &outside).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_can_not_be_called_back_is_told_so_and_nothing_is_registered() {
    let trunk = Trunk::start("300").await;
    let login = trunk.login().await;
    let own = Own { uri: trunk.own().uri.replace("/test", "/nothing"), tg: "test".into() };
    let joining = trunk::join(&trunk.settings, &login, None, &own);
    let refused = tokio::time::timeout(Duration::from_secs(40), joining).await.unwrap().unwrap_err();
    assert!(matches!(refused, JoinError::OwnServer { .. }), "{refused}");
    assert!(refused.to_string().contains("--uri"), "{refused}");
    let inside = device(&trunk.enterprise, "inside", INSIDE).await;
    let refused = soon("the refusal", inside.place(OUTSIDE, None)).await.unwrap_err();
    assert_eq!(refused.code(), "unreachable");
}
