//! A real identity provider: npm `oidc-provider`, over https.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use ript::identity::devca::DevCa;
use ript::service::fetch::{Fetcher, Settings};
use ript::service::settings::Credentials;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;

/// One at a time installs packages.
static INSTALLING: Mutex<()> = Mutex::new(());

pub struct Provider {
    pub issuer: String,
    pub fetch: Settings,
    pub fetcher: Fetcher,
    /// The CA that its certificate comes from.
    pub ca: String,
    folder: tempfile::TempDir,
    child: Child,
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Provider {
    pub fn start(variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = DevCa::generate(ript::clock::now()).expect("a CA");
        let server = ca.issue_server(&[], ript::clock::now()).expect("a certificate");
        std::fs::write(folder.path().join("cert.pem"), &server.cert_pem).expect("a file");
        std::fs::write(folder.path().join("key.pem"), &server.key_pem).expect("a file");
        let root = CertificateDer::from_pem_slice(ca.cert_pem().as_bytes()).expect("a certificate");
        let fetch = Settings { allow: vec!["127.0.0.0/8".parse().expect("a network")], roots: vec![root] };
        let (child, issuer) = launch(folder.path(), "0", variables);
        let fetcher = Fetcher::new(&fetch).expect("a client");
        Self { issuer, fetch, fetcher, ca: ca.cert_pem().to_owned(), folder, child }
    }

    /// The same issuer with new keys.
    pub fn rotate(&mut self) {
        self.child.kill().expect("a running provider");
        self.child.wait().expect("an end");
        let port = self.issuer.rsplit(':').next().expect("a port").to_owned();
        let (child, issuer) = launch(self.folder.path(), &port, &[]);
        assert_eq!(issuer, self.issuer);
        self.child = child;
    }

    /// Stops and resumes it: meanwhile it is there, and says nothing.
    pub fn freeze(&self, frozen: bool) {
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(done.expect("kill").success());
    }

    /// A token by client credentials; `urn:ript:opaque` gives opaque ones.
    pub async fn token(&self, resource: &str) -> String {
        let machine = Credentials { id: "machine".into(), secret: "machine-secret-for-tests".into() };
        let form = [
            ("grant_type", "client_credentials"),
            ("resource", resource),
            ("scope", "ript:calls ript:handlers"),
        ];
        let answer = self.fetcher.post_form(&format!("{}/token", self.issuer), &form, &machine).await;
        let answer: Value = serde_json::from_slice(&answer.expect("a token").body).expect("JSON");
        answer["access_token"].as_str().expect("a token").to_owned()
    }

    /// How often a path was asked for since the start.
    pub async fn seen(&self, path: &str) -> u64 {
        let seen = self.fetcher.get(&format!("{}/test/seen", self.issuer)).await.expect("counts");
        let seen: Value = serde_json::from_slice(&seen.body).expect("JSON");
        seen[path].as_u64().unwrap_or(0)
    }
}

fn launch(folder: &Path, port: &str, variables: &[(&str, &str)]) -> (Child, String) {
    let _one = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/idp/run.sh");
    let mut child = Command::new(&script)
        .env("MODULES", PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("idp"))
        .env("PORT", port)
        .env("CERT", folder.join("cert.pem"))
        .env("KEY", folder.join("key.pem"))
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{} can't be started: {error}", script.display()));
    let mut line = String::new();
    let read = BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line);
    let ready: Value = match (read, serde_json::from_str(&line)) {
        (Ok(_), Ok(ready)) => ready,
        _ => panic!("the identity provider did not start (node 20 and npm are needed): {line:?}"),
    };
    (child, ready["issuer"].as_str().expect("an issuer").to_owned())
}
