//! Logins on disk, which several programs share: clients, `ript login` and `ript logout`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ript::client::Client;
use ript::client::login::{LoginError, LoginStore, TokenSource};

use crate::common::soon;
use crate::login::{ALICE, BOB, Domain, account_is, browse};

async fn ended(client: &Client) -> Arc<LoginError> {
    let ended = async {
        loop {
            if let Some(ended) = client.login_ended() {
                return ended;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("the login's end", ended).await
}

/// Modes of all files within.
fn modes(folder: &Path) -> Vec<u32> {
    // What is renamed meanwhile has none.
    let mode = |path: &Path| Some(std::fs::metadata(path).ok()?.permissions().mode() & 0o777);
    std::fs::read_dir(folder).unwrap().filter_map(|file| mode(&file.unwrap().path())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_share_a_kept_login_until_it_is_removed() {
    let domain = Domain::start("5").await;
    let folder = tempfile::tempdir().unwrap();
    let store = LoginStore::new(folder.path().join("logins"));
    match TokenSource::stored(&store, &domain.name()) {
        Err(LoginError::None { domain: named }) => assert_eq!(named, domain.name()),
        other => panic!("{other:?}"),
    }
    let began = std::time::Instant::now();
    let first = domain.login(ALICE).await;
    store.save(&first).await.unwrap();
    let source = || TokenSource::stored(&store, &domain.world.url()).unwrap();
    let (one, two) = (domain.client(source()).await, domain.client(source()).await);
    // Were a refresh token used twice, the provider would end them all.
    domain.renewals(2).await;
    assert!(began.elapsed() > Duration::from_secs(6), "both renewed: {:?}", began.elapsed());
    assert_eq!((one.tgs().await.unwrap().len(), two.tgs().await.unwrap().len()), (2, 2));
    assert!(one.login_ended().is_none() && two.login_ended().is_none());
    let kept = store.load(&domain.name()).unwrap().unwrap();
    assert!(kept.access_token != first.access_token && kept.refresh_token != first.refresh_token);
    // The login and its lock; a third file is on its way to become the login.
    let settled = async {
        loop {
            let all = modes(&folder.path().join("logins"));
            assert!(all.len() >= 2 && all.iter().all(|mode| *mode == 0o600), "{all:?}");
            if all.len() == 2 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("two files", settled).await;

    assert!(store.remove(&domain.name()).unwrap() && !store.remove(&domain.name()).unwrap());
    for client in [one, two] {
        assert!(matches!(*ended(&client).await, LoginError::None { .. }));
    }
    assert_eq!(store.load(&domain.name()).unwrap(), None, "a renewal doesn't bring it back");
}

/// A client of alice's kept login, whose renewal is under way and gets no answer.
async fn renewing(domain: &Domain, store: &LoginStore) -> Client {
    let login = domain.login(ALICE).await;
    store.save(&login).await.unwrap();
    let client = domain.client(TokenSource::stored(store, &domain.name()).unwrap()).await;
    domain.provider.freeze(true);
    let due = login.due().unwrap().since(ript::clock::now());
    tokio::time::sleep(due + Duration::from_millis(500)).await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_is_under_way_does_not_undo_a_logout() {
    let domain = Domain::start("5").await;
    let folder = tempfile::tempdir().unwrap();
    let store = LoginStore::new(folder.path());
    let client = renewing(&domain, &store).await;
    assert!(store.remove(&domain.name()).unwrap());
    domain.provider.freeze(false);
    assert!(matches!(*ended(&client).await, LoginError::None { .. }));
    assert_eq!(store.load(&domain.name()).unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_is_under_way_gives_way_to_another_login() {
    let domain = Domain::start("5").await;
    let folder = tempfile::tempdir().unwrap();
    let store = LoginStore::new(folder.path());
    let other = domain.login(BOB).await;
    let client = renewing(&domain, &store).await;
    store.save(&other).await.unwrap();
    domain.provider.freeze(false);
    let bobs = async {
        loop {
            let tg = client.tgs().await.unwrap().remove(0);
            if client.tg(&tg.uri).await.unwrap().numbers == [BOB] {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("bob's token", bobs).await;
    assert!(client.login_ended().is_none());
}

/// `ript` with its logins in a folder, trusting one file.
fn ript(folder: &Path, words: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_ript"))
        .args(words)
        .env("RIPT_TOKENS", folder.join("logins"))
        .env("RIPT_CA", folder.join("ca.pem"))
        .env("BROWSER", "true")
        .env_remove("RIPT_TOKEN")
        .env_remove("RIPT_DEV")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What it says until it ends well.
fn said(child: Child) -> String {
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_logs_in_lists_tgs_and_logs_out() {
    let domain = Domain::start("300").await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), &domain.roots).unwrap();
    let name = domain.name();
    for by in [&["login", &name, "--device"][..], &["login", &name]] {
        let mut child = ript(folder.path(), by);
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        match line.trim_end().split_once(" and type the code ") {
            Some((_, code)) => domain.decide_at_once(code, &account_is(ALICE)),
            None => {
                let url = line.trim_end().strip_prefix("open ").unwrap().parse().unwrap();
                let (status, page) = soon("the browser", browse(url, ALICE, &domain.provider)).await;
                assert_eq!(status, 200, "{page}");
            }
        }
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        assert!(rest.contains(&format!("logged in at {name}")), "{rest}");
        assert!(child.wait().unwrap().success());
        let tgs = said(ript(folder.path(), &["tgs", "--server", &domain.world.url()]));
        assert!(tgs.contains("test") && tgs.contains("other"), "{tgs}");
        assert!(said(ript(folder.path(), &["logout", &name])).starts_with("logged out at"));
        let refused =
            ript(folder.path(), &["tgs", "--server", &domain.world.url()]).wait_with_output().unwrap();
        assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("ript login"));
    }
}
