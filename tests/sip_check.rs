//! `ript sip check`: each step is told, and a failure with what it may come from.

use std::process::Stdio;

use ript::adapter::sip::{Listen, Stack, TlsFiles, answer};
use ript::service::rate::Rate;
use rsipstack::sip::Transport;
use tokio::process::Command;

use crate::common::soon;
use crate::sip_trunk::free;

fn trunk(name: &str, server: &str) -> String {
    format!(
        "[[sip.trunk]]\nname = \"{name}\"\nserver = \"{server}\"\nnumbers = \"+1*\"\ndestinations = \"+44*\"\n\
         listen = \"127.0.0.1:{}\"\n",
        free()
    )
}

async fn check(toml: &str, only: Option<&str>) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ript.toml");
    let data = folder.path().display().to_string().replace('\\', "/");
    std::fs::write(&file, format!("data = \"{data}\"\n{toml}")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ript"));
    command.args(["sip", "check"]).args(only).args(["--dev", "--config"]).arg(&file);
    let output = soon("the check", command.stderr(Stdio::inherit()).output()).await.unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_there_is_told_from_one_that_is_not_and_from_a_name_that_is_none() {
    let listen = Listen {
        address: "127.0.0.1:0".parse().unwrap(),
        public: None,
        tls: None,
        files: TlsFiles::default(),
        peers: vec!["127.0.0.1".parse().unwrap()],
        rate: Rate::per_second(100),
    };
    let (stack, mut calls) = Stack::bind(&listen).await.unwrap();
    let answering = tokio::spawn(async move {
        while let Some(call) = calls.recv().await {
            call.responder.respond(answer(&call.request, 200, vec![]));
        }
    });
    let there = trunk("there", &format!("sip:{}", stack.address(Transport::Udp)));
    let away = trunk("away", &format!("sip:127.0.0.1:{};transport=tcp", free()));
    let nameless = trunk("nameless", "sip:nobody.invalid:5060");
    let toml = format!("{there}{away}{nameless}");
    let (well, said) = check(&toml, Some("there")).await;
    assert!(well && said.contains("there: send OPTIONS") && said.contains("ok: 200: it is there"), "{said}");
    assert!(said.ends_with("all went well\n") && !said.contains("away"), "{said}");
    let (well, said) = check(&toml, None).await;
    assert!(!well && said.ends_with("not all went well\n"), "{said}");
    for line in ["away: send OPTIONS", "FAILED: 503: no connection", "nameless: find", "this machine's DNS"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let (well, said) = check("", None).await;
    assert!(!well && said.contains("[[sip.trunk]]"), "{said}");
    answering.abort();
}
