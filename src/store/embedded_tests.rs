//! What the embedded store promises.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use super::*;

fn pair(n: usize) -> Vec<Write> {
    let value = vec![u8::try_from(n % 251).unwrap(); 300];
    vec![
        Write::put(Table::Calls, format!("call-{n:06}"), value.clone()),
        Write::put(Table::Handlers, format!("call-{n:06}"), value),
    ]
}

fn keys(records: &[(String, Vec<u8>)]) -> Vec<&str> {
    records.iter().map(|(key, _)| key.as_str()).collect()
}

#[tokio::test]
async fn records_survive_a_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/directory/store.redb");
    let store = EmbeddedStore::open(&path).unwrap();
    assert_eq!(store.load(Table::Calls).await.unwrap(), []);
    store.write(pair(2)).await.unwrap();
    store.write(pair(1)).await.unwrap();
    store.write(vec![Write::delete(Table::Handlers, "call-000001")]).await.unwrap();
    drop(store);
    let store = EmbeddedStore::open(&path).unwrap();
    assert_eq!(keys(&store.load(Table::Calls).await.unwrap()), ["call-000001", "call-000002"]);
    assert_eq!(keys(&store.load(Table::Handlers).await.unwrap()), ["call-000002"]);
    assert_eq!(store.load(Table::Meta).await.unwrap(), []);
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[tokio::test]
async fn a_drop_writes_what_is_queued_even_if_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = EmbeddedStore::open(&path).unwrap();
    for n in 0..200 {
        drop(store.write(pair(n)));
    }
    drop(store);
    assert_eq!(EmbeddedStore::open(&path).unwrap().load(Table::Calls).await.unwrap().len(), 200);
}

#[tokio::test]
async fn writes_are_done_in_order_and_the_last_of_a_key_counts() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path().join("store.redb")).unwrap();
    let put = |value: &str| Write::put(Table::Meta, "k", value);
    let (one, two) = (store.write(vec![put("1"), put("2")]), store.write(vec![put("3"), put("4")]));
    // Asked for before the writes are done, and still after them in the queue.
    let load = store.load(Table::Meta);
    let later = store.write(vec![Write::delete(Table::Meta, "k")]);
    assert_eq!(load.await.unwrap(), [("k".to_owned(), b"4".to_vec())]);
    one.await.unwrap();
    two.await.unwrap();
    later.await.unwrap();
    assert_eq!(store.load(Table::Meta).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_share_commits_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(EmbeddedStore::open(dir.path().join("store.redb")).unwrap());
    let tasks: Vec<_> = (0..20)
        .map(|task| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in 0..10 {
                    store.write(pair(task * 10 + n)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.load(Table::Calls).await.unwrap().len(), 200);
    assert_eq!(store.load(Table::Handlers).await.unwrap().len(), 200);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_takes_again_later() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open_with_queue(dir.path().join("store.redb"), 4).unwrap();
    let (release, stalled) = sync_channel(0);
    store.queue.as_ref().unwrap().send(Request::Stall(stalled)).unwrap();
    let asked: Vec<_> = (0..20).map(|n| store.write(pair(n))).collect();
    drop::<std::sync::mpsc::SyncSender<()>>(release);
    let mut taken = 0;
    for answer in asked {
        match answer.await {
            Ok(()) => taken += 1,
            Err(error) => assert_eq!(error, StoreError::Overloaded),
        }
    }
    // The stalled writer has taken at most one more out of the queue.
    assert!((3..=5).contains(&taken), "{taken}");
    assert_eq!(store.load(Table::Calls).await.unwrap().len(), taken);
    store.write(pair(99)).await.unwrap();
}

#[tokio::test]
async fn after_a_failure_the_file_is_opened_anew_but_never_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = EmbeddedStore::open(&path).unwrap();
    let fail = || {
        let (_, until) = sync_channel(0);
        store.queue.as_ref().unwrap().send(Request::Stall(until)).unwrap();
    };
    store.write(pair(1)).await.unwrap();
    fail();
    store.write(pair(2)).await.unwrap();
    assert_eq!(store.load(Table::Calls).await.unwrap().len(), 2);
    fail();
    std::fs::rename(&path, dir.path().join("away")).unwrap();
    assert!(matches!(store.write(pair(3)).await, Err(StoreError::Unavailable(_))));
    assert!(!path.exists());
    std::fs::rename(dir.path().join("away"), &path).unwrap();
    assert_eq!(store.load(Table::Calls).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_batch_beyond_the_limits_is_refused_and_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path().join("store.redb")).unwrap();
    let huge = vec![Write::put(Table::Calls, "a", "x"), Write::put(Table::Calls, "", "x")];
    assert_eq!(store.write(huge).await, Err(StoreError::TooLarge));
    assert_eq!(store.load(Table::Calls).await.unwrap(), []);
}

#[test]
fn a_file_in_use_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let _store = EmbeddedStore::open(&path).unwrap();
    let error = EmbeddedStore::open(&path).unwrap_err();
    assert_eq!(error, StoreError::Locked(path));
    assert!(error.to_string().contains("another process"));
}

