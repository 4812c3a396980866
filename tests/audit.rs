//! The audit log of a server: a line for each login, enrolment, trunk change and refused call; numbers only if asked for.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ript::identity::canonical::Identity;
use ript::identity::enrol::request;
use ript::identity::jwk::SigningKey;
use serde_json::{Value, json};

use crate::common::soon;
use crate::common::user::{BOTH, User};

const ALICE: &str = "+14085550001";

struct Server {
    process: Child,
    data: tempfile::TempDir,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    async fn start(options: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = std::fs::File::create(data.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ript"));
        command.args(["--log-json", "serve", "--dev", "--listen", &format!("127.0.0.1:{port}"), "--data"]);
        command.arg(data.path()).args(options).stdout(Stdio::null()).stderr(log);
        let server = Self { process: command.spawn().unwrap(), data, port };
        soon("the server", async {
            while !server.log().contains("listening") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        server
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        Path::new(self.data.path()).join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    async fn alice(&self) -> User {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ript"));
        command.args(["token", "--user", "alice", "--number", ALICE, "--data"]).arg(self.data.path());
        let token = String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned();
        let passports = std::fs::read_to_string(self.path("passport-key.pem")).unwrap();
        let address = ([127, 0, 0, 1], self.port).into();
        User::at(&self.path("ca.pem"), address, passports, token, ALICE).await
    }

    /// Waits for so many lines, and gives them.
    async fn lines(&self, count: usize) -> Vec<Value> {
        let read = || -> Vec<Value> {
            let log = self.log();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.filter(|line| line["target"] == "ript::audit").collect()
        };
        soon("the audit log", async {
            while read().len() < count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        read()
    }
}

/// One of each.
async fn happenings(alice: &User) {
    let device = json!({"handler-id": "a1", "advertisement": BOTH});
    let handler = alice.post("providertgs/dev/handlers", &device).await;
    let handler = handler.header("location").to_owned();
    let to = "+14085550007";
    let call = json!({"handler": handler, "destination": to, "passport": alice.passport(to)});
    assert_eq!(alice.post("providertgs/dev/calls", &call).await.status, 404);
    let csr = |number: &str| {
        request(&SigningKey::generate().unwrap(), &Identity::from_number(number).unwrap()).unwrap()
    };
    for (number, status) in [(ALICE, 200), ("+14085550009", 403)] {
        let body = csr(number);
        let asked = alice.builder("POST", "providertgs/dev/certs").header("content-length", body.len());
        let answer =
            alice.send(asked.header("content-type", "application/pkcs10").body(body.into()).unwrap());
        assert_eq!(answer.await.status, status);
    }
    let trunk = json!({"target-uri": "http://e.example/x", "token": "secret-of-the-trunk",
        "outbound": {"destinations": ALICE}});
    assert_eq!(alice.post("consumertgs", &trunk).await.status, 422);
    assert_eq!(alice.with_token("not.a.token".into()).get("providertgs").await.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_login_enrolment_trunk_and_refused_call_has_its_line_without_numbers_or_tokens() {
    let server = Server::start(&[]).await;
    let alice = server.alice().await;
    happenings(&alice).await;
    let lines = server.lines(6).await;
    let actions: Vec<&str> = lines.iter().map(|line| line["action"].as_str().unwrap()).collect();
    let wanted = ["login", "call-refused", "enrolled", "enrolment-refused", "trunk-refused", "token-refused"];
    assert_eq!(actions, wanted);
    let codes: Vec<&Value> = lines.iter().map(|line| &line["code"]).collect();
    let null = &Value::Null;
    let named =
        ["unreachable", "number-not-allowed", "bad-target-uri", "unauthorized"].map(|code| json!(code));
    assert_eq!(codes, [null, &named[0], null, &named[1], &named[2], &named[3]]);
    // The user is the same one in every line.
    assert!(lines[..5].iter().all(|line| line["user"] == lines[0]["user"]));
    for line in &lines {
        let line = line.to_string();
        assert!(!line.contains("1408555") && !line.contains("alice"), "{line}");
    }
    let log = server.log();
    for secret in ["secret-of-the-trunk", alice.token.as_str(), "not.a.token", "eyJ"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_are_in_the_audit_log_if_they_are_asked_for() {
    let server = Server::start(&["--set", "audit.numbers=true"]).await;
    happenings(&server.alice().await).await;
    let lines = server.lines(6).await;
    assert_eq!((&lines[1]["to"], &lines[2]["number"]), (&json!("+14085550007"), &json!(ALICE)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_guesses_tokens_does_not_fill_the_log() {
    let server = Server::start(&[]).await;
    let guesser = server.alice().await.with_token("not.a.token".into());
    for _ in 0..300 {
        assert_eq!(guesser.get("providertgs").await.status, 401);
    }
    assert!(server.lines(1).await.len() < 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refused_call_has_one_line_whatever_it_was_refused_for() {
    let server = Server::start(&["--set", "limits.calls-per-second=1"]).await;
    let alice = server.alice().await;
    let to = "+14085550007";
    let mut codes = Vec::new();
    let place = async |destination: &str, passport: String| {
        let call = json!({"destination": destination, "passport": passport});
        alice.post("providertgs/dev/calls", &call).await.problem().1
    };
    let others = alice.passport_as("+14085550009", to);
    for (destination, passport, code) in [
        ("nonsense", alice.passport(to), "bad-number"),
        (to, "eyJ.eyJ.x".to_owned(), "passport-form"),
        (to, alice.passport("+14085550008"), "passport-dest"),
        (to, others, "number-not-allowed"),
    ] {
        assert_eq!(place(destination, passport).await, code);
        codes.push(code.to_owned());
    }
    // Until the pace is too fast, however slow this machine is.
    while codes.last().is_none_or(|code| code != "too-many") {
        codes.push(place(to, alice.passport(to)).await);
        assert!(codes.len() < 1000);
    }
    let lines = server.lines(codes.len() + 1).await;
    let told: Vec<&Value> =
        lines.iter().filter(|l| l["action"] == "call-refused").map(|l| &l["code"]).collect();
    assert_eq!(told, codes.iter().collect::<Vec<_>>());
    assert!(lines.iter().all(|line| !line.to_string().contains("1408555")));
    assert!(!server.log().contains("eyJ"));
}