#[test]
fn a_file_of_a_newer_program_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    drop(EmbeddedStore::open(&path).unwrap());
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(FORMAT_TABLE).unwrap().insert("format", 7).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = EmbeddedStore::open(&path).unwrap_err();
    assert_eq!(error, StoreError::NewerFormat { path, found: 7, known: FORMAT });
}

#[test]
fn a_file_that_is_no_store_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    for contents in [b"SQLite format 3\0".repeat(400), b"x".to_vec(), vec![0; 8192]] {
        std::fs::write(&path, &contents).unwrap();
        let error = EmbeddedStore::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        assert_eq!(std::fs::read(&path).unwrap(), contents);
    }
    let error = EmbeddedStore::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
}

#[test]
fn a_damaged_file_never_takes_the_process_down() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = EmbeddedStore::open(&path).unwrap();
    (0..50).for_each(|n| drop(store.write(pair(n))));
    drop(store);
    let good = std::fs::read(&path).unwrap();
    // A fixed linear congruence: the same damage in every run.
    let mut state: usize = 12345;
    for _ in 0..60 {
        let mut bad = good.clone();
        for _ in 0..40 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 20) % bad.len().min(64 * 1024);
            bad[at] ^= 0x5a;
        }
        if state & 0x100 != 0 {
            bad.truncate((state >> 16) % good.len());
        }
        std::fs::write(&path, &bad).unwrap();
        if let Ok(store) = EmbeddedStore::open(&path) {
            let _ = runtime.block_on(store.load(Table::Calls));
            let _ = runtime.block_on(store.write(pair(1)));
        }
    }
}

const CHILD: &str = "RIPT_TEST_STORE_CHILD";

/// The other half of the test below: writes until it is killed, and says what was acknowledged.
#[test]
fn child_that_writes_until_killed() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = EmbeddedStore::open(path).unwrap();
    runtime.block_on(async {
        for n in (0..).step_by(3) {
            let group = [store.write(pair(n)), store.write(pair(n + 1)), store.write(pair(n + 2))];
            for (offset, answer) in group.into_iter().enumerate() {
                answer.await.unwrap();
                // Past the test harness's capture, at once.
                writeln!(std::io::stdout().lock(), "acked {}", n + offset).unwrap();
            }
        }
    });
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    for acknowledged in [1, 40, 133] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["store::embedded::tests::child_that_writes_until_killed", "--exact", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut newest = 0;
        let mut count = 0;
        while count < acknowledged {
            let line = said.next().expect("the child writes on").unwrap();
            if let Some((_, n)) = line.rsplit_once("acked ") {
                newest = n.parse().unwrap();
                count += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts too.
        for line in said.map_while(Result::ok) {
            if let Some(n) = line.strip_prefix("acked ").and_then(|n| n.parse().ok()) {
                newest = n;
            }
        }
        let store = EmbeddedStore::open(&path).unwrap();
        let calls = store.load(Table::Calls).await.unwrap();
        for n in 0..=newest {
            let Write::Put { key, value, .. } = pair(n).remove(0) else { unreachable!() };
            assert!(calls.contains(&(key, value)), "{n} of {newest} is lost");
        }
        // Both halves of every batch, or none.
        assert_eq!(calls, store.load(Table::Handlers).await.unwrap());
    }
}
